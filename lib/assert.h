/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assertions are for our own bugs and stay in every build: the alternative to stopping is
 * a wrong byte. They end the process through os_die(), which needs nothing of libc.
 */
#ifndef UHMM_ASSERT_H
#define UHMM_ASSERT_H

#include "lib/os/os.h"

#define ASSERT_STR2(x) #x
#define ASSERT_STR(x) ASSERT_STR2(x)
#define assert_always(expr)                                                              \
	do {                                                                             \
		if (__builtin_expect(!(expr), 0))                                        \
			os_die("internal error: " __FILE__ ":" ASSERT_STR(__LINE__) ": " #expr); \
	} while (0)

#endif

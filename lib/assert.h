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
			os_die("internal error: " __FILE__                               \
			       ":" ASSERT_STR(__LINE__) ": " #expr);                     \
	} while (0)

/* A system call did what it cannot do: its result is worth knowing. */
void die_of_result(const char *where, int64_t result) __attribute__((noreturn));
#define assert_result(expr, result)                                                      \
	do {                                                                             \
		if (__builtin_expect(!(expr), 0))                                        \
			die_of_result("internal error: " __FILE__                        \
				      ":" ASSERT_STR(__LINE__) ": " #expr,               \
				      result);                                           \
	} while (0)

#endif

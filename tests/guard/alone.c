/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard by itself, for LD_PRELOAD: all system calls of a program go through it, from
 * its first to its last, and nothing is migrated.
 */
#include <stdlib.h>

#include "preload/guard.h"

/* For a test that wants to know: calls of this process that went through it. */
__attribute__((visibility("default"))) unsigned long guard_alone_calls(void);
unsigned long guard_alone_calls(void)
{
	return tasks_calls();
}

static void __attribute__((constructor)) start(void)
{
	static const struct guard_hooks none;

	if (guard_start(&none))
		abort();
	guard_go_on();
}

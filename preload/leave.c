/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ends this process, or makes another program of it: our reader ends with it. The
 * child of a raw clone would be left with zeros then, where pages were migrated and the
 * reader has not filled them in yet. So these wait for it. A process that is killed, or
 * that calls the kernel by itself, is not seen.
 */
#include "preload/preload.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

EXPORT void _exit(int status)
{
	preload_leave();
	for (;;)
		syscall(SYS_exit_group, status);
}

EXPORT void _Exit(int status)
{
	_exit(status);
}

/* exit(), and the end of main(). */
static void __attribute__((destructor)) end(void)
{
	preload_leave();
}

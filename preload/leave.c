/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ends this process, or makes another program of it: our reader ends with it. The
 * child of a raw clone would be left with zeros then, where pages were migrated and the
 * reader has not filled them in yet. So these wait for it. A process that is killed, or
 * that calls the kernel by itself, is not seen.
 *
 * And what ends the first thread only, by which the supervisor knows the process.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/os/os.h"

static struct {
	__typeof__(pthread_exit) *pthread_exit;
} real __attribute__((section(".data")));

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

void leave_bind(void)
{
	if (!IS_BOUND(pthread_exit))
		BIND_LAST(pthread_exit);
}

/*
 * The supervisor looks at a process, and rings at its door, by its first thread. When
 * that goes and others stay, there has to be a keeper.
 */
EXPORT void pthread_exit(void *result)
{
	leave_bind();
	if (os_tid() == os_pid())
		preload_keep();
	real.pthread_exit(result);
	__builtin_unreachable();
}

/* exit(), and the end of main(). */
static void __attribute__((destructor)) end(void)
{
	preload_leave();
}

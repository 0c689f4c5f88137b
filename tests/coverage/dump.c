/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The build for coverage only: what a process has counted is written when it ends by
 * _exit(), as nearly each child of a test does. libgcov by itself writes at exit().
 *
 * It is linked into whatever has the library in it, with a strong _exit() of the program
 * (preload/leave.c) before it. Counters are data of the library's own, which is never
 * migrated; libgcov locks each file, so any number of processes may end at once. It
 * allocates: in a child that was not made by fork() of libc somebody may have held the
 * lock of malloc(), so what that one has counted is lost.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

void __gcov_dump(void);
/* What the link asks for, so that this comes out of its archive. */
extern const int coverage_dump;
const int coverage_dump = 1;

/* The process that libc knows to be this one. */
static pid_t known;

static void is_known(void)
{
	known = getpid();
}

static void __attribute__((constructor)) begin(void)
{
	is_known();
	pthread_atfork(NULL, NULL, is_known);
}

__attribute__((weak, visibility("default"))) void _exit(int status)
{
	if (getpid() == known)
		__gcov_dump();
	for (;;)
		syscall(SYS_exit_group, status);
}

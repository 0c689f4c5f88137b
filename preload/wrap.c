/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of libc that we wrap, because after them the supervisor may not be able to
 * make this process start its keeper: those that lead to a seccomp filter or take system
 * calls over, those that make a process be traced (there is one tracer at a time), and
 * those that give privileges up, which the keeper keeps if it is there before.
 * Each does what libc's does. A program that calls the kernel by itself is not seen; if
 * that makes a difference, the user is told.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

EXPORT int prctl(int option, ...)
{
	unsigned long arg[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		arg[i] = va_arg(ap, unsigned long);
	va_end(ap);
	/* Without privileges the one must come before the other. */
	if (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SYSCALL_USER_DISPATCH)
		preload_keep();
	if (option == PR_SET_SECCOMP && !preload_guarded)
		preload_note_filter(false);
	if (option == PR_SET_SYSCALL_USER_DISPATCH && arg[0])
		preload_note_dispatch();
	return (int)syscall(SYS_prctl, option, arg[0], arg[1], arg[2], arg[3]);
}

EXPORT long ptrace(enum __ptrace_request request, ...)
{
	int tid;
	void *addr, *data;
	long word, r;
	bool peek = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA ||
		    request == PTRACE_PEEKUSER;
	va_list ap;

	va_start(ap, request);
	tid = va_arg(ap, int);
	addr = va_arg(ap, void *);
	data = va_arg(ap, void *);
	va_end(ap);
	preload_keep_all();
	r = syscall(SYS_ptrace, request, tid, addr, peek ? &word : data);
	if (r >= 0 && peek) {
		errno = 0;
		return word;
	}
	return r;
}

/* ---- set*uid() -------------------------------------------------------------------- */

/* libc sets those of all threads that it knows of. */
static struct {
	__typeof__(setuid) *setuid;
	__typeof__(setreuid) *setreuid;
	__typeof__(setresuid) *setresuid;
	__typeof__(seteuid) *seteuid;
} real __attribute__((section(".data")));

void wrap_bind(void)
{
	if (IS_BOUND(setuid))
		return;
	BIND(setreuid);
	BIND(setresuid);
	BIND(seteuid);
	BIND_LAST(setuid);
}

static void before_set(void)
{
	wrap_bind();
	preload_keep();
}

EXPORT int setuid(uid_t uid)
{
	before_set();
	return real.setuid(uid);
}

EXPORT int seteuid(uid_t uid)
{
	before_set();
	return real.seteuid(uid);
}

EXPORT int setreuid(uid_t ruid, uid_t euid)
{
	before_set();
	return real.setreuid(ruid, euid);
}

EXPORT int setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	before_set();
	return real.setresuid(ruid, euid, suid);
}

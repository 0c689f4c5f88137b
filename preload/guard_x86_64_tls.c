/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard on x86-64: the thread pointer, which is fs. A handler of ours has another
 * than the program, whose storage may be elsewhere: compilers look there for the canary
 * that protects the stack.
 */
#if defined(__x86_64__)

#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/auxvec.h>
#include <sys/syscall.h>

#include "lib/os/sys.h"
#include "preload/guard_arch.h"

#define HWCAP2_FSGSBASE 2u

static bool fsgsbase __attribute__((section(".data"))); /* is there */

void tls_init(void)
{
	uint64_t pair[2];
	long fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	while (sys3(SYS_read, fd, pair, sizeof(pair)) == sizeof(pair))
		if (pair[0] == AT_HWCAP2)
			fsgsbase = pair[1] & HWCAP2_FSGSBASE;
	sys1(SYS_close, fd);
}

/* The thread pointer points to itself: the ABI. It may lead to what is elsewhere. */
NO_TLS static uintptr_t tls_itself(void)
{
	uintptr_t tls;

	__asm__ volatile("movq %%fs:0, %0" : "=r"(tls));
	return tls;
}

/*
 * Without the instructions for it that is a call, and the program may have a filter by
 * now which kills it for that. But then the guard is idle: the program's storage can be
 * used as it is.
 */
NO_TLS static bool tls_stays(void)
{
	return !fsgsbase && guard_is_idle();
}

NO_TLS uintptr_t tls_current(void)
{
	uintptr_t tls = 0;

	if (fsgsbase)
		__asm__ volatile("rdfsbase %0" : "=r"(tls));
	else if (tls_stays())
		tls = tls_itself();
	else
		sys2(SYS_arch_prctl, ARCH_GET_FS, &tls);
	return tls;
}

NO_TLS static void tls_set(uintptr_t tls)
{
	if (fsgsbase)
		__asm__ volatile("wrfsbase %0" ::"r"(tls) : "memory");
	else
		sys2(SYS_arch_prctl, ARCH_SET_FS, tls);
}

NO_TLS void tls_leave(uintptr_t tls)
{
	/* It may have become idle in between: what is in use can be read in any case. */
	if (!tls_stays() || tls_itself() != tls)
		tls_set(tls);
}

NO_TLS uintptr_t tls_enter(struct guard_task *task)
{
	uintptr_t tls = tls_current();

	task->tls[0] = task->tls[2] = (uintptr_t)task->tls;
	if (!tls_stays())
		tls_set((uintptr_t)task->tls);
	return tls;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which CPU a thread runs on.
 *
 * getcpu() of libc goes straight to the vdso; sched_getcpu() is not for us, because it
 * looks into thread-local memory first, which hidden threads lack and a program's
 * thread may have lost to a device. Where there is no vdso for it, it is a system call.
 */
#define _GNU_SOURCE
#include "lib/os/os.h"

#include <sched.h>

uint32_t os_cpu(void)
{
	unsigned cpu = 0;

	getcpu(&cpu, NULL);
	return cpu;
}

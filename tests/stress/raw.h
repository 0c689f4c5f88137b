/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a child by the bare system call, as fork() does but without libc's knowledge: no
 * library can wrap it. As fork() in all else; errno is not set.
 */
#ifndef STRESS_RAW_H
#define STRESS_RAW_H

#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>

static inline pid_t raw_fork(void)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	long pid;

	__asm__ volatile("syscall"
			 : "=a"(pid)
			 : "a"(SYS_clone), "D"(SIGCHLD), "S"(0), "d"(0), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return (pid_t)pid;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone;
	register long x0 __asm__("x0") = SIGCHLD;
	register long x1 __asm__("x1") = 0;
	register long x2 __asm__("x2") = 0;
	register long x3 __asm__("x3") = 0;
	register long x4 __asm__("x4") = 0;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return (pid_t)x0;
#else
#error "this machine's system call is not known here"
#endif
}

#endif

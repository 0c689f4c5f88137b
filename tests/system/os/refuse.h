/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the kernel refuse system calls, from now on and in this thread and what it
 * starts. For what a test cannot bring about: a kernel without a feature, a limit of
 * somebody else's. The filter is the test's child's and ends with it.
 */
#ifndef TESTS_SYSTEM_REFUSE_H
#define TESTS_SYSTEM_REFUSE_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/test.h"

#define REFUSE_ANY (-1)

/* The call, if its argument number arg (or REFUSE_ANY) is value, fails with error. */
static inline void refuse(long call, int arg, uint32_t value, int error)
{
	size_t at = arg < 0 ? offsetof(struct seccomp_data, nr) :
			      offsetof(struct seccomp_data, args) +
				      (size_t)arg * sizeof(uint64_t);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)at),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arg < 0 ? (uint32_t)call : value, 0,
			 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		SKIP("no filter of system calls: %s", strerror(errno));
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each system call does with the memory that its arguments name.
 *
 * The kernel does not wait for a page that is missing when it copies from or to the
 * program: the call fails with EFAULT. So before a call is made all that it will touch
 * must be present, and stay. Here is which memory that is: a table with a row for each
 * call of Linux 6.18 (guard_table.c, guard_ops.c, guard_ioctl.c), and what walks it.
 *
 * The walker asks for nothing but what struct call_walk has, calls neither the kernel nor
 * libc, keeps nothing and needs less than 1 KiB of stack: it may run in a signal handler,
 * on any thread.
 *
 * The arguments are the program's, and may be anything. What is named lies between 1 and
 * CALL_USER_END and does not wrap, but need not be mapped. Where the kernel would refuse
 * a count, nothing is named that hangs on it. Where it is not known how much is touched,
 * more is named rather than less: too much is a page that comes back early, too little is
 * an EFAULT that the program does not expect. What another thread changes in between,
 * the lengths in a vector, is not seen.
 */
#ifndef UHMM_GUARD_CALL_H
#define UHMM_GUARD_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where addresses that a program can have end. */
#ifdef __x86_64__
#define CALL_USER_END (UINT64_C(1) << 47)
#else
#define CALL_USER_END (UINT64_C(1) << 48)
#endif

/* What is asked of who walks. */
struct call_walk {
	void *ctx;
	/*
	 * A piece of memory that the kernel will touch; write: it may write there.
	 * len > 0. Pieces may overlap and be named twice. false: enough, the walk ends.
	 */
	bool (*memory)(void *ctx, uintptr_t addr, size_t len, bool write);
	/*
	 * Copies from the program's memory, which was named before. false: it cannot be
	 * read; then what hangs on it is not named, as the kernel would not come to it.
	 */
	bool (*read)(void *ctx, void *to, uintptr_t from, size_t len);
	/*
	 * The length of a string with its zero, at most max; it is named afterwards, and
	 * has not been before. 0: it cannot be read.
	 */
	size_t (*string)(void *ctx, uintptr_t addr, size_t max);
};

enum call_class {
	/* What is named is all. */
	CALL_PLAIN,
	/* Not in the table. */
	CALL_UNKNOWN,
	/* About masks, handlers and stacks of signals, or takes one out of a queue. */
	CALL_SIGNALS,
	/* Makes a process or a thread, or another program of this one, or ends it. */
	CALL_PROCESS,
	/* The kernel writes there later on, too, for as long as the thread lives. */
	CALL_THREAD,
	/* Changes what is mapped; the memory that it is about is not touched as data. */
	CALL_MAPPING,
	/* The kernel may use what is named, and more, after the call has returned. */
	CALL_LATER,
};

enum call_class call_class(long nr);
/* As the kernel has it, without "sys_". NULL: not in the table. */
const char *call_name(long nr);
/* It may touch memory that is not named: what structures point to, most of the time. */
bool call_is_partly(long nr);
/*
 * Whether the call, and what it is asked to do where it is one of many (an ioctl, a
 * prctl), is in the table. If not, a page is named from each argument that might be an
 * address: who makes the call should be ready for EFAULT.
 */
bool call_is_known(long nr, const uint64_t arg[6]);
/* false: walk->memory said enough. */
bool call_memory(long nr, const uint64_t arg[6], const struct call_walk *walk);

#endif

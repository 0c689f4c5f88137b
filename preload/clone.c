/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children that are made without fork(): by clone(), by _Fork(), and by the bare system
 * call through libc's syscall().
 *
 * Handlers of fork() do not run for those. Our reader fills such a child's memory in
 * (lib/fork_fill.c), all of it at once, while the child runs; and then nobody migrates
 * that memory any more. So our handlers are run around these functions, and the child
 * takes over its memory as one of fork() does.
 *
 * Not where the handover would not work: who shares our memory needs none, with our table
 * of files the child cannot have descriptors of its own, a parent that waits for the
 * child's exec cannot hand anything over, and in other namespaces we may not be who we
 * were. Those, and the children of who calls the kernel by itself, are filled in.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/sched.h>
#include <stdarg.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "lib/os/sys.h"

#define NO_FORK                                                                          \
	(CLONE_VM | CLONE_FILES | CLONE_VFORK | CLONE_THREAD | CLONE_NEWUSER |           \
	 CLONE_NEWPID | CLONE_NEWNS)

typedef int child_fn(void *arg);

static struct {
	int (*clone)(child_fn *fn, void *stack, int flags, void *arg, ...);
	int (*_Fork)(void);
} real __attribute__((section(".data")));

/* Our handlers run for a child of these flags. */
static bool is_fork(uint64_t flags)
{
	return preload_path() && !preload_guarded && !(flags & NO_FORK);
}

/* What the caller finds in errno is what made the child. */
static void after(long pid)
{
	int saved = errno;

	if (pid == 0)
		preload_after_fork_child();
	else
		preload_after_fork_parent();
	errno = saved;
}

/* As exec_bind() says. */
void clone_bind(void)
{
	if (IS_BOUND(clone))
		return;
	BIND(_Fork);
	BIND_LAST(clone);
}

/* ---- _Fork() ----------------------------------------------------------------------- */

EXPORT int _Fork(void);
EXPORT int _Fork(void)
{
	bool ours = is_fork(0);
	int pid;

	clone_bind();
	if (!real._Fork) { /* before glibc 2.34: then nobody can have been linked to it */
		errno = ENOSYS;
		return -1;
	}
	if (ours)
		preload_before_fork();
	pid = real._Fork();
	if (ours)
		after(pid);
	return pid;
}

/* ---- clone() ---------------------------------------------------------------------- */

struct start {
	child_fn *fn;
	void *arg;
};

/* In the child, which has a copy of our memory: on_stack is as we left it. */
static int start_child(void *on_stack)
{
	struct start start = *(struct start *)on_stack;

	after(0);
	return start.fn(start.arg);
}

EXPORT int clone(child_fn *fn, void *stack, int flags, void *arg, ...);
EXPORT int clone(child_fn *fn, void *stack, int flags, void *arg, ...)
{
	struct start start = { fn, arg };
	void *parent_tid, *tls, *child_tid;
	va_list ap;
	int pid;

	va_start(ap, arg);
	parent_tid = va_arg(ap, void *);
	tls = va_arg(ap, void *);
	child_tid = va_arg(ap, void *);
	va_end(ap);
	clone_bind();
	if (!is_fork((uint32_t)flags) || !fn || !stack)
		return real.clone(fn, stack, flags, arg, parent_tid, tls, child_tid);
	preload_before_fork();
	pid = real.clone(start_child, stack, flags, &start, parent_tid, tls, child_tid);
	after(pid);
	return pid;
}

/* ---- syscall() -------------------------------------------------------------------- */

/* See the assembly below. */
#define CALLED __attribute__((visibility("hidden"), used))

/*
 * libc's has no frame, and neither may this one: a child that shares the parent's stack
 * returns from it first. Only where neither the stack nor anything else is shared is it
 * an ordinary function.
 */
#if defined(__x86_64__)

CALLED bool clone_is_fork(long nr, long a, long b);
CALLED long clone_by_number(long nr, long a, long b, long c, long d, long e, long f);
CALLED long clone_failed(long r);

static uint64_t flags_of(long nr, long a)
{
	switch (nr) {
	case SYS_clone:
		return (uint64_t)a;
	case SYS_clone3:
		return ((const struct clone_args *)a)->flags;
	default:
		return 0;
	}
}

/* Without a fault: the kernel reads the mask, then finds that there is no such `how`. */
static bool is_readable(const void *word)
{
	return sys4(SYS_rt_sigprocmask, -1, word, 0, sizeof(uint64_t)) == -EINVAL;
}

/* Whoever asks the kernel with what is no address is to get its EFAULT. */
static bool has_own_stack(const struct clone_args *args, size_t size)
{
	return size < CLONE_ARGS_SIZE_VER0 || !args || !is_readable(&args->flags) ||
	       !is_readable(&args->stack) || args->stack;
}

/* A child that is to run on another stack returns from there, and not to us. */
bool clone_is_fork(long nr, long a, long b)
{
	if (nr == SYS_seccomp) {
		if (a != SECCOMP_GET_ACTION_AVAIL && a != SECCOMP_GET_NOTIF_SIZES)
			preload_note_filter(b & SECCOMP_FILTER_FLAG_TSYNC);
		return false;
	}
	if (nr == SYS_prctl) {
		if (a == PR_SET_SYSCALL_USER_DISPATCH && b)
			preload_note_dispatch();
		return false;
	}
	if (nr == SYS_clone && b)
		return false;
	if (nr == SYS_clone3 && has_own_stack((const void *)a, (size_t)b))
		return false;
	return is_fork(flags_of(nr, a));
}

long clone_failed(long r)
{
	errno = (int)-r;
	return -1;
}

long clone_by_number(long nr, long a, long b, long c, long d, long e, long f)
{
	long pid;

	preload_before_fork();
	pid = sys6(nr, a, b, c, d, e, f);
	after(pid);
	return pid < 0 ? clone_failed(pid) : pid;
}

__asm__(".text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	.cfi_startproc\n" /* a thread may be cancelled in it, and unwinds */
	"	endbr64\n"
	"	cmpb	$0, preload_guarded(%rip)\n" /* libc's are, ours not */
	"	jne	3f\n"
	"	cmpq	$56, %rdi\n" /* SYS_clone */
	"	je	1f\n"
	"	cmpq	$57, %rdi\n" /* SYS_fork */
	"	je	1f\n"
	"	cmpq	$435, %rdi\n" /* SYS_clone3 */
	"	je	1f\n"
	"	cmpq	$317, %rdi\n" /* SYS_seccomp */
	"	je	1f\n"
	"	cmpq	$157, %rdi\n" /* SYS_prctl */
	"	je	1f\n"
	"0:	movq	%rdi, %rax\n"
	"	movq	%rsi, %rdi\n"
	"	movq	%rdx, %rsi\n"
	"	movq	%rcx, %rdx\n"
	"	movq	%r8, %r10\n"
	"	movq	%r9, %r8\n"
	"	movq	8(%rsp), %r9\n"
	"	syscall\n"
	"	cmpq	$-4095, %rax\n"
	"	jae	2f\n"
	"	ret\n"
	"1:	pushq	%rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq	%rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq	%rdx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq	%rcx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq	%r8\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq	%r9\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	subq	$8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call	clone_is_fork\n"
	"	addq	$8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%r9\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%r8\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rcx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rdx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	testb	%al, %al\n"
	"	je	0b\n"
	"	jmp	clone_by_number\n" /* its arguments lie where ours do */
	"2:	movq	%rax, %rdi\n"
	"	jmp	clone_failed\n"
	"3:	jmp	*preload_libc_syscall(%rip)\n"
	"	.cfi_endproc\n"
	".size syscall, .-syscall\n");

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard on x86-64: the frame of a signal, the passage, and how a child begins.
 *
 * The passage. A call is made with all registers as the program has them, on its stack,
 * below the 128 bytes that the ABI lets it use there. Some words lie below those: the
 * task, where the program goes on, and what a register of an argument had that is another
 * for the call. A system call leaves the address behind it in rcx and the flags in r11,
 * so rcx is free until we jump there, and ends as the kernel would have left it; no flag
 * is changed on the way.
 *
 *	guard_passage:	syscall
 *	guard_made:	if it said EFAULT: guard_post
 *	guard_pop:	pop task; task->busy = 0
 *	guard_popped:	pop site
 *	guard_alone:	lea 16 + 128(%rsp), %rsp; jmp site
 *
 * guard_post is an instruction that a program may not execute: the fault is how the guard
 * hears that a call is over. So it does of each that is made through guard_passage_post.
 *
 * There is one before it for each argument that may be another; it puts back what the
 * program had in that register, then goes on behind the first.
 *
 * What a call costs, and which facts of the kernel this rests on: docs/guard.md.
 */
#if defined(__x86_64__)

#include "preload/guard_arch.h"

#include <errno.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "lib/os/sys.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define RED_ZONE 128u
/* The words, and the red zone. */
#define WORDS 4u
#define BELOW (RED_ZONE + WORDS * 8u)
#define SYSCALL_SIZE 2u

/* ---- what the kernel puts on the stack ------------------------------------------- */

#define XSTATE_MAGIC 0x46505853u
#define FXSAVE_SIZE 512u
#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_AT 24u

struct fpstate {
	uint8_t fxsave[464];
	uint32_t magic;
	uint32_t extended_size; /* of all; 4 bytes of it are another magic number */
	uint64_t features;
	uint32_t xstate_size;
	uint32_t padding[7];
	uint64_t xstate_bv; /* only if magic is right */
};

_Static_assert(offsetof(struct fpstate, xstate_bv) == FXSAVE_SIZE, "the kernel's layout");

struct context {
	uint64_t flags;
	struct context *link;
	stack_t stack;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx,
		rsp, rip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	struct fpstate *fp;
	uint64_t reserved[8];
	uint64_t mask;
};

_Static_assert(sizeof(struct context) == 304, "the kernel's layout");

struct frame {
	uintptr_t restorer;
	struct context c;
	siginfo_t info;
};

#define FLAG_TRAP UINT64_C(0x100)
#define FLAG_DIRECTION UINT64_C(0x400)
#define FLAG_RESUME UINT64_C(0x10000)
/* What a program may set by itself. */
#define FLAGS_USER UINT64_C(0x250dd5)

/* ---- text ------------------------------------------------------------------------ */

extern const char guard_passage_0[] HIDDEN, guard_passage_3[] HIDDEN;
extern const char guard_passage_4[] HIDDEN, guard_passage_5[] HIDDEN;
extern const char guard_passages[] HIDDEN, guard_passage[] HIDDEN, guard_made[] HIDDEN,
	guard_popped[] HIDDEN;
extern const char guard_passage_post[] HIDDEN, guard_post[] HIDDEN, guard_pop[] HIDDEN;
extern const char guard_alone[] HIDDEN, guard_jump[] HIDDEN, guard_end[] HIDDEN;
extern const char guard_peek_at[] HIDDEN, guard_peek_failed[] HIDDEN;
extern const char guard_copy_at[] HIDDEN, guard_copy_failed[] HIDDEN;
extern const char guard_hot_begin[] HIDDEN, guard_hot_call[] HIDDEN;
extern const char guard_hot_again[] HIDDEN;
extern const char guard_return[] HIDDEN, guard_enlisted[] HIDDEN;
HIDDEN long guard_clone(long nr, const uint64_t *arg);

/* A passage for argument nr, which is in that register and is not the program's. */
__asm__(".text\n"
	".macro	guard_passage_with nr, register\n"
	".globl guard_passage_\\nr\n"
	".hidden guard_passage_\\nr\n"
	"guard_passage_\\nr:\n"
	"	syscall\n"
	"	movq	16(%rsp), \\register\n"
	"	jmp	guard_made\n"
	".endm\n"

	/* Those of a call, from an array at r11. */
	".macro	guard_arguments\n"
	"	movq	0(%r11), %rdi\n"
	"	movq	8(%r11), %rsi\n"
	"	movq	16(%r11), %rdx\n"
	"	movq	24(%r11), %r10\n"
	"	movq	32(%r11), %r8\n"
	"	movq	40(%r11), %r9\n"
	".endm\n"

	".globl guard_passages, guard_passage, guard_made, guard_popped, guard_alone\n"
	".globl guard_jump, guard_end, guard_passage_post, guard_post, guard_pop\n"
	".hidden guard_passages, guard_passage, guard_made, guard_popped, guard_alone\n"
	".hidden guard_jump, guard_end, guard_passage_post, guard_post, guard_pop\n"
	"guard_passages:\n"
	"	guard_passage_with 0, %rdi\n"
	"	guard_passage_with 3, %r10\n"
	"	guard_passage_with 4, %r8\n"
	"	guard_passage_with 5, %r9\n"
	"guard_passage:\n"
	"	syscall\n"
	"guard_made:\n"
	"	leaq	14(%rax), %rcx\n" /* EFAULT */
	"	jrcxz	guard_post\n"
	"guard_pop:\n"
	"	popq	%rcx\n"
	"	movl	$0, (%rcx)\n"
	"guard_popped:\n"
	"	popq	%rcx\n"
	"guard_alone:\n"
	"	leaq	144(%rsp), %rsp\n"
	"guard_jump:\n"
	"	jmp	*%rcx\n"
	"guard_passage_post:\n"
	"	syscall\n"
	"guard_post:\n"
	"	hlt\n"
	"guard_end:\n"

	".globl guard_hot, guard_hot_begin, guard_hot_call, guard_hot_again\n"
	".hidden guard_hot, guard_hot_begin, guard_hot_call, guard_hot_again\n"
	".type guard_hot, @function\n"
	"guard_hot:\n"
	"	pushq	%rbx\n"
	"	pushq	%r12\n"
	"	movq	%rdx, %rbx\n"
	"	movl	%ecx, %r12d\n"
	"	movq	%rdi, %rax\n"
	"	movq	%rsi, %r11\n"
	"	guard_arguments\n"
	"guard_hot_begin:\n"
	"	cmpl	%r12d, 4(%rbx)\n"
	"	jne	guard_hot_again\n"
	"guard_hot_call:\n"
	"	syscall\n"
	"	movl	$0, (%rbx)\n"
	"1:	popq	%r12\n"
	"	popq	%rbx\n"
	"	ret\n"
	"guard_hot_again:\n"
	"	movq	$-4096, %rax\n"
	"	jmp	1b\n"
	".size guard_hot, .-guard_hot\n"

	".globl guard_return\n"
	".hidden guard_return\n"
	"guard_return:\n"
	"	movl	$15, %eax\n" /* SYS_rt_sigreturn */
	"	syscall\n"

	".globl guard_peek, guard_peek_at, guard_peek_failed\n"
	".hidden guard_peek, guard_peek_at, guard_peek_failed\n"
	".type guard_peek, @function\n"
	"guard_peek:\n"
	"	movl	$1, %eax\n"
	"guard_peek_at:\n"
	"	cmpb	$0, (%rdi)\n"
	"	ret\n"
	"guard_peek_failed:\n"
	"	xorl	%eax, %eax\n"
	"	ret\n"
	".size guard_peek, .-guard_peek\n"

	".globl guard_copy, guard_copy_at, guard_copy_failed\n"
	".hidden guard_copy, guard_copy_at, guard_copy_failed\n"
	".type guard_copy, @function\n"
	"guard_copy:\n"
	"	movq	%rdx, %rcx\n"
	"guard_copy_at:\n"
	"	rep movsb\n"
	"guard_copy_failed:\n"
	"	movq	%rcx, %rax\n"
	"	ret\n"
	".size guard_copy, .-guard_copy\n"

	/*
	 * The child begins with all registers of who called this but rsp, which points to
	 * its frame, and rax. Who is enlisted comes to where it goes on.
	 */
	".globl guard_clone, guard_enlisted\n"
	".hidden guard_clone, guard_enlisted\n"
	".type guard_clone, @function\n"
	"guard_clone:\n"
	"	movq	%rdi, %rax\n"
	"	movq	%rsi, %r11\n"
	"	guard_arguments\n"
	"	syscall\n"
	"	testq	%rax, %rax\n"
	"	je	guard_enlisted\n"
	"	ret\n"
	"guard_enlisted:\n"
	"	xorl	%ebp, %ebp\n"
	"	movq	%rsp, %rbx\n"
	"	movq	%rsp, %rdi\n"
	"	andq	$-65536, %rdi\n" /* GUARD_STACK */
	"	leaq	8(%rsp), %rsi\n" /* the frame's context */
	"	andq	$-16, %rsp\n"
	"	call	guard_child\n"
	"	leaq	8(%rbx), %rsp\n"
	"	movl	$15, %eax\n" /* SYS_rt_sigreturn */
	"	syscall\n"
	".size guard_clone, .-guard_clone\n");

_Static_assert(GUARD_STACK == 65536, "guard_clone knows it");
_Static_assert(offsetof(struct guard_task, busy) == 0, "guard_passage knows it");
_Static_assert(offsetof(struct guard_task, hold) == 4, "guard_hot knows it");
_Static_assert(offsetof(struct frame, c) == 8, "guard_enlisted knows it");

static bool is_at(const struct context *c, const char *where)
{
	return c->rip == (uintptr_t)where;
}

uintptr_t guard_restorer(void)
{
	return (uintptr_t)guard_return;
}

/* ---- memory of the program ------------------------------------------------------- */

bool guard_fixup(struct context *c)
{
	if (is_at(c, guard_peek_at))
		c->rip = (uintptr_t)guard_peek_failed;
	else if (is_at(c, guard_copy_at))
		c->rip = (uintptr_t)guard_copy_failed;
	else
		return false;
	return true;
}

/* ---- an interrupted thread ------------------------------------------------------- */

long context_number(const struct context *c)
{
	return (long)c->rax;
}

void context_arguments(const struct context *c, uint64_t arg[6])
{
	arg[0] = c->rdi;
	arg[1] = c->rsi;
	arg[2] = c->rdx;
	arg[3] = c->r10;
	arg[4] = c->r8;
	arg[5] = c->r9;
}

void context_return(struct context *c, long result)
{
	c->rax = (uint64_t)result;
}

uintptr_t context_stack(const struct context *c)
{
	return c->rsp;
}

void context_set_stack(struct context *c, uintptr_t sp)
{
	c->rsp = sp;
}

uint64_t *context_mask(struct context *c)
{
	return &c->mask;
}

stack_t *context_altstack(struct context *c)
{
	return &c->stack;
}

/* The passage that puts a register back which has argument i. */
static uintptr_t passage_of(int i)
{
	switch (i) {
	case 0:
		return (uintptr_t)guard_passage_0;
	case 3:
		return (uintptr_t)guard_passage_3;
	case 4:
		return (uintptr_t)guard_passage_4;
	default:
		return (uintptr_t)guard_passage_5;
	}
}

static uint64_t *register_of(struct context *c, int i)
{
	switch (i) {
	case 0:
		return &c->rdi;
	case 3:
		return &c->r10;
	case 4:
		return &c->r8;
	default:
		return &c->r9;
	}
}

bool context_call(struct context *c, struct guard_task *task, long nr, int i,
		  const void *value)
{
	uintptr_t words[WORDS] = { (uintptr_t)task, c->rip };

	if (i != NO_ARGUMENT)
		words[2] = *register_of(c, i);
	if (guard_copy((void *)(c->rsp - BELOW), words, sizeof(words)))
		return false;
	task->site = c->rip;
	if (nr != SYS_restart_syscall)
		task->nr = nr;
	task->argument = i;
	task->original = words[2];
	c->rsp -= BELOW;
	c->rip = (uintptr_t)guard_passage;
	if (i != NO_ARGUMENT) {
		*register_of(c, i) = (uintptr_t)value;
		c->rip = passage_of(i);
	}
	return true;
}

/* The call has not been made, or will be made again. */
static bool is_before(const struct context *c, const struct guard_task *task)
{
	if (task->argument != NO_ARGUMENT)
		return c->rip == passage_of(task->argument);
	return is_at(c, guard_passage) || is_at(c, guard_passage_post);
}

bool context_is_over(const struct context *c)
{
	return is_at(c, guard_post);
}

bool context_in_passage(const struct context *c)
{
	return c->rip >= (uintptr_t)guard_passages && c->rip < (uintptr_t)guard_end;
}

void context_transfer(struct context *c, struct guard_task *task)
{
	const struct guard_window *w = &task->window;

	c->rsi = w->addr + w->done;
	c->rdx = w->size - w->done < GUARD_WINDOW ? w->size - w->done : GUARD_WINDOW;
	if (w->offset_is_arg)
		c->r10 = w->offset + w->done;
	c->rax = (uint64_t)task->nr;
	c->rip = (uintptr_t)guard_passage_post;
}

void context_leave_passage(struct context *c, struct guard_task *task)
{
	bool before = is_before(c, task);
	struct guard_window *w = &task->window;

	/* What it holds is about to be something else. */
	if (c->rip >= (uintptr_t)guard_hot_begin && c->rip <= (uintptr_t)guard_hot_call)
		c->rip = (uintptr_t)guard_hot_again;
	if (!context_in_passage(c))
		return;
	if (c->rip <= (uintptr_t)guard_pop || c->rip >= (uintptr_t)guard_passage_post)
		c->rsp += BELOW;
	else if (c->rip <= (uintptr_t)guard_popped)
		c->rsp += BELOW - 8;
	else if (is_at(c, guard_alone))
		c->rsp += BELOW - 16;
	if (task->argument != NO_ARGUMENT)
		*register_of(c, task->argument) = task->original;
	if (w->size) {
		c->rsi = w->addr;
		c->rdx = w->asked;
		if (w->offset_is_arg)
			c->r10 = w->offset;
		if (w->blocks)
			c->mask = w->mask;
		if (w->done) {
			/* A part of it has been done: that is the result. */
			if (before || (long)c->rax < 0)
				c->rax = 0;
			c->rax += w->done;
			before = false;
		}
		w->size = 0;
	}
	if (before && c->rax == SYS_restart_syscall)
		task->restart = task->nr;
	c->rcx = task->site;
	c->rip = task->site - (before ? SYSCALL_SIZE : 0);
	__atomic_store_n(&task->busy, 0, __ATOMIC_RELEASE);
}

void context_retry(struct context *c, struct guard_task *task)
{
	c->rax = (uint64_t)task->nr;
	c->rip = task->argument == NO_ARGUMENT ? (uintptr_t)guard_passage :
						 passage_of(task->argument);
}

void context_again(struct context *c, long nr)
{
	c->rax = (uint64_t)nr;
	c->rip -= SYSCALL_SIZE;
}

bool context_interrupted(const struct context *c, uintptr_t at, uintptr_t sp)
{
	return c->rip == at && c->rsp == sp && (long)c->rax == -EINTR;
}

/* ---- frames ---------------------------------------------------------------------- */

static size_t fp_size(const struct fpstate *fp)
{
	return fp->magic == XSTATE_MAGIC ? fp->extended_size : FXSAVE_SIZE;
}

/* A handler begins with the registers of floating point as a program does. */
static void fp_reset(struct fpstate *fp)
{
	uint32_t mxcsr = MXCSR_DEFAULT;

	if (!fp)
		return;
	if (fp->magic == XSTATE_MAGIC) {
		fp->xstate_bv = 0;
	} else {
		memset(fp->fxsave, 0, sizeof(fp->fxsave));
		fp->fxsave[0] = 0x7f; /* all exceptions masked, */
		fp->fxsave[1] = 0x03; /* and full precision */
	}
	memcpy(fp->fxsave + MXCSR_AT, &mxcsr, sizeof(mxcsr));
}

/* Where the frame may begin, downwards. */
static uintptr_t frame_top(const struct context *c, const struct guard_task *task,
			   const struct guard_action *action)
{
	const stack_t *alt = &task->alt;

	if (action->flags & SA_ONSTACK && alt->ss_size && !altstack_has(alt, c->rsp))
		return (uintptr_t)alt->ss_sp + alt->ss_size;
	return c->rsp - RED_ZONE;
}

bool context_deliver(struct context *c, struct guard_task *task, int sig,
		     const siginfo_t *info, const struct guard_action *action,
		     uint64_t mask)
{
	size_t size = c->fp ? fp_size(c->fp) : 0;
	uintptr_t fp = (frame_top(c, task, action) - size) & ~(uintptr_t)63;
	uintptr_t at = ((fp - sizeof(struct frame)) & ~(uintptr_t)15) - 8;
	struct frame frame = { .restorer = action->restorer, .c = *c, .info = *info };

	frame.c.link = NULL;
	frame.c.fp = c->fp ? (struct fpstate *)fp : NULL;
	frame.c.mask = mask;
	frame.c.stack = task->alt;
	if ((size && guard_copy((void *)fp, c->fp, size)) ||
	    guard_copy((void *)at, &frame, sizeof(frame)))
		return false;
	if (task->alt.ss_flags & (int)SS_AUTODISARM)
		task->alt = (stack_t){ .ss_flags = SS_DISABLE };
	fp_reset(c->fp);
	c->rip = action->handler;
	c->rsp = at;
	c->rdi = (uint64_t)sig;
	c->rsi = at + offsetof(struct frame, info);
	c->rdx = at + offsetof(struct frame, c);
	c->rax = 0;
	c->eflags &= ~(FLAG_TRAP | FLAG_DIRECTION | FLAG_RESUME);
	return true;
}

void context_set_restorer(struct context *c, uintptr_t restorer)
{
	struct frame *frame = (struct frame *)((char *)c - offsetof(struct frame, c));

	frame->restorer = restorer;
}

/* Into the frame that we return by, which is as large as any on this machine. */
static bool fp_load(struct context *c, const struct fpstate *from)
{
	struct fpstate head, *to = c->fp;

	if (!to)
		return true;
	if (!from) {
		fp_reset(to);
		return true;
	}
	if (guard_copy(&head, from, FXSAVE_SIZE))
		return false;
	memcpy(to->fxsave, head.fxsave, sizeof(head.fxsave));
	if (to->magic != XSTATE_MAGIC)
		return true;
	if (head.magic != XSTATE_MAGIC || head.extended_size != to->extended_size) {
		/* As the kernel does with such a frame: of what lies behind, nothing. */
		to->xstate_bv = 3;
		return true;
	}
	return !guard_copy(&to->xstate_bv, &from->xstate_bv,
			   to->xstate_size - FXSAVE_SIZE);
}

bool context_sigreturn(struct context *c, uint64_t *mask, stack_t *alt)
{
	struct context to;

	/* The handler has popped where it returned to. */
	if (guard_copy(&to, (const char *)c->rsp - 8 + offsetof(struct frame, c),
		       sizeof(to)) ||
	    !fp_load(c, to.fp))
		return false;
	*mask = to.mask;
	*alt = to.stack;
	to.flags = c->flags;
	to.link = c->link;
	to.stack = c->stack;
	to.cs = c->cs;
	to.ss = c->ss;
	to.gs = c->gs;
	to.fs = c->fs;
	to.eflags = (c->eflags & ~FLAGS_USER) | (to.eflags & FLAGS_USER);
	to.fp = c->fp;
	memcpy(to.reserved, c->reserved, sizeof(to.reserved));
	to.mask = c->mask;
	*c = to;
	return true;
}

/* ---- threads --------------------------------------------------------------------- */

/* All of this library: what the program calls of it makes calls of its own. */
extern const char __ehdr_start[] HIDDEN, etext[] HIDDEN;

void guard_range(uintptr_t *start, size_t *len)
{
	*start = (uintptr_t)__ehdr_start;
	*len = (uintptr_t)etext - *start;
}

void context_return_twice(struct context *c)
{
	size_t size = c->fp ? fp_size(c->fp) : 0;
	uintptr_t fp = (c->rsp - RED_ZONE - size) & ~(uintptr_t)63;
	uintptr_t at = (fp - sizeof(*c)) & ~(uintptr_t)15;
	struct context second = *c;

	second.fp = c->fp ? (struct fpstate *)fp : NULL;
	if ((size && guard_copy((void *)fp, c->fp, size)) ||
	    guard_copy((void *)at, &second, sizeof(second)))
		return;
	c->mask = ~SIGNALS_OURS;
	c->rsp = at;
	c->rip = (uintptr_t)guard_return;
	c->eflags &= ~(FLAG_TRAP | FLAG_DIRECTION | FLAG_RESUME);
}

/* What a thread goes on with, on its task's stack: as it is in c. */
static struct frame *frame_on(struct guard_task *task, const struct context *c)
{
	size_t size = c->fp ? fp_size(c->fp) : 0;
	uintptr_t top = (uintptr_t)task + GUARD_STACK;
	struct fpstate *fp = (struct fpstate *)((top - size) & ~(uintptr_t)63);
	struct frame *frame =
		(struct frame *)((((uintptr_t)fp - sizeof(*frame)) & ~(uintptr_t)15) - 8);

	if (size)
		memcpy(fp, c->fp, size);
	frame->c = *c;
	frame->c.fp = c->fp ? fp : NULL;
	frame->c.stack = task_stack(task);
	return frame;
}

void guard_enlist(struct context *c, struct guard_task *task)
{
	c->rsp = (uintptr_t)frame_on(task, c);
	c->rip = (uintptr_t)guard_enlisted;
	c->eflags &= ~(FLAG_TRAP | FLAG_DIRECTION | FLAG_RESUME);
}

long guard_spawn(struct context *c, struct guard_task *child, uintptr_t sp, long nr,
		 uint64_t arg[6])
{
	struct frame *frame = frame_on(child, c);
	struct clone_args args = { 0 };
	size_t size;

	frame->c.rax = 0;
	if (sp)
		frame->c.rsp = sp;
	if (nr == SYS_clone3) {
		size = arg[1] < sizeof(args) ? arg[1] : sizeof(args);
		if (guard_copy(&args, (const void *)arg[0], size))
			return -EFAULT;
		args.stack = (uintptr_t)child;
		args.stack_size = (uintptr_t)frame - (uintptr_t)child;
		arg[0] = (uintptr_t)&args;
	} else {
		arg[1] = (uintptr_t)frame;
	}
	return guard_clone(nr, arg);
}

#endif

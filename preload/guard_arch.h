/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guard needs of a machine; guard_x86_64.c.
 */
#ifndef UHMM_PRELOAD_GUARD_ARCH_H
#define UHMM_PRELOAD_GUARD_ARCH_H

#include "preload/guard.h"

/* ---- memory of the program: these may fault, which only they may ----------------- */

/* false: it cannot be touched. */
bool guard_peek(uintptr_t addr);
/* Bytes that were not copied. */
size_t guard_copy(void *to, const void *from, size_t len);
/* A fault in one of them; the thread goes on where it returns the failure. */
bool guard_fixup(struct context *c);

/* ---- an interrupted thread ------------------------------------------------------- */

long context_number(const struct context *c);
void context_arguments(const struct context *c, uint64_t arg[6]);
void context_return(struct context *c, long result);
uintptr_t context_stack(const struct context *c);
void context_set_stack(struct context *c, uintptr_t sp);
uint64_t *context_mask(struct context *c);
stack_t *context_altstack(struct context *c);

#define NO_ARGUMENT (-1)
/*
 * Sends it on by way of the passage, to make its call, which is nr. Argument i (0, 3, 4
 * or 5) is value then, and the program's again afterwards. false: it has no stack for
 * that.
 */
bool context_call(struct context *c, struct guard_task *task, long nr, int i,
		  const void *value);
/* The same where only a window of what task->window says is transferred at a time. */
void context_transfer(struct context *c, struct guard_task *task);
/* A call has been made that the guard is to hear of: it said EFAULT, or is a transfer. */
bool context_is_over(const struct context *c);
bool context_in_passage(const struct context *c);
/* After EFAULT: it is made again. */
void context_retry(struct context *c, struct guard_task *task);
/*
 * Makes call nr if `hold` is still the last of the task's; it is over then. HOT_AGAIN: it
 * is not, or may not be any more.
 */
#define HOT_AGAIN (-4096L)
long guard_hot(long nr, const uint64_t arg[6], struct guard_task *task, uint32_t hold);
/* Puts it back to where the program is, if it is in the passage. */
void context_leave_passage(struct context *c, struct guard_task *task);
/* The call that has just been interrupted is made again. */
void context_again(struct context *c, long nr);
/* Whether the thread has just made a call outside of the passage, which said EINTR. */
bool context_interrupted(const struct context *c, uintptr_t at, uintptr_t sp);

/* What a handler that runs in that frame will return by. */
void context_set_restorer(struct context *c, uintptr_t restorer);
/*
 * Sends it into a handler of the program, with a frame as the kernel builds it. mask:
 * what the frame says was blocked. false: there is no room on its stack.
 */
bool context_deliver(struct context *c, struct guard_task *task, int sig,
		     const siginfo_t *info, const struct guard_action *action,
		     uint64_t mask);
/*
 * What rt_sigreturn() does: the state in the frame becomes the thread's. false: there is
 * none.
 */
bool context_sigreturn(struct context *c, uint64_t *mask, stack_t *alt);

/* ---- threads --------------------------------------------------------------------- */

/*
 * The program's thread-local storage may be elsewhere, so handlers use the task's; what
 * was in use is returned, and is put back.
 */
void tls_init(void); /* before all others */
uintptr_t tls_enter(struct guard_task *task);
void tls_leave(uintptr_t tls);
uintptr_t tls_current(void);

/* Where calls are not dispatched. */
void guard_range(uintptr_t *start, size_t *len);
/* A restorer in it. */
uintptr_t guard_restorer(void);
/*
 * Makes a child that goes on as c would with 0 for a result, on the stack sp, after
 * guard_child() has run on the child's task's. arg: of clone or clone3, but for where the
 * child's stack is, which is set here.
 */
long guard_spawn(struct context *c, struct guard_task *child, uintptr_t sp, long nr,
		 uint64_t arg[6]);
/*
 * Sends a thread that a handler has interrupted by way of guard_child(), on its task's
 * stack, and then on as c says.
 */
void guard_enlist(struct context *c, struct guard_task *task);
/*
 * Sends a thread that a handler of ours has interrupted on as c says, by way of a second
 * return, which is made on its own stack: on a stack for signals the kernel does not
 * change which that is (x86: since Linux 6.12).
 */
void context_return_twice(struct context *c);
/* By a thread that begins to be guarded, on its task's stack; c: what it goes on with. */
void guard_child(struct guard_task *task, struct context *c);

/*
 * Handlers begin, and children do, where nobody may look at thread-local storage yet.
 */
#define NO_TLS __attribute__((no_stack_protector))

#endif

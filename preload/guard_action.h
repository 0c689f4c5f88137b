/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program has asked for when a signal comes, and what the kernel is told.
 *
 * Internal to guard_signal.c; what others need of guard_action.c is in guard.h.
 */
#ifndef UHMM_PRELOAD_GUARD_ACTION_H
#define UHMM_PRELOAD_GUARD_ACTION_H

#include "preload/guard.h"

#define UNBLOCKABLE (SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP))
/* What the kernel lets a mask have. */
#define MASKABLE (~UNBLOCKABLE)
/* Its highest size of a mask. */
#define MASK_SIZE sizeof(uint64_t)

/* Our handlers, in guard_signal.c. */
void guard_on_signal(int sig, siginfo_t *info, void *context);
void guard_on_fault(int sig, siginfo_t *info, void *context);
void guard_on_dispatch(int sig, siginfo_t *info, void *context);

static inline bool is_default(const struct guard_action *action)
{
	return action->handler == (uintptr_t)SIG_DFL;
}

static inline bool has_handler(const struct guard_action *action)
{
	return !is_default(action) && action->handler != (uintptr_t)SIG_IGN;
}

/* The program's. */
struct guard_action action_of(struct guard_signals *signals, int sig);
/* The same as it is delivered, for which it may be good only once. */
struct guard_action action_take(struct guard_signals *signals, int sig);
/* What it was before the process was taken over. */
struct guard_action action_before_us(int sig);
/* The kernel's default, which is none of ours. */
void action_default(int sig);
/* rt_sigaction(): what the program is told. */
long action_call(struct guard_task *task, const uint64_t *arg);

#endif

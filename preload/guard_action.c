/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program has asked for when a signal comes, and what the kernel is told.
 *
 * While a process is taken over, threads of it that are not guarded yet still tell the
 * kernel themselves, and are told by it. So the kernel is asked again until all are
 * guarded: what it has then that is not ours is the program's, and later than what was
 * kept. What they were told meanwhile may be a handler of ours, in the place of what was
 * there before; if the program ever gives it back, or calls it, that is meant.
 */
#include "preload/guard_action.h"

#include <errno.h>
#include <sys/syscall.h>

#include "lib/os/os.h"
#include "lib/os/sys.h"
#include "preload/guard_arch.h"

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000u
#endif

#define ALL (~UINT64_C(0))
/* Flags that are the kernel's to look at, in our handlers too. */
#define PASSED_ON ((uint64_t)(SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT))

static struct guard_signals process __attribute__((section(".data")));
static struct guard_action before_us[SIGNALS] __attribute__((section(".data")));
static bool taken __attribute__((section(".data"))); /* these have what there was */

struct guard_signals *signals_of_process(void)
{
	return &process;
}

static void lock(struct guard_signals *s)
{
	while (__atomic_exchange_n(&s->lock, 1, __ATOMIC_ACQUIRE))
		os_yield();
}

static void unlock(struct guard_signals *s)
{
	__atomic_store_n(&s->lock, 0, __ATOMIC_RELEASE);
}

void signals_lock(struct guard_signals *s)
{
	lock(s);
}

void signals_unlock(struct guard_signals *s, bool child)
{
	if (child)
		s->pending = 0;
	unlock(s);
}

/* ---- what the kernel is told ----------------------------------------------------- */

static int kernel_action(int sig, const struct guard_action *new,
			 struct guard_action *old)
{
	return (int)sys4(SYS_rt_sigaction, sig, new, old, MASK_SIZE);
}

void action_default(int sig)
{
	kernel_action(sig, &(struct guard_action){ 0 }, NULL);
}

static void set(int sig, void (*handler)(int, siginfo_t *, void *), uint64_t flags,
		struct guard_action *old)
{
	struct guard_action action = {
		.handler = (uintptr_t)handler,
		.flags = flags | SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
		.restorer = guard_restorer(),
		.mask = ALL & ~SIGNALS_OURS,
	};

	kernel_action(sig, &action, old);
}

static bool is_ours(const struct guard_action *action)
{
	return action->handler == (uintptr_t)guard_on_signal ||
	       action->handler == (uintptr_t)guard_on_fault ||
	       action->handler == (uintptr_t)guard_on_dispatch;
}

/* old: what the kernel had; may be NULL. */
static void install(int sig, const struct guard_action *action, struct guard_action *old)
{
	/* A handler of one may need the other, and the same again. */
	if (sig == SIGSYS)
		set(sig, guard_on_dispatch, SA_NODEFER, old);
	else if (SIGNAL_BIT(sig) & SIGNALS_OURS)
		set(sig, guard_on_fault, SA_NODEFER, old);
	else if (sig == SIGARM) /* the program is not to hear of what it is for */
		set(sig, guard_on_signal, (action->flags & PASSED_ON) | SA_RESTART, old);
	else if (has_handler(action))
		set(sig, guard_on_signal, action->flags & PASSED_ON, old);
	else
		kernel_action(sig, action, old);
}

static bool same(const struct guard_action *a, const struct guard_action *b)
{
	return a->handler == b->handler && a->flags == b->flags && a->mask == b->mask &&
	       a->restorer == b->restorer;
}

/* The kernel is to have ours in its place. */
static bool is_replaced(int sig, const struct guard_action *action)
{
	return SIGNAL_BIT(sig) & SIGNALS_OURS || sig == SIGARM || has_handler(action);
}

/* What a thread has told the kernel by itself. false: nothing that had to be replaced. */
static bool take_over(int sig)
{
	struct guard_action now, old;
	bool replaced;

	if (SIGNAL_BIT(sig) & UNBLOCKABLE)
		return false;
	kernel_action(sig, NULL, &old);
	if (is_ours(&old))
		return false;
	replaced = is_replaced(sig, &old);
	do {
		now = old;
		process.action[sig - 1] = now;
		if (replaced)
			install(sig, &now, &old);
		/* It may have done so again while we looked. */
	} while (!is_ours(&old) && !same(&old, &now));
	if (!taken)
		before_us[sig - 1] = now;
	return replaced;
}

bool signals_take_over(void)
{
	bool heard_not = false;
	int sig;

	lock(&process);
	for (sig = 1; sig <= SIGNALS; sig++)
		if (take_over(sig) && sig == SIGARM)
			heard_not = true;
	taken = true;
	unlock(&process);
	return heard_not;
}

void signals_reinstall(void)
{
	int sig;

	for (sig = 1; sig <= SIGNALS; sig++)
		if (SIGNAL_BIT(sig) & SIGNALS_OURS)
			install(sig, NULL, NULL);
}

void signals_give_back(const struct guard_signals *signals)
{
	int sig;

	for (sig = 1; sig <= SIGNALS; sig++)
		if (!(SIGNAL_BIT(sig) & UNBLOCKABLE) &&
		    is_replaced(sig, &signals->action[sig - 1]))
			kernel_action(sig, &signals->action[sig - 1], NULL);
}

void signals_clear(struct guard_signals *signals)
{
	int sig;

	for (sig = 1; sig <= SIGNALS; sig++)
		if (has_handler(&signals->action[sig - 1]))
			signals->action[sig - 1] = (struct guard_action){ 0 };
}

/* ---- what the program has asked for ---------------------------------------------- */

struct guard_action action_of(struct guard_signals *s, int sig)
{
	struct guard_action action;

	lock(s);
	action = s->action[sig - 1];
	unlock(s);
	return action;
}

struct guard_action action_take(struct guard_signals *s, int sig)
{
	struct guard_action action;

	lock(s);
	action = s->action[sig - 1];
	if (action.flags & (unsigned)SA_RESETHAND && has_handler(&action)) {
		s->action[sig - 1] = (struct guard_action){ .flags = action.flags };
		install(sig, &s->action[sig - 1], NULL);
	}
	unlock(s);
	return action;
}

struct guard_action action_before_us(int sig)
{
	return before_us[sig - 1];
}

long action_call(struct guard_task *task, const uint64_t *arg)
{
	struct guard_signals *s = task->signals;
	struct guard_action new = { 0 }, old;
	int sig = (int)arg[0];

	if (arg[3] != MASK_SIZE)
		return -EINVAL;
	if (arg[1] && guard_copy(&new, (const void *)arg[1], sizeof(new)))
		return -EFAULT;
	if (sig < 1 || sig > SIGNALS || (arg[1] && SIGNAL_BIT(sig) & UNBLOCKABLE))
		return -EINVAL;
	if (is_ours(&new))
		new = before_us[sig - 1];
	/* Nobody on this thread has the lock: signals are blocked where it is taken. */
	lock(s);
	old = s->action[sig - 1];
	if (arg[1]) {
		new.mask &= MASKABLE;
		s->action[sig - 1] = new;
		install(sig, &new, NULL);
	}
	unlock(s);
	return arg[2] && guard_copy((void *)arg[2], &old, sizeof(old)) ? -EFAULT : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals, as the program sees them.
 *
 * SIGSYS and SIGBUS are how the guard is told of calls and faults, and SIGSEGV how it
 * finds that an argument leads nowhere. So these three are never blocked, and have our
 * handlers; what the program asks for is kept here, and is what it is told.
 *
 * Its handlers of all other signals are entered by way of ours as well: that runs on the
 * task's stack, takes the thread out of the passage, and builds the frame in the
 * program's memory itself. Were the kernel to do it, it would kill the process where that
 * memory is elsewhere.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include "lib/os/os.h"
#include "lib/os/sys.h"
#include "preload/guard_action.h"
#include "preload/guard_arch.h"

uint64_t signals_seen(const struct guard_task *task, uint64_t mask)
{
	return (mask & ~SIGNALS_OURS) | task->blocked;
}

uint64_t signals_real(struct guard_task *task, uint64_t mask)
{
	task->blocked = mask & SIGNALS_OURS;
	return mask & MASKABLE & ~SIGNALS_OURS;
}

/* ---- delivery -------------------------------------------------------------------- */

/* Who returns from our handler faults again, and is killed. */
static void again_without_us(int sig)
{
	action_default(sig);
}

/* As it was meant: without us, from where the thread is. */
static void die_of(int sig)
{
	uint64_t only = SIGNAL_BIT(sig);

	action_default(sig);
	sys3(SYS_tgkill, os_pid(), os_tid(), sig);
	sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &only, 0, MASK_SIZE);
}

/* Signals whose default is that nothing happens. */
static bool is_harmless(int sig)
{
	return sig == SIGCHLD || sig == SIGCONT || sig == SIGURG || sig == SIGWINCH;
}

static void deliver(struct guard_task *task, struct context *c, int sig,
		    const siginfo_t *info)
{
	struct guard_action action = action_take(task->signals, sig);
	uint64_t *mask = context_mask(c), before;

	/* It has been changed since the kernel looked. */
	if (!has_handler(&action)) {
		if (is_default(&action) && !is_harmless(sig))
			die_of(sig);
		return;
	}
	before = signals_seen(task, *mask);
	if (!context_deliver(c, task, sig, info, &action, before)) {
		die_of(SIGSEGV);
		return;
	}
	task->waits = false;
	task->handled++;
	*mask = signals_real(task, before | action.mask |
					   (action.flags & (unsigned)SA_NODEFER ?
						    0 :
						    SIGNAL_BIT(sig)));
}

static uint64_t blocked_now(const struct guard_task *task)
{
	return task->waits ? task->waits_blocked : task->blocked;
}

/* One of ours that somebody has sent. */
static void deliver_sent(struct guard_task *task, struct context *c, int sig,
			 const siginfo_t *info)
{
	struct guard_signals *s = task->signals;

	if (!(blocked_now(task) & SIGNAL_BIT(sig))) {
		if (action_of(s, sig).handler != (uintptr_t)SIG_IGN)
			deliver(task, c, sig, info);
		return;
	}
	signals_lock(s);
	if (!(s->pending & SIGNAL_BIT(sig)))
		s->info[sig - 1] = *info;
	s->pending |= SIGNAL_BIT(sig);
	signals_unlock(s, false);
}

/* One of those that are kept is not kept any more; 0: there is none. */
static int take_kept(struct guard_signals *s, uint64_t which, siginfo_t *info)
{
	uint64_t due;
	int sig;

	if (!(__atomic_load_n(&s->pending, __ATOMIC_RELAXED) & which))
		return 0;
	signals_lock(s);
	due = s->pending & which;
	sig = due ? __builtin_ctzll(due) + 1 : 0;
	if (sig) {
		s->pending &= ~SIGNAL_BIT(sig);
		*info = s->info[sig - 1];
	}
	signals_unlock(s, false);
	return sig;
}

/* What was pending, and is not blocked any more. */
static void flush(struct guard_task *task, struct context *c)
{
	siginfo_t info = { 0 };
	int sig;

	while ((sig = take_kept(task->signals, ~blocked_now(task), &info)))
		deliver_sent(task, c, sig, &info);
}

/*
 * A signal of ours that is sent while a handler of ours runs finds this thread in the
 * middle of anything. It is noted then, and delivered at the end; or, if only the return
 * is left to be done, it changes where that leads.
 */
static unsigned slot_of(int sig)
{
	return sig == SIGBUS ? 0 : sig == SIGSEGV ? 1 : 2;
}

static void note_sent(struct guard_task *task, int sig, const siginfo_t *info)
{
	if (!(task->sent & SIGNAL_BIT(sig)))
		task->sent_info[slot_of(sig)] = *info;
	__atomic_fetch_or(&task->sent, SIGNAL_BIT(sig), __ATOMIC_RELAXED);
}

static void deliver_noted(struct guard_task *task, struct context *c)
{
	static const int sigs[] = { SIGBUS, SIGSEGV, SIGSYS };
	uint64_t sent = __atomic_exchange_n(&task->sent, 0, __ATOMIC_RELAXED);
	unsigned i;

	for (i = 0; i < SIGNALS_OURS_NR; i++) {
		siginfo_t info = task->sent_info[i];

		if (sent & SIGNAL_BIT(sigs[i]))
			deliver_sent(task, c, sigs[i], &info);
	}
}

void signals_begin(struct guard_task *task, struct context *c)
{
	task->frame = c;
	__atomic_store_n(&task->at_work, c, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void signals_end(struct guard_task *task)
{
	struct context *c = task->at_work;

	do {
		__atomic_store_n(&task->at_work, c, __ATOMIC_RELAXED);
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		deliver_noted(task, c);
		flush(task, c);
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		__atomic_store_n(&task->at_work, NULL, __ATOMIC_RELAXED);
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	} while (__atomic_load_n(&task->sent, __ATOMIC_RELAXED));
}

/* ---- our handlers ---------------------------------------------------------------- */

static void call(int sig, siginfo_t *info, struct context *c,
		 const struct guard_action *action)
{
	if (has_handler(action))
		((void (*)(int, siginfo_t *, void *))action->handler)(sig, info, c);
	else if (info->si_code > 0 && sig != SIGSYS)
		again_without_us(sig);
	else if (is_default(action) && !is_harmless(sig))
		die_of(sig);
}

/*
 * On a thread that is not armed yet it runs where the kernel has put the frame, which is
 * where the program's handler may run as well; and returns as that would, for the thread
 * may be armed by then.
 */
static void call_directly(int sig, siginfo_t *info, struct context *c)
{
	struct guard_action action = action_of(signals_of_process(), sig);

	context_set_restorer(c, action.restorer ? action.restorer : guard_restorer());
	call(sig, info, c, &action);
}

/* It was told of our handler in the place of another. */
static void call_for_program(int sig, siginfo_t *info, struct context *c)
{
	struct guard_action action = action_before_us(sig);

	call(sig, info, c, &action);
}

static bool was_sent(const siginfo_t *info)
{
	return info->si_code <= 0;
}

static bool is_missing(int sig, const siginfo_t *info)
{
	return sig == SIGBUS && info->si_code == BUS_ADRERR;
}

/* Of the program, and not ours to resolve. */
static void fault_of_program(struct guard_task *task, struct context *c, int sig,
			     const siginfo_t *info)
{
	struct guard_action action = action_of(task->signals, sig);

	if (has_handler(&action) && !(task->blocked & SIGNAL_BIT(sig)))
		deliver(task, c, sig, info);
	else if (sig == SIGSYS)
		die_of(sig);
	else
		again_without_us(sig);
}

static void signal_came(struct guard_task *task, struct context *c, int sig,
			siginfo_t *info)
{
	if (sig == SIGARM && guard_recruit(info, c)) /* it was asked twice */
		return;
	signals_begin(task, c);
	context_leave_passage(c, task);
	if (sig != SIGARM || !guard_poked(task, info))
		deliver(task, c, sig, info);
	signals_end(task);
}

/* One of ours; the program was interrupted, or the guard. */
static void on_ours(struct guard_task *task, struct context *c, int sig,
		    const siginfo_t *info)
{
	if (task_of(context_stack(c)) == task) {
		/* A bug of ours, if it was not sent. */
		if (!was_sent(info))
			again_without_us(sig);
		else if (task->at_work)
			note_sent(task, sig, info);
		else
			deliver_sent(task, task->frame, sig, info);
		return;
	}
	signals_begin(task, c);
	context_leave_passage(c, task);
	if (was_sent(info))
		deliver_sent(task, c, sig, info);
	else
		fault_of_program(task, c, sig, info);
	signals_end(task);
}

static void fault_came(struct guard_task *task, struct context *c, int sig,
		       siginfo_t *info)
{
	if (!was_sent(info)) {
		if (sig == SIGSEGV && context_is_over(c)) {
			signals_begin(task, c);
			guard_called(task, c);
			signals_end(task);
			return;
		}
		if (is_missing(sig, info) &&
		    (guard_fault((uintptr_t)info->si_addr) ||
		     guard_try_again(task, (uintptr_t)info->si_addr)))
			return;
		if (guard_fixup(c))
			return;
	}
	on_ours(task, c, sig, info);
}

#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2
#endif

static void call_came(struct guard_task *task, struct context *c, int sig,
		      siginfo_t *info)
{
	if (info->si_code != SYS_USER_DISPATCH) {
		on_ours(task, c, sig, info);
		return;
	}
	signals_begin(task, c);
	guard_call(task, c);
	signals_end(task);
}

/*
 * What the kernel calls. A handler that has interrupted another finds the task's
 * thread-local storage in use, and leaves it so.
 */
NO_TLS static void enter(int sig, siginfo_t *info, struct context *c,
			 void (*came)(struct guard_task *, struct context *, int,
				      siginfo_t *))
{
	struct guard_task *task = guard_here();
	uintptr_t tls;

	if (!task) {
		if ((sig != SIGARM || !guard_recruit(info, c)) &&
		    !(is_missing(sig, info) &&
		      guard_try_again(NULL, (uintptr_t)info->si_addr)))
			call_directly(sig, info, c);
		return;
	}
	tls = tls_enter(task);
	if (tls == (uintptr_t)task->tls) {
		came(task, c, sig, info);
		return;
	}
	task->program_tls = tls;
	came(task, c, sig, info);
	tls_leave(task->program_tls);
}

/* Who returns to our restorer was called by the kernel. */
#define ENTER(came)                                                                      \
	((uintptr_t)__builtin_return_address(0) == guard_restorer() ?                    \
		 enter(sig, info, context, came) :                                       \
		 call_for_program(sig, info, context))

NO_TLS void guard_on_signal(int sig, siginfo_t *info, void *context)
{
	ENTER(signal_came);
}

NO_TLS void guard_on_fault(int sig, siginfo_t *info, void *context)
{
	ENTER(fault_came);
}

NO_TLS void guard_on_dispatch(int sig, siginfo_t *info, void *context)
{
	ENTER(call_came);
}

/* ---- calls ----------------------------------------------------------------------- */

static long get(void *to, uint64_t from, size_t size)
{
	return guard_copy(to, (const void *)from, size) ? -EFAULT : 0;
}

static long put(uint64_t to, const void *from, size_t size)
{
	return to && guard_copy((void *)to, from, size) ? -EFAULT : 0;
}

static long call_sigprocmask(struct guard_task *task, struct context *c,
			     const uint64_t *arg)
{
	uint64_t *mask = context_mask(c), old = signals_seen(task, *mask), new;

	if (arg[3] != MASK_SIZE)
		return -EINVAL;
	if (arg[1]) {
		if (get(&new, arg[1], sizeof(new)))
			return -EFAULT;
		if (arg[0] == SIG_BLOCK)
			new |= old;
		else if (arg[0] == SIG_UNBLOCK)
			new = old & ~new;
		else if (arg[0] != SIG_SETMASK)
			return -EINVAL;
		*mask = signals_real(task, new);
	}
	return put(arg[2], &old, sizeof(old));
}

static long set_alt(struct guard_task *task, const stack_t *new)
{
	int mode = new->ss_flags & ~(int)SS_AUTODISARM;

	if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK)
		return -EINVAL;
	if (mode == SS_DISABLE) {
		task->alt = (stack_t){ .ss_flags = new->ss_flags };
		return 0;
	}
	if (new->ss_size < 2048) /* MINSIGSTKSZ of the kernel */
		return -ENOMEM;
	task->alt = *new;
	return 0;
}

static long call_sigaltstack(struct guard_task *task, const struct context *c,
			     const uint64_t *arg)
{
	stack_t old = task->alt, new;
	bool on = altstack_has(&task->alt, context_stack(c));
	long r = 0;

	old.ss_flags = (on                ? SS_ONSTACK :
			task->alt.ss_size ? 0 :
					    SS_DISABLE) |
		       (task->alt.ss_flags & (int)SS_AUTODISARM);
	if (arg[0]) {
		if (get(&new, arg[0], sizeof(new)))
			return -EFAULT;
		r = on ? -EPERM : set_alt(task, &new);
	}
	return r ? r : put(arg[1], &old, sizeof(old));
}

static long call_sigpending(struct guard_task *task, const uint64_t *arg)
{
	uint64_t pending = 0;
	long r;

	if (arg[1] > MASK_SIZE)
		return -EINVAL;
	r = sys2(SYS_rt_sigpending, &pending, MASK_SIZE);
	if (r)
		return r;
	pending |= __atomic_load_n(&task->signals->pending, __ATOMIC_RELAXED) &
		   task->blocked;
	return put(arg[0], &pending, arg[1]);
}

/*
 * One of ours that has been kept is taken from there. The kernel has none: it finds one
 * that is sent while it waits, for that is in the set; and before, it has this thread's
 * handler run, and the call begins anew.
 */
static bool call_sigtimedwait(struct guard_task *task, struct context *c,
			      const uint64_t *arg)
{
	siginfo_t info = { 0 };
	uint64_t set;
	int sig;

	if (arg[3] != MASK_SIZE || get(&set, arg[0], sizeof(set)))
		return false;
	sig = take_kept(task->signals, set, &info);
	if (sig)
		context_return(c, arg[1] && put(arg[1], &info, sizeof(info)) ? -EFAULT :
									       sig);
	return sig;
}

static void call_sigreturn(struct guard_task *task, struct context *c)
{
	uint64_t mask;
	stack_t alt;

	if (!context_sigreturn(c, &mask, &alt)) {
		die_of(SIGSEGV);
		return;
	}
	*context_mask(c) = signals_real(task, mask);
	if (!altstack_has(&task->alt, context_stack(c)))
		set_alt(task, &alt);
}

bool signals_call(struct guard_task *task, struct context *c, long nr,
		  const uint64_t *arg)
{
	long r;

	switch (nr) {
	case SYS_rt_sigreturn:
		call_sigreturn(task, c);
		return true;
	case SYS_rt_sigaction:
		r = action_call(task, arg);
		break;
	case SYS_rt_sigprocmask:
		r = call_sigprocmask(task, c, arg);
		break;
	case SYS_sigaltstack:
		r = call_sigaltstack(task, c, arg);
		break;
	case SYS_rt_sigpending:
		r = call_sigpending(task, arg);
		break;
	case SYS_rt_sigtimedwait:
		return call_sigtimedwait(task, c, arg);
	default:
		return false;
	}
	context_return(c, r);
	return true;
}

/* ---- calls that wait with another mask ------------------------------------------- */

/* Where its mask is; size: what the program says of that. false: it has none. */
static bool mask_of(long nr, const uint64_t *arg, uint64_t *at, uint64_t *size, int *i)
{
	struct {
		uint64_t mask, size;
	} both;

	switch (nr) {
	case SYS_rt_sigsuspend:
		*i = 0;
		break;
	case SYS_ppoll:
		*i = 3;
		break;
	case SYS_epoll_pwait:
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
		*i = 4;
		break;
	case SYS_pselect6:
		*i = 5;
		if (!arg[5] || get(&both, arg[5], sizeof(both)))
			return false;
		*at = both.mask;
		*size = both.size;
		return both.mask;
	default:
		return false;
	}
	*at = arg[*i];
	*size = arg[*i + 1];
	return *at;
}

bool signals_wait(struct guard_task *task, struct context *c, long nr,
		  const uint64_t *arg, int *i, const void **value)
{
	uint64_t at, size, mask;

	if (!mask_of(nr, arg, &at, &size, i) || size != MASK_SIZE ||
	    get(&mask, at, sizeof(mask))) {
		/* The kernel says what is wrong, if something is. */
		*i = NO_ARGUMENT;
		return true;
	}
	task->waits = true;
	task->waits_blocked = mask & SIGNALS_OURS;
	if (__atomic_load_n(&task->signals->pending, __ATOMIC_RELAXED) &
	    ~task->waits_blocked) {
		context_return(c, -EINTR);
		return false;
	}
	if (!task->waits_blocked) {
		*i = NO_ARGUMENT;
		return true;
	}
	task->masked.mask = (uintptr_t)&task->mask;
	task->masked.size = MASK_SIZE;
	task->mask = mask & ~SIGNALS_OURS;
	*value = nr == SYS_pselect6 ? (const void *)&task->masked :
				      (const void *)&task->mask;
	return true;
}

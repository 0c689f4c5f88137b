/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks: a stack for each thread, whose low end says what we know of the thread.
 *
 * Nobody says when a thread has ended, and its stack is in use until then. A task is used
 * again when the kernel does not know its thread any more, which who needs one looks at,
 * going round.
 */
#include <errno.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/prctl.h>

#include "lib/os/os.h"
#include "lib/os/sys.h"
#include "preload/guard.h"
#include "preload/guard_arch.h"

#define TID_NONE 0u
#define TID_CLAIMED UINT32_MAX        /* its memory is not there yet */
#define TID_STARTING (UINT32_MAX - 1) /* it is, but its thread is not */

static struct {
	uintptr_t start, end; /* of all stacks */
	uint32_t next;        /* atomic: the task looked at next */
	uint32_t limit;       /* atomic: of those that were ever used */
	uint32_t *tid;        /* whose it is; atomic */
	bool tls_shared;      /* atomic: threads were made without one of their own */
} tasks __attribute__((section(".data"))) = { .limit = 64 };

int tasks_init(void)
{
	size_t size = GUARD_TASKS_MAX * GUARD_STACK;
	char *stacks;

	if (tasks.start)
		return 0;
	tasks.tid = os_reserve(GUARD_TASKS_MAX * sizeof(*tasks.tid));
	stacks = os_reserve(size + GUARD_STACK);
	if (!tasks.tid || !stacks ||
	    os_commit(tasks.tid, GUARD_TASKS_MAX * sizeof(*tasks.tid)))
		return -ENOMEM;
	tasks.start = ((uintptr_t)stacks + GUARD_STACK - 1) & ~(GUARD_STACK - 1);
	tasks.end = tasks.start + size;
	return 0;
}

static struct guard_task *task_at(uint32_t i)
{
	return (struct guard_task *)(tasks.start + i * GUARD_STACK);
}

static uint32_t index_of(const struct guard_task *task)
{
	return (uint32_t)(((uintptr_t)task - tasks.start) / GUARD_STACK);
}

struct guard_task *task_of(uintptr_t sp)
{
	if (sp < tasks.start || sp >= tasks.end)
		return NULL;
	return (struct guard_task *)(sp & ~(GUARD_STACK - 1));
}

static bool claim(uint32_t i)
{
	uint32_t tid = __atomic_load_n(&tasks.tid[i], __ATOMIC_RELAXED);

	/* It may be a process of its own that shares our memory. */
	if (tid >= TID_STARTING || (tid != TID_NONE && sys2(SYS_tkill, tid, 0) != -ESRCH))
		return false;
	return __atomic_compare_exchange_n(&tasks.tid[i], &tid, TID_CLAIMED, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* GUARD_TASKS_MAX: there is none. */
static uint32_t claim_next(void)
{
	uint32_t limit = __atomic_load_n(&tasks.limit, __ATOMIC_RELAXED), i, at;

	for (;;) {
		/* Half of them in a row are of threads that live: there are too few. */
		for (i = 0; i < limit / 2; i++) {
			at = __atomic_fetch_add(&tasks.next, 1, __ATOMIC_RELAXED) % limit;
			if (claim(at))
				return at;
		}
		if (limit == GUARD_TASKS_MAX)
			return GUARD_TASKS_MAX;
		/* The first of the new ones. */
		__atomic_store_n(&tasks.next, limit, __ATOMIC_RELAXED);
		limit *= 2;
		__atomic_store_n(&tasks.limit, limit, __ATOMIC_RELAXED);
	}
}

struct guard_task *task_new(struct guard_signals *signals)
{
	uint32_t at = claim_next();
	struct guard_task *task;

	if (at == GUARD_TASKS_MAX)
		return NULL;
	task = task_at(at);
	if (os_commit(task, GUARD_STACK)) {
		__atomic_store_n(&tasks.tid[at], TID_NONE, __ATOMIC_RELEASE);
		return NULL;
	}
	memset(task, 0, sizeof(*task));
	task->alt.ss_flags = SS_DISABLE;
	task->signals = signals;
	__atomic_store_n(&tasks.tid[at], TID_STARTING, __ATOMIC_RELEASE);
	return task;
}

void task_free(struct guard_task *task)
{
	__atomic_store_n(&tasks.tid[index_of(task)], TID_NONE, __ATOMIC_RELEASE);
}

stack_t task_stack(const struct guard_task *task)
{
	size_t used = (sizeof(*task) + 63) & ~(size_t)63;

	return (stack_t){ .ss_sp = (char *)task + used, .ss_size = GUARD_STACK - used };
}

int task_arm(struct guard_task *task)
{
	uintptr_t start;
	size_t len;

	task->tid = os_tid();
	__atomic_store_n(&tasks.tid[index_of(task)], task->tid, __ATOMIC_RELEASE);
	guard_range(&start, &len);
	return (int)sys5(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON,
			 start, len, 0);
}

uintptr_t task_program_tls(uintptr_t current)
{
	const struct guard_task *task = task_of(current);

	return task ? task->program_tls : current;
}

struct guard_task *task_find(uint32_t tid)
{
	uint32_t i, limit = __atomic_load_n(&tasks.limit, __ATOMIC_RELAXED);

	for (i = 0; tasks.start && i < limit; i++)
		if (__atomic_load_n(&tasks.tid[i], __ATOMIC_ACQUIRE) == tid)
			return task_at(i);
	return NULL;
}

bool task_is_armed(uint32_t tid)
{
	return task_find(tid);
}

bool guard_tls_is_shared(void)
{
	return __atomic_load_n(&tasks.tls_shared, __ATOMIC_RELAXED);
}

static bool is_there(uint32_t i)
{
	uint32_t tid = __atomic_load_n(&tasks.tid[i], __ATOMIC_ACQUIRE);

	return tid != TID_NONE && tid != TID_CLAIMED;
}

void tasks_list_held(uintptr_t start, uintptr_t end,
		     void (*add)(void *to, uintptr_t addr, size_t len), void *to)
{
	uint32_t i, limit = __atomic_load_n(&tasks.limit, __ATOMIC_RELAXED);

	for (i = 0; tasks.start && i < limit; i++)
		if (is_there(i))
			hold_list(task_at(i), start, end, add, to);
}

uint64_t tasks_calls(void)
{
	uint32_t i, limit = __atomic_load_n(&tasks.limit, __ATOMIC_RELAXED);
	uint64_t calls = 0;

	for (i = 0; i < limit; i++)
		if (is_there(i))
			calls += __atomic_load_n(&task_at(i)->calls, __ATOMIC_RELAXED);
	return calls;
}

/* What it goes on with is what the program has asked for. */
static void set_free(const struct guard_task *task, struct context *c)
{
	uint64_t *mask = context_mask(c);

	*mask = signals_seen(task, *mask);
	*context_altstack(c) = task->alt;
}

void tasks_after_fork(struct guard_task *mine)
{
	memset(tasks.tid, 0, tasks.limit * sizeof(*tasks.tid));
	tasks.next = 0;
	mine->sent = 0;
	guard_after_fork();
	if (!guard_is_idle())
		task_arm(mine);
}

/* ---- children -------------------------------------------------------------------- */

/* By the child, on its task's stack, with its parent's blocked signals. */
NO_TLS void guard_child(struct guard_task *task, struct context *c)
{
	/* By CLONE_SETTLS, or its parent's handler's. */
	uintptr_t tls = task->program_tls ? task->program_tls : tls_current();
	stack_t stack;
	bool able;

	tls_enter(task);
	if (task->signals == &task->own)
		signals_reinstall();
	if (task->free) {
		set_free(task, c);
		tls_leave(tls);
		return;
	}
	stack = task_stack(task);
	sys2(SYS_sigaltstack, &stack, 0);
	able = task_arm(task) == 0;
	if (task->recruit.magic) {
		guard_answer(task, able ? RECRUIT_ARMED : RECRUIT_UNABLE);
		guard_wait_for_all();
	}
	tls_leave(tls);
}

struct child {
	uint64_t flags;
	uintptr_t sp;  /* 0: its parent's */
	uintptr_t tid; /* CLONE_CHILD_CLEARTID: where */
};

static bool child_of(long nr, const uint64_t *arg, struct child *child)
{
	struct clone_args args = { 0 };

	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		*child = (struct child){ .flags = SIGCHLD };
		return true;
	case SYS_vfork:
		*child = (struct child){ .flags = CLONE_VM | CLONE_VFORK | SIGCHLD };
		return true;
#endif
	case SYS_clone:
		*child = (struct child){ .flags = arg[0], .sp = arg[1], .tid = arg[3] };
		return true;
	default:
		if (arg[1] < CLONE_ARGS_SIZE_VER0 ||
		    guard_copy(&args, (const void *)arg[0],
			       arg[1] < sizeof(args) ? arg[1] : sizeof(args)))
			return false;
		*child = (struct child){ .flags = args.flags,
					 .tid = args.child_tid,
					 .sp = args.stack ? args.stack + args.stack_size :
							    0 };
		return true;
	}
}

/* It is not armed, and goes on as if its parent had never been. */
static void child_of_idle(const struct guard_task *task, struct context *c)
{
	signals_give_back(task->signals);
	set_free(task, c);
	context_return(c, 0);
	context_return_twice(c);
}

/*
 * It has memory of its own: what it begins with is a copy of this handler. A stack of its
 * own it gets when it leaves that. The stack protector looks where CLONE_SETTLS leads.
 */
NO_TLS static long fork_here(struct guard_task *task, struct context *c, long nr,
			     const uint64_t *arg, const struct child *child)
{
	struct clone_args args = { 0 };
	bool heard, idle = false;
	long r;

	heard = guard_fork_begin(child->flags);
	signals_lock(task->signals);
	if (heard && guard_fork_refused()) {
		r = -EAGAIN;
	} else if (nr == SYS_clone3) {
		if (guard_copy(&args, (const void *)arg[0],
			       arg[1] < sizeof(args) ? arg[1] : sizeof(args)))
			args.flags = ~UINT64_C(0); /* child_of() could */
		args.stack = args.stack_size = 0;
		r = sys2(nr, &args, arg[1]);
	} else if (nr == SYS_clone) {
		r = sys5(nr, child->flags, 0, arg[2], arg[3], arg[4]);
	} else {
		r = sys5(SYS_clone, child->flags, 0, 0, 0, 0);
	}
	signals_unlock(task->signals, r == 0);
	if (r == 0) {
		if (child->flags & CLONE_SETTLS)
			task->program_tls = tls_current();
		tls_enter(task);
		if (child->flags & CLONE_CHILD_CLEARTID)
			hold_keep(task, KEPT_TID, child->tid, sizeof(uint32_t));
		tasks_after_fork(task);
		idle = guard_is_idle();
		if (child->sp)
			context_set_stack(c, child->sp);
	}
	if (heard)
		guard_fork_end(r);
	/* Now that the program's memory can be had, which that needs. */
	if (idle)
		child_of_idle(task, c);
	return r;
}

static long spawn(struct guard_task *task, struct context *c, long nr,
		  const uint64_t *arg, const struct child *child)
{
	bool own = !(child->flags & CLONE_SIGHAND), arms = guard_arms();
	struct guard_task *new = task_new(task->signals);
	uint64_t args[6];
	long r;

	if (!new)
		return -EAGAIN;
	memcpy(args, arg, sizeof(args));
	new->blocked = task->blocked;
	new->free = !arms;
	if (!(child->flags & CLONE_SETTLS))
		new->program_tls = task->program_tls;
	if (child->flags & CLONE_CHILD_CLEARTID)
		hold_keep(new, KEPT_TID, child->tid, sizeof(uint32_t));
	/* Its stack for signals is its parent's only as long as the parent waits. */
	if (child->flags & CLONE_VFORK)
		new->alt = task->alt;
	if (own) {
		signals_lock(task->signals);
		new->own = *task->signals;
		signals_unlock(task->signals, false);
		new->own.lock = 0;
		new->own.pending = 0;
		if (child->flags & CLONE_CLEAR_SIGHAND)
			signals_clear(&new->own);
		new->signals = &new->own;
	}
	if (nr != SYS_clone && nr != SYS_clone3) {
		nr = SYS_clone;
		args[0] = child->flags;
		args[2] = args[3] = args[4] = 0;
	}
	/* Who waits for its child lends it its own. */
	if (child->flags & CLONE_VFORK)
		task->lent = true;
	else if (!(child->flags & CLONE_SETTLS))
		__atomic_store_n(&tasks.tls_shared, true, __ATOMIC_RELAXED);
	r = guard_spawn(c, new, child->sp, nr, args);
	task->lent = false;
	/* Who will not be armed does not say it. */
	if (r > 0 && !arms)
		__atomic_store_n(&tasks.tid[index_of(new)], (uint32_t)r,
				 __ATOMIC_RELEASE);
	/* Who waited for it has seen it leave: by exec, or for good. */
	if (r < 0 || child->flags & CLONE_VFORK)
		task_free(new);
	return r;
}

long task_clone(struct guard_task *task, struct context *c, long nr, const uint64_t *arg)
{
	struct child child;

	if (!child_of(nr, arg, &child))
		/* The kernel says what is wrong. */
		return sys2(nr, arg[0], arg[1]);
	if (child.flags & CLONE_VM)
		return spawn(task, c, nr, arg, &child);
	return fork_here(task, c, nr, arg, &child);
}

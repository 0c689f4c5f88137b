/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard: every system call of the program finds its memory there.
 *
 * Where a fault can only be resolved in the thread that takes it, in user space, the
 * kernel cannot wait for one: a call that names a page which is elsewhere fails. So no
 * call is made before what its arguments name is there and is held. The kernel hands each
 * call to a handler of ours first (Syscall User Dispatch, Linux 5.11), which finds out
 * what the call touches (guard_call.h), brings it, and sends the thread on to make the
 * call itself, on its own stack, with its own registers and signal mask, from the one
 * place where calls pass: the *passage*. So what blocks, is interrupted or restarted does
 * so as it would without us.
 *
 * Each thread has a *task*: what we know of it, on a stack of its own, on which handlers
 * of ours run, and only those. What the program sees of its signals is our picture of it
 * (guard_signal.c): each handler of the program is entered by way of ours, which builds
 * the frame that the kernel would have built, on the stack the program expects. So the
 * kernel never writes to a stack of the program, which may be migrated.
 *
 * A handler of the program never sees that it has interrupted the passage: the thread is
 * put back to where the call is made, or has been made, first.
 *
 * Everything here runs in handlers, on the program's threads: no lock of libc, no memory
 * that is migrated, no thread-local storage.
 */
#ifndef UHMM_PRELOAD_GUARD_H
#define UHMM_PRELOAD_GUARD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/types.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

struct context; /* of an interrupted thread: the ucontext of a signal's frame */

/*
 * Handlers run here. What is on it at once: the frames of a call, of a fault that the
 * guard takes itself, and of one more; 11 KiB each where there is AMX.
 */
#define GUARD_STACK ((size_t)64 << 10)
#define GUARD_TASKS_MAX 16384u

#define SIGNALS 64
#define SIGNAL_BIT(sig) (UINT64_C(1) << ((sig)-1))
/* These are ours: never blocked, and their handlers never the program's. */
#define SIGNALS_OURS_NR 3
#define SIGNALS_OURS (SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGSYS))

/*
 * What each thread is interrupted by to be armed: the one of libc's own signals that it
 * uses for setuid(), which libc takes out of every mask that a program sets.
 */
#define SIGARM 33

/* As rt_sigaction() has it. */
struct guard_action {
	uintptr_t handler;
	uint64_t flags;
	uintptr_t restorer;
	uint64_t mask;
};

/* What the program has asked for, of a process. */
struct guard_signals {
	uint32_t lock;
	struct guard_action action[SIGNALS];
	/* Sent to the process while the program had them blocked; of SIGNALS_OURS. */
	uint64_t pending;
	siginfo_t info[SIGNALS];
};

/* Pieces of memory that a call names; iovecs may be more. */
#define HOLD_PIECES 16u

/* A transfer of more is done piece by piece: what is held must fit in memory. */
#define GUARD_WINDOW ((size_t)1 << 20)

/* One such; size 0: there is none. */
struct guard_window {
	uint64_t addr, size, done; /* bytes */
	uint64_t asked;            /* for: the argument */
	uint64_t offset;
	bool offset_is_arg; /* pread() and pwrite() */
	bool once;          /* what comes is taken, once */
	/*
	 * A file: the kernel would not let itself be interrupted, nor do we. What the
	 * thread has blocked otherwise:
	 */
	bool blocks;
	uint64_t mask;
};

/* What the kernel writes to, or follows, whenever it likes, as long as a thread lives. */
enum guard_kept {
	KEPT_RSEQ,
	KEPT_ROBUST,
	KEPT_TID,
	KEPT_AREA, /* libc's, where it is not known what is in use */
	KEPT_NR,
};

enum recruit_state {
	RECRUIT_ASKED,
	RECRUIT_COMES,
	RECRUIT_ARMED,
	RECRUIT_ALREADY, /* it was: a child of one that is */
	RECRUIT_UNABLE,  /* the kernel says no */
};

/* A thread that is to be armed. */
struct guard_recruit {
	uint64_t magic;
	uint32_t tid;
	uint32_t state; /* futex, enum recruit_state */
	/* Where it waits in a system call. */
	long nr;
	uintptr_t at, sp;
};

/* Lies at the low end of its stack. */
struct guard_task {
	/* A call is under way. The passage clears it, which knows the place. */
	uint32_t busy;
	/* Counts holds; guard_hot knows the place. */
	uint32_t hold;
	uint32_t tid;
	bool lent; /* to a child of vfork(), which has this thread's storage */
	bool free; /* its thread is not armed, and goes on with what the program sees */
	bool hot;  /* atomic: in a hot call, or on its way */
	bool poked;
	uintptr_t missed; /* see guard_try_again() */
	uint32_t handled; /* signals of the program that its handlers were entered for */
	/* What that call touches, whole pages; atomic. */
	uint32_t nr_pieces;
	struct range piece[HOLD_PIECES];
	struct range kept[KEPT_NR];
	uintptr_t site; /* where that call returns to */
	long nr;
	long restart; /* the call that restart_syscall() would go on with */
	struct guard_window window;
	unsigned retries;       /* of a call that said EFAULT */
	bool is_bad;            /* an argument leads where nothing is */
	int argument;           /* which one is not the program's; -1: none */
	uint64_t original;      /* what the program has there */
	bool waits;             /* that call waits with a mask of its own: */
	uint64_t waits_blocked; /* of SIGNALS_OURS */
	struct guard_recruit recruit;
	/*
	 * Where the program is while a handler of ours is at work on that; NULL when it
	 * has done, though it may not have returned.
	 */
	struct context *at_work;
	struct context *frame; /* the same, until the next one */
	uint64_t sent;         /* to this thread meanwhile; of SIGNALS_OURS */
	siginfo_t sent_info[SIGNALS_OURS_NR];
	uint64_t calls;   /* that have been dispatched */
	uint64_t blocked; /* of SIGNALS_OURS: blocked, as the program sees it */
	stack_t alt;      /* the program's */
	struct guard_signals *signals;
	/* Thread-local storage of our handlers: what the stack protector looks at. */
	uintptr_t tls[8];
	uintptr_t program_tls; /* while a handler of ours runs */
	uint64_t mask; /* what a call shall wait with; and pselect6()'s argument */
	struct {
		uint64_t mask, size;
	} masked;
	/* Of a process that shares our memory, but not our signals. */
	struct guard_signals own;
};

/* Whether a thread with that stack pointer is on it, as the kernel sees it. */
static inline bool altstack_has(const stack_t *alt, uintptr_t sp)
{
	return !(alt->ss_flags & (int)SS_AUTODISARM) && sp > (uintptr_t)alt->ss_sp &&
	       sp - (uintptr_t)alt->ss_sp <= alt->ss_size;
}

/* Why a process cannot be guarded for longer: the program is about to have that. */
enum guard_leaves {
	GUARD_LEAVES_FILTER, /* of its system calls (seccomp) */
	GUARD_LEAVES_FILTER_OF_ALL,
	GUARD_LEAVES_FORK, /* of which a child cannot open what it needs */
	GUARD_LEAVES_RING, /* io_uring, by which the kernel uses memory at any time */
};

/* ---- guard.c: calls -------------------------------------------------------------- */

/* Who embeds the guard; any member may be NULL. */
struct guard_hooks {
	/* A thread of the process that is not the program's. */
	bool (*is_ours)(uint32_t tid);
	/* SIGBUS says that addr is not there. false: it is not ours to bring. */
	bool (*fault)(uintptr_t addr);
	/* Waits for who is taking what lies there and may not have seen it held. */
	void (*wait)(uintptr_t addr, size_t len);
	bool (*is_our_file)(int fd);
	/*
	 * Around what makes a child with memory of its own. false: it need not hear of
	 * the end. pid: or 0, or -errno.
	 */
	bool (*fork_begin)(uint64_t flags);
	void (*fork_end)(long pid);
	/* In between: no child can be had. */
	bool (*fork_refused)(void);
	/* A call is made of which it is not known what it touches. */
	void (*unknown)(void);
	/* That thread might be killed for the calls that arm it. */
	bool (*has_filter)(uint32_t tid);
	/*
	 * All of memory is brought, and nothing is taken any more but by who can do
	 * without us; of a filter of all, no thread of ours makes a call. -errno: it is
	 * not so.
	 */
	int (*leave)(enum guard_leaves why);
	/* So it is for a ring; else none can be had. */
	bool ring;
};

void guard_set_hooks(const struct guard_hooks *hooks);
/* What calls need is not asked for any more: see leave() of struct guard_hooks. */
int guard_leave(enum guard_leaves why);
/* Calls are only passed on from now on: nobody asks what they need any more. */
void guard_finish(void);
bool guard_is_ours(uint32_t tid);
bool guard_fault(uintptr_t addr);
void guard_wait(uintptr_t addr, size_t len);
bool guard_fork_begin(uint64_t flags);
void guard_fork_end(long pid);
bool guard_fork_refused(void);
void guard_unknown(void);
bool guard_has_filter(uint32_t tid);
/* Nothing will be taken again. */
bool guard_is_idle(void);
/*
 * Threads that are made are armed: also in an idle process, whose handlers are of what
 * is. But not where the program has a filter by now.
 */
bool guard_arms(void);
/* In the child of fork. */
void guard_after_fork(void);
/*
 * The process was about to be idle when a thread, which may not be armed, found something
 * missing: it touches it again. false: it has done so already.
 */
bool guard_try_again(struct guard_task *task, uintptr_t addr);
/* The thread that this handler runs on; NULL: it is not armed. */
struct guard_task *guard_here(void);
/* A call has been dispatched to us. */
void guard_call(struct guard_task *task, struct context *c);
/* One has been made that we want to hear of: context_is_over(). */
void guard_called(struct guard_task *task, struct context *c);

/* ---- guard_arm.c ------------------------------------------------------------------- */

/*
 * Takes over the calling process: all threads that there are, but for those of ours, and
 * all that there will be. -errno: the kernel cannot do it. -EACCES: a thread has a filter
 * on its system calls; -ETIMEDOUT: a thread has not answered, but will, and the next
 * attempt finds it armed. -EAGAIN: one executes another program, and has to fail in that
 * first.
 */
int guard_start(const struct guard_hooks *hooks);
/*
 * Those that have been armed wait, until all are and guard_go_on() is called; a second at
 * most. By whoever has called guard_start(), whatever that said.
 */
void guard_go_on(void);
void guard_wait_for_all(void);
/*
 * 1: one of the descriptors of that thread, 0 is the caller, is a ring (io_uring); or
 * -errno. The kernel uses what was given to a ring when nobody knows.
 */
int guard_sees_ring(uint32_t tid);
/* Arms the thread that has been interrupted; false: nobody has asked for that. */
bool guard_recruit(const siginfo_t *info, struct context *c);
void guard_answer(struct guard_task *task, enum recruit_state state);
/* Interrupts a thread that is in a hot call: that begins anew, or says EINTR. */
void guard_poke(uint32_t tid);
/*
 * Around what makes another program of the process: no thread is interrupted meanwhile.
 * In a child that the process has forked: nobody does so.
 */
void guard_exec_begin(void);
void guard_exec_failed(void);
void guard_exec_forget(void);
/* Whether it is that, in the thread that it is for. */
bool guard_poked(struct guard_task *task, const siginfo_t *info);

/* ---- guard_hold.c ------------------------------------------------------------------ */

/*
 * Brings what the call touches, and holds it until hold_end(), or it has been made. The
 * number of the hold; task->is_bad: not all of it is there.
 */
uint32_t hold_call(struct guard_task *task, long nr, const uint64_t arg[6]);
void hold_end(struct guard_task *task);
/* The same for a window of it. */
void hold_piece(struct guard_task *task, uintptr_t addr, size_t len);
/*
 * After EFAULT: what the arguments lead to once more, and what memory that they name
 * might lead to. false: some of what they name is not there at all.
 */
bool hold_more(struct guard_task *task, long nr, const uint64_t arg[6]);
/* The same for as long as the thread lives. */
void hold_keep(struct guard_task *task, enum guard_kept what, uintptr_t addr, size_t len);
/* Nothing is taken yet: it need not be brought. */
void hold_note(struct guard_task *task, enum guard_kept what, uintptr_t addr, size_t len);
/* As hold_call(), for one piece of memory. */
uint32_t hold_memory(struct guard_task *task, uintptr_t addr, size_t len);
/* What is held, of that. By who takes memory, before. */
void hold_list(const struct guard_task *task, uintptr_t start, uintptr_t end,
	       void (*add)(void *to, uintptr_t addr, size_t len), void *to);

/* ---- guard_task.c ---------------------------------------------------------------- */

int tasks_init(void);
/* NULL: there is none to be had. */
struct guard_task *task_new(struct guard_signals *signals);
void task_free(struct guard_task *task);
/* Whose stack this is; NULL: none of ours. */
struct guard_task *task_of(uintptr_t sp);
stack_t task_stack(const struct guard_task *task);
/* The calling thread's calls are dispatched from now on. */
int task_arm(struct guard_task *task);
bool task_is_armed(uint32_t tid);
/* The program's thread pointer, where that of a task is in use. */
uintptr_t task_program_tls(uintptr_t current);
/* In the child of fork: all others are gone. */
void tasks_after_fork(struct guard_task *mine);
/* NULL: it is none of the program's. */
struct guard_task *task_find(uint32_t tid);
/* There are threads of one thread-local storage. */
bool guard_tls_is_shared(void);
/* hold_list() of all. */
void tasks_list_held(uintptr_t start, uintptr_t end,
		     void (*add)(void *to, uintptr_t addr, size_t len), void *to);
/* Calls of all threads there were. */
uint64_t tasks_calls(void);
/* clone(), clone3(), fork(), vfork(): what the caller is to be told. */
long task_clone(struct guard_task *task, struct context *c, long nr, const uint64_t *arg);

/* ---- guard_signal.c, guard_action.c ---------------------------------------------- */

/*
 * Our handlers in place of the program's; once more for what threads which are not
 * guarded have set since. true: SIGARM was among it, and who was sent one may not know.
 */
bool signals_take_over(void);
/* The same in a process of its own that shares this memory. */
void signals_reinstall(void);
/* A call that has to do with signals; false: it is one like all others. */
bool signals_call(struct guard_task *task, struct context *c, long nr,
		  const uint64_t *arg);
/* What the program is told that it blocks, of what the kernel is told. */
uint64_t signals_seen(const struct guard_task *task, uint64_t mask);
/* The other way round; notes what the program has blocked. */
uint64_t signals_real(struct guard_task *task, uint64_t mask);
/*
 * Around what a handler does with where the program is: whoever sends one of
 * SIGNALS_OURS meanwhile has it delivered when that is done.
 */
void signals_begin(struct guard_task *task, struct context *c);
void signals_end(struct guard_task *task);
/* Around fork: nobody is changing it, and the child has nothing pending. */
void signals_lock(struct guard_signals *signals);
void signals_unlock(struct guard_signals *signals, bool child);
/*
 * A call that waits with a mask of its own: the number of its argument, whose value is
 * set. NO_ARGUMENT: it is the program's. -errno, less one: it is over.
 */
bool signals_wait(struct guard_task *task, struct context *c, long nr,
		  const uint64_t *arg, int *i, const void **value);
/* Whom the process's threads share their handlers by. */
struct guard_signals *signals_of_process(void);
/* The kernel has the program's handlers, by the only thread. */
void signals_give_back(const struct guard_signals *signals);
/* In a process of its own: as CLONE_CLEAR_SIGHAND does. */
void signals_clear(struct guard_signals *signals);

#endif

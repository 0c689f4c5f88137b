/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ringing: a thread for a process that has none to spare.
 *
 * A process of the tree runs without a keeper until its memory matters; most never get
 * there. Nothing that a library may do in a foreign program wakes it up from outside: a
 * signal interrupts system calls, a wrapped function need not be called. A tracer does,
 * and can do it without a trace: stop one thread between two instructions, let it execute
 * one system call - clone(), at the door that the preload has published - and put back
 * what it was. The new thread has a stack of its own, and starts the keeper.
 *
 * What the program could notice, and why it does not:
 * - Registers: only the general ones are changed, and put back; nothing is written to a
 *   stack.
 * - Signals: all are blocked for that moment, so none is handled at the door, and the new
 *   thread is born with all of them blocked.
 * - A system call that was interrupted: the registers are put back in a stop from which
 *   the kernel goes on to restart it. Some calls are not restarted but say EINTR (as they
 *   do after SIGSTOP); those that can be are begun again here.
 * - A restartable sequence (rseq) would not be aborted as it must: a thread that is
 *   within one is let go.
 * - Another program, executed in the meantime: the door is verified while the thread is
 *   stopped, by a magic number and the slot's claim.
 * - A seccomp filter that kills who calls clone(), or system calls that are dispatched
 *   to the program: such processes are left alone. The preload sees to it that they have
 *   a keeper before (preload/wrap.c).
 *
 * A thread that does not stop in time (it waits for a vfork child, or for a disk) is let
 * go. A tracer can let go only of stopped threads, or by ending: so each ringing is done
 * by a thread of our own that ends. If we are killed between the two ends of that system
 * call, some microseconds, the program dies of SIGILL.
 */
#include "ring.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"
#include "tree.h"

/* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4 */
#define PTRACE_GET_DISPATCH ((enum __ptrace_request)0x4211)

/*
 * How long a thread may take to stop; and if it only waits for a processor. That one's
 * system call is interrupted by then, and nobody would begin it again.
 */
#define STOP_NS UINT64_C(20000000)
#define RUN_NS UINT64_C(2000000000)

struct call {
	uint32_t pid;
	uint64_t claim, door;
	enum ring result;
};

#if defined(__x86_64__)

/* ---- stops ------------------------------------------------------------------------- */

struct stop {
	int signal;
	bool trap;    /* between two instructions: asked for, or a stop of the group */
	bool syscall; /* at the entry or the exit of a system call */
};

/* The state letter, 0: not one to ask. */
static char thread_state(uint32_t pid, const char *tid)
{
	char path[64], text[4096], *at;

	snprintf(path, sizeof(path), "/proc/%u/task/%.20s/stat", pid, tid);
	if (probe_read(path, text, sizeof(text)))
		return 0;
	at = strrchr(text, ')');
	return at && at[1] ? at[2] : 0;
}

static bool waits_to_run(pid_t tid)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", tid);
	return thread_state((uint32_t)tid, name) == 'R';
}

static void pause_between_looks(unsigned n)
{
	if (n < 8)
		sched_yield();
	else
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
}

/* Is it worth to wait on? since_ns: when that began, or 0, without end. */
static bool may_stop(pid_t tid, uint64_t since_ns)
{
	uint64_t waited_ns = since_ns ? monotonic_ns() - since_ns : 0;

	return waited_ns <= STOP_NS || (waited_ns <= RUN_NS && waits_to_run(tid));
}

/* 0; -ETIMEDOUT; -ESRCH: the thread ends, which is left to be seen by its parent. */
static int wait_stop(pid_t tid, uint64_t since_ns, struct stop *stop)
{
	const int look = WSTOPPED | WNOHANG | __WALL;
	siginfo_t info;

	for (unsigned n = 0;; n++) {
		info.si_pid = 0;
		if (waitid(P_PID, (id_t)tid, &info, look | WEXITED | WNOWAIT))
			return -ESRCH;
		if (info.si_pid)
			break;
		if (!may_stop(tid, since_ns))
			return -ETIMEDOUT;
		pause_between_looks(n);
	}
	if (info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED)
		return -ESRCH;
	info.si_pid = 0;
	if (waitid(P_PID, (id_t)tid, &info, look) || !info.si_pid)
		return -ESRCH;
	stop->signal = info.si_status & 0x7f;
	stop->trap = info.si_status >> 8 == PTRACE_EVENT_STOP;
	stop->syscall = !stop->trap && (info.si_status & 0x80);
	return 0;
}

/* Lets the thread go on until it stops as asked for. Only SIGSTOP can come between. */
static int resume(pid_t tid, int request, bool trap, int *held)
{
	struct stop stop;
	int r;

	do {
		if (ptrace(request, tid, NULL, NULL))
			return -ESRCH;
		r = wait_stop(tid, 0, &stop);
		if (!r && !stop.trap && !stop.syscall)
			*held = stop.signal;
	} while (!r && (trap ? !stop.trap : !stop.syscall));
	return r;
}

/* Stops the thread between two instructions. */
static int halt(pid_t tid)
{
	uint64_t since_ns = monotonic_ns();
	struct stop stop;
	int r;

	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
		return -ESRCH;
	for (;;) {
		r = wait_stop(tid, since_ns, &stop);
		if (r)
			return r;
		/* Else its group is stopped: it does not grow. */
		if (stop.trap)
			return stop.signal == SIGTRAP ? 0 : -EAGAIN;
		/* A signal on its way to the thread. */
		if (ptrace(PTRACE_CONT, tid, NULL, (void *)(long)stop.signal))
			return -ESRCH;
	}
}

/* ---- the stopped thread ------------------------------------------------------------ */

static int get_regs(pid_t tid, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &iov))
		return -errno;
	return iov.iov_len == sizeof(*regs) ? 0 : -ENOEXEC;
}

static int set_regs(pid_t tid, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };

	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &iov) ? -errno : 0;
}

static int peek(pid_t tid, uint64_t addr, uint64_t *word)
{
	errno = 0;
	*word = (uint64_t)ptrace(PTRACE_PEEKDATA, tid, (void *)addr, NULL);
	return -errno;
}

static int poke(pid_t tid, uint64_t addr, uint64_t word)
{
	return ptrace(PTRACE_POKEDATA, tid, (void *)addr, (void *)word) ? -errno : 0;
}

static bool in_sequence(pid_t tid, uint64_t ip)
{
	struct {
		uint64_t abi;
		uint32_t size, signature, flags, pad;
	} rseq = { 0 };
	uint64_t cs, start, len;

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, (void *)sizeof(rseq), &rseq) <=
		    0 ||
	    !rseq.abi)
		return false;
	/* struct rseq: rseq_cs at 8; struct rseq_cs: start_ip, post_commit_offset at 8 */
	if (peek(tid, rseq.abi + 8, &cs) || !cs)
		return false;
	return peek(tid, cs + 8, &start) || peek(tid, cs + 16, &len) || ip - start < len;
}

static bool is_door(pid_t tid, const struct call *call, struct ctl_door *door)
{
	uint64_t at = call->door;

	return !peek(tid, at + offsetof(struct ctl_door, magic), &door->magic) &&
	       !peek(tid, at + offsetof(struct ctl_door, claim), &door->claim) &&
	       !peek(tid, at + offsetof(struct ctl_door, entry), &door->entry) &&
	       !peek(tid, at + offsetof(struct ctl_door, stack), &door->stack) &&
	       door->magic == CTL_DOOR_MAGIC && door->claim == call->claim;
}

/* A signal that is not blocked is on its way: what it interrupts is not our doing. */
static bool signal_is_pending(pid_t tid, uint64_t blocked)
{
	siginfo_t info[16];
	struct {
		uint64_t off;
		uint32_t flags;
		int32_t nr;
	} arg = { .nr = 16 };
	long n;

	for (arg.flags = 0; arg.flags <= 1; arg.flags++) { /* the thread's, the group's */
		for (arg.off = 0;; arg.off += (uint64_t)n) {
			n = ptrace(PTRACE_PEEKSIGINFO, tid, &arg, info);
			if (n < 0)
				return true;
			if (n == 0)
				break;
			for (long i = 0; i < n; i++)
				if (!(blocked >> (info[i].si_signo - 1) & 1))
					return true;
		}
	}
	return false;
}

/* Calls that a stop ends with EINTR, and that have done nothing then. */
static bool can_begin_again(uint64_t nr)
{
	switch (nr) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_io_uring_enter:
	case SYS_accept:
	case SYS_accept4:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_msgrcv:
	case SYS_msgsnd:
		return true;
	default:
		return false;
	}
}

static void begin_again(pid_t tid, uint64_t blocked, struct user_regs_struct *regs)
{
	if ((long long)regs->orig_rax < 0 || (long long)regs->rax != -EINTR ||
	    !can_begin_again(regs->orig_rax) || signal_is_pending(tid, blocked))
		return;
	regs->rax = regs->orig_rax;
	regs->rip -= 2; /* the syscall instruction */
	regs->orig_rax = ~0ull;
}

/*
 * What system calls do is decided by the program itself (as Wine does), who would get
 * ours.
 */
static bool is_dispatched(pid_t tid)
{
	struct {
		uint64_t mode, selector, offset, len;
	} dispatch = { 0 };

	return ptrace(PTRACE_GET_DISPATCH, tid, (void *)sizeof(dispatch), &dispatch) ==
		       0 &&
	       dispatch.mode != 0;
}

/* ---- the call ---------------------------------------------------------------------- */

/*
 * The thread executes clone() at the door. Its result; -ESRCH: it has ended. *held is a
 * signal that came on the way.
 */
static int64_t clone_there(pid_t tid, const struct user_regs_struct *was,
			   const struct ctl_door *door, int *held)
{
	struct user_regs_struct regs = *was;
	int r;

	regs.rip = door->entry;
	regs.rax = SYS_clone;
	regs.orig_rax = ~0ull; /* nothing to be restarted */
	regs.rdi = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
		   CLONE_SYSVSEM | CLONE_UNTRACED;
	regs.rsi = door->stack;
	regs.rdx = regs.r10 = regs.r8 = 0;
	r = set_regs(tid, &regs);
	if (!r)
		r = resume(tid, PTRACE_SYSCALL, false, held); /* its entry */
	if (!r)
		r = resume(tid, PTRACE_SYSCALL, false, held); /* its exit */
	if (!r)
		r = get_regs(tid, &regs);
	/* Only such a stop leads to what restarts an interrupted call. */
	if (!r && ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
		r = -ESRCH;
	if (!r)
		r = resume(tid, PTRACE_CONT, true, held);
	return r ? r : (int64_t)regs.rax;
}

static enum ring visit(pid_t tid, const struct call *call, int *held)
{
	uint64_t all = ~UINT64_C(0), blocked;
	struct user_regs_struct regs;
	struct ctl_door door;
	int64_t r;

	if (!is_door(tid, call, &door))
		return RING_NOBODY;
	if (get_regs(tid, &regs) || in_sequence(tid, regs.rip) || is_dispatched(tid) ||
	    ptrace(PTRACE_GETSIGMASK, tid, (void *)sizeof(blocked), &blocked) ||
	    poke(tid, call->door, 0))
		return RING_LATER;
	begin_again(tid, blocked, &regs);
	ptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof(all), &all);
	r = clone_there(tid, &regs, &door, held);
	if (r == -ESRCH)
		return RING_LATER;
	set_regs(tid, &regs);
	ptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof(blocked), &blocked);
	if (r > 0)
		return RING_DONE;
	poke(tid, call->door, CTL_DOOR_MAGIC);
	return r == -EAGAIN || r == -ENOMEM || r == -EPERM ? RING_UNABLE : RING_LATER;
}

static enum ring ring_thread(pid_t tid, const struct call *call)
{
	enum ring result = RING_LATER;
	int held = 0;

	if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACESYSGOOD))
		return RING_LATER;
	switch (halt(tid)) {
	case 0:
		result = visit(tid, call, &held);
		break;
	case -EAGAIN:
		break;
	default:
		return RING_LATER; /* let go when this thread ends */
	}
	ptrace(PTRACE_DETACH, tid, NULL, NULL);
	if (held)
		syscall(SYS_tgkill, call->pid, tid, held);
	return result;
}

/* ---- which thread ------------------------------------------------------------------ */

/* 1, 0; -ESRCH: it has ended. */
static int is_filtered(uint32_t pid)
{
	char path[64], text[8192], *at;

	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	if (probe_read(path, text, sizeof(text)))
		return -ESRCH;
	at = strstr(text, "\nSeccomp:\t");
	return at && at[10] != '0';
}

/* One that runs, else one that sleeps: its system call is interrupted. 0: none. */
static pid_t choose_thread(uint32_t pid)
{
	char path[64], state;
	struct dirent *entry;
	pid_t sleeps = 0, runs = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%u/task", pid);
	dir = opendir(path);
	while (dir && !runs && (entry = readdir(dir))) {
		state = thread_state(pid, entry->d_name);
		if (state == 'R')
			runs = atoi(entry->d_name);
		else if (state == 'S' && !sleeps)
			sleeps = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return runs ? runs : sleeps;
}

static void *ring_main(void *arg)
{
	struct call *call = arg;
	int filtered = is_filtered(call->pid);
	pid_t tid = filtered ? 0 : choose_thread(call->pid);

	if (filtered > 0)
		call->result = RING_UNABLE;
	if (tid)
		call->result = ring_thread(tid, call);
	return NULL;
}

bool ring_is_possible(void)
{
	char text[16];

	if (!probe_read("/proc/sys/kernel/yama/ptrace_scope", text, sizeof(text)) &&
	    text[0] == '3')
		return false;
	/* Nobody is traced by us: ESRCH, unless a filter answers. */
	return ptrace(PTRACE_INTERRUPT, getpid(), NULL, NULL) == -1 && errno == ESRCH;
}

#else

static void *ring_main(void *arg)
{
	(void)arg;
	return NULL;
}

bool ring_is_possible(void)
{
	return false;
}

#endif

enum ring ring(uint32_t pid, uint64_t claim, uint64_t door)
{
	struct call call = {
		.pid = pid, .claim = claim, .door = door, .result = RING_LATER
	};
	pthread_t thread;

	if (!pthread_create(&thread, NULL, ring_main, &call))
		pthread_join(thread, NULL);
	return call.result;
}

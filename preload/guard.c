/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a system call; see guard.h.
 */
#include "preload/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <linux/sched.h>
#include <string.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"
#include "preload/guard_arch.h"
#include "preload/guard_call.h"

/* MAX_RW_COUNT of the kernel. */
#define TRANSFER_MAX (UINT64_C(0x7fffffff) & ~(uint64_t)(PAGE_SIZE - 1))

/* Where descriptors of ours may lie; see lib/os/os_linux_files.c. */
#define OUR_FILES_END 1024u

static struct guard_hooks hooks __attribute__((section(".data")));

/* Read once: another thread may take it away. */
#define HOOK(name)                                                                       \
	__typeof__(hooks.name) hook = __atomic_load_n(&hooks.name, __ATOMIC_RELAXED)

bool guard_fault(uintptr_t addr)
{
	HOOK(fault);

	return hook && hook(addr);
}

void guard_wait(uintptr_t addr, size_t len)
{
	HOOK(wait);

	if (hook)
		hook(addr, len);
}

bool guard_fork_begin(uint64_t flags)
{
	HOOK(fork_begin);

	return hook && hook(flags);
}

void guard_fork_end(long pid)
{
	HOOK(fork_end);

	if (hook)
		hook(pid);
}

bool guard_fork_refused(void)
{
	HOOK(fork_refused);

	return hook && hook();
}

void guard_unknown(void)
{
	HOOK(unknown);

	if (hook)
		hook();
}

bool guard_has_filter(uint32_t tid)
{
	HOOK(has_filter);

	return hook && hook(tid);
}

bool guard_is_ours(uint32_t tid)
{
	HOOK(is_ours);

	return hook && hook(tid);
}

/* Begun first, for others may have faults from before that are not looked at yet. */
static enum { LEAVES_NOT, LEAVES, HAS_LEFT } leaves __attribute__((section(".data")));
static uint64_t left_ns __attribute__((section(".data")));
/* So long a fault may be of what has been left. */
#define LEFT_NS UINT64_C(200000000)

NO_TLS bool guard_is_idle(void)
{
	return __atomic_load_n(&leaves, __ATOMIC_ACQUIRE) == HAS_LEFT;
}

bool guard_try_again(struct guard_task *task, uintptr_t addr)
{
	switch (__atomic_load_n(&leaves, __ATOMIC_ACQUIRE)) {
	case LEAVES:
		/* What was never filled is missing until the very end. */
		os_yield();
		return true;
	case HAS_LEFT:
		/* A child that was just forked may have a userfaultfd open. */
		if (os_now_ns() - left_ns < LEFT_NS)
			return true;
		if (!task || task->missed == addr)
			return false;
		task->missed = addr;
		return true;
	default:
		return false;
	}
}

/* Nobody may ask the kernel for what that may not know of. */
static bool has_filter __attribute__((section(".data")));

bool guard_arms(void)
{
	return !__atomic_load_n(&has_filter, __ATOMIC_ACQUIRE);
}

void guard_after_fork(void)
{
	/* Who was about to is not here. */
	if (leaves == LEAVES)
		leaves = LEAVES_NOT;
}

void guard_finish(void)
{
	left_ns = os_now_ns();
	__atomic_store_n(&leaves, HAS_LEFT, __ATOMIC_RELEASE);
	guard_set_hooks(&(const struct guard_hooks){ .is_ours = hooks.is_ours,
						     .is_our_file = hooks.is_our_file });
}

/*
 * What is armed stays so. After a filter, which may have the program killed for what it
 * does not know of, a handler of ours makes no call but rt_sigreturn().
 */
int guard_leave(enum guard_leaves why)
{
	HOOK(leave);
	int r = 0;

	if (hook) {
		__atomic_store_n(&leaves, LEAVES, __ATOMIC_RELEASE);
		r = hook(why);
	}
	if (r)
		__atomic_store_n(&leaves, LEAVES_NOT, __ATOMIC_RELEASE);
	else if (hook)
		guard_finish();
	if (!r && (why == GUARD_LEAVES_FILTER || why == GUARD_LEAVES_FILTER_OF_ALL))
		__atomic_store_n(&has_filter, true, __ATOMIC_RELEASE);
	return r;
}

void guard_set_hooks(const struct guard_hooks *given)
{
	hooks = *given;
}

struct guard_task *guard_here(void)
{
	return task_of((uintptr_t)__builtin_frame_address(0));
}

/* ---- calls ----------------------------------------------------------------------- */

static long make(long nr, const uint64_t *arg)
{
	return sys6(nr, (long)arg[0], (long)arg[1], (long)arg[2], (long)arg[3],
		    (long)arg[4], (long)arg[5]);
}

/* The program gets its own mask for that moment: it is the new program's. */
static long execute(struct guard_task *task, struct context *c, long nr,
		    const uint64_t *arg)
{
	uint64_t mask = signals_seen(task, *context_mask(c)), old;
	long r;

	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
	r = make(nr, arg);
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, 0, sizeof(old));
	return r;
}

static bool is_our_file(uint64_t fd)
{
	HOOK(is_our_file);

	return hook && fd <= INT_MAX && hook((int)fd);
}

/* All of [first, last], but for ours. */
static long close_range_but_ours(uint64_t first, uint64_t last, uint64_t flags)
{
	uint64_t at = first, fd;
	long r = 0;

	if (flags & CLOSE_RANGE_UNSHARE) {
		r = sys1(SYS_unshare, CLONE_FILES);
		flags &= ~(uint64_t)CLOSE_RANGE_UNSHARE;
	}
	for (fd = first; !r && fd <= last && fd < OUR_FILES_END; fd++) {
		if (!is_our_file(fd))
			continue;
		if (fd > at)
			r = sys3(SYS_close_range, at, fd - 1, flags);
		at = fd + 1;
	}
	if (!r && at <= last)
		r = sys3(SYS_close_range, at, last, flags);
	return r;
}

/* Calls that are about descriptors which the program does not know. */
static bool files_call(struct context *c, long nr, const uint64_t *arg)
{
	switch (nr) {
	case SYS_close:
		if (!is_our_file((uint32_t)arg[0]))
			return false;
		break;
	case SYS_dup3:
#ifdef SYS_dup2
	case SYS_dup2:
#endif
		if (!is_our_file((uint32_t)arg[0]) && !is_our_file((uint32_t)arg[1]))
			return false;
		break;
	case SYS_close_range:
		if ((uint32_t)arg[0] > (uint32_t)arg[1])
			return false;
		context_return(c, close_range_but_ours((uint32_t)arg[0], (uint32_t)arg[1],
						       (uint32_t)arg[2]));
		return true;
	default:
		return false;
	}
	context_return(c, -EBADF);
	return true;
}

/* ---- much at a time ---------------------------------------------------------------- */

static uint32_t type_of(uint64_t fd)
{
	struct stat st;

	return sys2(SYS_fstat, fd, &st) == 0 ? st.st_mode & S_IFMT : 0;
}

/* A call that is done window by window; false: it is not, or has no stack. */
static bool transfer_call(struct guard_task *task, struct context *c, long nr,
			  const uint64_t *arg)
{
	bool reads = nr == SYS_read || nr == SYS_pread64, file;
	uint64_t *mask = context_mask(c);
	uint32_t type;

	if ((!reads && nr != SYS_write && nr != SYS_pwrite64) || arg[2] <= GUARD_WINDOW ||
	    arg[2] >= CALL_USER_END || arg[1] >= CALL_USER_END - arg[2])
		return false;
	hold_piece(task, arg[1], GUARD_WINDOW);
	if (!context_call(c, task, nr, NO_ARGUMENT, NULL)) {
		hold_end(task);
		return false;
	}
	type = type_of(arg[0]);
	file = type == S_IFREG || type == S_IFBLK;
	task->window = (struct guard_window){
		.addr = arg[1],
		.size = arg[2] < TRANSFER_MAX ? arg[2] : TRANSFER_MAX,
		.asked = arg[2],
		.offset = arg[3],
		.offset_is_arg = nr == SYS_pread64 || nr == SYS_pwrite64,
		/* What comes from elsewhere by one call is what is there. */
		.once = reads && !file && type != S_IFCHR,
		.blocks = file,
		.mask = *mask,
	};
	if (file)
		*mask = ~SIGNALS_OURS;
	context_transfer(c, task);
	return true;
}

/* A window has been transferred. */
static void transferred(struct guard_task *task, struct context *c)
{
	struct guard_window *w = &task->window;
	long r = context_number(c);
	uint64_t left = w->size - w->done;

	if (r < (long)(left < GUARD_WINDOW ? left : GUARD_WINDOW) || w->once ||
	    left <= GUARD_WINDOW) {
		context_leave_passage(c, task);
		return;
	}
	w->done += (uint64_t)r;
	left = w->size - w->done;
	hold_piece(task, w->addr + w->done, left < GUARD_WINDOW ? left : GUARD_WINDOW);
	context_transfer(c, task);
}

/* MADV_POPULATE_READ and the like, of much: it need not be there all at once. */
static bool populate_call(struct guard_task *task, struct context *c, long nr,
			  const uint64_t *arg)
{
	uint64_t at = arg[0], len = arg[1], n;
	long r = 0;

	if (nr != SYS_madvise || len <= GUARD_WINDOW || at >= CALL_USER_END ||
	    len >= CALL_USER_END - at)
		return false;
	if ((int)arg[2] != MADV_POPULATE_READ && (int)arg[2] != MADV_POPULATE_WRITE)
		return false;
	for (; !r && len; at += n, len -= n) {
		n = len < GUARD_WINDOW ? len : GUARD_WINDOW;
		hold_piece(task, at, n);
		r = sys3(nr, at, n, arg[2]);
	}
	hold_end(task);
	context_return(c, r);
	return true;
}

/* ---- EFAULT ------------------------------------------------------------------------ */

/*
 * It may be meant; or somebody has discarded what was brought; or the call reaches more
 * than its arguments name.
 */
#define RETRIES 3u

void guard_called(struct guard_task *task, struct context *c)
{
	uint64_t arg[6];

	if (task->window.size) {
		transferred(task, c);
		return;
	}
	context_arguments(c, arg);
	if (!guard_is_idle() && ++task->retries <= RETRIES &&
	    hold_more(task, task->nr, arg))
		context_retry(c, task);
	else
		context_leave_passage(c, task);
}

/* ---- threads ----------------------------------------------------------------------- */

/* Of what is registered to it the kernel may use the more when it has refused this. */
static void keep_call(struct guard_task *task, long nr, const uint64_t *arg)
{
	switch (nr) {
#ifdef SYS_rseq
	case SYS_rseq:
		hold_keep(task, KEPT_RSEQ, arg[0], (uint32_t)arg[1]);
		break;
#endif
	case SYS_set_robust_list:
		hold_keep(task, KEPT_ROBUST, arg[0], sizeof(struct robust_list_head));
		break;
	case SYS_set_tid_address:
		hold_keep(task, KEPT_TID, arg[0], sizeof(uint32_t));
		break;
	default:
		break;
	}
}

static bool sets_filter(long nr, const uint64_t *arg)
{
	return (nr == SYS_prctl && arg[0] == PR_SET_SECCOMP) ||
	       (nr == SYS_seccomp &&
		(arg[0] == SECCOMP_SET_MODE_STRICT || arg[0] == SECCOMP_SET_MODE_FILTER));
}

/* A child of vfork() or the like: the process, whose this is, has not asked. */
static bool is_of_another(const struct guard_task *task)
{
	return task->signals == &task->own;
}

/* Before what cannot be had as long as calls are guarded; -errno: so it cannot. */
static int make_way(const struct guard_task *task, long nr, const uint64_t *arg)
{
	HOOK(ring);

	/* As where kernel.io_uring_disabled is 2: who uses it can do without. */
	if (nr == SYS_io_uring_setup && guard_is_idle())
		return 0;
	if (nr == SYS_io_uring_setup)
		return hook && !is_of_another(task) ? guard_leave(GUARD_LEAVES_RING) :
						      -EPERM;
	if (!sets_filter(nr, arg) || is_of_another(task))
		return 0;
	return guard_leave(nr == SYS_seccomp && arg[1] & SECCOMP_FILTER_FLAG_TSYNC ?
				   GUARD_LEAVES_FILTER_OF_ALL :
				   GUARD_LEAVES_FILTER);
}

void guard_call(struct guard_task *task, struct context *c)
{
	const void *value = NULL;
	int i = NO_ARGUMENT;
	uint64_t arg[6];
	long nr = context_number(c);
	bool idle;
	int r;

	context_arguments(c, arg);
	task->waits = false;
	task->window.size = task->retries = 0;
	__atomic_store_n(&task->calls, task->calls + 1, __ATOMIC_RELAXED);
	r = make_way(task, nr, arg);
	if (r) {
		context_return(c, r);
		return;
	}
	idle = guard_is_idle();
	if (signals_call(task, c, nr, arg) || files_call(c, nr, arg) ||
	    (!idle &&
	     (transfer_call(task, c, nr, arg) || populate_call(task, c, nr, arg))))
		return;
	if (!idle && !call_is_known(nr, arg))
		guard_unknown();
	if (!idle && call_class(nr) == CALL_THREAD)
		keep_call(task, nr, arg);
	if (!idle)
		hold_call(task, nr == SYS_restart_syscall ? task->restart : nr, arg);
	switch (nr) {
	case SYS_clone:
	case SYS_clone3:
#ifdef SYS_fork
	case SYS_fork:
	case SYS_vfork:
#endif
		context_return(c, task_clone(task, c, nr, arg));
		hold_end(task);
		return;
	case SYS_exit:
	case SYS_exit_group:
		make(nr, arg);
		return;
	case SYS_execve:
	case SYS_execveat:
		if (task->blocked) {
			context_return(c, execute(task, c, nr, arg));
			hold_end(task);
			return;
		}
		break;
	case SYS_prctl:
		/* It is in use, and there is one of a thread. */
		if (arg[0] != PR_SET_SYSCALL_USER_DISPATCH)
			break;
		context_return(c, -EINVAL);
		hold_end(task);
		return;
	default:
		break;
	}
	if (!signals_wait(task, c, nr, arg, &i, &value)) {
		hold_end(task);
		return;
	}
	/* Who has no stack has made nothing but a call that needs none. */
	if (!context_call(c, task, nr, i, value)) {
		context_return(c, make(nr, arg));
		hold_end(task);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a system call, and how a process is taken over; see guard.h.
 */
#include "preload/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <linux/sched.h>
#include <string.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"
#include "preload/guard_arch.h"
#include "preload/guard_call.h"

/* So that nobody else's is taken for one. */
#define ARM_MAGIC UINT64_C(0x75686d6d61726d21)

/*
 * struct pthread of glibc lies at the thread pointer. It has 2304 bytes or less (2.28 to
 * 2.41), its rseq area included.
 */
#define KEPT_AREA_SIZE 2304u

/* A thread that does not answer keeps its process from being taken over. */
#define ARM_TRIES 1000u
#define ARM_WAIT_NS INT64_C(1000000)

/* Where descriptors of ours may lie; see lib/os/os_linux_files.c. */
#define OUR_FILES_END 1024u

struct linux_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

static struct guard_hooks hooks __attribute__((section(".data")));

bool guard_fault(uintptr_t addr)
{
	return hooks.fault && hooks.fault(addr);
}

void guard_wait(uintptr_t addr, size_t len)
{
	if (hooks.wait)
		hooks.wait(addr, len);
}

void guard_fork_begin(void)
{
	if (hooks.fork_begin)
		hooks.fork_begin();
}

void guard_fork_end(long pid)
{
	if (hooks.fork_end)
		hooks.fork_end(pid);
}

bool guard_fork_refused(void)
{
	return hooks.fork_refused && hooks.fork_refused();
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
	return hooks.is_our_file && fd <= INT_MAX && hooks.is_our_file((int)fd);
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

/* Of what is registered to it the kernel may use the more when it has refused this. */
static void keep_call(struct guard_task *task, long nr, const uint64_t *arg)
{
	switch (nr) {
#ifdef SYS_rseq
	case SYS_rseq:
		hold_keep(task, KEPT_RSEQ, arg[0], sizeof(struct rseq));
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

void guard_call(struct guard_task *task, struct context *c)
{
	const void *value = NULL;
	int i = NO_ARGUMENT;
	uint64_t arg[6];
	long nr = context_number(c);

	context_arguments(c, arg);
	task->waits = false;
	__atomic_store_n(&task->calls, task->calls + 1, __ATOMIC_RELAXED);
	if (signals_call(task, c, nr, arg) || files_call(c, nr, arg))
		return;
	if (call_class(nr) == CALL_THREAD)
		keep_call(task, nr, arg);
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

/* ---- arming ---------------------------------------------------------------------- */

bool guard_recruit(const siginfo_t *info, struct context *c)
{
	struct guard_task *task = task_of((uintptr_t)info->si_value.sival_ptr);
	struct guard_recruit *recruit;
	uint32_t asked = RECRUIT_ASKED;
	uint64_t *mask = context_mask(c);
	stack_t *alt = context_altstack(c);

	if (info->si_code != SI_QUEUE || !task || task != info->si_value.sival_ptr)
		return false;
	recruit = &task->recruit;
	if (recruit->magic != ARM_MAGIC || recruit->tid != os_tid())
		return false;
	/* It may be asked twice. */
	if (!__atomic_compare_exchange_n(&recruit->state, &asked, RECRUIT_COMES, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return true;
	if (guard_here()) {
		guard_answer(task, RECRUIT_ALREADY);
		return true;
	}
	/* Its tid, its robust list and its rseq area lie there, if libc has made it. */
	task->program_tls = tls_current();
	hold_note(task, KEPT_AREA, task->program_tls, KEPT_AREA_SIZE);
	task->alt = *alt;
	task->alt.ss_flags &= (int)SS_AUTODISARM | SS_DISABLE;
	*mask = signals_real(task, *mask);
	if (context_interrupted(c, recruit->at, recruit->sp))
		context_again(c, recruit->nr);
	guard_enlist(c, task);
	*mask = ~SIGNALS_OURS;
	return true;
}

void guard_answer(struct guard_task *task, enum recruit_state state)
{
	__atomic_store_n(&task->recruit.state, state, __ATOMIC_RELEASE);
	os_wake(&task->recruit.state, 1);
}

/* Numbers of /proc/self/task/TID/syscall: the call, six arguments, stack and program. */
static bool parse(const char *text, uint64_t number[9])
{
	int i;

	for (i = 0; i < 9; i++) {
		unsigned base = 10;

		while (*text == ' ')
			text++;
		if (text[0] == '0' && text[1] == 'x') {
			base = 16;
			text += 2;
		}
		if (*text < '0' || *text > '9')
			return false;
		for (number[i] = 0;
		     (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f');
		     text++)
			number[i] = number[i] * base +
				    (uint64_t)(*text <= '9' ? *text - '0' :
							      *text - 'a' + 10);
	}
	return true;
}

static char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	*to = 0;
	return to;
}

static char *append_number(char *to, uint32_t n)
{
	char digits[10];
	int i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i)
		*to++ = digits[--i];
	*to = 0;
	return to;
}

/* Some calls are not begun again after a handler has run. */
static void where_it_waits(struct guard_recruit *recruit)
{
	char path[64], text[256] = "";
	uint64_t number[9];
	long fd;

	append(append_number(append(path, "/proc/self/task/"), recruit->tid), "/syscall");
	fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sys3(SYS_read, fd, text, sizeof(text) - 1) > 0 && parse(text, number)) {
		recruit->nr = (long)number[0];
		recruit->sp = number[7];
		recruit->at = number[8];
	}
	sys1(SYS_close, fd);
}

static long ask(struct guard_task *task, uint32_t tid)
{
	siginfo_t info = { 0 };

	info.si_signo = SIGARM;
	info.si_code = SI_QUEUE;
	info.si_value.sival_ptr = task;
	return sys4(SYS_rt_tgsigqueueinfo, os_pid(), tid, SIGARM, &info);
}

static bool lives(uint32_t tid)
{
	return sys3(SYS_tgkill, os_pid(), tid, 0) == 0;
}

/* 0: it is armed, or gone. The task of one that does not answer stays its own. */
static int arm(uint32_t tid)
{
	struct guard_task *task = task_new(signals_of_process());
	struct guard_recruit *recruit;
	uint32_t state;
	unsigned i;

	if (!task)
		return -EAGAIN;
	recruit = &task->recruit;
	recruit->magic = ARM_MAGIC;
	recruit->tid = tid;
	recruit->state = RECRUIT_ASKED;
	where_it_waits(recruit);
	if (ask(task, tid) == -ESRCH) {
		task_free(task);
		return 0;
	}
	for (i = 0; i < ARM_TRIES && lives(tid); i++) {
		state = __atomic_load_n(&recruit->state, __ATOMIC_ACQUIRE);
		if (state == RECRUIT_ALREADY)
			task_free(task);
		if (state >= RECRUIT_ARMED)
			return state == RECRUIT_UNABLE ? -ENOSYS : 0;
		os_wait(&recruit->state, state, ARM_WAIT_NS);
	}
	if (i < ARM_TRIES)
		return 0;
	return -ETIMEDOUT;
}

/* How many were not armed yet. */
static int arm_listed(int fd)
{
	char buffer[4096] __attribute__((aligned(8)));
	int nr = 0, r;
	long size, at;

	sys3(SYS_lseek, fd, 0, SEEK_SET);
	while ((size = sys3(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0)
		for (at = 0; at < size;) {
			const struct linux_dirent *d = (void *)(buffer + at);
			uint32_t tid = 0;
			const char *name;

			for (name = d->name; *name >= '0' && *name <= '9'; name++)
				tid = tid * 10 + (uint32_t)(*name - '0');
			at += d->len;
			if (!tid || (hooks.is_ours && hooks.is_ours(tid)) ||
			    task_is_armed(tid))
				continue;
			r = arm(tid);
			if (r)
				return r;
			nr++;
		}
	return size < 0 ? (int)size : nr;
}

/*
 * Who is not armed yet may start a thread that is not, either; but each of those is in
 * the list when it is read again.
 */
int guard_start(const struct guard_hooks *given)
{
	int r = tasks_init();
	long fd;

	if (r)
		return r;
	hooks = *given;
	os_linux_unblocked = SIGNALS_OURS;
	os_linux_thread_pointer = task_program_tls;
	signals_take_over();
	fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/task",
		  O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return (int)fd;
	do
		r = arm_listed((int)fd);
	while (r > 0);
	sys1(SYS_close, fd);
	return r;
}

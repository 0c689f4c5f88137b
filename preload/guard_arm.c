/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a process is taken over: each of its threads is interrupted by a signal, and comes
 * back guarded.
 *
 * By the keeper, which is no thread of the program's. Who is not armed yet may start a
 * thread that is not, either; but each of those is in the list when it is read again.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"
#include "preload/guard.h"
#include "preload/guard_arch.h"

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

/* ---- the process ------------------------------------------------------------------- */

/* Calls fn with each number that is a name there, until it returns what is not 0. */
static int for_each_number(const char *path, int (*fn)(void *ctx, uint32_t number),
			   void *ctx)
{
	char buffer[4096] __attribute__((aligned(8)));
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long size = 0, at;
	int r = 0;

	if (fd < 0)
		return (int)fd;
	while (!r && (size = sys3(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0)
		for (at = 0; !r && at < size;) {
			const struct dirent_header *d = (void *)(buffer + at);
			const char *name = d->name;
			uint32_t number = 0;

			if (*name < '0' || *name > '9')
				name = "";
			while (*name >= '0' && *name <= '9')
				number = number * 10 + (uint32_t)(*name++ - '0');
			at += d->reclen;
			if (name != d->name && !*name && d->name[0] != '.')
				r = fn(ctx, number);
		}
	sys1(SYS_close, fd);
	return size < 0 ? (int)size : r;
}

static int arm_one(void *ctx, uint32_t tid)
{
	int *nr = ctx;

	if (guard_is_ours(tid) || task_is_armed(tid))
		return 0;
	++*nr;
	return arm(tid);
}

/* The kernel uses what was given to a ring when nobody knows. */
static int refuse_ring(void *ctx, uint32_t fd)
{
	static const char ring[] = "anon_inode:[io_uring]";
	char path[32], link[sizeof(ring)];
	long len;

	(void)ctx;
	append_number(append(path, "/proc/self/fd/"), fd);
	len = sys4(SYS_readlinkat, AT_FDCWD, path, link, sizeof(link));
	return len == sizeof(ring) - 1 && !memcmp(link, ring, sizeof(ring) - 1) ? -EBUSY :
										  0;
}

int guard_start(const struct guard_hooks *hooks)
{
	int r = tasks_init(), nr;

	if (r)
		return r;
	tls_init();
	guard_set_hooks(hooks);
	os_linux_unblocked = SIGNALS_OURS;
	os_linux_thread_pointer = task_program_tls;
	signals_take_over();
	do {
		nr = 0;
		r = for_each_number("/proc/self/task", arm_one, &nr);
	} while (!r && nr);
	return r ? r : for_each_number("/proc/self/fd", refuse_ring, NULL);
}

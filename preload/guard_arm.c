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

/* What comes behind so many spaces. */
static const char *field(const char *text, int nr)
{
	for (; *text && nr; text++)
		nr -= *text == ' ';
	return text;
}

static uintptr_t address(const char *text)
{
	text += text[0] && text[1] == 'x' ? 2 : 0;
	return os_linux_hex(&text);
}

/*
 * Some calls are not begun again after a handler has run. The file has the call's number,
 * six arguments, the stack and the place; something else where the thread is in none.
 */
static void where_it_waits(struct guard_recruit *recruit)
{
	char text[256] = "";
	struct os_path path;
	int fd;

	os_linux_path_of(&path, recruit->tid, "syscall");
	fd = os_linux_open_self(path.text, 0);
	if (fd < 0)
		return;
	if (sys3(SYS_read, fd, text, sizeof(text) - 1) > 0 && *text >= '0' &&
	    *text <= '9') {
		recruit->nr = os_linux_number(text);
		recruit->sp = address(field(text, 7));
		recruit->at = address(field(text, 8));
	}
	os_close(fd);
}

static long send(uint32_t tid, void *value)
{
	siginfo_t info = { 0 };

	info.si_signo = SIGARM;
	info.si_code = SI_QUEUE;
	info.si_value.sival_ptr = value;
	return sys4(SYS_rt_tgsigqueueinfo, os_pid(), tid, SIGARM, &info);
}

/* Its address is what a poke says; nothing is kept there. */
static char poke_mark __attribute__((section(".data")));

void guard_poke(uint32_t tid)
{
	send(tid, &poke_mark);
}

bool guard_poked(struct guard_task *task, const siginfo_t *info)
{
	if (info->si_code != SI_QUEUE || info->si_value.sival_ptr != &poke_mark)
		return false;
	task->poked = true;
	/* A hot call that has not been made yet begins anew. */
	__atomic_store_n(&task->hold, task->hold + 1, __ATOMIC_RELAXED);
	return true;
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
	if (send(tid, task) == -ESRCH) {
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
static int for_each_number(const char *name, int (*fn)(void *ctx, uint32_t number),
			   void *ctx)
{
	char buffer[4096] __attribute__((aligned(8)));
	struct os_path path;
	long size = 0, at;
	int r = 0, fd;

	os_linux_path_of(&path, 0, name);
	fd = os_linux_open_self(path.text, O_DIRECTORY);
	if (fd < 0)
		return fd;
	while (!r && (size = sys3(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0)
		for (at = 0; !r && at < size;) {
			const struct dirent_header *d = (void *)(buffer + at);

			at += d->reclen;
			if (d->name[0] != '.')
				r = fn(ctx, os_linux_number(d->name));
		}
	os_close(fd);
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
	char link[sizeof(ring)];
	struct os_path path;
	long len;

	(void)ctx;
	os_linux_path_of(&path, 0, "fd/");
	os_linux_path_add_number(&path, fd);
	len = sys4(SYS_readlinkat, AT_FDCWD, path.text, link, sizeof(link));
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
		r = for_each_number("..", arm_one, &nr);
	} while (!r && nr);
	return r ? r : for_each_number("fd", refuse_ring, NULL);
}

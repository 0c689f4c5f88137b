/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a process is taken over: each of its threads is interrupted by a signal, and comes
 * back guarded.
 *
 * By the keeper, which is no thread of the program's. All are asked at once; who has
 * answered waits for the others. Who is not armed yet may start a thread that is not,
 * either; but each of those is in the list when it is read again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

/* A thread that does not answer by then keeps its process from being taken over. */
#define ARM_NS UINT64_C(200000000)
#define ARM_WAIT_NS INT64_C(1000000)
/*
 * Who has answered waits so long for the others: memory could be filled meanwhile faster
 * than it can be taken afterwards. No longer, for another may be waiting for it.
 */
#define HELD_NS UINT64_C(50000000)
/*
 * And so long when all have, for what is set up then: nobody shall open a file or close
 * one meanwhile. It takes a millisecond, if there is a processor for it.
 */
#define HELD_ALL_NS UINT64_C(1000000000)

enum held {
	HELD_NOT,
	HELD_FOR_OTHERS,
	HELD_ALL,
};

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
	task->free = !guard_arms();
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

	os_linux_path_of(&path, recruit->tid, "syscall");
	if (os_linux_read_text(path.text, text, sizeof(text)) <= 0 || *text < '0' ||
	    *text > '9')
		return;
	recruit->nr = os_linux_number(text);
	recruit->sp = address(field(text, 7));
	recruit->at = address(field(text, 8));
}

/*
 * A signal that is pending when a thread executes another program stays so, and kills
 * that, which has no handler. So none is sent meanwhile.
 */
static struct {
	uint32_t senders, executors; /* threads */
} gate __attribute__((section(".data")));

/* Longer, and the sender is what the thread has interrupted. */
#define SENDING_NS UINT64_C(10000000)

void guard_exec_begin(void)
{
	uint64_t until = os_now_ns() + SENDING_NS;

	__atomic_fetch_add(&gate.executors, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&gate.senders, __ATOMIC_SEQ_CST) && os_now_ns() < until)
		os_yield();
	/* At the end of a call what has been sent to this thread is delivered. */
	os_tid();
}

void guard_exec_failed(void)
{
	__atomic_fetch_sub(&gate.executors, 1, __ATOMIC_SEQ_CST);
}

void guard_exec_forget(void)
{
	gate.executors = gate.senders = 0;
}

/* -EAGAIN: a thread executes another program. */
static long send(uint32_t tid, void *value)
{
	siginfo_t info = { 0 };
	long r = -EAGAIN;

	info.si_signo = SIGARM;
	info.si_code = SI_QUEUE;
	info.si_value.sival_ptr = value;
	__atomic_fetch_add(&gate.senders, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&gate.executors, __ATOMIC_SEQ_CST))
		r = sys4(SYS_rt_tgsigqueueinfo, os_pid(), tid, SIGARM, &info);
	__atomic_fetch_sub(&gate.senders, 1, __ATOMIC_SEQ_CST);
	return r;
}

/* Its address is what a poke says; nothing is kept there. */
static char poke_mark __attribute__((section(".data")));

void guard_poke(uint32_t tid)
{
	while (send(tid, &poke_mark) == -EAGAIN)
		os_yield();
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

/* ---- who has been asked ------------------------------------------------------------ */

/* Also of attempts before this one, if they have not answered by now. */
static struct {
	struct asked {
		struct guard_task *task;
		uint32_t tid;
	} * thread;
	uint32_t nr;
	uint32_t held; /* futex, enum held: whether who has answered waits */
} asked __attribute__((section(".data")));

static int asked_init(void)
{
	size_t size = GUARD_TASKS_MAX * sizeof(*asked.thread);

	if (!asked.thread)
		asked.thread = os_reserve(size);
	return asked.thread ? os_commit(asked.thread, size) : -ENOMEM;
}

/* A task that somebody else has by now had answered, and its thread has ended. */
static bool is_its(const struct asked *a)
{
	return a->task->recruit.magic == ARM_MAGIC && a->task->recruit.tid == a->tid;
}

static int ask(uint32_t tid)
{
	struct guard_task *task;
	long r;

	if (asked.nr == GUARD_TASKS_MAX)
		return -ENOSPC;
	task = task_new(signals_of_process());
	if (!task)
		return -ENOSPC;
	task->recruit.magic = ARM_MAGIC;
	task->recruit.tid = tid;
	task->recruit.state = RECRUIT_ASKED;
	where_it_waits(&task->recruit);
	r = send(tid, task);
	if (r) /* or it has ended */
		task_free(task);
	else
		asked.thread[asked.nr++] = (struct asked){ task, tid };
	return r == -EAGAIN ? (int)r : 0;
}

/* RECRUIT_ARMED and the like; or it is gone, RECRUIT_ALREADY; or it has not answered. */
static enum recruit_state answer(const struct asked *a, uint64_t until_ns)
{
	struct guard_recruit *recruit = &a->task->recruit;
	bool gone = false;
	uint32_t state;

	for (;;) {
		/* In this order: the state of another's is not taken for its own. */
		state = __atomic_load_n(&recruit->state, __ATOMIC_ACQUIRE);
		if (!is_its(a))
			return RECRUIT_ARMED;
		if (state >= RECRUIT_ARMED)
			return state;
		if (gone)
			return RECRUIT_ALREADY;
		gone = !lives(a->tid);
		if (!gone && os_now_ns() >= until_ns)
			return state;
		if (!gone)
			os_wait(&recruit->state, state, ARM_WAIT_NS);
	}
}

/* Until all have answered, or their time is over: -ETIMEDOUT. */
static int hear_all(uint64_t until_ns)
{
	uint32_t i = 0;
	int r = 0;

	while (i < asked.nr) {
		enum recruit_state state = answer(&asked.thread[i], until_ns);

		if (state < RECRUIT_ARMED) {
			r = -ETIMEDOUT;
			i++;
			continue;
		}
		if (state == RECRUIT_ALREADY)
			task_free(asked.thread[i].task);
		else if (state == RECRUIT_UNABLE)
			r = -ENOSYS;
		asked.thread[i] = asked.thread[--asked.nr];
	}
	return r;
}

static void hold(enum held held)
{
	__atomic_store_n(&asked.held, held, __ATOMIC_RELEASE);
	if (!held)
		os_wake(&asked.held, INT_MAX);
}

void guard_go_on(void)
{
	hold(HELD_NOT);
}

void guard_wait_for_all(void)
{
	uint64_t begun = os_now_ns();
	uint32_t held;

	while ((held = __atomic_load_n(&asked.held, __ATOMIC_ACQUIRE)) != HELD_NOT &&
	       os_now_ns() - begun < (held == HELD_ALL ? HELD_ALL_NS : HELD_NS))
		os_wait(&asked.held, held, ARM_WAIT_NS);
}

/* ---- the process ------------------------------------------------------------------- */

struct asking {
	uint32_t nr;   /* in this round */
	uint32_t late; /* of asked.thread: these have been asked before */
};

static int ask_one(void *ctx, uint32_t tid)
{
	struct asking *asking = ctx;
	uint32_t i;

	if (guard_is_ours(tid) || task_is_armed(tid))
		return 0;
	asking->nr++;
	for (i = 0; i < asking->late; i++)
		if (asked.thread[i].tid == tid && is_its(&asked.thread[i]))
			return 0;
	return guard_has_filter(tid) ? -EACCES : ask(tid);
}

static void take_over_signals(void)
{
	uint32_t i;

	if (!signals_take_over())
		return;
	for (i = 0; i < asked.nr; i++)
		if (is_its(&asked.thread[i]))
			send(asked.thread[i].tid, asked.thread[i].task);
}

/* Who is not armed yet may have started others, which are not, either. */
static int arm_all(void)
{
	uint64_t until_ns = os_now_ns() + ARM_NS;
	struct asking asking;
	struct os_path path;
	int r, heard;

	os_linux_path_of(&path, 0, "..");
	take_over_signals();
	do {
		asking = (struct asking){ .late = asked.nr };
		r = os_linux_for_each_number(path.text, ask_one, &asking);
		take_over_signals();
		heard = hear_all(until_ns);
	} while (!r && !heard && asking.nr);
	take_over_signals();
	return r ? r : heard;
}

static int is_ring(void *ctx, uint32_t fd)
{
	static const char ring[] = "anon_inode:[io_uring]";
	char link[sizeof(ring)];
	struct os_path path;
	long len;

	os_linux_path_of(&path, *(const uint32_t *)ctx, "fd/");
	os_linux_path_add_number(&path, fd);
	len = sys4(SYS_readlinkat, AT_FDCWD, path.text, link, sizeof(link));
	return len == sizeof(ring) - 1 && !memcmp(link, ring, sizeof(ring) - 1);
}

int guard_sees_ring(uint32_t tid)
{
	struct os_path path;

	os_linux_path_of(&path, tid, "fd");
	return os_linux_for_each_number(path.text, is_ring, &tid);
}

int guard_start(const struct guard_hooks *hooks)
{
	int r = tasks_init();

	if (!r)
		r = asked_init();
	if (r)
		return r;
	tls_init();
	guard_set_hooks(hooks);
	os_linux_thread_pointer = task_program_tls;
	hold(HELD_FOR_OTHERS);
	r = arm_all();
	if (!r)
		hold(HELD_ALL);
	return r;
}

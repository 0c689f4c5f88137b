/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's threads and time.
 *
 * A thread is a coroutine (os_sim_switch.c). Whoever sleeps or comes to a scheduling
 * point calls schedule(), which picks the next thread by weight and switches to it. When
 * nobody can run the clock jumps to the next deadline; when there is none either, that is
 * a deadlock, and it is found at once. Two more checks find hangs that timers would hide:
 * a fault or an event that waits for a minute, and a limit on steps.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/world.h"

/* A seed takes some thousand steps; a crowded one a million; this many are a livelock. */
#define MAX_STEPS 8000000u
/* A fault or an event that waited so long, in simulated time, was forgotten. */
#define FORGOTTEN_NS UINT64_C(60000000000)
#define TRACE_LINES 160u

struct sim_config sim_config;
struct thread *sim_current;

static struct thread thread[MAX_THREADS], host;
static unsigned nr_threads;
static uint32_t next_tid, switch_percent;
static uint64_t now_ns, steps, digest;
static uint64_t next_fault_seq, fallible;

/* ---- failing calls ---------------------------------------------------------------- */

bool world_fails(void)
{
	uint64_t n = ++fallible;

	if (!sim_config.fail_at ||
	    (sim_config.fail_on ? n < sim_config.fail_at : n != sim_config.fail_at))
		return false;
	sim_trace("fails", (int64_t)n, 0, 0, 0);
	return true;
}

bool world_fails_now(void)
{
	return !sim_config.fail_on && world_fails();
}

uint64_t sim_fallible(void)
{
	return fallible;
}

void sim_stop_failing(void)
{
	sim_config.fail_at = 0;
}

uint64_t sim_now(void)
{
	return now_ns;
}

uint64_t sim_digest(void)
{
	return digest;
}

uint64_t sim_steps(void)
{
	return steps;
}

/* ---- what happened --------------------------------------------------------------- */

struct line {
	const char *what;
	char name[16];
	uint32_t pid;
	uint64_t step, now;
	int64_t a, b, c, result;
};

static struct line line[TRACE_LINES];
static uint64_t nr_lines;

static void value(char *to, size_t size, int64_t v)
{
	if (in_arena((uintptr_t)v))
		snprintf(to, size, "@%lu+%lx", ((uintptr_t)v - ARENA_BASE) / SIM_PAGE,
			 (uintptr_t)v % SIM_PAGE);
	else if (v > -4096 && v < 100000)
		snprintf(to, size, "%ld", (long)v);
	else
		snprintf(to, size, "0x%lx", (unsigned long)v);
}

static void print(const struct line *l)
{
	char a[32], b[32], c[32], r[32];

	value(a, sizeof(a), l->a);
	value(b, sizeof(b), l->b);
	value(c, sizeof(c), l->c);
	value(r, sizeof(r), l->result);
	fprintf(stderr, "# %6lu %9.3fms %4u %-12s %-14s %s %s %s = %s\n", l->step,
		(double)l->now / 1e6, l->pid, l->name, l->what, a, b, c, r);
}

void sim_trace(const char *what, int64_t a, int64_t b, int64_t c, int64_t result)
{
	struct line *l = &line[nr_lines++ % TRACE_LINES];
	const char *s;

	*l = (struct line){ .what = what,
			    .pid = here()->pid,
			    .step = steps,
			    .now = now_ns,
			    .a = a,
			    .b = b,
			    .c = c,
			    .result = result };
	memcpy(l->name, sim_current->name, sizeof(l->name));
	for (s = what; *s; s++)
		digest = (digest ^ (uint64_t)*s) * UINT64_C(0x100000001b3);
	digest ^= (uint64_t)a * 3 + (uint64_t)b * 5 + (uint64_t)c * 7 + (uint64_t)result +
		  now_ns;
	mix(&digest);
	if (sim_config.trace)
		print(l);
}

static void print_thread(const struct thread *t)
{
	static const char *const states[] = { "free",  "ready", "wait", "fds",
					      "fault", "event", "sleep" };

	fprintf(stderr, "#   %-12s tid %u %s", t->name, t->tid, states[t->state]);
	if (t->mm)
		fprintf(stderr, " of %u", t->mm->pid);
	if (t->state == T_WORD && t->mm == here())
		fprintf(stderr, " on %p, which is %u", (void *)t->word, *t->word);
	if (t->state == T_FAULT)
		fprintf(stderr, " at page %lu%s, %s", (t->addr - ARENA_BASE) / SIM_PAGE,
			t->write ? " to write" : "", t->unread ? "unread" : "read");
	if (t->state != T_READY)
		fprintf(stderr, ", since %.3fms", (double)t->since / 1e6);
	fputc('\n', stderr);
}

void sim_fail(const char *format, ...)
{
	uint64_t i = nr_lines > TRACE_LINES ? nr_lines - TRACE_LINES : 0;
	va_list ap;

	if (!sim_config.trace)
		for (; i < nr_lines; i++)
			print(&line[i % TRACE_LINES]);
	for (i = 0; i < nr_threads; i++)
		if (thread[i].state != T_FREE)
			print_thread(&thread[i]);
	fprintf(stderr, "# seed %lu, step %lu, in %s: ", sim_config.seed, steps,
		sim_current ? sim_current->name : "no thread");
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (sim_config.on_failure)
		sim_config.on_failure();
	_exit(SIM_FAILED);
}

static void switch_to(struct thread *next)
{
	struct thread *prev = sim_current ? sim_current : &host;

	sim_current = next == &host ? NULL : next;
	if (next->mm && !next->apart)
		image_enter(next->mm);
	coroutine_switch(prev, next);
}

/* ---- scheduling ------------------------------------------------------------------ */

static bool fds_ready(const struct thread *t)
{
	int i;

	for (i = 0; i < t->nr_fds; i++)
		if (file_readable(t->fds[i]))
			return true;
	return false;
}

static bool runnable(struct thread *t)
{
	if (t->state == T_FREE)
		return false;
	if (t->state == T_READY)
		return true;
	if (t->state == T_FDS && fds_ready(t)) {
		sim_ready(t);
		return true;
	}
	if (t->deadline <= now_ns) {
		t->timed_out = true;
		t->state = T_READY;
		return true;
	}
	return false;
}

static void check_forgotten(void)
{
	unsigned i;

	for (i = 0; i < nr_threads; i++)
		if ((thread[i].state == T_FAULT || thread[i].state == T_EVENT) &&
		    now_ns - thread[i].since > FORGOTTEN_NS)
			sim_fail("hang: %s waits for a %s that nobody answers",
				 thread[i].name,
				 thread[i].state == T_FAULT ? "fault" :
							      "reader of an event");
}

/* NULL: all have ended. */
static struct thread *pick(void)
{
	for (;;) {
		uint64_t next = NO_DEADLINE;
		uint32_t total = 0, at;
		unsigned i;
		bool alive = false;

		for (i = 0; i < nr_threads; i++) {
			struct thread *t = &thread[i];

			if (runnable(t))
				total += t->weight;
			else if (t->state != T_FREE && t->deadline < next)
				next = t->deadline;
			alive = alive || t->state != T_FREE;
		}
		if (total) {
			at = world_below(total);
			for (i = 0;; i++) {
				if (thread[i].state != T_READY)
					continue;
				if (at < thread[i].weight)
					return &thread[i];
				at -= thread[i].weight;
			}
		}
		if (!alive)
			return NULL;
		if (next == NO_DEADLINE)
			sim_fail("deadlock: nobody can run, and no timer is set");
		now_ns = next;
		check_forgotten();
	}
}

static void schedule(void)
{
	struct thread *next = pick();

	if (!next)
		next = &host;
	if (next != sim_current)
		switch_to(next);
}

void sim_apart_begin(void)
{
	sim_current->apart++;
}

void sim_apart_end(void)
{
	if (!--sim_current->apart)
		image_enter(here());
}

void sim_point(void)
{
	uint32_t max = sim_config.max_steps ? sim_config.max_steps : MAX_STEPS;

	now_ns += 100 + world_below(900);
	if (++steps > max)
		sim_fail("hang: %u steps and no end", max);
	if (steps % 4096 == 0)
		check_forgotten();
	if (world_below(100) < switch_percent)
		schedule();
}

bool sim_block(enum thread_state state, uint64_t deadline)
{
	struct thread *t = sim_current;

	t->state = state;
	t->since = now_ns;
	t->deadline = deadline;
	t->timed_out = false;
	t->seq = next_fault_seq++;
	schedule();
	return !t->timed_out;
}

void sim_ready(struct thread *t)
{
	t->state = T_READY;
	t->timed_out = false;
}

void sim_sleep(uint64_t ns)
{
	sim_block(T_SLEEP, now_ns + ns);
}

struct thread *sim_thread_at(unsigned i)
{
	return i < nr_threads ? &thread[i] : NULL;
}

/* ---- threads --------------------------------------------------------------------- */

static void thread_main(void)
{
	struct thread *t = sim_current;

	coroutine_begun();
	t->fn(t->arg);
	if (t->leads)
		process_exit(t->mm);
	t->state = T_FREE;
	t->ended = true;
	if (t->handle) {
		t->handle->tid = 0;
		os_wake(&t->handle->tid, INT32_MAX);
	}
	schedule();
	abort(); /* nobody switches to a thread that has ended */
}

struct thread *sim_thread_start(const char *name, void (*fn)(void *), void *arg,
				struct mm *mm, struct os_thread *handle)
{
	static const uint32_t weights[] = { 1, 8, 8, 8, 8, 8, 40 };
	struct thread *t, old;
	unsigned i;

	for (i = 0; i < MAX_THREADS && thread[i].state != T_FREE; i++)
		;
	if (i == MAX_THREADS)
		sim_fail("more than %u threads", MAX_THREADS);
	if (i >= nr_threads)
		nr_threads = i + 1;
	t = &thread[i];
	old = *t;
	*t = (struct thread){ .stack = old.stack,
			      .fiber = old.fiber,
			      .fn = fn,
			      .arg = arg,
			      .mm = mm,
			      .handle = handle,
			      .chosen = SIM_RECORD,
			      .tid = next_tid++ };
	t->copied = t->tid;
	t->weight = weights[world_below(sizeof(weights) / sizeof(weights[0]))];
	snprintf(t->name, sizeof(t->name), "%s", name);
	coroutine_make(t, i, thread_main);
	t->state = T_READY;
	if (handle)
		handle->tid = t->tid;
	return t;
}

void threads_exit(struct mm *mm)
{
	unsigned i;

	for (i = 0; i < nr_threads; i++)
		if (thread[i].mm == mm && &thread[i] != sim_current) {
			thread[i].state = T_FREE;
			thread[i].ended = true;
		}
}

unsigned sim_process(void)
{
	return here()->index;
}

uint32_t sim_spawn(const char *name, void (*fn)(void *arg), void *arg)
{
	struct thread *t = sim_thread_start(name, fn, arg, sim_current->mm, NULL);
	uint32_t tid = t->tid;

	t->stream = sim_random();
	sim_point();
	return tid;
}

void sim_join(uint32_t tid)
{
	unsigned i;

	sim_apart_begin();
	for (i = 0; i < nr_threads; i++)
		while (thread[i].tid == tid && thread[i].state != T_FREE)
			sim_sleep(20000);
	sim_apart_end();
}

void sim_run(const struct sim_config *config, void (*fn)(void *arg), void *arg)
{
	static const uint32_t percents[] = { 3, 10, 30, 60, 100 };

	sim_config = *config;
	choices_reset();
	now_ns = UINT64_C(1000000000);
	steps = nr_lines = next_fault_seq = fallible = 0;
	nr_threads = 0;
	next_tid = 1;
	digest = UINT64_C(0xcbf29ce484222325);
	switch_percent = percents[world_below(sizeof(percents) / sizeof(percents[0]))];
	coroutine_host(&host);
	mm_reset_all();
	own_reset();
	files_reset();
	main_mm = mm_create();
	image_begin(main_mm);
	choices_begin(sim_thread_start("main", fn, arg, main_mm, NULL), ~config->seed);
	switch_to(&thread[0]);
	files_check_closed();
	own_check_released();
}

/* ---- lib/os/os.h ----------------------------------------------------------------- */

int os_thread_start(struct os_thread *t, void (*fn)(void *arg), void *arg,
		    const char *name)
{
	sim_point();
	if (world_fails())
		return -EAGAIN;
	sim_thread_start(name, fn, arg, sim_current->mm, t);
	t->impl = t;
	sim_point();
	return 0;
}

void os_thread_wait(struct os_thread *t)
{
	uint32_t tid;

	while (t->impl && (tid = t->tid))
		os_wait(&t->tid, tid, -1);
}

void os_thread_join(struct os_thread *t)
{
	os_thread_wait(t);
	t->impl = NULL;
}

void os_thread_await(struct os_thread *t)
{
	(void)t;
	sim_point();
}

void os_thread_forget(struct os_thread *t)
{
	t->impl = NULL;
	t->tid = 0;
}

uint32_t os_tid(void)
{
	return sim_current->tid;
}

uint32_t os_pid(void)
{
	return sim_current->mm->pid;
}

/* Simulated parents live on. */
uint32_t os_parent_pid(void)
{
	return 1;
}

int os_nr_cpus(void)
{
	return 2;
}

uint32_t os_cpu(void)
{
	return world_below(4);
}

/* Who runs is up to the seed; where, makes no difference here. */
int os_place_get(struct os_place *place)
{
	*place = (struct os_place){ .cpus = { 3 } };
	return 0;
}

int os_thread_cpu(uint32_t tid)
{
	(void)tid;
	sim_point();
	return (int)world_below(2);
}

int os_lower(const struct os_place *place, uint32_t cpu, bool again)
{
	(void)again;
	sim_point();
	return place->cpus[0] >> cpu & 1 ? 0 : -EINVAL;
}

int os_raise(const struct os_place *place, uint32_t tid)
{
	(void)place;
	(void)tid;
	sim_point();
	return 0;
}

int os_may_raise(const struct os_place *place)
{
	return os_raise(place, 0);
}

int os_gather(const struct os_place *place, uint32_t tid, int cpu)
{
	(void)place;
	(void)tid;
	(void)cpu;
	sim_point();
	return 0;
}

void os_yield(void)
{
	steps++;
	now_ns += 500;
	schedule();
}

int os_wait(uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
	image_check_mapped(here());
	sim_point();
	if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected)
		return -EAGAIN;
	if (sim_chance(sim_config.spurious))
		return 0;
	sim_current->word = word;
	if (!sim_block(T_WORD,
		       timeout_ns < 0 ? NO_DEADLINE : now_ns + (uint64_t)timeout_ns))
		return -ETIMEDOUT;
	return 0;
}

void os_wake(uint32_t *word, int nr)
{
	unsigned i, first = world_below(nr_threads);

	for (i = 0; i < nr_threads && nr > 0; i++) {
		struct thread *t = &thread[(first + i) % nr_threads];

		if (t->state == T_WORD && t->word == word &&
		    (t->mm == here() || own_is_shared(word))) {
			sim_ready(t);
			nr--;
		}
	}
	if (!sim_current->ended)
		sim_point();
}

uint64_t os_now_ns(void)
{
	sim_point();
	return now_ns;
}

bool os_is_single_threaded(void)
{
	unsigned i, nr = 0;

	sim_point();
	for (i = 0; i < nr_threads; i++)
		nr += thread[i].state != T_FREE && thread[i].mm == here() &&
		      !thread[i].handle;
	return nr == 1;
}

bool os_threads_ended(int *code)
{
	(void)code;
	return false;
}

void os_exit(int code)
{
	sim_fail("the library ended the process with status %d", code);
}

void os_die(const char *message)
{
	sim_fail("the library ended the process: %s", message);
}

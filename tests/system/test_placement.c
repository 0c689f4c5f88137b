/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run by `uhmm run` in less memory than it takes.
 *
 * Where threads of the library run, while a thread of the program faults hard: all on
 * its processor, the reader in the idle class, and back where they were after that; and
 * nobody else's affinity or class is touched.
 */
#include "api.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NR ((size_t)16384)
#define MS 1000000L

static long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 * MS + ts.tv_nsec;
}

/* The thread of this process that has that name; 0: none. */
static int find_thread(const char *name)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *d;
	int tid = 0;

	CHECK(dir);
	while (!tid && (d = readdir(dir))) {
		char path[300], comm[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", d->d_name);
		f = fopen(path, "r");
		if (f && fgets(comm, sizeof(comm), f) &&
		    !strncmp(comm, name, strlen(name)))
			tid = atoi(d->d_name);
		if (f)
			fclose(f);
	}
	closedir(dir);
	return tid;
}

static void skip_where_it_cannot_be(void)
{
	cpu_set_t set;

	CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	if (CPU_COUNT(&set) < 2)
		SKIP("one processor: there is no choice");
}

struct board {
	char *p;
	int reader, worker;
	bool stop;         /* atomic, as the next two */
	unsigned low;      /* times the reader was seen in the idle class */
	unsigned gathered; /* and with the worker on one processor */
};

static void set_up(struct board *b)
{
	int tries;

	skip_where_it_cannot_be();
	if (test_instrument())
		SKIP("%s alone takes the budget", test_instrument());
	b->p = api_map(NR);
	api_fill(b->p, NR, 1);
	/* Nobody waits for the keeper to find that memory runs short. */
	for (tries = 0; tries < 5000 && !b->reader; tries++) {
		b->reader = find_thread("uhmm-reader");
		usleep(1000);
	}
	b->worker = find_thread("uhmm-keeper");
	CHECK(b->reader && b->worker);
}

static void touch_at_random(const struct board *b, unsigned times, unsigned *seed)
{
	for (; times; times--) {
		size_t i = (size_t)rand_r(seed) % NR;

		api_check(b->p + i * PAGE, 1, 1 + i);
	}
}

static void fault_hard(const struct board *b, unsigned *seed)
{
	touch_at_random(b, NR / 4, seed);
}

static bool is_low(const struct board *b)
{
	return sched_getscheduler(b->reader) == SCHED_IDLE;
}

/* Where a thread of ours may run; its processors. */
static int may_run(int tid, cpu_set_t *set)
{
	CHECK_EQ(sched_getaffinity(tid, sizeof(*set), set), 0);
	return CPU_COUNT(set);
}

static bool is_gathered(const struct board *b)
{
	cpu_set_t reader, worker;

	return may_run(b->reader, &reader) == 1 && may_run(b->worker, &worker) == 1 &&
	       CPU_EQUAL(&reader, &worker);
}

static void *watch(void *arg)
{
	struct board *b = arg;

	while (!__atomic_load_n(&b->stop, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&b->low, is_low(b), __ATOMIC_RELAXED);
		__atomic_fetch_add(&b->gathered, is_gathered(b), __ATOMIC_RELAXED);
		usleep(500);
	}
	return NULL;
}

static bool seen_low(const struct board *b)
{
	return __atomic_load_n(&b->low, __ATOMIC_RELAXED) != 0;
}

static bool seen_gathered(const struct board *b)
{
	return __atomic_load_n(&b->gathered, __ATOMIC_RELAXED) != 0;
}

static void set_stop(struct board *b, bool stop)
{
	__atomic_store_n(&b->stop, stop, __ATOMIC_RELAXED);
}

/* Until the reader was seen lowered; false: not in 20 s. */
static bool fault_until_low(struct board *b, unsigned *seed)
{
	long until = now_ns() + 20000 * MS;

	while (!(seen_low(b) && seen_gathered(b)) && now_ns() < until)
		fault_hard(b, seed);
	return seen_low(b);
}

struct seen {
	cpu_set_t mine, init;
	int policy;
};

static struct seen look(void)
{
	struct seen s;

	memset(&s, 0, sizeof(s));
	CHECK_EQ(sched_getaffinity(0, sizeof(s.mine), &s.mine), 0);
	sched_getaffinity(1, sizeof(s.init), &s.init);
	s.policy = sched_getscheduler(0);
	return s;
}

TEST(the_reader_is_lowered_and_raised_and_nobody_else)
{
	struct seen before = look(), after;
	struct board b = { 0 };
	cpu_set_t reader, worker, again;
	unsigned seed = 1;
	pthread_t thread;

	set_up(&b);
	CHECK_GE(may_run(b.reader, &reader), 2);
	CHECK_GE(may_run(b.worker, &worker), 2);
	CHECK_EQ(pthread_create(&thread, NULL, watch, &b), 0);
	if (!fault_until_low(&b, &seed) && geteuid())
		SKIP("a thread may not be raised again here");
	set_stop(&b, true);
	pthread_join(thread, NULL);
	CHECK(seen_low(&b) && seen_gathered(&b));
	after = look();
	CHECK(!memcmp(&before, &after, sizeof(before)));
	/* Nobody faults: they do not stay where they were for that. */
	CHECK_SOON(!is_low(&b));
	CHECK_SOON(may_run(b.reader, &again) && CPU_EQUAL(&reader, &again));
	CHECK_SOON(may_run(b.worker, &again) && CPU_EQUAL(&worker, &again));
}

static void *compute(void *arg)
{
	const struct board *b = arg;

	while (!__atomic_load_n(&b->stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

/*
 * The thread that faulted hard computes, and so does another on each other processor. The
 * reader in the idle class has nothing left then, and whoever faults waits for it.
 */
static long late_ns(struct board *b, unsigned *seed)
{
	pthread_t busy[CPU_SETSIZE];
	cpu_set_t set;
	long start, late;
	int i, nr;

	CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	nr = CPU_COUNT(&set);
	fault_until_low(b, seed);
	for (i = 0; i < nr; i++)
		CHECK_EQ(pthread_create(&busy[i], NULL, compute, b), 0);
	usleep(20000);
	start = now_ns();
	touch_at_random(b, 20, seed);
	late = now_ns() - start;
	set_stop(b, true);
	for (i = 0; i < nr; i++)
		pthread_join(busy[i], NULL);
	return late;
}

TEST(who_faults_beside_others_that_compute_is_not_kept_waiting)
{
	struct board b = { 0 };
	unsigned seed = 2, i;
	pthread_t thread;
	long late = 0, l;

	set_up(&b);
	for (i = 0; i < 3; i++) {
		set_stop(&b, false);
		__atomic_store_n(&b.low, 0, __ATOMIC_RELAXED);
		CHECK_EQ(pthread_create(&thread, NULL, watch, &b), 0);
		l = late_ns(&b, &seed);
		pthread_join(thread, NULL);
		late = l > late ? l : late;
	}
	/* Turns of some milliseconds each, as for all others; not one second and more. */
	CHECK_LE(late / MS, 1000);
	api_check(b.p, NR, 1);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the preload notes of threads: while their memory is being taken, nobody runs who
 * was not named; and the notes do not become more than the threads there are.
 */
#define _GNU_SOURCE
#include "tests/test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

#include "preload/preload.h"

#define STARTERS 4
#define CROWD 8
#define NAMED_MAX 4096

/* Says that this process is of a tree. */
const char *preload_path(void)
{
	return "";
}

/* Who runs a function of the program: what pthread_self() says, or 0. */
static uintptr_t running[STARTERS][CROWD];
static int stop;
static uint64_t started;

static struct {
	uintptr_t at[NAMED_MAX];
	unsigned nr;
} named;

static void name(void *to, uintptr_t addr, size_t len)
{
	CHECK(to == &named);
	CHECK(len > 0 && named.nr < NAMED_MAX);
	named.at[named.nr++] = addr;
}

static bool is_named(uintptr_t self)
{
	unsigned i;

	for (i = 0; i < named.nr; i++)
		if (named.at[i] == self)
			return true;
	return false;
}

static void run(void *arg)
{
	uintptr_t *slot = arg;

	__atomic_store_n(slot, (uintptr_t)pthread_self(), __ATOMIC_SEQ_CST);
	usleep(__atomic_fetch_add(&started, 1, __ATOMIC_RELAXED) % 64);
	__atomic_store_n(slot, 0, __ATOMIC_SEQ_CST);
}

static void *run_posix(void *arg)
{
	run(arg);
	return arg;
}

static int run_c11(void *arg)
{
	run(arg);
	return 7;
}

static void *start_crowds(void *arg)
{
	uintptr_t *slot = arg;
	pthread_t posix[CROWD];
	thrd_t c11[CROWD];
	void *result;
	int i, r;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		for (i = 0; i < CROWD; i++)
			if (i & 1)
				CHECK_EQ(thrd_create(&c11[i], run_c11, &slot[i]),
					 thrd_success);
			else
				CHECK_EQ(pthread_create(&posix[i], NULL, run_posix,
							&slot[i]),
					 0);
		for (i = 0; i < CROWD; i++)
			if (i & 1) {
				CHECK_EQ(thrd_join(c11[i], &r), thrd_success);
				CHECK_EQ(r, 7);
			} else {
				CHECK_EQ(pthread_join(posix[i], &result), 0);
				CHECK(result == &slot[i]);
			}
	}
	return NULL;
}

/* What is taken is somewhere in [start, end). */
static void take_once(uintptr_t start, uintptr_t end)
{
	int i, j;

	named.nr = 0;
	threads_hold(NULL, start, end, name, &named);
	usleep(20);
	for (i = 0; i < STARTERS; i++)
		for (j = 0; j < CROWD; j++) {
			uintptr_t self = __atomic_load_n(&running[i][j],
							 __ATOMIC_SEQ_CST);

			if (self && self >= start && self < end)
				CHECK(is_named(self));
		}
	threads_release(NULL);
}

TEST(nobody_runs_who_was_not_named, .timeout_s = 60)
{
	pthread_t starter[STARTERS];
	time_t end = time(NULL) + 3;
	int i;

	for (i = 0; i < STARTERS; i++)
		CHECK_EQ(pthread_create(&starter[i], NULL, start_crowds, running[i]), 0);
	/* Where processors are scarce fewer threads come in the same time. */
	while (time(NULL) < end || __atomic_load_n(&started, __ATOMIC_RELAXED) <= 100)
		take_once(0, UINTPTR_MAX / 2);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < STARTERS; i++)
		CHECK_EQ(pthread_join(starter[i], NULL), 0);
	CHECK(started > 100, "%ju threads", (uintmax_t)started);
	/* 36 at a time; of those that have ended some notes are left. */
	CHECK_LE(named.nr, 128);
}

static void *until_told(void *arg)
{
	while (!__atomic_load_n((int *)arg, __ATOMIC_ACQUIRE))
		usleep(1000);
	return NULL;
}

TEST(hundreds_of_threads)
{
	enum { MANY = 400 }; /* valgrind has room for 500 */
	static pthread_t thread[MANY];
	int told = 0, i;

	for (i = 0; i < MANY; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, until_told, &told), 0);
	usleep(200000);
	named.nr = 0;
	threads_hold(NULL, 0, UINTPTR_MAX / 2, name, &named);
	threads_release(NULL);
	for (i = 0; i < MANY; i++)
		CHECK(is_named((uintptr_t)thread[i]));
	__atomic_store_n(&told, 1, __ATOMIC_RELEASE);
	for (i = 0; i < MANY; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

static void *at_once(void *arg)
{
	return arg;
}

TEST(notes_do_not_become_more_than_there_are_threads)
{
	enum { STAY = 100, COME = 3000 };
	static pthread_t thread[STAY];
	pthread_t other;
	int told = 0, i;

	for (i = 0; i < STAY; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, until_told, &told), 0);
	for (i = 0; i < COME; i++) {
		CHECK_EQ(pthread_create(&other, NULL, at_once, NULL), 0);
		CHECK_EQ(pthread_join(other, NULL), 0);
	}
	named.nr = 0;
	threads_hold(NULL, 0, UINTPTR_MAX / 2, name, &named);
	threads_release(NULL);
	CHECK_GE(named.nr, STAY);
	CHECK_LE(named.nr, 4 * STAY);
	__atomic_store_n(&told, 1, __ATOMIC_RELEASE);
	for (i = 0; i < STAY; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

static void *fork_once(void *arg)
{
	pid_t pid = fork();
	int status;

	(void)arg;
	if (pid == 0) {
		threads_after_fork();
		named.nr = 0;
		threads_hold(NULL, 0, UINTPTR_MAX / 2, name, &named);
		threads_release(NULL);
		_exit(named.nr == 1 && is_named((uintptr_t)pthread_self()) ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	return NULL;
}

TEST(in_a_forked_child_only_who_forked_is_left)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, fork_once, NULL), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

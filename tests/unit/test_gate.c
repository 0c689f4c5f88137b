/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate: who closes it is alone; what a forked child inherits of it is closed or open,
 * and has nobody inside.
 */
#include "tests/test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/gate.h"

#define THREADS 4
#define FORKS 200
#define ROUNDS 20000

static struct gate gate;
static uint64_t pair[2]; /* the same, but for who holds the gate closed */
static uint32_t stop;

static void *come_and_go(void *arg)
{
	uint64_t *visits = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		unsigned shard = gate_enter(&gate);

		CHECK_EQ(__atomic_load_n(&pair[0], __ATOMIC_RELAXED),
			 __atomic_load_n(&pair[1], __ATOMIC_RELAXED));
		gate_leave(&gate, shard);
		__atomic_fetch_add(visits, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static struct {
	pthread_t thread[THREADS];
	uint64_t visits[THREADS];
} others;

static void start_others(void)
{
	int i;

	gate = (struct gate){ 0 };
	stop = 0;
	for (i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&others.thread[i], NULL, come_and_go,
					&others.visits[i]),
			 0);
	for (i = 0; i < THREADS; i++)
		while (!__atomic_load_n(&others.visits[i], __ATOMIC_RELAXED))
			usleep(100);
}

static void join_others(void)
{
	int i;

	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < THREADS; i++)
		pthread_join(others.thread[i], NULL);
}

TEST(who_closes_it_is_alone)
{
	int i;

	start_others();
	for (i = 0; i < ROUNDS; i++) {
		gate_close(&gate);
		__atomic_fetch_add(&pair[0], 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&pair[1], 1, __ATOMIC_RELAXED);
		gate_open(&gate);
	}
	join_others();
}

static void child(void)
{
	unsigned shard;

	gate_after_fork(&gate, true);
	CHECK(!gate_try_enter(&gate, &shard));
	gate_open(&gate);
	gate_close(&gate);
	gate_open(&gate);
	shard = gate_enter(&gate);
	gate_leave(&gate, shard);
	_exit(0);
}

/* The parent's are at the door, and some count themselves in to find it closed. */
TEST(a_child_has_nobody_inside, .timeout_s = 60)
{
	int i, forks = test_instrument() ? FORKS / 20 : FORKS, status;

	start_others();
	for (i = 0; i < forks; i++) {
		pid_t pid;

		gate_close(&gate);
		pid = fork();
		if (pid == 0)
			child();
		gate_open(&gate);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
	join_others();
}

/* And one that was inside, in a gate that nobody has closed. */
TEST(a_child_does_not_wait_for_who_was_inside)
{
	int status;
	pid_t pid;

	gate = (struct gate){ 0 };
	(void)gate_enter(&gate);
	pid = fork();
	if (pid == 0) {
		gate_after_fork(&gate, false);
		gate_close(&gate);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

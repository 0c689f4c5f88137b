/* SPDX-License-Identifier: Apache-2.0 */
/*
 * threads SECONDS MIB CROWD: threads that begin and end while memory comes and goes.
 *
 * When a thread ends, the kernel writes to its memory and cannot wait for a fault: what
 * is not there then is not written, and who joins the thread waits for ever. One thread
 * writes and reads MIB again and again. Others start CROWD threads at a time and join
 * them; half of these tell the kernel of another robust list, as some programs do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STARTERS 3
#define PAGE 4096
#define LOST_S 30
#define PAUSE_NS 2000000

static struct {
	bool stop;
	size_t size;
	unsigned crowd;
	uint32_t started;
} state;

static void fail(const char *what, int error)
{
	printf("threads: %s: %s\n", what, strerror(error));
	fflush(stdout);
	_exit(1);
}

static bool stopped(void)
{
	return __atomic_load_n(&state.stop, __ATOMIC_RELAXED);
}

static void *write_and_read(void *arg)
{
	unsigned char *p = malloc(state.size), round = 0;
	size_t i;

	if (!p)
		fail("malloc", ENOMEM);
	while (!stopped()) {
		round++;
		for (i = 0; i < state.size; i += PAGE)
			p[i] = round;
		for (i = 0; i < state.size; i += PAGE)
			if (p[i] != round)
				fail("memory that was written is not there", EIO);
	}
	free(p);
	return arg;
}

/* Waits a little, so that its memory has time to be taken. */
static void *one(void *arg)
{
	uint32_t n = __atomic_fetch_add(&state.started, 1, __ATOMIC_RELAXED);
	struct timespec pause = { .tv_nsec = n * 7919L % PAUSE_NS };
	struct robust_list_head *head = arg;

	if (n & 1) {
		*head = (struct robust_list_head){ .list.next = &head->list };
		syscall(SYS_set_robust_list, head, sizeof(*head));
	}
	nanosleep(&pause, NULL);
	return arg;
}

static void *start_crowds(void *arg)
{
	pthread_t *thread = calloc(state.crowd, sizeof(*thread));
	struct robust_list_head *list = calloc(state.crowd, sizeof(*list));
	struct timespec until;
	void *result;
	unsigned i;
	int r;

	if (!thread || !list)
		fail("calloc", ENOMEM);
	while (!stopped()) {
		for (i = 0; i < state.crowd; i++) {
			r = pthread_create(&thread[i], NULL, one, &list[i]);
			if (r)
				fail("pthread_create", r);
		}
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += LOST_S;
		for (i = 0; i < state.crowd; i++) {
			r = pthread_timedjoin_np(thread[i], &result, &until);
			if (r)
				fail("a thread that has ended cannot be joined", r);
			if (result != &list[i])
				fail("a thread returned something else", EIO);
		}
	}
	free(list);
	free(thread);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t writer, starter[STARTERS];
	int i;

	if (argc != 4)
		return 2;
	state.size = (size_t)atol(argv[2]) << 20;
	state.crowd = (unsigned)atoi(argv[3]);
	if (pthread_create(&writer, NULL, write_and_read, NULL))
		fail("pthread_create", errno);
	for (i = 0; i < STARTERS; i++)
		if (pthread_create(&starter[i], NULL, start_crowds, NULL))
			fail("pthread_create", errno);
	sleep((unsigned)atoi(argv[1]));
	__atomic_store_n(&state.stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < STARTERS; i++)
		pthread_join(starter[i], NULL);
	pthread_join(writer, NULL);
	puts("all joined");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placed [-m MIB] [-n ACCESSES]: threads that fault hard find their affinity unchanged.
 *
 * Two threads read and write pages at random. After every page each looks where it may
 * run, and now and then starts a thread or a child that does, because that inherits what
 * its maker has at that moment. Ends with 1 at the first wrong word or mask.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stamp.h"

static cpu_set_t all;
static size_t pages = 64 * MIB / PAGE, accesses = 100000;
static uint64_t *memory;
static uint8_t *version;

static void check_mask(const char *who)
{
	cpu_set_t now;

	CPU_ZERO(&now);
	if (sched_getaffinity(0, sizeof(now), &now) || !CPU_EQUAL(&now, &all)) {
		fprintf(stderr, "placed: a %s may run on %d of %d processors\n", who,
			CPU_COUNT(&now), CPU_COUNT(&all));
		_exit(1);
	}
}

static void *started(void *arg)
{
	check_mask("new thread");
	return arg;
}

static void start(bool thread)
{
	pthread_t id;
	int status;
	pid_t pid;

	if (thread) {
		if (pthread_create(&id, NULL, started, NULL) == 0)
			pthread_join(id, NULL);
		return;
	}
	pid = fork();
	if (pid == 0) {
		check_mask("child");
		_exit(0);
	}
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != 0))
		_exit(1);
}

static uint64_t key(size_t page)
{
	return (uint64_t)page << 8 | version[page];
}

static void *touch(void *arg)
{
	size_t half = (size_t)arg;
	struct rng rng = { half + 1 };

	for (size_t n = 0; n < accesses; n++) {
		size_t p = rng_below(&rng, pages / 2) * 2 + half;
		uint64_t *page = memory + p * PAGE_WORDS;
		size_t i = rng_below(&rng, PAGE_WORDS);

		if (*(volatile uint64_t *)&page[i] != stamp_word(key(p), i)) {
			fprintf(stderr, "placed: page %zu word %zu is wrong\n", p, i);
			_exit(1);
		}
		check_mask("thread");
		if (n % 16 == 0) {
			version[p]++;
			stamp_fill(page, key(p));
		}
		if (n % 500 == 0)
			start(n % 1000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t id[2];
	int o;

	while ((o = getopt(argc, argv, "m:n:")) != -1) {
		if (o == 'm')
			pages = strtoull(optarg, NULL, 10) * MIB / PAGE;
		else if (o == 'n')
			accesses = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	memory = aligned_alloc(PAGE, pages * PAGE);
	version = malloc(pages);
	if (!memory || !version || sched_getaffinity(0, sizeof(all), &all))
		return 2;
	memset(version, 1, pages);
	for (size_t p = 0; p < pages; p++)
		stamp_fill(memory + p * PAGE_WORDS, key(p));
	/* One alone first: where only one thread faults others are placed with it. */
	touch((void *)0);
	for (size_t i = 0; i < 2; i++)
		if (pthread_create(&id[i], NULL, touch, (void *)i))
			return 2;
	for (size_t i = 0; i < 2; i++)
		pthread_join(id[i], NULL);
	printf("placed: %zu pages, affinity unchanged\n", pages);
	return 0;
}

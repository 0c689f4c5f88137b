/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run by `uhmm run` in less memory than it takes.
 *
 * Forks in the midst of faults: by a thread that has the program's descriptors and none
 * of the library's, while pages come back from frames, and groups of frames empty out.
 */
#include "api.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR ((size_t)12500)
#define FORKS 250
#define CHILDS_PAGES 32

static char *memory;
static bool stop; /* atomic */

static void touch_at_random(unsigned times, unsigned *seed)
{
	for (; times; times--) {
		size_t i = (size_t)rand_r(seed) % NR;

		api_check(memory + i * PAGE, 1, 1 + i);
	}
}

/* Two of them: all of ours are on one processor where it is one that faults. */
static void *touch(void *arg)
{
	unsigned seed = *(unsigned *)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		touch_at_random(64, &seed);
	return NULL;
}

static void fork_once(unsigned seed)
{
	int status;
	pid_t pid = fork();

	CHECK_GE(pid, 0);
	if (pid == 0) {
		touch_at_random(CHILDS_PAGES, &seed);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}

TEST(who_forks_while_others_fault_touches_no_frames)
{
	unsigned seed[2] = { 1, 2 }, i;
	pthread_t thread[2];

	if (test_instrument())
		SKIP("%s alone takes the budget", test_instrument());
	memory = api_map(NR);
	api_fill(memory, NR, 1);
	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, touch, &seed[i]), 0);
	for (i = 0; i < FORKS; i++)
		fork_once(3 + i);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fewer operations: what of a failing seed's program is enough for the failure.
 *
 * Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
 * input", 2002): parts of the list of operations are left out, large ones first, and what
 * still fails is kept. What an operation does is a function of its number alone, but who
 * is when at work changes as soon as one is left out: so a few schedules are tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/program.h"

#define OPERATIONS_MAX 2048u
#define SCHEDULES 6u
/* A run that takes longer proves nothing; all together may take so long. */
#define RUN_SECONDS 20u
#define SHRINK_SECONDS 90

struct list {
	unsigned nr;
	uint32_t id[OPERATIONS_MAX];
};

static struct shared {
	struct list only;
	bool chosen; /* nothing but those */
	/* What was done, in order. */
	struct list done;
	unsigned process[OPERATIONS_MAX];
	char name[OPERATIONS_MAX][12];
} * shared;

static void share(void)
{
	if (shared)
		return;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
}

static bool has(const struct list *list, uint32_t id)
{
	unsigned i;

	for (i = 0; i < list->nr; i++)
		if (list->id[i] == id)
			return true;
	return false;
}

bool shrink_wants(uint32_t id, const char *name)
{
	unsigned n;

	if (!shared)
		return true;
	if (shared->chosen && !has(&shared->only, id))
		return false;
	n = shared->done.nr;
	if (n < OPERATIONS_MAX) {
		shared->done.id[n] = id;
		shared->process[n] = sim_process();
		snprintf(shared->name[n], sizeof(shared->name[n]), "%s", name);
		shared->done.nr++;
	}
	return true;
}

bool shrink_only(const char *list)
{
	char *end;

	share();
	shared->chosen = true;
	if (!strcmp(list, "none"))
		return true;
	while (*list && shared->only.nr < OPERATIONS_MAX) {
		errno = 0;
		shared->only.id[shared->only.nr++] = (uint32_t)strtoul(list, &end, 16);
		if (end == list || errno || (*end && *end != ','))
			return false;
		list = *end ? end + 1 : end;
	}
	return !*list;
}

/* ---- trying ----------------------------------------------------------------------- */

struct attempt {
	uint64_t seed;
	void (*run)(uint64_t seed, uint32_t schedule);
	struct timespec until;
	uint32_t schedule; /* of the last one that failed */
	struct list enough;
};

static bool time_is_up(const struct attempt *a)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec >= a->until.tv_sec;
}

/* Does the seed fail with this schedule, doing what shared->only says? */
static bool fails_with(const struct attempt *a, uint32_t schedule)
{
	int status = 0, null;
	pid_t pid = fork();

	if (pid == 0) {
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null, STDERR_FILENO);
		dup2(null, STDOUT_FILENO);
		signal(SIGALRM, SIG_DFL);
		alarm(RUN_SECONDS);
		shared->done.nr = 0;
		a->run(a->seed, schedule);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	return WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) != SIGALRM;
}

/* The first schedule is the one that it failed with before. */
static bool fails(struct attempt *a)
{
	uint32_t i, schedule;

	for (i = 0; i < SCHEDULES && !time_is_up(a); i++) {
		schedule = (a->schedule + i) % SCHEDULES;
		if (fails_with(a, schedule)) {
			a->schedule = schedule;
			return true;
		}
	}
	return false;
}

/* Without those in [from, from + nr): true if it fails still, and they are gone. */
static bool leave_out(struct attempt *a, unsigned from, unsigned nr)
{
	struct list *only = &shared->only, *enough = &a->enough;
	unsigned i;

	shared->chosen = true;
	only->nr = 0;
	for (i = 0; i < enough->nr; i++)
		if (i < from || i >= from + nr)
			only->id[only->nr++] = enough->id[i];
	if (!fails(a))
		return false;
	/* Some may not have been come to. */
	*enough = shared->done;
	return true;
}

static void minimize(struct attempt *a)
{
	unsigned part = a->enough.nr / 2, at;
	bool any;

	while (part && !time_is_up(a)) {
		any = false;
		for (at = 0; at < a->enough.nr && !time_is_up(a);) {
			if (leave_out(a, at, part))
				any = true;
			else
				at += part;
		}
		if (part == 1 && !any)
			break;
		part = part > 1 ? part / 2 : 1;
	}
}

/* ---- saying ----------------------------------------------------------------------- */

static void print(struct attempt *a, unsigned before)
{
	struct list *list = &shared->only;
	unsigned i;

	*list = a->enough;
	if (!fails_with(a, a->schedule))
		return;
	printf("# %u of %u operations are enough:\n", list->nr, before);
	for (i = 0; i < shared->done.nr; i++)
		printf("#   process %u: %s\n", shared->process[i], shared->name[i]);
	printf("# replay: test_sim --seed %lu --schedule %u --only ", a->seed,
	       a->schedule);
	for (i = 0; i < list->nr; i++)
		printf("%s%x", i ? "," : "", list->id[i]);
	printf("%s --trace\n", list->nr ? "" : "none");
	fflush(stdout);
}

void shrink(uint64_t seed, void (*run)(uint64_t seed, uint32_t schedule))
{
	struct attempt a = { .seed = seed, .run = run };
	unsigned before;

	share();
	clock_gettime(CLOCK_MONOTONIC, &a.until);
	a.until.tv_sec += SHRINK_SECONDS;
	shared->chosen = false;
	if (!fails_with(&a, 0))
		return;
	a.enough = shared->done;
	before = a.enough.nr;
	minimize(&a);
	shared->chosen = true;
	print(&a, before);
}

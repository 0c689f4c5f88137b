/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many seeds: in child processes, so that a seed that ends its process is one failure,
 * and as many at a time as there are to be. See program.h.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/program.h"

#define JOBS_MAX 256u
/* Seeds of a child: fewer towards the end, so that all are done at the same time. */
#define BATCH_MIN 20u
#define BATCH_MAX 250u

struct slot {
	pid_t pid; /* 0: free */
	uint64_t from, end;
	uint64_t *running; /* the seed that it is at; shared with it */
	int log;           /* what it said last */
};

struct batches {
	const struct batch *what;
	struct slot slot[JOBS_MAX];
	unsigned jobs;
	uint64_t next, end;
	struct slot *failed; /* of those that failed the one with the least seed */
	unsigned nr_failed;
};

static void start(struct batches *b, struct slot *s)
{
	uint64_t seed;

	if (ftruncate(s->log, 0) || lseek(s->log, 0, SEEK_SET) < 0) {
		perror("a log of seeds");
		exit(1);
	}
	fflush(stdout);
	s->pid = fork();
	if (s->pid < 0) {
		perror("fork");
		exit(1);
	}
	if (s->pid)
		return;
	dup2(s->log, STDERR_FILENO);
	for (seed = s->from; seed < s->end; seed++) {
		*s->running = seed;
		b->what->run(seed);
	}
	_exit(0);
}

static void start_next(struct batches *b, struct slot *s)
{
	uint64_t left = b->end - b->next, nr = left / (2 * b->jobs);

	nr = nr < BATCH_MIN ? BATCH_MIN : nr;
	nr = nr > BATCH_MAX ? BATCH_MAX : nr;
	s->from = b->next;
	s->end = b->next + (nr < left ? nr : left);
	b->next = s->end;
	start(b, s);
}

static void failed(struct batches *b, struct slot *s)
{
	b->nr_failed++;
	if (!b->what->go_on) {
		b->next = b->end;
		if (!b->failed || *s->running < *b->failed->running)
			b->failed = s;
		return;
	}
	b->what->failed(*s->running, s->from, s->log);
	s->from = *s->running + 1;
	if (s->from < s->end)
		start(b, s);
}

/* A child has ended. False: there is none. */
static bool wait_one(struct batches *b)
{
	int status;
	pid_t pid = wait(&status);
	unsigned i;

	if (pid < 0)
		return false;
	for (i = 0; i < b->jobs && b->slot[i].pid != pid; i++)
		;
	if (i == b->jobs)
		return true;
	b->slot[i].pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		failed(b, &b->slot[i]);
	return true;
}

static void make_slots(struct batches *b)
{
	uint64_t *running = mmap(NULL, JOBS_MAX * sizeof(*running),
				 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
				 0);
	unsigned i;

	if (running == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	for (i = 0; i < b->jobs; i++)
		b->slot[i] = (struct slot){ .running = &running[i],
					    .log = memfd_create("seeds", MFD_CLOEXEC) };
}

const char *batch_last_line(int log, char *buf, size_t size)
{
	off_t end = lseek(log, 0, SEEK_END), room = (off_t)size - 1;
	ssize_t n = pread(log, buf, size - 1, end < room ? 0 : end - room);
	const char *line;

	buf[n > 0 ? n : 0] = 0;
	if (n > 0 && buf[n - 1] == '\n')
		buf[n - 1] = 0;
	line = strrchr(buf, '\n');
	return line ? line + 1 : buf;
}

unsigned batch_run(const struct batch *what)
{
	static struct batches b;
	unsigned i;

	b = (struct batches){ .what = what,
			      .jobs = what->jobs < JOBS_MAX ? what->jobs : JOBS_MAX,
			      .next = what->from,
			      .end = what->from + what->nr };
	make_slots(&b);
	do
		for (i = 0; i < b.jobs && b.next < b.end; i++)
			if (!b.slot[i].pid)
				start_next(&b, &b.slot[i]);
	while (wait_one(&b));
	if (b.failed)
		what->failed(*b.failed->running, b.failed->from, b.failed->log);
	for (i = 0; i < b.jobs; i++)
		close(b.slot[i].log);
	munmap(b.slot[0].running, JOBS_MAX * sizeof(uint64_t));
	return b.nr_failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * populate [-m MIB] [-n CHILDREN]: memory that is filled by one system call.
 *
 * Each child maps MIB: with MAP_POPULATE, or plainly and then populated for reading or
 * for writing, or read page by page. All must be zeros. Then each word is written and
 * checked twice. What was populated for reading has the kernel's zero page everywhere, so
 * writing takes memory without a fault that userfaultfd sees. Where it is locked, which
 * fills it too, that is three eighths of MIB, and the rest was written before. Ends with
 * 1 at the first wrong word.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raw.h"
#include "stamp.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static const char *const way[] = { "MAP_POPULATE",        "MADV_POPULATE_READ",
				   "MADV_POPULATE_WRITE", "reads",
				   "MAP_LOCKED",          "mlock" };
#define WAYS (sizeof(way) / sizeof(way[0]))
#define LOCKED 4 /* the first that locks */

static uint64_t *map(size_t len, unsigned how)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (how == 0 ? MAP_POPULATE : 0) |
		    (how == LOCKED ? MAP_LOCKED : 0);
	uint64_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);

	/* Who may not lock so much is told so; nothing is tested then. */
	if (p == MAP_FAILED && how == LOCKED && (errno == EPERM || errno == EAGAIN))
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags & ~MAP_LOCKED, -1, 0);
	if (p == MAP_FAILED) {
		perror("populate: mmap");
		exit(1);
	}
	/* Where the kernel does not know it (before Linux 5.14) nothing is tested. */
	if (how == 1)
		madvise(p, len, MADV_POPULATE_READ);
	if (how == 2)
		madvise(p, len, MADV_POPULATE_WRITE);
	if (how == LOCKED + 1)
		mlock(p, len);
	return p;
}

/* Seven of eight words repeat nearby, so that pages compress as data does. */
static uint64_t value(uint64_t key, size_t i)
{
	return key ? mix64(key << 48 ^ (i % 8 ? i / 512 : i)) : 0;
}

static void check(const uint64_t *p, size_t nr, size_t step, uint64_t key, unsigned how)
{
	for (size_t i = 0; i < nr; i += step) {
		uint64_t found = *(const volatile uint64_t *)&p[i];

		if (found == value(key, i))
			continue;
		fprintf(stderr, "populate: %s: word %zu should be %016llx, is %016llx\n",
			way[how], i, (unsigned long long)value(key, i),
			(unsigned long long)found);
		exit(1);
	}
}

static void write_all(uint64_t *p, size_t nr, uint64_t key)
{
	for (size_t i = 0; i < nr; i++)
		p[i] = value(key, i);
}

static void child(size_t len, unsigned how)
{
	size_t locked = how >= LOCKED ?
				len / 8 * 3 & ~(PAGE_WORDS * sizeof(uint64_t) - 1) :
				len;
	size_t nr = locked / sizeof(uint64_t),
	       nr_cold = (len - locked) / sizeof(uint64_t);
	uint64_t *cold = nr_cold ? map(len - locked, LOCKED - 1) : NULL, *p;

	write_all(cold, nr_cold, 4);
	p = map(locked, how);
	check(p, nr, PAGE_WORDS, 0, how);
	for (uint64_t key = 1; key <= 2; key++) {
		write_all(p, nr, key);
		check(p, nr, 1, key, how);
	}
	check(cold, nr_cold, 1, 4, how);
	munmap(p, locked);
	if (cold)
		munmap(cold, len - locked);
	/* As much at the same place: not the same mapping. */
	nr = len / sizeof(uint64_t);
	p = map(len, 1);
	check(p, nr, PAGE_WORDS, 0, 1);
	write_all(p, nr, 3);
	check(p, nr, 1, 3, 1);
}

/*
 * In the child of a raw clone nobody of uhmm's is there to be waited for. 8 MiB take a
 * few milliseconds; a look that was waited for in vain took a second.
 */
static void raw_child(void)
{
	int status = 0;
	pid_t pid = raw_fork();

	if (pid == 0) {
		struct timespec from, to;

		clock_gettime(CLOCK_MONOTONIC, &from);
		map(8 * MIB, 0);
		clock_gettime(CLOCK_MONOTONIC, &to);
		_exit((to.tv_sec - from.tv_sec) * 1000 +
			      (to.tv_nsec - from.tv_nsec) / 1000000 >
		      700);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "populate: the child of a raw clone ended with %x\n",
			status);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	size_t mib = 96;
	unsigned nr = WAYS;
	int opt, status = 0;

	while ((opt = getopt(argc, argv, "m:n:")) != -1) {
		if (opt == 'm')
			mib = strtoul(optarg, NULL, 0);
		else if (opt == 'n')
			nr = (unsigned)strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	for (unsigned i = 0; i < nr; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			child(mib << 20, i % WAYS);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
			fprintf(stderr, "populate: a child ended with %x\n", status);
			return 1;
		}
		printf("%s: as it should be\n", way[i % WAYS]);
	}
	raw_child();
	return 0;
}

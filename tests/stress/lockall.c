/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lockall -m MIB: a program that locks all of its memory.
 *
 * It fills half of MIB, locks everything by mlockall(), unlocks it, fills the other half,
 * and locks everything with MCL_FUTURE in a child that fills as much again. Another child
 * does the first by the bare system call. What was written stays; and but for that last
 * child no more memory is anonymous and resident than what was written, some MiB aside:
 * uhmm's own is not filled. In the end it locks something that was filled first, and has
 * it grow and move, which the kernel tells of when it has filled what is new.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stamp.h"

#define OTHERS_KIB (24l << 10)
#define GROWS ((size_t)8 << 20)

static void fail(const char *what, long n)
{
	fprintf(stderr, "lockall: %s: %ld\n", what, n);
	exit(1);
}

static void lock_all(int flags)
{
	/* Who may not lock so much is told so; then nothing is tested. */
	if (mlockall(flags))
		munlockall();
}

static uint64_t *fill(size_t nr, uint64_t key)
{
	uint64_t *p = malloc(nr * sizeof(*p));

	if (!p)
		fail("no memory, words", (long)nr);
	for (size_t i = 0; i < nr; i++)
		p[i] = mix64(key + i / 16);
	return p;
}

static void check(const uint64_t *p, size_t nr, uint64_t key)
{
	for (size_t i = 0; i < nr; i++)
		if (p[i] != mix64(key + i / 16))
			fail("wrong word", (long)i);
}

static void check_resident(size_t nr)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[128];
	long kib = 0;

	while (file && fgets(line, sizeof(line), file) &&
	       sscanf(line, "RssAnon: %ld", &kib) != 1)
		;
	if (file)
		fclose(file);
	if (kib > (long)(nr * sizeof(uint64_t) >> 10) + OTHERS_KIB)
		fail("more is resident than was written, KiB", kib);
}

static void in_child(const uint64_t *a, size_t nr, bool raw)
{
	uint64_t *p;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (raw)
			syscall(SYS_mlockall, MCL_CURRENT);
		else
			lock_all(MCL_CURRENT | MCL_FUTURE);
		check(a, nr, 1);
		/* Uhmm has to get rid of what was filled first, and that takes time. */
		nr = raw ? nr / 8 : nr;
		p = fill(nr, 3);
		check(p, nr, 3);
		if (!raw)
			check_resident(3 * nr + GROWS / sizeof(*a));
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fail("a child ended with", status);
}

/* Nothing can be mapped behind it: it has to move if it is to grow. */
static uint64_t *fill_enclosed(void)
{
	char *p = mmap(NULL, GROWS + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p, GROWS, PROT_READ | PROT_WRITE))
		fail("no memory, bytes", (long)GROWS);
	for (size_t i = 0; i < GROWS / sizeof(uint64_t); i++)
		((uint64_t *)p)[i] = mix64(4 + i / 16);
	return (uint64_t *)p;
}

static void grow_locked(uint64_t *p)
{
	size_t nr = GROWS / sizeof(*p);

	if (mlock(p, GROWS))
		return;
	p = mremap(p, GROWS, 2 * GROWS, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		fail("mremap of what is locked", 0);
	check(p, nr, 4);
	for (size_t i = nr; i < 2 * nr; i++)
		if (p[i])
			fail("what is new is not empty at word", (long)i);
	/* In one piece, it can be moved again. */
	p = mremap(p, 2 * GROWS, 4 * GROWS, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		fail("mremap, once more", 0);
	check(p, nr, 4);
	munmap(p, 4 * GROWS);
}

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoull(argv[2], NULL, 10) * MIB / sizeof(uint64_t) / 2 :
				0;
	uint64_t *a, *b, *enclosed;

	if (!nr) {
		fputs("usage: lockall -m MIB\n", stderr);
		return 2;
	}
	enclosed = fill_enclosed();
	a = fill(nr, 1);
	lock_all(MCL_CURRENT);
	check_resident(nr + GROWS / sizeof(*a));
	check(a, nr, 1);
	munlockall();
	b = fill(nr, 2);
	check(a, nr, 1);
	in_child(a, nr, false);
	in_child(a, nr, true);
	check(a, nr, 1);
	check(b, nr, 2);
	grow_locked(enclosed);
	puts("all is as it was written");
	return 0;
}

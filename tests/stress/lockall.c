/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lockall -m MIB: a program that locks all of its memory.
 *
 * It fills half of MIB, locks everything by mlockall(), unlocks it, fills the other half,
 * and locks everything with MCL_FUTURE in a child that fills as much again. Another child
 * does the first by the bare system call. What was written stays; and but for that last
 * child no more memory is anonymous and resident than what was written, some MiB aside:
 * uhmm's own is not filled.
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
			check_resident(3 * nr);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fail("a child ended with", status);
}

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoull(argv[2], NULL, 10) * MIB / sizeof(uint64_t) / 2 :
				0;
	uint64_t *a, *b;

	if (!nr) {
		fputs("usage: lockall -m MIB\n", stderr);
		return 2;
	}
	a = fill(nr, 1);
	lock_all(MCL_CURRENT);
	check_resident(nr);
	check(a, nr, 1);
	munlockall();
	b = fill(nr, 2);
	check(a, nr, 1);
	in_child(a, nr, false);
	in_child(a, nr, true);
	check(a, nr, 1);
	check(b, nr, 2);
	puts("all is as it was written");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard -m MIB: guards among memory that is migrated.
 *
 * MADV_GUARD_INSTALL makes pages inaccessible without making mappings of them, and
 * empties them. Every sixteenth page is one: in memory that was written before, and in
 * memory that is written afterwards, page after page. Then all others hold what was
 * written, each guard holds (write() of it fails with EFAULT), and what was a guard reads
 * as zeros. Where the kernel has no guards (before Linux 6.13) the pages are discarded
 * instead.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stamp.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define EVERY 16

static bool guards;
static int out[2];

static void fail(const char *what, size_t page)
{
	fprintf(stderr, "guard: page %zu: %s\n", page, what);
	exit(1);
}

static bool is_guard(size_t i)
{
	return i % EVERY == EVERY / 2;
}

static uint64_t *map(size_t nr)
{
	uint64_t *p = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("cannot be mapped", 0);
	return p;
}

static void write_all(uint64_t *p, size_t nr, uint64_t key, bool skip)
{
	for (size_t i = 0; i < nr; i++)
		for (size_t w = 0; w < PAGE_WORDS && !(skip && is_guard(i)); w++)
			p[i * PAGE_WORDS + w] = mix64(key + i + w / 8);
}

static void check_all(const uint64_t *p, size_t nr, uint64_t key)
{
	for (size_t i = 0; i < nr; i++)
		for (size_t w = 0; w < PAGE_WORDS && !is_guard(i); w++)
			if (p[i * PAGE_WORDS + w] != mix64(key + i + w / 8))
				fail("is not what was written", i);
}

static void set_guards(uint64_t *p, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (is_guard(i) && madvise(p + i * PAGE_WORDS, PAGE,
					   guards ? MADV_GUARD_INSTALL : MADV_DONTNEED))
			fail("cannot be guarded", i);
}

static void check_guards(uint64_t *p, size_t nr)
{
	for (size_t i = 0; i < nr && guards; i++)
		if (is_guard(i) &&
		    (write(out[1], p + i * PAGE_WORDS, 1) != -1 || errno != EFAULT))
			fail("is no guard any more", i);
}

static void remove_guards(uint64_t *p, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (!is_guard(i))
			continue;
		if (guards && madvise(p + i * PAGE_WORDS, PAGE, MADV_GUARD_REMOVE))
			fail("cannot be freed", i);
		for (size_t w = 0; w < PAGE_WORDS; w++)
			if (p[i * PAGE_WORDS + w])
				fail("was a guard and is not empty", i);
	}
}

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoull(argv[2], NULL, 10) * MIB / PAGE / 2 : 0;
	uint64_t *before, *after;

	if (!nr) {
		fputs("usage: guard -m MIB\n", stderr);
		return 2;
	}
	if (pipe(out))
		return 1;
	before = map(nr);
	after = map(nr);
	guards = madvise(after, PAGE, MADV_GUARD_INSTALL) == 0;
	if (guards)
		madvise(after, PAGE, MADV_GUARD_REMOVE);
	write_all(before, nr, 1, false);
	write_all(after, nr / 2, 2, false);
	/* The first half of it was written, and is written again after the guards. */
	set_guards(before, nr);
	set_guards(after, nr);
	write_all(after, nr, 3, true);
	check_all(before, nr, 1);
	check_all(after, nr, 3);
	check_guards(before, nr);
	check_guards(after, nr);
	remove_guards(before, nr);
	remove_guards(after, nr);
	check_all(before, nr, 1);
	check_all(after, nr, 3);
	puts("guards are as they should be");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is filled with words that follow from their places, so that whoever looks
 * at it needs to know nothing else. It compresses well.
 */
#ifndef STRESS_WORDS_H
#define STRESS_WORDS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static inline void words_fail(const char *what)
{
	perror(what);
	_exit(1);
}

static inline uint64_t word(size_t i)
{
	return i / 16 * UINT64_C(0x9e3779b97f4a7c15) >> 40;
}

/* Maps size bytes and fills them. */
static inline uint64_t *words_fill(size_t size)
{
	uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (p == MAP_FAILED)
		words_fail("mmap");
	for (i = 0; i < size / sizeof(*p); i++)
		p[i] = word(i);
	return p;
}

/* Is a word not as it was filled in? */
static inline int words_wrong(const uint64_t *p, size_t size)
{
	size_t i;

	for (i = 0; i < size / sizeof(*p); i++)
		if (p[i] != word(i))
			return 1;
	return 0;
}

/* Uses as much memory for a while, so that other memory gets cold. */
static inline void words_use(size_t size)
{
	uint64_t *p = words_fill(size);
	int pass;

	for (pass = 0; pass < 3; pass++)
		if (words_wrong(p, size))
			words_fail("memory that was written is not there");
	munmap(p, size);
}

#endif

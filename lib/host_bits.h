/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of small numbers that finds its least member in a few steps, however large: a
 * tree of words, 64 children each, where a bit says "something is set below".
 *
 * The words are the caller's, zeroed; a set of 2^28 numbers has five levels and takes
 * memory only where it was written. No lock in here: the caller has one.
 */
#ifndef UHMM_HOST_BITS_H
#define UHMM_HOST_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITS_LEVELS 5u /* 64^5 = 2^30 numbers */
#define BITS_NONE UINT32_MAX

struct bits {
	uint64_t *level[BITS_LEVELS]; /* [0]: one bit a number; the last is one word */
	uint32_t nr_levels;
};

/* Words that a set of nr numbers takes, all levels. */
static inline size_t bits_words(uint64_t nr)
{
	size_t words = 0;

	do {
		nr = (nr + 63) / 64;
		words += nr;
	} while (nr > 1);
	return words;
}

/* words: bits_words(nr) zeros. */
static inline void bits_init(struct bits *bits, uint64_t nr, uint64_t *words)
{
	bits->nr_levels = 0;
	do {
		nr = (nr + 63) / 64;
		bits->level[bits->nr_levels++] = words;
		words += nr;
	} while (nr > 1);
}

static inline bool bits_test(const struct bits *bits, uint32_t i)
{
	return bits->level[0][i / 64] >> (i % 64) & 1;
}

static inline void bits_set(struct bits *bits, uint32_t i)
{
	uint32_t l;

	for (l = 0; l < bits->nr_levels; l++, i /= 64) {
		uint64_t *word = &bits->level[l][i / 64];
		bool known = *word != 0;

		*word |= UINT64_C(1) << (i % 64);
		if (known)
			return;
	}
}

static inline void bits_clear(struct bits *bits, uint32_t i)
{
	uint32_t l;

	for (l = 0; l < bits->nr_levels; l++, i /= 64) {
		uint64_t *word = &bits->level[l][i / 64];

		*word &= ~(UINT64_C(1) << (i % 64));
		if (*word)
			return;
	}
}

/* The least member, or BITS_NONE. */
static inline uint32_t bits_first(const struct bits *bits)
{
	uint32_t i = 0, l = bits->nr_levels;

	while (l-- > 0) {
		uint64_t word = bits->level[l][i];

		if (!word)
			return BITS_NONE; /* only ever at the top */
		i = i * 64 + (uint32_t)__builtin_ctzll(word);
	}
	return i;
}

#endif

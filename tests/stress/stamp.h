/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents that can be checked without being kept.
 *
 * A page is named by a key; word i of it follows from key and i. So whoever knows which
 * key a page was last written with can tell each of its bytes, and can say of a wrong
 * page which key it holds instead. Key 0 is a page of zeros, never written.
 *
 * Keys come in kinds, so that a compressing device sees all of them: of eight pages one
 * is incompressible, two are filled with one word, five compress about 5:1. A mean page
 * takes a quarter of its size.
 *
 * Header only, pure functions, any thread.
 */
#ifndef STRESS_STAMP_H
#define STRESS_STAMP_H

#include <stddef.h>
#include <stdint.h>

#define PAGE ((size_t)4096)
#define PAGE_WORDS (PAGE / sizeof(uint64_t))
#define MIB ((size_t)1 << 20)

/* Invertible, and no two inputs near each other have outputs near each other. */
static inline uint64_t mix64(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state += UINT64_C(0x9e3779b97f4a7c15);
	return mix64(rng->state);
}

/* [0, limit); limit > 0 */
static inline uint64_t rng_below(struct rng *rng, uint64_t limit)
{
	return rng_next(rng) % limit;
}

static inline uint64_t stamp_word(uint64_t key, size_t i)
{
	uint64_t m;

	if (!key)
		return 0;
	m = mix64(key);
	switch (m & 7) {
	case 0:
		return mix64(m + i);
	case 1:
	case 2:
		return m;
	default:
		return i % 8 ? m : mix64(m ^ (i << 8));
	}
}

static inline void stamp_fill(void *page, uint64_t key)
{
	volatile uint64_t *words = page;

	for (size_t i = 0; i < PAGE_WORDS; i++)
		words[i] = stamp_word(key, i);
}

/* The first word that differs, or PAGE_WORDS. */
static inline size_t stamp_check(const void *page, uint64_t key)
{
	const volatile uint64_t *words = page;

	for (size_t i = 0; i < PAGE_WORDS; i++)
		if (words[i] != stamp_word(key, i))
			return i;
	return PAGE_WORDS;
}

#endif

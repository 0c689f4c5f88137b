/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of pages as programs have them, and as devices find them hard: see content.h.
 */
#include "tests/device/content.h"

#include <string.h>

uint64_t content_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static void words(uint8_t *page, uint64_t word)
{
	size_t i;

	for (i = 0; i < UHMM_PAGE_SIZE; i += 8)
		memcpy(page + i, &word, 8);
}

static void random_bytes(uint8_t *page, size_t len, uint64_t seed)
{
	size_t i;

	for (i = 0; i < len; i += 8) {
		uint64_t word = content_mix(seed + i);

		memcpy(page + i, &word, 8);
	}
}

/* Small numbers and pointers into one heap: what data structures look like. */
static void structures(uint8_t *page, uint64_t seed)
{
	size_t i;

	for (i = 0; i < UHMM_PAGE_SIZE; i += 8) {
		uint64_t r = content_mix(seed + i), word = r % 1000;

		if (i % 32 == 0)
			word = UINT64_C(0x55d0c0000000) + r % 65536 * 16;
		memcpy(page + i, &word, 8);
	}
}

static void text(uint8_t *page, uint64_t seed)
{
	static const char *const vocabulary[] = { "the ",   "page ",   "of ",
						  "a ",     "space ",  "migrates ",
						  "when ",  "memory ", "is ",
						  "cold\n", "device ", "and " };
	size_t i = 0;

	while (i < UHMM_PAGE_SIZE) {
		const char *word = vocabulary[(seed = content_mix(seed)) % 12];
		size_t len = strlen(word);

		if (len > UHMM_PAGE_SIZE - i)
			len = UHMM_PAGE_SIZE - i;
		memcpy(page + i, word, len);
		i += len;
	}
}

static void sparse(uint8_t *page, uint64_t seed, unsigned nr)
{
	unsigned i;

	memset(page, 0, UHMM_PAGE_SIZE);
	for (i = 0; i < nr; i++) {
		seed = content_mix(seed);
		page[seed % UHMM_PAGE_SIZE] ^= (uint8_t)(seed >> 32 | 1);
	}
}

void content_fill(void *page, unsigned kind, uint64_t seed)
{
	uint8_t *p = page;
	unsigned i;

	switch (kind % CONTENT_KINDS) {
	case CONTENT_ZERO:
		memset(p, 0, UHMM_PAGE_SIZE);
		break;
	case CONTENT_SAME:
		words(p, content_mix(seed));
		break;
	case CONTENT_SAME_BYTE:
		memset(p, (int)(seed & 0xff), UHMM_PAGE_SIZE);
		break;
	case CONTENT_NEARLY_SAME: /* in one bit, anywhere */
		words(p, content_mix(seed));
		p[content_mix(seed + 1) % UHMM_PAGE_SIZE] ^= (uint8_t)(1 << seed % 8);
		break;
	case CONTENT_LAST_BYTE:
		memset(p, 0, UHMM_PAGE_SIZE);
		p[UHMM_PAGE_SIZE - 1] = (uint8_t)(seed | 1);
		break;
	case CONTENT_PERIOD_16: /* repeats, but not every 8 bytes */
		random_bytes(p, 16, seed);
		for (i = 16; i < UHMM_PAGE_SIZE; i++)
			p[i] = p[i - 16];
		break;
	case CONTENT_RANDOM:
		random_bytes(p, UHMM_PAGE_SIZE, seed);
		break;
	case CONTENT_HALF_RANDOM:
		memset(p, 0x20, UHMM_PAGE_SIZE);
		random_bytes(p, UHMM_PAGE_SIZE / 2, seed);
		break;
	case CONTENT_MOSTLY_RANDOM: /* around where storing as it is begins to pay */
		memset(p, 0, UHMM_PAGE_SIZE);
		random_bytes(p, UHMM_PAGE_SIZE - seed % 64 * 8, seed);
		break;
	case CONTENT_SPARSE:
		sparse(p, seed, 1 + (unsigned)(seed % 200));
		break;
	case CONTENT_TEXT:
		text(p, seed);
		break;
	case CONTENT_STRUCTURES:
		structures(p, seed);
		break;
	}
}

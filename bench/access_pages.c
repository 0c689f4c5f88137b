/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages whose bytes are known. The first word of a page says which it is and how often
 * it was written; then come noise, from one buffer at a place that differs from page to
 * page, and a text, in such parts that LZ4 makes of it what enum content says.
 */
#include <string.h>
#include <sys/mman.h>

#include "bench/access.h"

#define NOISE_BYTES (1u << 20)
/* Bytes of a page that do not compress: 4096/1.26 and 4096/2.5, less what LZ4 adds. */
#define NOISE_POOR 3144u
#define NOISE_GOOD 1500u

static char noise[NOISE_BYTES + PAGE], text[PAGE];

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Between pages that nobody may touch: a stack beside it would be in the same mapping. */
static char *map(size_t len)
{
	char *p = mmap(NULL, len + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED || mprotect(p + PAGE, len, PROT_READ | PROT_WRITE) != 0)
		return NULL;
	return p + PAGE;
}

bool pages_map(struct pages *pages, size_t nr, enum content content)
{
	uint64_t word;
	size_t i;

	for (i = 0; i < sizeof(noise) / sizeof(word); i++) {
		word = mix(i + 1);
		memcpy(noise + i * sizeof(word), &word, sizeof(word));
	}
	for (i = 0; i < sizeof(text); i++)
		text[i] = "a page of text. "[i % 16];
	*pages = (struct pages){ .nr = nr, .content = content };
	pages->base = map(nr * PAGE);
	pages->writes = (uint32_t *)(void *)map(nr * sizeof(*pages->writes));
	if (!pages->base || !pages->writes)
		return false;
	memset(pages->writes, 0, nr * sizeof(*pages->writes));
	return true;
}

void pages_unmap(struct pages *pages)
{
	munmap(pages->base - PAGE, (pages->nr + 2) * PAGE);
	munmap((char *)pages->writes - PAGE,
	       pages->nr * sizeof(*pages->writes) + 2 * PAGE);
}

static bool is_zeros(const struct pages *pages, size_t i)
{
	return pages->content == CONTENT_ZEROS && mix(i) % 2 == 0;
}

/* What the first word of a page is. */
static uint64_t word_of(const struct pages *pages, size_t i)
{
	return (is_zeros(pages, i) ? 0 : mix(i + pages->nr)) + pages->writes[i];
}

static void compose(const struct pages *pages, size_t i, char *page)
{
	size_t len = pages->content == CONTENT_POOR ? NOISE_POOR : NOISE_GOOD;
	uint64_t word = word_of(pages, i);

	if (is_zeros(pages, i)) {
		memset(page, 0, PAGE);
	} else {
		memcpy(page, noise + mix(i) % NOISE_BYTES, len);
		memcpy(page + len, text, PAGE - len);
	}
	memcpy(page, &word, sizeof(word));
}

void page_fill(struct pages *pages, size_t i)
{
	compose(pages, i, pages->base + i * PAGE);
}

static volatile uint64_t *first_word(const struct pages *pages, size_t i)
{
	return (volatile uint64_t *)(void *)(pages->base + i * PAGE);
}

bool page_read(const struct pages *pages, size_t i)
{
	return *first_word(pages, i) == word_of(pages, i);
}

bool page_modify(struct pages *pages, size_t i)
{
	volatile uint64_t *word = first_word(pages, i);
	uint64_t old = *word;

	*word = old + 1;
	return old == word_of(pages, i) && ++pages->writes[i];
}

bool page_whole(const struct pages *pages, size_t i)
{
	char page[PAGE];

	compose(pages, i, page);
	return memcmp(page, pages->base + i * PAGE, PAGE) == 0;
}

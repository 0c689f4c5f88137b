/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noise [-m MIB] [-w WORDS] [-n ACCESSES]: memory that hardly compresses, at random.
 *
 * Of sixteen words of a page WORDS are noise and the others are one word. After a first
 * pass that writes all of them ACCESSES pages are chosen at random; of each some words
 * are checked, and one of eight is written anew, with another version. Ends with 1 at the
 * first wrong word; prints a digest of what was found.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stamp.h"

static size_t noisy = 16;

static uint64_t value(size_t page, unsigned version, size_t i)
{
	uint64_t key = (uint64_t)page << 8 ^ version;

	return mix64(i % 16 < noisy ? key << 12 ^ i : key);
}

static void write_page(uint64_t *page, size_t nr, unsigned version)
{
	for (size_t i = 0; i < PAGE_WORDS; i++)
		page[i] = value(nr, version, i);
}

static uint64_t check_word(const volatile uint64_t *page, size_t nr, unsigned version,
			   size_t i)
{
	uint64_t found = page[i];

	if (found != value(nr, version, i)) {
		fprintf(stderr, "noise: page %zu version %u word %zu is %016llx\n", nr,
			version, i, (unsigned long long)found);
		exit(1);
	}
	return found;
}

int main(int argc, char **argv)
{
	size_t pages = 128 * MIB / PAGE, accesses = 300000;
	struct rng rng = { 1 };
	uint64_t digest = 0, *memory;
	uint8_t *version;
	int o;

	while ((o = getopt(argc, argv, "m:w:n:")) != -1) {
		if (o == 'm')
			pages = strtoull(optarg, NULL, 10) * MIB / PAGE;
		else if (o == 'w')
			noisy = strtoull(optarg, NULL, 10);
		else if (o == 'n')
			accesses = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	memory = aligned_alloc(PAGE, pages * PAGE);
	version = calloc(pages, 1);
	if (!pages || !memory || !version) {
		fprintf(stderr, "noise: no memory for %zu pages\n", pages);
		return 2;
	}
	for (size_t p = 0; p < pages; p++)
		write_page(memory + p * PAGE_WORDS, p, 0);
	for (size_t n = 0; n < accesses; n++) {
		size_t p = rng_below(&rng, pages), i = rng_below(&rng, PAGE_WORDS - 16);

		for (size_t k = 0; k < 16; k++)
			digest = mix64(digest ^ check_word(memory + p * PAGE_WORDS, p,
							   version[p], i + k));
		if (n % 8 == 0)
			write_page(memory + p * PAGE_WORDS, p, ++version[p]);
	}
	printf("noise: %zu pages, %zu accesses, digest %016llx\n", pages, accesses,
	       (unsigned long long)digest);
	return 0;
}

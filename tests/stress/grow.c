/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grow [-m MIB] [-n VECTORS] [-r ROUNDS]: vectors that grow by realloc.
 *
 * VECTORS arrays grow in turn, by uneven steps, until together they hold MIB; libc moves
 * the large ones with mremap, with most of their pages cold. Each word follows from the
 * vector and its index. The last words and some random ones are checked after each step,
 * all of them at the end; then every vector shrinks to a third, is checked, and the next
 * round begins from there. Ends with 1 at the first wrong word.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stamp.h"

#define VECTORS_MAX 64

struct vector {
	uint64_t *word;
	size_t nr;
};

static struct vector vectors[VECTORS_MAX];
static uint64_t digest;

/* Seven of eight words repeat nearby, so that pages compress as data does. */
static uint64_t value(size_t v, size_t i)
{
	return mix64((uint64_t)v << 48 ^ (i % 8 ? i / 512 : i));
}

static void check(size_t v, size_t from, size_t step)
{
	for (size_t i = from; i < vectors[v].nr; i += step) {
		uint64_t found = *(volatile uint64_t *)&vectors[v].word[i];

		if (found != value(v, i)) {
			fprintf(stderr,
				"grow: vector %zu of %zu words at %p: word %zu at %p "
				"should be %016llx and is %016llx\n",
				v, vectors[v].nr, (void *)vectors[v].word, i,
				(void *)&vectors[v].word[i],
				(unsigned long long)value(v, i),
				(unsigned long long)found);
			exit(1);
		}
		digest = mix64(digest ^ found);
	}
}

static void resize(size_t v, size_t nr)
{
	uint64_t *word = realloc(vectors[v].word, nr * sizeof(*word));
	size_t old = vectors[v].nr;

	if (!word) {
		perror("grow: realloc");
		exit(1);
	}
	vectors[v] = (struct vector){ word, nr };
	for (size_t i = old; i < nr; i++)
		word[i] = value(v, i);
}

int main(int argc, char **argv)
{
	size_t bytes = 128 * MIB, nr = 6, total = 0;
	struct rng rng = { 1 };
	int o, rounds = 2;

	while ((o = getopt(argc, argv, "m:n:r:")) != -1) {
		if (o == 'm')
			bytes = strtoull(optarg, NULL, 10) * MIB;
		else if (o == 'n')
			nr = strtoull(optarg, NULL, 10);
		else
			rounds = o == 'r' ? atoi(optarg) : 0;
	}
	if (rounds < 1 || nr < 1 || nr > VECTORS_MAX) {
		fputs("usage: grow [-m MIB] [-n VECTORS] [-r ROUNDS]\n", stderr);
		return 2;
	}
	for (int round = 0; round < rounds; round++) {
		for (size_t v = 0; total < bytes; v = (v + 1) % nr) {
			size_t words = 1 + rng_below(&rng, vectors[v].nr / 8 + 50000);

			resize(v, vectors[v].nr + words);
			total += words * sizeof(uint64_t);
			check(v, vectors[v].nr - 1, 1);
			check(v, rng_below(&rng, 60000), 60013);
		}
		for (size_t v = 0; v < nr; v++) {
			check(v, 0, 1);
			total -= (vectors[v].nr - vectors[v].nr / 3) * sizeof(uint64_t);
			resize(v, vectors[v].nr / 3);
			check(v, 0, 1);
		}
	}
	printf("digest %016llx\n", (unsigned long long)digest);
	return 0;
}

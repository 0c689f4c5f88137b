/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm [-t THREADS] [-m MIB] [-r ROUNDS] [-s SEED] [-b] [-c]: allocates at full speed.
 *
 * Each thread takes blocks of 4 KiB to 64 MiB until its share of MIB is in use, by malloc
 * or by mmap, and fills each at once. Nothing is done in between: whoever wants to hold a
 * budget has to work at the speed of this program. Then all blocks are checked, every
 * byte, newest first in odd rounds, and freed; and again.
 *
 *	-b	fills with memset, the fastest way to make memory resident; such a page
 *		compresses to nothing. Without it pages are stamps, which compress
 *		about 4:1.
 *	-c	checks only a word of each page, so that the time is that of allocating
 *
 * Prints a digest of what was read; ends with 1 at the first wrong byte.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stamp.h"

#define THREADS_MAX 16
#define BLOCKS_MAX 65536
#define BLOCK_MAX (64 * MIB)

struct block {
	char *addr;
	size_t pages;
	uint64_t key;
	bool mapped;
};

struct storm {
	int index;
	pthread_t thread;
	struct rng rng;
	struct block block[BLOCKS_MAX];
	int nr;
	uint64_t digest;
};

static struct {
	int threads, rounds;
	size_t bytes;
	uint64_t seed;
	bool bytes_only, coarse;
} opt = { .threads = 2, .rounds = 2, .bytes = 128 * MIB, .seed = 1 };

static struct storm *storms;

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

/* Sizes from 4 KiB to 64 MiB, each power of two as likely as the next. */
static size_t pick_pages(struct rng *rng, size_t left)
{
	size_t pages = (size_t)1 << rng_below(rng, 15);

	pages += rng_below(rng, pages);
	if (pages > BLOCK_MAX / PAGE)
		pages = BLOCK_MAX / PAGE;
	return pages < left ? pages : left;
}

static void take(struct storm *s, struct block *b, size_t pages)
{
	uint64_t how = rng_next(&s->rng);

	*b = (struct block){ .pages = pages, .mapped = how & 1, .key = how | 256 };
	if (b->mapped) {
		b->addr = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (b->addr == MAP_FAILED)
			die("storm: mmap");
		if ((how >> 1 & 3) == 0)
			madvise(b->addr, pages * PAGE, MADV_HUGEPAGE);
	} else {
		b->addr = malloc(pages * PAGE);
		if (!b->addr)
			die("storm: malloc");
	}
	if (opt.bytes_only) {
		memset(b->addr, (int)(b->key >> 8 & 255), pages * PAGE);
		return;
	}
	for (size_t i = 0; i < pages; i++)
		stamp_fill(b->addr + i * PAGE, b->key + i);
}

static void wrong(const struct storm *s, const struct block *b, size_t page, size_t word,
		  uint64_t want)
{
	const char *at = b->addr + page * PAGE + word * 8;
	uint64_t found;

	memcpy(&found, at, sizeof(found));
	fprintf(stderr,
		"storm: thread %d block %td of %zu pages at %p: page %zu word %zu at "
		"%p should be %016llx and is %016llx\n",
		s->index, b - s->block, b->pages, (void *)b->addr, page, word,
		(const void *)at, (unsigned long long)want, (unsigned long long)found);
	_exit(1);
}

static void check(struct storm *s, const struct block *b)
{
	uint64_t fill = (b->key >> 8 & 255) * UINT64_C(0x0101010101010101);

	for (size_t page = 0; page < b->pages; page++) {
		const char *at = b->addr + page * PAGE;
		size_t step = opt.coarse ? PAGE_WORDS : 1;

		/* malloc'd blocks are 16 bytes off a page, but aligned for words */
		for (size_t i = (b->key + page) % step; i < PAGE_WORDS; i += step) {
			uint64_t want = opt.bytes_only ? fill :
							 stamp_word(b->key + page, i);

			if (*(const volatile uint64_t *)(at + i * 8) != want)
				wrong(s, b, page, i, want);
		}
		s->digest = mix64(s->digest ^ (b->key + page));
	}
}

static void *run(void *arg)
{
	struct storm *s = arg;

	for (int round = 0; round < opt.rounds; round++) {
		size_t left = opt.bytes / PAGE / (size_t)opt.threads;

		for (s->nr = 0; left && s->nr < BLOCKS_MAX; s->nr++) {
			size_t pages = pick_pages(&s->rng, left);

			take(s, &s->block[s->nr], pages);
			left -= pages;
		}
		for (int i = 0; i < s->nr; i++)
			check(s, &s->block[round % 2 ? s->nr - 1 - i : i]);
		for (int i = 0; i < s->nr; i++) {
			if (!s->block[i].mapped)
				free(s->block[i].addr);
			else if (munmap(s->block[i].addr, s->block[i].pages * PAGE) != 0)
				die("storm: munmap");
		}
	}
	return NULL;
}

static void parse(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, "t:m:r:s:bc")) != -1) {
		switch (o) {
		case 't':
			opt.threads = atoi(optarg);
			break;
		case 'm':
			opt.bytes = strtoull(optarg, NULL, 10) * MIB;
			break;
		case 'r':
			opt.rounds = atoi(optarg);
			break;
		case 's':
			opt.seed = strtoull(optarg, NULL, 10);
			break;
		case 'b':
			opt.bytes_only = true;
			break;
		case 'c':
			opt.coarse = true;
			break;
		default:
			exit(2);
		}
	}
	if (opt.threads < 1 || opt.threads > THREADS_MAX) {
		fputs("storm: 1 to 16 threads\n", stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	uint64_t digest = 0;

	parse(argc, argv);
	storms = calloc((size_t)opt.threads, sizeof(*storms));
	if (!storms)
		die("storm: calloc");
	for (int t = 0; t < opt.threads; t++) {
		storms[t].index = t;
		storms[t].rng.state = mix64(opt.seed << 8 | (unsigned)t);
		if (pthread_create(&storms[t].thread, NULL, run, &storms[t]) != 0)
			die("storm: pthread_create");
	}
	for (int t = 0; t < opt.threads; t++) {
		pthread_join(storms[t].thread, NULL);
		digest = mix64(digest ^ storms[t].digest);
	}
	printf("digest %016llx\n", (unsigned long long)digest);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mallocs [-t THREADS] [-m MIB] [-n OPERATIONS] [-s SEED] [-a NAME]: a heap under load.
 *
 * Each thread keeps its share of MIB in blocks of 16 bytes to 4 MiB and replaces, grows
 * and shrinks them at random; some are passed to the next thread, which frees them. Every
 * block carries a stamp that follows from a key and is checked before the block is freed
 * or resized, and after. Large blocks grow by realloc, which libc does with mremap.
 *
 *	-a NAME		the allocator must be NAME: libc or jemalloc. Proves that one that
 *			was preloaded is still there.
 *
 * Blocks that are passed on make addresses depend on time, but not contents: the digest
 * depends on the seed alone. Ends with 1 at the first wrong byte.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stamp.h"

#define THREADS_MAX 16
#define BLOCKS 8192 /* a thread's */
#define PASSED 64   /* blocks waiting in front of a thread */
#define SIZE_MAX_LOG 22

struct block {
	unsigned char *addr;
	size_t size;
	uint64_t key;
};

struct heap {
	int index;
	pthread_t thread;
	struct rng rng;
	struct block block[BLOCKS];
	size_t bytes;
	uint64_t digest;
	pthread_mutex_t lock; /* of what was passed to us */
	struct block passed[PASSED];
	int nr_passed;
};

static struct {
	int threads;
	size_t bytes;
	uint64_t ops, seed;
	const char *allocator;
} opt = { .threads = 2, .bytes = 128 * MIB, .ops = 100000, .seed = 1 };

static struct heap heaps[THREADS_MAX];

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

/* An eighth of the words tell a block from others, the rest repeat: it compresses. */
static inline unsigned char content(uint64_t key, size_t i)
{
	size_t word = i / 8 % 16 < 2 ? i / 8 : i / 8 % 16;

	return (unsigned char)(mix64(key + word) >> i % 8 * 8);
}

static void fill(const struct block *b, size_t from)
{
	for (size_t i = from; i < b->size; i++) {
		if (i % 8 == 0 && i + 8 <= b->size) {
			uint64_t word =
				mix64(b->key + (i / 8 % 16 < 2 ? i / 8 : i / 8 % 16));

			memcpy(b->addr + i, &word, 8);
			i += 7;
			continue;
		}
		b->addr[i] = content(b->key, i);
	}
}

static void check(struct heap *h, const struct block *b, const char *when)
{
	for (size_t i = 0; i < b->size; i++) {
		uint64_t want, found;

		if (i % 8 == 0 && i + 8 <= b->size) {
			want = mix64(b->key + (i / 8 % 16 < 2 ? i / 8 : i / 8 % 16));
			memcpy(&found, b->addr + i, 8);
		} else {
			want = content(b->key, i);
			found = b->addr[i];
		}
		if (found != want) {
			fprintf(stderr,
				"mallocs: thread %d %s: block of %zu bytes at %p: byte "
				"%zu at %p should be %llx and is %llx\n",
				h->index, when, b->size, (void *)b->addr, i,
				(void *)(b->addr + i), (unsigned long long)want,
				(unsigned long long)found);
			_exit(1);
		}
		i += i % 8 == 0 && i + 8 <= b->size ? 7 : 0;
	}
	h->digest = mix64(h->digest ^ b->key ^ b->size);
}

/* Small blocks are many, large ones hold the bytes: as in most heaps. */
static size_t pick_size(struct rng *rng)
{
	uint64_t a = rng_below(rng, SIZE_MAX_LOG - 3),
		 b = rng_below(rng, SIZE_MAX_LOG - 3);
	size_t size = (size_t)16 << (a < b ? a : b);

	return size + rng_below(rng, size);
}

static void drop_passed(struct heap *h)
{
	pthread_mutex_lock(&h->lock);
	while (h->nr_passed)
		free(h->passed[--h->nr_passed].addr);
	pthread_mutex_unlock(&h->lock);
}

/* Checked here, freed over there; here too if there is no room. */
static void drop(struct heap *h, struct block *b, bool pass)
{
	struct heap *next = &heaps[(h->index + 1) % opt.threads];

	check(h, b, "before free");
	h->bytes -= b->size;
	if (pass) {
		pthread_mutex_lock(&next->lock);
		if (next->nr_passed < PASSED) {
			next->passed[next->nr_passed++] = *b;
			b->addr = NULL;
		}
		pthread_mutex_unlock(&next->lock);
	}
	free(b->addr);
	*b = (struct block){ 0 };
}

static void take(struct heap *h, struct block *b, size_t size, uint64_t how)
{
	*b = (struct block){ .size = size, .key = how | 1 };
	switch (how >> 60) {
	case 0:
		if (posix_memalign((void **)&b->addr, 4096, size) != 0)
			die("mallocs: posix_memalign");
		break;
	case 1:
		b->addr = calloc(1, size);
		for (size_t i = 0; b->addr && i < size; i += 512)
			if (b->addr[i]) {
				fprintf(stderr,
					"mallocs: calloc gave %p, byte %zu is %u\n",
					(void *)b->addr, i, b->addr[i]);
				_exit(1);
			}
		break;
	default:
		b->addr = malloc(size);
	}
	if (!b->addr)
		die("mallocs: malloc");
	fill(b, 0);
	h->bytes += size;
}

static void resize(struct heap *h, struct block *b, size_t size)
{
	size_t old = b->size;
	unsigned char *addr = realloc(b->addr, size);

	if (!addr)
		die("mallocs: realloc");
	b->addr = addr;
	b->size = size < old ? size : old;
	check(h, b, "after realloc");
	b->size = size;
	if (size > old)
		fill(b, old / 8 * 8);
	h->bytes += size - old;
}

static void *run(void *arg)
{
	struct heap *h = arg;
	size_t share = opt.bytes / (size_t)opt.threads;

	for (uint64_t n = 0; n < opt.ops; n++) {
		uint64_t how = rng_next(&h->rng), at = rng_below(&h->rng, BLOCKS);
		size_t size = pick_size(&h->rng);
		struct block *b = &h->block[at];

		if (!b->addr) {
			if (h->bytes + size <= share)
				take(h, b, size, how);
		} else if (how % 8 == 0 && h->bytes + size <= share) {
			resize(h, b, size);
		} else if (how % 8 < 3 || h->bytes > share - share / 8) {
			drop(h, b, how >> 8 & 1);
		} else {
			check(h, b, "in passing");
		}
		if (n % 1024 == 0)
			drop_passed(h);
		if (n % 16384 == 16383)
			malloc_trim(0);
	}
	for (int i = 0; i < BLOCKS; i++)
		if (h->block[i].addr)
			drop(h, &h->block[i], false);
	return NULL;
}

static void parse(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, "t:m:n:s:a:")) != -1) {
		switch (o) {
		case 't':
			opt.threads = atoi(optarg);
			break;
		case 'm':
			opt.bytes = strtoull(optarg, NULL, 10) * MIB;
			break;
		case 'n':
			opt.ops = strtoull(optarg, NULL, 10);
			break;
		case 's':
			opt.seed = strtoull(optarg, NULL, 10);
			break;
		case 'a':
			opt.allocator = optarg;
			break;
		default:
			exit(2);
		}
	}
	if (opt.threads < 1 || opt.threads > THREADS_MAX) {
		fputs("mallocs: 1 to 16 threads\n", stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	const char *allocator = dlsym(RTLD_DEFAULT, "mallctl") ? "jemalloc" : "libc";
	uint64_t digest = 0;

	parse(argc, argv);
	printf("allocator %s\n", allocator);
	if (opt.allocator && strcmp(opt.allocator, allocator) != 0) {
		fprintf(stderr, "mallocs: the allocator is %s\n", allocator);
		return 1;
	}
	for (int t = 0; t < opt.threads; t++) {
		heaps[t].index = t;
		heaps[t].rng.state = mix64(opt.seed << 8 | (unsigned)t);
		pthread_mutex_init(&heaps[t].lock, NULL);
	}
	for (int t = 0; t < opt.threads; t++)
		if (pthread_create(&heaps[t].thread, NULL, run, &heaps[t]) != 0)
			die("mallocs: pthread_create");
	for (int t = 0; t < opt.threads; t++) {
		pthread_join(heaps[t].thread, NULL);
		digest = mix64(digest ^ heaps[t].digest);
	}
	for (int t = 0; t < opt.threads; t++)
		drop_passed(&heaps[t]);
	printf("digest %016llx\n", (unsigned long long)digest);
	return 0;
}

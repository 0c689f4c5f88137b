/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit [-m MIB] [-t THREADS] [-n CALLS] [-s SEED]: code that is made while it runs.
 *
 * As a compiler at run time does: MIB of memory that is writable and can be executed hold
 * functions, a share for each thread. Each thread makes CALLS calls, most of them in a
 * twentieth of its share, and after some of them writes the function anew. From time to
 * time a piece is protected against writing, or against running, for some calls. What a
 * function returns is checked; the sum is printed. Ends with 1 at the first wrong value.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "code.h"
#include "stamp.h"

#define THREADS_MAX 16
#define PIECE ((size_t)16 * PAGE)
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)
#define RWX (RW | PROT_EXEC)
/* Functions are this far apart: 32 in a page. */
#define STRIDE ((size_t)128)

static size_t nr_calls = 100000;

struct worker {
	pthread_t thread;
	struct rng rng;
	char *p;
	size_t nr;       /* functions */
	uint16_t *value; /* of each */
	uint64_t sum;
};

static void protect(void *p, int prot)
{
	if (mprotect(p, PIECE, prot)) {
		perror("jit: mprotect");
		exit(1);
	}
}

static void write_function(struct worker *me, size_t i)
{
	me->value[i] = (uint16_t)rng_next(&me->rng);
	code_make(me->p + i * STRIDE, me->value[i]);
}

static void call(struct worker *me, size_t i)
{
	uint16_t found = code_run(me->p + i * STRIDE);

	if (found != me->value[i]) {
		fprintf(stderr, "jit: function %zu at %p returns %u instead of %u\n", i,
			(void *)(me->p + i * STRIDE), found, me->value[i]);
		exit(1);
	}
	me->sum = mix64(me->sum ^ found);
}

static size_t any(struct worker *me)
{
	return rng_below(&me->rng, rng_below(&me->rng, 16) ? me->nr / 20 : me->nr);
}

/* A piece that can be run but not written, or written but not run, for a while. */
static void freeze_some(struct worker *me)
{
	size_t per_piece = PIECE / STRIDE;
	size_t first = rng_below(&me->rng, me->nr / per_piece) * per_piece, n;
	char *piece = me->p + first * STRIDE;

	protect(piece, RX);
	for (n = 0; n < 64; n++)
		call(me, first + rng_below(&me->rng, per_piece));
	protect(piece, RW);
	for (n = 0; n < 8; n++)
		write_function(me, first + rng_below(&me->rng, per_piece));
	protect(piece, RWX);
}

static void *work(void *arg)
{
	struct worker *me = arg;
	size_t n, i;

	for (i = 0; i < me->nr; i++)
		write_function(me, i);
	for (n = 0; n < nr_calls; n++) {
		i = any(me);
		call(me, i);
		if (n % 8 == 0)
			write_function(me, i);
		if (n % 1000 == 999)
			freeze_some(me);
	}
	for (i = 0; i < me->nr; i++)
		call(me, i);
	return NULL;
}

static void start(struct worker *w, size_t len, uint64_t seed)
{
	len -= len % PIECE;
	w->rng.state = seed;
	w->nr = len / STRIDE;
	w->p = mmap(NULL, len, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	w->value = calloc(w->nr, sizeof(*w->value));
	if (w->p == MAP_FAILED || !w->value ||
	    pthread_create(&w->thread, NULL, work, w)) {
		perror("jit: no memory or no thread");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	static struct worker worker[THREADS_MAX];
	size_t mib = 96, nr = 2, i;
	uint64_t seed = 1;
	int opt;

	while ((opt = getopt(argc, argv, "m:t:n:s:")) != -1) {
		if (opt == 'm')
			mib = strtoul(optarg, NULL, 0);
		else if (opt == 't')
			nr = strtoul(optarg, NULL, 0);
		else if (opt == 'n')
			nr_calls = strtoul(optarg, NULL, 0);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	if (!nr || nr > THREADS_MAX || !mib)
		return 2;
	if (!CODE_NR) {
		printf("no code for this processor\n");
		return 77;
	}
	for (i = 0; i < nr; i++)
		start(&worker[i], mib * MIB / nr, seed << 8 | i);
	for (i = 0; i < nr; i++) {
		pthread_join(worker[i].thread, NULL);
		printf("thread %zu: %016llx\n", i, (unsigned long long)worker[i].sum);
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-migrate [--batches N] [--pages | --folios] [--map | --ram] [MIB]: how fast memory
 * goes to a device and comes back, in batches of so many MiB (64), as pages of 4 KiB and
 * as huge pages of 2 MiB.
 *
 *	page map   a driver whose device is memory of its own. It migrates in three steps;
 *	           back the library fetches the pages by copy_to_ram() (uhmm_migrate() to
 *	           no device), or the driver brings them in three steps.
 *	ram        the storage device of that name, by uhmm_migrate().
 *
 * In each round memcpy() copies the same bytes, from the program's memory to the driver's
 * for what goes out and the other way for what comes back, and what is printed is how
 * much of that speed migration has: the median of the rounds' ratios, and the medians of
 * the two speeds in GB/s. With one batch it goes out and comes back at once, and frames
 * are used again; with more (N) all go out before the first comes back, and most memory
 * is given back to the system, and had from it anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <uhmm/migrate.h>
#include <uhmm/uhmm.h>

#define PAGE ((size_t)UHMM_PAGE_SIZE)
#define FOLIO (UHMM_FOLIO_PAGES * PAGE)
#define ROUNDS 11

static size_t size, nr_pages; /* of a batch */
static unsigned nr_batches = 1;

static void die(const char *what, int error)
{
	fprintf(stderr, "bench-migrate: %s: %s\n", what, strerror(error));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Aligned to 2 MiB; filled. */
static char *map(size_t len, int huge)
{
	char *p = mmap(NULL, len + FOLIO, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap", errno);
	p = (char *)(((uintptr_t)p + FOLIO - 1) & ~(FOLIO - 1));
	madvise(p, len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(p, 1, len);
	return p;
}

/* ---- a driver ---------------------------------------------------------------------- */

struct card {
	struct uhmm_space *space;
	struct uhmm_pagemap *map;
	char *memory;
};

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	const struct card *c = ctx;

	memcpy(buf, c->memory + page * PAGE, PAGE);
	return 0;
}

static int copy_folio_to_ram(void *ctx, uint64_t head, void *buf)
{
	const struct card *c = ctx;

	memcpy(buf, c->memory + head * PAGE, FOLIO);
	return 0;
}

static const struct uhmm_pagemap_ops ops = {
	.size = sizeof(ops),
	.copy_to_ram = copy_to_ram,
	.copy_folio_to_ram = copy_folio_to_ram,
};

static char *bytes_of(struct card *c, uhmm_pfn_t pfn)
{
	uint64_t page;

	if (uhmm_pfn_pagemap(c->space, pfn, &page))
		return c->memory + page * PAGE;
	return uhmm_pfn_bytes(c->space, pfn);
}

static void check(const char *what, int r)
{
	if (r < 0)
		die(what, -r);
}

static uhmm_pfn_t destination(struct card *c, uint64_t i, int folio, int out)
{
	uhmm_pfn_t pfn;

	if (folio && out)
		check("uhmm_folio_get", uhmm_folio_get(c->map, i, &pfn));
	else if (folio)
		check("uhmm_folio_alloc", uhmm_folio_alloc(c->space, &pfn));
	else
		check("uhmm_page_get", uhmm_page_get(c->map, i, &pfn));
	return pfn;
}

/* Where all of it goes: first this, as the driver would that has a queue of copies. */
static void find_room(struct card *c, struct uhmm_migrate *m, uint64_t first, int out)
{
	size_t i, step;

	for (i = 0; i < nr_pages; i += step) {
		int folio = (m->src[i] & UHMM_PFN_COMPOUND) != 0;

		step = folio ? UHMM_FOLIO_PAGES : 1;
		if (folio || out)
			m->dst[i] = destination(c, first + i, folio, out);
	}
}

static void copy(struct card *c, struct uhmm_migrate *m)
{
	size_t i, step;

	for (i = 0; i < nr_pages; i += step) {
		step = m->src[i] & UHMM_PFN_COMPOUND ? UHMM_FOLIO_PAGES : 1;
		memcpy(bytes_of(c, m->dst[i]), bytes_of(c, m->src[i]), step * PAGE);
	}
}

static void migrate(struct card *c, char *p, uint64_t first, int huge, int out)
{
	static uhmm_pfn_t *src, *dst;
	struct uhmm_migrate m = {
		.size = sizeof(m),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + size,
		.owner = &ops,
		.flags = out ? UHMM_SELECT_SYSTEM : UHMM_SELECT_DEVICE_PRIVATE,
	};

	if (!src) {
		src = calloc(nr_pages, sizeof(*src));
		dst = calloc(nr_pages, sizeof(*dst));
	}
	if (!src || !dst)
		die("calloc", ENOMEM);
	m.src = src;
	m.dst = dst;
	if (huge)
		m.flags |= UHMM_SELECT_COMPOUND;
	check("uhmm_migrate_setup", uhmm_migrate_setup(c->space, &m));
	if (m.cpages != (huge ? nr_pages / UHMM_FOLIO_PAGES : nr_pages))
		die("uhmm_migrate_setup: not all pages are there", EBUSY);
	if (!huge && !out &&
	    uhmm_page_alloc(c->space, dst, (unsigned)nr_pages) != (int)nr_pages)
		die("uhmm_page_alloc", ENOMEM);
	find_room(c, &m, first, out);
	copy(c, &m);
	check("uhmm_migrate_pages", uhmm_migrate_pages(c->space, &m));
	check("uhmm_migrate_finalize", uhmm_migrate_finalize(c->space, &m));
}

/* ---- measuring --------------------------------------------------------------------- */

struct line {
	double ratio[ROUNDS], speed[ROUNDS], copied[ROUNDS];
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *value)
{
	qsort(value, ROUNDS, sizeof(*value), by_value);
	return value[ROUNDS / 2];
}

static void note(struct line *l, int round, double copied, double took)
{
	l->ratio[round] = copied / took;
	l->speed[round] = (double)(size * nr_batches) / took / 1e9;
	l->copied[round] = (double)(size * nr_batches) / copied / 1e9;
}

static void print(const char *where, const char *what, const char *how, struct line *l)
{
	printf("| %-8s | %-5s | %-25s | %5.2f | %6.2f | %6.2f |\n", where, what, how,
	       median(l->ratio), median(l->speed), median(l->copied));
	fflush(stdout);
}

static double time_copy(char *to, const char *from)
{
	double start = now();
	unsigned i;

	for (i = 0; i < nr_batches; i++)
		memcpy(to + i * size, from + i * size, size);
	return now() - start;
}

struct bench {
	struct uhmm_space *space;
	struct uhmm_device *ram;
	struct card card;
	char *p, *other; /* the program's; as much of the driver's kind */
	int huge;
};

static void to(struct bench *b, char *p, struct uhmm_device *dev)
{
	size_t moved = 0;

	check("uhmm_migrate", uhmm_migrate(b->space, p, size, dev, NULL, &moved));
	if (moved != nr_pages)
		die("uhmm_migrate: not all pages moved", EBUSY);
}

enum { BY_STEPS, BY_FETCHING, BY_STORING };

/* All batches. Seconds. */
static double go(struct bench *b, int how, int out)
{
	double start = now();
	unsigned i;

	for (i = 0; i < nr_batches; i++) {
		char *p = b->p + i * size;

		if (how == BY_STORING && out)
			to(b, p, b->ram);
		else if (how == BY_STEPS || out)
			migrate(&b->card, p, i * nr_pages, b->huge, out);
		else
			to(b, p, NULL);
	}
	return now() - start;
}

static void run(struct bench *b, int how, const char *where, const char *back_name)
{
	const char *what = b->huge ? "2 MiB" : "4 KiB";
	int round;
	struct line out, back;

	/* The first is to warm up. */
	for (round = -1; round < ROUNDS; round++) {
		double copy_out = time_copy(b->other, b->p);
		double copy_back = time_copy(b->p, b->other);
		int at = round < 0 ? 0 : round;

		note(&out, at, copy_out, go(b, how, 1));
		note(&back, at, copy_back, go(b, how, 0));
	}
	print(where, what, "out", &out);
	print(where, what, back_name, &back);
}

/* What is to be measured. */
static struct {
	int pages, folios, map, ram;
} want = { .pages = 1, .folios = 1, .map = 1, .ram = 1 };

static void measure(struct uhmm_space *space, struct uhmm_device *ram, int huge)
{
	struct uhmm_pagemap_config config = { .size = sizeof(config),
					      .nr_pages = nr_pages * nr_batches,
					      .owner = &ops,
					      .ops = &ops };
	struct bench b = { .space = space, .ram = ram, .huge = huge };
	size_t all = size * nr_batches;

	b.p = map(all, huge);
	b.other = map(all, huge);
	b.card = (struct card){ .space = space, .memory = map(all, huge) };
	config.ctx = &b.card;
	check("uhmm_pagemap_register",
	      uhmm_pagemap_register(space, &config, &b.card.map));
	if (want.map) {
		run(&b, BY_FETCHING, "page map", "back, fetched");
		run(&b, BY_STEPS, "page map", "back, by steps");
	}
	if (want.ram)
		run(&b, BY_STORING, "ram", "back, fetched");
	check("uhmm_pagemap_unregister", uhmm_pagemap_unregister(b.card.map));
	munmap(b.p, all);
	munmap(b.other, all);
	munmap(b.card.memory, all);
}

static unsigned long parse(int argc, char **argv)
{
	unsigned long mib = 64;

	while (--argc && *++argv) {
		if (!strcmp(*argv, "--batches") && argc-- > 1)
			nr_batches = (unsigned)strtoul(*++argv, NULL, 0);
		else if (!strcmp(*argv, "--pages"))
			want.folios = 0;
		else if (!strcmp(*argv, "--folios"))
			want.pages = 0;
		else if (!strcmp(*argv, "--map"))
			want.ram = 0;
		else if (!strcmp(*argv, "--ram"))
			want.map = 0;
		else
			mib = strtoul(*argv, NULL, 0);
	}
	return mib;
}

int main(int argc, char **argv)
{
	unsigned long mib = parse(argc, argv);
	struct uhmm_device *ram;
	struct uhmm_space *space;

	size = mib << 20;
	nr_pages = size / PAGE;
	if (!size || size % FOLIO || !nr_batches) {
		fprintf(stderr, "bench-migrate: a multiple of 2 MiB, and some batches\n");
		return 125;
	}
	check("uhmm_space_create", uhmm_space_create(NULL, &space));
	check("uhmm_device_open", uhmm_device_open(space, "ram", &ram));
	printf("| device   | pages | batches: %-3u of %4lu MiB  |", nr_batches, mib);
	printf(" ratio |   GB/s | memcpy |\n|----------|-------|");
	printf("---------------------------|------:|-------:|-------:|\n");
	if (want.pages)
		measure(space, ram, 0);
	if (want.folios)
		measure(space, ram, 1);
	return uhmm_space_destroy(space) ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is writable and can be executed migrates as other memory does: as data, as
 * code that runs, when its protection changes on the way, in a child.
 */
#include "api.h"

#include <pthread.h>
#include <sys/wait.h>

#include "stress/code.h"

#define NR 512u
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)
#define RWX (RW | PROT_EXEC)

static void protect(char *p, size_t nr, int prot)
{
	if (mprotect(p, nr * PAGE, prot))
		SKIP("mprotect: %s", strerror(errno));
}

static char *map_executable(size_t nr)
{
	char *p = api_map(nr);

	protect(p, nr, RWX);
	return p;
}

API_TEST(what_can_be_executed_goes_and_comes_back)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *lz4 = api_device(space, "lz4");
	char *p = map_executable(NR);

	api_fill(p, NR, 1);
	api_move(space, p, NR, lz4, UHMM_MOVED);
	CHECK_EQ(api_resident(p, NR), 0);
	api_check(p, NR, 1);
	CHECK_SOON(api_stats(space).now_device == 0);
	/* Cold: it waits in its frames. */
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_COLD), 0);
	CHECK_EQ(api_resident(p, NR), 0);
	api_fill(p, NR, 7000);
	api_move(space, p, NR, lz4, UHMM_MOVED);
	api_move(space, p, NR, NULL, UHMM_MOVED);
	CHECK_EQ(api_resident(p, NR), NR);
	api_check(p, NR, 7000);
	/* Discarded while it is out. */
	api_move(space, p, NR, lz4, UHMM_MOVED);
	CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(p[5 * PAGE], 0);
	CHECK_SOON(api_stats(space).now_device == 0);
	api_destroy(space);
}

API_TEST(code_runs_where_it_was_migrated)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = map_executable(NR);
	unsigned i, round;

	if (!CODE_NR)
		SKIP("no code for this processor");
	for (i = 0; i < NR; i++)
		code_make(p + i * PAGE + 16, (uint16_t)(i * 3));
	for (round = 0; round < 3; round++) {
		api_move(space, p, NR, ram, UHMM_MOVED);
		for (i = 0; i < NR; i++)
			CHECK_EQ(code_run(p + i * PAGE + 16), i * 3);
	}
	/* From what cannot be written any more, too. */
	api_move(space, p, NR, ram, UHMM_MOVED);
	protect(p, NR, RX);
	for (i = 0; i < NR; i++)
		CHECK_EQ(code_run(p + i * PAGE + 16), i * 3);
	api_move(space, p, NR, ram, UHMM_UNMOVABLE);
	CHECK_EQ(code_run(p + 16), 0);
	api_destroy(space);
}

API_TEST(protection_may_change_while_pages_are_out)
{
	static const int prots[] = { RWX, RW, PROT_READ, RX, RWX, PROT_NONE, RW };
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(NR);
	unsigned i, to, nr = sizeof(prots) / sizeof(prots[0]);
	uint64_t key = 1;

	for (i = 0; i < nr; i++) {
		for (to = 0; to < nr; to++, key += NR) {
			protect(p, NR, i & 1 ? RW : RWX);
			api_fill(p, NR, key);
			/* Some in frames, some on the device. */
			api_move(space, p, NR / 2, ram, UHMM_MOVED);
			CHECK_EQ(uhmm_advise(space, p + NR / 2 * PAGE, NR / 2 * PAGE,
					     UHMM_ADVISE_COLD),
				 0);
			protect(p, NR, prots[i]);
			protect(p, NR, prots[to]);
			if (prots[to] == PROT_NONE)
				protect(p, NR, PROT_READ);
			api_check(p, NR, key);
		}
	}
	api_destroy(space);
}

API_TEST(huge_pages_that_can_be_executed_are_taken_apart)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = map_executable(2 * FOLIO_PAGES);

	api_fill_huge(p, 2 * FOLIO_PAGES, 1);
	api_move(space, p, 2 * FOLIO_PAGES, ram, UHMM_MOVED);
	CHECK_EQ(api_stats(space).isolated_folio, 0);
	CHECK_EQ(api_resident(p, 2 * FOLIO_PAGES), 0);
	api_check(p, 2 * FOLIO_PAGES, 1);
	api_destroy(space);
}

API_TEST(a_budget_takes_what_can_be_executed, .timeout_s = 60)
{
	enum { PAGES = 16384 };
	struct uhmm_space *space = api_space(delivery, 0);
	int64_t before = api_rss_bytes();
	char *p[2] = { map_executable(PAGES), api_map(PAGES) };

	api_device(space, "lz4");
	CHECK_EQ(uhmm_manage(space, p[0], PAGES * PAGE), 0);
	CHECK_EQ(uhmm_manage(space, p[1], PAGES * PAGE), 0);
	api_fill(p[0], PAGES, 1);
	api_fill(p[1], PAGES, 100000);
	/* Less than one of the two holds: both have to give. */
	CHECK_EQ(uhmm_budget_set(space, (uint64_t)before + PAGES * PAGE * 3 / 4), 0);
	CHECK_SOON(api_resident(p[0], PAGES) < PAGES * 3 / 4 &&
		   api_resident(p[1], PAGES) < PAGES * 3 / 4);
	api_check(p[0], PAGES, 1);
	api_check(p[1], PAGES, 100000);
	/* What a sanitizer takes beside it is not asked. */
	CHECK_SOON(api_resident(p[0], PAGES) + api_resident(p[1], PAGES) < PAGES);
	api_destroy(space);
}

/* ---- threads ----------------------------------------------------------------------- */

struct runner {
	pthread_t thread;
	struct uhmm_space *space;
	struct uhmm_device *dev;
	char *p;
	unsigned slot;
	uint32_t *stop;
	uint64_t rounds;
};

/* Runs functions of its own slot in any page, and writes others. */
static void *run_and_write(void *arg)
{
	struct runner *me = arg;
	struct rng rng = { me->slot };
	uint16_t value[NR] = { 0 };
	unsigned i;

	while (!__atomic_load_n(me->stop, __ATOMIC_RELAXED)) {
		char *fn = me->p + rng_below(&rng, NR) * PAGE + 64 * me->slot;

		i = (unsigned)((size_t)(fn - me->p) / PAGE);
		if (value[i])
			CHECK_EQ(code_run(fn), value[i]);
		if (rng_next(&rng) % 4 == 0) {
			value[i] = (uint16_t)(rng_next(&rng) | 1);
			code_make(fn, value[i]);
		}
		__atomic_fetch_add(&me->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *migrate(void *arg)
{
	struct runner *me = arg;
	struct rng rng = { me->slot };

	while (!__atomic_load_n(me->stop, __ATOMIC_RELAXED)) {
		size_t i = rng_below(&rng, NR), nr = 1 + rng_below(&rng, NR - i), moved;
		struct uhmm_device *to = rng_below(&rng, 3) ? me->dev : NULL;

		CHECK_EQ(uhmm_migrate(me->space, me->p + i * PAGE, nr * PAGE, to, NULL,
				      &moved),
			 0);
		__atomic_fetch_add(&me->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Of pages that nobody runs, beside the others. */
static void *change_protection(void *arg)
{
	struct runner *me = arg;
	struct rng rng = { me->slot };
	static const int prots[] = { RWX, RW, RX, PROT_READ, PROT_NONE };
	uint64_t key[NR / 8];
	unsigned i;

	for (i = 0; i < NR / 8; i++)
		key[i] = 0;
	while (!__atomic_load_n(me->stop, __ATOMIC_RELAXED)) {
		char *p;

		i = (unsigned)rng_below(&rng, NR / 8);
		p = me->p + (NR + i) * PAGE;
		protect(p, 1, prots[rng_below(&rng, 5)]);
		protect(p, 1, rng_next(&rng) & 1 ? RW : RWX);
		CHECK(stamp_check(p, key[i]) == PAGE_WORDS, "page %u", i);
		key[i] = rng_next(&rng);
		stamp_fill(p, key[i]);
		if (__atomic_fetch_add(&me->rounds, 1, __ATOMIC_RELAXED) % 16 == 0)
			CHECK_EQ(uhmm_migrate(me->space, me->p + NR * PAGE, NR / 8 * PAGE,
					      me->dev, NULL, NULL),
				 0);
	}
	return NULL;
}

API_TEST(code_runs_and_is_written_while_others_migrate, .timeout_s = 60)
{
	static void *(*const work[])(void *) = { run_and_write, run_and_write, migrate,
						 migrate, change_protection };
	enum { N = sizeof(work) / sizeof(work[0]) };
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *dev = api_device(space, "lz4");
	char *p = map_executable(NR + NR / 8);
	struct runner runner[N];
	uint32_t stop = 0;
	unsigned i;

	if (!CODE_NR)
		SKIP("no code for this processor");
	for (i = 0; i < N; i++) {
		runner[i] = (struct runner){
			.space = space, .dev = dev, .p = p, .slot = i, .stop = &stop
		};
		CHECK_EQ(pthread_create(&runner[i].thread, NULL, work[i], &runner[i]), 0);
	}
	usleep(1500000);
	for (i = 0; i < N; i++)
		while (!__atomic_load_n(&runner[i].rounds, __ATOMIC_RELAXED))
			usleep(1000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < N; i++)
		pthread_join(runner[i].thread, NULL);
	api_destroy(space);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: what makes single pages of huge ones, before, in the middle of and
 * after a migration; threads that do so at the same time.
 */
#include "folio.h"

#include <pthread.h>

/* ---- split by the driver ----------------------------------------------------------- */

API_TEST(a_device_without_room_for_folios_gets_pages)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	size_t i;

	c->full = true;
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 2);
	move_copy(mv, false);
	/* And not for all of them. */
	for (i = 0; i < NR; i += 2) {
		uint64_t page;

		CHECK(uhmm_pfn_pagemap(c->space, mv->dst[i], &page) == c->map);
		uhmm_page_put(c->map, page);
		mv->dst[i] = 0;
	}
	CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
	CHECK_EQ(move_moved(mv), NR + NR / 2);
	for (i = 0; i < 2 * NR; i++) {
		bool moves = i >= NR || i % 2;

		CHECK_EQ(mv->src[i] & FLAGS, UHMM_PFN_VALID | UHMM_PFN_WRITE |
						     (moves ? UHMM_PFN_MIGRATE : 0));
	}
	CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
	CHECK_EQ(api_resident(p, 2 * NR), NR / 2);
	api_check(p, 2 * NR, 1);
	move_free(mv);
	card_close(c);
}

API_TEST(what_does_not_begin_or_end_with_a_huge_page_goes_page_by_page)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	size_t i;

	CHECK_EQ(move_setup(mv, c, p + PAGE, 2 * NR - 1, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, NR);
	for (i = 0; i < NR - 1; i++)
		CHECK_EQ(mv->src[i] & FLAGS, TAKEN & ~UHMM_PFN_COMPOUND);
	CHECK_EQ(mv->src[NR - 1] & FLAGS, TAKEN);
	move_copy(mv, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), 2 * NR - 1);
	CHECK_EQ(api_resident(p, 2 * NR), 1);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(card_splits(c), 0);
	/* And nothing does without the flag. */
	CHECK_EQ(move_setup(mv, c, p + NR * PAGE, NR, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(mv->m.cpages, NR);
	move_copy(mv, false);
	move_end(mv);
	api_check(p, 2 * NR, 1);
	move_free(mv);
	card_close(c);
}

API_TEST(a_part_of_a_folio_on_the_device_is_taken_by_itself)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	/* Not these: nothing is selected there. */
	CHECK_EQ(move_setup(mv, c, p + 3 * PAGE, 5, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 0);
	CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
	CHECK_EQ(card_splits(c), 0);
	CHECK_EQ(move_setup(mv, c, p + 3 * PAGE, 5, FROM_DEVICE), 0);
	CHECK_EQ(mv->m.cpages, 5);
	CHECK_EQ(card_splits(c), 1);
	move_copy(mv, true);
	move_end(mv);
	CHECK_EQ(move_moved(mv), 5);
	CHECK_EQ(card_freed(c), 5);
	CHECK_EQ(api_resident(p, 2 * NR), 5);
	/* The other one, whole but as pages. */
	CHECK_EQ(move_setup(mv, c, p + NR * PAGE, NR, UHMM_SELECT_DEVICE_PRIVATE), 0);
	CHECK_EQ(mv->m.cpages, NR);
	CHECK_EQ(card_splits(c), 2);
	move_copy(mv, true);
	move_end(mv);
	CHECK_EQ(api_resident(p, 2 * NR), NR + 5);
	api_check(p, 2 * NR, 1);
	move_free(mv);
	card_close(c);
}

/* ---- split by the program ---------------------------------------------------------- */

API_TEST(the_program_takes_parts_of_folios_away)
{
	struct card *c = card_open(delivery);
	char *p = map_huge(), *to = api_map(2 * NR);

	move_out(c, p, 2 * NR);
	CHECK_EQ(munmap(p, 8 * PAGE), 0);
	CHECK_EQ(madvise(p + (NR + 8) * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
	CHECK(mremap(p + (NR + 16) * PAGE, 8 * PAGE, 8 * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	CHECK_SOON(card_splits(c) == 2);
	CHECK_SOON(card_freed(c) == 16);
	api_check(p + 8 * PAGE, NR, 9);
	CHECK_EQ(p[(NR + 8) * PAGE] + p[(NR + 15) * PAGE], 0);
	api_check(to, 8, NR + 17);
	api_check(p + (NR + 24) * PAGE, NR - 24, NR + 25);
	card_close(c);
}

API_TEST(the_program_moves_folios)
{
	struct card *c = card_open(delivery);
	char *p = map_huge(), *to = api_map(3 * NR);

	move_out(c, p, 2 * NR);
	CHECK(mremap(p, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	CHECK_EQ(card_splits(c), 0);
	CHECK(mremap(p + NR * PAGE, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     to + (NR + 7) * PAGE) == to + (NR + 7) * PAGE);
	CHECK_SOON(card_splits(c) == 1);
	api_check(to, NR, 1);
	CHECK_EQ(huge_pages(to), NR);
	api_check(to + (NR + 7) * PAGE, NR, NR + 1);
	card_close(c);
}

API_TEST(the_program_gives_whole_folios_up)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(munmap(p + NR * PAGE, NR * PAGE), 0);
	CHECK_SOON(card_freed(c) == 2);
	CHECK_EQ(card_splits(c), 0);
	CHECK_EQ(p[17 * PAGE], 0);
	card_close(c);
}

/* What a mapping allows is different in its parts: there is no moving into it as one. */
API_TEST(a_folio_of_which_a_part_was_protected_comes_back_as_pages)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	CHECK_EQ(mprotect(p + 8 * PAGE, 8 * PAGE, PROT_READ), 0);
	CHECK_EQ(mprotect(p + NR * PAGE, NR * PAGE, PROT_READ), 0);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(card_splits(c), 2);
	CHECK_EQ(mprotect(p, 2 * NR * PAGE, PROT_READ | PROT_WRITE), 0);
	api_fill(p, 2 * NR, 5);
	card_close(c);
	api_check(p, 2 * NR, 5);
}

API_TEST(a_folio_in_a_migration_is_taken_away_in_parts)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p, *to = api_map(NR);
	int from_device, commit_first;

	for (from_device = 0; from_device < 2; from_device++)
		for (commit_first = 0; commit_first < 2; commit_first++) {
			p = map_huge();
			if (from_device)
				move_out(c, p, 2 * NR);
			CHECK_EQ(move_setup(mv, c, p, 2 * NR,
					    from_device ? FROM_DEVICE : WHOLE),
				 0);
			CHECK_EQ(mv->m.cpages, 2);
			move_copy(mv, false);
			if (commit_first)
				CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
			CHECK_EQ(munmap(p, 8 * PAGE), 0);
			CHECK_EQ(madvise(p + 8 * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
			CHECK(mremap(p + 16 * PAGE, 8 * PAGE, 8 * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
			if (!commit_first) {
				CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
				CHECK_EQ(move_moved(mv), 2 * NR - 16);
			}
			CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
			CHECK_EQ(api_resident(p + 8 * PAGE, 2 * NR - 8), 0);
			CHECK_EQ(p[8 * PAGE] + p[15 * PAGE], 0);
			api_check(to, 8, 17);
			api_check(p + 24 * PAGE, 2 * NR - 24, 25);
			CHECK_EQ(huge_pages(p + NR * PAGE), NR);
			CHECK_EQ(munmap(p + 8 * PAGE, (2 * NR - 8) * PAGE), 0);
			CHECK(mmap(to, 8 * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == to);
		}
	CHECK_SOON(api_stats(c->space).now_device == 0);
	move_free(mv);
	card_close(c);
}

API_TEST(a_folio_in_a_migration_is_taken_away_or_moved_whole)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p, *to;
	int from_device, commit_first;

	for (from_device = 0; from_device < 2; from_device++)
		for (commit_first = 0; commit_first < 2; commit_first++) {
			p = map_huge();
			to = api_map(NR);
			if (from_device)
				move_out(c, p, 2 * NR);
			CHECK_EQ(move_setup(mv, c, p, 2 * NR,
					    from_device ? FROM_DEVICE : WHOLE),
				 0);
			move_copy(mv, from_device);
			if (commit_first)
				CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
			CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
			CHECK(mremap(p + NR * PAGE, NR * PAGE, NR * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
			if (!commit_first) {
				CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
				CHECK_EQ(move_moved(mv), NR);
			}
			CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
			CHECK_EQ(p[0] + p[(NR - 1) * PAGE], 0);
			CHECK_EQ(api_resident(to, NR), from_device ? NR : 0);
			api_check(to, NR, NR + 1);
			CHECK_EQ(huge_pages(to), NR);
			CHECK_EQ(munmap(p, NR * PAGE), 0);
			CHECK_EQ(munmap(to, NR * PAGE), 0);
		}
	CHECK_EQ(card_splits(c), 0);
	CHECK_SOON(api_stats(c->space).now_device == 0);
	move_free(mv);
	card_close(c);
}

/* ---- who waits --------------------------------------------------------------------- */

struct reader {
	pthread_t thread;
	const char *p;
	char value;
	bool done;
};

static void *read_one(void *arg)
{
	struct reader *r = arg;

	r->value = *(volatile const char *)r->p;
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

API_TEST(who_touches_a_folio_of_a_migration_waits)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	struct reader r = { .p = p + 17 * PAGE };
	int full;

	for (full = 0; full < 2; full++) {
		p[17 * PAGE] = 77;
		c->full = full; /* then it is split while somebody waits */
		r.done = false;
		CHECK_EQ(move_setup(mv, c, p, NR, WHOLE), 0);
		CHECK_EQ(pthread_create(&r.thread, NULL, read_one, &r), 0);
		move_copy(mv, false);
		usleep(30000);
		CHECK(!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE));
		CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
		usleep(30000);
		CHECK(!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE));
		CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
		pthread_join(r.thread, NULL);
		CHECK_EQ(r.value, 77);
	}
	move_free(mv);
	card_close(c);
}

/* ---- threads ----------------------------------------------------------------------- */

struct racer {
	pthread_t thread;
	struct card *card;
	char *p;
	uint64_t seed;
	bool *stop;
	size_t moved;
};

static uint64_t draw(struct racer *r)
{
	r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
	return r->seed >> 33;
}

static void *migrate_at_random(void *arg)
{
	struct racer *r = arg;
	struct move *mv = move_new();
	uint32_t flags;

	while (!__atomic_load_n(r->stop, __ATOMIC_ACQUIRE)) {
		flags = draw(r) % 8 ? UHMM_SELECT_COMPOUND : 0;
		flags |= draw(r) % 2 ? UHMM_SELECT_SYSTEM : UHMM_SELECT_DEVICE_PRIVATE;
		if (draw(r) % 4 == 0)
			CHECK_EQ(move_setup(mv, r->card, r->p + draw(r) % NR * PAGE, NR,
					    flags),
				 0);
		else
			CHECK_EQ(move_setup(mv, r->card, r->p, 2 * NR, flags), 0);
		move_copy(mv, draw(r) % 2);
		move_end(mv);
		__atomic_fetch_add(&r->moved, move_moved(mv), __ATOMIC_RELAXED);
	}
	move_free(mv);
	return NULL;
}

API_TEST(threads_write_while_folios_migrate, .timeout_s = 90)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();
	struct racer r[2];
	bool stop = false;
	size_t round, i;

	for (i = 0; i < 2; i++) {
		r[i] = (struct racer){ .card = c, .p = p, .seed = i + 1, .stop = &stop };
		CHECK_EQ(pthread_create(&r[i].thread, NULL, migrate_at_random, &r[i]), 0);
	}
	for (round = 1; round < 40; round++) {
		api_check(p, 2 * NR, round);
		api_fill(p, 2 * NR, round + 1);
	}
	/* On a busy machine they may not have begun. */
	for (i = 0; i < 2; i++)
		CHECK_SOON(__atomic_load_n(&r[i].moved, __ATOMIC_RELAXED) > 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++)
		pthread_join(r[i].thread, NULL);
	api_check(p, 2 * NR, round);
	card_close(c);
}

static bool in_one_mapping(const char *p, size_t len)
{
	unsigned long start, end;
	bool in = false;
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];

	CHECK(f);
	while (!in && fgets(line, sizeof(line), f))
		in = sscanf(line, "%lx-%lx ", &start, &end) == 2 &&
		     start <= (uintptr_t)p && (uintptr_t)p + len <= end;
	fclose(f);
	return in;
}

/* Both places stay mapped: what is free the library may take for itself. */
static void move_pages(char *to, char *from, size_t nr)
{
	CHECK(mremap(from, nr * PAGE, nr * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to);
}

/* Takes parts of the first huge page away and puts others there, and checks its own. */
static void *change_at_random(void *arg)
{
	struct racer *r = arg;
	char *to = api_map(NR);
	size_t at, nr;

	while (!__atomic_load_n(r->stop, __ATOMIC_ACQUIRE)) {
		at = draw(r) % NR;
		nr = 1 + draw(r) % (NR - at);
		if (draw(r) % 4 == 0) {
			at = 0;
			nr = NR;
		}
		api_fill(r->p, NR, 1000);
		switch (draw(r) % 3) {
		case 0:
			CHECK_EQ(madvise(r->p + at * PAGE, nr * PAGE, MADV_DONTNEED), 0);
			break;
		case 1:
			/* What was mapped last may be a mapping of its own still. */
			if (!in_one_mapping(r->p + at * PAGE, nr * PAGE))
				continue;
			move_pages(to, r->p + at * PAGE, nr);
			api_check(to, nr, 1000 + at);
			move_pages(r->p + at * PAGE, to, nr);
			__atomic_fetch_add(&r->moved, 1, __ATOMIC_RELAXED);
			api_check(r->p, NR, 1000);
			continue;
		default:
			CHECK(mmap(r->p + at * PAGE, nr * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				   0) == r->p + at * PAGE);
		}
		CHECK_EQ(r->p[at * PAGE] | r->p[(at + nr - 1) * PAGE], 0);
		api_check(r->p, at, 1000);
		api_check(r->p + (at + nr) * PAGE, NR - at - nr, 1000 + at + nr);
	}
	api_unmap(to, NR);
	return NULL;
}

/* A range that is not of one mapping at the moment is refused. */
static void *try_to_migrate(void *arg)
{
	struct racer *r = arg;
	struct move *mv = move_new();
	int to;

	while (!__atomic_load_n(r->stop, __ATOMIC_ACQUIRE)) {
		madvise(r->p, 2 * NR * PAGE, MADV_HUGEPAGE);
		for (to = 0; to < 2; to++) {
			if (move_setup(mv, r->card, r->p, NR, to ? FROM_DEVICE : WHOLE))
				continue;
			move_copy(mv, to);
			move_end(mv);
			__atomic_fetch_add(&r->moved, move_moved(mv), __ATOMIC_RELAXED);
		}
	}
	move_free(mv);
	return NULL;
}

API_TEST(threads_change_mappings_while_folios_migrate, .timeout_s = 90)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();
	struct racer r[2] = { { .card = c, .p = p, .seed = 1 },
			      { .card = c, .p = p, .seed = 2 } };
	bool stop = false;
	size_t i;

	r[0].stop = r[1].stop = &stop;
	CHECK_EQ(pthread_create(&r[0].thread, NULL, try_to_migrate, &r[0]), 0);
	CHECK_EQ(pthread_create(&r[1].thread, NULL, change_at_random, &r[1]), 0);
	sleep(2);
	for (i = 0; i < 2; i++)
		CHECK_SOON(__atomic_load_n(&r[i].moved, __ATOMIC_RELAXED) > 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++)
		pthread_join(r[i].thread, NULL);
	api_check(p + NR * PAGE, NR, NR + 1);
	card_close(c);
}

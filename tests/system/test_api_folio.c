/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: huge pages that migrate whole, and what makes single pages of them.
 */
#include "folio.h"

#include <pthread.h>
#include <sys/wait.h>

#define NR UHMM_FOLIO_PAGES
#define WHOLE (UHMM_SELECT_SYSTEM | UHMM_SELECT_COMPOUND)
#define FROM_DEVICE (UHMM_SELECT_DEVICE_PRIVATE | UHMM_SELECT_COMPOUND)
#define TAKEN (UHMM_PFN_VALID | UHMM_PFN_MIGRATE | UHMM_PFN_WRITE | UHMM_PFN_COMPOUND)
#define FLAGS ((UINT64_C(1) << UHMM_PFN_SHIFT) - 1)

/* Two huge pages, filled with 1, 2, ... */
static char *map_huge(void)
{
	char *p = api_map(2 * NR);

	api_fill_huge(p, 2 * NR, 1);
	return p;
}

static bool none_set(const uhmm_pfn_t *pfn, size_t nr)
{
	uhmm_pfn_t any = 0;

	while (nr--)
		any |= *pfn++;
	return !any;
}

/* ---- whole ------------------------------------------------------------------------- */

API_TEST(a_huge_page_goes_as_one_and_comes_back_as_one)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();

	CHECK_EQ(move_setup(mv, c, p, 2 * NR, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 2);
	CHECK_EQ(mv->m.npages, 2 * NR);
	CHECK_EQ(mv->src[0] & FLAGS, TAKEN);
	CHECK_EQ(mv->src[NR] & FLAGS, TAKEN);
	CHECK(none_set(mv->src + 1, NR - 1) && none_set(mv->src + NR + 1, NR - 1));
	move_copy(mv, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), 2 * NR);
	CHECK_EQ(api_resident(p, 2 * NR), 0);
	CHECK_EQ(api_stats(c->space).now_device, 2 * NR);
	CHECK_EQ(card_splits(c), 0);

	api_check(p + 77 * PAGE, 1, 78);
	CHECK_EQ(api_resident(p, 2 * NR), NR);
	CHECK_EQ(huge_pages(p), NR);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(huge_pages(p), 2 * NR);
	CHECK_SOON(card_freed(c) == 2);
	CHECK_EQ(card_splits(c), 0);
	CHECK_SOON(api_stats(c->space).now_device == 0);
	move_free(mv);
	card_close(c);
	api_check(p, 2 * NR, 1);
}

API_TEST(huge_pages_go_and_come_many_times)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();
	unsigned i;

	for (i = 0; i < 20; i++) {
		move_out(c, p, 2 * NR);
		api_check(p, 2 * NR, 1 + i);
		CHECK_EQ(huge_pages(p), 2 * NR);
		api_fill(p, 2 * NR, 2 + i);
	}
	CHECK_EQ(card_splits(c), 0);
	card_close(c);
}

API_TEST(a_driver_brings_a_folio_back_to_memory)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, FROM_DEVICE), 0);
	CHECK_EQ(mv->m.cpages, 2);
	CHECK_EQ(mv->src[0] & FLAGS, TAKEN);
	move_copy(mv, true);
	CHECK(mv->dst[0] & UHMM_PFN_COMPOUND);
	move_end(mv);
	CHECK_EQ(move_moved(mv), 2 * NR);
	CHECK_EQ(card_freed(c), 2);
	CHECK_EQ(api_resident(p, 2 * NR), 2 * NR);
	CHECK_EQ(huge_pages(p), 2 * NR);
	api_check(p, 2 * NR, 1);
	move_free(mv);
	card_close(c);
}

API_TEST(folios_move_from_memory_to_memory_and_from_device_to_device)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();

	CHECK_EQ(move_setup(mv, c, p, 2 * NR, WHOLE), 0);
	move_copy(mv, true);
	CHECK(mv->dst[0] & UHMM_PFN_COMPOUND);
	move_end(mv);
	CHECK_EQ(move_moved(mv), 2 * NR);
	CHECK_EQ(huge_pages(p), 2 * NR);
	api_check(p, 2 * NR, 1);
	move_out(c, p, 2 * NR);
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, FROM_DEVICE), 0);
	move_copy(mv, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), 2 * NR);
	CHECK_EQ(card_freed(c), 2);
	CHECK_EQ(api_resident(p, 2 * NR), 0);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(huge_pages(p), 2 * NR);
	CHECK_EQ(card_splits(c), 0);
	move_free(mv);
	card_close(c);
}

API_TEST(a_folio_that_is_not_moved_stays_huge)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	int step;

	for (step = 0; step < 3; step++) {
		CHECK_EQ(move_setup(mv, c, p, 2 * NR, WHOLE), 0);
		if (step == 1)
			move_copy(mv, false);
		else if (step == 2)
			CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
		CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
		CHECK_EQ(card_freed(c), step ? 2 : 0);
		CHECK_EQ(api_resident(p, 2 * NR), 2 * NR);
		CHECK_EQ(huge_pages(p), 2 * NR);
		api_check(p, 2 * NR, 1);
	}
	move_out(c, p, 2 * NR);
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, FROM_DEVICE), 0);
	CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(huge_pages(p), 2 * NR);
	CHECK_EQ(card_splits(c), 0);
	move_free(mv);
	card_close(c);
}

API_TEST(ranges_are_brought_back_as_folios)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();
	size_t moved;

	move_out(c, p, 2 * NR);
	CHECK_EQ(uhmm_migrate(c->space, p, 2 * NR * PAGE, NULL, NULL, &moved), 0);
	CHECK_EQ(moved, 2 * NR);
	CHECK_EQ(huge_pages(p), 2 * NR);
	move_out(c, p, 2 * NR);
	/* A part: all of it comes, as if that had been touched. */
	CHECK_EQ(uhmm_advise(c->space, p + 9 * PAGE, PAGE, UHMM_ADVISE_WILLNEED), 0);
	CHECK_EQ(huge_pages(p), NR);
	CHECK_EQ(uhmm_pagemap_evict(c->map), 0);
	CHECK_EQ(huge_pages(p), 2 * NR);
	move_out(c, p, 2 * NR);
	CHECK_EQ(uhmm_pagemap_unregister(c->map), 0);
	CHECK_EQ(huge_pages(p), 2 * NR);
	api_check(p, 2 * NR, 1);
	card_close(c);
}

API_TEST(a_space_ends_with_folios_on_a_device)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	card_close(c);
	CHECK_EQ(huge_pages(p), 2 * NR);
	api_check(p, 2 * NR, 1);
}

API_TEST(a_folio_of_a_driver_goes_to_a_storage_device_by_way_of_memory)
{
	struct card *c = card_open(delivery);
	struct uhmm_device *ram = api_device(c->space, "ram");
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	api_move(c->space, p, 2 * NR, ram, UHMM_MOVED);
	CHECK_EQ(card_freed(c), 2);
	CHECK_EQ(api_resident(p, 2 * NR), 0);
	api_check(p, 2 * NR, 1);
	card_close(c);
}

/* ---- holes ------------------------------------------------------------------------- */

API_TEST(a_hole_of_a_huge_page_is_put_on_the_device_whole)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = api_map(2 * NR);
	volatile char *v = p;

	CHECK_EQ(madvise(p, 2 * NR * PAGE, MADV_HUGEPAGE), 0);
	CHECK_EQ(v[NR * PAGE], 0); /* the huge page of zeros */
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 2);
	CHECK_EQ(mv->src[0], TAKEN & ~UHMM_PFN_VALID);
	CHECK_EQ(mv->src[NR], TAKEN & ~UHMM_PFN_VALID);
	move_copy(mv, false);
	c->page[(mv->dst[0] >> UHMM_PFN_SHIFT) % CARD_PAGES][0] = 1;
	move_end(mv);
	CHECK_EQ(move_moved(mv), 2 * NR);
	CHECK_EQ(api_resident(p, 2 * NR), 0);
	CHECK_EQ(api_stats(c->space).now_device, 2 * NR);
	CHECK_EQ(v[5 * PAGE] + v[(NR + 1) * PAGE], 0);
	CHECK_EQ(huge_pages(p), 2 * NR);
	api_fill(p, 2 * NR, 1);
	CHECK_EQ(card_splits(c), 0);
	move_free(mv);
	card_close(c);
	api_check(p, 2 * NR, 1);
}

API_TEST(a_hole_goes_page_by_page_where_there_is_no_room_for_folios)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = api_map(NR);
	size_t i;

	CHECK_EQ(madvise(p, NR * PAGE, MADV_HUGEPAGE), 0);
	c->full = true;
	CHECK_EQ(move_setup(mv, c, p, NR, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 1);
	move_copy(mv, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), NR);
	for (i = 0; i < NR; i++) {
		CHECK_EQ(mv->src[i], UHMM_PFN_MIGRATE | UHMM_PFN_WRITE);
		CHECK_EQ(p[i * PAGE], 0);
	}
	move_free(mv);
	card_close(c);
}

API_TEST(where_there_are_no_huge_pages_holes_are_single)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = api_map(NR);

	CHECK_EQ(madvise(p, NR * PAGE, MADV_NOHUGEPAGE), 0);
	CHECK_EQ(move_setup(mv, c, p, NR, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, NR);
	move_copy(mv, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), NR);
	CHECK_EQ(p[7 * PAGE], 0);
	move_free(mv);
	card_close(c);
}

API_TEST(a_hole_of_a_huge_page_that_was_written_meanwhile_stays)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = api_map(2 * NR);

	CHECK_EQ(madvise(p, 2 * NR * PAGE, MADV_HUGEPAGE), 0);
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 2);
	move_copy(mv, false);
	CHECK_EQ(madvise(p, 2 * NR * PAGE, MADV_NOHUGEPAGE), 0);
	p[99 * PAGE] = 9;
	p[NR * PAGE] = 8; /* the first */
	move_end(mv);
	CHECK_EQ(move_moved(mv), 0);
	CHECK_EQ(card_freed(c), 2);
	CHECK_EQ(p[99 * PAGE], 9);
	CHECK_EQ(p[NR * PAGE], 8);
	CHECK_EQ(p[0] + p[(NR + 1) * PAGE], 0);
	move_free(mv);
	card_close(c);
}

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

/* ---- lost -------------------------------------------------------------------------- */

static char *lose(uint32_t delivery, bool all)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	uint64_t page;

	CHECK_EQ(move_setup(mv, c, p, NR, WHOLE), 0);
	move_copy(mv, false);
	CHECK(uhmm_pfn_pagemap(c->space, mv->dst[0], &page) == c->map);
	if (all) {
		uhmm_page_put(c->map, page);
		mv->dst[0] = UHMM_PFN_ERROR;
	} else {
		c->broken = page + 6 + 1;
	}
	move_end(mv);
	CHECK_EQ(move_moved(mv), NR);
	if (all)
		return p;
	/* The others are not lost with it. */
	api_check(p, 6, 1);
	api_check(p + 7 * PAGE, NR - 7, 8);
	CHECK_EQ(card_splits(c), 1);
	return p;
}

TEST(a_lost_page_of_a_folio_is_a_bus_error_thread, .signal = SIGBUS)
{
	CHECK_EQ(*(volatile char *)(lose(UHMM_DELIVERY_THREAD, false) + 6 * PAGE), 0);
}

TEST(a_lost_page_of_a_folio_is_a_bus_error_inline, .signal = SIGBUS)
{
	CHECK_EQ(*(volatile char *)(lose(UHMM_DELIVERY_INLINE, false) + 6 * PAGE), 0);
}

TEST(a_lost_folio_is_a_bus_error_thread, .signal = SIGBUS)
{
	CHECK_EQ(*(volatile char *)(lose(UHMM_DELIVERY_THREAD, true) + 500 * PAGE), 0);
}

TEST(a_lost_folio_is_a_bus_error_inline, .signal = SIGBUS)
{
	CHECK_EQ(*(volatile char *)(lose(UHMM_DELIVERY_INLINE, true) + 500 * PAGE), 0);
}

/* ---- fork -------------------------------------------------------------------------- */

static void expect_child(pid_t pid)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

API_TEST(a_child_has_folios_of_its_own)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();
	pid_t pid;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	move_out(c, p, 2 * NR);
	pid = fork();
	CHECK_GE(pid, 0);
	if (!pid) {
		api_check(p + 7 * PAGE, 3, 8);
		CHECK_EQ(huge_pages(p), NR);
		api_check(p, 2 * NR, 1);
		CHECK_EQ(card_splits(c), 0);
		api_fill(p, 2 * NR, 500);
		move_out(c, p, 2 * NR);
		api_check(p, 2 * NR, 500);
		CHECK_EQ(huge_pages(p), 2 * NR);
		CHECK_EQ(uhmm_pagemap_unregister(c->map), 0);
		_exit(0);
	}
	expect_child(pid);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(huge_pages(p), 2 * NR);
	/* What was shared and is not any more goes whole again. */
	pid = fork();
	CHECK_GE(pid, 0);
	if (!pid)
		_exit(0);
	expect_child(pid);
	move_out(c, p, 2 * NR);
	CHECK_EQ(api_stats(c->space).now_device, 2 * NR);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(huge_pages(p), 2 * NR);
	CHECK_EQ(card_splits(c), 0);
	card_close(c);
}

API_TEST(a_child_has_folios_that_are_in_a_migration)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	int step;
	pid_t pid;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	/* To the device; to memory; back from the device; and committed. */
	for (step = 0; step < 4; step++) {
		if (step == 2)
			move_out(c, p, 2 * NR);
		CHECK_EQ(move_setup(mv, c, p, 2 * NR, step == 2 ? FROM_DEVICE : WHOLE),
			 0);
		CHECK_EQ(mv->m.cpages, 2);
		move_copy(mv, step == 1 || step == 2);
		if (step == 3)
			CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
		pid = fork();
		CHECK_GE(pid, 0);
		if (!pid) {
			api_check(p, 2 * NR, 1);
			api_fill(p, 2 * NR, 500);
			move_out(c, p, 2 * NR);
			api_check(p, 2 * NR, 500);
			CHECK_EQ(uhmm_pagemap_unregister(c->map), 0);
			_exit(0);
		}
		if (step != 3)
			CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
		CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
		CHECK_EQ(move_moved(mv), 2 * NR);
		expect_child(pid);
		api_check(p, 2 * NR, 1);
		/* Unshared, for the next step. */
		CHECK_EQ(munmap(p, 2 * NR * PAGE), 0);
		p = map_huge();
	}
	move_free(mv);
	card_close(c);
}

/* ---- bad input --------------------------------------------------------------------- */

API_TEST(folios_are_got_and_put_as_such)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	uhmm_pfn_t pfn, other;
	uint64_t page;

	CHECK_EQ(uhmm_folio_get(c->map, 1, &pfn), -EINVAL);
	CHECK_EQ(uhmm_folio_get(c->map, CARD_PAGES, &pfn), -EINVAL);
	CHECK_EQ(uhmm_folio_get(c->map, UINT64_MAX & ~UINT64_C(511), &pfn), -EINVAL);
	pfn = card_get(c, true);
	CHECK(pfn & UHMM_PFN_COMPOUND);
	CHECK(uhmm_pfn_pagemap(c->space, pfn, &page) == c->map);
	CHECK_EQ(uhmm_folio_get(c->map, page, &other), -EBUSY);
	CHECK_EQ(uhmm_page_get(c->map, page + 3, &other), -EBUSY);
	CHECK_EQ(uhmm_pagemap_unregister(c->map), -EBUSY);
	uhmm_page_put(c->map, page + 3); /* it is not to be had by itself */
	CHECK_EQ(card_freed(c), 0);
	/* For a page that is no folio it will not do, nor for two, nor a part of it. */
	CHECK_EQ(move_setup(mv, c, p + PAGE, 4, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 4);
	mv->dst[0] = pfn;
	mv->dst[1] = pfn & ~UHMM_PFN_COMPOUND;
	mv->dst[2] = (pfn & ~UHMM_PFN_COMPOUND) + (2u << UHMM_PFN_SHIFT);
	CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
	CHECK_EQ(move_moved(mv), 0);
	CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
	CHECK_EQ(card_freed(c), 1);
	/* Two of them for one: it is freed once. */
	p = map_huge();
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, WHOLE), 0);
	CHECK_EQ(mv->m.cpages, 2);
	mv->dst[0] = mv->dst[NR] = card_get(c, true);
	mv->dst[1] = card_get(c, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), NR);
	CHECK_EQ(card_freed(c), 2);
	CHECK_EQ(uhmm_folio_alloc(c->space, NULL), -EINVAL);
	CHECK_EQ(uhmm_folio_alloc(c->space, &pfn), 0);
	CHECK(pfn & UHMM_PFN_COMPOUND);
	CHECK(uhmm_pfn_bytes(c->space, pfn));
	CHECK_EQ(*(char *)uhmm_pfn_bytes(c->space, pfn), 0);
	uhmm_page_free(c->space, pfn & ~UHMM_PFN_COMPOUND);
	memset(uhmm_pfn_bytes(c->space, pfn), 1, FOLIO);
	uhmm_page_free(c->space, pfn);
	uhmm_page_free(c->space, pfn);
	move_free(mv);
	api_destroy(c->space);
	card_free(c);
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
		r->moved += move_moved(mv);
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
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++) {
		pthread_join(r[i].thread, NULL);
		CHECK_GT(r[i].moved, 0);
	}
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
			r->moved++;
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
			r->moved += move_moved(mv);
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
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++)
		pthread_join(r[i].thread, NULL);
	CHECK_GT(r[0].moved, 0);
	CHECK_GT(r[1].moved, 0);
	api_check(p + NR * PAGE, NR, NR + 1);
	card_close(c);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: huge pages that migrate whole, there and back; holes of whole ones;
 * folios of children.
 */
#include "folio.h"

#include <sys/wait.h>

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

/* Frames are kept for what comes back, but not for long. */
API_TEST(memory_of_what_moved_away_is_given_back_soon)
{
	struct card *c = card_open(delivery);
	char *p = map_huge(), *q = api_map(2 * NR);
	int64_t before;

	if (test_instrument())
		SKIP("%s takes memory of its own", test_instrument());
	api_fill(q, 2 * NR, 5000);
	before = api_rss_bytes();
	memset(c->page, 1, CARD_PAGES * PAGE);
	move_out(c, p, 2 * NR);
	move_out(c, q, 2 * NR);
	CHECK_SOON(api_rss_bytes() < before + (int64_t)(CARD_PAGES - 3 * NR) * (int)PAGE);
	api_check(p, 2 * NR, 1);
	api_check(q, 2 * NR, 5000);
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
	CHECK_EQ(mv->src[NR], test_has_zero_page() ? TAKEN & ~UHMM_PFN_VALID : TAKEN);
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
	uhmm_page_free(c->space, pfn & ~UHMM_PFN_COMPOUND);
	memset(uhmm_pfn_bytes(c->space, pfn), 1, FOLIO);
	uhmm_page_free(c->space, pfn);
	uhmm_page_free(c->space, pfn);
	move_free(mv);
	api_destroy(c->space);
	card_free(c);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: a driver takes its memory back, by the pages of its device.
 */
#include "folio.h"

#include <pthread.h>

static void prepare(struct move *mv, struct card *c, uint32_t flags)
{
	mv->card = c;
	mv->m = (struct uhmm_migrate){
		.size = sizeof(mv->m), .src = mv->src, .dst = mv->dst, .flags = flags
	};
}

static int range_setup(struct move *mv, struct card *c, uint64_t first, size_t nr,
		       uint32_t flags)
{
	prepare(mv, c, flags);
	return uhmm_migrate_device_range(c->map, first, nr, &mv->m);
}

static uint64_t page_of(struct card *c, uhmm_pfn_t pfn)
{
	uint64_t page = 0;

	CHECK(uhmm_pfn_pagemap(c->space, pfn, &page) == c->map);
	return page;
}

static void pages_out(struct card *c, char *p, size_t nr)
{
	struct move *mv = move_new();

	CHECK_EQ(move_setup(mv, c, p, nr, UHMM_SELECT_SYSTEM), 0);
	move_copy(mv, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), nr);
	move_free(mv);
}

/* Everything that the device has, MOVE_PAGES at a time. Pages that moved. */
static size_t evict(struct card *c, uint32_t flags, bool to_memory)
{
	struct move *mv = move_new();
	uint64_t first;
	size_t moved = 0;

	for (first = 0; first < CARD_PAGES; first += MOVE_PAGES) {
		CHECK_EQ(range_setup(mv, c, first, MOVE_PAGES, flags), 0);
		CHECK_EQ(mv->m.npages, MOVE_PAGES);
		move_copy(mv, to_memory);
		move_end(mv);
		moved += move_moved(mv);
	}
	move_free(mv);
	return moved;
}

API_TEST(a_driver_takes_all_its_memory_back)
{
	struct card *c = card_open(delivery);
	char *p = map_huge(), *q = api_map(100);

	api_fill(q, 100, 5000);
	move_out(c, p, 2 * NR);
	pages_out(c, q, 100);
	CHECK_EQ(evict(c, UHMM_SELECT_COMPOUND, true), 2 * NR + 100);
	CHECK_EQ(card_splits(c), 0);
	CHECK_EQ(card_freed(c), 102);
	CHECK_EQ(api_stats(c->space).now_device, 0);
	CHECK_EQ(api_resident(p, 2 * NR), 2 * NR);
	CHECK_EQ(huge_pages(p), 2 * NR);
	CHECK_EQ(api_resident(q, 100), 100);
	api_check(p, 2 * NR, 1);
	api_check(q, 100, 5000);
	CHECK_EQ(uhmm_pagemap_unregister(c->map), 0);
	card_close(c);
}

API_TEST(without_the_flag_folios_are_taken_page_by_page)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	CHECK_EQ(evict(c, 0, true), 2 * NR);
	CHECK_EQ(card_splits(c), 2);
	CHECK_EQ(api_resident(p, 2 * NR), 2 * NR);
	api_check(p, 2 * NR, 1);
	card_close(c);
}

API_TEST(a_driver_moves_pages_to_others_of_its_own)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();

	move_out(c, p, 2 * NR);
	CHECK_GE(evict(c, UHMM_SELECT_COMPOUND, false), 2 * NR);
	CHECK_EQ(card_splits(c), 0);
	CHECK_EQ(api_resident(p, 2 * NR), 0);
	CHECK_EQ(api_stats(c->space).now_device, 2 * NR);
	api_check(p, 2 * NR, 1);
	CHECK_EQ(huge_pages(p), 2 * NR);
	card_close(c);
}

API_TEST(a_part_of_a_folio_is_taken_by_its_pages)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	uint64_t head;

	move_out(c, p, NR);
	head = card_head(c);
	CHECK_EQ(range_setup(mv, c, head + 1, NR - 1, UHMM_SELECT_COMPOUND), 0);
	CHECK_EQ(mv->m.cpages, NR - 1);
	CHECK_EQ(card_splits(c), 1);
	CHECK_EQ(page_of(c, mv->src[0]), head + 1);
	CHECK_EQ(mv->src[0] & FLAGS, TAKEN & ~UHMM_PFN_COMPOUND);
	move_copy(mv, true);
	move_end(mv);
	CHECK_EQ(move_moved(mv), NR - 1);
	CHECK_EQ(api_resident(p, NR), NR - 1);
	api_check(p, 2 * NR, 1);
	move_free(mv);
	card_close(c);
}

API_TEST(pages_are_taken_by_name)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge();
	uhmm_pfn_t spare, pfn;
	size_t i;

	api_fill(p, 2 * NR, 1);
	pages_out(c, p, 8);
	move_out(c, p + NR * PAGE, NR);
	CHECK_EQ(move_setup(mv, c, p, 2 * NR, FROM_DEVICE), 0);
	CHECK_EQ(mv->m.cpages, 9);
	pfn = mv->src[NR];
	CHECK(pfn & UHMM_PFN_COMPOUND);
	CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);

	/* What it has, what it has not, what nobody has; in the array of the result. */
	prepare(mv, c, UHMM_SELECT_COMPOUND);
	spare = card_get(c, false);
	mv->src[8] = spare;
	mv->src[9] = 0;
	mv->src[10] = (uhmm_pfn_t)CARD_PAGES << UHMM_PFN_SHIFT | spare;
	mv->src[11] = pfn;
	for (i = 12; i < 11 + NR; i++)
		mv->src[i] = 0;
	mv->src[11 + NR] = mv->src[3]; /* again */
	CHECK_EQ(uhmm_migrate_device_pfns(c->space, mv->src, 12 + NR, &mv->m), 0);
	CHECK_EQ(mv->m.cpages, 9);
	CHECK_EQ(mv->src[8] | mv->src[9] | mv->src[10] | mv->src[11 + NR], 0);
	CHECK_EQ(mv->src[11], pfn);
	move_copy(mv, true);
	move_end(mv);
	CHECK_EQ(move_moved(mv), NR + 8);
	CHECK_EQ(api_resident(p, 2 * NR), 2 * NR);
	CHECK_EQ(huge_pages(p), NR);
	uhmm_page_put(c->map, page_of(c, spare));
	api_check(p, 2 * NR, 1);
	move_free(mv);
	card_close(c);
}

API_TEST(what_moves_or_goes_meanwhile_is_followed_or_let_go)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	char *p = map_huge(), *to = api_map(NR);
	int commit_first;

	for (commit_first = 0; commit_first < 2; commit_first++) {
		uint64_t head;

		move_out(c, p, NR);
		head = card_head(c);
		CHECK(mremap(p, NR * PAGE, NR * PAGE,
			     MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to);
		/* It may not be known yet where it is now. */
		do
			CHECK_EQ(range_setup(mv, c, head, NR, UHMM_SELECT_COMPOUND), 0);
		while (!mv->m.cpages && uhmm_migrate_finalize(c->space, &mv->m) == 0);
		CHECK_EQ(mv->m.cpages, 1);
		move_copy(mv, true);
		if (commit_first)
			CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
		CHECK(mremap(to, NR * PAGE, NR * PAGE,
			     MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, p) == p);
		CHECK_EQ(madvise(p + 8 * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
		if (!commit_first)
			CHECK_EQ(uhmm_migrate_pages(c->space, &mv->m), 0);
		CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
		CHECK_EQ(p[8 * PAGE] + p[15 * PAGE], 0);
		api_check(p, 8, 1);
		api_check(p + 16 * PAGE, 2 * NR - 16, 17);
		CHECK_EQ(api_stats(c->space).now_device, 0);
		CHECK_EQ(munmap(p, 2 * NR * PAGE), 0);
		p = map_huge();
	}
	move_free(mv);
	card_close(c);
}

API_TEST(the_arrays_may_lie_in_what_is_to_be_taken)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();
	uhmm_pfn_t *src = (uhmm_pfn_t *)(p + 3 * PAGE), *dst = src + NR;
	struct uhmm_migrate *m = (struct uhmm_migrate *)(p + 8 * PAGE);
	struct uhmm_migrate arg = {
		.size = sizeof(arg), .src = src, .dst = dst, .flags = UHMM_SELECT_COMPOUND
	};
	uint64_t head;
	size_t i;

	move_out(c, p, NR);
	*m = arg; /* and so it is back */
	CHECK_SOON(card_freed(c) == 1);
	move_out(c, p, NR);
	head = card_head(c);
	CHECK_EQ(uhmm_migrate_device_range(c->map, head, NR, &arg), 0);
	CHECK_EQ(arg.cpages, NR - 2);
	CHECK_EQ(src[3] | src[4], 0);
	for (i = 0; i < NR; i++) {
		if (!src[i])
			continue;
		CHECK_EQ(uhmm_page_alloc(c->space, &dst[i], 1), 1);
		memcpy(uhmm_pfn_bytes(c->space, dst[i]), c->page[head + i], PAGE);
	}
	CHECK_EQ(uhmm_migrate_pages(c->space, &arg), 0);
	CHECK_EQ(uhmm_migrate_finalize(c->space, &arg), 0);
	api_check(p, 3, 1);
	api_check(p + 9 * PAGE, 2 * NR - 9, 10);
	CHECK_EQ(m->size, sizeof(*m));
	card_close(c);
}

API_TEST(bad_pages_are_refused)
{
	struct card *c = card_open(delivery);
	struct move *mv = move_new();
	uhmm_pfn_t pfn = 0;

	CHECK_EQ(range_setup(mv, c, 0, 0, 0), -EINVAL);
	CHECK_EQ(range_setup(mv, c, CARD_PAGES, 1, 0), -EINVAL);
	CHECK_EQ(range_setup(mv, c, 1, CARD_PAGES, 0), -EINVAL);
	CHECK_EQ(range_setup(mv, c, UINT64_MAX, 2, 0), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_range(c->map, 0, 1, NULL), -EINVAL);
	prepare(mv, c, 0);
	mv->m.dst = mv->src + 1;
	CHECK_EQ(uhmm_migrate_device_range(c->map, 0, 2, &mv->m), -EINVAL);
	mv->m.dst = NULL;
	CHECK_EQ(uhmm_migrate_device_range(c->map, 0, 2, &mv->m), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_pfns(c->space, NULL, 1, &mv->m), -EINVAL);
	prepare(mv, c, 0);
	CHECK_EQ(uhmm_migrate_device_pfns(c->space, NULL, 1, &mv->m), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_pfns(c->space, &pfn, 0, &mv->m), -EINVAL);
	CHECK(!mv->m.migration);
	CHECK_EQ(uhmm_migrate_device_pfns(c->space, &pfn, 1, &mv->m), 0);
	CHECK_EQ(mv->m.cpages, 0);
	CHECK_EQ(uhmm_migrate_device_range(c->map, 0, 1, &mv->m), -EINVAL);
	CHECK_EQ(uhmm_migrate_finalize(c->space, &mv->m), 0);
	move_free(mv);
	card_close(c);
}

/* ---- threads ----------------------------------------------------------------------- */

struct evictor {
	pthread_t thread;
	struct card *card;
	char *p;
	bool *stop;
	size_t moved;
};

static void *evict_again_and_again(void *arg)
{
	struct evictor *e = arg;
	size_t moved = 0;

	while (!__atomic_load_n(e->stop, __ATOMIC_ACQUIRE)) {
		moved += evict(e->card, moved & 1 ? 0 : UHMM_SELECT_COMPOUND, true);
		__atomic_store_n(&e->moved, moved, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *put_again_and_again(void *arg)
{
	struct evictor *e = arg;
	struct move *mv = move_new();

	while (!__atomic_load_n(e->stop, __ATOMIC_ACQUIRE)) {
		CHECK_EQ(move_setup(mv, e->card, e->p, 2 * NR, WHOLE), 0);
		move_copy(mv, false);
		move_end(mv);
		e->moved += move_moved(mv);
	}
	move_free(mv);
	return NULL;
}

API_TEST(threads_write_while_a_driver_takes_memory_back, .timeout_s = 90)
{
	struct card *c = card_open(delivery);
	char *p = map_huge();
	bool stop = false;
	struct evictor e[2] = { { .card = c, .p = p, .stop = &stop },
				{ .card = c, .p = p, .stop = &stop } };
	size_t round;

	CHECK_EQ(pthread_create(&e[0].thread, NULL, put_again_and_again, &e[0]), 0);
	CHECK_EQ(pthread_create(&e[1].thread, NULL, evict_again_and_again, &e[1]), 0);
	for (round = 1; round < 30 || !__atomic_load_n(&e[1].moved, __ATOMIC_RELAXED);
	     round++) {
		api_check(p, 2 * NR, round);
		api_fill(p, 2 * NR, round + 1);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(e[0].thread, NULL);
	pthread_join(e[1].thread, NULL);
	api_check(p, 2 * NR, round);
	card_close(c);
}

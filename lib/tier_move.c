/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding room on tiers: a page is stored where there is some, and where there is none
 * the oldest pages are moved down first. See tier.h, which has the races.
 */
#include <errno.h>
#include <string.h>

#include "lib/tier_internal.h"

/*
 * How often room is made for the pages of one store. Moving may free little: pages of
 * one word take next to no room, and those to be stored much.
 */
#define TRIES_MAX 8

/* ---- pages where they are -------------------------------------------------------- */

void tiers_run(struct tiers *t, enum uhmm_op op, struct uhmm_io *io, const uint64_t *word,
	       uint32_t nr)
{
	struct uhmm_io some[UHMM_BATCH_MAX];
	uint8_t of[UHMM_BATCH_MAX];
	uint32_t k, i, n;

	for (k = 0; k < t->nr; k++) {
		for (n = 0, i = 0; i < nr; i++)
			if (word_tier(word[i]) == k) {
				some[n] = io[i];
				some[n].page = word[i] & WORD_PAGE;
				of[n++] = (uint8_t)i;
			}
		if (n)
			device_run(t->tier[k].dev, op, some, n);
		while (n-- > 0)
			io[of[n]].result = some[n].result;
	}
}

static void free_places(struct tiers *t, const uint64_t *word, uint32_t nr)
{
	struct uhmm_io io[UHMM_BATCH_MAX] = { 0 };
	uint32_t at, n;

	for (at = 0; at < nr; at += n) {
		n = nr - at < UHMM_BATCH_MAX ? nr - at : UHMM_BATCH_MAX;
		tiers_run(t, UHMM_OP_FREE, io, word + at, n);
	}
}

/* ---- moving a batch -------------------------------------------------------------- */

/* The oldest pages of a tier, as many as there are buffers for. */
static void pick(struct tiers *t, uint32_t k, uint32_t nr)
{
	struct move *m = &t->tier[k].move;

	uhmm_lock(&t->lock);
	for (m->nr = 0; m->nr < nr && t->tier[k].oldest; m->nr++) {
		uint32_t record = t->tier[k].oldest - 1;
		uint64_t *word = &record_at(t, record)->word;

		list_remove(t, k, record);
		m->record[m->nr] = record;
		m->from[m->nr] = __atomic_or_fetch(word, WORD_MOVING, __ATOMIC_RELAXED);
		/* Without whoever reads it at this moment. */
		m->from[m->nr] &= WORD_READER - 1;
	}
	uhmm_unlock(&t->lock);
}

static void load_picked(struct tiers *t, uint32_t k)
{
	struct move *m = &t->tier[k].move;
	uint32_t i, n = 0;

	for (i = 0; i < m->nr; i++)
		m->io[i] = (struct uhmm_io){ .buf = m->buf[i], .len = UHMM_PAGE_SIZE };
	tiers_run(t, UHMM_OP_LOAD, m->io, m->from, m->nr);
	for (i = 0; i < m->nr; i++) {
		m->what[i] = MOVE_LOST;
		if (m->io[i].result)
			continue;
		m->of[n] = (uint8_t)i;
		m->io[n++] = m->io[i];
	}
	m->nr_loaded = n;
}

static void store_loaded(struct tiers *t, uint32_t k)
{
	struct move *m = &t->tier[k].move;
	uint32_t i;

	if (!m->nr_loaded)
		return;
	tiers_place(t, k + 1, m->io, m->tier, m->nr_loaded);
	for (i = 0; i < m->nr_loaded; i++) {
		uint32_t of = m->of[i];

		m->what[of] = m->io[i].result ? MOVE_REFUSED : MOVE_STORED;
		m->to[of] = word_of(m->tier[i], m->io[i].page);
	}
}

/*
 * The record names the copy from now on, if nobody reads the other one. Acquire: with the
 * release of the last who did, before it is freed. Release: with the acquire of who comes
 * next, who finds the copy complete.
 */
static bool switch_record(struct record *r, uint64_t from, uint64_t to)
{
	return __atomic_compare_exchange_n(&r->word, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* Under the lock: a page that was freed meanwhile, moved, wanted, or cannot be had. */
static bool settle_one(struct tiers *t, uint32_t k, uint32_t i)
{
	struct move *m = &t->tier[k].move;
	uint32_t nr = m->record[i];
	struct record *r = record_at(t, nr);
	bool stored = m->what[i] == MOVE_STORED;

	if (__atomic_load_n(&r->word, __ATOMIC_RELAXED) & WORD_DROPPED) {
		if (stored)
			m->spare[m->nr_spare++] = m->to[i];
		m->spare[m->nr_spare++] = m->from[i];
		m->nr_dropped++;
		record_give(t, nr);
		return true;
	}
	if (stored && switch_record(r, m->from[i], m->to[i])) {
		m->spare[m->nr_spare++] = m->from[i];
		list_add_newest(t, word_tier(m->to[i]), nr);
		return true;
	}
	if (stored)
		m->spare[m->nr_spare++] = m->to[i];
	__atomic_and_fetch(&r->word, ~WORD_MOVING, __ATOMIC_RELAXED);
	if (m->what[i] == MOVE_REFUSED)
		list_add_oldest(t, k, nr);
	else
		list_add_newest(t, k, nr);
	return false;
}

/*
 * What was refused goes back to where it was, so the oldest of it last. Returns how many
 * pages are gone from the tier.
 */
static uint32_t settle(struct tiers *t, uint32_t k)
{
	struct move *m = &t->tier[k].move;
	uint32_t i, gone = 0;

	m->nr_spare = m->nr_dropped = 0;
	uhmm_lock(&t->lock);
	for (i = 0; i < m->nr; i++)
		if (m->what[i] != MOVE_REFUSED)
			gone += settle_one(t, k, i);
	for (i = m->nr; i-- > 0;)
		if (m->what[i] == MOVE_REFUSED)
			gone += settle_one(t, k, i);
	uhmm_unlock(&t->lock);
	free_places(t, m->spare, m->nr_spare);
	/* As in tiers_free(). */
	__atomic_fetch_add(&t->freed, m->nr_dropped, __ATOMIC_RELEASE);
	return gone;
}

/* Of pages that nobody may see, none is left behind. */
static void put_buffers(struct tiers *t, struct move *m, uint32_t nr)
{
	uint32_t i;

	for (i = 0; t->driver.flags & UHMM_DRIVER_SECRET && i < nr; i++)
		memset(m->buf[i], 0, UHMM_PAGE_SIZE);
	uhmm_host_pages_put(m->buf, nr);
}

/* As many as the next tier likes at once. How many pages are gone from this one. */
static uint32_t move_batch(struct tiers *t, uint32_t k, uint32_t max)
{
	struct move *m = &t->tier[k].move;
	uint32_t hint = device_batch_hint(t->tier[k + 1].dev), nr, gone = 0;

	nr = uhmm_host_pages_get(m->buf, hint < max ? hint : max);
	pick(t, k, nr);
	if (m->nr) {
		load_picked(t, k);
		store_loaded(t, k);
		gone = settle(t, k);
	}
	if (nr)
		put_buffers(t, m, nr);
	return gone;
}

/* ---- room ------------------------------------------------------------------------ */

/* Not before so many pages were freed that there is something to be had. */
static bool may_move(struct tiers *t, uint32_t k)
{
	return k + 1 < t->nr &&
	       __atomic_load_n(&t->freed, __ATOMIC_RELAXED) >=
		       __atomic_load_n(&t->tier[k].again, __ATOMIC_RELAXED);
}

static bool move_some(struct tiers *t, uint32_t k)
{
	uint64_t freed = __atomic_load_n(&t->freed, __ATOMIC_RELAXED);
	uint32_t gone = 0, n;

	do {
		n = move_batch(t, k, TIER_MOVE_MAX - gone);
		gone += n;
	} while (n && gone < TIER_MOVE_MAX);
	if (gone)
		__atomic_fetch_add(&t->tier[k].moves, 1, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&t->tier[k].again, freed + TIER_MOVE_MAX,
				 __ATOMIC_RELAXED);
	return gone;
}

/* seen: tier[k].moves before there was no room. If somebody else has made some, good. */
static bool make_room(struct tiers *t, uint32_t k, uint64_t seen)
{
	bool moved = false;

	if (!may_move(t, k))
		return false;
	uhmm_lock(&t->tier[k].moving);
	if (__atomic_load_n(&t->tier[k].moves, __ATOMIC_RELAXED) != seen)
		moved = true;
	else if (may_move(t, k))
		moved = move_some(t, k);
	uhmm_unlock(&t->tier[k].moving);
	return moved;
}

/* ---- storing --------------------------------------------------------------------- */

/* Those pages of a batch that have found no place: a bit for each. */
struct placing {
	struct uhmm_io *io;
	uint8_t *tier;
	uint64_t left;
};

/* True: some found the tier full. */
static bool store_left(struct tiers *t, uint32_t k, struct placing *p)
{
	struct uhmm_io some[UHMM_BATCH_MAX];
	uint8_t of[UHMM_BATCH_MAX];
	uint32_t i, n = 0;
	bool full = false;

	for (i = 0; i < UHMM_BATCH_MAX; i++)
		if (p->left >> i & 1) {
			some[n] = p->io[i];
			of[n++] = (uint8_t)i;
		}
	device_run(t->tier[k].dev, UHMM_OP_STORE, some, n);
	for (i = 0; i < n; i++) {
		p->io[of[i]].page = some[i].page;
		p->io[of[i]].result = some[i].result;
		p->tier[of[i]] = (uint8_t)k;
		if (!some[i].result)
			p->left &= ~(UINT64_C(1) << of[i]);
		full |= some[i].result == -ENOSPC;
	}
	return full;
}

static void place_in(struct tiers *t, uint32_t k, struct placing *p)
{
	uint64_t seen;
	uint32_t tries = 0;

	do
		seen = __atomic_load_n(&t->tier[k].moves, __ATOMIC_RELAXED);
	while (store_left(t, k, p) && tries++ < TRIES_MAX && make_room(t, k, seen));
}

void tiers_place(struct tiers *t, uint32_t from, struct uhmm_io *io, uint8_t *tier,
		 uint32_t nr)
{
	struct placing p = { io, tier, UINT64_MAX >> (UHMM_BATCH_MAX - nr) };
	uint32_t k;

	for (k = from; k < t->nr && p.left; k++)
		place_in(t, k, &p);
}

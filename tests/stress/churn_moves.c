/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture: churn, while threads migrate its memory to several devices and back through
 * the library, and mirror it as a driver does.
 *
 * The movers know nothing of the regions but where some of them were not long ago: what
 * they ask for may be unmapped, mapped anew or protected by the time they do, and must
 * fail, or not, as it is documented. That no byte is wrong is what churn sees to.
 *
 * The movers' own memory is the library's: it does not migrate.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "churn.h"
#include "churn_card.h"
#include "uhmm/device.h"
#include "uhmm/range.h"
#include "uhmm/uhmm.h"

#define MOVERS 2
#define RECENT 64 /* places that are remembered; a power of 2 */
#define MIRROR_PAGES 64

/* Base, whose low bits are 0, and number of pages, in one word: never half of each. */
#define PLACE_NR_BITS 16
#define PLACE_NR_MAX (((size_t)1 << PLACE_NR_BITS) - 1)

struct mover {
	pthread_t thread;
	struct rng rng;
	struct card_move cm;
	uint64_t pfns[MIRROR_PAGES];
	uint64_t moved, back, mirrored;
};

struct moves {
	struct uhmm_space *space;
	struct uhmm_device *dev[2];
	struct card *card[2];
	struct mover mover[MOVERS];
	atomic_bool stop;
};

static _Atomic(uint64_t) places[RECENT];
static atomic_uint next_place;
static struct moves *moves; /* of uhmm_host_map() */

void moves_see(const char *base, size_t nr)
{
	unsigned i = atomic_fetch_add(&next_place, 1) % RECENT;

	if (nr > PLACE_NR_MAX)
		nr = PLACE_NR_MAX;
	atomic_store(&places[i], (uintptr_t)base / PAGE << PLACE_NR_BITS | nr);
}

/* A part of a place: often all of it, often no more than a huge page. */
static uintptr_t some_place(struct mover *m, uintptr_t *end)
{
	uint64_t at = rng_next(&m->rng), how = rng_next(&m->rng);
	uint64_t place = atomic_load(&places[at % RECENT]);
	uintptr_t start = (place >> PLACE_NR_BITS) * PAGE;
	size_t nr = place & PLACE_NR_MAX, first = 0;

	if (!start || !nr)
		return 0;
	if (how & 1) {
		first = (at >> 16) % nr;
		nr = 1 + (at >> 40) % (nr - first);
	}
	if (how & 2 && nr > UHMM_FOLIO_PAGES)
		nr = UHMM_FOLIO_PAGES;
	*end = start + (first + nr) * PAGE;
	return start + first * PAGE;
}

static void migrate(struct mover *m, uintptr_t start, uintptr_t end,
		    struct uhmm_device *dev)
{
	size_t moved = 0;
	int r = uhmm_migrate(moves->space, (void *)start, end - start, dev, NULL, &moved);

	if (r)
		fail("uhmm_migrate: %d", r);
	*(dev ? &m->moved : &m->back) += moved;
}

static void advise(struct mover *m, uintptr_t start, uintptr_t end)
{
	uint64_t how = rng_next(&m->rng);
	int r = uhmm_advise(moves->space, (void *)start, end - start,
			    how & 1 ? UHMM_ADVISE_COLD : UHMM_ADVISE_WILLNEED);

	if (r && r != -EBUSY && r != -EAGAIN)
		fail("uhmm_advise: %d", r);
}

static void invalidate(struct uhmm_notifier *notifier, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	(void)ctx;
	(void)what;
	uhmm_notifier_set_seq(notifier, seq);
}

/* What a driver that mirrors the range does; and a page of it that it wants alone. */
static void mirror(struct mover *m, uintptr_t start, uintptr_t end)
{
	static const struct uhmm_notifier_ops ops = { .size = sizeof(ops),
						      .invalidate = invalidate };
	uint64_t how = rng_next(&m->rng);
	struct uhmm_range range = {
		.size = sizeof(range),
		.start = start,
		.pfns = m->pfns,
		.default_flags = how & 1 ? UHMM_RANGE_REQ_FAULT : 0,
	};
	uhmm_pfn_t pfn;
	int r, tries;

	if (end - start > MIRROR_PAGES * PAGE)
		end = start + MIRROR_PAGES * PAGE;
	range.end = end;
	r = uhmm_notifier_insert(moves->space, start, end - start, &ops, m,
				 &range.notifier);
	if (r)
		fail("uhmm_notifier_insert: %d", r);
	for (tries = 0; tries < 4; tries++) {
		range.notifier_seq = uhmm_notifier_read_begin(range.notifier);
		r = uhmm_range_fault(&range);
		if (r && r != -EBUSY && r != -EFAULT && r != -EPERM)
			fail("uhmm_range_fault: %d", r);
		if (r != -EBUSY)
			break;
	}
	if (how >> 8 & 1) {
		r = uhmm_make_exclusive(moves->space, start, &ops, &pfn);
		if (r && r != -EBUSY && r != -EOPNOTSUPP && r != -EFAULT && r != -EPERM)
			fail("uhmm_make_exclusive: %d", r);
	}
	uhmm_notifier_remove(range.notifier);
	m->mirrored++;
}

static void move_something(struct mover *m)
{
	uint64_t how = rng_next(&m->rng), which = rng_next(&m->rng) % 16;
	struct card *card = moves->card[how >> 60 & 1];
	uintptr_t end = 0, start = some_place(m, &end);
	int r;

	if (!start)
		return;
	if (which < 5) {
		migrate(m, start, end, moves->dev[how & 1]);
	} else if (which < 7) {
		migrate(m, start, end, NULL);
	} else if (which < 12) {
		card_move(card, &m->cm, start, end, how);
	} else if (which == 12) {
		card_take_back(card, &m->cm, how);
	} else if (which == 13) {
		advise(m, start, end);
	} else if (which == 14) {
		mirror(m, start, end);
	} else if (how % 16 == 0) {
		r = uhmm_pagemap_evict(card->map);
		if (r && r != -EBUSY)
			fail("uhmm_pagemap_evict: %d", r);
	}
}

static void *move_again_and_again(void *arg)
{
	struct mover *m = arg;

	while (!atomic_load(&moves->stop))
		move_something(m);
	return NULL;
}

void moves_start(uint64_t seed, bool inline_delivery)
{
	static const char *const specs[] = { "ram", "lz4" };
	struct uhmm_space_config config = {
		.size = sizeof(config),
		.delivery = inline_delivery ? UHMM_DELIVERY_INLINE : UHMM_DELIVERY_THREAD,
	};
	int i, r;

	moves = uhmm_host_map(sizeof(*moves));
	if (!moves)
		fail("no memory for the movers");
	r = uhmm_space_create(&config, &moves->space);
	if (r == -EPERM || r == -ENOSYS)
		exit(77);
	if (r)
		fail("uhmm_space_create: %d", r);
	for (i = 0; i < 2; i++) {
		r = uhmm_device_open(moves->space, specs[i], &moves->dev[i]);
		if (r)
			fail("uhmm_device_open: %s: %d", specs[i], r);
		moves->card[i] = card_open(moves->space, i == 1);
	}
	for (i = 0; i < MOVERS; i++) {
		moves->mover[i].rng.state = mix64(seed << 8 | (unsigned)(i + 128));
		if (pthread_create(&moves->mover[i].thread, NULL, move_again_and_again,
				   &moves->mover[i]) != 0)
			fail("pthread_create");
	}
}

void moves_stop(void)
{
	int i, r;

	atomic_store(&moves->stop, true);
	for (i = 0; i < MOVERS; i++)
		pthread_join(moves->mover[i].thread, NULL);
	r = uhmm_space_destroy(moves->space);
	if (r)
		fail("uhmm_space_destroy: %d", r);
}

void moves_report(void)
{
	int i;

	for (i = 0; i < 2; i++) {
		fprintf(stderr,
			"card %d: %llu pages moved, %llu migrations undone, %llu "
			"evictions\n",
			i, (unsigned long long)moves->card[i]->moves,
			(unsigned long long)moves->card[i]->rollbacks,
			(unsigned long long)moves->card[i]->evictions);
		card_close(moves->card[i]);
	}
	for (i = 0; i < MOVERS; i++)
		fprintf(stderr, "mover %d: %llu pages stored, %llu back, %llu mirrored\n",
			i, (unsigned long long)moves->mover[i].moved,
			(unsigned long long)moves->mover[i].back,
			(unsigned long long)moves->mover[i].mirrored);
	uhmm_host_unmap(moves, sizeof(*moves));
}

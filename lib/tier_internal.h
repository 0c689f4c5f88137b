/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of tiers share: see tier.h. */
#ifndef UHMM_TIER_INTERNAL_H
#define UHMM_TIER_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/device.h"
#include "lib/limits.h"

/* ---- records --------------------------------------------------------------------- */

/*
 * A page. What its word says changes under the lock of the records, but for the readers,
 * which come and go at any time.
 */
struct record {
	uint64_t word; /* atomic: see below */
	/* In the list of its tier, or of free records; number + 1, 0: none. */
	uint32_t older, newer;
};

#define WORD_PAGE (UHMM_DEVICE_PAGE_LIMIT - 1) /* what it is called in its tier */
#define WORD_TIER_SHIFT 44
#define WORD_TIER UINT64_C(7)
#define WORD_MOVING (UINT64_C(1) << 47)  /* in no list, and the mover's to settle */
#define WORD_DROPPED (UINT64_C(1) << 48) /* freed while it was moving */
#define WORD_ALONE (UINT64_C(1) << 49)   /* in no list: it is short, and stays */
/* Loads of this page under way, one of each thread at most: fewer than 2^14. */
#define WORD_READER (UINT64_C(1) << 50)

_Static_assert(SPEC_TIERS_MAX <= WORD_TIER + 1, "a tier has 3 bits");

static inline uint64_t word_of(uint32_t tier, uint64_t page)
{
	return (uint64_t)tier << WORD_TIER_SHIFT | page;
}

static inline uint32_t word_tier(uint64_t word)
{
	return word >> WORD_TIER_SHIFT & WORD_TIER;
}

/* They grow by chunks of 2^16, which stay: 1 MiB, of which memory is taken as used. */
#define RECORDS_SHIFT 16
#define RECORDS_CHUNK (UINT64_C(1) << RECORDS_SHIFT)
/* 16 TiB of pages; the last number + 1 has to be one as well. */
#define RECORDS_MAX ((UINT64_C(1) << 32) - 1)

/* ---- tiers ----------------------------------------------------------------------- */

/* Room for a batch that moves, under the lock of its tier. */
struct move {
	uint32_t nr;
	uint32_t record[UHMM_BATCH_MAX];
	uint64_t from[UHMM_BATCH_MAX]; /* words: where each is */
	uint64_t to[UHMM_BATCH_MAX];   /* where its copy is, if it has one */
	enum { MOVE_LOST, MOVE_REFUSED, MOVE_STORED } what[UHMM_BATCH_MAX];
	void *buf[UHMM_BATCH_MAX];
	/* Those that were loaded, for the tiers below. */
	uint32_t nr_loaded;
	struct uhmm_io io[UHMM_BATCH_MAX];
	uint8_t tier[UHMM_BATCH_MAX], of[UHMM_BATCH_MAX];
	/* Copies that nobody needs any more; pages that were freed meanwhile. */
	uint32_t nr_spare, nr_dropped;
	uint64_t spare[2 * UHMM_BATCH_MAX];
};

struct tier {
	struct uhmm_device *dev;
	uint32_t oldest, newest; /* lock of the records */
	/* The rest is for moving from here to those below. */
	struct uhmm_lock moving;
	uint64_t moves; /* atomic: times that room was made */
	uint64_t again; /* atomic: not before so many pages were freed */
	struct move move;
};

struct tiers {
	struct uhmm_driver driver; /* made for these */
	uint32_t nr;
	struct tier tier[SPEC_TIERS_MAX];

	struct uhmm_lock lock; /* the records, and all lists */
	uint32_t free;         /* number + 1 of a free record; 0: none */
	uint64_t used;         /* records that were ever used are below */
	struct record **chunk;

	/* atomic */
	uint64_t freed;   /* pages whose room was given back */
	uint64_t full_at; /* `freed` when nothing found room anywhere */
	uint64_t pages, stores, loads, frees, store_failures, load_failures;
};

/* ---- tier_record.c --------------------------------------------------------------- */

bool records_open(struct tiers *t);
void records_close(struct tiers *t);
/* Bytes that they take. */
uint64_t records_bytes(struct tiers *t);
/* Up to nr of them: how many. */
uint32_t records_take(struct tiers *t, uint32_t *record, uint32_t nr);
struct record *record_at(const struct tiers *t, uint64_t nr);

/* With t->lock held. */
void record_give(struct tiers *t, uint32_t nr);
void list_add_newest(struct tiers *t, uint32_t tier, uint32_t nr);
void list_add_oldest(struct tiers *t, uint32_t tier, uint32_t nr);
void list_remove(struct tiers *t, uint32_t tier, uint32_t nr);

/* ---- tier_move.c ----------------------------------------------------------------- */

/*
 * Stores pages in the tier `from`, where room is made, or in one below. Of each that has
 * the result 0, tier[i] and io[i].page say where it is. 1..UHMM_BATCH_MAX.
 */
void tiers_place(struct tiers *t, uint32_t from, struct uhmm_io *io, uint8_t *tier,
		 uint32_t nr);
/* Loads or frees pages where their words say they are; io[i].page is left alone. */
void tiers_run(struct tiers *t, enum uhmm_op op, struct uhmm_io *io, const uint64_t *word,
	       uint32_t nr);

#endif

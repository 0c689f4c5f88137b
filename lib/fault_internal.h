/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of fault.h share: looking a page up, and loading pages from a device.
 */
#ifndef UHMM_FAULT_INTERNAL_H
#define UHMM_FAULT_INTERNAL_H

#include "lib/fault.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap.h"
#include "lib/types.h"

/* Pages in a row that are loaded together. */
struct load {
	struct uhmm_space *sp;
	uintptr_t addr;
	unsigned nr, device, filled;
	bool asked;                     /* the first page was touched, not guessed */
	bool all_asked;                 /* so were the others: a call names them */
	entry_t *entry[UHMM_BATCH_MAX]; /* LOADING: ours */
	entry_t from[UHMM_BATCH_MAX];
	struct uhmm_io io[UHMM_BATCH_MAX]; /* used again to free the copies */
	uint64_t wanted;
	uint64_t done, lost; /* pages that left the device; of those, lost */
	bool frames;         /* they are loaded into spare frames */
	uint64_t left;       /* those of the frames that still hold a page */
};

/*
 * Makes up to max pages from addr on LOADING, all from one device; the gate is entered.
 * bytes: room for them.
 */
void claim_loads(struct load *ld, struct chunk *chunk, unsigned max, char *bytes);
/* ld's pages are LOADING; the gate was left. 0 if the first page is there. */
int load_claimed(struct load *ld);

/*
 * Before nr pages are loaded from a device: one that has uses its pages no more. What it
 * returns is for notifier_end(), when they are in their places.
 */
static inline bool tell_load(struct uhmm_space *sp, unsigned device, uintptr_t addr,
			     unsigned nr)
{
	return pagemap_at(sp, device) &&
	       notifier_begin(sp, addr, addr + nr * PAGE_SIZE, UHMM_EVENT_MIGRATE, NULL);
}

/*
 * Brings back pages on probation from addr on, at most nr: how many. They are as warm as
 * they left.
 */
unsigned bring_probation(struct uhmm_space *sp, uintptr_t addr, unsigned nr);

/* The entry that speaks for addr: its folio's, its own, or NULL. The gate is entered. */
entry_t *find_entry(struct uhmm_space *sp, uintptr_t addr, struct chunk **chunk,
		    bool *folio);

/*
 * A folio on a page map comes back, lib/fault_folio.c: that in the chunk of addr if it is
 * there still. The gate is entered by shard, and left. As fault_resolve().
 */
int resolve_device_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			 unsigned shard);
/* The same, whatever room the budget has: pages that are there, from its first on. */
unsigned load_device_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			   unsigned shard);
/*
 * That in the chunk at addr, if it has ENTRY_STORED, lib/fault_chunk.c: the same.
 */
unsigned load_stored_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			   struct fault_buf *buf, unsigned shard);

/* How hot a page is that was touched. */
static inline unsigned hotter(entry_t e)
{
	unsigned hot = entry_hot(e);

	return hot < 3 ? hot + 1 : 3;
}

#endif

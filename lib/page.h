/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page-state table: from addresses to entries, and the one way to change them.
 *
 * Sparse: 8 bytes for each page of a 2 MiB chunk in which a page is migrated, nothing for
 * the others but 32 bytes a chunk in 16 GiB pieces that were ever used, and those only
 * take memory where they were written. Walks skip what does not exist.
 *
 * Lookups need no lock. Entry arrays are freed only with the gate closed, so a pointer to
 * an entry is good while the gate is entered or the entry is busy and held.
 */
#ifndef UHMM_PAGE_H
#define UHMM_PAGE_H

#include "lib/types.h"

static inline enum page_state entry_state(entry_t e)
{
	return (enum page_state)(e & ENTRY_STATE);
}

static inline uint64_t entry_payload(entry_t e)
{
	return e >> ENTRY_PAYLOAD_SHIFT;
}

static inline unsigned entry_device(entry_t e)
{
	return (unsigned)((e & ENTRY_DEV) >> ENTRY_DEV_SHIFT);
}

static inline entry_t entry_make(enum page_state state, uint64_t payload, unsigned device)
{
	return (entry_t)state | payload << ENTRY_PAYLOAD_SHIFT |
	       (entry_t)device << ENTRY_DEV_SHIFT;
}

static inline unsigned entry_hot(entry_t e)
{
	return (unsigned)((e & ENTRY_HOT) >> ENTRY_HOT_SHIFT);
}

static inline entry_t entry_with_hot(entry_t e, unsigned hot)
{
	return (e & ~ENTRY_HOT) | (entry_t)hot << ENTRY_HOT_SHIFT;
}

static inline entry_t entry_with_gen(entry_t e, uint64_t gen)
{
	return (e & ~(ENTRY_GEN_MASK << ENTRY_GEN_SHIFT)) | (gen & ENTRY_GEN_MASK)
								    << ENTRY_GEN_SHIFT;
}

/* Generations from that of e to now. */
static inline unsigned entry_age(entry_t e, uint64_t now)
{
	return (unsigned)((now - (e >> ENTRY_GEN_SHIFT)) & ENTRY_GEN_MASK);
}

static inline bool entry_busy(entry_t e)
{
	switch (entry_state(e)) {
	case PAGE_ISOLATING:
	case PAGE_STORING:
	case PAGE_LOADING:
		return true;
	default:
		return false;
	}
}

/* May a thread of the program be waiting for it? */
static inline bool entry_wantable(entry_t e)
{
	return entry_busy(e) || entry_state(e) == PAGE_MIGRATING;
}

static inline entry_t entry_load(const entry_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static inline unsigned page_index(uintptr_t addr)
{
	return (unsigned)(addr >> PAGE_SHIFT) % CHUNK_PAGES;
}

static inline uintptr_t chunk_start(uintptr_t addr)
{
	return addr & ~(uintptr_t)(CHUNK_SIZE - 1);
}

/* The chunk of addr, or NULL if its 16 GiB were never used. */
struct chunk *page_chunk(struct uhmm_space *sp, uintptr_t addr);
/* Makes it. NULL: no memory, or beyond ADDRESS_BITS. */
struct chunk *page_chunk_make(struct uhmm_space *sp, uintptr_t addr);
/* The entry of addr, or NULL if its chunk has none: then its state is NONE. */
entry_t *page_entry(struct chunk *chunk, uintptr_t addr);
/* Makes the chunk's entries. False: no memory. */
bool page_entries_make(struct uhmm_space *sp, struct chunk *chunk);

/*
 * Changes an entry from exactly *old to new, both without WANTED and WAITERS unless old
 * has them; on failure *old is what it is now. Asserts that the transition is one of
 * those that states may make.
 */
bool page_change(struct uhmm_space *sp, entry_t *entry, uintptr_t addr, entry_t *old,
		 entry_t new_entry);

/*
 * The holder of a busy entry settles it in new_entry (or, still busy, another busy
 * state). Wakes threads on the wait queue. Returns the flags that had been set on it
 * meanwhile: with ENTRY_WANTED the caller must see that the page's sleepers are woken.
 */
entry_t page_settle(struct uhmm_space *sp, entry_t *entry, uintptr_t addr,
		    entry_t new_entry);

/* Sets WANTED on a busy or MIGRATING entry; false if it is neither any more. */
bool page_want(entry_t *entry);
/* Sleeps until a busy entry is settled. Not for a thread that holds a busy page. */
void page_wait(struct uhmm_space *sp, entry_t *entry);

/*
 * Calls fn for every entry that is not NONE, lowest address first; folio entries come
 * with folio = true and the chunk's address. Ends when fn returns non-zero, and returns
 * that.
 */
typedef int (*page_walk_fn)(void *ctx, struct chunk *chunk, entry_t *entry,
			    uintptr_t addr, bool folio);
int page_walk(struct uhmm_space *sp, uintptr_t start, uintptr_t end, page_walk_fn fn,
	      void *ctx);
/* The lowest page of [start, end) that is not NONE, as itself or as part of a folio. */
bool page_first(struct uhmm_space *sp, uintptr_t start, uintptr_t end, uintptr_t *first);

/*
 * With the gate closed: frees entry arrays of [start, end) in which all entries are NONE.
 */
void page_trim(struct uhmm_space *sp, uintptr_t start, uintptr_t end);

/* Pins. Under chunk->lock. */
bool page_pinned(const struct chunk *chunk, unsigned index);
bool page_chunk_pinned(const struct chunk *chunk);
/* +1 or -1; -ENOMEM, -EINVAL (below zero), -EOVERFLOW. */
int page_pin(struct uhmm_space *sp, struct chunk *chunk, unsigned index, int delta);

void page_table_fini(struct uhmm_space *sp);
uint64_t page_table_bytes(struct uhmm_space *sp);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page-state table. See page.h for the rules, types.h for who may do what.
 */
#include "lib/page.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/assert.h"
#include "lib/trace.h"

#define LEAF_CHUNKS (1u << LEAF_BITS)
#define LEAF_SHIFT (CHUNK_SHIFT + LEAF_BITS)

/*
 * From (row) to (bit). A busy page settles in what it came from when its holder gives up,
 * in what it was to become otherwise. An entry that follows an mremap() passes through
 * ISOLATING at its new address; the pages of a stored folio go from NONE to DEVICE.
 */
#define TO(s) (1u << PAGE_##s)
static const uint32_t allowed[PAGE_NR_STATES] = {
	[PAGE_NONE] = TO(NONE) | TO(ISOLATING) | TO(DEVICE),
	[PAGE_ISOLATING] = TO(NONE) | TO(PROBATION) | TO(DEVICE) | TO(POISONED) |
			   TO(MIGRATING) | TO(COHERENT),
	[PAGE_PROBATION] = TO(NONE) | TO(STORING) | TO(LOADING) | TO(PROBATION) |
			   TO(MIGRATING) | TO(EXCLUSIVE),
	[PAGE_STORING] = TO(NONE) | TO(PROBATION) | TO(DEVICE),
	[PAGE_DEVICE] = TO(NONE) | TO(LOADING) | TO(MIGRATING),
	[PAGE_LOADING] = TO(NONE) | TO(PROBATION) | TO(DEVICE) | TO(POISONED) |
			 TO(COHERENT),
	[PAGE_POISONED] = TO(NONE),
	[PAGE_MIGRATING] = TO(NONE) | TO(PROBATION) | TO(DEVICE) | TO(POISONED),
	[PAGE_EXCLUSIVE] = TO(NONE) | TO(PROBATION) | TO(EXCLUSIVE),
	[PAGE_COHERENT] = TO(NONE) | TO(ISOLATING) | TO(COHERENT),
};

struct chunk *page_chunk(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk *leaf;

	if (addr >> ADDRESS_BITS)
		return NULL;
	leaf = __atomic_load_n(&sp->table.leaf[addr >> LEAF_SHIFT], __ATOMIC_ACQUIRE);
	return leaf ? &leaf[(addr >> CHUNK_SHIFT) % LEAF_CHUNKS] : NULL;
}

struct chunk *page_chunk_make(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk **slot, *leaf, *theirs = NULL;

	if (addr >> ADDRESS_BITS)
		return NULL;
	slot = &sp->table.leaf[addr >> LEAF_SHIFT];
	if (!__atomic_load_n(slot, __ATOMIC_ACQUIRE)) {
		leaf = uhmm_host_map(sizeof(*leaf) * LEAF_CHUNKS);
		if (!leaf)
			return NULL;
		if (__atomic_compare_exchange_n(slot, &theirs, leaf, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			__atomic_fetch_add(&sp->table.nr_leaves, 1, __ATOMIC_RELAXED);
		else
			uhmm_host_unmap(leaf, sizeof(*leaf) * LEAF_CHUNKS);
	}
	return page_chunk(sp, addr);
}

entry_t *page_entry(struct chunk *chunk, uintptr_t addr)
{
	entry_t *page = chunk ? __atomic_load_n(&chunk->page, __ATOMIC_ACQUIRE) : NULL;

	return page ? &page[page_index(addr)] : NULL;
}

bool page_entries_make(struct uhmm_space *sp, struct chunk *chunk)
{
	entry_t *page, *theirs = NULL;

	if (__atomic_load_n(&chunk->page, __ATOMIC_ACQUIRE))
		return true;
	page = uhmm_host_map(CHUNK_PAGES * sizeof(*page));
	if (!page)
		return false;
	if (__atomic_compare_exchange_n(&chunk->page, &theirs, page, false,
					__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		__atomic_fetch_add(&sp->table.nr_arrays, 1, __ATOMIC_RELAXED);
	else
		uhmm_host_unmap(page, CHUNK_PAGES * sizeof(*page));
	return true;
}

bool page_change(struct uhmm_space *sp, entry_t *entry, uintptr_t addr, entry_t *old,
		 entry_t new_entry)
{
	entry_t was = *old;

	assert_always(allowed[entry_state(was)] & (1u << entry_state(new_entry)));
	if (!__atomic_compare_exchange_n(entry, old, new_entry, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		return false;
	trace_page(sp, addr, was, new_entry);
	return true;
}

static uint32_t *bucket(struct uhmm_space *sp, const entry_t *entry)
{
	uint64_t h = (uint64_t)(uintptr_t)entry * UINT64_C(0x9e3779b97f4a7c15);

	return &sp->wait_queue[h >> 56];
}

entry_t page_settle(struct uhmm_space *sp, entry_t *entry, uintptr_t addr,
		    entry_t new_entry)
{
	entry_t was = __atomic_exchange_n(entry, new_entry, __ATOMIC_ACQ_REL);

	assert_always(entry_wantable(was));
	assert_always(allowed[entry_state(was)] & (1u << entry_state(new_entry)));
	if (was & ENTRY_WAITERS) {
		uint32_t *word = bucket(sp, entry);

		__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
		os_wake(word, INT_MAX);
	}
	trace_page(sp, addr, was, new_entry);
	return was & ENTRY_WANTED;
}

static bool flag_if(entry_t *entry, bool (*may)(entry_t e), entry_t flag)
{
	entry_t e = entry_load(entry);

	while (may(e)) {
		if ((e & flag) ||
		    __atomic_compare_exchange_n(entry, &e, e | flag, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}

bool page_want(entry_t *entry)
{
	return flag_if(entry, entry_wantable, ENTRY_WANTED);
}

void page_wait(struct uhmm_space *sp, entry_t *entry)
{
	uint32_t *word = bucket(sp, entry);

	for (;;) {
		/* Before the flag: a settle after the flag changes the word. */
		uint32_t seen = __atomic_load_n(word, __ATOMIC_SEQ_CST);

		if (!flag_if(entry, entry_busy, ENTRY_WAITERS))
			return;
		os_wait(word, seen, -1);
	}
}

/* ---- walking ---------------------------------------------------------------------- */

static int walk_chunk(struct chunk *chunk, uintptr_t base, uintptr_t start, uintptr_t end,
		      page_walk_fn fn, void *ctx)
{
	entry_t *page = __atomic_load_n(&chunk->page, __ATOMIC_ACQUIRE);
	unsigned i, from = 0, to = CHUNK_PAGES;
	int r;

	if (entry_state(entry_load(&chunk->folio)) != PAGE_NONE) {
		r = fn(ctx, chunk, &chunk->folio, base, true);
		if (r)
			return r;
		page = __atomic_load_n(&chunk->page, __ATOMIC_ACQUIRE);
	}
	if (!page)
		return 0;
	if (start > base)
		from = page_index(start);
	if (end < base + CHUNK_SIZE)
		to = (unsigned)((end - base + PAGE_SIZE - 1) >> PAGE_SHIFT);
	for (i = from; i < to; i++) {
		if (entry_state(entry_load(&page[i])) == PAGE_NONE)
			continue;
		r = fn(ctx, chunk, &page[i], base + i * PAGE_SIZE, false);
		if (r)
			return r;
	}
	return 0;
}

int page_walk(struct uhmm_space *sp, uintptr_t start, uintptr_t end, page_walk_fn fn,
	      void *ctx)
{
	uintptr_t addr = start;
	int r;

	if (end > (uintptr_t)1 << ADDRESS_BITS)
		end = (uintptr_t)1 << ADDRESS_BITS;
	while (addr < end) {
		struct chunk *chunk = page_chunk(sp, addr);

		if (!chunk) {
			addr = ((addr >> LEAF_SHIFT) + 1) << LEAF_SHIFT;
			continue;
		}
		if (__atomic_load_n(&chunk->page, __ATOMIC_RELAXED) ||
		    entry_load(&chunk->folio)) {
			r = walk_chunk(chunk, chunk_start(addr), addr, end, fn, ctx);
			if (r)
				return r;
		}
		addr = chunk_start(addr) + CHUNK_SIZE;
	}
	return 0;
}

static int any_entry(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		     bool folio)
{
	uintptr_t *first = ctx;

	(void)chunk;
	(void)entry;
	(void)folio;
	*first = addr;
	return 1;
}

bool page_first(struct uhmm_space *sp, uintptr_t start, uintptr_t end, uintptr_t *first)
{
	if (!page_walk(sp, start, end, any_entry, first))
		return false;
	/* A folio that begins before. */
	if (*first < start)
		*first = start;
	return true;
}

static void trim_chunk(struct uhmm_space *sp, struct chunk *chunk)
{
	entry_t *page = __atomic_load_n(&chunk->page, __ATOMIC_ACQUIRE);
	unsigned i;

	if (!page || entry_state(entry_load(&chunk->folio)) != PAGE_NONE)
		return;
	for (i = 0; i < CHUNK_PAGES; i++)
		if (entry_state(entry_load(&page[i])) != PAGE_NONE)
			return;
	uhmm_host_unmap(page, CHUNK_PAGES * sizeof(entry_t));
	__atomic_store_n(&chunk->page, NULL, __ATOMIC_RELEASE);
	__atomic_fetch_sub(&sp->table.nr_arrays, 1, __ATOMIC_RELAXED);
}

void page_trim(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	uintptr_t addr = chunk_start(start);

	while (addr < end && !(addr >> ADDRESS_BITS)) {
		struct chunk *chunk = page_chunk(sp, addr);

		if (!chunk) {
			addr = ((addr >> LEAF_SHIFT) + 1) << LEAF_SHIFT;
			continue;
		}
		trim_chunk(sp, chunk);
		addr += CHUNK_SIZE;
	}
}

/* ---- pins ------------------------------------------------------------------------- */

bool page_pinned(const struct chunk *chunk, unsigned index)
{
	return chunk->pins && chunk->pins[index];
}

bool page_chunk_pinned(const struct chunk *chunk)
{
	unsigned i;

	for (i = 0; chunk->pins && i < CHUNK_PAGES; i++)
		if (chunk->pins[i])
			return true;
	return false;
}

int page_pin(struct uhmm_space *sp, struct chunk *chunk, unsigned index, int delta)
{
	if (!chunk->pins) {
		if (delta < 0)
			return -EINVAL;
		chunk->pins = uhmm_host_map(CHUNK_PAGES * sizeof(*chunk->pins));
		if (!chunk->pins)
			return -ENOMEM;
		__atomic_fetch_add(&sp->table.nr_pins, 1, __ATOMIC_RELAXED);
	}
	if (delta < 0 && chunk->pins[index] == 0)
		return -EINVAL;
	if (delta > 0 && chunk->pins[index] == UINT16_MAX)
		return -EOVERFLOW;
	chunk->pins[index] = (uint16_t)(chunk->pins[index] + delta);
	return 0;
}

/* ---- end -------------------------------------------------------------------------- */

void page_table_fini(struct uhmm_space *sp)
{
	unsigned i, j;

	for (i = 0; i < 1u << DIR_BITS; i++) {
		struct chunk *leaf = sp->table.leaf[i];

		if (!leaf)
			continue;
		for (j = 0; j < LEAF_CHUNKS; j++) {
			if (leaf[j].page)
				uhmm_host_unmap(leaf[j].page,
						CHUNK_PAGES * sizeof(entry_t));
			if (leaf[j].pins)
				uhmm_host_unmap(leaf[j].pins,
						CHUNK_PAGES * sizeof(uint16_t));
		}
		uhmm_host_unmap(leaf, sizeof(*leaf) * LEAF_CHUNKS);
		sp->table.leaf[i] = NULL;
	}
	sp->table.nr_leaves = sp->table.nr_arrays = sp->table.nr_pins = 0;
}

uint64_t page_table_bytes(struct uhmm_space *sp)
{
	/* Leaves take memory only where chunks were touched: about 32 bytes a chunk. */
	return __atomic_load_n(&sp->table.nr_arrays, __ATOMIC_RELAXED) *
		       (CHUNK_PAGES * sizeof(entry_t) + sizeof(struct chunk)) +
	       __atomic_load_n(&sp->table.nr_pins, __ATOMIC_RELAXED) * PAGE_SIZE +
	       sizeof(struct uhmm_space);
}

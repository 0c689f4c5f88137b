/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See unshare.h. sp->unsharing is set and cleared under the lock of the chunk that it
 * lies in; who reads it under another chunk's lock may see half of a change, and finds a
 * page busy that is not.
 */
#include "lib/unshare.h"

#include "lib/gate.h"
#include "lib/page.h"

static bool is_none(struct chunk *chunk, uintptr_t addr)
{
	entry_t *entry = page_entry(chunk, addr);

	return !entry || entry_state(entry_load(entry)) == PAGE_NONE;
}

/* Pages of nr that have no entry: all of them, and which of the first GROUP_PAGES. */
static bool begin(struct uhmm_space *sp, uintptr_t addr, unsigned nr, uint64_t *which)
{
	struct chunk *chunk;
	unsigned shard, i, none = 0;

	*which = 0;
	uhmm_lock(&sp->unshare_lock);
	shard = gate_enter(&sp->gate);
	chunk = page_chunk_make(sp, addr);
	if (chunk) {
		uhmm_lock((struct uhmm_lock *)&chunk->lock);
		for (i = 0; entry_state(entry_load(&chunk->folio)) == PAGE_NONE && i < nr;
		     i++) {
			if (!is_none(chunk, addr + i * PAGE_SIZE))
				continue;
			none++;
			if (i < GROUP_PAGES)
				*which |= UINT64_C(1) << i;
		}
		__atomic_store_n(&sp->unsharing.start, addr, __ATOMIC_RELAXED);
		__atomic_store_n(&sp->unsharing.end, addr + nr * PAGE_SIZE,
				 __ATOMIC_RELEASE);
		uhmm_unlock((struct uhmm_lock *)&chunk->lock);
	}
	gate_leave(&sp->gate, shard);
	__atomic_store_n(&sp->unsharer, os_tid(), __ATOMIC_RELEASE);
	return none == nr;
}

/* No lock of a chunk: nobody minds when exactly it is over. */
static void end(struct uhmm_space *sp)
{
	__atomic_store_n(&sp->unsharer, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&sp->unsharing.end, 0, __ATOMIC_RELEASE);
	uhmm_unlock(&sp->unshare_lock);
}

void unshare_pages(struct uhmm_space *sp, uintptr_t base, uint64_t which)
{
	uint64_t none;

	begin(sp, base, GROUP_PAGES - (unsigned)__builtin_clzll(which), &none);
	which &= none;
	while (which) {
		unsigned from = (unsigned)__builtin_ctzll(which);
		uint64_t rest = ~(which >> from);
		unsigned nr = rest ? (unsigned)__builtin_ctzll(rest) : GROUP_PAGES - from;

		os_make_exclusive(base + from * PAGE_SIZE, nr * PAGE_SIZE);
		which &= from + nr == GROUP_PAGES ? (UINT64_C(1) << from) - 1 :
						    ~(((UINT64_C(1) << nr) - 1) << from);
	}
	end(sp);
}

void unshare_folio(struct uhmm_space *sp, uintptr_t addr)
{
	uint64_t which;

	if (begin(sp, addr, CHUNK_PAGES, &which))
		os_make_exclusive(addr, CHUNK_SIZE);
	end(sp);
}

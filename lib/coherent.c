/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See coherent.h.
 *
 * A page that cannot be moved to where the program has it (the mapping may not be
 * written, or can be executed) is copied, and what is left in the page map's memory is
 * dropped: nobody can tell the two apart.
 */
#include "lib/coherent.h"

#include <errno.h>

#include "lib/frame_trash.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/page.h"
#include "lib/zap.h"

struct uhmm_pagemap *coherent_pagemap(struct uhmm_space *sp, entry_t e)
{
	struct uhmm_pagemap *map = pagemap_at(sp, entry_device(e));

	return map && map->memory ? map : NULL;
}

bool coherent_contains(struct uhmm_space *sp, uintptr_t addr)
{
	const struct uhmm_pagemap *map;
	unsigned i;

	if (!__atomic_load_n(&sp->nr_coherent, __ATOMIC_ACQUIRE))
		return false;
	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (map && map->memory &&
		    addr - (uintptr_t)map->memory < map->nr_pages * PAGE_SIZE)
			return true;
	}
	return false;
}

static entry_t load(struct uhmm_space *sp, uintptr_t addr, entry_t **entry)
{
	*entry = page_entry(page_chunk(sp, addr), addr);
	return *entry ? entry_load(*entry) : 0;
}

int coherent_make_present(const struct uhmm_pagemap *map, uint64_t page)
{
	struct uhmm_space *sp = map->sp;
	struct gate_visit visit;
	unsigned tries = 0;
	int64_t r;

	do {
		gate_visit(&sp->world, &visit);
		r = os_uffd_copy(sp->uffd, pagemap_addr(map, page), sp->zeros, PAGE_SIZE);
		gate_end_visit(&sp->world, &visit);
		if (r == -EAGAIN) /* until the reader has read */
			migrate_pause(tries++ % MIGRATE_TRIES);
	} while (r == -EAGAIN);
	return r > 0 || r == -EEXIST ? 0 : -ENOMEM;
}

/* ---- in --------------------------------------------------------------------------- */

/* True: it is there, by a move or as a copy. */
static int64_t fill(struct uhmm_space *sp, const struct uhmm_pagemap *map, uint64_t page,
		    uintptr_t addr)
{
	uintptr_t from = pagemap_addr(map, page);
	int64_t r = os_uffd_move(sp->uffd, addr, from, PAGE_SIZE, 0);

	if (r == -EBUSY) {
		/* Shared since a fork, or somebody holds it for a moment. */
		os_make_exclusive(from, PAGE_SIZE);
		r = os_uffd_move(sp->uffd, addr, from, PAGE_SIZE, 0);
	}
	if (r > 0 || r == -EAGAIN || r == -EEXIST || r == -ENOENT)
		return r;
	r = os_uffd_copy(sp->uffd, addr, (const void *)from, PAGE_SIZE);
	if (r > 0)
		trash_pages(sp, from, 1, false);
	return r;
}

int coherent_map_inside(struct uhmm_space *sp, uintptr_t addr)
{
	entry_t *entry, e = load(sp, addr, &entry), to, flags;
	const struct uhmm_pagemap *map = coherent_pagemap(sp, e);
	uint64_t page = entry_payload(e);
	unsigned device = entry_device(e);
	int64_t r;

	if (entry_state(e) != PAGE_DEVICE || !map ||
	    !page_change(sp, entry, addr, &e, entry_make(PAGE_LOADING, page, device)))
		return -EBUSY;
	r = fill(sp, map, page, addr);
	to = entry_make(r > 0 ? PAGE_COHERENT : PAGE_DEVICE, page, device);
	if (r == -EEXIST) /* filled while the space was frozen by fork: that is current */
		to = entry_make(PAGE_NONE, 0, 0);
	flags = page_settle(sp, entry, addr, to);
	if (r == -EEXIST || flags & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
	if (r == -EEXIST)
		device_forget(sp, device, page);
	return r > 0 || r == -EEXIST ? 0 : r == -EAGAIN ? -EAGAIN : -EBUSY;
}

int coherent_map(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned tries, shard;
	int r = -EAGAIN;

	for (tries = 0; r == -EAGAIN && tries < MIGRATE_TRIES; tries++) {
		shard = gate_enter(&sp->gate);
		r = coherent_map_inside(sp, addr);
		gate_leave(&sp->gate, shard);
		if (r == -EAGAIN)
			migrate_pause(tries);
	}
	return r;
}

/* ---- no longer the device's ------------------------------------------------------- */

static bool is_there(uintptr_t addr)
{
	struct os_extent ext;
	uintptr_t walked;

	return os_scan(addr, addr + PAGE_SIZE, OS_SCAN_MEMORY, 1, &ext, 1, &walked) > 0;
}

/* A copy has been made since the fork, or the other one has gone. */
static bool has_left(uintptr_t addr, entry_t e)
{
	uint64_t once = 0;

	if (!(e & ENTRY_FORKED))
		return false;
	os_mapped_once(addr, 1, &once);
	return once & 1;
}

/* The entry is NONE from here on if it is what it was. The gate is entered. */
static bool forget_inside(struct uhmm_space *sp, entry_t *entry, uintptr_t addr,
			  entry_t *e)
{
	return entry_state(*e) == PAGE_COHERENT &&
	       page_change(sp, entry, addr, e, entry_make(PAGE_NONE, 0, 0));
}

void coherent_release(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	entry_t *entry, e = load(sp, addr, &entry), was = e;
	bool forgotten = forget_inside(sp, entry, addr, &e);

	gate_leave(&sp->gate, shard);
	if (forgotten)
		device_forget(sp, entry_device(was), entry_payload(was));
}

bool coherent_look(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	entry_t *entry, e = load(sp, addr, &entry);
	bool is = entry_state(e) == PAGE_COHERENT, left = is && has_left(addr, e);

	gate_leave(&sp->gate, shard);
	if (left)
		coherent_release(sp, addr);
	return is && !left;
}

void coherent_fault(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	entry_t *entry, e = load(sp, addr, &entry);
	bool gone = entry_state(e) == PAGE_COHERENT && !is_there(addr);

	gate_leave(&sp->gate, shard);
	if (gone)
		coherent_release(sp, addr);
}

static int mark(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		bool folio)
{
	struct uhmm_space *sp = ctx;
	entry_t e = entry_load(entry);

	(void)chunk;
	(void)folio;
	if (entry_state(e) == PAGE_COHERENT)
		page_change(sp, entry, addr, &e, e | ENTRY_FORKED);
	return 0;
}

void coherent_forked(struct uhmm_space *sp)
{
	const struct uhmm_pagemap *map;
	unsigned i;

	if (!__atomic_load_n(&sp->nr_coherent, __ATOMIC_ACQUIRE))
		return;
	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (!map || !map->memory ||
		    !__atomic_load_n(&map->nr_used, __ATOMIC_RELAXED))
			continue;
		page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, mark, sp);
		return;
	}
}

/* ---- out -------------------------------------------------------------------------- */

static int64_t move_out(struct uhmm_space *sp, const struct uhmm_pagemap *map,
			uint64_t page, uintptr_t addr)
{
	uintptr_t to = pagemap_addr(map, page);
	int64_t r = os_uffd_move(sp->uffd, to, addr, PAGE_SIZE, 0);

	if (r == -EEXIST) {
		/* Somebody looked there, and got a page of zeros. */
		trash_pages(sp, to, 1, false);
		r = os_uffd_move(sp->uffd, to, addr, PAGE_SIZE, 0);
	}
	return r;
}

/* The gate and the chunk's lock are held: nobody pins it meanwhile. */
static int take_locked(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
		       const struct uhmm_pagemap *map, entry_t *entry, entry_t e)
{
	uint64_t page = entry_payload(e);
	entry_t out = entry_make(PAGE_MIGRATING, page, entry_device(e));
	entry_t back = e & ~(ENTRY_WANTED | ENTRY_WAITERS);
	int64_t r;

	if (page_pinned(chunk, page_index(addr)) ||
	    zap_pending(sp, addr, addr + PAGE_SIZE) ||
	    !page_change(sp, entry, addr, &e,
			 entry_make(PAGE_ISOLATING, page, entry_device(e))))
		return -EBUSY;
	r = move_out(sp, map, page, addr);
	if (page_settle(sp, entry, addr, r > 0 ? out : back) & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
	return r > 0 ? 0 : r == -EAGAIN ? -EAGAIN : -EBUSY;
}

int coherent_take(struct uhmm_space *sp, const struct range *vma, uintptr_t addr,
		  const void *owner, const uhmm_pfn_t *only, uhmm_pfn_t *pfn)
{
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t *entry, e = load(sp, addr, &entry);
	const struct uhmm_pagemap *map = coherent_pagemap(sp, e);
	int r = -EBUSY;

	if (entry_state(e) == PAGE_COHERENT && map && map->owner == owner &&
	    (!only || *only == pfn_make(entry_device(e), entry_payload(e)))) {
		if (e & ENTRY_FORKED)
			r = -ESTALE;
		else
			r = register_mapping(sp, vma, addr, addr + PAGE_SIZE);
	}
	if (r == 0) {
		uhmm_lock((struct uhmm_lock *)&chunk->lock);
		r = take_locked(sp, chunk, addr, map, entry, e);
		uhmm_unlock((struct uhmm_lock *)&chunk->lock);
	}
	gate_leave(&sp->gate, shard);
	if (r == -ESTALE)
		coherent_release(sp, addr);
	else if (r == 0)
		*pfn = pfn_make(entry_device(e), entry_payload(e));
	return r == -EINVAL ? -EBUSY : r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Folios in migrations: setup. See migration_folio.h, and migration_folio_end.c. */
#include "lib/migration_folio.h"

#include <errno.h>

#include "lib/fault.h"
#include "lib/folio.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/page.h"
#include "lib/unshare.h"

/* How long what was found out about a mapping holds: it takes long to find out. */
#define ALLOWED_NS UINT64_C(1000000000)

/* A chunk that may be taken whole. */
struct whole {
	struct migration *mg;
	struct migration_item *item;
	uintptr_t addr;
	struct os_vma vma;
	const struct uhmm_migrate *m;
};

static entry_t load_folio(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0;

	gate_leave(&sp->gate, shard);
	return f;
}

/* Makes the folio the migration's, if it is on a selected page map, or in a frame. */
static bool claim(struct whole *w, enum page_state from)
{
	struct uhmm_space *sp = w->mg->sp;
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk = page_chunk(sp, w->addr);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0, to;
	unsigned device = entry_device(f);
	bool mine = entry_state(f) == from;

	if (from == PAGE_DEVICE)
		mine = mine &&
		       pagemap_selected(pagemap_at(sp, device), w->m->flags, w->m->owner);
	to = entry_make(PAGE_MIGRATING, entry_payload(f), device);
	if (from == PAGE_PROBATION)
		to |= ENTRY_FROM_FRAME;
	mine = mine && page_change(sp, &chunk->folio, w->addr, &f, to);
	/* Inside the gate: nobody splits it before. */
	if (mine && from == PAGE_PROBATION)
		frame_folio_lend(sp, (uint32_t)(entry_payload(to) / GROUP_PAGES));
	gate_leave(&sp->gate, shard);
	if (mine)
		w->item->src = pfn_make(device, entry_payload(to)) | UHMM_PFN_MIGRATE |
			       UHMM_PFN_COMPOUND | (w->vma.writable ? UHMM_PFN_WRITE : 0);
	return mine;
}

/* Is nothing known of any page of the chunk? */
static bool is_unknown(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate), i;
	struct chunk *chunk = page_chunk(sp, addr);
	const entry_t *page = page_entry(chunk, addr);
	bool unknown = !chunk || entry_state(entry_load(&chunk->folio)) == PAGE_NONE;

	for (i = 0; unknown && page && i < CHUNK_PAGES; i++)
		unknown = entry_state(entry_load(&page[i])) == PAGE_NONE;
	gate_leave(&sp->gate, shard);
	return unknown;
}

/* Is there nothing, or the huge page of zeros? */
static bool is_hole(uintptr_t addr)
{
	struct os_extent ext;
	uintptr_t walked;

	if (os_empty(addr, CHUNK_SIZE) == CHUNK_SIZE)
		return true;
	return os_scan(addr, addr + CHUNK_SIZE, OS_SCAN_ZEROS, CHUNK_PAGES, &ext, 1,
		       &walked) == 1 &&
	       ext.huge && ext.nr_pages == CHUNK_PAGES;
}

static bool huge_allowed(struct uhmm_space *sp, const struct os_vma *vma, uintptr_t addr)
{
	struct huge_allowed *known = &sp->huge_allowed;
	uint64_t now = os_now_ns();
	bool allowed, is;

	uhmm_lock(&known->lock);
	is = now < known->until_ns && known->start == vma->start &&
	     known->end == vma->end;
	allowed = known->allowed;
	uhmm_unlock(&known->lock);
	if (is)
		return allowed;
	allowed = os_huge_allowed(addr);
	uhmm_lock(&known->lock);
	known->start = vma->start;
	known->end = vma->end;
	known->until_ns = now + ALLOWED_NS;
	known->allowed = allowed;
	uhmm_unlock(&known->lock);
	return allowed;
}

static int isolate(struct whole *w)
{
	struct uhmm_space *sp = w->mg->sp;
	struct range vma = { w->vma.start, w->vma.end };
	int r;

	if (!migration_lift(&w->vma, w->addr, CHUNK_SIZE))
		return 0;
	r = isolate_folio(sp, &vma, w->addr, ISOLATE_HOT | ISOLATE_TOLD);
	if (r == -EBUSY) {
		/* Shared by fork once, perhaps, and not any more. */
		unshare_folio(sp, w->addr);
		if (is_huge(w->addr))
			r = isolate_folio(sp, &vma, w->addr, ISOLATE_HOT | ISOLATE_TOLD);
	}
	migration_lower(&w->vma, w->addr, CHUNK_SIZE);
	return r;
}

/* 1: taken. 0: not as one. -EAGAIN: not yet. */
static int collect_once(struct whole *w)
{
	struct uhmm_space *sp = w->mg->sp;
	entry_t f;
	int r;

	if (!migration_mapping(w->addr, w->addr + CHUNK_SIZE, &w->vma))
		return 0;
	if (claim(w, PAGE_DEVICE))
		return 1;
	if (!(w->m->flags & UHMM_SELECT_SYSTEM) || !migration_permits(w->mg, &w->vma) ||
	    w->vma.executable)
		return 0;
	f = load_folio(sp, w->addr);
	if (entry_state(f) == PAGE_MIGRATING || entry_state(f) == PAGE_DEVICE)
		return 0;
	if (entry_state(f) != PAGE_NONE)
		fault_range(sp, w->addr, w->addr + PAGE_SIZE, NULL);
	if (is_huge(w->addr)) {
		r = isolate(w);
		if (r == (int)CHUNK_PAGES)
			return claim(w, PAGE_PROBATION) ? 1 : -EAGAIN;
		return r == -EAGAIN ? r : 0;
	}
	if (!is_unknown(sp, w->addr) || !is_hole(w->addr) ||
	    !huge_allowed(sp, &w->vma, w->addr))
		return 0;
	w->item->src = UHMM_PFN_MIGRATE | UHMM_PFN_COMPOUND |
		       (w->vma.writable ? UHMM_PFN_WRITE : 0);
	return 1;
}

bool migration_collect_folio(struct migration *mg, size_t at,
			     const struct uhmm_migrate *m)
{
	struct whole w = { .mg = mg,
			   .item = &mg->item[at],
			   .addr = mg->start + at * PAGE_SIZE,
			   .m = m };
	struct gate_visit visit;
	unsigned tries;
	int r = -EAGAIN;

	for (tries = 0; r == -EAGAIN && tries < MIGRATE_TRIES; tries++) {
		gate_visit(&mg->sp->world, &visit);
		migration_tell(mg);
		r = collect_once(&w);
		gate_end_visit(&mg->sp->world, &visit);
		if (r == -EAGAIN)
			migrate_pause(tries);
	}
	return r == 1;
}

void migration_split_folio(struct migration *mg, uintptr_t addr,
			   const struct uhmm_migrate *m)
{
	struct uhmm_space *sp = mg->sp;
	struct gate_visit visit;
	struct chunk *chunk;
	unsigned shard;
	entry_t f;

	gate_visit(&sp->world, &visit);
	shard = gate_enter(&sp->gate);
	chunk = page_chunk(sp, addr);
	f = chunk ? entry_load(&chunk->folio) : 0;
	if (entry_state(f) == PAGE_DEVICE &&
	    pagemap_selected(pagemap_at(sp, entry_device(f)), m->flags, m->owner))
		folio_split_device(sp, addr);
	gate_leave(&sp->gate, shard);
	gate_end_visit(&sp->world, &visit);
}

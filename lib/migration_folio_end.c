/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folios in migrations: commit and finalize. See migration_folio.h.
 *
 * A hole of a whole chunk is put on the device at once, as single ones are. That nothing
 * is there is seen after its mapping was registered, with the chunk's lock: whoever fills
 * a page from then on does so by way of us. (What was filled before is looked for; what
 * is not mapped any more is not to be filled.)
 */
#include <errno.h>

#include "lib/device.h"
#include "lib/folio.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/migration_folio.h"
#include "lib/page.h"
#include "lib/unshare.h"
#include "lib/zap.h"

static uhmm_pfn_t pfn_of(uhmm_pfn_t folio, unsigned index)
{
	return (folio & ~UHMM_PFN_COMPOUND) + ((uhmm_pfn_t)index << UHMM_PFN_SHIFT);
}

static bool in_frame(uhmm_pfn_t pfn)
{
	return !pfn_device(pfn);
}

static uint32_t group_of(uhmm_pfn_t pfn)
{
	return (uint32_t)(pfn_page(pfn) / GROUP_PAGES);
}

bool migration_folio_is_destination(struct uhmm_space *sp, uhmm_pfn_t dst)
{
	const struct uhmm_pagemap *map;

	if (in_frame(dst))
		return pfn_page(dst) % CHUNK_PAGES == 0 && uhmm_pfn_bytes(sp, dst) &&
		       frame_folio_is_lent(sp, group_of(dst)) &&
		       frame_owner(sp, pfn_page(dst)) == OWNER_ALLOCATED;
	map = pagemap_at(sp, pfn_device(dst));
	return map && pagemap_is_spare_folio(map, pfn_page(dst));
}

void migration_folio_drop(struct uhmm_space *sp, uhmm_pfn_t pfn)
{
	if (in_frame(pfn))
		frame_folio_drop(sp, group_of(pfn));
	else
		device_forget(sp, pfn_device(pfn), pfn_page(pfn));
}

/* ---- sources ---------------------------------------------------------------------- */

/* Was it not split? The gate is entered. */
static bool is_whole(struct uhmm_space *sp, uhmm_pfn_t src)
{
	if (in_frame(src))
		return frame_folio_is_lent(sp, group_of(src));
	return pagemap_part(pagemap_at(sp, pfn_device(src)), pfn_page(src)) ==
	       MAP_PAGE_HEAD;
}

/* The chunk of a source that is the migration's still, or NULL; the gate is entered. */
static struct chunk *chunk_of(struct uhmm_space *sp, uhmm_pfn_t src, uintptr_t *addr)
{
	struct chunk *chunk;
	entry_t f;

	*addr = in_frame(src) ?
			frame_owner(sp, pfn_page(src)) :
			pagemap_owner(pagemap_at(sp, pfn_device(src)), pfn_page(src));
	chunk = *addr ? page_chunk(sp, *addr) : NULL;
	f = chunk ? entry_load(&chunk->folio) : 0;
	return entry_state(f) == PAGE_MIGRATING && entry_payload(f) == pfn_page(src) &&
			       entry_device(f) == pfn_device(src) ?
		       chunk :
		       NULL;
}

/* A destination that was taken for the folio is to be one for its pages. */
static void split_destination(struct uhmm_space *sp, uhmm_pfn_t dst)
{
	uint64_t page = pfn_page(dst);
	struct uhmm_pagemap *map;

	if (in_frame(dst)) {
		frame_folio_split(sp, group_of(dst), frame_owner(sp, page), 0,
				  CHUNK_PAGES);
	} else {
		map = pagemap_at(sp, pfn_device(dst));
		pagemap_split(map, page, pagemap_owner(map, page));
	}
}

/* The source is single pages: so are the items. */
static void split_items(struct migration *mg, size_t at)
{
	struct migration_item *item = &mg->item[at], whole = *item;
	bool dst_too = whole.dst & UHMM_PFN_COMPOUND;
	unsigned i;

	if (dst_too)
		split_destination(mg->sp, whole.dst);
	for (i = 0; i < CHUNK_PAGES; i++) {
		item[i].src = uhmm_pfn_is_valid(whole.src) ?
				      pfn_of(whole.src, i) :
				      whole.src & ~UHMM_PFN_COMPOUND;
		item[i].dst = dst_too ? pfn_of(whole.dst, i) : whole.dst;
	}
}

/* The folio itself, the gate entered, by its migration. */
static void split_source(struct migration *mg, size_t at, struct chunk *chunk,
			 uintptr_t addr, struct folio_rest *rest)
{
	struct uhmm_space *sp = mg->sp;

	folio_split(sp, chunk, addr, entry_load(&chunk->folio), 0, CHUNK_PAGES);
	if (page_settle(sp, &chunk->folio, addr, entry_make(PAGE_NONE, 0, 0)) &
	    ENTRY_WANTED)
		rest->wanted = addr;
	split_items(mg, at);
}

/* ---- holes ------------------------------------------------------------------------ */

static bool is_free(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr)
{
	unsigned i;

	if (entry_state(entry_load(&chunk->folio)) != PAGE_NONE ||
	    page_chunk_pinned(chunk) || unsharing(sp, addr) ||
	    zap_pending(sp, addr, addr + CHUNK_SIZE))
		return false;
	for (i = 0; i < CHUNK_PAGES; i++)
		if (entry_state(entry_load(&chunk->page[i])) != PAGE_NONE)
			return false;
	return true;
}

static bool is_huge_zero(uintptr_t addr)
{
	struct os_extent ext;
	uintptr_t walked;

	return os_scan(addr, addr + CHUNK_SIZE, OS_SCAN_ZEROS, CHUNK_PAGES, &ext, 1,
		       &walked) == 1 &&
	       ext.nr_pages == CHUNK_PAGES;
}

/*
 * The folio's entry is ISOLATING. Pages that were moved to the block of frames, from the
 * first on; *empty if nothing of the program's was or is there.
 */
static unsigned empty_out(struct uhmm_space *sp, uintptr_t addr, uint32_t group,
			  bool *empty)
{
	uintptr_t frames = frame_addr(sp, (uint64_t)group * GROUP_PAGES);
	int64_t r = os_uffd_move(sp->uffd, frames, addr, CHUNK_SIZE, 0);

	if (r > 0)
		*empty = r == (int64_t)CHUNK_SIZE && is_huge_zero(frames);
	else
		*empty = r == -ENOENT && os_empty(addr, CHUNK_SIZE) == CHUNK_SIZE;
	return r > 0 ? (unsigned)(r >> PAGE_SHIFT) : 0;
}

struct insertion {
	uintptr_t addr;
	uhmm_pfn_t dst;
	uint32_t group; /* a block of frames */
	bool used;      /* it is no longer ours to release */
	unsigned back;  /* pages that have to be moved back, from the first on */
	bool wanted;
};

/* Under chunk->lock, the gate entered. True: the folio is on the device now. */
static bool insert_locked(struct uhmm_space *sp, struct chunk *chunk,
			  struct insertion *in)
{
	entry_t f = entry_load(&chunk->folio), to = entry_make(PAGE_NONE, 0, 0);
	uint64_t slot = (uint64_t)in->group * GROUP_PAGES;
	unsigned moved;
	bool empty;

	if (!page_entries_make(sp, chunk) || !is_free(sp, chunk, in->addr) ||
	    !page_change(sp, &chunk->folio, in->addr, &f,
			 entry_make(PAGE_ISOLATING, 0, 0)))
		return false;
	moved = empty_out(sp, in->addr, in->group, &empty);
	if (moved) {
		in->used = true;
		frame_folio_close(sp, in->group, in->addr);
	}
	if (empty) {
		migration_take(sp, in->dst, in->addr, CHUNK_PAGES);
		to = entry_make(PAGE_DEVICE, pfn_page(in->dst), pfn_device(in->dst));
		if (moved)
			frame_folio_drop(sp, in->group);
	} else if (moved == CHUNK_PAGES) {
		to = entry_make(PAGE_PROBATION, slot, 0);
		in->back = moved;
	} else if (moved) {
		folio_split(sp, chunk, in->addr, entry_make(PAGE_PROBATION, slot, 0), 0,
			    moved);
		in->back = moved;
	}
	in->wanted = page_settle(sp, &chunk->folio, in->addr, to) & ENTRY_WANTED;
	return empty;
}

/* 0; -EAGAIN; -EBUSY: it is a hole no more. */
static int insert(struct uhmm_space *sp, const struct range *vma, struct insertion *in)
{
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk = page_chunk_make(sp, in->addr);
	int r = register_mapping(sp, vma, in->addr, in->addr + CHUNK_SIZE);

	if (r == 0) {
		r = -EBUSY;
		if (chunk) {
			uhmm_lock((struct uhmm_lock *)&chunk->lock);
			if (insert_locked(sp, chunk, in))
				r = 0;
			uhmm_unlock((struct uhmm_lock *)&chunk->lock);
		}
	}
	gate_leave(&sp->gate, shard);
	return r;
}

static void bring_back(struct uhmm_space *sp, struct insertion *in)
{
	uint64_t slot = (uint64_t)in->group * GROUP_PAGES;
	unsigned i;

	if (in->back == CHUNK_PAGES)
		restore_folio(sp, in->addr);
	else
		for (i = 0; i < in->back; i++)
			restore_page(sp, in->addr + i * PAGE_SIZE, slot + i, 1);
}

static bool fill_hole(struct migration *mg, size_t at, uhmm_pfn_t dst)
{
	struct uhmm_space *sp = mg->sp;
	struct insertion in = { .addr = mg->start + at * PAGE_SIZE, .dst = dst };
	struct os_vma vma;
	unsigned tries;
	int r = -EAGAIN;

	for (tries = 0; r == -EAGAIN && tries < MIGRATE_TRIES; tries++) {
		if (!migration_mapping(in.addr, in.addr + CHUNK_SIZE, &vma) ||
		    !migration_permits(mg, &vma) ||
		    !migration_lift(&vma, in.addr, CHUNK_SIZE))
			return false;
		in.group = frame_folio_open(sp);
		r = in.group == GROUP_NIL ?
			    -ENOMEM :
			    insert(sp, &(struct range){ vma.start, vma.end }, &in);
		bring_back(sp, &in);
		if (in.group != GROUP_NIL && !in.used)
			frame_folio_release(sp, in.group);
		migration_lower(&vma, in.addr, CHUNK_SIZE);
		if (in.wanted)
			os_uffd_wake(sp->uffd, in.addr, CHUNK_SIZE);
		if (r == -EAGAIN)
			migrate_pause(tries);
	}
	return r == 0;
}

/* ---- commit ----------------------------------------------------------------------- */

static bool goes_whole(struct uhmm_space *sp, uhmm_pfn_t dst)
{
	return uhmm_pfn_is_valid(dst) && dst & UHMM_PFN_COMPOUND &&
	       migration_folio_is_destination(sp, dst);
}

static bool commit_hole(struct migration *mg, size_t at, uhmm_pfn_t dst, bool any)
{
	struct migration_item *item = &mg->item[at];
	struct uhmm_space *sp = mg->sp;

	if (goes_whole(sp, dst) && pfn_device(dst) && fill_hole(mg, at, dst)) {
		item->dst = dst;
		return true;
	}
	if (any && !(dst & UHMM_PFN_COMPOUND)) {
		split_items(mg, at);
		return false;
	}
	item->src &= ~UHMM_PFN_MIGRATE;
	return true;
}

/* The gate is entered. */
static bool commit_inside(struct migration *mg, size_t at, uhmm_pfn_t dst, bool any,
			  struct folio_rest *rest)
{
	struct migration_item *item = &mg->item[at];
	struct uhmm_space *sp = mg->sp;
	struct chunk *chunk;
	uintptr_t addr;

	if (!is_whole(sp, item->src)) {
		if (dst & UHMM_PFN_ERROR) {
			item->dst = UHMM_PFN_ERROR;
		} else if (goes_whole(sp, dst)) {
			/* Of what is left of it there is a copy there. */
			migration_take(sp, dst, CHUNK_SIZE, CHUNK_PAGES);
			item->dst = dst;
		}
		split_items(mg, at);
		return false;
	}
	chunk = chunk_of(sp, item->src, &addr);
	if (chunk && dst & UHMM_PFN_ERROR) {
		item->dst = UHMM_PFN_ERROR;
	} else if (chunk && goes_whole(sp, dst)) {
		migration_take(sp, dst, addr, CHUNK_PAGES);
		item->dst = dst;
	} else if (chunk && any && !(dst & UHMM_PFN_COMPOUND)) {
		split_source(mg, at, chunk, addr, rest);
		return false;
	} else {
		item->src &= ~UHMM_PFN_MIGRATE;
	}
	return true;
}

bool migration_commit_folio(struct migration *mg, size_t at, uhmm_pfn_t dst, bool any,
			    struct folio_rest *rest)
{
	unsigned shard;
	bool done;

	*rest = (struct folio_rest){ 0 };
	if (!uhmm_pfn_is_valid(mg->item[at].src))
		return commit_hole(mg, at, dst, any);
	shard = gate_enter(&mg->sp->gate);
	done = commit_inside(mg, at, dst, any, rest);
	gate_leave(&mg->sp->gate, shard);
	return done;
}

/* ---- finalize --------------------------------------------------------------------- */

/* All pages of the folio are lost. */
static void poison(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr)
{
	unsigned i;

	for (i = 0; i < CHUNK_PAGES; i++) {
		uintptr_t at = addr + i * PAGE_SIZE;
		entry_t none = entry_load(&chunk->page[i]);

		if (!page_change(sp, &chunk->page[i], at, &none,
				 entry_make(PAGE_ISOLATING, 0, 0)))
			continue;
		page_settle(sp, &chunk->page[i], at, entry_make(PAGE_POISONED, 0, 0));
	}
	os_uffd_poison(sp->uffd, addr, CHUNK_SIZE);
}

static entry_t outcome(struct uhmm_space *sp, const struct migration_item *item,
		       struct chunk *chunk, uintptr_t addr, struct folio_rest *rest)
{
	bool moves = item->src & UHMM_PFN_MIGRATE;
	uhmm_pfn_t at = moves && item->dst ? item->dst : item->src;

	if (at != item->src)
		rest->drop[rest->nr_drop++] = item->src;
	if (at & UHMM_PFN_ERROR) {
		poison(sp, chunk, addr);
		return entry_make(PAGE_NONE, 0, 0);
	}
	migration_take(sp, at, addr, CHUNK_PAGES); /* it may have moved */
	if (pfn_device(at))
		return entry_make(PAGE_DEVICE, pfn_page(at), pfn_device(at));
	rest->back = addr;
	return entry_make(PAGE_PROBATION, pfn_page(at), 0);
}

bool migration_settle_folio(struct migration *mg, size_t at, struct folio_rest *rest)
{
	struct migration_item *item = &mg->item[at], whole = *item;
	struct uhmm_space *sp = mg->sp;
	struct chunk *chunk;
	uintptr_t addr;
	entry_t to;

	*rest = (struct folio_rest){ 0 };
	if (!uhmm_pfn_is_valid(whole.src))
		return true;
	if (!is_whole(sp, whole.src)) {
		split_items(mg, at);
		return false;
	}
	item->src = 0; /* a child of fork() finds it settled */
	chunk = chunk_of(sp, whole.src, &addr);
	if (!chunk) {
		rest->drop[rest->nr_drop++] = whole.src;
		if (uhmm_pfn_is_valid(whole.dst))
			rest->drop[rest->nr_drop++] = whole.dst;
		return true;
	}
	to = outcome(sp, &whole, chunk, addr, rest);
	if (page_settle(sp, &chunk->folio, addr, to) & ENTRY_WANTED)
		rest->wanted = addr;
	return true;
}

void migration_folio_rest(struct uhmm_space *sp, const struct folio_rest *rest)
{
	unsigned tries, i;

	for (i = 0; i < rest->nr_drop; i++)
		migration_folio_drop(sp, rest->drop[i]);
	for (tries = 0; rest->back && tries < MIGRATE_TRIES; tries++) {
		if (restore_folio(sp, rest->back) != -EAGAIN)
			break;
		migrate_pause(tries);
	}
	if (rest->wanted)
		os_uffd_wake(sp->uffd, rest->wanted, CHUNK_SIZE);
}

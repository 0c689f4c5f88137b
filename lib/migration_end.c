/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commit and finalize. See migration.h.
 *
 * At commit a page's destination is written down; the program still has it where it was,
 * so that a fork in between finds it there. A hole is put on the device at once: MOVE of
 * nothing says, in one step with the claim of its entry, that nothing is there; what was
 * written since stays. Finalize changes entries, with the gate entered, window by window;
 * what that leaves over (frames, copies, pages to be moved back) is seen to afterwards.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/coherent.h"
#include "lib/device.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/migration.h"
#include "lib/migration_folio.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap.h"
#include "lib/pagemap_fault.h"
#include "lib/unshare.h"
#include "lib/zap.h"

struct window {
	struct migration *mg;
	struct migration_item *item;
	size_t at; /* of item in the migration */
	unsigned nr;
	uint32_t group; /* for what is found where a hole was, opened on first use */
	bool told;      /* notifiers, from the first hole on: that pages come there */
	/* left over: see_to_rest() */
	unsigned nr_back;
	uintptr_t back[GROUP_PAGES];
	uint64_t back_slot[GROUP_PAGES];
	unsigned nr_map; /* of coherent page maps, to be given to the program */
	uintptr_t map[GROUP_PAGES];
	uint64_t wanted; /* pages whose sleepers must be woken, at addr[] */
	uintptr_t addr[GROUP_PAGES];
	unsigned nr_drop;
	uhmm_pfn_t drop[2 * GROUP_PAGES];
	struct folio_rest folio; /* of a COMPOUND item: there is one at most */
};

static bool next_window(struct window *w)
{
	size_t at = w->at + w->nr;

	if (at >= w->mg->nr)
		return false;
	w->item = &w->mg->item[at];
	w->at = at;
	w->nr = migration_window(w->mg, at);
	if (w->nr > w->mg->nr - at)
		w->nr = (unsigned)(w->mg->nr - at);
	w->nr_back = w->nr_drop = w->nr_map = 0;
	w->wanted = 0;
	w->group = GROUP_NIL;
	w->folio = (struct folio_rest){ 0 };
	return true;
}

/* ---- what is left over, outside the gate ------------------------------------------ */

static void drop_one(struct uhmm_space *sp, uhmm_pfn_t pfn)
{
	uint64_t page = pfn_page(pfn);

	if (pfn & UHMM_PFN_COMPOUND) {
		migration_folio_drop(sp, pfn);
	} else if (pfn_device(pfn)) {
		device_forget(sp, pfn_device(pfn), page);
	} else {
		frame_set_owner(sp, page, 0);
		frame_drop(sp, (uint32_t)(page / GROUP_PAGES),
			   UINT64_C(1) << page % GROUP_PAGES);
	}
}

/* Frames that lie beside each other go together. */
static void drop_all(struct window *w)
{
	struct uhmm_space *sp = w->mg->sp;
	uint64_t mask = 0;
	uint32_t group = 0;
	unsigned i;

	for (i = 0; i < w->nr_drop; i++) {
		uint64_t page = pfn_page(w->drop[i]);

		if (pfn_device(w->drop[i])) {
			drop_one(sp, w->drop[i]);
			continue;
		}
		if (mask && page / GROUP_PAGES != group) {
			frame_drop(sp, group, mask);
			mask = 0;
		}
		group = (uint32_t)(page / GROUP_PAGES);
		frame_set_owner(sp, page, 0);
		mask |= UINT64_C(1) << page % GROUP_PAGES;
	}
	frame_drop(sp, group, mask);
}

static void back_one(struct uhmm_space *sp, uintptr_t addr, uint64_t slot)
{
	unsigned tries;

	for (tries = 0; tries < MIGRATE_TRIES; tries++) {
		if (restore_page(sp, addr, slot, 1) != -EAGAIN)
			return;
		migrate_pause(tries);
	}
}

/* Pages in a row, from back[i] on, in frames in a row. */
static unsigned run_of_back(const struct window *w, unsigned i)
{
	unsigned nr = 1;

	while (i + nr < w->nr_back && w->back[i + nr] == w->back[i] + nr * PAGE_SIZE &&
	       w->back_slot[i + nr] == w->back_slot[i] + nr &&
	       w->back_slot[i + nr] % GROUP_PAGES)
		nr++;
	return nr;
}

static void back_all(struct window *w)
{
	struct uhmm_space *sp = w->mg->sp;
	unsigned i = 0, nr, done;

	while (i < w->nr_back) {
		nr = run_of_back(w, i);
		done = nr > 1 ? restore_run(sp, w->back[i], w->back_slot[i], nr, 1) : 0;
		i += done;
		if (done < nr) {
			back_one(sp, w->back[i], w->back_slot[i]);
			i++;
		}
	}
}

static void see_to_rest(struct window *w)
{
	struct uhmm_space *sp = w->mg->sp;
	unsigned i;

	drop_all(w);
	migration_folio_rest(sp, &w->folio);
	back_all(w);
	for (i = 0; i < w->nr_map; i++)
		coherent_map(sp, w->map[i]);
	for (i = 0; i < w->nr; i++)
		if (w->wanted >> i & 1)
			os_uffd_wake(sp->uffd, w->addr[i], PAGE_SIZE);
	__atomic_fetch_add(&sp->migration_done, 1, __ATOMIC_SEQ_CST);
	os_wake(&sp->migration_done, INT_MAX);
}

static void bring_back(struct window *w, uintptr_t addr, uint64_t slot)
{
	w->back[w->nr_back] = addr;
	w->back_slot[w->nr_back++] = slot;
}

/* A page that is on a device now. */
static entry_t to_device(struct window *w, uintptr_t addr, uhmm_pfn_t pfn)
{
	entry_t e = entry_make(PAGE_DEVICE, pfn_page(pfn), pfn_device(pfn));

	if (coherent_pagemap(w->mg->sp, e))
		w->map[w->nr_map++] = addr;
	return e;
}

/* ---- commit ----------------------------------------------------------------------- */

/* A page that it may go to: one of a page map, or of memory, that is nobody's yet. */
static bool is_destination(struct uhmm_space *sp, uhmm_pfn_t dst)
{
	const struct uhmm_pagemap *map;

	if (!uhmm_pfn_is_valid(dst))
		return false;
	if (dst & UHMM_PFN_COMPOUND)
		return migration_folio_is_destination(sp, dst);
	if (pfn_device(dst)) {
		map = pagemap_at(sp, pfn_device(dst));
		return map && pagemap_is_spare(map, pfn_page(dst));
	}
	return uhmm_pfn_bytes(sp, dst) &&
	       frame_owner(sp, pfn_page(dst)) == OWNER_ALLOCATED &&
	       frame_is_lent(sp, pfn_page(dst));
}

void migration_take(struct uhmm_space *sp, uhmm_pfn_t pfn, uintptr_t addr, size_t nr)
{
	struct uhmm_pagemap *map = pagemap_at(sp, pfn_device(pfn));

	if (map) {
		map_faults_expire(map, addr, nr);
		pagemap_set_owner(map, pfn_page(pfn), addr);
	} else {
		frame_set_owner(sp, pfn_page(pfn), addr);
	}
}

static bool is_zero_page(uintptr_t addr)
{
	struct os_extent ext;
	uintptr_t walked;

	return os_scan(addr, addr + PAGE_SIZE, OS_SCAN_ZEROS, 1, &ext, 1, &walked) == 1;
}

/*
 * Is there nothing at addr, or the zero page? The page's entry is ISOLATING. What is
 * there is moved to a frame of a group, to be moved back if it is more. (Inside the gate
 * bytes of frames are not looked at: a page that was marked free may vanish.)
 */
static bool is_empty(struct uhmm_space *sp, uintptr_t addr, uint32_t group, bool *moved)
{
	uint64_t slot = (uint64_t)group * GROUP_PAGES + frame_group(sp, group)->nr_used;
	int64_t r = os_uffd_move(sp->uffd, frame_addr(sp, slot), addr, PAGE_SIZE, 0);

	*moved = r > 0;
	if (r <= 0)
		return r == -ENOENT;
	frame_group_fill(sp, group, addr, 1);
	return is_zero_page(frame_addr(sp, slot));
}

/* Under chunk->lock, the gate entered. True: the page is on the device now. */
static bool insert_locked(struct window *w, struct chunk *chunk, uintptr_t addr,
			  uhmm_pfn_t dst)
{
	struct uhmm_space *sp = w->mg->sp;
	entry_t *entry = page_entry(chunk, addr), e = entry_load(entry);
	entry_t to = entry_make(PAGE_NONE, 0, 0);
	uint64_t slot = (uint64_t)w->group * GROUP_PAGES +
			frame_group(sp, w->group)->nr_used;
	bool moved, empty;

	if (entry_state(e) != PAGE_NONE || unsharing(sp, addr) ||
	    page_pinned(chunk, page_index(addr)) ||
	    zap_pending(sp, addr, addr + PAGE_SIZE) ||
	    !page_change(sp, entry, addr, &e, entry_make(PAGE_ISOLATING, 0, 0)))
		return false;
	empty = is_empty(sp, addr, w->group, &moved);
	if (empty) {
		if (moved)
			w->drop[w->nr_drop++] = pfn_make(0, slot);
		migration_take(sp, dst, addr, 1);
		to = to_device(w, addr, dst);
	} else if (moved) {
		to = entry_make(PAGE_PROBATION, slot, 0);
		bring_back(w, addr, slot);
	}
	if (page_settle(sp, entry, addr, to) & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
	return empty;
}

/*
 * What was unmapped before we registered it raised no event, and nothing is there to be
 * moved either: so whether the page is of a registered mapping is asked after that.
 */
static int insert(struct window *w, uintptr_t addr, uhmm_pfn_t dst,
		  const struct range *vma)
{
	struct uhmm_space *sp = w->mg->sp;
	unsigned shard = gate_enter(&sp->gate);
	int r = register_mapping(sp, vma, addr, addr + PAGE_SIZE);
	struct chunk *chunk = page_chunk_make(sp, addr);

	if (r == 0 && chunk) {
		uhmm_lock((struct uhmm_lock *)&chunk->lock);
		r = -EBUSY;
		if (entry_state(entry_load(&chunk->folio)) == PAGE_NONE &&
		    page_entries_make(sp, chunk) && insert_locked(w, chunk, addr, dst))
			r = 0;
		uhmm_unlock((struct uhmm_lock *)&chunk->lock);
	}
	gate_leave(&sp->gate, shard);
	return r;
}

/* From here to the end of the range, until all that are to be filled are. */
static void tell_once(struct window *w, uintptr_t addr)
{
	const struct migration *mg = w->mg;

	if (!w->told)
		w->told = notifier_begin(mg->sp, addr, mg->start + mg->nr * PAGE_SIZE,
					 UHMM_EVENT_MIGRATE, mg->owner);
}

/* A page of a device for a hole. Memory for a hole is what there is without us. */
static bool fill_hole(struct window *w, uintptr_t addr, uhmm_pfn_t dst)
{
	struct os_vma vma;
	unsigned tries;
	int r = -EAGAIN;

	for (tries = 0; r == -EAGAIN && tries < MIGRATE_TRIES; tries++) {
		if (!pfn_device(dst) ||
		    !migration_mapping(addr, addr + PAGE_SIZE, &vma) ||
		    !migration_permits(w->mg, &vma))
			return false;
		if (w->group == GROUP_NIL)
			w->group = frame_group_open(w->mg->sp, vma.executable);
		if (w->group == GROUP_NIL || !migration_lift(&vma, addr, PAGE_SIZE))
			return false;
		r = insert(w, addr, dst, &(struct range){ vma.start, vma.end });
		migration_lower(&vma, addr, PAGE_SIZE);
		if (r == -EAGAIN)
			migrate_pause(tries);
	}
	return r == 0;
}

/* What the caller wants for a page. */
static uhmm_pfn_t destination(struct uhmm_space *sp, uhmm_pfn_t dst)
{
	if (dst & UHMM_PFN_ERROR)
		return UHMM_PFN_ERROR;
	return !(dst & UHMM_PFN_COMPOUND) && is_destination(sp, dst) ? dst : 0;
}

/* Of a single page, the gate entered. True: it is the migration's still. */
static bool commit_page(struct window *w, const struct migration_item *item)
{
	uintptr_t addr;
	bool alive = migration_entry(w->mg->sp, item->src, &addr);

	if (alive && uhmm_pfn_is_valid(item->dst))
		migration_take(w->mg->sp, item->dst, addr, 1);
	return alive;
}

static void commit_one(struct window *w, unsigned i, uhmm_pfn_t dst, bool valid)
{
	struct migration_item *item = &w->item[i];
	bool alive, given = item->dst;

	if (!given)
		item->dst = destination(w->mg->sp, dst);
	if (valid)
		alive = commit_page(w, item);
	else
		alive = uhmm_pfn_is_valid(item->dst) &&
			fill_hole(w, w->mg->start + (w->at + i) * PAGE_SIZE, item->dst);
	if (!alive && !given)
		item->dst = 0;
	if (!alive || !item->dst)
		item->src &= ~UHMM_PFN_MIGRATE;
}

/*
 * Folios, and holes, whose commit is not to be in the gate. dst: what the caller wants,
 * any: whether he does for some page of a folio.
 */
static void commit_outside(struct window *w, const uhmm_pfn_t *dst, bool any)
{
	unsigned i;

	for (i = 0; i < w->nr; i++) {
		struct migration_item *item = &w->item[i];

		if (!(item->src & UHMM_PFN_MIGRATE))
			continue;
		if (!uhmm_pfn_is_valid(item->src) && pfn_device(dst[i]))
			tell_once(w, w->mg->start + (w->at + i) * PAGE_SIZE);
		if (item->src & UHMM_PFN_COMPOUND &&
		    migration_commit_folio(w->mg, w->at + i, dst[i], any, &w->folio))
			continue;
		if (!uhmm_pfn_is_valid(item->src))
			commit_one(w, i, dst[i], false);
	}
}

/* Settles what becomes of the window's pages. */
static void commit(struct window *w, const uhmm_pfn_t *dst, bool any)
{
	struct uhmm_space *sp = w->mg->sp;
	unsigned shard, i;

	commit_outside(w, dst, any);
	shard = gate_enter(&sp->gate);
	for (i = 0; i < w->nr; i++) {
		uhmm_pfn_t src = w->item[i].src;

		if (uhmm_pfn_is_valid(src) && src & UHMM_PFN_MIGRATE &&
		    !(src & UHMM_PFN_COMPOUND))
			commit_one(w, i, dst[i], true);
	}
	gate_leave(&sp->gate, shard);
}

/* Is there something in dst[] for any page of the window's folio, if it has one? */
static bool any_of_folio(const struct window *w, const uhmm_pfn_t *dst)
{
	uhmm_pfn_t any = 0;
	unsigned i, j;

	for (i = 0; i < w->nr; i++)
		for (j = 0; w->item[i].src & UHMM_PFN_COMPOUND && j < CHUNK_PAGES; j++)
			any |= dst[w->at + i + j];
	return any;
}

int uhmm_migrate_pages(struct uhmm_space *sp, struct uhmm_migrate *m)
{
	struct migration *mg = migration_find(sp, m);
	struct window w = { .mg = mg };
	struct gate_visit visit;
	uhmm_pfn_t dst[GROUP_PAGES];
	unsigned i;
	bool any;

	if (!mg || mg->committed)
		return -EINVAL;
	mg->committed = true;
	while (next_window(&w)) {
		memcpy(dst, m->dst + w.at, w.nr * sizeof(*dst));
		any = any_of_folio(&w, m->dst);
		gate_visit(&sp->world, &visit);
		commit(&w, dst, any);
		if (w.group != GROUP_NIL)
			frame_group_lend(sp, w.group);
		see_to_rest(&w);
		gate_end_visit(&sp->world, &visit);
		for (i = 0; i < w.nr; i++)
			m->src[w.at + i] = w.item[i].src;
	}
	notifier_end(mg->sp, w.told);
	return 0;
}

/* ---- finalize --------------------------------------------------------------------- */

/* Where a page that is the migration's still goes; its source is dropped if it moves. */
static entry_t outcome(struct window *w, const struct migration_item *item,
		       uintptr_t addr)
{
	bool moves = item->src & UHMM_PFN_MIGRATE;
	uhmm_pfn_t at = moves && item->dst ? item->dst : item->src;

	if (at != item->src)
		w->drop[w->nr_drop++] = item->src;
	if (at & UHMM_PFN_ERROR)
		return entry_make(PAGE_POISONED, 0, 0);
	if (at != item->src)
		migration_take(w->mg->sp, at, addr, 1); /* it may have moved */
	if (pfn_device(at))
		return to_device(w, addr, at);
	bring_back(w, addr, pfn_page(at));
	return entry_make(PAGE_PROBATION, pfn_page(at), 0);
}

static void settle(struct window *w, unsigned i)
{
	struct uhmm_space *sp = w->mg->sp;
	struct migration_item item;
	uintptr_t addr;
	entry_t *entry, to;

	if (w->item[i].src & UHMM_PFN_COMPOUND &&
	    migration_settle_folio(w->mg, w->at + i, &w->folio))
		return;
	item = w->item[i];
	if (!uhmm_pfn_is_valid(item.src))
		return;
	w->item[i].src = 0; /* a child of fork() finds it settled */
	entry = migration_entry(sp, item.src, &addr);
	if (!entry) {
		w->drop[w->nr_drop++] = item.src;
		if (uhmm_pfn_is_valid(item.dst))
			w->drop[w->nr_drop++] = item.dst;
		return;
	}
	to = outcome(w, &item, addr);
	w->addr[i] = addr;
	if (page_settle(sp, entry, addr, to) & ENTRY_WANTED)
		w->wanted |= UINT64_C(1) << i;
	if (entry_state(to) == PAGE_POISONED)
		os_uffd_poison(sp->uffd, addr, PAGE_SIZE);
}

/* Of what was in the caller's dst and did not come to be a destination. */
static void free_unused(struct uhmm_space *sp, const struct migration *mg, size_t at,
			const uhmm_pfn_t *dst, unsigned nr)
{
	struct gate_visit visit;
	unsigned i;

	gate_visit(&sp->world, &visit);
	for (i = 0; i < nr; i++)
		if (dst[i] != mg->item[at + i].dst && is_destination(sp, dst[i]))
			drop_one(sp, dst[i]);
	gate_end_visit(&sp->world, &visit);
}

int uhmm_migrate_finalize(struct uhmm_space *sp, struct uhmm_migrate *m)
{
	struct migration *mg = migration_find(sp, m);
	struct window w = { .mg = mg };
	struct gate_visit visit;
	uhmm_pfn_t dst[GROUP_PAGES];
	unsigned shard, i;

	if (!mg)
		return -EINVAL;
	while (next_window(&w)) {
		gate_visit(&sp->world, &visit);
		shard = gate_enter(&sp->gate);
		for (i = 0; i < w.nr; i++)
			settle(&w, i);
		gate_leave(&sp->gate, shard);
		see_to_rest(&w);
		gate_end_visit(&sp->world, &visit);
		/* The caller's arrays may be pages that were this migration's. */
		memcpy(dst, m->dst + w.at, w.nr * sizeof(*dst));
		free_unused(sp, mg, w.at, dst, w.nr);
	}
	migration_free(mg);
	m->migration = NULL;
	return 0;
}

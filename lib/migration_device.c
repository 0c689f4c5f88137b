/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setup by the pages of page maps, wherever the program has them: for a driver that needs
 * its memory back. See migration.h.
 *
 * Where a page is its owner says (struct map_page), and the entry there whether it still
 * is; a page that changes its place in between is left out.
 */
#include <errno.h>

#include "lib/coherent.h"
#include "lib/folio.h"
#include "lib/gate.h"
#include "lib/migrate_range.h"
#include "lib/migration.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap.h"

/* Pages that are looked at in one visit to the world. */
#define SOME GROUP_PAGES

struct taking {
	struct migration *mg;
	const struct uhmm_migrate *m;
	size_t nr;
	struct os_vma vma; /* that of the last page, if it has an end */
};

static bool overlaps(const void *a, size_t size, uintptr_t start, uintptr_t end)
{
	return (uintptr_t)a < end && start < (uintptr_t)a + size;
}

/* Whoever wrote there until finalize would wait for himself. */
static bool has_arrays(const struct taking *t, uintptr_t start, uintptr_t end)
{
	size_t bytes = t->nr * sizeof(uhmm_pfn_t);

	return overlaps(t->m->src, bytes, start, end) ||
	       overlaps(t->m->dst, bytes, start, end) ||
	       overlaps(t->m, sizeof(*t->m), start, end);
}

static uhmm_pfn_t write_flag(struct taking *t, uintptr_t addr)
{
	if ((addr < t->vma.start || addr >= t->vma.end) &&
	    os_vma_next(addr, false, &t->vma))
		t->vma.end = 0;
	return addr >= t->vma.start && addr < t->vma.end && t->vma.writable ?
		       UHMM_PFN_WRITE :
		       0;
}

/* Makes the entry of a page, or a folio, the migration's if it is what was asked for. */
static bool claim(struct uhmm_space *sp, entry_t *entry, uintptr_t addr, uhmm_pfn_t pfn)
{
	unsigned device = pfn_device(pfn);
	entry_t e = entry ? entry_load(entry) : 0;

	return entry_state(e) == PAGE_DEVICE && entry_device(e) == device &&
	       entry_payload(e) == pfn_page(pfn) &&
	       page_change(sp, entry, addr, &e,
			   entry_make(PAGE_MIGRATING, pfn_page(pfn), device));
}

/* Where the program has a page, as itself or as part of a folio; 0: nowhere. */
static uintptr_t place_of(const struct uhmm_pagemap *map, uint64_t page)
{
	uint64_t head = page - page % CHUNK_PAGES;
	uintptr_t addr;

	if (pagemap_part(map, page) == MAP_PAGE_SINGLE)
		return pagemap_owner(map, page);
	addr = pagemap_owner(map, head);
	return addr ? addr + (page - head) * PAGE_SIZE : 0;
}

/* Are all pages of the folio asked for? item[].dst is what was. */
static bool asks_for_whole(const struct taking *t, size_t at, uhmm_pfn_t head)
{
	size_t i;

	if (!(t->m->flags & UHMM_SELECT_COMPOUND) || t->nr - at < CHUNK_PAGES)
		return false;
	for (i = 1; i < CHUNK_PAGES; i++) {
		uhmm_pfn_t pfn = t->mg->item[at + i].dst;

		if (pfn && pfn != head + (i << UHMM_PFN_SHIFT))
			return false;
	}
	return true;
}

/* The gate is entered. A page of a folio that is there as one is made a single one. */
static bool take_inside(struct uhmm_space *sp, uintptr_t addr, uhmm_pfn_t pfn, bool whole)
{
	struct chunk *chunk = page_chunk(sp, addr);

	if (!chunk)
		return false;
	if (whole)
		return claim(sp, &chunk->folio, addr, pfn);
	folio_split_device(sp, addr);
	return claim(sp, page_entry(chunk, addr), addr, pfn);
}

/* How often a page is followed that moves just now. */
#define FOLLOWED_MAX 4u

/* Tells who mirrors the page, and takes it. False: it is not to be had. */
static bool take_one(struct taking *t, size_t at, uhmm_pfn_t pfn, bool whole)
{
	struct uhmm_space *sp = t->mg->sp;
	const struct uhmm_pagemap *map = pagemap_at(sp, pfn_device(pfn));
	size_t size = whole ? CHUNK_SIZE : PAGE_SIZE;
	bool mine = false, told, moved = true;
	unsigned tries, shard;
	uintptr_t addr = 0;

	for (tries = 0; moved && tries < FOLLOWED_MAX; tries++) {
		addr = place_of(map, pfn_page(pfn));
		if (!addr || has_arrays(t, addr, addr + size))
			return false;
		told = notifier_begin(sp, addr, addr + size, UHMM_EVENT_MIGRATE,
				      map->owner);
		shard = gate_enter(&sp->gate);
		moved = place_of(map, pfn_page(pfn)) != addr;
		mine = !moved && take_inside(sp, addr, pfn, whole);
		gate_leave(&sp->gate, shard);
		notifier_end(sp, told);
	}
	if (mine)
		t->mg->item[at].src = pfn | UHMM_PFN_MIGRATE | write_flag(t, addr) |
				      (whole ? UHMM_PFN_COMPOUND : 0);
	return mine;
}

/* The same of a coherent page that the program has in its page table. */
static void take_coherent(struct taking *t, size_t at, uhmm_pfn_t pfn)
{
	struct uhmm_space *sp = t->mg->sp;
	const struct uhmm_pagemap *map = pagemap_at(sp, pfn_device(pfn));
	uintptr_t addr = pagemap_owner(map, pfn_page(pfn));
	unsigned tries = 0;
	struct os_vma vma;
	int r = -EAGAIN;
	bool told;

	if (!addr || has_arrays(t, addr, addr + PAGE_SIZE) || !coherent_look(sp, addr))
		return;
	told = notifier_begin(sp, addr, addr + PAGE_SIZE, UHMM_EVENT_MIGRATE, map->owner);
	for (; r == -EAGAIN && tries < MIGRATE_TRIES; tries++) {
		if (tries)
			migrate_pause(tries - 1);
		if (!migration_mapping(addr, addr + PAGE_SIZE, &vma) ||
		    !migration_permits(t->mg, &vma) ||
		    !migration_lift(&vma, addr, PAGE_SIZE))
			break;
		r = coherent_take(sp, &(struct range){ vma.start, vma.end }, addr,
				  map->owner, &pfn, &pfn);
		migration_lower(&vma, addr, PAGE_SIZE);
	}
	notifier_end(sp, told);
	if (r == 0)
		t->mg->item[at].src = pfn | UHMM_PFN_MIGRATE |
				      (vma.writable ? UHMM_PFN_WRITE : 0);
}

/* Returns how many elements that was. */
static size_t take(struct taking *t, size_t at)
{
	uhmm_pfn_t pfn = t->mg->item[at].dst;
	const struct uhmm_pagemap *map;

	/* A child of fork() must not take it for a destination. */
	t->mg->item[at].dst = 0;
	map = pfn_device(pfn) ? pagemap_at(t->mg->sp, pfn_device(pfn)) : NULL;
	if (!map || pfn_page(pfn) >= map->nr_pages)
		return 1;
	if (pagemap_part(map, pfn_page(pfn)) == MAP_PAGE_HEAD &&
	    asks_for_whole(t, at, pfn) && take_one(t, at, pfn, true))
		return CHUNK_PAGES;
	if (!take_one(t, at, pfn, false) && map->memory)
		take_coherent(t, at, pfn);
	return 1;
}

static void take_all(struct taking *t)
{
	struct uhmm_space *sp = t->mg->sp;
	struct gate_visit visit;
	size_t at = 0, end;

	while (at < t->nr) {
		gate_visit(&sp->world, &visit);
		for (end = at + SOME; at < t->nr && at < end;)
			at += take(t, at);
		gate_end_visit(&sp->world, &visit);
	}
}

static bool is_valid(const struct uhmm_migrate *m, size_t nr)
{
	size_t bytes = nr * sizeof(uhmm_pfn_t);

	return m && m->size >= sizeof(*m) && !m->migration && !m->reserved && nr &&
	       nr < UHMM_DEVICE_PAGE_LIMIT && m->src && m->dst &&
	       !overlaps(m->src, bytes, (uintptr_t)m->dst, (uintptr_t)m->dst + bytes);
}

/* The pages that are asked for are in item[].dst, as pfns without flags but VALID. */
static void finish(struct migration *mg, struct uhmm_migrate *m)
{
	struct taking t = { .mg = mg, .m = m, .nr = mg->nr };
	size_t i, cpages = 0;

	mg->flags = m->flags;
	take_all(&t);
	for (i = 0; i < mg->nr; i++) {
		mg->item[i].dst = 0;
		m->src[i] = mg->item[i].src;
		m->dst[i] = 0;
		cpages += m->src[i] != 0;
	}
	m->npages = mg->nr;
	m->cpages = cpages;
	m->migration = mg;
}

int uhmm_migrate_device_range(struct uhmm_pagemap *map, uint64_t first, size_t nr,
			      struct uhmm_migrate *m)
{
	struct migration *mg;
	size_t i;

	if (!is_valid(m, nr) || first >= map->nr_pages || nr > map->nr_pages - first)
		return -EINVAL;
	mg = migration_make(map->sp, nr);
	if (!mg)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		mg->item[i].dst = pfn_make(map->number, first + i);
	finish(mg, m);
	return 0;
}

int uhmm_migrate_device_pfns(struct uhmm_space *sp, const uhmm_pfn_t *pfns, size_t nr,
			     struct uhmm_migrate *m)
{
	struct migration *mg;
	size_t i;

	if (!is_valid(m, nr) || !pfns)
		return -EINVAL;
	mg = migration_make(sp, nr);
	if (!mg)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		if (uhmm_pfn_is_valid(pfns[i]))
			mg->item[i].dst = pfn_make(pfn_device(pfns[i]),
						   pfn_page(pfns[i]));
	finish(mg, m);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages and folios of memory that a driver has: to be destinations of a migration, or to
 * be looked at. They lie in lent frames, and are of OWNER_ALLOCATED until a migration has
 * them.
 */
#include <errno.h>

#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/huge.h"
#include "lib/migration.h"
#include "lib/migration_folio.h"

void *uhmm_pfn_bytes(struct uhmm_space *sp, uhmm_pfn_t pfn)
{
	const struct uhmm_pagemap *map;

	if (!uhmm_pfn_is_valid(pfn))
		return NULL;
	if (pfn_device(pfn)) {
		map = pagemap_at(sp, pfn_device(pfn));
		return map && map->memory && pfn_page(pfn) < map->nr_pages ?
			       (void *)pagemap_addr(map, pfn_page(pfn)) :
			       NULL;
	}
	if (pfn_page(pfn) >= (uint64_t)sp->frames.nr_groups * GROUP_PAGES)
		return NULL;
	return frame_bytes(sp, pfn_page(pfn));
}

int migration_page_alloc(struct uhmm_space *sp, uhmm_pfn_t *pfns, unsigned nr, bool fresh)
{
	struct gate_visit visit;
	unsigned done = 0, got, i;
	uint64_t slot;

	if (!pfns || !nr)
		return -EINVAL;
	while (done < nr) {
		got = nr - done < GROUP_PAGES ? nr - done : GROUP_PAGES;
		gate_visit(&sp->world, &visit);
		got = frame_alloc(sp, got, fresh, &slot);
		for (i = 0; i < got; i++)
			frame_set_owner(sp, slot + i, OWNER_ALLOCATED);
		gate_end_visit(&sp->world, &visit);
		if (!got)
			break;
		for (i = 0; i < got; i++)
			pfns[done++] = pfn_make(0, slot + i);
	}
	return done ? (int)done : -ENOMEM;
}

int uhmm_page_alloc(struct uhmm_space *sp, uhmm_pfn_t *pfns, unsigned nr)
{
	return migration_page_alloc(sp, pfns, nr, false);
}

void uhmm_page_free(struct uhmm_space *sp, uhmm_pfn_t pfn)
{
	uint64_t slot = pfn_page(pfn);
	struct gate_visit visit;

	if (pfn_device(pfn) || !uhmm_pfn_bytes(sp, pfn) ||
	    frame_owner(sp, slot) != OWNER_ALLOCATED)
		return;
	if (pfn & UHMM_PFN_COMPOUND ? !migration_folio_is_destination(sp, pfn) :
				      !frame_is_lent(sp, slot))
		return;
	gate_visit(&sp->world, &visit);
	frame_set_owner(sp, slot, 0);
	if (pfn & UHMM_PFN_COMPOUND)
		frame_folio_drop(sp, (uint32_t)(slot / GROUP_PAGES));
	else
		frame_drop(sp, (uint32_t)(slot / GROUP_PAGES),
			   UINT64_C(1) << slot % GROUP_PAGES);
	gate_end_visit(&sp->world, &visit);
}

/* False: it did not get there, and the block is free. */
static bool move_to(struct uhmm_space *sp, const char *bytes, uint32_t group)
{
	uintptr_t frames = frame_addr(sp, (uint64_t)group * GROUP_PAGES);
	size_t done = 0;
	int64_t why;

	do {
		done = huge_move(sp, frames, bytes, done, &why);
		if (why == -EAGAIN)
			os_yield(); /* until the reader has read */
	} while (why == -EAGAIN);
	if (done < CHUNK_SIZE)
		frame_folio_empty(sp, group);
	return done == CHUNK_SIZE;
}

/* A huge page of ours goes to a block of frames, if it does not lie there already. */
static uint32_t to_frames(struct uhmm_space *sp, char *bytes)
{
	uint32_t group;

	if (frame_contains(sp, (uintptr_t)bytes))
		return frame_group_at(sp, bytes);
	group = frame_folio_open(sp);
	if (group != GROUP_NIL && !move_to(sp, bytes, group))
		group = GROUP_NIL;
	huge_put(sp, bytes);
	return group;
}

int uhmm_folio_alloc(struct uhmm_space *sp, uhmm_pfn_t *pfn)
{
	uint32_t group = GROUP_NIL;
	struct gate_visit visit;
	char *bytes;

	if (!pfn)
		return -EINVAL;
	gate_visit(&sp->world, &visit);
	bytes = huge_get(sp);
	if (bytes)
		group = to_frames(sp, bytes);
	if (group != GROUP_NIL)
		frame_folio_allocated(sp, group, OWNER_ALLOCATED);
	gate_end_visit(&sp->world, &visit);
	if (group == GROUP_NIL)
		return -ENOMEM;
	*pfn = pfn_make(0, (uint64_t)group * GROUP_PAGES) | UHMM_PFN_COMPOUND;
	return 0;
}

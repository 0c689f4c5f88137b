/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of folios: blocks that are filled and emptied as one. The first group of the
 * block speaks for all eight: its kind is GROUP_FOLIO or GROUP_FOLIO_LENT, and the owner
 * of its first slot is that of the folio.
 */
#include "lib/frame.h"
#include "lib/frame_list.h"
#include "lib/frame_trash.h"

/*
 * Huge pages go to blocks that never held single pages: those have no page table yet, and
 * the kernel moves the huge page by moving one entry. Single pages use worn blocks first.
 */
uint32_t frame_folio_open(struct uhmm_space *sp)
{
	static const enum block_kind order[BLOCK_KINDS] = { BLOCK_FRESH, BLOCK_WORN,
							    BLOCK_EXECUTABLE };
	uint32_t b = block_take(sp, order);

	if (b == GROUP_NIL && frames_drop_unneeded(sp))
		b = block_take(sp, order);
	return b == GROUP_NIL ? GROUP_NIL : b * BLOCK_GROUPS;
}

void frame_folio_close(struct uhmm_space *sp, uint32_t g, uintptr_t owner)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	f->block[g / BLOCK_GROUPS].nr_free = 0;
	f->group[g].kind = GROUP_FOLIO;
	frame_set_owner(sp, (uint64_t)g * GROUP_PAGES, owner);
	probation_append(f, g);
	uhmm_unlock(&f->lock);
	__atomic_fetch_add(&f->nr_probation, CHUNK_PAGES, __ATOMIC_RELAXED);
}

bool frame_folio_is_here(struct uhmm_space *sp, uint32_t g, uintptr_t owner)
{
	struct frames *f = &sp->frames;
	bool here;

	uhmm_lock(&f->lock);
	here = f->group[g].kind == GROUP_FOLIO &&
	       frame_owner(sp, (uint64_t)g * GROUP_PAGES) == owner;
	uhmm_unlock(&f->lock);
	return here;
}

/* The block is free, or kept with what it holds. */
static void folio_gone(struct uhmm_space *sp, uint32_t g, bool keep)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	if (f->group[g].kind == GROUP_FOLIO || f->group[g].kind == GROUP_FOLIO_LENT) {
		if (group_on_list(f, g))
			probation_unlink(f, g);
		f->group[g].prev = GROUP_NIL;
		f->group[g].kind = GROUP_FREE;
		__atomic_fetch_sub(&f->nr_probation, CHUNK_PAGES, __ATOMIC_RELAXED);
	}
	if (keep) {
		spare_push(f, g, GROUP_FOLIO_SPARE);
	} else {
		f->block[g / BLOCK_GROUPS].nr_free = BLOCK_GROUPS;
		free_block_push(f, g / BLOCK_GROUPS);
	}
	uhmm_unlock(&f->lock);
}

void frame_folio_release(struct uhmm_space *sp, uint32_t g)
{
	folio_gone(sp, g, false);
}

/* The bits of [from, to) that fall into group i of a folio. */
static uint64_t group_mask(unsigned i, unsigned from, unsigned to)
{
	unsigned first = i * GROUP_PAGES, end = first + GROUP_PAGES;
	uint64_t below_to, below_from;

	from = from < first ? first : from > end ? end : from;
	to = to < first ? first : to > end ? end : to;
	below_to = to == end ? ~UINT64_C(0) : (UINT64_C(1) << (to - first)) - 1;
	below_from = from == end ? ~UINT64_C(0) : (UINT64_C(1) << (from - first)) - 1;
	return below_to & ~below_from;
}

void frame_folio_split(struct uhmm_space *sp, uint32_t g, uintptr_t owner, unsigned from,
		       unsigned to)
{
	struct frames *f = &sp->frames;
	uint32_t i, j;
	bool lent;

	uhmm_lock(&f->lock);
	lent = f->group[g].kind == GROUP_FOLIO_LENT;
	if (group_on_list(f, g))
		probation_unlink(f, g);
	f->group[g].prev = GROUP_NIL;
	f->block[g / BLOCK_GROUPS].kind = BLOCK_WORN;
	f->block[g / BLOCK_GROUPS].nr_free = 0;
	for (i = 0; i < BLOCK_GROUPS; i++) {
		struct frame_group *group = &f->group[g + i];

		group->nr_used = GROUP_PAGES;
		group->present = group_mask(i, from, to);
		if (!group->present) {
			group_free(f, g + i);
			continue;
		}
		for (j = i * GROUP_PAGES; j < (i + 1) * GROUP_PAGES; j++)
			frame_set_owner(sp, (uint64_t)g * GROUP_PAGES + j,
					owner + j * PAGE_SIZE);
		group->kind = lent ? GROUP_LENT : GROUP_PROBATION;
		if (!lent)
			probation_append(f, g + i);
	}
	uhmm_unlock(&f->lock);
	__atomic_fetch_sub(&f->nr_probation, CHUNK_PAGES - (to - from), __ATOMIC_RELAXED);
}

void frame_folio_drop(struct uhmm_space *sp, uint32_t g)
{
	bool keep = frame_spare_room(sp, CHUNK_PAGES);

	if (!keep)
		trash_folio(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES));
	folio_gone(sp, g, keep);
}

void frame_folio_drop_some(struct uhmm_space *sp, uint32_t g, const uint64_t *mask)
{
	uintptr_t at = frame_addr(sp, (uint64_t)g * GROUP_PAGES);
	bool executable = group_is_executable(&sp->frames, g);
	unsigned i;

	for (i = 0; i < BLOCK_GROUPS; i++)
		if (mask[i])
			trash_pages(sp, at + i * GROUP_SIZE, mask[i], executable);
}

void frame_folio_empty(struct uhmm_space *sp, uint32_t g)
{
	trash_folio(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES));
	folio_gone(sp, g, false);
}

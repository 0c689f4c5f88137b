/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lent frames: those of a migration, and those that were handed out to be a migration's
 * destinations. They are on no list; who drops the last page of a group frees the group.
 */
#include <errno.h>

#include "lib/frame.h"
#include "lib/frame_list.h"

void frame_group_lend(struct uhmm_space *sp, uint32_t g)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	if (__atomic_load_n(&f->group[g].present, __ATOMIC_ACQUIRE))
		f->group[g].kind = GROUP_LENT;
	else
		group_free(f, g);
	uhmm_unlock(&f->lock);
}

/* A whole group that was spare. */
static bool alloc_spare(struct uhmm_space *sp, uint64_t *slot)
{
	uint32_t g = frame_spare_take(sp);

	if (g == GROUP_NIL)
		return false;
	*slot = (uint64_t)g * GROUP_PAGES;
	frame_group_fill(sp, g, 0, GROUP_PAGES);
	frame_group_lend(sp, g);
	return true;
}

unsigned frame_alloc(struct uhmm_space *sp, unsigned nr, bool fresh, uint64_t *slot)
{
	unsigned done = 0;
	int64_t r = 0;
	uint32_t g;

	if (nr == GROUP_PAGES && !fresh && alloc_spare(sp, slot))
		return nr;
	g = frame_group_open(sp, false);
	if (g == GROUP_NIL)
		return 0;
	*slot = (uint64_t)g * GROUP_PAGES;
	while (done < nr) {
		r = os_uffd_copy(sp->uffd, frame_addr(sp, *slot + done), sp->zeros,
				 (nr - done) * PAGE_SIZE);
		if (r > 0)
			done += (unsigned)(r >> PAGE_SHIFT);
		else if (r == -EEXIST)
			done++; /* somebody looked there, and got zeros */
		else if (r == -EAGAIN)
			os_yield(); /* until the reader has read */
		else
			break;
	}
	if (done)
		frame_group_fill(sp, g, 0, done);
	frame_group_lend(sp, g);
	return done;
}

void frame_folio_lend(struct uhmm_space *sp, uint32_t g)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	if (group_on_list(f, g))
		probation_unlink(f, g);
	f->group[g].prev = GROUP_NIL;
	f->group[g].kind = GROUP_FOLIO_LENT;
	uhmm_unlock(&f->lock);
}

void frame_folio_allocated(struct uhmm_space *sp, uint32_t g, uintptr_t owner)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	f->block[g / BLOCK_GROUPS].nr_free = 0;
	f->group[g].prev = GROUP_NIL;
	f->group[g].kind = GROUP_FOLIO_LENT;
	frame_set_owner(sp, (uint64_t)g * GROUP_PAGES, owner);
	uhmm_unlock(&f->lock);
	__atomic_fetch_add(&f->nr_probation, CHUNK_PAGES, __ATOMIC_RELAXED);
}

static bool is_kind(struct uhmm_space *sp, uint32_t g, enum group_kind kind)
{
	struct frames *f = &sp->frames;
	bool is;

	uhmm_lock(&f->lock);
	is = f->group[g].kind == kind;
	uhmm_unlock(&f->lock);
	return is;
}

bool frame_folio_is_lent(struct uhmm_space *sp, uint32_t g)
{
	return is_kind(sp, g, GROUP_FOLIO_LENT);
}

bool frame_is_lent(struct uhmm_space *sp, uint64_t slot)
{
	return is_kind(sp, (uint32_t)(slot / GROUP_PAGES), GROUP_LENT);
}

static void take_back_folio(struct uhmm_space *sp, uint32_t g, uintptr_t owner)
{
	struct frames *f = &sp->frames;

	if (frame_owner(sp, (uint64_t)g * GROUP_PAGES) <= owner) {
		frame_folio_drop(sp, g);
		return;
	}
	uhmm_lock(&f->lock);
	f->group[g].kind = GROUP_FOLIO;
	probation_append(f, g);
	uhmm_unlock(&f->lock);
}

void frames_take_back(struct uhmm_space *sp, uintptr_t owner)
{
	struct frames *f = &sp->frames;
	uint32_t g;
	unsigned i;

	for (g = 0; g < f->nr_groups; g++) {
		uint64_t drop = 0;

		if (f->group[g].kind == GROUP_FOLIO_LENT)
			take_back_folio(sp, g, owner);
		if (f->group[g].kind != GROUP_LENT)
			continue;
		for (i = 0; i < GROUP_PAGES; i++)
			if (f->group[g].present >> i & 1 && f->group[g].owner[i] <= owner)
				drop |= UINT64_C(1) << i;
		frame_drop(sp, g, drop);
		if (f->group[g].kind == GROUP_LENT)
			frame_group_close(sp, g, false);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spare frames: what is in them nobody needs any more, and the memory is kept for what
 * comes back. To have pages from the kernel and to give them back costs more than to move
 * and to copy them.
 *
 * Not for long: the worker drops what was not needed since it last looked, about a second
 * ago (frames_trim()). And none where there is a budget, nor across a fork, which would
 * share them.
 */
#include "lib/budget.h"
#include "lib/frame.h"
#include "lib/frame_list.h"
#include "lib/frame_trash.h"

#define ALL_OF_GROUP (~UINT64_C(0))

static uint64_t spare_limit(const struct frames *f)
{
	uint64_t quarter = (uint64_t)f->nr_groups * GROUP_PAGES / 4;

	return quarter < SPARE_PAGES_MAX ? quarter : SPARE_PAGES_MAX;
}

void spare_push(struct frames *f, uint32_t g, enum group_kind kind)
{
	struct spare_list *list = &f->spare[kind == GROUP_FOLIO_SPARE];

	f->group[g].kind = kind;
	f->group[g].stale = false;
	f->group[g].prev = GROUP_NIL;
	f->group[g].next = list->head;
	list->head = g;
	__atomic_store_n(&list->nr, list->nr + 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&f->spare_pages,
			   kind == GROUP_SPARE ? GROUP_PAGES : CHUNK_PAGES,
			   __ATOMIC_RELAXED);
}

/* Under the lock. The caller's is what was spare, or GROUP_NIL. */
static uint32_t pop(struct frames *f, bool folio)
{
	struct spare_list *list = &f->spare[folio];
	uint32_t g = list->head;

	if (g == GROUP_NIL)
		return g;
	list->head = f->group[g].next;
	__atomic_store_n(&list->nr, list->nr - 1, __ATOMIC_RELAXED);
	if (list->nr < list->least)
		list->least = list->nr;
	f->group[g].kind = GROUP_OPEN;
	__atomic_fetch_sub(&f->spare_pages, folio ? CHUNK_PAGES : GROUP_PAGES,
			   __ATOMIC_RELAXED);
	return g;
}

static uint32_t take(struct uhmm_space *sp, bool folio)
{
	struct frames *f = &sp->frames;
	uint32_t g;

	if (!__atomic_load_n(&f->spare_pages, __ATOMIC_RELAXED))
		return GROUP_NIL;
	uhmm_lock(&f->lock);
	g = pop(f, folio);
	uhmm_unlock(&f->lock);
	return g;
}

uint32_t frame_spare_take(struct uhmm_space *sp)
{
	uint32_t g = take(sp, false);

	if (g != GROUP_NIL)
		frame_group(sp, g)->nr_used = 0;
	return g;
}

/* A group whose pages are gone. */
static void release(struct uhmm_space *sp, uint32_t g)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	group_free(f, g);
	uhmm_unlock(&f->lock);
}

uint32_t frame_spare_take_folio(struct uhmm_space *sp)
{
	return take(sp, true);
}

/* ---- dropping --------------------------------------------------------------------- */

/* How many were dropped. */
static uint32_t drop_groups(struct uhmm_space *sp, uint32_t nr)
{
	uint32_t g, done = 0;

	for (; done < nr && (g = take(sp, false)) != GROUP_NIL; done++) {
		trash_pages(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES), ALL_OF_GROUP,
			    false);
		release(sp, g);
	}
	return done;
}

static uint32_t drop_folios(struct uhmm_space *sp, uint32_t nr)
{
	uint32_t g, done = 0;

	for (; done < nr && (g = take(sp, true)) != GROUP_NIL; done++) {
		frame_folio_empty(sp, g);
	}
	return done;
}

bool frames_drop_spares(struct uhmm_space *sp)
{
	bool any = __atomic_load_n(&sp->frames.spare_pages, __ATOMIC_RELAXED);

	drop_groups(sp, UINT32_MAX);
	drop_folios(sp, UINT32_MAX);
	return any;
}

bool frames_drop_unneeded(struct uhmm_space *sp)
{
	bool left = frames_drop_left(sp);

	return frames_drop_spares(sp) || left;
}

/* ---- keeping ---------------------------------------------------------------------- */

/*
 * What there is of the other kind makes room: it was put there for memory that went back
 * and forth before this.
 */
bool frame_spare_room(struct uhmm_space *sp, unsigned pages)
{
	struct frames *f = &sp->frames;
	bool folio = pages == CHUNK_PAGES;
	uint64_t limit = spare_limit(f);

	if (budget_limited(sp) ||
	    (__atomic_load_n(&f->spare[folio].nr, __ATOMIC_RELAXED) + 1) * pages > limit)
		return false;
	while (__atomic_load_n(&f->spare_pages, __ATOMIC_RELAXED) + pages > limit)
		if (folio ? !drop_groups(sp, BLOCK_GROUPS) : !drop_folios(sp, 1))
			return false;
	return true;
}

bool frame_group_keep(struct uhmm_space *sp, uint32_t g, uint64_t mask)
{
	struct frames *f = &sp->frames;

	if (mask != ALL_OF_GROUP || group_is_executable(f, g) ||
	    !frame_spare_room(sp, GROUP_PAGES))
		return false;
	/* All its pages are the caller's: nobody else frees it. */
	f->group[g].stale = true;
	return true;
}

void frame_spare_give(struct uhmm_space *sp, uint32_t g, uint64_t left)
{
	struct frames *f = &sp->frames;
	bool keep = left == ALL_OF_GROUP && frame_spare_room(sp, GROUP_PAGES);

	if (left && !keep)
		trash_pages(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES), left, false);
	uhmm_lock(&f->lock);
	if (keep)
		spare_push(f, g, GROUP_SPARE);
	else
		group_free(f, g);
	uhmm_unlock(&f->lock);
}

static uint32_t least(struct frames *f, bool folio)
{
	struct spare_list *list = &f->spare[folio];
	uint32_t nr;

	uhmm_lock(&f->lock);
	nr = list->least;
	list->least = list->nr - nr; /* as many as will be left */
	uhmm_unlock(&f->lock);
	return nr;
}

void frames_trim(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;

	if (budget_limited(sp)) {
		frames_drop_unneeded(sp);
		return;
	}
	frames_drop_left(sp);
	if (!__atomic_load_n(&f->spare_pages, __ATOMIC_RELAXED))
		return;
	drop_groups(sp, least(f, false));
	drop_folios(sp, least(f, true));
	frame_empty_trash(sp);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: what our own memory tells of a child that is filled in. Two kinds of mapping come
 * to a place without an event: one that was registered late, and one that has grown.
 *
 * Both are looked for when all is read that there is, and the child is not filled yet. So
 * what is registered where an event of the batch took something away is what came there
 * after that, and what came and went again was taken away by two events.
 */
#include "lib/event.h"
#include "lib/fork.h"
#include "lib/fork_fill.h"
#include "lib/migrate.h"
#include "lib/range.h"

/* False: so much was read already that what is unread stays so. */
static bool read_on(struct fill *fill)
{
	if (fill->frozen)
		return fork_read_on(fill->sp);
	if (event_is_due(fill->sp->batch))
		return false;
	event_read_or_yield(fill->sp);
	return true;
}

/* Where an event of the batch, not applied, took a mapping away. False: nowhere. */
static bool taken_by(const struct event_batch *b, uint32_t i, struct range *gone)
{
	const struct os_event *ev = &b->event[i];

	*gone = (struct range){ ev->from, ev->end };
	if (ev->kind == OS_EVENT_REMAP)
		gone->end = ev->from + ev->len;
	return b->applied[i] != EVENT_APPLIED && ev->kind != OS_EVENT_REMOVE;
}

/*
 * Adds what is registered here of [start, end), by whole mappings. Where that cannot be
 * asked, because there is always something unread, what is mapped. False: there is no
 * room for all.
 */
static bool add_registered(struct fill *fill, struct range_set *set, uintptr_t start,
			   uintptr_t end)
{
	struct os_vma vma;
	uintptr_t stop;
	bool mapped;

	while (start < end && os_vma_next(start, false, &vma) == 0 && vma.start < end) {
		if (vma.start > start)
			start = vma.start;
		stop = vma.end < end ? vma.end : end;
		if (!event_is_mapped(fill->sp, start, &mapped) && read_on(fill))
			continue; /* and look again: it may have changed */
		if (mapped && range_add(set, start, stop))
			return false;
		start = stop;
	}
	return true;
}

/*
 * A mapping that was registered late may have been taken away again since: then two
 * events of the batch took something away there, the first of them read before the child.
 */
static void add_taken_twice(struct fill *fill, uint32_t first, struct range late)
{
	const struct event_batch *b = fill->sp->batch;
	struct range gone;
	uint32_t i;

	for (i = first + 1; i < b->nr; i++) {
		if (!taken_by(b, i, &gone))
			continue;
		if (gone.start < late.start)
			gone.start = late.start;
		if (gone.end > late.end)
			gone.end = late.end;
		if (gone.start < gone.end &&
		    range_add(&fill->fresh, gone.start, gone.end))
			os_die(TOO_FAST);
	}
}

/*
 * Between our look for unread events and our registering a mapping, that can be taken
 * away and another can come to its place, which we register then. What the batch says of
 * the old one a child that was copied afterwards has seen; but its pages could be filled
 * in there, into the new one.
 *
 * Our own memory tells: nothing else is registered while an event is unread, so what is
 * registered here, was taken away in this batch and was not moved here in it is such a
 * mapping. And the child was copied after we registered it. Before the gap it was not:
 * its event, unread, would have kept us from registering. (All of it within the gap, the
 * clone, then the unmapping, then the mapping: that nothing tells. Nor whether a
 * neighbour has grown into the place.)
 */
static void look_at_late(struct fill *fill)
{
	struct uhmm_space *sp = fill->sp;
	struct range gone, piece;
	uint32_t i;

	fill->fresh.nr = 0;
	for (i = 0; sp->late.nr && i < sp->batch->nr; i++) {
		/*
		 * A move takes its old mapping by the UNMAP that follows; where none does
		 * (MREMAP_DONTUNMAP) what is registered there was there before.
		 */
		if (!taken_by(sp->batch, i, &gone) ||
		    sp->batch->event[i].kind == OS_EVENT_REMAP)
			continue;
		while (gone.start < gone.end &&
		       range_clip(&sp->late, true, gone.start, gone.end, &piece)) {
			if (!add_registered(fill, &fill->fresh, piece.start, piece.end))
				os_die(TOO_FAST);
			if (i < fill->after)
				add_taken_twice(fill, i, piece);
			gone.start = piece.end;
		}
	}
	for (i = 0; fill->fresh.nr && i < sp->batch->nr; i++) {
		const struct os_event *ev = &sp->batch->event[i];

		if (ev->kind == OS_EVENT_REMAP &&
		    range_remove(&fill->fresh, ev->to, ev->to + ev->len))
			os_die(TOO_FAST);
	}
}

/* What is there again, or still, of what was unmapped before the child was read of. */
static void look_at_grown(struct fill *fill)
{
	const struct event_batch *b = fill->sp->batch;
	uint32_t i;

	fill->grown.nr = 0;
	fill->all_grown = true;
	for (i = 0; i < fill->after && fill->all_grown; i++)
		if (b->applied[i] != EVENT_APPLIED && b->event[i].kind == OS_EVENT_UNMAP)
			fill->all_grown = add_registered(
				fill, &fill->grown, b->event[i].from, b->event[i].end);
	/* What had gone when we looked, and nobody has read of. */
	while (fill->after && event_unread(fill->sp) && read_on(fill))
		;
}

void fill_look_at_ours(struct fill *fill)
{
	look_at_late(fill);
	look_at_grown(fill);
}

/* Is there another UNMAP, behind event i? */
static bool is_unmapped_again(const struct event_batch *b, uint32_t i, uintptr_t addr)
{
	for (i++; i < b->nr; i++)
		if (b->applied[i] != EVENT_APPLIED &&
		    b->event[i].kind == OS_EVENT_UNMAP &&
		    addr - b->event[i].from < b->event[i].end - b->event[i].from)
			return true;
	return false;
}

bool fill_has_grown(struct fill *fill, uint32_t unmap, uintptr_t addr, bool arrived)
{
	struct event_batch *b = fill->sp->batch;
	bool mapped = false;
	uint32_t i;

	if (arrived && !range_touches(&b->gone, addr, addr + PAGE_SIZE))
		return false; /* the UNMAP may have happened before it arrived */
	for (i = 0; !arrived && i < b->nr; i++)
		if (b->event[i].kind == OS_EVENT_REMAP &&
		    addr - b->event[i].to < b->event[i].len)
			return false; /* what is there was moved there */
	/* There were too many to list: then it is asked for each page, and now. */
	if (!fill->all_grown)
		event_is_mapped(fill->sp, addr, &mapped);
	return mapped || range_touches(&fill->grown, addr, addr + PAGE_SIZE) ||
	       is_unmapped_again(b, unmap, addr);
}

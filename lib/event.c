/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying structural events. The gate is closed: nobody isolates or fills; holders of
 * busy pages finish without it, and are waited for.
 */
#include "lib/event.h"

#include <errno.h>

#include "lib/assert.h"
#include "lib/coherent.h"
#include "lib/device.h"
#include "lib/fence.h"
#include "lib/folio.h"
#include "lib/fork.h"
#include "lib/frame.h"
#include "lib/frozen.h"
#include "lib/gate.h"
#include "lib/grown.h"
#include "lib/landed.h"
#include "lib/message.h"
#include "lib/migrate.h"
#include "lib/migration.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/range.h"
#include "lib/recall.h"
#include "lib/zap.h"

/* Frames and device pages to be given up, collected so that they go in batches. */
struct discard {
	struct uhmm_space *sp;
	uintptr_t start, end;
	uint32_t group;
	uint64_t mask;
	unsigned device, nr;
	struct uhmm_io io[UHMM_BATCH_MAX];
	uint64_t dropped;
};

static void flush_frames(struct discard *d)
{
	if (d->mask)
		frame_drop(d->sp, d->group, d->mask);
	d->mask = 0;
}

static void flush_device(struct discard *d)
{
	if (d->nr)
		device_run(d->sp->device[d->device], UHMM_OP_FREE, d->io, d->nr);
	d->nr = 0;
}

static void give_up_frame(struct discard *d, uint64_t slot)
{
	uint32_t group = (uint32_t)(slot / GROUP_PAGES);

	if (group != d->group)
		flush_frames(d);
	d->group = group;
	d->mask |= UINT64_C(1) << slot % GROUP_PAGES;
}

static void give_up_device(struct discard *d, unsigned device, uint64_t page)
{
	if (device != d->device || d->nr == UHMM_BATCH_MAX)
		flush_device(d);
	d->device = device;
	d->io[d->nr++] = (struct uhmm_io){ .page = page };
}

/* With the gate closed: waits for the holder; the state that it leaves is stable. */
static entry_t wait_stable(struct uhmm_space *sp, entry_t *entry)
{
	entry_t e;

	while (entry_busy(e = entry_load(entry)))
		page_wait(sp, entry);
	return e;
}

static void to_none(struct uhmm_space *sp, entry_t *entry, uintptr_t addr, entry_t e)
{
	/* Nobody else changes a stable entry while the gate is closed. */
	assert_always(page_change(sp, entry, addr, &e, entry_make(PAGE_NONE, 0, 0)));
}

/* It was a migration's. Who sleeps on it finds out what is there now. */
static void take_from_migration(struct uhmm_space *sp, uintptr_t addr, entry_t e)
{
	if (e & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
}

/* With the gate closed: its pages are walked after it, as single pages. */
static void split(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr, entry_t f)
{
	folio_split(sp, chunk, addr, f, 0, CHUNK_PAGES);
	to_none(sp, &chunk->folio, addr, f);
	if (f & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, addr, CHUNK_SIZE);
}

static void discard_folio(struct discard *d, struct chunk *chunk, uintptr_t addr)
{
	entry_t f = wait_stable(d->sp, &chunk->folio);

	if (entry_state(f) == PAGE_NONE)
		return;
	if (addr < d->start || addr + CHUNK_SIZE > d->end) {
		split(d->sp, chunk, addr, f);
		return;
	}
	d->dropped += CHUNK_PAGES;
	to_none(d->sp, &chunk->folio, addr, f);
	switch (entry_state(f)) {
	case PAGE_PROBATION:
		frame_folio_drop(d->sp, (uint32_t)(entry_payload(f) / GROUP_PAGES));
		break;
	case PAGE_DEVICE:
		give_up_device(d, entry_device(f), entry_payload(f));
		break;
	default:
		if (f & ENTRY_WANTED)
			os_uffd_wake(d->sp->uffd, addr, CHUNK_SIZE);
	}
}

static int discard_one(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		       bool folio)
{
	struct discard *d = ctx;
	entry_t e;

	if (folio) {
		discard_folio(d, chunk, addr);
		return 0;
	}
	e = wait_stable(d->sp, entry);
	switch (entry_state(e)) {
	case PAGE_PROBATION:
	case PAGE_EXCLUSIVE: /* notifiers were told */
		give_up_frame(d, entry_payload(e));
		break;
	case PAGE_DEVICE:
	case PAGE_COHERENT:
		give_up_device(d, entry_device(e), entry_payload(e));
		break;
	case PAGE_POISONED:
		break;
	case PAGE_MIGRATING:
		to_none(d->sp, entry, addr, e);
		take_from_migration(d->sp, addr, e);
		d->dropped++;
		return 0;
	default:
		return 0;
	}
	to_none(d->sp, entry, addr, e);
	d->dropped++;
	return 0;
}

static void forget_pins(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	uintptr_t addr;

	if (!sp->table.nr_pins)
		return;
	for (addr = start; addr < end; addr += PAGE_SIZE) {
		struct chunk *chunk = page_chunk(sp, addr);

		if (chunk && chunk->pins)
			chunk->pins[page_index(addr)] = 0;
		else
			addr = chunk_start(addr) + CHUNK_SIZE - PAGE_SIZE;
	}
}

void event_discard(struct uhmm_space *sp, uintptr_t start, uintptr_t end, bool unmapped)
{
	struct discard d = { .sp = sp, .start = start, .end = end, .group = GROUP_NIL };

	page_walk(sp, start, end, discard_one, &d);
	flush_frames(&d);
	flush_device(&d);
	page_trim(sp, start, end);
	if (unmapped) {
		forget_pins(sp, start, end);
		fence_forget(sp, start, end);
	}
	count(sp, COUNT_DROPPED, d.dropped);
}

/* ---- remap ------------------------------------------------------------------------ */

struct remap {
	struct uhmm_space *sp;
	uintptr_t from, to;
	size_t len;
};

static struct chunk *target(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk *chunk = page_chunk_make(sp, addr);

	/* What moved cannot be lost, and there is nowhere to say that it has moved. */
	if (!chunk || !page_entries_make(sp, chunk))
		os_die("no memory left to follow an mremap()");
	return chunk;
}

static void remap_pins(struct remap *rm, struct chunk *chunk, uintptr_t addr)
{
	struct chunk *to = target(rm->sp, addr - rm->from + rm->to);
	unsigned i = page_index(addr);

	if (page_pin(rm->sp, to, page_index(addr - rm->from + rm->to), 0) == 0)
		to->pins[page_index(addr - rm->from + rm->to)] = chunk->pins[i];
	chunk->pins[i] = 0;
}

/* The program has what is there at another address now. */
static void follow(struct uhmm_space *sp, entry_t e, uintptr_t to)
{
	if (entry_state(e) == PAGE_PROBATION)
		frame_set_owner(sp, entry_payload(e), to);
	else
		migration_follow(sp, e, to);
}

static void remap_folio(struct remap *rm, struct chunk *chunk, uintptr_t addr)
{
	entry_t f = wait_stable(rm->sp, &chunk->folio);
	bool whole = rm->from <= addr && addr + CHUNK_SIZE <= rm->from + rm->len;
	uintptr_t to = addr - rm->from + rm->to;
	struct chunk *there;
	entry_t none;

	if (entry_state(f) == PAGE_NONE)
		return;
	if (!whole || to & (CHUNK_SIZE - 1)) {
		split(rm->sp, chunk, addr, f);
		return;
	}
	there = target(rm->sp, to);
	none = entry_load(&there->folio);
	follow(rm->sp, f, to);
	assert_always(page_change(rm->sp, &there->folio, to, &none,
				  entry_make(PAGE_ISOLATING, 0, 0)));
	page_settle(rm->sp, &there->folio, to, f & ~ENTRY_WANTED);
	to_none(rm->sp, &chunk->folio, addr, f);
	if (f & ENTRY_WANTED)
		os_uffd_wake(rm->sp->uffd, addr, CHUNK_SIZE);
}

static int remap_one(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		     bool folio)
{
	struct remap *rm = ctx;
	uintptr_t to = addr - rm->from + rm->to;
	entry_t e, none, moved, *there;

	if (folio) {
		remap_folio(rm, chunk, addr);
		return 0;
	}
	e = wait_stable(rm->sp, entry);
	if (entry_state(e) == PAGE_NONE)
		return 0;
	there = page_entry(target(rm->sp, to), to);
	none = wait_stable(rm->sp, there);
	moved = e & ~ENTRY_WANTED;
	if (entry_state(e) == PAGE_EXCLUSIVE) /* whoever had it was told */
		moved = entry_make(PAGE_PROBATION, entry_payload(e), 0);
	follow(rm->sp, moved, to);
	/* Through a busy state, like any page that changes its place. */
	assert_always(
		page_change(rm->sp, there, to, &none, entry_make(PAGE_ISOLATING, 0, 0)));
	page_settle(rm->sp, there, to, moved);
	to_none(rm->sp, entry, addr, e);
	if (e & ENTRY_WANTED)
		os_uffd_wake(rm->sp->uffd, addr, PAGE_SIZE);
	return 0;
}

void event_remap(struct uhmm_space *sp, uintptr_t from, uintptr_t to, size_t len)
{
	struct remap rm = { .sp = sp, .from = from, .to = to, .len = len };
	uintptr_t addr;

	page_walk(sp, from, from + len, remap_one, &rm);
	for (addr = from; sp->table.nr_pins && addr < from + len; addr += PAGE_SIZE) {
		struct chunk *chunk = page_chunk(sp, addr);

		if (chunk && chunk->pins && chunk->pins[page_index(addr)])
			remap_pins(&rm, chunk, addr);
	}
	page_trim(sp, from, from + len);
	fence_forget(sp, from, from + len);
}

/* ---- batches ---------------------------------------------------------------------- */

/*
 * The kernel queues an event after it has let go of the address space, so the events of
 * two threads may be read in another order than they happened: one thread unmaps B and is
 * interrupted, another moves A to B, which the kernel has just found free, and says so
 * first. Two things put that right.
 *
 * - While an event is unread ioctls fail (event_unread), and we register nothing. So all
 *   events that may be out of order with each other are in one batch, and a mapping that
 *   appeared meanwhile has no events.
 * - What frees an address comes before what moves something there. And what has arrived
 *   in this batch is dropped by an UNMAP of it only if it is really gone: it was seen to
 *   be (landed.h), or a copy to where it should be tells. What was there before the batch
 *   and is moved away in it was moved before that UNMAP: after it, it would have raised
 *   no event.
 */

/*
 * How long an event may take from the change to the queue before we go on without it, and
 * so often we have let others run by then. Whoever is between the two may have no
 * processor for long, and neither may we: where others have much to do, or a container or
 * the whole machine is stopped for a while.
 */
#define GATHER_NS UINT64_C(10000000000)
#define GATHER_ROUNDS 4096u

static bool overlap(uintptr_t a, uintptr_t a_end, uintptr_t b, uintptr_t b_end)
{
	return a < b_end && b < a_end;
}

static bool frees(const struct os_event *ev, uintptr_t start, uintptr_t end)
{
	if (ev->kind == OS_EVENT_UNMAP)
		return overlap(ev->from, ev->end, start, end);
	return ev->kind == OS_EVENT_REMAP &&
	       overlap(ev->from, ev->from + ev->len, start, end);
}

static void apply_one(struct uhmm_space *sp, uint32_t i);

/*
 * The target of a move was free, whatever the table says: what freed it is in the batch.
 */
static void apply_remap(struct uhmm_space *sp, const struct os_event *ev)
{
	struct event_batch *b = sp->batch;
	uintptr_t end = ev->to + ev->len, found;
	uint32_t j;

	for (j = 0; j < b->nr && page_first(sp, ev->to, end, &found); j++)
		if (!b->applied[j] && frees(&b->event[j], ev->to, end))
			apply_one(sp, j);
	event_discard(sp, ev->to, end, false);
	event_remap(sp, ev->from, ev->to, ev->len);
	if (b->nr_arrived < EVENTS_MAX)
		b->arrived[b->nr_arrived++] = (struct range){ ev->to, end };
}

static bool is_gone(struct event_batch *b, uintptr_t addr)
{
	struct range piece;

	return range_clip(&b->gone, true, addr, addr + PAGE_SIZE, &piece);
}

static bool to_be_replaced(struct uhmm_space *sp, uintptr_t addr)
{
	struct event_batch *b = sp->batch;
	uint32_t i;

	for (i = 0; i < b->nr; i++)
		if (!b->applied[i] && b->event[i].kind == OS_EVENT_REMAP &&
		    addr - b->event[i].to < b->event[i].len)
			return true;
	return false;
}

/*
 * Those of whom was read. What leaves the table after that they could not be given any
 * more: it has come to this process, and their memory was copied before.
 */
static void fill_children(struct uhmm_space *sp)
{
	struct event_batch *b = sp->batch;
	uint32_t c;

	if (b->nr_filled < b->nr_children)
		coherent_forked(sp);
	while (b->nr_filled < b->nr_children) {
		c = b->nr_filled++ % EVENT_CHILDREN_MAX;
		fork_fill(sp, b->child[c].uffd, b->child[c].after);
	}
}

/* Is a page that arrived in this batch still where it arrived? It is filled if it is. */
static void drop_if_gone(struct uhmm_space *sp, uintptr_t addr)
{
	/*
	 * If something else was moved there since, it is gone, and a copy would hit that.
	 */
	while (!to_be_replaced(sp, addr) && !is_gone(sp->batch, addr) &&
	       frozen_copy(sp, sp->uffd, addr, addr, sp->reader_buf) == -EAGAIN) {
		event_read_or_yield(sp);
		/* A child may have seen what is told of after it. */
		event_gather(sp);
		fill_children(sp);
	}
	event_discard(sp, addr, addr + PAGE_SIZE, false);
}

static bool arrived(const struct event_batch *b, uintptr_t start, uintptr_t end)
{
	uint32_t i;

	for (i = 0; i < b->nr_arrived; i++)
		if (overlap(b->arrived[i].start, b->arrived[i].end, start, end))
			return true;
	for (i = 0; i < b->nr; i++)
		if (!b->applied[i] && b->event[i].kind == OS_EVENT_REMAP &&
		    overlap(b->event[i].to, b->event[i].to + b->event[i].len, start, end))
			return true;
	return false;
}

/*
 * Moves away from what an UNMAP frees, said after it, happened before it: somebody has
 * mapped where something had just been moved away, and unmapped that with what was beside
 * it. Not so where only a part of what is moved was unmapped: then a mapping was shrunk,
 * has grown again, and was moved.
 */
static void apply_moves_before(struct uhmm_space *sp, const struct os_event *unmap)
{
	struct event_batch *b = sp->batch;
	uint32_t i;

	if (sp->late.nr)
		return; /* it may be that mapping's */
	for (i = 0; i < b->nr; i++) {
		const struct os_event *ev = &b->event[i];

		if (!b->applied[i] && ev->kind == OS_EVENT_REMAP &&
		    ev->from >= unmap->from && ev->from + ev->len <= unmap->end &&
		    !arrived(b, ev->from, ev->from + ev->len))
			apply_one(sp, i);
	}
}

static void apply_unmap(struct uhmm_space *sp, const struct os_event *ev)
{
	struct event_batch *b = sp->batch;
	uintptr_t found, start, end;
	uint32_t i;

	apply_moves_before(sp, ev);
	for (i = 0; i < b->nr_arrived; i++) {
		start = b->arrived[i].start > ev->from ? b->arrived[i].start : ev->from;
		end = b->arrived[i].end < ev->end ? b->arrived[i].end : ev->end;
		while (start < end && page_first(sp, start, end, &found))
			drop_if_gone(sp, found);
	}
	event_discard(sp, ev->from, ev->end, true);
}

/* The new place of what has moved was free before, but who mirrors it may not know. */
static void apply_told_remap(struct uhmm_space *sp, const struct os_event *ev)
{
	bool told = notifier_begin(sp, ev->from, ev->from + ev->len, UHMM_EVENT_UNMAP,
				   NULL);
	bool told_to = notifier_begin(sp, ev->to, ev->to + ev->len, UHMM_EVENT_UNMAP,
				      NULL);

	apply_remap(sp, ev);
	notifier_end(sp, told_to);
	notifier_end(sp, told);
}

static void apply_one(struct uhmm_space *sp, uint32_t i)
{
	struct os_event ev = sp->batch->event[i];
	bool told;

	sp->batch->applied[i] = EVENT_APPLYING;
	switch (ev.kind) {
	case OS_EVENT_REMAP:
		count(sp, COUNT_EVENT_REMAP, 1);
		apply_told_remap(sp, &ev);
		break;
	case OS_EVENT_REMOVE:
		count(sp, COUNT_EVENT_REMOVE, 1);
		told = notifier_begin(sp, ev.from, ev.end, UHMM_EVENT_CLEAR, NULL);
		event_discard(sp, ev.from, ev.end, false);
		zap_announce(sp, ev.from, ev.end);
		notifier_end(sp, told);
		break;
	default:
		count(sp, COUNT_EVENT_UNMAP, 1);
		told = notifier_begin(sp, ev.from, ev.end, UHMM_EVENT_UNMAP, NULL);
		apply_unmap(sp, &ev);
		notifier_end(sp, told);
		break;
	}
	sp->batch->applied[i] = EVENT_APPLIED;
}

static void empty(struct event_batch *b)
{
	b->nr = b->nr_arrived = b->nr_children = b->nr_filled = 0;
	b->landed.nr = b->gone.nr = 0;
	b->applying = false;
}

void event_after_fork(struct uhmm_space *sp)
{
	struct event_batch *b = sp->batch;

	empty(b);
	b->nr_faults = 0;
	range_reset(&b->landed);
	range_reset(&b->gone);
	range_reset(&sp->late);
}

void event_apply_batch(struct uhmm_space *sp)
{
	struct event_batch *b = sp->batch;
	uint32_t i;

	assert_always(!b->applying);
	b->applying = true;
	/* Both may grow meanwhile: see drop_if_gone(). */
	fill_children(sp);
	for (i = 0; i < b->nr; i++) {
		if (!b->applied[i])
			apply_one(sp, i);
		fill_children(sp);
	}
	empty(b);
}

void event_add(struct uhmm_space *sp, const struct os_event *ev)
{
	struct event_batch *b = sp->batch;

	if (b->nr == EVENTS_MAX)
		event_apply_batch(sp);
	b->applied[b->nr] = EVENT_READ;
	b->event[b->nr++] = *ev;
	if (ev->kind != OS_EVENT_REMAP)
		return;
	landed_add(&b->landed, ev->to, ev->to + ev->len);
	event_came(sp, ev);
}

void event_came(struct uhmm_space *sp, const struct os_event *remap)
{
	struct event_batch *b = sp->batch;

	if (range_remove(&b->gone, remap->to, remap->to + remap->len))
		b->gone.nr = 0; /* no room to say what remains */
}

void event_gone(void *ctx, uintptr_t start, uintptr_t end)
{
	struct event_batch *b = ((struct uhmm_space *)ctx)->batch;

	(void)range_add(&b->gone, start, end);
}

bool event_concerns(const struct os_event *ev, uintptr_t start, uintptr_t end)
{
	return frees(ev, start, end) ||
	       (ev->kind == OS_EVENT_REMOVE && overlap(ev->from, ev->end, start, end)) ||
	       (ev->kind == OS_EVENT_REMAP &&
		overlap(ev->to, ev->to + ev->len, start, end));
}

static void add_child(struct uhmm_space *sp, int uffd)
{
	struct event_batch *b = sp->batch;
	uint32_t c = b->nr_children++ % EVENT_CHILDREN_MAX;

	__atomic_store_n(&sp->filling, true, __ATOMIC_RELAXED);
	b->child[c].uffd = uffd;
	b->child[c].after = b->nr;
}

static bool has_room(const struct event_batch *b, uint32_t part)
{
	return b->nr + MESSAGE_BATCH <= EVENTS_MAX / part &&
	       b->nr_children - b->nr_filled + MESSAGE_BATCH <= EVENT_CHILDREN_MAX / part;
}

bool event_is_due(const struct event_batch *b)
{
	return !has_room(b, 2);
}

static void make_room(struct uhmm_space *sp)
{
	const struct event_batch *b = sp->batch;

	if (b->applying && !has_room(b, 1))
		os_die("memory is mapped and unmapped faster than can be followed");
	if (!b->applying && event_is_due(b))
		event_apply_batch(sp);
}

static void take_event(struct uhmm_space *sp, const struct os_event *ev)
{
	if (ev->kind == OS_EVENT_FORK)
		add_child(sp, ev->child);
	else
		event_add(sp, ev);
}

/* One reading. The number of messages, or -errno; *structural if one was. */
static int read_some(struct uhmm_space *sp, bool *structural)
{
	struct event_batch *b = sp->batch;
	const struct message_reader reader = {
		.event = take_event, .landed = &b->landed, .gone = event_gone, .ctx = sp
	};
	uint32_t nr_faults = b->nr_faults;
	int n;

	make_room(sp);
	n = message_read(sp, &reader);
	if (n > 0 && (uint32_t)n > b->nr_faults - nr_faults)
		*structural = true;
	return n;
}

void event_read_or_yield(struct uhmm_space *sp)
{
	bool structural;

	if (read_some(sp, &structural) > 0)
		return;
	grown_idle(sp);
	os_yield();
}

void event_gather(struct uhmm_space *sp)
{
	uint64_t until = os_now_ns() + GATHER_NS;
	unsigned rounds;

	for (rounds = 0; event_unread(sp) && !event_is_due(sp->batch); rounds++) {
		if (rounds >= GATHER_ROUNDS && os_now_ns() >= until)
			break;
		event_read_or_yield(sp);
	}
}

void event_repeat_faults(struct uhmm_space *sp)
{
	struct event_batch *b = sp->batch;

	while (b->nr_faults)
		os_uffd_wake(sp->uffd, b->fault[--b->nr_faults].addr, PAGE_SIZE);
}

int event_read_and_apply(struct uhmm_space *sp)
{
	bool structural = false;
	int n;

	sp->batch->nr_faults = 0;
	gate_close(&sp->gate);
	n = read_some(sp, &structural);
	if (structural)
		event_gather(sp);
	event_apply_batch(sp);
	sp->late.nr = 0;
	if (recall_asked(sp))
		recall_serve(sp);
	gate_open(&sp->gate);
	return n;
}

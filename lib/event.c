/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading structural events, and applying them in the order in which they happened. The
 * gate is closed meanwhile.
 *
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
 *   no event. Unless it is what has grown there again, grew_again().
 *
 * Where the program has one thread none of that is needed, and the order is the one in
 * which we read.
 */
#include "lib/event.h"

#include <errno.h>

#include "lib/assert.h"
#include "lib/coherent.h"
#include "lib/fork.h"
#include "lib/frozen.h"
#include "lib/gate.h"
#include "lib/grown.h"
#include "lib/landed.h"
#include "lib/message.h"
#include "lib/migrate.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/range.h"
#include "lib/recall.h"
#include "lib/zap.h"

/*
 * How long an event may take from the change to the queue before we go on without it, and
 * so often we have let others run by then. Whoever is between the two may have no
 * processor for long, and neither may we: where others have much to do, or a container or
 * the whole machine is stopped for a while.
 */
#define GATHER_NS UINT64_C(10000000000)
#define GATHER_ROUNDS 4096u
/* Reads until we look again whether a program has one thread only. */
#define READS_OF_MANY 64u

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

bool event_is_mapped(struct uhmm_space *sp, uintptr_t addr, bool *mapped)
{
	int r = os_uffd_probe(sp->uffd, addr, PAGE_SIZE);
	struct os_vma vma;

	*mapped = r == 0;
	if (r == -EAGAIN)
		*mapped = os_vma_next(addr, false, &vma) == 0 && vma.start <= addr;
	return r != -EAGAIN;
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

	for (j = 0; j < b->nr && !b->ordered && page_first(sp, ev->to, end, &found); j++)
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
 * Does a move come to where this UNMAP begins? Then it was made for that, by the mremap()
 * itself, which may need more than it moves: the rest is where it grows.
 */
static bool makes_room(const struct event_batch *b, const struct os_event *unmap)
{
	uint32_t i;

	for (i = 0; i < b->nr; i++)
		if (!b->applied[i] && b->event[i].kind == OS_EVENT_REMAP &&
		    b->event[i].to == unmap->from &&
		    b->event[i].len <= unmap->end - unmap->from)
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

/* An event is unread, and is in the way of what is to be found out. */
static void read_on(struct uhmm_space *sp)
{
	event_read_or_yield(sp);
	/* A child may have seen what is told of after it. */
	event_gather(sp);
	fill_children(sp);
}

/* Is a page that arrived in this batch still where it arrived? It is filled if it is. */
static void drop_if_gone(struct uhmm_space *sp, uintptr_t addr)
{
	/*
	 * If something else was moved there since, it is gone, and a copy would hit that.
	 */
	while (!to_be_replaced(sp, addr) && !is_gone(sp->batch, addr) &&
	       frozen_copy(sp, sp->uffd, addr, addr, sp->reader_buf, false) == -EAGAIN)
		read_on(sp);
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
 * Is there a mapping of ours at addr, or was there one until a later event of the batch?
 * Where there is always something unread, any mapping.
 */
static bool is_or_was_there(struct uhmm_space *sp, uint32_t i, uintptr_t addr)
{
	struct event_batch *b = sp->batch;
	bool there;

	while (!event_is_mapped(sp, addr, &there) && !event_is_due(b))
		read_on(sp);
	for (i++; !there && i < b->nr; i++)
		there = frees(&b->event[i], addr, addr + PAGE_SIZE);
	return there;
}

/*
 * Of what event i, an UNMAP, took away something was moved away after that: had a mapping
 * grown again there? It has what is below, then; where another thread has unmapped it,
 * nothing is there up to the place that was moved. (Unless that begins where the UNMAP
 * does, and there is something below: then it may be either, and it is the one that comes
 * without a second thread.)
 */
static bool grew_again(struct uhmm_space *sp, uint32_t i, const struct os_event *move)
{
	uintptr_t from = sp->batch->event[i].from;

	return is_or_was_there(sp, i, from - PAGE_SIZE) &&
	       (move->from == from || is_or_was_there(sp, i, move->from - PAGE_SIZE));
}

/*
 * Moves away from what an UNMAP frees, or from there on, said after it, happened before
 * it: somebody has mapped where something had just been moved away, and unmapped that
 * with what was beside it. Not so where a mapping was shrunk, has grown again, and was
 * moved: which may always be where it begins before what the UNMAP frees.
 */
static void apply_moves_before(struct uhmm_space *sp, uint32_t unmap)
{
	struct event_batch *b = sp->batch;
	const struct os_event ev = b->event[unmap];
	uint32_t i;

	if (sp->late.nr)
		return; /* it may be that mapping's */
	for (i = 0; i < b->nr; i++) {
		const struct os_event move = b->event[i];

		if (!b->applied[i] && move.kind == OS_EVENT_REMAP &&
		    move.from >= ev.from && move.from < ev.end &&
		    !arrived(b, move.from, move.from + move.len) &&
		    !grew_again(sp, unmap, &move))
			apply_one(sp, i);
	}
}

/* Of what has arrived where this UNMAP was, what is really gone. */
static void drop_arrived(struct uhmm_space *sp, const struct os_event *unmap)
{
	struct event_batch *b = sp->batch;
	uintptr_t found, start, end;
	uint32_t i;

	for (i = 0; i < b->nr_arrived; i++) {
		start = b->arrived[i].start;
		end = b->arrived[i].end;
		start = start > unmap->from ? start : unmap->from;
		end = end < unmap->end ? end : unmap->end;
		while (start < end && page_first(sp, start, end, &found))
			drop_if_gone(sp, found);
	}
}

/* What is left there after all was there before the batch. */
static void apply_unmap(struct uhmm_space *sp, uint32_t i)
{
	const struct os_event unmap = sp->batch->event[i];

	if (!sp->batch->ordered) {
		apply_moves_before(sp, i);
		if (!makes_room(sp->batch, &unmap))
			drop_arrived(sp, &unmap);
	}
	event_discard(sp, unmap.from, unmap.end, true);
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
		apply_unmap(sp, i);
		notifier_end(sp, told);
		break;
	}
	sp->batch->applied[i] = EVENT_APPLIED;
}

static void empty(struct event_batch *b)
{
	b->nr = b->nr_arrived = b->nr_children = b->nr_filled = 0;
	b->landed.nr = b->gone.nr = 0;
	b->applying = b->ordered = false;
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
	b->ordered = b->ordered && os_is_single_threaded();
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
	struct event_batch *b = sp->batch;

	if (!b->nr && b->nr_children == b->nr_filled)
		b->ordered = true;
	b->ordered = b->ordered && b->single;
	if (ev->kind == OS_EVENT_FORK)
		add_child(sp, ev->child);
	else
		event_add(sp, ev);
}

/*
 * Before each read: whose event is unread waits for us to read it, and is counted. Of a
 * program with several threads it is not asked each time.
 */
static bool has_one_thread(struct event_batch *b)
{
	if (b->reads_of_many) {
		b->reads_of_many--;
		return false;
	}
	if (os_is_single_threaded())
		return true;
	b->reads_of_many = READS_OF_MANY;
	return false;
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
	b->single = has_one_thread(b);
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

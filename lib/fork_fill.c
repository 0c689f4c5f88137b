/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: filling a child's memory in, by the parent's reader. For children of raw clones,
 * which run no fork handlers, and for those that could not take over.
 *
 * The child's memory is a copy of ours from some instant that we do not know, and it runs
 * while it is filled. So each migrated page is followed twice: through what happened to
 * our memory and is not in the table yet (sp->batch), of which the child has seen a part,
 * and through what the child has done itself. Of our events
 *
 * - an UNMAP that the child has seen needs no following: nothing can be filled there,
 *   unless a mapping that is new there was registered late, or has grown there: see
 *   fork_ours.c;
 * - a REMAP that it has seen is one whose old place the child does not have, or where
 *   something else is by then, see look_at_remaps();
 * - an event that is being applied, while others are read, is in the table in part: see
 *   is_taken_away();
 * - what was read before a moment without unread events, before the child's FORK, it has
 *   seen: there the order of the log is that of what happened;
 * - a REMOVE leaves nothing to see. What was read before the child counts as before it,
 *   as a thread that discards and then clones must find. (A discard by another thread,
 *   begun after the copy and queued before the child's FORK, counts as before it too.)
 *
 * Where the program has one thread what was read before the child it has seen, and
 * nothing else.
 *
 * The gate is closed, or the space is frozen. Where a page cannot be filled and should
 * be, it is poisoned: better lost than wrong.
 */
#include <errno.h>

#include "lib/event.h"
#include "lib/fork.h"
#include "lib/fork_fill.h"
#include "lib/frozen.h"
#include "lib/migrate.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/range.h"

/* The first page of a move's old place that the child has not taken away itself. */
static bool untouched_page(const struct fill *fill, const struct os_event *move,
			   uintptr_t *addr)
{
	uintptr_t end = move->from + move->len;
	uint32_t i;

	*addr = move->from;
	for (i = 0; i < fill->nr_events && *addr < end; i++) {
		const struct frozen_record *r = &fill->event[i];

		if (r->kind == FROZEN_REMOVE || *addr - r->from >= r->len)
			continue;
		*addr = r->from + r->len;
		i = (uint32_t)-1; /* those before may cover this one */
	}
	return *addr < end;
}

/*
 * Is the old place of a move mapped in the child, and registered? What it has unmapped
 * itself does not tell (munmap() takes holes): then it is, if the move is not known to
 * have ended before the child was read of.
 */
static bool is_there(struct fill *fill, const struct os_event *move, bool ended)
{
	uintptr_t addr;
	int r;

	do {
		if (!untouched_page(fill, move, &addr))
			return !ended;
		r = os_uffd_probe(fill->uffd, addr, PAGE_SIZE);
		if (r == -EAGAIN)
			fill_read_events(fill);
	} while (r == -EAGAIN);
	return r == 0;
}

/*
 * The UNMAP that a move raises of its old place, which follows it, or b->nr. One of more
 * is an munmap(), which says nothing of the move: after MREMAP_DONTUNMAP too there is
 * something to unmap.
 */
static uint32_t own_unmap(const struct event_batch *b, uint32_t i)
{
	const struct os_event *move = &b->event[i++];

	for (; i < b->nr; i++) {
		const struct os_event *ev = &b->event[i];

		if (ev->kind == OS_EVENT_UNMAP && ev->from == move->from &&
		    ev->end == move->from + move->len)
			break;
	}
	return i;
}

/* Does the child have there what a later move has brought, one that it has seen? */
static bool is_taken_again(const struct fill *fill, uint32_t i)
{
	const struct event_batch *b = fill->sp->batch;
	uintptr_t start = b->event[i].from, end = start + b->event[i].len;

	for (i++; i < b->nr; i++) {
		const struct os_event *later = &b->event[i];

		if (fill->moved[i] && later->to < end && start < later->to + later->len)
			return true;
	}
	return false;
}

/*
 * Had the child's memory been moved by event i? Then there is nothing at the old place,
 * or what was moved there afterwards, or has grown there. A move that leaves a mapping
 * behind (MREMAP_DONTUNMAP) cannot be told in that way; if it was read before the child
 * it counts as before it.
 */
static bool has_moved(struct fill *fill, uint32_t i)
{
	const struct event_batch *b = fill->sp->batch;
	const struct os_event *move = &b->event[i];
	uint32_t unmap;

	if (b->applied[i] == EVENT_APPLIED || move->kind != OS_EVENT_REMAP)
		return false;
	if (i < fill->settled || is_taken_again(fill, i) ||
	    range_touches(&fill->fresh, move->from, move->from + move->len))
		return true;
	unmap = own_unmap(b, i);
	if (!is_there(fill, move, unmap < fill->after))
		return true;
	if (unmap < fill->after)
		return fill_has_grown(fill, unmap, move->from, false);
	return i < fill->after && unmap == b->nr;
}

/* The last one first: see is_taken_again(). */
static void look_at_remaps(struct fill *fill)
{
	uint32_t i;

	for (i = fill->sp->batch->nr; i-- > 0;)
		fill->moved[i] = has_moved(fill, i);
}

static bool moves(const struct fill *fill, uint32_t i, uintptr_t addr)
{
	const struct os_event *ev = &fill->sp->batch->event[i];

	return fill->moved[i] && addr - ev->from < ev->len;
}

/*
 * The move away from addr that came before event i, a move to there, and was told of
 * after it; b->nr: none.
 */
static uint32_t moved_before(const struct event_batch *b, uint32_t i, uintptr_t addr)
{
	for (i++; i < b->nr; i++)
		if (b->applied[i] != EVENT_APPLIED &&
		    b->event[i].kind == OS_EVENT_REMAP &&
		    addr - b->event[i].from < b->event[i].len)
			break;
	return i;
}

/* Where a move of the batch that was applied has led. */
static bool touches_arrived(const struct event_batch *b, uintptr_t addr)
{
	uint32_t i;

	for (i = 0; i < b->nr_arrived; i++)
		if (addr - b->arrived[i].start < b->arrived[i].end - b->arrived[i].start)
			return true;
	return false;
}

/* [ev->from, ev->end), of an UNMAP or a REMOVE. */
static bool covers(const struct os_event *ev, uintptr_t addr)
{
	return addr - ev->from < ev->end - ev->from;
}

/*
 * Does event i, an UNMAP, keep the page at addr, there since that epoch, from the child?
 * One that it may not have seen, or that may have come before the page's arrival, needs
 * no looking: what is unmapped there cannot be filled. One that it has seen does: a
 * mapping beside it may have grown into its place.
 */
static bool is_taken_away(struct fill *fill, uint32_t i, uintptr_t addr, uint32_t arrived)
{
	struct event_batch *b = fill->sp->batch;
	bool has_arrived = arrived != UINT32_MAX;

	/* Just now it is found out whether what is here is gone. */
	if (b->applied[i] == EVENT_APPLYING && touches_arrived(b, addr))
		return range_touches(&b->gone, addr, addr + PAGE_SIZE);
	if (i < fill->settled && fill->epoch[i] != arrived)
		return true;
	if (!has_arrived && range_touches(&fill->fresh, addr, addr + PAGE_SIZE))
		return true;
	return i < fill->after && fill_has_grown(fill, i, addr, has_arrived);
}

/* Where the child has the page that is at addr here, if a single thread did it all. */
static bool ordered_address(const struct fill *fill, uintptr_t *addr)
{
	const struct event_batch *b = fill->sp->batch;
	uint32_t i;

	for (i = 0; i < fill->after; i++) {
		const struct os_event *ev = &b->event[i];
		bool moved = ev->kind == OS_EVENT_REMAP;

		if (b->applied[i] != EVENT_READ)
			continue;
		if (moved && *addr - ev->from < ev->len)
			*addr = *addr - ev->from + ev->to;
		else if (moved ? *addr - ev->to < ev->len : covers(ev, *addr))
			return false;
	}
	return true;
}

/* Where the child has the page that is at addr here; false: nowhere. */
static bool child_address(struct fill *fill, uintptr_t *addr)
{
	struct event_batch *b = fill->sp->batch;
	uint32_t i, j, arrived = UINT32_MAX;
	bool unmapped = false;

	if (b->ordered)
		return ordered_address(fill, addr);
	for (i = 0; i < b->nr; i++) {
		const struct os_event *ev = &b->event[i];

		if (b->applied[i] == EVENT_APPLIED)
			continue;
		if (ev->kind == OS_EVENT_UNMAP && covers(ev, *addr)) {
			if (is_taken_away(fill, i, *addr, arrived))
				return false;
			unmapped |= i < fill->after;
		}
		/* Read before the child: its own thread may have discarded that. */
		if (ev->kind == OS_EVENT_REMOVE && covers(ev, *addr) && i < fill->after)
			return false;
		if (moves(fill, i, *addr)) {
			*addr = *addr - ev->from + ev->to;
			arrived = fill->epoch[i];
			unmapped = false;
		} else if (fill->moved[i] && *addr - ev->to < ev->len) {
			/* Something else was moved there, so it had gone before. */
			j = unmapped ? b->nr : moved_before(b, i, *addr);
			if (j == b->nr)
				return false;
			*addr = *addr - b->event[j].from + b->event[j].to;
			arrived = fill->epoch[j];
			i = j;
		}
	}
	return true;
}

/* Had the child's child it empty at addr, by its event i? */
static bool is_wiped_later(struct fill *fill, uint32_t i, uintptr_t addr)
{
	return i == fill->listed_after &&
	       range_touches(&fill->wiped_later, addr, addr + PAGE_SIZE);
}

/*
 * Where the page is now in the child; false: discarded, or meant to be empty. Events are
 * followed in their order: what was moved is not concerned by what happens to the place
 * where it had been.
 */
static bool follow_child(struct fill *fill, uintptr_t *addr)
{
	uint32_t i;

	if (range_touches(&fill->wiped, *addr, *addr + PAGE_SIZE))
		return false;
	for (i = 0; i < fill->nr_events; i++) {
		const struct frozen_record *r = &fill->event[i];
		bool moved = r->kind == FROZEN_REMAP;

		if (is_wiped_later(fill, i, *addr))
			return false;
		if (moved && *addr - r->from < r->len)
			*addr = *addr - r->from + r->to;
		else if (*addr - (moved ? r->to : r->from) < r->len)
			return false; /* discarded, or something else was moved there */
	}
	return !is_wiped_later(fill, i, *addr);
}

/*
 * Not mapped there (MADV_DONTFORK), there already, or ended: that is as it should be;
 * else better lost than wrong.
 */
static bool is_lost(int r)
{
	return r < 0 && r != -ENOENT && r != -EEXIST && r != -ESRCH;
}

/*
 * All is lost to a child of the child of which is not known what it has empty: that has
 * had wiped what it liked, and its child is not to find the bytes.
 */
static void fill_page(struct fill *fill, uintptr_t source)
{
	bool lost = fill->unlisted;
	uintptr_t addr = source;
	unsigned tries = 0;
	uintptr_t at;
	int r;

	if (!child_address(fill, &addr))
		return;
	at = addr;
	for (;;) {
		addr = at;
		if (!follow_child(fill, &addr))
			return;
		r = lost ? os_uffd_poison(fill->uffd, addr, PAGE_SIZE) :
			   frozen_copy(fill->sp, fill->uffd, addr, source,
				       fill->sp->reader_buf, fill->frozen);
		if (r == -EAGAIN)
			fill_read_events(fill);
		else if (lost || !is_lost(r))
			break;
		else
			lost = !frozen_may_try_again(r, &tries);
	}
	fill->nr += r == 0 && !lost;
	fill->dead |= r == -ESRCH;
}

static int fill_one(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		    bool folio)
{
	struct fill *fill = ctx;
	unsigned i, nr = folio ? CHUNK_PAGES : 1;

	(void)chunk;
	while (entry_busy(entry_load(entry)))
		page_wait(fill->sp, entry);
	/* Stored meanwhile: its pages are met one by one after this. */
	if (entry_state(entry_load(entry)) == PAGE_NONE ||
	    entry_state(entry_load(entry)) == PAGE_COHERENT)
		return 0;
	for (i = 0; i < nr && !fill->dead; i++)
		fill_page(fill, addr + i * PAGE_SIZE);
	return fill->dead;
}

static void fill_all(struct fill *fill, int uffd)
{
	fill->uffd = uffd;
	/* It has ended, or executed another program, as many do at once: for nothing. */
	fill->dead = os_uffd_probe(uffd, fill->sp->fork.names, PAGE_SIZE) == -ESRCH;
	page_walk(fill->sp, 0, (uintptr_t)1 << ADDRESS_BITS, fill_one, fill);
	fill_let_go(fill);
	os_uffd_close(uffd);
	fill->uffd = -1;
}

static void fill_begin(struct uhmm_space *sp, int uffd)
{
	struct fill *fill = sp->fork.fill;

	fill->sp = sp;
	fill->uffd = uffd;
	fill->nr = fill->nr_events = fill->nr_waiting = 0;
	/* We may have been copied by fork() in the middle of another one. */
	range_reset(&fill->wiped);
	range_reset(&fill->wiped_later);
	range_reset(&fill->fresh);
	range_reset(&fill->grown);
	fill->who = (struct fork_name){ 0 };
}

/* What our own memory tells is known: it goes on changing while we wait for the child. */
static void fill_run(struct fill *fill)
{
	fill_look_at_wiped(fill);
	if (!fill->sp->batch->ordered)
		look_at_remaps(fill);
	fill_all(fill, fill->uffd);
	/*
	 * Children of the child: what it lacked they lack. The last one first, because
	 * what the others have seen is less, and its own events are written behind that.
	 */
	while (fill->nr_waiting) {
		struct descendant next = fill->waiting[--fill->nr_waiting];

		fill->nr_events = next.seen;
		fill_look_at_wiped_later(fill, &next);
		fill_all(fill, next.uffd);
	}
	count(fill->sp, COUNT_FORK_FILLED, fill->nr);
}

void fork_fill(struct uhmm_space *sp, int child_uffd, uint32_t after)
{
	/* Devices change nothing meanwhile; what they did since the clone, it has. */
	bool told = notifier_begin(sp, 0, UINTPTR_MAX, UHMM_EVENT_PROTECTION, NULL);

	count(sp, COUNT_EVENT_FORK, 1);
	sp->fork.fill->after = after;
	sp->fork.fill->settled = 0;
	fill_begin(sp, child_uffd);
	sp->fork.fill->frozen = false;
	if (!sp->batch->ordered)
		fill_look_at_ours(sp->fork.fill);
	fill_run(sp->fork.fill);
	notifier_end(sp, told);
}

/* What was read while frozen is not in the table: to the child it is what a batch is. */
static void log_to_batch(struct fill *fill, uint32_t seen)
{
	const struct frozen_log *log = fill->sp->fork.log;
	struct event_batch *b = fill->sp->batch;
	uint32_t i, epoch = 0;
	struct os_event ev;

	b->nr = b->gone.nr = 0;
	fill->after = fill->settled = 0;
	for (i = 0; i < log->nr; i++) {
		if (log->record[i].kind == FROZEN_QUIET) {
			epoch++;
			if (i < seen)
				fill->settled = b->nr;
		}
		if (log->record[i].kind == FROZEN_GONE)
			event_gone(fill->sp, log->record[i].from,
				   log->record[i].from + log->record[i].len);
		if (!frozen_to_event(&log->record[i], &ev))
			continue;
		if (ev.kind == OS_EVENT_REMAP)
			event_came(fill->sp, &ev);
		if (b->nr == EVENTS_MAX)
			os_die(TOO_FAST);
		b->applied[b->nr] = EVENT_READ;
		fill->epoch[b->nr] = epoch;
		b->event[b->nr++] = ev;
		if (i < seen)
			fill->after = b->nr;
	}
}

void fork_fill_frozen(struct uhmm_space *sp, int child_uffd, uint32_t seen,
		      const struct frozen_log *done)
{
	struct fill *fill = sp->fork.fill;
	uint32_t i, nr = done ? done->nr : 0, logged;
	struct os_event before;

	fill_begin(sp, child_uffd);
	fill->frozen = true;
	/* It is there to be looked at: whoever reads on is not to apply it. */
	sp->batch->applying = true;
	do {
		logged = sp->fork.log->nr;
		log_to_batch(fill, seen);
		fill_look_at_ours(fill);
	} while (sp->fork.log->nr != logged);
	for (i = 0; i < nr; i++)
		if (frozen_to_event(&done->record[i], &before))
			fill_note_event(fill, &before);
	fill_run(fill);
	sp->batch->nr = sp->batch->gone.nr = 0;
	sp->batch->applying = false;
}

/* All of it now: in the middle of a fork somebody may hold the lock that maps memory. */
int fork_fill_init(struct uhmm_space *sp)
{
	sp->fork.fill = uhmm_host_map(sizeof(struct fill));
	if (!sp->fork.fill)
		return -ENOMEM;
	sp->fork.fill->uffd = -1;
	return fork_name_init(sp);
}

/*
 * Our memory may name one that was closed just before the descriptors were copied, or
 * opened just after: that number may be our own userfaultfd's.
 */
static void close_if_open(struct uhmm_space *sp, int uffd)
{
	int r = uffd >= 0 && uffd != sp->fork.early_uffd ?
			os_uffd_probe(uffd, 0, PAGE_SIZE) :
			-EBADF;

	if (r != -EBADF && r != -ENOTTY)
		os_uffd_close(uffd);
}

void fork_fill_forget(struct uhmm_space *sp)
{
	struct fill *fill = sp->fork.fill;

	if (sp->fork.child_uffd != fill->uffd)
		close_if_open(sp, sp->fork.child_uffd);
	close_if_open(sp, fill->uffd);
	sp->fork.child_uffd = fill->uffd = -1;
	while (fill->nr_waiting)
		close_if_open(sp, fill->waiting[--fill->nr_waiting].uffd);
	while (sp->fork.nr_later)
		close_if_open(sp, sp->fork.later[--sp->fork.nr_later].uffd);
}

void fork_fill_fini(struct uhmm_space *sp)
{
	fork_name_fini(sp);
	if (sp->fork.fill)
		uhmm_host_unmap(sp->fork.fill, sizeof(struct fill));
}

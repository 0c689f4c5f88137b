/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults while frozen.
 *
 * A log holds fills and structural events in the order in which they were seen. A fault
 * is looked up through the log backwards: a page that was discarded since is a hole, a
 * page that was moved since has its entry at its old address.
 */
#include "lib/frozen.h"

#include <errno.h>

#include "lib/assert.h"
#include "lib/device.h"
#include "lib/event.h"
#include "lib/folio.h"
#include "lib/frame.h"
#include "lib/migrate.h"
#include "lib/page.h"

static struct frozen_record *append(struct frozen_log *log, uint32_t kind, uintptr_t from,
				    uintptr_t to, size_t len)
{
	uint32_t n;

	uhmm_lock(&log->lock);
	n = log->nr;
	assert_always(n < FROZEN_MAX);
	log->record[n] = (struct frozen_record){
		.kind = kind, .from = from, .to = to, .len = len
	};
	__atomic_store_n(&log->nr, n + 1, __ATOMIC_RELEASE);
	uhmm_unlock(&log->lock);
	return &log->record[n];
}

uint32_t frozen_room(const struct frozen_log *log)
{
	return FROZEN_MAX - __atomic_load_n(&log->nr, __ATOMIC_RELAXED);
}

/*
 * The fill did not come about, and is tried again as often as it takes. A child that is
 * copied just now may have its record, or the next one in its place: as its log's last.
 */
static void withdraw(struct frozen_log *log, struct frozen_record *record)
{
	uhmm_lock(&log->lock);
	if (record == &log->record[log->nr - 1])
		__atomic_store_n(&log->nr, log->nr - 1, __ATOMIC_RELEASE);
	else
		__atomic_store_n(&record->kind, FROZEN_VOID, __ATOMIC_RELEASE);
	uhmm_unlock(&log->lock);
}

static bool is_structural(const struct frozen_record *r)
{
	return r->kind == FROZEN_REMOVE || r->kind == FROZEN_UNMAP ||
	       r->kind == FROZEN_REMAP;
}

static bool covers(uintptr_t start, size_t len, uintptr_t addr)
{
	return addr - start < len;
}

/*
 * Where the entry of addr is; false: it is a hole by now. The fault came through our
 * userfaultfd, so the mapping is registered, and nothing was registered since the space
 * froze: if addr was freed, what is there now has been moved there, also if the log has
 * the two in the other order (see event.c). A move that frees its old place raises UNMAP
 * after REMAP; one that raises REMAP only leaves a hole there (MREMAP_DONTUNMAP).
 */
static bool translate(const struct frozen_log *log, uintptr_t *addr)
{
	uint32_t i = log->nr;
	bool freed = false;

	while (i-- > 0) {
		const struct frozen_record *r = &log->record[i];

		switch (r->kind) {
		case FROZEN_REMOVE:
			if (!freed && covers(r->from, r->len, *addr))
				return false;
			break;
		case FROZEN_UNMAP:
			freed = freed || covers(r->from, r->len, *addr);
			break;
		case FROZEN_QUIET:
			/* A mapping that was there grew in place. */
			if (freed)
				return false;
			break;
		case FROZEN_GONE:
			if (freed && covers(r->from, r->len, *addr))
				return false;
			break;
		case FROZEN_REMAP:
			if (covers(r->to, r->len, *addr)) {
				*addr = *addr - r->to + r->from;
				freed = false;
			} else if (!freed && covers(r->from, r->len, *addr)) {
				return false;
			}
			break;
		default:
			break;
		}
	}
	return !freed;
}

static int copy_from_device(struct uhmm_space *sp, int uffd, uintptr_t addr, entry_t e,
			    char *buf, bool quiet)
{
	struct uhmm_device *dev = sp->device[entry_device(e)];
	struct uhmm_io io = {
		.page = entry_payload(e),
		.buf = buf,
		.len = PAGE_SIZE,
	};
	int64_t r;

	if (quiet ? device_peek(dev, &io) != 0 :
		    device_run(dev, UHMM_OP_LOAD, &io, 1) != 0) {
		os_uffd_poison(uffd, addr, PAGE_SIZE);
		os_uffd_wake(uffd, addr, PAGE_SIZE);
		return -EIO;
	}
	r = os_uffd_copy(uffd, addr, buf, PAGE_SIZE);
	return r > 0 ? 0 : (int)r;
}

int frozen_copy(struct uhmm_space *sp, int uffd, uintptr_t addr, uintptr_t source,
		char *buf, bool quiet)
{
	struct chunk *chunk = page_chunk(sp, source);
	entry_t *entry = page_entry(chunk, source);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0;
	entry_t e = entry ? entry_load(entry) : 0;
	int64_t r;

	if (entry_state(f) != PAGE_NONE)
		e = folio_page(f, page_index(source));
	/* What a migration has is where it was, until that ends. */
	if (entry_state(e) == PAGE_MIGRATING)
		e = entry_make(e & ENTRY_FROM_FRAME ? PAGE_PROBATION : PAGE_DEVICE,
			       entry_payload(e), entry_device(e));
	/* All are at rest: who holds one has ended first, or is waited for. */
	assert_always(!entry_busy(e));
	switch (entry_state(e)) {
	case PAGE_PROBATION:
	case PAGE_EXCLUSIVE: /* the child of a raw clone is filled; else there is none */
		r = os_uffd_copy(uffd, addr, frame_bytes(sp, entry_payload(e)),
				 PAGE_SIZE);
		return r > 0 ? 0 : (int)r;
	case PAGE_DEVICE:
		return copy_from_device(sp, uffd, addr, e, buf, quiet);
	case PAGE_POISONED:
		os_uffd_poison(uffd, addr, PAGE_SIZE);
		os_uffd_wake(uffd, addr, PAGE_SIZE);
		return 0;
	default:
		return 1;
	}
}

/* More is either memory that others free, or none for a long time. */
#define NO_MEMORY_TRIES 1000u

bool frozen_may_try_again(int r, unsigned *tries)
{
	if (r != -ENOMEM || ++*tries >= NO_MEMORY_TRIES)
		return false;
	os_yield();
	return true;
}

int frozen_fill(struct uhmm_space *sp, int uffd, struct frozen_log *log, uintptr_t addr,
		char *buf)
{
	struct frozen_record *record;
	uintptr_t source = addr;
	int r = 1;

	if (translate(log, &source)) {
		/*
		 * Logged first: if the child's memory is copied between the two it finds
		 * the record, and looks whether the page is there.
		 */
		record = append(log, FROZEN_FILL, addr, source, PAGE_SIZE);
		r = frozen_copy(sp, uffd, addr, source, buf, true);
		if (r && r != -EEXIST)
			withdraw(log, record);
	}
	if (r == 1)
		r = os_uffd_zero(uffd, addr, PAGE_SIZE) > 0 ? 0 : -EAGAIN;
	return r;
}

void frozen_fault(struct uhmm_space *sp, int uffd, struct frozen_log *log, uintptr_t addr,
		  char *buf)
{
	/*
	 * Not mapped any more, there already, or an event is unread: faulting again
	 * tells.
	 */
	if (frozen_fill(sp, uffd, log, addr, buf))
		os_uffd_wake(uffd, addr, PAGE_SIZE);
}

void frozen_event(struct frozen_log *log, const struct os_event *ev)
{
	switch (ev->kind) {
	case OS_EVENT_REMAP:
		append(log, FROZEN_REMAP, ev->from, ev->to, ev->len);
		break;
	case OS_EVENT_REMOVE:
		append(log, FROZEN_REMOVE, ev->from, 0, ev->end - ev->from);
		break;
	case OS_EVENT_UNMAP:
		append(log, FROZEN_UNMAP, ev->from, 0, ev->end - ev->from);
		break;
	default:
		break;
	}
}

void frozen_quiet(struct frozen_log *log)
{
	if (log->nr && is_structural(&log->record[log->nr - 1]))
		append(log, FROZEN_QUIET, 0, 0, 0);
}

void frozen_gone(void *ctx, uintptr_t start, uintptr_t end)
{
	append(ctx, FROZEN_GONE, start, 0, end - start);
}

/* ---- settling --------------------------------------------------------------------- */

/* The page is in memory: what the table has of it is forgotten. */
static void forget_page(struct uhmm_space *sp, uintptr_t addr)
{
	event_discard(sp, addr, addr + PAGE_SIZE, false);
}

/* Until no unread event is in the way. Only in the child, before its reader reads. */
static int copy_patiently(struct uhmm_space *sp, struct wiped *wiped, uintptr_t addr,
			  uintptr_t source)
{
	unsigned tries = 0;
	int r;

	/* What is empty there on purpose stays empty. */
	if (wipe_is_wiped(wiped, addr))
		return 0;
	do
		r = frozen_copy(sp, sp->uffd, addr, source, sp->reader_buf, true);
	while (r == -EAGAIN || frozen_may_try_again(r, &tries));
	/* It is about to be forgotten where the bytes are. */
	if (r == -ENOMEM)
		os_uffd_poison(sp->uffd, addr, PAGE_SIZE);
	return r;
}

/* Has the child itself discarded this page before it took over? */
static bool child_discarded(struct uhmm_space *sp, uintptr_t addr)
{
	const struct frozen_log *log = &sp->fork.shared->child;
	uint32_t i, nr = __atomic_load_n(&log->nr, __ATOMIC_ACQUIRE);

	for (i = 0; i < nr; i++)
		if ((log->record[i].kind == FROZEN_REMOVE ||
		     log->record[i].kind == FROZEN_UNMAP) &&
		    covers(log->record[i].from, log->record[i].len, addr))
			return true;
	return false;
}

/* A logged fill: the bytes are in memory, at `from`; or will be. */
static void apply_fill(struct uhmm_space *sp, const struct frozen_record *r,
		       struct wiped *verify)
{
	if (verify && !child_discarded(sp, r->from) &&
	    copy_patiently(sp, verify, r->from, r->to) == -ENOENT && r->to != r->from)
		copy_patiently(sp, verify, r->to, r->to);
	forget_page(sp, r->to);
}

bool frozen_to_event(const struct frozen_record *r, struct os_event *ev)
{
	if (!is_structural(r))
		return false;
	*ev = (struct os_event){
		.kind = r->kind == FROZEN_REMAP  ? OS_EVENT_REMAP :
			r->kind == FROZEN_REMOVE ? OS_EVENT_REMOVE :
						   OS_EVENT_UNMAP,
		.from = r->from,
		.to = r->to,
		.len = r->len,
		.end = r->from + r->len,
	};
	return true;
}

void frozen_apply(struct uhmm_space *sp, const struct frozen_log *log,
		  struct wiped *verify)
{
	uint32_t i, nr = __atomic_load_n(&log->nr, __ATOMIC_ACQUIRE);
	struct os_event ev;

	/* Fills name entries by where they were when the space froze. */
	for (i = 0; i < nr; i++)
		if (log->record[i].kind == FROZEN_FILL)
			apply_fill(sp, &log->record[i], i + 1 == nr ? verify : NULL);
	for (i = 0; i < nr; i++) {
		if (frozen_to_event(&log->record[i], &ev))
			event_add(sp, &ev);
		else if (log->record[i].kind == FROZEN_QUIET)
			event_apply_batch(sp);
		else if (log->record[i].kind == FROZEN_GONE)
			event_gone(sp, log->record[i].from,
				   log->record[i].from + log->record[i].len);
	}
	event_apply_batch(sp);
}

static bool stays_mapped(const struct frozen_log *log, uint32_t i)
{
	const struct frozen_record *r = &log->record[i], *later;
	uint32_t nr = __atomic_load_n(&log->nr, __ATOMIC_ACQUIRE);

	while (++i < nr) {
		later = &log->record[i];
		if (later->kind == FROZEN_UNMAP &&
		    covers(later->from, later->len, r->from))
			return false;
	}
	return true;
}

static bool is_there(struct uhmm_space *sp, uintptr_t addr)
{
	int r;

	do
		r = os_uffd_probe(sp->uffd, addr, PAGE_SIZE);
	while (r == -EAGAIN);
	return r == 0;
}

/*
 * Did this move come before the child's memory was copied? Then its old place is not
 * there any more; or, if it stayed mapped (MREMAP_DONTUNMAP), the new one is. If there
 * had been something else before, that does not tell: then the move counts as later, for
 * our log does not have it.
 */
static bool has_moved(struct uhmm_space *sp, const struct frozen_log *log, uint32_t first,
		      uint32_t i)
{
	const struct frozen_record *r = &log->record[i];

	if (!stays_mapped(log, i))
		return !is_there(sp, r->from);
	for (; first < i; first++)
		if (log->record[first].kind == FROZEN_UNMAP &&
		    covers(log->record[first].from, log->record[first].len, r->to))
			return false;
	return is_there(sp, r->to);
}

/*
 * What the table has at the new place belongs to what was there before, which is gone.
 */
static void settle_remap(struct uhmm_space *sp, const struct frozen_record *r)
{
	event_discard(sp, r->to, r->to + r->len, false);
	event_remap(sp, r->from, r->to, r->len);
}

/* Structural events that this process's copy of the log has: they are applied. */
static uint32_t nr_applied(const struct frozen_log *log)
{
	uint32_t i, n = 0;

	for (i = 0; i < log->nr; i++)
		n += is_structural(&log->record[i]);
	return n;
}

void frozen_settle(struct uhmm_space *sp, const struct frozen_log *suspect,
		   struct wiped *wiped)
{
	uint32_t i, nr = __atomic_load_n(&suspect->nr, __ATOMIC_ACQUIRE);
	uint32_t first = nr_applied(sp->fork.log);
	struct frozen_record r;
	uintptr_t addr;

	for (i = first; i < nr; i++)
		if (suspect->record[i].kind == FROZEN_REMAP &&
		    has_moved(sp, suspect, first, i))
			settle_remap(sp, &suspect->record[i]);
	for (i = first; i < nr; i++) {
		r = suspect->record[i];
		if (r.kind == FROZEN_REMAP)
			continue;
		/* Filled in if it is still there; else it is gone. */
		while (page_first(sp, r.from, r.from + r.len, &addr)) {
			copy_patiently(sp, wiped, addr, addr);
			forget_page(sp, addr);
			r.len -= addr + PAGE_SIZE - r.from;
			r.from = addr + PAGE_SIZE;
		}
	}
}

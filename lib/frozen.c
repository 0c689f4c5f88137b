/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults while frozen.
 *
 * A log holds fills and structural events in the order in which they were seen. A fault is
 * looked up through the log backwards: a page that was discarded since is a hole, a page
 * that was moved since has its entry at its old address.
 */
#include "lib/frozen.h"

#include <errno.h>

#include "lib/assert.h"
#include "lib/device.h"
#include "lib/event.h"
#include "lib/frame.h"
#include "lib/migrate.h"
#include "lib/page.h"

static void append(struct frozen_log *log, uint32_t kind, uintptr_t from, uintptr_t to,
		   size_t len)
{
	uint32_t n;

	uhmm_lock(&log->lock);
	n = log->nr;
	/* A few milliseconds' worth of faults and events is far below it. */
	assert_always(n < FROZEN_MAX);
	log->record[n] = (struct frozen_record){ .kind = kind, .from = from, .to = to,
						 .len = len };
	__atomic_store_n(&log->nr, n + 1, __ATOMIC_RELEASE);
	uhmm_unlock(&log->lock);
}

static bool covers(uintptr_t start, size_t len, uintptr_t addr)
{
	return addr - start < len;
}

/* Where the entry of addr is; false: it is a hole by now. */
static bool translate(const struct frozen_log *log, uintptr_t *addr)
{
	uint32_t i = log->nr;

	while (i-- > 0) {
		const struct frozen_record *r = &log->record[i];

		switch (r->kind) {
		case FROZEN_REMOVE:
		case FROZEN_UNMAP:
			if (covers(r->from, r->len, *addr))
				return false;
			break;
		case FROZEN_REMAP:
			if (covers(r->to, r->len, *addr))
				*addr = *addr - r->to + r->from;
			else if (covers(r->from, r->len, *addr))
				return false;
			break;
		default:
			break;
		}
	}
	return true;
}

static int copy_from_device(struct uhmm_space *sp, int uffd, uintptr_t addr, entry_t e)
{
	struct uhmm_io io = {
		.page = entry_payload(e), .buf = sp->reader_buf, .len = PAGE_SIZE,
	};
	int64_t r;

	device_run(sp->device[entry_device(e)], UHMM_OP_LOAD, &io, 1);
	if (io.result) {
		os_uffd_poison(uffd, addr, PAGE_SIZE);
		os_uffd_wake(uffd, addr, PAGE_SIZE);
		return -EIO;
	}
	r = os_uffd_copy(uffd, addr, sp->reader_buf, PAGE_SIZE);
	return r > 0 ? 0 : (int)r;
}

int frozen_copy(struct uhmm_space *sp, int uffd, uintptr_t addr, uintptr_t source)
{
	struct chunk *chunk = page_chunk(sp, source);
	entry_t *entry = page_entry(chunk, source);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0;
	entry_t e = entry ? entry_load(entry) : 0;
	uint64_t slot = entry_payload(e);
	int64_t r;

	if (entry_state(f) == PAGE_PROBATION) {
		e = f;
		slot = entry_payload(f) + page_index(source);
	}
	switch (entry_state(e)) {
	case PAGE_PROBATION:
		r = os_uffd_copy(uffd, addr, frame_bytes(sp, slot), PAGE_SIZE);
		return r > 0 ? 0 : (int)r;
	case PAGE_DEVICE:
		return copy_from_device(sp, uffd, addr, e);
	case PAGE_POISONED:
		os_uffd_poison(uffd, addr, PAGE_SIZE);
		os_uffd_wake(uffd, addr, PAGE_SIZE);
		return 0;
	default:
		return 1;
	}
}

void frozen_fault(struct uhmm_space *sp, int uffd, struct frozen_log *log, uintptr_t addr,
		  bool write)
{
	uintptr_t source = addr;
	int64_t r = 1;

	(void)write;
	if (translate(log, &source))
		r = frozen_copy(sp, uffd, addr, source);
	if (r == 0)
		append(log, FROZEN_FILL, addr, 0, PAGE_SIZE);
	else if (r == 1)
		r = os_uffd_zero(uffd, addr, PAGE_SIZE) > 0 ? 0 : -EAGAIN;
	/* Not mapped any more, there already, or an event is unread: faulting again tells. */
	if (r)
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

/* ---- settling ------------------------------------------------------------------------------- */

/* The page is in memory: what the table has of it is forgotten. */
static void forget_page(struct uhmm_space *sp, uintptr_t addr)
{
	event_discard(sp, addr, addr + PAGE_SIZE, false);
}

/* Until no unread event is in the way. Only in the child, before its reader reads. */
static int copy_patiently(struct uhmm_space *sp, uintptr_t addr, uintptr_t source)
{
	int r;

	do
		r = frozen_copy(sp, sp->uffd, addr, source);
	while (r == -EAGAIN);
	return r;
}

void frozen_apply(struct uhmm_space *sp, const struct frozen_log *log, bool verify)
{
	uint32_t i, nr = __atomic_load_n(&log->nr, __ATOMIC_ACQUIRE);

	for (i = 0; i < nr; i++) {
		const struct frozen_record *r = &log->record[i];

		switch (r->kind) {
		case FROZEN_FILL:
			if (verify)
				copy_patiently(sp, r->from, r->from);
			forget_page(sp, r->from);
			break;
		case FROZEN_REMAP:
			event_remap(sp, r->from, r->to, r->len);
			break;
		default:
			event_discard(sp, r->from, r->from + r->len,
				      r->kind == FROZEN_UNMAP);
			break;
		}
	}
}

struct settling {
	struct uhmm_space *sp;
	const struct frozen_record *record;
	uintptr_t addr; /* found: to be settled and forgotten */
};

static int find_first(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		      bool folio)
{
	struct settling *s = ctx;

	(void)chunk;
	(void)entry;
	s->addr = addr;
	/* Of a folio that the range touches: its first page inside. */
	if (folio && addr < s->record->from)
		s->addr = s->record->from;
	return 1;
}

void frozen_settle(struct uhmm_space *sp, const struct frozen_log *suspect)
{
	uint32_t i, nr = __atomic_load_n(&suspect->nr, __ATOMIC_ACQUIRE);

	for (i = 0; i < nr; i++) {
		const struct frozen_record *r = &suspect->record[i];
		struct settling s = { .sp = sp, .record = r };

		while (page_walk(sp, r->from, r->from + r->len, find_first, &s)) {
			uintptr_t to = s.addr - r->from + r->to;

			if (copy_patiently(sp, s.addr, s.addr) == -ENOENT &&
			    r->kind == FROZEN_REMAP)
				copy_patiently(sp, to, s.addr);
			forget_page(sp, s.addr);
		}
	}
}

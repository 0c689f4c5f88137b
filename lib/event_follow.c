/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one structural event does to what we know of the program's pages. The gate is
 * closed: nobody isolates or fills; holders of busy pages finish without it, and are
 * waited for.
 */
#include "lib/assert.h"
#include "lib/device.h"
#include "lib/event.h"
#include "lib/fence.h"
#include "lib/folio.h"
#include "lib/frame.h"
#include "lib/migrate.h"
#include "lib/migration.h"
#include "lib/page.h"

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

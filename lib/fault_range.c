/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing back what lies in a range, touched or not. Nothing is guessed here, and no
 * notice is taken of the budget; a page that does not come back in a few attempts is
 * brought back by the reader (lib/recall.h).
 */
#include "lib/fault.h"

#include <errno.h>

#include "lib/coherent.h"
#include "lib/exclusive.h"
#include "lib/fault_internal.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/recall.h"

struct back {
	struct uhmm_space *sp;
	struct fault_buf *buf;
	uintptr_t addr;  /* in: first candidate; out: the next to look at */
	uint8_t *result; /* of addr, or NULL */
	uintptr_t end;
};

static void report(struct back *b, unsigned nr, enum uhmm_result result)
{
	unsigned i;

	if (b->result)
		for (i = 0; i < nr; i++)
			*b->result++ = (uint8_t)result;
	b->addr += nr * PAGE_SIZE;
}

/* Is it likely that so many pages from here on are on one device? */
static bool are_many(const struct back *b, struct chunk *chunk)
{
	uintptr_t last = b->addr + (GROUP_PAGES - 1) * PAGE_SIZE;
	const entry_t *entry = page_entry(chunk, b->addr);

	return last < b->end && last < chunk_start(b->addr) + CHUNK_SIZE &&
	       entry_state(entry_load(&entry[GROUP_PAGES - 1])) == PAGE_DEVICE;
}

/* Loads a run of pages that are on one device. The gate is entered by shard and left. */
static int load_run(struct back *b, struct chunk *chunk, unsigned shard)
{
	struct load ld = {
		.sp = b->sp, .addr = b->addr, .asked = true, .all_asked = true
	};
	unsigned max = (unsigned)((b->end - b->addr) >> PAGE_SHIFT), n;
	uint32_t group = are_many(b, chunk) ? frame_spare_take(b->sp) : GROUP_NIL;

	if (group != GROUP_NIL) {
		ld.frames = true;
		ld.left = ~UINT64_C(0);
		claim_loads(&ld, chunk, GROUP_PAGES,
			    frame_bytes(b->sp, (uint64_t)group * GROUP_PAGES));
	} else {
		claim_loads(&ld, chunk, max < b->buf->nr_pages ? max : b->buf->nr_pages,
			    b->buf->bytes);
	}
	gate_leave(&b->sp->gate, shard);
	if (ld.nr)
		load_claimed(&ld);
	if (group != GROUP_NIL)
		frame_spare_give(b->sp, group, ld.left);
	if (!ld.nr)
		return -EAGAIN;
	/* As far as this run was settled for good; a lost page is, if it is the first. */
	for (n = 0; n < ld.nr; n++) {
		if (!(ld.done & (UINT64_C(1) << n)))
			return -EAGAIN;
		report(b, 1, ld.lost & (UINT64_C(1) << n) ? UHMM_LOST : UHMM_MOVED);
	}
	return 0;
}

/* The same of a folio, which comes back whole if it can. */
static int load_folio(struct back *b, struct chunk *chunk, unsigned shard)
{
	unsigned done = load_device_folio(b->sp, chunk, b->addr, shard);
	unsigned from = page_index(b->addr), left = done > from ? done - from : 0;
	unsigned max = (unsigned)((b->end - b->addr) >> PAGE_SHIFT);

	report(b, left < max ? left : max, UHMM_MOVED);
	return left ? 0 : -EAGAIN;
}

/* The same of a folio whose pages were stored one by one. */
static int load_chunk(struct back *b, struct chunk *chunk, unsigned shard)
{
	unsigned done = load_stored_folio(b->sp, chunk, b->addr, b->buf, shard);

	report(b, done, UHMM_MOVED);
	return done ? 0 : -EAGAIN;
}

/* Is all of one at b->addr, and asked for? */
static bool is_stored_folio(const struct back *b, const struct chunk *chunk)
{
	return entry_load(&chunk->folio) & ENTRY_STORED &&
	       b->addr == chunk_start(b->addr) && b->end - b->addr >= CHUNK_SIZE;
}

static int back_step(struct back *b)
{
	struct uhmm_space *sp = b->sp;
	unsigned shard = gate_enter_first(&sp->gate), left, n;
	struct chunk *chunk;
	bool folio;
	entry_t *entry = find_entry(sp, b->addr, &chunk, &folio);
	entry_t e = entry ? entry_load(entry) : 0;
	int r;

	switch (entry_state(e)) {
	case PAGE_DEVICE:
		if (folio)
			return load_folio(b, chunk, shard);
		if (is_stored_folio(b, chunk))
			return load_chunk(b, chunk, shard);
		if (!coherent_pagemap(sp, e))
			return load_run(b, chunk, shard);
		r = coherent_map_inside(sp, b->addr);
		break;
	case PAGE_PROBATION:
		if (folio)
			r = restore_folio_inside(sp, chunk_start(b->addr));
		else
			r = restore_page_inside(sp, b->addr, entry_payload(e), hotter(e));
		break;
	default:
		r = 0;
		break;
	}
	gate_leave(&sp->gate, shard);
	switch (entry_state(e)) {
	case PAGE_NONE:
	case PAGE_COHERENT:
		report(b, 1, UHMM_ALREADY);
		return 0;
	case PAGE_POISONED:
		report(b, 1, UHMM_LOST);
		return 0;
	case PAGE_DEVICE:
	case PAGE_PROBATION:
		left = folio ? CHUNK_PAGES - page_index(b->addr) : 1;
		n = (unsigned)((b->end - b->addr) >> PAGE_SHIFT);
		if (r == 0)
			report(b, left < n ? left : n, UHMM_MOVED);
		return r == -EBUSY ? -EAGAIN : r;
	case PAGE_EXCLUSIVE:
		exclusive_revoke(sp, b->addr, &e);
		return -EAGAIN;
	case PAGE_MIGRATING:
		/* For as long as a driver likes: that is not waited for in the world. */
		report(b, 1, UHMM_BUSY);
		return 0;
	default:
		page_wait(sp, entry);
		return -EAGAIN;
	}
}

/* After so many attempts in vain at one page the reader is asked for it. */
#define VAIN_MAX 3u

/* Up to b->end. 0, -ENOMEM; -EAGAIN: VAIN_MAX attempts were in vain. */
static int back_some(struct back *b)
{
	unsigned vain = 0;
	int r = 0;

	while (b->addr < b->end && r != -ENOMEM) {
		r = back_step(b);
		if (r == -EAGAIN && ++vain == VAIN_MAX)
			return r;
		if (r == -EAGAIN) {
			os_yield();
			continue;
		}
		vain = 0;
		/* The program unmapped it; the event is on its way. */
		if (r == -ENOENT)
			report(b, 1, UHMM_HOLE);
	}
	return r == -ENOMEM ? r : 0;
}

int fault_range(struct uhmm_space *sp, uintptr_t start, uintptr_t end, uint8_t *results)
{
	struct fault_buf buf;
	struct back b = {
		.sp = sp,
		.buf = &buf,
		.addr = start,
		.result = results,
		.end = end,
	};
	bool again = false;
	int r;

	fault_buf_get(sp, &buf);
	for (; (r = back_some(&b)) == -EAGAIN; again = true)
		recall_ask(sp, b.addr, end, again);
	fault_buf_put(sp, &buf);
	return r;
}

static int find_migrated(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
			 bool folio)
{
	uintptr_t *found = ctx;

	(void)chunk;
	(void)folio;
	if (entry_state(entry_load(entry)) == PAGE_POISONED ||
	    entry_state(entry_load(entry)) == PAGE_COHERENT)
		return 0;
	*found = addr;
	return 1;
}

/* The gate is entered for the walk: entries are freed when it is closed. */
static bool next_migrated(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
			  uintptr_t *found)
{
	unsigned shard = gate_enter_first(&sp->gate);
	int any = page_walk(sp, start, end, find_migrated, found);

	gate_leave(&sp->gate, shard);
	return any;
}

bool fault_range_any(struct uhmm_space *sp)
{
	uintptr_t found;

	return next_migrated(sp, 0, (uintptr_t)1 << ADDRESS_BITS, &found);
}

/* As fault_range(), for who looks himself what is left: -EAGAIN, look from start on. */
static int present_some(struct uhmm_space *sp, uintptr_t start, uintptr_t end, bool again)
{
	struct fault_buf buf;
	struct back b = { .sp = sp, .buf = &buf, .addr = start, .end = end };
	int r;

	fault_buf_get(sp, &buf);
	r = back_some(&b);
	fault_buf_put(sp, &buf);
	if (r == -EAGAIN)
		recall_ask(sp, b.addr, end, again);
	return r;
}

int fault_range_present(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	struct gate_visit visit;
	uintptr_t found, chunk_end;
	bool any = true;
	int r = 0;

	while (any && r != -ENOMEM) {
		gate_visit(&sp->world, &visit);
		any = next_migrated(sp, start, end, &found);
		if (any) {
			start = found > start ? found : start;
			chunk_end = chunk_start(start) + CHUNK_SIZE;
			r = present_some(sp, start, chunk_end < end ? chunk_end : end,
					 r == -EAGAIN);
			if (r == 0)
				start = chunk_end;
		}
		gate_end_visit(&sp->world, &visit);
	}
	return r == -ENOMEM ? r : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolving faults.
 *
 *	hole       zero-fill, in growing windows where memory is written in sequence
 *	PROBATION  the frame is moved back: no copy
 *	DEVICE     load into a buffer, UFFDIO_COPY; neighbours along a stream come with it
 *	busy       its holder will wake who sleeps on it
 *	EXCLUSIVE  its device is told, and then as PROBATION
 *	POISONED   SIGBUS
 *
 * Loading happens with the gate open, so that the program's munmap() need not wait for a
 * device; filling happens with the gate entered and only if nothing changed: the pages
 * are LOADING all the while, and whoever applies an event waits for that to end. If the
 * gate is closed when the load is done, the pages go back to DEVICE (their copies are
 * still there) and the fault is repeated.
 */
#include "lib/fault.h"

#include <errno.h>
#include <limits.h>

#include "lib/assert.h"
#include "lib/budget.h"
#include "lib/coherent.h"
#include "lib/device.h"
#include "lib/exclusive.h"
#include "lib/fault_internal.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/grown.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/pagemap_fault.h"
#include "lib/placement.h"
#include "lib/policy.h"
#include "lib/recent.h"
#include "lib/reclaim.h"
#include "lib/stream.h"
#include "lib/zap.h"

/* ---- holes ------------------------------------------------------------------------ */

/* Consecutive pages from addr on, in one chunk, that have no entry: at most max. */
static unsigned run_of_none(struct chunk *chunk, uintptr_t addr, unsigned max)
{
	unsigned n, limit = CHUNK_PAGES - page_index(addr);

	if (entry_state(entry_load(&chunk->folio)) != PAGE_NONE)
		return 0;
	for (n = 0; n < max && n < limit; n++) {
		entry_t *entry = page_entry(chunk, addr + n * PAGE_SIZE);

		if (entry && entry_state(entry_load(entry)) != PAGE_NONE)
			break;
	}
	return n;
}

/*
 * How many of nr pages from addr on to fill: the one that was touched, and those behind
 * it as far as nothing is there. UFFDIO_COPY (Linux 6.18) would put a page in the place
 * of a guard (MADV_GUARD_INSTALL).
 */
static unsigned fillable(uintptr_t addr, unsigned nr)
{
	size_t empty = nr > 1 ? os_empty(addr, nr * PAGE_SIZE) : 0;

	return empty > PAGE_SIZE ? (unsigned)(empty >> PAGE_SHIFT) : nr ? 1 : 0;
}

static void note_recent(struct uhmm_space *sp, uintptr_t addr, unsigned nr)
{
	if (budget_limited(sp))
		recent_add(sp, addr, nr);
}

/*
 * Under chunk->lock: nobody isolates these pages meanwhile. The zero page for who only
 * reads, unless there is a budget: whoever writes to that later takes memory unasked.
 */
static int zero_fill_locked(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			    bool write, unsigned window)
{
	unsigned nr = fillable(addr, run_of_none(chunk, addr, window));
	unsigned granted = nr, filled, try;
	int64_t r = 0;

	if (!nr)
		return -EAGAIN; /* it is a hole no more */
	if (budget_limited(sp))
		write = true;
	if (write)
		granted = budget_take(sp, nr);
	if (!granted)
		return -ENOSPC;
	/* A window that reaches beyond the mapping is refused whole: less of it, then. */
	for (try = granted; try; try = r == -ENOENT ? try / 2 : 0) {
		if (write)
			r = os_uffd_copy(sp->uffd, addr, sp->zeros, try * PAGE_SIZE);
		else
			r = os_uffd_zero(sp->uffd, addr, try * PAGE_SIZE);
	}
	filled = r > 0 ? (unsigned)(r >> PAGE_SHIFT) : 0;
	if (write)
		budget_return(sp, granted - filled);
	if (filled) {
		stream_filled(sp, addr, filled, 0);
		note_recent(sp, addr, filled);
		count(sp, COUNT_FAULT_ZERO, 1);
		count(sp, COUNT_ZERO_FILLED, filled);
		return 0;
	}
	if (r == -ENOMEM)
		return -ENOSPC;
	/* EEXIST: it was filled before we looked; faulting again tells. */
	return r == -ENOENT ? -ENOENT : -EAGAIN;
}

static int resolve_hole(struct uhmm_space *sp, uintptr_t addr, bool write)
{
	struct chunk *chunk = page_chunk_make(sp, addr);
	unsigned window;
	int64_t stride;
	int r;

	if (!chunk) {
		/*
		 * Above what we migrate, or no memory for a table: one page, unguarded.
		 */
		r = (int)os_uffd_zero(sp->uffd, addr, PAGE_SIZE);
		return r > 0 ? 0 : r == -ENOENT ? -ENOENT : -EAGAIN;
	}
	/* Before a page is there again that the discard did not mean. */
	zap_pending(sp, addr, addr + PAGE_SIZE);
	window = stream_window(sp, addr, UHMM_BATCH_MAX, &stride);
	if (stride != PAGE_SIZE)
		window = 1;
	uhmm_lock((struct uhmm_lock *)&chunk->lock);
	r = zero_fill_locked(sp, chunk, addr, write, window);
	uhmm_unlock((struct uhmm_lock *)&chunk->lock);
	return r;
}

/* ---- device ----------------------------------------------------------------------- */

void claim_loads(struct load *ld, struct chunk *chunk, unsigned max, char *bytes)
{
	unsigned limit = CHUNK_PAGES - page_index(ld->addr);

	for (ld->nr = 0; ld->nr < max && ld->nr < limit; ld->nr++) {
		unsigned n = ld->nr;
		uintptr_t at = ld->addr + n * PAGE_SIZE;
		entry_t *entry = page_entry(chunk, at), e = entry_load(entry);

		if (entry_state(e) != PAGE_DEVICE || (n && entry_device(e) != ld->device))
			return;
		ld->device = entry_device(e);
		ld->entry[n] = entry;
		ld->from[n] = e;
		if (!page_change(ld->sp, entry, at, &e,
				 entry_make(PAGE_LOADING, entry_payload(e), ld->device)))
			return;
		ld->io[n] = (struct uhmm_io){
			.page = entry_payload(ld->from[n]),
			.buf = bytes + n * PAGE_SIZE,
			.len = PAGE_SIZE,
		};
	}
}

static void settle(struct load *ld, unsigned n, entry_t to)
{
	if (page_settle(ld->sp, ld->entry[n], ld->addr + n * PAGE_SIZE, to) &
	    ENTRY_WANTED)
		ld->wanted |= UINT64_C(1) << n;
}

static void put_back(struct load *ld, unsigned n)
{
	settle(ld, n, ld->from[n]);
}

/* The bytes are gone. Only who touches the page learns of it. */
static void lose(struct load *ld, unsigned n)
{
	struct uhmm_space *sp = ld->sp;
	uintptr_t at = ld->addr + n * PAGE_SIZE;

	if (n || !ld->asked) {
		put_back(ld, n);
		return;
	}
	count(sp, COUNT_LOAD_FAILED, 1);
	settle(ld, n, entry_make(PAGE_POISONED, 0, 0));
	os_uffd_poison(sp->uffd, at, PAGE_SIZE);
	os_uffd_wake(sp->uffd, at, PAGE_SIZE);
	ld->done |= UINT64_C(1) << n;
	ld->lost |= UINT64_C(1) << n;
	ld->filled++;
}

/* What was loaded into frames is moved; or copied, where that is not allowed. */
static int64_t bring_in(struct load *ld, unsigned n, unsigned run)
{
	struct uhmm_space *sp = ld->sp;
	uintptr_t to = ld->addr + n * PAGE_SIZE, from = (uintptr_t)ld->io[n].buf;
	size_t len = run * PAGE_SIZE;
	int64_t r = -EINVAL;

	if (ld->frames)
		r = os_uffd_move(sp->uffd, to, from, len, 0);
	if (r == -EBUSY) {
		/* A process was cloned meanwhile, and has a copy. */
		os_make_exclusive(from, len);
		r = os_uffd_move(sp->uffd, to, from, len, 0);
	}
	if (r > 0)
		ld->left &= ~(which_first((unsigned)(r >> PAGE_SHIFT)) << n);
	if (r > 0 || r == -EAGAIN || r == -EEXIST || r == -ENOENT)
		return r;
	return os_uffd_copy(sp->uffd, to, (const void *)from, len);
}

static unsigned warmth(const struct load *ld, unsigned n)
{
	bool asked = ld->all_asked || (ld->asked && !n);

	return policy_warmth(asked, entry_age(ld->from[n], store_generation(ld->sp)));
}

/* Fills pages [n, n + run), which are good. Returns how many of them are settled. */
static unsigned fill_run(struct load *ld, unsigned n, unsigned run)
{
	struct uhmm_space *sp = ld->sp;
	uintptr_t at = ld->addr + n * PAGE_SIZE;
	int64_t r = bring_in(ld, n, run);
	unsigned i, done = r > 0 ? (unsigned)(r >> PAGE_SHIFT) : 0;

	for (i = 0; i < done; i++) {
		settle(ld, n + i,
		       entry_with_hot(entry_make(PAGE_NONE, 0, 0), warmth(ld, n + i)));
		ld->done |= UINT64_C(1) << (n + i);
	}
	ld->filled += done;
	if (done)
		return done;
	/* A run across two mappings is refused whole. */
	if (r == -ENOENT && run > 1)
		return fill_run(ld, n, 1);
	if (r == -EEXIST) {
		/* Filled while the space was frozen by fork: what is there is current. */
		settle(ld, n, entry_make(PAGE_NONE, 0, 0));
		os_uffd_wake(sp->uffd, at, PAGE_SIZE);
		ld->done |= UINT64_C(1) << n;
		ld->filled++;
	} else {
		put_back(ld, n);
	}
	return 1;
}

/* In order, up to the first page that cannot be settled; the others are put back. */
static void fill_all(struct load *ld)
{
	unsigned n = 0, run;

	while (n < ld->nr && ld->done + 1 == UINT64_C(1) << n) {
		for (run = 0; n + run < ld->nr && ld->io[n + run].result == 0; run++)
			;
		if (run) {
			n += fill_run(ld, n, run);
		} else {
			lose(ld, n);
			n++;
		}
	}
	for (; n < ld->nr; n++)
		put_back(ld, n);
}

/* Copies on the device of pages that are in memory now. */
static void free_copies(struct load *ld)
{
	unsigned i, nr = 0;

	for (i = 0; i < ld->nr; i++)
		if (ld->done & (UINT64_C(1) << i))
			ld->io[nr++].page = ld->io[i].page;
	if (nr)
		device_run(ld->sp->device[ld->device], UHMM_OP_FREE, ld->io, nr);
}

static void wake_wanted(struct load *ld)
{
	for (; ld->wanted; ld->wanted &= ld->wanted - 1) {
		unsigned n = (unsigned)__builtin_ctzll(ld->wanted);

		os_uffd_wake(ld->sp->uffd, ld->addr + n * PAGE_SIZE, PAGE_SIZE);
	}
}

int load_claimed(struct load *ld)
{
	struct uhmm_space *sp = ld->sp;
	bool told = tell_load(sp, ld->device, ld->addr, ld->nr);
	unsigned shard, n;

	device_run(sp->device[ld->device], UHMM_OP_LOAD, ld->io, ld->nr);
	if (gate_try_enter(&sp->gate, &shard)) {
		fill_all(ld);
		gate_leave(&sp->gate, shard);
		free_copies(ld);
		count(sp, COUNT_LOADED, ld->filled);
	} else {
		for (n = 0; n < ld->nr; n++)
			put_back(ld, n);
	}
	notifier_end(sp, told);
	wake_wanted(ld);
	return ld->done & 1 ? 0 : -EAGAIN;
}

/*
 * Up to nr pages in a row; *loaded: how many. The gate is entered by shard; it is left
 * when this returns.
 */
static int load_run(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
		    unsigned nr, struct fault_buf *buf, unsigned shard, bool asked,
		    unsigned *loaded)
{
	struct load ld = { .sp = sp, .addr = addr, .asked = asked };
	unsigned granted = budget_take(sp, nr);
	int r;

	*loaded = 0;
	if (granted)
		claim_loads(&ld, chunk, granted, buf->bytes);
	gate_leave(&sp->gate, shard);
	if (!granted)
		return -ENOSPC;
	if (!ld.nr) {
		budget_return(sp, granted);
		return -EAGAIN;
	}
	r = load_claimed(&ld);
	budget_return(sp, granted - (ld.filled < granted ? ld.filled : granted));
	if (ld.filled) {
		*loaded = ld.filled;
		__atomic_fetch_add(&chunk->refaults, 1, __ATOMIC_RELAXED);
		count(sp, COUNT_FAULT_DEVICE, asked);
		if (asked &&
		    entry_age(ld.from[0], store_generation(sp)) < GENERATIONS_SHORT)
			count(sp, COUNT_REFAULT, 1);
		count(sp, COUNT_PREFETCH, ld.filled - asked);
	}
	return r;
}

/*
 * A page of a stream in strides, ahead of its fault. False: the stream is to go on no
 * further this time, as there is nothing to go on with, or no room. *loaded: 1 if it was.
 */
static bool bring_ahead(struct uhmm_space *sp, uintptr_t addr, struct fault_buf *buf,
			unsigned *loaded)
{
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk;
	bool folio;
	entry_t *entry = find_entry(sp, addr, &chunk, &folio);
	entry_t e = entry && !folio ? entry_load(entry) : 0;

	/* A device whose memory no processor reads; and no guard, see fillable(). */
	if (entry_state(e) == PAGE_DEVICE && !pagemap_at(sp, entry_device(e)) &&
	    os_empty(addr, PAGE_SIZE) == PAGE_SIZE)
		return load_run(sp, chunk, addr, 1, buf, shard, false, loaded) == 0;
	gate_leave(&sp->gate, shard);
	if (entry_state(e) == PAGE_PROBATION)
		return restore_page(sp, addr, entry_payload(e), entry_hot(e)) == 0;
	/* It is here, or never was: the stream passes by. */
	return entry && !folio && entry_state(e) == PAGE_NONE;
}

/*
 * Pages of a stream in strides, behind that at addr. How many it is about, with it;
 * *ahead: how many were loaded.
 */
static unsigned bring_stride(struct uhmm_space *sp, uintptr_t addr, int64_t stride,
			     unsigned nr, struct fault_buf *buf, unsigned *ahead)
{
	unsigned n, loaded;

	/*
	 * Not where the page itself has to wait for room: what is on probation would come
	 * back for it again and again, and be all that could have made room.
	 */
	for (*ahead = 0, n = 1; n < nr && !budget_is_out(sp); n++) {
		uintptr_t at = addr + (uintptr_t)((int64_t)n * stride);
		bool goes_on;

		loaded = 0;
		goes_on = bring_ahead(sp, at, buf, &loaded);
		*ahead += loaded;
		if (!goes_on)
			break;
		reclaim_direct(sp);
	}
	return n;
}

/*
 * The page that was touched comes last: who waits for it would come to the next before
 * that is there, and wait for each.
 */
static int resolve_strided(struct uhmm_space *sp, uintptr_t addr, unsigned device,
			   int64_t stride, unsigned window, struct fault_buf *buf)
{
	unsigned ahead, nr = bring_stride(sp, addr, stride, window, buf, &ahead), loaded;
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk;
	bool folio;
	entry_t *entry = find_entry(sp, addr, &chunk, &folio);
	entry_t e = entry && !folio ? entry_load(entry) : 0;
	int r;

	if (entry_state(e) != PAGE_DEVICE || entry_device(e) != device) {
		gate_leave(&sp->gate, shard);
		return -EAGAIN;
	}
	r = load_run(sp, chunk, addr, 1, buf, shard, true, &loaded);
	if (loaded)
		stream_filled(sp, addr, nr, ahead);
	return r;
}

/* The gate is entered by shard; it is left when this returns. */
static int resolve_device(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			  struct fault_buf *buf, unsigned shard)
{
	int64_t stride;
	unsigned window = stream_window(sp, addr, buf->nr_pages, &stride), loaded, device;
	int r;

	if (stride != PAGE_SIZE && window > 1) {
		device = entry_device(entry_load(page_entry(chunk, addr)));
		gate_leave(&sp->gate, shard);
		return resolve_strided(sp, addr, device, stride, window, buf);
	}
	r = load_run(sp, chunk, addr, fillable(addr, window), buf, shard, true, &loaded);
	if (loaded) {
		stream_filled(sp, addr, loaded, loaded - 1);
		note_recent(sp, addr, loaded);
	}
	return r;
}

entry_t *find_entry(struct uhmm_space *sp, uintptr_t addr, struct chunk **chunk,
		    bool *folio)
{
	*chunk = page_chunk(sp, addr);
	*folio = *chunk && entry_state(entry_load(&(*chunk)->folio)) != PAGE_NONE;
	return *folio ? &(*chunk)->folio : page_entry(*chunk, addr);
}

/* ---- probation -------------------------------------------------------------------- */

/*
 * A stream goes on through pages on probation, and takes those ahead along: to move a few
 * is less than a fault.
 */
static int resolve_probation(struct uhmm_space *sp, uintptr_t addr, entry_t e,
			     struct fault_buf *buf)
{
	unsigned shard = gate_enter(&sp->gate), window, ahead, n;
	int64_t stride;
	int r;

	window = stream_window(sp, addr, buf->nr_pages, &stride);
	/* Where all of ours are on its processor there is nobody to interrupt. */
	if (placement_is_low(sp))
		r = restore_page_inside(sp, addr, entry_payload(e), hotter(e));
	else
		r = restore_touched(sp, addr, entry_payload(e), hotter(e));
	gate_leave(&sp->gate, shard);
	if (r)
		return r == -EBUSY || r == -ENOENT ? -EAGAIN : r;
	count(sp, COUNT_FAULT_PROBATION, 1);
	if (stride != PAGE_SIZE) {
		n = bring_stride(sp, addr, stride, window, buf, &ahead);
		stream_filled(sp, addr, n, ahead);
		return 0;
	}
	n = window > 1 ? bring_probation(sp, addr + PAGE_SIZE, window - 1) : 0;
	stream_filled(sp, addr, n + 1, 0);
	return 0;
}

static int resolve_folio(struct uhmm_space *sp, uintptr_t addr)
{
	int r = restore_folio(sp, chunk_start(addr));

	if (r == 0)
		count(sp, COUNT_FAULT_PROBATION, 1);
	return r ? -EAGAIN : 0;
}

/* ---- any -------------------------------------------------------------------------- */

static int resolve_busy(struct uhmm_space *sp, entry_t *entry)
{
	count(sp, COUNT_FAULT_BUSY, 1);
	if (sp->delivery == UHMM_DELIVERY_THREAD && !page_want(entry))
		return -EAGAIN;
	return -EBUSY;
}

int fault_resolve(struct uhmm_space *sp, uintptr_t addr, bool write,
		  struct fault_buf *buf)
{
	unsigned shard;
	struct chunk *chunk;
	entry_t *entry, e;
	bool folio;
	int r;

	/* A debugger, /proc/PID/mem or keep_frames() looks at an empty frame. */
	if (frame_contains(sp, addr) || coherent_contains(sp, addr))
		return os_uffd_zero(sp->uffd, addr, PAGE_SIZE) > 0 ? 0 : -EAGAIN;
	shard = gate_enter(&sp->gate);
	entry = find_entry(sp, addr, &chunk, &folio);
	e = entry ? entry_load(entry) : 0;
	switch (entry_state(e)) {
	case PAGE_NONE:
		r = resolve_hole(sp, addr, write);
		break;
	case PAGE_PROBATION:
		gate_leave(&sp->gate, shard);
		return folio ? resolve_folio(sp, addr) :
			       resolve_probation(sp, addr, e, buf);
	case PAGE_DEVICE:
		if (map_fault(sp, addr, e, buf->tid)) {
			r = -EINPROGRESS;
			break;
		}
		if (folio)
			return resolve_device_folio(sp, chunk, addr, shard);
		if (!coherent_pagemap(sp, e))
			return resolve_device(sp, chunk, addr, buf, shard);
		r = coherent_map_inside(sp, addr) ? -EAGAIN : 0;
		break;
	case PAGE_COHERENT:
		gate_leave(&sp->gate, shard);
		coherent_fault(sp, addr);
		return -EAGAIN;
	case PAGE_EXCLUSIVE:
		gate_leave(&sp->gate, shard);
		return exclusive_revoke(sp, addr, &e) ?
			       resolve_probation(sp, addr, e, buf) :
			       -EAGAIN;
	case PAGE_POISONED:
		os_uffd_poison(sp->uffd, addr, PAGE_SIZE);
		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
		r = 0;
		break;
	default:
		r = resolve_busy(sp, entry);
		break;
	}
	gate_leave(&sp->gate, shard);
	return r;
}

bool fault_wait(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t *entry, e;
	unsigned shard;
	bool migrating, folio;

	if (!chunk)
		return false;
	if (entry_busy(entry_load(&chunk->folio)))
		page_wait(sp, &chunk->folio);
	entry = page_entry(chunk, addr);
	if (entry && entry_busy(entry_load(entry)))
		page_wait(sp, entry);
	/* The entries may be gone by now. */
	shard = gate_enter(&sp->gate);
	entry = find_entry(sp, addr, &chunk, &folio);
	e = entry ? entry_load(entry) : 0;
	migrating = entry_state(e) == PAGE_MIGRATING;
	gate_leave(&sp->gate, shard);
	return migrating;
}

void fault_deliver(struct uhmm_space *sp, const struct os_event *ev,
		   struct fault_buf *buf)
{
	/* Whoever makes room must not wait for it. */
	sp->budget.lend = ev->tid &&
			  ev->tid == __atomic_load_n(&sp->unsharer, __ATOMIC_ACQUIRE);
	buf->tid = ev->tid;
	switch (fault_resolve(sp, ev->addr, ev->write, buf)) {
	case -EAGAIN:
		if (grown_refused(sp, ev))
			break;
		/* fall through */
	case -ENOENT:
		os_uffd_wake(sp->uffd, ev->addr, PAGE_SIZE);
		break;
	case -ENOSPC:
		count(sp, COUNT_FAULT_PARKED, 1);
		fault_park(sp, ev->addr);
		break;
	default:
		break;
	}
	sp->budget.lend = false;
}

/* ---- parking ---------------------------------------------------------------------- */

void fault_park(struct uhmm_space *sp, uintptr_t addr)
{
	struct parked *p = &sp->parked;
	bool full;

	uhmm_lock(&p->lock);
	full = p->nr == PARKED_MAX;
	if (!full)
		p->addr[p->nr++] = addr;
	uhmm_unlock(&p->lock);
	__atomic_fetch_add(&sp->work, 1, __ATOMIC_SEQ_CST);
	os_wake(&sp->work, INT_MAX);
	if (full)
		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
}

void fault_unpark(struct uhmm_space *sp)
{
	struct parked *p = &sp->parked;
	uintptr_t some[64];
	unsigned nr, i;

	do {
		uhmm_lock(&p->lock);
		nr = p->nr < 64 ? p->nr : 64;
		for (i = 0; i < nr; i++)
			some[i] = p->addr[--p->nr];
		uhmm_unlock(&p->lock);
		for (i = 0; i < nr; i++)
			os_uffd_wake(sp->uffd, some[i], PAGE_SIZE);
	} while (nr == 64);
}

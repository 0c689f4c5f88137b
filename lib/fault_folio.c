/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing back a folio that is on a page map: all of it, as the huge page that it was.
 *
 * It is loaded into a huge page of ours (lib/huge.h), which is moved to the program.
 * Where that cannot be (there is no huge page, or no room in the budget for one; the
 * program has changed a part of the mapping since; a page of it is lost) the folio is
 * split, and who wants a page of it asks again.
 */
#include <errno.h>

#include "lib/budget.h"
#include "lib/device.h"
#include "lib/fault.h"
#include "lib/fault_internal.h"
#include "lib/folio.h"
#include "lib/gate.h"
#include "lib/huge.h"
#include "lib/migrate.h"
#include "lib/pagemap.h"

struct folio_load {
	struct uhmm_space *sp;
	struct chunk *chunk;
	uintptr_t addr; /* the chunk's */
	entry_t from;   /* its folio entry, before it was LOADING */
	char *bytes;    /* or NULL */
	bool told;
	unsigned done; /* pages of it that are in memory, from the first on */
};

/* True: it is loaded. */
static bool load(struct folio_load *fl)
{
	struct uhmm_pagemap *map = pagemap_at(fl->sp, entry_device(fl->from));

	fl->told = tell_load(fl->sp, entry_device(fl->from), fl->addr, CHUNK_PAGES);
	fl->bytes = huge_get(fl->sp);
	return fl->bytes && !pagemap_load_folio(map, entry_payload(fl->from), fl->bytes);
}

/* The gate is entered. True: the folio cannot stay as it was. */
static bool fill(struct folio_load *fl)
{
	int64_t why;
	size_t done = huge_fill(fl->sp, fl->addr, fl->bytes, &why);

	fl->done = (unsigned)(done >> PAGE_SHIFT);
	return done || why != -EAGAIN;
}

static void settle(struct folio_load *fl, entry_t to)
{
	if (page_settle(fl->sp, &fl->chunk->folio, fl->addr, to) & ENTRY_WANTED)
		os_uffd_wake(fl->sp->uffd, fl->addr, CHUNK_SIZE);
}

/* Pages that are in memory: their copies are not needed any more. */
static void free_copies(struct folio_load *fl)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	unsigned device = entry_device(fl->from), i, n;

	if (fl->done == CHUNK_PAGES) {
		device_forget(fl->sp, device, entry_payload(fl->from));
		return;
	}
	for (i = 0; i < fl->done; i += n) {
		for (n = 0; n < UHMM_BATCH_MAX && i + n < fl->done; n++)
			io[n] = (struct uhmm_io){ .page = entry_payload(fl->from) + i +
							  n };
		device_run(fl->sp->device[device], UHMM_OP_FREE, io, n);
	}
}

/* The folio's entry is LOADING. As many pages as are in memory now are. */
static void bring_back(struct folio_load *fl, bool loaded)
{
	struct uhmm_space *sp = fl->sp;
	bool over = !loaded;
	entry_t to = fl->from;
	unsigned shard;

	if (loaded && gate_try_enter(&sp->gate, &shard)) {
		over = fill(fl);
		gate_leave(&sp->gate, shard);
	}
	if (over) {
		to = entry_with_hot(entry_make(PAGE_NONE, 0, 0), 1);
		if (fl->done < CHUNK_PAGES)
			folio_split(sp, fl->chunk, fl->addr, fl->from, fl->done,
				    CHUNK_PAGES);
	}
	settle(fl, to);
	notifier_end(sp, fl->told);
	if (fl->bytes)
		huge_put(sp, fl->bytes);
	if (over)
		free_copies(fl);
	count(sp, COUNT_LOADED, fl->done);
}

/* Makes the folio LOADING; the gate is entered by shard, and left. */
static bool claim(struct folio_load *fl, unsigned shard)
{
	entry_t f = entry_load(&fl->chunk->folio);
	bool mine;

	fl->from = f;
	mine = entry_state(f) == PAGE_DEVICE &&
	       page_change(fl->sp, &fl->chunk->folio, fl->addr, &f,
			   entry_make(PAGE_LOADING, entry_payload(f), entry_device(f)));
	gate_leave(&fl->sp->gate, shard);
	return mine;
}

int resolve_device_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			 unsigned shard)
{
	struct folio_load fl = { .sp = sp, .chunk = chunk, .addr = chunk_start(addr) };
	unsigned granted;

	if (!claim(&fl, shard))
		return -EAGAIN;
	granted = budget_take(sp, CHUNK_PAGES);
	bring_back(&fl, granted == CHUNK_PAGES && load(&fl));
	budget_return(sp, granted - (fl.done < granted ? fl.done : granted));
	if (fl.done) {
		__atomic_fetch_add(&chunk->refaults, 1, __ATOMIC_RELAXED);
		count(sp, COUNT_FAULT_DEVICE, 1);
		count(sp, COUNT_PREFETCH, fl.done - 1);
	}
	return page_index(addr) < fl.done ? 0 : -EAGAIN;
}

unsigned load_device_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			   unsigned shard)
{
	struct folio_load fl = { .sp = sp, .chunk = chunk, .addr = chunk_start(addr) };

	if (claim(&fl, shard))
		bring_back(&fl, load(&fl));
	return fl.done;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing back a folio whose pages were stored on a device one by one (store_folio()):
 * where all of them are asked for and all are there still, as the huge page that it was.
 *
 * As lib/fault_folio.c, but that each page's entry is LOADING meanwhile. Where it cannot
 * be it is a folio no more, and the pages come back as pages.
 */
#include <errno.h>

#include "lib/device.h"
#include "lib/fault.h"
#include "lib/fault_internal.h"
#include "lib/gate.h"
#include "lib/huge.h"
#include "lib/migrate.h"

struct chunk_load {
	struct uhmm_space *sp;
	struct chunk *chunk;
	uintptr_t addr; /* the chunk's */
	entry_t *from;  /* CHUNK_PAGES, before they were LOADING */
	unsigned device, done;
	char *bytes; /* or NULL */
};

static void forget(struct chunk_load *cl)
{
	entry_t f = entry_load(&cl->chunk->folio);

	if (entry_state(f) == PAGE_NONE && f & ENTRY_STORED)
		page_change(cl->sp, &cl->chunk->folio, cl->addr, &f, f & ~ENTRY_STORED);
}

/* Settles pages [from, to): as they were, or in memory. */
static void settle(struct chunk_load *cl, unsigned from, unsigned to, bool back)
{
	entry_t none = entry_with_hot(entry_make(PAGE_NONE, 0, 0), 1);
	unsigned i;

	for (i = from; i < to; i++) {
		uintptr_t at = cl->addr + i * PAGE_SIZE;

		if (page_settle(cl->sp, &cl->chunk->page[i], at,
				back ? cl->from[i] : none) &
		    ENTRY_WANTED)
			os_uffd_wake(cl->sp->uffd, at, PAGE_SIZE);
	}
}

/* The gate is entered. All pages are LOADING, or none. */
static bool claim(struct chunk_load *cl)
{
	entry_t *entry = cl->chunk->page;
	unsigned i;

	/* What a driver puts where nothing is has not been isolated. */
	cl->device = entry_device(entry_load(&entry[0]));
	if (pagemap_at(cl->sp, cl->device))
		return false;
	for (i = 0; i < CHUNK_PAGES; i++) {
		entry_t e = cl->from[i] = entry_load(&entry[i]);

		if (entry_state(e) != PAGE_DEVICE || entry_device(e) != cl->device ||
		    !page_change(cl->sp, &entry[i], cl->addr + i * PAGE_SIZE, &e,
				 entry_make(PAGE_LOADING, entry_payload(e), cl->device)))
			break;
	}
	if (i == CHUNK_PAGES)
		return true;
	settle(cl, 0, i, true);
	return false;
}

/* Of [from, end) as many pages as go into a batch. Returns how many failed. */
static unsigned run(struct chunk_load *cl, enum uhmm_op op, unsigned from, unsigned end)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	unsigned n;

	for (n = 0; n < UHMM_BATCH_MAX && from + n < end; n++)
		io[n] = (struct uhmm_io){
			.page = entry_payload(cl->from[from + n]),
			.buf = cl->bytes + (from + n) * PAGE_SIZE,
			.len = PAGE_SIZE,
		};
	return device_run(cl->sp->device[cl->device], op, io, n);
}

static bool load(struct chunk_load *cl)
{
	unsigned i;

	cl->bytes = huge_get(cl->sp);
	if (!cl->bytes)
		return false;
	for (i = 0; i < CHUNK_PAGES; i += UHMM_BATCH_MAX)
		if (run(cl, UHMM_OP_LOAD, i, CHUNK_PAGES))
			return false;
	return true;
}

/* False: the gate is closed, and what was loaded may not be brought in. */
static bool fill(struct chunk_load *cl)
{
	struct uhmm_space *sp = cl->sp;
	unsigned shard;
	int64_t why;

	if (!gate_try_enter(&sp->gate, &shard))
		return false;
	cl->done = (unsigned)(huge_fill(sp, cl->addr, cl->bytes, &why) >> PAGE_SHIFT);
	settle(cl, 0, cl->done, false);
	gate_leave(&sp->gate, shard);
	return cl->done || why != -EAGAIN;
}

unsigned load_stored_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			   struct fault_buf *buf, unsigned shard)
{
	struct chunk_load cl = { .sp = sp, .chunk = chunk, .addr = addr };
	bool mine, loaded;
	unsigned i;

	_Static_assert(CHUNK_PAGES * sizeof(*cl.from) <= PAGE_SIZE,
		       "a page of the buffer");
	cl.from = (entry_t *)(void *)buf->bytes;
	mine = claim(&cl);
	gate_leave(&sp->gate, shard);
	loaded = mine && load(&cl);
	if (!loaded || fill(&cl))
		forget(&cl);
	if (mine)
		settle(&cl, cl.done, CHUNK_PAGES, true);
	for (i = 0; i < cl.done; i += UHMM_BATCH_MAX)
		run(&cl, UHMM_OP_FREE, i, cl.done);
	if (cl.bytes)
		huge_put(sp, cl.bytes);
	count(sp, COUNT_LOADED, cl.done);
	return cl.done;
}

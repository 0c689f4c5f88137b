/* SPDX-License-Identifier: Apache-2.0 */
/* Claim, load from one, store on the other, settle; what did not go stays. */
#include "lib/transfer.h"

#include "lib/device.h"
#include "lib/fault_internal.h"
#include "lib/gate.h"
#include "lib/migrate.h"

struct transfer {
	struct load ld;
	unsigned to;
	unsigned loaded; /* the first so many of ld's */
	struct uhmm_io store[UHMM_BATCH_MAX];
};

/* False: nothing is held. */
static bool claim(struct transfer *t, unsigned max, const struct fault_buf *buf)
{
	struct load *ld = &t->ld;
	struct uhmm_space *sp = ld->sp;
	unsigned shard = gate_enter(&sp->gate);
	unsigned hint = device_batch_hint(sp->device[t->to]);
	struct chunk *chunk;
	bool folio;
	const entry_t *entry = find_entry(sp, ld->addr, &chunk, &folio);
	entry_t e = entry ? entry_load(entry) : 0;

	max = max < hint ? max : hint;
	if (!folio && entry_state(e) == PAGE_DEVICE && entry_device(e) != t->to &&
	    !pagemap_at(sp, entry_device(e)))
		claim_loads(ld, chunk, max < buf->nr_pages ? max : buf->nr_pages,
			    buf->bytes);
	gate_leave(&sp->gate, shard);
	return ld->nr;
}

static void load(struct transfer *t)
{
	struct load *ld = &t->ld;

	device_run(ld->sp->device[ld->device], UHMM_OP_LOAD, ld->io, ld->nr);
	while (t->loaded < ld->nr && ld->io[t->loaded].result == 0)
		t->loaded++;
}

static void store(struct transfer *t)
{
	unsigned n;

	for (n = 0; n < t->loaded; n++)
		t->store[n] = (struct uhmm_io){ .buf = t->ld.io[n].buf,
						.len = PAGE_SIZE };
	if (t->loaded)
		device_run(t->ld.sp->device[t->to], UHMM_OP_STORE, t->store, t->loaded);
}

/* Where the page is from now on; true if that is the new device. */
static bool settle(struct transfer *t, unsigned n)
{
	struct load *ld = &t->ld;
	struct uhmm_space *sp = ld->sp;
	bool moved = n < t->loaded && t->store[n].result == 0;
	entry_t to = ld->from[n];
	uintptr_t at = ld->addr + n * PAGE_SIZE;

	if (moved)
		to = entry_with_gen(entry_make(PAGE_DEVICE, t->store[n].page, t->to),
				    store_generation(sp));
	if (page_settle(sp, ld->entry[n], at, to) & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, at, PAGE_SIZE);
	return moved;
}

static void settle_all(struct transfer *t, uint8_t *results)
{
	struct load *ld = &t->ld;
	unsigned n, nr_moved = 0;

	for (n = 0; n < ld->nr; n++) {
		bool moved = settle(t, n);

		if (n < t->loaded)
			results[n] = moved ? UHMM_MOVED : UHMM_FULL;
		if (moved)
			ld->io[nr_moved++].page = entry_payload(ld->from[n]);
	}
	if (nr_moved)
		device_run(ld->sp->device[ld->device], UHMM_OP_FREE, ld->io, nr_moved);
	count(ld->sp, COUNT_LOADED, nr_moved);
	count(ld->sp, COUNT_STORED, nr_moved);
	count(ld->sp, COUNT_STORE_FAILED, t->loaded - nr_moved);
}

unsigned transfer_pages(struct uhmm_space *sp, uintptr_t addr, unsigned max,
			unsigned device, uint8_t *results)
{
	struct transfer t = { .ld = { .sp = sp, .addr = addr }, .to = device };
	struct fault_buf buf;

	fault_buf_get(sp, &buf);
	if (claim(&t, max, &buf)) {
		/* It may have gone elsewhere between the look and the claim. */
		if (t.ld.device != device && !pagemap_at(sp, t.ld.device)) {
			load(&t);
			store(&t);
		}
		settle_all(&t, results);
	}
	fault_buf_put(sp, &buf);
	return t.loaded;
}

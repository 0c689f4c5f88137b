/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrating a range. Each call enters the world once and works on one piece of one
 * mapping in one chunk: what isolates as a folio, or up to 64 pages.
 */
#include "lib/migrate_range.h"

#include <errno.h>
#include <string.h>

#include "lib/coherent.h"
#include "lib/fault.h"
#include "lib/fault_internal.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/transfer.h"

#define TRIES_AT_ONCE 16
#define PAUSE_MAX_NS INT64_C(1000000)

/* A driver has it, for as long as it likes: not tried again; UHMM_BUSY in the end. */
#define BUSY_FOR_LONG 0xff

struct piece {
	struct uhmm_space *sp;
	struct range vma;
	uintptr_t start;
	unsigned nr, device;
	bool executable; /* and writable */
	uint8_t *results;
};

/* What lies at start: how many pages can be worked on, or are out of reach (*why). */
static unsigned look(struct piece *p, uintptr_t end, enum uhmm_result *why)
{
	unsigned nr = (unsigned)((chunk_start(p->start) + CHUNK_SIZE - p->start) >>
				 PAGE_SHIFT);
	struct os_vma vma;

	if (nr > (end - p->start) >> PAGE_SHIFT)
		nr = (unsigned)((end - p->start) >> PAGE_SHIFT);
	*why = UHMM_UNMOVABLE;
	if (os_vma_next(p->start, false, &vma))
		return nr;
	if (vma.start > p->start) {
		if (nr > (vma.start - p->start) >> PAGE_SHIFT)
			nr = (unsigned)((vma.start - p->start) >> PAGE_SHIFT);
		return nr;
	}
	if (nr > (vma.end - p->start) >> PAGE_SHIFT)
		nr = (unsigned)((vma.end - p->start) >> PAGE_SHIFT);
	p->vma = (struct range){ vma.start, vma.end };
	p->executable = vma.executable && vma.writable;
	if ((vma.kind == OS_VMA_ANON || vma.kind == OS_VMA_HEAP) &&
	    !(p->start >> ADDRESS_BITS))
		*why = UHMM_MOVED;
	return nr;
}

/* All pages of a chunk as one. False: not a folio (any more), go page by page. */
static bool try_folio(struct piece *p)
{
	struct chunk *chunk;
	bool full = false;
	entry_t f;
	unsigned n;

	if (p->nr != CHUNK_PAGES || p->executable || !is_huge(p->start) ||
	    isolate_folio(p->sp, &p->vma, p->start, ISOLATE_HOT) != (int)CHUNK_PAGES)
		return false;
	chunk = page_chunk(p->sp, p->start);
	f = entry_load(&chunk->folio);
	n = 0;
	if (entry_state(f) == PAGE_PROBATION)
		n = store_folio(p->sp, (uint32_t)(entry_payload(f) / GROUP_PAGES),
				p->start, p->device, &full);
	memset(p->results, n ? UHMM_MOVED : full ? UHMM_FULL : UHMM_BUSY, CHUNK_PAGES);
	return true;
}

static void report_stored(struct piece *p, uint32_t group, uint64_t refused)
{
	for (; refused; refused &= refused - 1) {
		unsigned i = (unsigned)__builtin_ctzll(refused);
		uint64_t slot = (uint64_t)group * GROUP_PAGES + i;
		uintptr_t addr = frame_owner(p->sp, slot);

		restore_page(p->sp, addr, slot, 3);
		if (addr - p->start < p->nr * PAGE_SIZE)
			p->results[(addr - p->start) >> PAGE_SHIFT] = UHMM_FULL;
	}
}

/*
 * Those from i on that are on one other device, as far as all are in which. How many have
 * a result now.
 */
static unsigned from_other_device(struct piece *p, unsigned i, uint64_t which)
{
	uint64_t run = which >> i;
	unsigned nr = run == ~UINT64_C(0) ? GROUP_PAGES : (unsigned)__builtin_ctzll(~run);

	return transfer_pages(p->sp, p->start + i * PAGE_SIZE, nr, p->device,
			      &p->results[i]);
}

/*
 * A page that was isolated or stored before we came, and those behind it, of which, that
 * go to their device with it. How many have a result now.
 */
static unsigned already(struct piece *p, unsigned i, uint64_t which)
{
	struct uhmm_space *sp = p->sp;
	uintptr_t addr = p->start + i * PAGE_SIZE;
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk;
	bool folio;
	entry_t *entry = find_entry(sp, addr, &chunk, &folio);
	entry_t e = entry ? entry_load(entry) : 0;
	uint64_t slot = entry_payload(e), refused;
	uint32_t group = (uint32_t)(slot / GROUP_PAGES);
	unsigned nr;

	gate_leave(&sp->gate, shard);
	if (folio && !entry_busy(e) && entry_state(e) != PAGE_MIGRATING) {
		/* It is one page with others, and goes with them, or by way of memory. */
		fault_range(sp, addr, addr + PAGE_SIZE, NULL);
		p->results[i] = UHMM_BUSY;
		return 1;
	}
	switch (entry_state(e)) {
	case PAGE_DEVICE:
		if (entry_device(e) == p->device)
			return 1;
		nr = from_other_device(p, i, which);
		if (nr)
			return nr;
		/* By way of memory, on a later round. */
		/* fallthrough */
	case PAGE_EXCLUSIVE:
		fault_range(sp, addr, addr + PAGE_SIZE, NULL);
		p->results[i] = UHMM_BUSY;
		return 1;
	case PAGE_PROBATION:
		p->results[i] = store_slots(sp, group, UINT64_C(1) << slot % GROUP_PAGES,
					    p->device, &refused) ?
					UHMM_MOVED :
					UHMM_BUSY;
		if (refused) {
			restore_page(sp, addr, slot, 3);
			p->results[i] = UHMM_FULL;
		}
		return 1;
	case PAGE_COHERENT:
		/* It is in memory, which from now on is not the page map's. */
		coherent_release(sp, addr);
		p->results[i] = UHMM_BUSY;
		return 1;
	case PAGE_MIGRATING:
		p->results[i] = BUSY_FOR_LONG;
		return 1;
	case PAGE_POISONED:
		p->results[i] = UHMM_LOST;
		return 1;
	default:
		p->results[i] = UHMM_BUSY;
		return 1;
	}
}

static void already_all(struct piece *p, uint64_t which)
{
	uint64_t left = which;
	unsigned i;

	for (; which; which &= which - 1)
		if (p->results[__builtin_ctzll(which)] != UHMM_ALREADY)
			left &= ~(which & -which);
	while (left) {
		i = (unsigned)__builtin_ctzll(left);
		left &= ~(which_first(already(p, i, left)) << i);
	}
}

static void set_results(struct piece *p, uint64_t which, enum uhmm_result result)
{
	for (; which; which &= which - 1)
		p->results[__builtin_ctzll(which)] = (uint8_t)result;
}

/* Those of up to GROUP_PAGES pages. */
static void pages(struct piece *p, uint64_t which)
{
	struct uhmm_space *sp = p->sp;
	uint32_t group = frame_group_open(sp, p->executable);
	uint64_t refused = 0;
	unsigned used;
	int r;

	set_results(p, which, UHMM_BUSY); /* until something else is known */
	if (group == GROUP_NIL)
		return;
	r = isolate_pages(sp, &p->vma, p->start, which, group, ISOLATE_HOT, p->results);
	if (r == -EBUSY)
		set_results(p, which, UHMM_ALREADY); /* a folio is isolated here */
	else if (r == -EINVAL && p->results[__builtin_ctzll(which)] == UHMM_BUSY)
		/* Not even registered: another space's, or not for userfaultfd. */
		set_results(p, which, UHMM_UNMOVABLE);
	used = frame_group(sp, group)->nr_used;
	if (used)
		store_slots(sp, group,
			    used == GROUP_PAGES ? ~UINT64_C(0) :
						  (UINT64_C(1) << used) - 1,
			    p->device, &refused);
	report_stored(p, group, refused);
	frame_group_close(sp, group, false);
	already_all(p, which);
}

static bool any_busy(const struct piece *p)
{
	return memchr(p->results, UHMM_BUSY, p->nr) != NULL;
}

static void report_busy(struct piece *p)
{
	uint8_t *at = p->results;

	while ((at = memchr(at, BUSY_FOR_LONG, (size_t)(p->results + p->nr - at))))
		*at++ = UHMM_BUSY;
}

/*
 * Pages whose holder was at work, or that an event was in the way of: once more. All at
 * once, for an event is in the way of all or none.
 */
static void again(struct piece *p)
{
	struct piece some = *p;
	unsigned i, done;
	uint64_t busy;

	for (done = 0; done < p->nr; done += some.nr) {
		some.start = p->start + done * PAGE_SIZE;
		some.results = p->results + done;
		some.nr = p->nr - done < GROUP_PAGES ? p->nr - done : GROUP_PAGES;
		for (i = 0, busy = 0; i < some.nr; i++)
			if (some.results[i] == UHMM_BUSY)
				busy |= UINT64_C(1) << i;
		if (busy)
			pages(&some, busy);
	}
}

void migrate_pause(unsigned try)
{
	unsigned doubled = try - TRIES_AT_ONCE;
	uint32_t nothing = 0;
	int64_t ns;

	if (try < TRIES_AT_ONCE) {
		os_yield();
		return;
	}
	ns = INT64_C(20000) << (doubled < 8 ? doubled : 8);
	os_wait(&nothing, 0, ns < PAUSE_MAX_NS ? ns : PAUSE_MAX_NS);
}

void migrate_some(struct uhmm_space *sp, uintptr_t start, uintptr_t end, unsigned device,
		  uint8_t *results, unsigned *done)
{
	struct piece p = {
		.sp = sp, .start = start, .device = device, .results = results
	};
	struct gate_visit visit;
	unsigned tries;
	enum uhmm_result why;

	gate_visit(&sp->world, &visit);
	p.nr = look(&p, end, &why);
	if (!device_open_at(sp, device))
		why = UHMM_FULL; /* it is being closed */
	if (why != UHMM_MOVED) {
		memset(results, why, p.nr);
	} else if (!try_folio(&p)) {
		if (p.nr > GROUP_PAGES)
			p.nr = GROUP_PAGES;
		pages(&p, which_first(p.nr));
	}
	gate_end_visit(&sp->world, &visit);
	for (tries = 0; tries < MIGRATE_TRIES && why == UHMM_MOVED && any_busy(&p);
	     tries++) {
		migrate_pause(tries);
		gate_visit(&sp->world, &visit);
		if (!device_open_at(sp, device))
			why = UHMM_BUSY;
		else
			again(&p);
		gate_end_visit(&sp->world, &visit);
	}
	report_busy(&p);
	*done = p.nr;
}

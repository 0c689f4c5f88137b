/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device with a page table of its own, on the simulated machine: it mirrors the arena,
 * asks for pages to itself alone, and reads and writes what its table has, whenever it
 * likes. What it writes the oracle writes too, so that a write that is lost, or that goes
 * to a page which is not the program's any more, is found like any other wrong byte; and
 * what its table has is compared with the oracle each time.
 *
 * Only what the program itself is changing it leaves alone, for of that it is told
 * afterwards; and while the child of a raw clone is being filled it writes nothing, for
 * such a child may see that (lib/fork_fill.c).
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/program.h"
#include "uhmm/range.h"

#define TRIES 30

struct mirror {
	struct program *p;
	struct uhmm_notifier *notifier;
	struct uhmm_lock lock; /* of the rest */
	bool released;
	uint64_t table[ARENA_PAGES];
	uhmm_pfn_t exclusive[ARENA_PAGES]; /* 0: is not */
};

static uintptr_t page_addr(unsigned page)
{
	return ARENA_BASE + page * SIM_PAGE;
}

static void invalidate(struct uhmm_notifier *n, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	struct mirror *m = ctx;
	unsigned i;

	uhmm_lock(&m->lock);
	uhmm_notifier_set_seq(n, seq);
	for (i = 0; i < m->p->nr_pages; i++)
		if (what->start < page_addr(i + 1) && page_addr(i) < what->end)
			m->table[i] = m->exclusive[i] = 0;
	m->released |= what->event == UHMM_EVENT_RELEASE;
	uhmm_unlock(&m->lock);
}

static const struct uhmm_notifier_ops ops = {
	.size = sizeof(ops),
	.invalidate = invalidate,
};

static void insert(struct mirror *m)
{
	int r = uhmm_notifier_insert(m->p->space, ARENA_BASE, m->p->nr_pages * SIM_PAGE,
				     &ops, m, &m->notifier);

	if (r)
		sim_fail("uhmm_notifier_insert: %d (%s)", r, strerror(-r));
}

void mirror_start(struct program *p)
{
	struct mirror *m = uhmm_host_map(sizeof(*m));

	if (!m)
		sim_fail("there is no memory for a mirror");
	m->p = p;
	insert(m);
	p->mirror = m;
}

/* A forked child begins without notifiers: this one is its parent's. */
void mirror_start_in_child(struct program *p)
{
	struct mirror *m = p->mirror;

	uhmm_notifier_remove(m->notifier);
	memset(m, 0, sizeof(*m));
	m->p = p;
	insert(m);
}

/* Before the space is destroyed, or after. */
void mirror_end(struct program *p, bool destroyed)
{
	struct mirror *m = p->mirror;

	if (m->released != destroyed)
		sim_fail("the mirror was%s told RELEASE", destroyed ? " not" : "");
	uhmm_notifier_remove(m->notifier);
	uhmm_host_unmap(m, sizeof(*m));
	p->mirror = NULL;
}

/* ---- what the program is changing ------------------------------------------------- */

/* The program does nothing to these pages' mappings, and has not since `before` was. */
static void remember(const struct program *p, unsigned page, unsigned nr,
		     uint32_t *before)
{
	unsigned i;

	for (i = 0; i < nr; i++)
		before[i] = p->generation[page + i] - (p->changing[page + i] != 0);
}

static bool is_unchanged(const struct program *p, unsigned page, uint32_t before)
{
	return p->generation[page] == before && !p->changing[page];
}

/* ---- the page table --------------------------------------------------------------- */

static void *bytes_of(const struct mirror *m, unsigned page)
{
	if (m->exclusive[page])
		return uhmm_pfn_bytes(m->p->space, m->exclusive[page]);
	return driver_page(m->p, m->table[page]);
}

/* With the lock: is what the table has of an unchanged page so? */
static void check(const struct mirror *m, unsigned page)
{
	uintptr_t addr = page_addr(page);
	const void *bytes;

	if (!m->table[page] && !m->exclusive[page])
		return;
	bytes = bytes_of(m, page);
	if (!bytes && !sim_present(addr))
		sim_fail("page %u is in the mirror's table, 0x%lx, and not in its place",
			 page, m->table[page]);
	if (bytes && sim_present(addr))
		sim_fail("page %u is on the device, and in its place", page);
	if (bytes && !sim_unsettled(addr) && memcmp(bytes, sim_shadow(addr), SIM_PAGE))
		sim_fail("page %u has other bytes on the device than it should", page);
}

static void use(struct mirror *m, unsigned page)
{
	uint64_t value = sim_random();
	bool writable = m->exclusive[page] || m->table[page] & UHMM_RANGE_WRITE;

	check(m, page);
	if (writable && sim_below(2) && sim_children_filled() &&
	    !sim_unsettled(page_addr(page)))
		sim_device_write(page_addr(page), bytes_of(m, page), 8 * sim_below(512),
				 &value, sizeof(value));
}

void mirror_use(struct program *p, unsigned page, unsigned nr)
{
	struct mirror *m = p->mirror;
	uint32_t before[ARENA_PAGES];
	unsigned i;

	/* What the program did before this has been told by then. */
	remember(p, page, nr, before);
	uhmm_notifier_read_begin(m->notifier);
	uhmm_lock(&m->lock);
	for (i = 0; i < nr; i++)
		if (is_unchanged(p, page + i, before[i]))
			use(m, page + i);
	uhmm_unlock(&m->lock);
}

/* Takes the lock if nothing was told since the sequence. */
static bool lock_if_current(struct mirror *m, uint64_t seq)
{
	uhmm_lock(&m->lock);
	if (!uhmm_notifier_read_retry(m->notifier, seq))
		return true;
	uhmm_unlock(&m->lock);
	return false;
}

static void fill(struct mirror *m, unsigned page, unsigned nr, const uint64_t *pfns,
		 const uint32_t *before)
{
	unsigned i;

	for (i = 0; i < nr; i++) {
		if (!(pfns[i] & UHMM_RANGE_VALID) ||
		    !is_unchanged(m->p, page + i, before[i]))
			continue;
		m->table[page + i] = pfns[i];
		m->exclusive[page + i] = 0;
		check(m, page + i);
	}
}

void mirror_map(struct program *p, unsigned page, unsigned nr)
{
	static const uint64_t requests[] = {
		0, UHMM_RANGE_REQ_FAULT, UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE
	};
	struct mirror *m = p->mirror;
	uint64_t pfns[ARENA_PAGES];
	uint32_t before[ARENA_PAGES];
	struct uhmm_range range = { .size = sizeof(range),
				    .notifier = m->notifier,
				    .start = page_addr(page),
				    .end = page_addr(page + nr),
				    .pfns = pfns,
				    .default_flags = requests[sim_below(3)],
				    .dev_private_owner = driver_owner() };
	unsigned tries;
	int r = -EBUSY;

	for (tries = 0; r == -EBUSY && tries < TRIES; tries++) {
		remember(p, page, nr, before);
		range.notifier_seq = uhmm_notifier_read_begin(m->notifier);
		r = uhmm_range_fault(&range);
		if (r == 0 && !lock_if_current(m, range.notifier_seq))
			r = -EBUSY;
	}
	sim_trace("mirror", (int64_t)range.start, (int64_t)range.end,
		  (int64_t)(range.default_flags >> 62), r);
	if (r && r != -EBUSY && r != -EFAULT && r != -EPERM)
		sim_fail("uhmm_range_fault: %d (%s)", r, strerror(-r));
	if (r)
		return;
	fill(m, page, nr, pfns, before);
	uhmm_unlock(&m->lock);
}

void mirror_exclusive(struct program *p, unsigned page)
{
	struct mirror *m = p->mirror;
	uint32_t before;
	uint64_t seq;
	uhmm_pfn_t pfn;
	unsigned tries;
	int r = -EAGAIN;

	for (tries = 0; r == -EAGAIN && tries < TRIES; tries++) {
		remember(p, page, 1, &before);
		seq = uhmm_notifier_read_begin(m->notifier);
		r = uhmm_make_exclusive(p->space, page_addr(page), m, &pfn);
		if (r == 0 && !lock_if_current(m, seq))
			r = -EAGAIN;
	}
	sim_trace("exclusive", (int64_t)page_addr(page), 0, 0, r);
	if (r && r != -EAGAIN && r != -EBUSY && r != -EFAULT && r != -EPERM &&
	    r != -EOPNOTSUPP && r != -ENOMEM)
		sim_fail("uhmm_make_exclusive: %d (%s)", r, strerror(-r));
	if (r)
		return;
	if (is_unchanged(p, page, before)) {
		m->table[page] = 0;
		m->exclusive[page] = pfn;
		use(m, page);
	}
	uhmm_unlock(&m->lock);
}

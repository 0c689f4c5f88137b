/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of two devices, on the simulated machine: one with memory of its own, which is
 * the library's kind, so that a forked child has its own copy; and a coherent one. It
 * migrates ranges in three steps, takes its time between them, leaves some pages where
 * they are, puts some back in memory, and now and then thinks better of it. In some
 * worlds it serves the faults on its own memory itself.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/program.h"
#include "uhmm/migrate.h"
#include "uhmm/range.h"

#define DEVICE_PAGES 1024u
#define SMALL_PAGES 256u /* of a device for a program without huge pages */
#define COHERENT_PAGES 128u

enum use { FREE = 0, SINGLE, HEAD, TAIL };

struct driver {
	struct program *p;
	struct uhmm_pagemap *map, *coherent;
	unsigned nr_pages;
	unsigned next, next_coherent; /* where to look for a free page */
	bool coherent_used[COHERENT_PAGES];
	char (*page)[SIM_PAGE];
	unsigned char use[DEVICE_PAGES]; /* enum use */
	uhmm_pfn_t pfn[DEVICE_PAGES];    /* of those that were ever used */
};

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	const struct driver *d = ctx;

	if (page >= d->nr_pages || d->use[page] == FREE)
		sim_fail("the library wants page %lu of the device, which is free", page);
	memcpy(buf, d->page[page], SIM_PAGE);
	return 0;
}

static int copy_folio_to_ram(void *ctx, uint64_t head, void *buf)
{
	const struct driver *d = ctx;

	if (head >= d->nr_pages || d->use[head] != HEAD)
		sim_fail("the library wants folio %lu, which is none", head);
	memcpy(buf, d->page[head], SIM_HUGE);
	return 0;
}

static void page_free(void *ctx, uint64_t page)
{
	struct driver *d = ctx;
	unsigned nr;

	if (page >= d->nr_pages || (d->use[page] != SINGLE && d->use[page] != HEAD))
		sim_fail("page %lu of the device is freed twice", page);
	nr = d->use[page] == HEAD ? UHMM_FOLIO_PAGES : 1;
	if (nr == 1)
		memset(d->page[page], 0xdb, SIM_PAGE);
	else
		uhmm_host_discard(d->page[page], SIM_HUGE);
	memset(&d->use[page], FREE, nr);
}

static void folio_split(void *ctx, uint64_t head)
{
	struct driver *d = ctx;

	if (head >= d->nr_pages || d->use[head] != HEAD)
		sim_fail("folio %lu of the device is split, which is none", head);
	memset(&d->use[head], SINGLE, UHMM_FOLIO_PAGES);
}

static void coherent_free(void *ctx, uint64_t page)
{
	struct driver *d = ctx;

	if (page >= COHERENT_PAGES || !d->coherent_used[page])
		sim_fail("page %lu of the coherent device is freed twice", page);
	d->coherent_used[page] = false;
}

static int serve(void *ctx, const struct uhmm_fault *fault);

static const struct uhmm_pagemap_ops ops = {
	.size = sizeof(ops),
	.copy_to_ram = copy_to_ram,
	.page_free = page_free,
	.folio_split = folio_split,
};

static const struct uhmm_pagemap_ops coherent_ops = {
	.size = sizeof(ops),
	.page_free = coherent_free,
};

static void start_coherent(struct program *p, struct driver *d)
{
	struct uhmm_pagemap_config config = {
		.size = sizeof(config),
		.nr_pages = COHERENT_PAGES,
		.owner = &ops,
		.ops = &coherent_ops,
		.ctx = d,
		.type = UHMM_PAGEMAP_COHERENT,
	};
	int r = uhmm_pagemap_register(p->space, &config, &d->coherent);

	if (r)
		sim_fail("uhmm_pagemap_register, coherent: %d (%s)", r, strerror(-r));
}

void driver_start(struct program *p)
{
	struct uhmm_pagemap_ops own = ops;
	struct uhmm_pagemap_config config = {
		.size = sizeof(config),
		.nr_pages = p->huge ? DEVICE_PAGES : SMALL_PAGES,
		.owner = &ops,
		.ops = &own,
	};
	struct driver *d = uhmm_host_map(sizeof(*d));
	int r = -ENOMEM;

	if (sim_below(2))
		own.copy_folio_to_ram = copy_folio_to_ram;
	if (sim_below(3) == 0)
		own.migrate_to_ram = serve;
	config.ctx = d;
	if (d) {
		d->nr_pages = (unsigned)config.nr_pages;
		d->page = uhmm_host_map(d->nr_pages * SIM_PAGE);
	}
	if (d && d->page)
		r = uhmm_pagemap_register(p->space, &config, &d->map);
	if (r)
		sim_fail("uhmm_pagemap_register: %d (%s)", r, strerror(-r));
	d->p = p;
	start_coherent(p, d);
	p->driver = d;
}

void driver_end(struct program *p, bool unregister)
{
	unsigned i;
	int r;

	if (!unregister)
		return;
	r = uhmm_pagemap_unregister(p->driver->map);
	if (r)
		sim_fail("uhmm_pagemap_unregister: %d (%s)", r, strerror(-r));
	for (i = 0; i < DEVICE_PAGES; i++)
		if (p->driver->use[i] != FREE)
			sim_fail("page %u of the device was not freed", i);
	r = uhmm_pagemap_unregister(p->driver->coherent);
	if (r)
		sim_fail("uhmm_pagemap_unregister, coherent: %d (%s)", r, strerror(-r));
	for (i = 0; i < COHERENT_PAGES; i++)
		if (p->driver->coherent_used[i])
			sim_fail("page %u of the coherent device was not freed", i);
}

void driver_free(struct program *p)
{
	uhmm_host_unmap(p->driver->page, p->driver->nr_pages * SIM_PAGE);
	uhmm_host_unmap(p->driver, sizeof(*p->driver));
}

/* A page of the device, or 0: it is full. */
static uhmm_pfn_t get_page(struct driver *d, char **bytes)
{
	uhmm_pfn_t pfn;
	unsigned i, at;

	for (i = 0; i < d->nr_pages; i++) {
		at = (d->next + i) % d->nr_pages;
		if (uhmm_page_get(d->map, at, &pfn))
			continue;
		d->use[at] = SINGLE;
		d->pfn[at] = pfn;
		d->next = at + 1;
		*bytes = d->page[at];
		return pfn;
	}
	return 0;
}

/* A folio of the device, or 0: it has no room for one. */
static uhmm_pfn_t get_folio(struct driver *d, char **bytes)
{
	uhmm_pfn_t pfn;
	unsigned head, i;

	for (head = 0; head < d->nr_pages; head += UHMM_FOLIO_PAGES) {
		if (uhmm_folio_get(d->map, head, &pfn))
			continue;
		memset(&d->use[head], TAIL, UHMM_FOLIO_PAGES);
		d->use[head] = HEAD;
		for (i = 0; i < UHMM_FOLIO_PAGES; i++)
			d->pfn[head + i] = pfn + ((uhmm_pfn_t)i << UHMM_PFN_SHIFT);
		*bytes = d->page[head];
		return pfn;
	}
	return 0;
}

static uhmm_pfn_t get_coherent(struct program *p, char **bytes)
{
	struct driver *d = p->driver;
	uhmm_pfn_t pfn;
	unsigned i, at;

	for (i = 0; i < COHERENT_PAGES; i++) {
		at = (d->next_coherent + i) % COHERENT_PAGES;
		/* Before it is got: freed is what was got, if that fails half-way too. */
		if (d->coherent_used[at])
			continue;
		d->coherent_used[at] = true;
		if (uhmm_page_get(d->coherent, at, &pfn)) {
			d->coherent_used[at] = false;
			continue;
		}
		d->next_coherent = at + 1;
		*bytes = uhmm_pfn_bytes(p->space, pfn);
		return pfn;
	}
	return 0;
}

void *driver_page(struct program *p, uint64_t pfn)
{
	uint64_t page;

	if (!p->driver || uhmm_range_pagemap(p->space, pfn, &page) != p->driver->map)
		return NULL;
	return p->driver->page[page];
}

const void *driver_owner(void)
{
	return &ops;
}

static uhmm_pfn_t get_memory(struct program *p, char **bytes)
{
	uhmm_pfn_t pfn;

	if (uhmm_page_alloc(p->space, &pfn, 1) != 1)
		return 0;
	*bytes = uhmm_pfn_bytes(p->space, pfn);
	return pfn;
}

static const char *source_bytes(struct program *p, uhmm_pfn_t src)
{
	uint64_t page;

	if (uhmm_pfn_pagemap(p->space, src, &page) == p->driver->map)
		return p->driver->page[page];
	return uhmm_pfn_bytes(p->space, src);
}

/* Where one page goes; 0: nowhere. */
static uhmm_pfn_t place(struct program *p, uhmm_pfn_t src)
{
	uhmm_pfn_t dst;
	char *bytes;

	if (!(src & UHMM_PFN_MIGRATE) || sim_below(8) == 0)
		return 0;
	if (uhmm_pfn_is_valid(src) && sim_below(4) == 0)
		dst = get_memory(p, &bytes);
	else if (sim_below(3) == 0)
		dst = get_coherent(p, &bytes);
	else
		dst = get_page(p->driver, &bytes);
	if (dst && uhmm_pfn_is_valid(src))
		memcpy(bytes, source_bytes(p, src), SIM_PAGE);
	else if (dst)
		memset(bytes, 0, SIM_PAGE);
	return dst;
}

/* A huge page, to one, to many places, or to none. */
static void place_folio(struct program *p, const uhmm_pfn_t *src, uhmm_pfn_t *dst)
{
	bool valid = uhmm_pfn_is_valid(*src);
	const char *from = valid ? source_bytes(p, *src) : NULL;
	unsigned i, nr = sim_below(8) ? UHMM_FOLIO_PAGES : sim_below(UHMM_FOLIO_PAGES);
	char *bytes = NULL;

	*dst = 0;
	if (sim_below(4)) {
		if (!valid || sim_below(4))
			*dst = get_folio(p->driver, &bytes);
		else if (!uhmm_folio_alloc(p->space, dst))
			bytes = uhmm_pfn_bytes(p->space, *dst);
	}
	if (*dst && valid)
		memcpy(bytes, from, SIM_HUGE);
	else if (*dst)
		memset(bytes, 0, SIM_HUGE);
	if (*dst || sim_below(8) == 0)
		return;
	for (i = 0; i < nr; i++) {
		dst[i] = get_page(p->driver, &bytes);
		if (dst[i] && valid)
			memcpy(bytes, from + i * SIM_PAGE, SIM_PAGE);
		else if (dst[i])
			memset(bytes, 0, SIM_PAGE);
	}
}

static void expect(const char *what, int r, int other)
{
	if (r && r != other)
		sim_fail("%s: %d (%s)", what, r, strerror(-r));
}

static unsigned setup(struct program *p, struct uhmm_migrate *m)
{
	unsigned i, nr = 0;
	int r;

	sim_trace("> setup", (int64_t)m->start, (int64_t)m->end, m->flags, 0);
	r = uhmm_migrate_setup(p->space, m);
	sim_trace("< setup", (int64_t)m->start, (int64_t)m->end, m->flags, r);
	expect("uhmm_migrate_setup", r, -EINVAL);
	if (r)
		return 0;
	for (i = 0; i < m->npages; i++)
		nr += m->src[i] != 0;
	if (nr != m->cpages)
		sim_fail("uhmm_migrate_setup: cpages is %zu, and %u are", m->cpages, nr);
	return nr;
}

static void steps(struct program *p, struct uhmm_migrate *m)
{
	size_t i;

	for (i = 0; i < m->npages; i++) {
		if (m->src[i] & UHMM_PFN_COMPOUND)
			place_folio(p, &m->src[i], &m->dst[i]);
		else if (m->src[i])
			m->dst[i] = place(p, m->src[i]);
		if (sim_below(8) == 0)
			sim_sleep(sim_below(20000));
	}
	sim_sleep(sim_below(100000));
	if (sim_below(8)) {
		expect("uhmm_migrate_pages", uhmm_migrate_pages(p->space, m), 0);
		sim_sleep(sim_below(100000));
	}
}

void driver_migrate(struct program *p, uintptr_t start, unsigned nr)
{
	uhmm_pfn_t src[ARENA_PAGES], dst[ARENA_PAGES];
	struct uhmm_migrate m = {
		.size = sizeof(m),
		.start = start,
		.end = start + nr * SIM_PAGE,
		.src = src,
		.dst = dst,
		.owner = &ops,
		.flags = 1 + sim_below(7) + (sim_below(4) ? UHMM_SELECT_COMPOUND : 0),
	};
	int r;

	if (setup(p, &m))
		steps(p, &m);
	r = uhmm_migrate_finalize(p->space, &m);
	sim_trace("finalized", (int64_t)m.start, (int64_t)m.end, 0, r);
	expect("uhmm_migrate_finalize", r, m.npages ? 0 : -EINVAL);
}

/* The driver takes its pages back, wherever they are. */
void driver_evict(struct program *p)
{
	uhmm_pfn_t src[DEVICE_PAGES], dst[DEVICE_PAGES];
	struct uhmm_migrate m = {
		.size = sizeof(m),
		.src = src,
		.dst = dst,
		.flags = sim_below(4) ? UHMM_SELECT_COMPOUND : 0,
	};
	struct driver *d = p->driver;
	unsigned i, first = sim_below(3) ? 0 : sim_below(d->nr_pages);
	unsigned nr = sim_below(2) ? d->nr_pages - first :
				     1 + sim_below(d->nr_pages - first);
	int r;

	sim_trace("> evict", first, nr, m.flags, 0);
	if (sim_below(2)) {
		r = uhmm_migrate_device_range(d->map, first, nr, &m);
	} else {
		for (i = 0; i < nr; i++)
			src[i] = d->pfn[first + i];
		r = uhmm_migrate_device_pfns(p->space, src, nr, &m);
	}
	sim_trace("< evict", first, nr, (int64_t)m.cpages, r);
	expect("uhmm_migrate_device", r, 0);
	steps(p, &m);
	r = uhmm_migrate_finalize(p->space, &m);
	sim_trace("finalized", first, nr, 0, r);
	expect("uhmm_migrate_finalize", r, 0);
}

/* What was touched goes to memory, all of it. */
static void serve_steps(struct program *p, struct uhmm_migrate *m)
{
	const char *from;
	char *bytes = NULL;
	size_t i;

	if (m->src[0] & UHMM_PFN_COMPOUND && !uhmm_folio_alloc(p->space, &m->dst[0])) {
		memcpy(uhmm_pfn_bytes(p->space, m->dst[0]), source_bytes(p, m->src[0]),
		       SIM_HUGE);
		return;
	}
	for (i = 0; i < m->npages; i++) {
		from = m->src[0] & UHMM_PFN_COMPOUND ?
			       source_bytes(p, m->src[0]) + i * SIM_PAGE :
			       source_bytes(p, m->src[i]);
		if (from)
			m->dst[i] = get_memory(p, &bytes);
		if (from && m->dst[i])
			memcpy(bytes, from, SIM_PAGE);
	}
}

/* Most faults are served; some are left to the library, some put off. */
static int serve(void *ctx, const struct uhmm_fault *fault)
{
	struct driver *d = ctx;
	uhmm_pfn_t src[UHMM_FOLIO_PAGES], dst[UHMM_FOLIO_PAGES];
	struct uhmm_migrate m = {
		.size = sizeof(m),
		.start = fault->addr,
		.end = fault->addr + SIM_PAGE,
		.src = src,
		.dst = dst,
		.owner = &ops,
		.flags = UHMM_SELECT_DEVICE_PRIVATE,
		.fault_page = fault->pfn,
	};
	uintptr_t chunk = fault->addr & ~(SIM_HUGE - 1);

	switch (sim_below(8)) {
	case 0:
		return -EIO;
	case 1:
		return 0;
	default:
		break;
	}
	if (sim_below(4) && fault->start <= chunk && chunk + SIM_HUGE <= fault->end) {
		m.start = chunk;
		m.end = chunk + SIM_HUGE;
		m.flags |= UHMM_SELECT_COMPOUND;
	}
	if (setup(d->p, &m)) {
		serve_steps(d->p, &m);
		expect("uhmm_migrate_pages", uhmm_migrate_pages(d->p->space, &m), 0);
	}
	expect("uhmm_migrate_finalize", uhmm_migrate_finalize(d->p->space, &m),
	       m.npages ? 0 : -EINVAL);
	return 0;
}

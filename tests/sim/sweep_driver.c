/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The failure sweep, of drivers: a device that takes huge pages, a coherent one, one
 * whose pages a forked child shares, and a mirror. Each is told of every page that it has
 * to give up exactly once, whatever failed.
 */
#include <errno.h>
#include <string.h>

#include "lib/os/os.h"
#include "tests/sim/program.h"
#include "tests/sim/sweep.h"
#include "uhmm/migrate.h"
#include "uhmm/range.h"
#include "uhmm/uhmm.h"

#define DEVICE_PAGES 1024u
#define PIECE 64u

/* ---- the device ------------------------------------------------------------------- */

enum use { UNUSED, PAGE, HEAD, TAIL };

struct card {
	struct uhmm_space *space;
	struct uhmm_pagemap *map;
	char *memory; /* NULL: coherent, the library's */
	unsigned char use[DEVICE_PAGES];
	unsigned next;
};

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	const struct card *c = ctx;

	if (page >= DEVICE_PAGES || c->use[page] == UNUSED)
		sim_fail("page %lu is wanted, which is free", page);
	memcpy(buf, c->memory + page * SIM_PAGE, SIM_PAGE);
	return 0;
}

static int copy_folio_to_ram(void *ctx, uint64_t head, void *buf)
{
	const struct card *c = ctx;

	if (head >= DEVICE_PAGES || c->use[head] != HEAD)
		sim_fail("folio %lu is wanted, which is none", head);
	memcpy(buf, c->memory + head * SIM_PAGE, SIM_HUGE);
	return 0;
}

static void page_free(void *ctx, uint64_t page)
{
	struct card *c = ctx;
	unsigned nr;

	if (page >= DEVICE_PAGES || (c->use[page] != PAGE && c->use[page] != HEAD))
		sim_fail("page %lu is freed twice", page);
	nr = c->use[page] == HEAD ? UHMM_FOLIO_PAGES : 1;
	memset(&c->use[page], UNUSED, nr);
}

static void folio_split(void *ctx, uint64_t head)
{
	struct card *c = ctx;

	if (head >= DEVICE_PAGES || c->use[head] != HEAD)
		sim_fail("folio %lu is split, which is none", head);
	memset(&c->use[head], PAGE, UHMM_FOLIO_PAGES);
}

static const struct uhmm_pagemap_ops private_ops = {
	.size = sizeof(private_ops),
	.copy_to_ram = copy_to_ram,
	.page_free = page_free,
	.folio_split = folio_split,
	.copy_folio_to_ram = copy_folio_to_ram,
};

static const struct uhmm_pagemap_ops coherent_ops = {
	.size = sizeof(coherent_ops),
	.page_free = page_free,
};

static const int owner;

/* False: it could not be registered, and nothing of it is left. */
static bool open_card(struct card *c, uint32_t type, uint32_t flags)
{
	bool coherent = type == UHMM_PAGEMAP_COHERENT;
	struct uhmm_pagemap_config config = {
		.size = sizeof(config),
		.nr_pages = coherent ? 128 : DEVICE_PAGES,
		.owner = &owner,
		.ops = coherent ? &coherent_ops : &private_ops,
		.ctx = c,
		.type = type,
		.flags = flags,
	};

	c->space = sweep_space();
	if (!c->space)
		return false;
	c->memory = coherent ? NULL : os_map_shared(DEVICE_PAGES * SIM_PAGE);
	if ((coherent || c->memory) &&
	    sweep_did("uhmm_pagemap_register",
		      uhmm_pagemap_register(c->space, &config, &c->map)))
		return true;
	if (c->memory)
		os_unmap_shared(c->memory, DEVICE_PAGES * SIM_PAGE);
	sweep_end_space(c->space);
	return false;
}

/*
 * As of a device outside of the process: what a child does to it we see. NULL: not to be
 * had.
 */
static struct card *new_card(uint32_t type, uint32_t flags)
{
	struct card *c = os_map_shared(sizeof(*c));

	if (!c || open_card(c, type, flags))
		return c;
	os_unmap_shared(c, sizeof(*c));
	return NULL;
}

static void close_card(struct card *c)
{
	unsigned i;

	if (!sweep_did("uhmm_pagemap_unregister", uhmm_pagemap_unregister(c->map))) {
		sim_stop_failing();
		sweep_must("uhmm_pagemap_unregister", uhmm_pagemap_unregister(c->map));
	}
	for (i = 0; i < DEVICE_PAGES; i++)
		if (c->use[i] != UNUSED)
			sim_fail("page %u of the device was not freed", i);
	sweep_end_space(c->space);
	if (c->memory)
		os_unmap_shared(c->memory, DEVICE_PAGES * SIM_PAGE);
	os_unmap_shared(c, sizeof(*c));
}

static char *card_bytes(struct card *c, uhmm_pfn_t pfn)
{
	uint64_t page;

	if (c->memory && uhmm_pfn_pagemap(c->space, pfn, &page) == c->map)
		return c->memory + page * SIM_PAGE;
	return uhmm_pfn_bytes(c->space, pfn);
}

/* ---- a migration ------------------------------------------------------------------ */

static void place(struct card *c, uhmm_pfn_t src, uhmm_pfn_t *dst)
{
	if (!(src & UHMM_PFN_MIGRATE))
		return;
	c->use[c->next] = PAGE;
	if (!sweep_did("uhmm_page_get", uhmm_page_get(c->map, c->next, dst))) {
		c->use[c->next] = UNUSED;
		return;
	}
	c->next++;
	if (uhmm_pfn_is_valid(src))
		memcpy(card_bytes(c, *dst), card_bytes(c, src), SIM_PAGE);
	else
		memset(card_bytes(c, *dst), 0, SIM_PAGE);
}

static void place_folio(struct card *c, uhmm_pfn_t src, uhmm_pfn_t *dst, unsigned head)
{
	memset(&c->use[head], TAIL, UHMM_FOLIO_PAGES);
	c->use[head] = HEAD;
	if (!sweep_did("uhmm_folio_get", uhmm_folio_get(c->map, head, dst))) {
		memset(&c->use[head], UNUSED, UHMM_FOLIO_PAGES);
		return;
	}
	memcpy(card_bytes(c, *dst), card_bytes(c, src), SIM_HUGE);
}

/* To memory: of one's own choice, as a driver does that has no room. */
static void place_in_memory(struct card *c, uhmm_pfn_t src, uhmm_pfn_t *dst)
{
	bool whole = src & UHMM_PFN_COMPOUND;

	if (!(src & UHMM_PFN_MIGRATE) || !uhmm_pfn_is_valid(src))
		return;
	if (whole ? !sweep_did("uhmm_folio_alloc", uhmm_folio_alloc(c->space, dst)) :
		    uhmm_page_alloc(c->space, dst, 1) != 1)
		return;
	memcpy(card_bytes(c, *dst), card_bytes(c, src), whole ? SIM_HUGE : SIM_PAGE);
}

static uhmm_pfn_t src[UHMM_FOLIO_PAGES], dst[UHMM_FOLIO_PAGES];

static void finish(struct card *c, struct uhmm_migrate *m)
{
	sweep_must("uhmm_migrate_pages", uhmm_migrate_pages(c->space, m));
	sweep_must("uhmm_migrate_finalize", uhmm_migrate_finalize(c->space, m));
}

/* Pages [from, from + nr) go to the device, but for each seventh. */
static void to_card(struct card *c, unsigned from, unsigned nr, uint32_t flags)
{
	struct uhmm_migrate m = { .size = sizeof(m),
				  .start = sweep_page(from),
				  .end = sweep_page(from + nr),
				  .src = src,
				  .dst = dst,
				  .owner = &owner,
				  .flags = UHMM_SELECT_SYSTEM | flags };
	unsigned i;

	memset(dst, 0, sizeof(dst));
	if (!sweep_did("uhmm_migrate_setup", uhmm_migrate_setup(c->space, &m)))
		return;
	if (nr == UHMM_FOLIO_PAGES && src[0] & UHMM_PFN_COMPOUND &&
	    src[0] & UHMM_PFN_MIGRATE)
		place_folio(c, src[0], &dst[0], UHMM_FOLIO_PAGES);
	else
		for (i = 0; i < nr; i++)
			if (i % 7 && c->next < UHMM_FOLIO_PAGES)
				place(c, src[i], &dst[i]);
	finish(c, &m);
}

/* And back, by the driver. */
static void from_card(struct card *c, unsigned from, unsigned nr, uint32_t flags)
{
	struct uhmm_migrate m = { .size = sizeof(m),
				  .start = sweep_page(from),
				  .end = sweep_page(from + nr),
				  .src = src,
				  .dst = dst,
				  .owner = &owner,
				  .flags = flags };
	unsigned i;

	memset(dst, 0, sizeof(dst));
	if (!sweep_did("uhmm_migrate_setup", uhmm_migrate_setup(c->space, &m)))
		return;
	for (i = 0; i < nr; i++) {
		place_in_memory(c, src[i], &dst[i]);
		if (src[i] & UHMM_PFN_COMPOUND)
			break;
	}
	finish(c, &m);
}

/* ---- scenarios -------------------------------------------------------------------- */

/* A huge page goes out whole and comes back whole, in pieces, and by a touch. */
void sweep_folios(void)
{
	const uint32_t whole = UHMM_SELECT_COMPOUND;
	struct card *c = new_card(UHMM_PAGEMAP_PRIVATE, 0);

	if (!c)
		return;
	to_card(c, 0, SWEEP_SMALL, whole);
	from_card(c, 0, SWEEP_SMALL, UHMM_SELECT_DEVICE_PRIVATE | whole);
	to_card(c, 0, SWEEP_SMALL, whole);
	sweep_read(7, 8);
	to_card(c, 0, SWEEP_SMALL, whole);
	from_card(c, PIECE, PIECE, UHMM_SELECT_DEVICE_PRIVATE);
	sweep_write(PIECE, PIECE + 2, 'f');
	sweep_must("mremap",
		   sim_mremap(sweep_page(200), PIECE * SIM_PAGE,
			      sweep_page(SWEEP_PAGES + 10), PIECE * SIM_PAGE, false));
	sweep_must("mremap", sim_mremap(sweep_page(SWEEP_PAGES + 10), PIECE * SIM_PAGE,
					sweep_page(200), PIECE * SIM_PAGE, false));
	sweep_did("uhmm_pagemap_evict", uhmm_pagemap_evict(c->map));
	sweep_read(0, 200);
	close_card(c);
}

void sweep_coherent(void)
{
	struct card *c = new_card(UHMM_PAGEMAP_COHERENT, 0);

	if (!c)
		return;
	to_card(c, SWEEP_SMALL, PIECE, 0);
	sweep_write(SWEEP_SMALL, SWEEP_SMALL + 20, 'g');
	from_card(c, SWEEP_SMALL, PIECE, UHMM_SELECT_DEVICE_COHERENT);
	sweep_read(SWEEP_SMALL, SWEEP_SMALL + PIECE);
	to_card(c, SWEEP_SMALL + PIECE, 40, 0);
	sweep_must("mremap",
		   sim_mremap(sweep_page(SWEEP_SMALL + PIECE), 10 * SIM_PAGE,
			      sweep_page(SWEEP_PAGES + 10), 10 * SIM_PAGE, false));
	sweep_must("dontneed",
		   sim_dontneed(sweep_page(SWEEP_SMALL + PIECE + 10), 5 * SIM_PAGE));
	sweep_did("uhmm_pagemap_evict", uhmm_pagemap_evict(c->map));
	sweep_read(SWEEP_SMALL, SWEEP_SMALL + PIECE);
	close_card(c);
}

static void child_main(void *arg)
{
	(void)arg;
	sweep_read(SWEEP_SMALL, SWEEP_SMALL + 20);
	sweep_write(SWEEP_SMALL + 20, SWEEP_SMALL + 40, 'h');
	while (!sim_children_filled())
		sim_sleep(20000);
}

/* The device is outside of the process: a page that both have is freed by the last. */
void sweep_shared(void)
{
	struct card *c = new_card(UHMM_PAGEMAP_PRIVATE, UHMM_PAGEMAP_SHARED);

	if (!c)
		return;
	to_card(c, SWEEP_SMALL, PIECE, 0);
	sweep_did("fork", sim_fork_libc(&library_atfork, child_main, NULL));
	sweep_read(SWEEP_SMALL, SWEEP_SMALL + 10);
	sweep_did("fork", sim_fork(NULL, NULL));
	sweep_read(SWEEP_SMALL, SWEEP_SMALL + PIECE);
	while (!sim_children_filled())
		sim_sleep(20000);
	sim_sleep(50000000);
	close_card(c);
}

static unsigned nr_told;

static void invalidate(struct uhmm_notifier *n, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	(void)ctx;
	(void)what;
	nr_told++;
	uhmm_notifier_set_seq(n, seq);
}

/* What a device faults on: present, away, never written, not to be had. */
static void map_range(struct uhmm_notifier *n, unsigned from, unsigned nr, uint64_t want)
{
	static uint64_t pfns[PIECE];
	struct uhmm_range range = {
		.size = sizeof(range),
		.notifier = n,
		.start = sweep_page(from),
		.end = sweep_page(from + nr),
		.pfns = pfns,
		.default_flags = want,
	};
	unsigned i;
	int r;

	memset(pfns, 0, sizeof(pfns));
	range.notifier_seq = uhmm_notifier_read_begin(n);
	r = uhmm_range_fault(&range);
	if (!sweep_did("uhmm_range_fault", r))
		return;
	for (i = 0; i < nr && want; i++)
		if (!(pfns[i] & UHMM_RANGE_VALID))
			sim_fail("page %u cannot be read by the device", from + i);
}

void sweep_mirror(void)
{
	static const struct uhmm_notifier_ops ops = { .size = sizeof(ops),
						      .invalidate = invalidate };
	struct uhmm_space *space = sweep_space();
	struct uhmm_device *dev = NULL;
	struct uhmm_notifier *n = NULL;
	uhmm_pfn_t pfn;
	unsigned i;

	if (!space)
		return;
	sweep_did("uhmm_device_open", uhmm_device_open(space, "lz4", &dev));
	if (!sweep_did("uhmm_notifier_insert",
		       uhmm_notifier_insert(space, ARENA_BASE, SWEEP_PAGES * SIM_PAGE,
					    &ops, NULL, &n))) {
		sweep_end_space(space);
		return;
	}
	nr_told = 0;
	if (dev)
		sweep_did("uhmm_migrate",
			  uhmm_migrate(space, (void *)sweep_page(SWEEP_SMALL),
				       PIECE * SIM_PAGE, dev, NULL, NULL));
	map_range(n, SWEEP_SMALL, PIECE, 0);
	map_range(n, SWEEP_SMALL, PIECE, UHMM_RANGE_REQ_FAULT);
	map_range(n, SWEEP_PAGES - 30, 30, UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE);
	for (i = 0; i < 3; i++)
		sweep_did("uhmm_make_exclusive",
			  uhmm_make_exclusive(space, sweep_page(SWEEP_SMALL + i), &owner,
					      &pfn));
	sweep_read(SWEEP_SMALL, SWEEP_SMALL + 2);
	uhmm_protection_changed(space, sweep_page(0), sweep_page(10));
	if (!nr_told)
		sim_fail("nothing was told");
	sweep_read(0, SWEEP_PAGES);
	uhmm_notifier_remove(n);
	sweep_end_space(space);
}

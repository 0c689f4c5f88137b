/* SPDX-License-Identifier: Apache-2.0 */
/* See folio.h. */
#include "folio.h"

static void set_use(struct card *c, uint64_t page, unsigned nr, uint8_t use)
{
	while (nr--)
		__atomic_store_n(&c->use[page++], use, __ATOMIC_RELEASE);
}

static uint8_t use_of(struct card *c, uint64_t page)
{
	CHECK(page < CARD_PAGES, "page %lu", (unsigned long)page);
	return __atomic_load_n(&c->use[page], __ATOMIC_ACQUIRE);
}

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	struct card *c = ctx;

	CHECK(use_of(c, page) != CARD_FREE, "page %lu is free", (unsigned long)page);
	memcpy(buf, c->page[page], PAGE);
	return c->broken == page + 1 ? -EIO : 0;
}

static void page_free(void *ctx, uint64_t page)
{
	struct card *c = ctx;
	uint8_t use = use_of(c, page);
	unsigned nr = use == CARD_HEAD ? NR : 1;

	CHECK(use == CARD_HEAD || use == CARD_SINGLE, "page %lu: %u is freed",
	      (unsigned long)page, use);
	memset(c->page[page], 0xdb, nr * PAGE);
	set_use(c, page, nr, CARD_FREE);
	__atomic_fetch_add(&c->freed, 1, __ATOMIC_RELEASE);
}

static void folio_split(void *ctx, uint64_t head)
{
	struct card *c = ctx;
	unsigned i;

	CHECK_EQ(use_of(c, head), CARD_HEAD);
	for (i = 1; i < NR; i++)
		CHECK_EQ(use_of(c, head + i), CARD_TAIL);
	set_use(c, head, NR, CARD_SINGLE);
	__atomic_fetch_add(&c->splits, 1, __ATOMIC_RELEASE);
}

static const struct uhmm_pagemap_ops ops = {
	.size = sizeof(ops),
	.copy_to_ram = copy_to_ram,
	.page_free = page_free,
	.folio_split = folio_split,
};

struct card *card_open(uint32_t delivery)
{
	struct card *c = uhmm_host_map(sizeof(*c));
	struct uhmm_pagemap_config config = { .size = sizeof(config),
					      .nr_pages = CARD_PAGES,
					      .owner = &ops,
					      .ops = &ops,
					      .ctx = c };

	CHECK(c);
	c->space = api_space(delivery, 0);
	c->page = uhmm_host_map(CARD_PAGES * PAGE);
	CHECK(c->page);
	CHECK_EQ(uhmm_pagemap_register(c->space, &config, &c->map), 0);
	return c;
}

void card_free(struct card *c)
{
	uhmm_host_unmap(c->page, CARD_PAGES * PAGE);
	uhmm_host_unmap(c, sizeof(*c));
}

void card_close(struct card *c)
{
	unsigned i;

	api_destroy(c->space);
	for (i = 0; i < CARD_PAGES; i++)
		CHECK_EQ(c->use[i], CARD_FREE);
	card_free(c);
}

uhmm_pfn_t card_get(struct card *c, bool folio)
{
	unsigned nr = folio ? NR : 1, i;
	uint64_t page;
	uhmm_pfn_t pfn;
	int r;

	if (folio && c->full)
		return 0;
	for (i = 0; i < CARD_PAGES; i += nr) {
		page = __atomic_fetch_add(&c->next, nr, __ATOMIC_RELAXED) / nr * nr;
		page %= CARD_PAGES;
		r = folio ? uhmm_folio_get(c->map, page, &pfn) :
			    uhmm_page_get(c->map, page, &pfn);
		CHECK(r == 0 || r == -EBUSY, "%d", r);
		if (r)
			continue;
		CHECK_EQ(use_of(c, page), CARD_FREE);
		set_use(c, page, nr, folio ? CARD_TAIL : CARD_SINGLE);
		if (folio)
			set_use(c, page, 1, CARD_HEAD);
		return pfn;
	}
	return 0;
}

uint64_t card_head(struct card *c)
{
	uint64_t head = 0;

	while (use_of(c, head) != CARD_HEAD)
		head += NR;
	return head;
}

unsigned card_freed(const struct card *c)
{
	return __atomic_load_n(&c->freed, __ATOMIC_ACQUIRE);
}

unsigned card_splits(const struct card *c)
{
	return __atomic_load_n(&c->splits, __ATOMIC_ACQUIRE);
}

/* ---- migrations -------------------------------------------------------------------- */

/* Not from malloc(): what is of another size there moves. */
struct move *move_new(void)
{
	struct move *mv = uhmm_host_map(sizeof(*mv));

	CHECK(mv);
	return mv;
}

void move_free(struct move *mv)
{
	uhmm_host_unmap(mv, sizeof(*mv));
}

int move_setup(struct move *mv, struct card *c, char *p, size_t nr, uint32_t flags)
{
	mv->card = c;
	mv->m = (struct uhmm_migrate){ .size = sizeof(mv->m),
				       .start = (uintptr_t)p,
				       .end = (uintptr_t)p + nr * PAGE,
				       .src = mv->src,
				       .dst = mv->dst,
				       .owner = &ops,
				       .flags = flags };
	return uhmm_migrate_setup(c->space, &mv->m);
}

static char *bytes_of(struct card *c, uhmm_pfn_t pfn)
{
	uint64_t page;

	if (uhmm_pfn_pagemap(c->space, pfn, &page) == c->map)
		return c->page[page];
	return uhmm_pfn_bytes(c->space, pfn);
}

static uhmm_pfn_t memory(struct card *c, bool folio)
{
	uhmm_pfn_t pfn = 0;

	if (folio)
		return uhmm_folio_alloc(c->space, &pfn) ? 0 : pfn;
	CHECK_EQ(uhmm_page_alloc(c->space, &pfn, 1), 1);
	return pfn;
}

static void copy_one(struct card *c, uhmm_pfn_t dst, uhmm_pfn_t src, size_t offset,
		     size_t len)
{
	if (!dst)
		return;
	if (uhmm_pfn_is_valid(src))
		memcpy(bytes_of(c, dst), bytes_of(c, src) + offset, len);
	else
		memset(bytes_of(c, dst), 0, len);
}

static void copy_folio(struct move *mv, size_t at, bool to_memory)
{
	struct card *c = mv->card;
	uhmm_pfn_t src = mv->src[at], *dst = &mv->dst[at];
	size_t i;

	*dst = to_memory ? memory(c, true) : card_get(c, true);
	if (*dst) {
		copy_one(c, *dst, src, 0, FOLIO);
		return;
	}
	for (i = 0; i < NR; i++) {
		dst[i] = to_memory ? memory(c, false) : card_get(c, false);
		copy_one(c, dst[i], src, i * PAGE, PAGE);
	}
}

void move_copy(struct move *mv, bool to_memory)
{
	struct card *c = mv->card;
	size_t i;

	for (i = 0; i < mv->m.npages; i++) {
		if (!(mv->src[i] & UHMM_PFN_MIGRATE))
			continue;
		if (mv->src[i] & UHMM_PFN_COMPOUND) {
			copy_folio(mv, i, to_memory);
			continue;
		}
		mv->dst[i] = to_memory ? memory(c, false) : card_get(c, false);
		copy_one(c, mv->dst[i], mv->src[i], 0, PAGE);
	}
}

void move_end(struct move *mv)
{
	CHECK_EQ(uhmm_migrate_pages(mv->card->space, &mv->m), 0);
	CHECK_EQ(uhmm_migrate_finalize(mv->card->space, &mv->m), 0);
}

size_t move_moved(const struct move *mv)
{
	size_t i, n = 0;

	for (i = 0; i < mv->m.npages; i++)
		if (mv->src[i] & UHMM_PFN_MIGRATE)
			n += mv->src[i] & UHMM_PFN_COMPOUND ? NR : 1;
	return n;
}

void move_out(struct card *c, char *p, size_t nr)
{
	struct move *mv = move_new();

	CHECK_EQ(move_setup(mv, c, p, nr, UHMM_SELECT_SYSTEM | UHMM_SELECT_COMPOUND), 0);
	move_copy(mv, false);
	move_end(mv);
	CHECK_EQ(move_moved(mv), nr);
	CHECK_EQ(api_resident(p, nr), 0);
	move_free(mv);
}

size_t huge_pages(const void *p)
{
	return (size_t)api_smaps_kib(p, "AnonHugePages:") * 1024 / PAGE;
}

char *map_huge(void)
{
	char *p = api_map(2 * NR);

	api_fill_huge(p, 2 * NR, 1);
	return p;
}

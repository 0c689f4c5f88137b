/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folios of page maps: UHMM_FOLIO_PAGES pages from a head on, got and freed as one. The
 * head speaks for all of them: it has the owner. See pagemap.h.
 */
#include <errno.h>

#include "lib/pagemap.h"

static struct map_page *page_at(struct uhmm_pagemap *map, uint64_t page)
{
	return &map->page[page];
}

static bool take(struct uhmm_pagemap *map, uint64_t page)
{
	uint32_t none = MAP_PAGE_FREE;

	return __atomic_compare_exchange_n(&page_at(map, page)->use, &none, MAP_PAGE_USED,
					   false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void set_use(struct uhmm_pagemap *map, uint64_t page, uint32_t use)
{
	__atomic_store_n(&page_at(map, page)->use, use, __ATOMIC_RELEASE);
}

static void set_part(struct uhmm_pagemap *map, uint64_t page, uint32_t part)
{
	__atomic_store_n(&page_at(map, page)->part, part, __ATOMIC_RELAXED);
}

int uhmm_folio_get(struct uhmm_pagemap *map, uint64_t head, uhmm_pfn_t *pfn)
{
	uint64_t i;

	if (head % CHUNK_PAGES || head >= map->nr_pages ||
	    map->nr_pages - head < CHUNK_PAGES || map->memory || map->share)
		return -EINVAL;
	for (i = 0; i < CHUNK_PAGES && take(map, head + i); i++)
		;
	if (i < CHUNK_PAGES) {
		while (i-- > 0)
			set_use(map, head + i, MAP_PAGE_FREE);
		return -EBUSY;
	}
	for (i = 0; i < CHUNK_PAGES; i++)
		set_part(map, head + i, i ? MAP_PAGE_TAIL : MAP_PAGE_HEAD);
	__atomic_fetch_add(&map->nr_used, CHUNK_PAGES, __ATOMIC_RELAXED);
	*pfn = pfn_make(map->number, head) | UHMM_PFN_COMPOUND;
	return 0;
}

void pagemap_put_folio(struct uhmm_pagemap *map, uint64_t head)
{
	uint32_t used = MAP_PAGE_USED;
	uint64_t i;

	if (!__atomic_compare_exchange_n(&page_at(map, head)->use, &used,
					 MAP_PAGE_FREEING, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return; /* it is nobody's */
	if (OPS_HAS(&map->ops, page_free))
		map->ops.page_free(map->ctx, head);
	__atomic_fetch_sub(&map->nr_used, CHUNK_PAGES, __ATOMIC_RELAXED);
	/* The head last: while it is used nobody gets the folio. */
	for (i = CHUNK_PAGES; i-- > 0;) {
		set_part(map, head + i, MAP_PAGE_SINGLE);
		set_use(map, head + i, MAP_PAGE_FREE);
	}
}

void pagemap_split(struct uhmm_pagemap *map, uint64_t head, uintptr_t addr)
{
	uint64_t i;

	for (i = 0; i < CHUNK_PAGES; i++) {
		set_part(map, head + i, MAP_PAGE_SINGLE);
		pagemap_set_owner(map, head + i, addr + i * PAGE_SIZE);
	}
	if (OPS_HAS(&map->ops, folio_split))
		map->ops.folio_split(map->ctx, head);
}

bool pagemap_is_spare_folio(const struct uhmm_pagemap *map, uint64_t head)
{
	return head < map->nr_pages && pagemap_part(map, head) == MAP_PAGE_HEAD &&
	       __atomic_load_n(&map->page[head].use, __ATOMIC_ACQUIRE) == MAP_PAGE_USED &&
	       !pagemap_owner(map, head);
}

int pagemap_load_folio(struct uhmm_pagemap *map, uint64_t head, char *buf)
{
	uint64_t i;
	int r = 0;

	if (OPS_HAS(&map->ops, copy_folio_to_ram))
		return map->ops.copy_folio_to_ram(map->ctx, head, buf);
	for (i = 0; !r && i < CHUNK_PAGES; i++)
		r = map->ops.copy_to_ram(map->ctx, head + i, buf + i * PAGE_SIZE);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pagemap.h. The page map's driver of <uhmm/device.h> is made here: its impl is the
 * page map.
 */
#include "lib/pagemap.h"

#include <errno.h>
#include <string.h>

#include "lib/device.h"
#include "lib/pagemap_share.h"

/* ---- pages ------------------------------------------------------------------------ */

static void put(struct uhmm_pagemap *map, uint64_t page)
{
	uint32_t *use = &map->page[page].use, used = MAP_PAGE_USED;
	enum map_page_part part = pagemap_part(map, page);

	if (part == MAP_PAGE_HEAD)
		pagemap_put_folio(map, page);
	if (part != MAP_PAGE_SINGLE)
		return;
	if (!__atomic_compare_exchange_n(use, &used, MAP_PAGE_FREEING, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return; /* it is nobody's */
	if ((!map->share || map_share_put(map, page)) && OPS_HAS(&map->ops, page_free))
		map->ops.page_free(map->ctx, page);
	/* Now it can be had again. */
	__atomic_fetch_sub(&map->nr_used, 1, __ATOMIC_RELAXED);
	__atomic_store_n(use, MAP_PAGE_FREE, __ATOMIC_RELEASE);
}

int pagemap_get(struct uhmm_pagemap *map, uint64_t page)
{
	uint32_t none = MAP_PAGE_FREE;

	if (page >= map->nr_pages)
		return -EINVAL;
	if (!__atomic_compare_exchange_n(&map->page[page].use, &none, MAP_PAGE_USED,
					 false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return -EBUSY;
	if (map->share && !map_share_get(map, page)) {
		__atomic_store_n(&map->page[page].use, MAP_PAGE_FREE, __ATOMIC_RELEASE);
		return -EBUSY;
	}
	__atomic_fetch_add(&map->nr_used, 1, __ATOMIC_RELAXED);
	return 0;
}

void uhmm_page_put(struct uhmm_pagemap *map, uint64_t page)
{
	if (page < map->nr_pages)
		put(map, page);
}

bool pagemap_is_spare(const struct uhmm_pagemap *map, uint64_t page)
{
	return page < map->nr_pages &&
	       __atomic_load_n(&map->page[page].use, __ATOMIC_ACQUIRE) == MAP_PAGE_USED &&
	       pagemap_part(map, page) == MAP_PAGE_SINGLE && !pagemap_owner(map, page);
}

void pagemap_put_spares(struct uhmm_pagemap *map)
{
	uint64_t page;

	for (page = 0; page < map->nr_pages; page++)
		if (pagemap_is_spare(map, page) || pagemap_is_spare_folio(map, page))
			put(map, page);
}

struct uhmm_pagemap *uhmm_pfn_pagemap(struct uhmm_space *sp, uhmm_pfn_t pfn,
				      uint64_t *page)
{
	if (!uhmm_pfn_is_valid(pfn) || !pfn_device(pfn))
		return NULL;
	*page = pfn_page(pfn);
	return pagemap_at(sp, pfn_device(pfn));
}

/* ---- as a device ------------------------------------------------------------------ */

static void map_close(void *impl)
{
	(void)impl; /* pagemap_free() */
}

static int load_page(const struct uhmm_pagemap *map, uint64_t page, void *buf)
{
	if (!map->memory)
		return map->ops.copy_to_ram(map->ctx, page, buf);
	memcpy(buf, (const void *)pagemap_addr(map, page), PAGE_SIZE);
	return 0;
}

static int map_submit(void *impl, struct uhmm_batch *batch)
{
	struct uhmm_pagemap *map = impl;
	uint32_t i;

	for (i = 0; i < batch->nr; i++) {
		struct uhmm_io *io = &batch->io[i];

		switch (batch->op) {
		case UHMM_OP_LOAD:
			io->result = load_page(map, io->page, io->buf);
			break;
		case UHMM_OP_FREE:
			io->result = 0;
			pagemap_set_owner(map, io->page, 0);
			put(map, io->page);
			break;
		default:
			io->result = -ENOSPC; /* pages come here by a migration only */
			break;
		}
	}
	batch->complete(batch);
	return 0;
}

static int map_after_fork(void *impl)
{
	struct uhmm_pagemap *map = impl;

	return OPS_HAS(&map->ops, after_fork) ? map->ops.after_fork(map->ctx) : 0;
}

static void map_stat(void *impl, struct uhmm_device_stat *stat)
{
	const struct uhmm_pagemap *map = impl;

	stat->pages = __atomic_load_n(&map->nr_used, __ATOMIC_RELAXED);
	stat->bytes_in = stat->bytes_stored = stat->pages * PAGE_SIZE;
	stat->bytes_metadata = stat->pages * sizeof(struct map_page);
	stat->bytes_resident = stat->bytes_metadata;
}

static const struct uhmm_driver map_driver = {
	.size = sizeof(map_driver),
	.name = "pagemap",
	.summary = "memory of a driver's device",
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = UHMM_BATCH_MAX,
	.close = map_close,
	.submit = map_submit,
	.after_fork = map_after_fork,
	.stat = map_stat,
};

/* ---- making ----------------------------------------------------------------------- */

void pagemap_free(struct uhmm_pagemap *map)
{
	map_share_free(map);
	if (map->memory)
		os_release(map->memory, map->nr_pages * PAGE_SIZE);
	if (map->page)
		uhmm_host_unmap(map->page, map->nr_pages * sizeof(*map->page));
	uhmm_host_unmap(map, sizeof(*map));
}

static bool is_valid(const struct uhmm_pagemap_config *c)
{
	return c && c->size >= sizeof(*c) && c->nr_pages &&
	       c->nr_pages < UHMM_DEVICE_PAGE_LIMIT && c->owner && c->ops &&
	       c->ops->size <= sizeof(*c->ops) && c->type <= UHMM_PAGEMAP_COHERENT &&
	       !(c->flags & ~UHMM_PAGEMAP_SHARED) &&
	       !(c->flags && c->type == UHMM_PAGEMAP_COHERENT) &&
	       (c->type == UHMM_PAGEMAP_COHERENT || OPS_HAS(c->ops, copy_to_ram));
}

/* Addresses; a page takes memory when it is used. */
static int make_memory(struct uhmm_pagemap *map)
{
	size_t size = map->nr_pages * PAGE_SIZE;

	__atomic_fetch_add(&map->sp->nr_coherent, 1, __ATOMIC_RELEASE);
	map->memory = os_reserve(size);
	if (!map->memory || os_commit(map->memory, size) ||
	    os_uffd_register(map->sp->uffd, (uintptr_t)map->memory, size))
		return -ENOMEM;
	return 0;
}

void pagemap_register_memory(struct uhmm_space *sp)
{
	const struct uhmm_pagemap *map;
	unsigned i;

	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (map && map->memory)
			os_uffd_register(sp->uffd, (uintptr_t)map->memory,
					 map->nr_pages * PAGE_SIZE);
	}
}

int pagemap_make(struct uhmm_space *sp, const struct uhmm_pagemap_config *c,
		 struct uhmm_pagemap **out)
{
	struct uhmm_pagemap *map;

	if (!is_valid(c))
		return -EINVAL;
	map = uhmm_host_map(sizeof(*map));
	if (!map)
		return -ENOMEM;
	map->sp = sp;
	map->nr_pages = c->nr_pages;
	map->owner = c->owner;
	memcpy(&map->ops, c->ops, c->ops->size);
	map->ctx = c->ctx;
	map->page = uhmm_host_map(map->nr_pages * sizeof(*map->page));
	if (!map->page || (c->type == UHMM_PAGEMAP_COHERENT && make_memory(map)) ||
	    (c->flags & UHMM_PAGEMAP_SHARED && map_share_make(map)) ||
	    device_wrap(&map_driver, map, &map->dev)) {
		pagemap_free(map);
		return -ENOMEM;
	}
	*out = map;
	return 0;
}

void *uhmm_pagemap_memory(struct uhmm_pagemap *map)
{
	return map->memory;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* See device.h. */
#include "compat/dmirror/device.h"

#include <sched.h>
#include <string.h>

#include "compat/dmirror/table.h"

#define CHUNK_SIZE (CHUNK_PAGES * PAGE)
#define TABLE_SIZE (CHUNK_BLOCKS * sizeof(struct block))
/* Some seconds, for a thread that has a few instructions to go. */
#define GET_TRIES 1000000

void *device_bytes(const struct device *d, uint64_t page)
{
	return d->chunk[page / CHUNK_PAGES].memory + page % CHUNK_PAGES * PAGE;
}

void *device_pfn_bytes(const struct device *d, uhmm_pfn_t pfn)
{
	uint64_t page;

	if (!d->coherent && uhmm_pfn_pagemap(d->space, pfn, &page) == d->pagemap)
		return device_bytes(d, page);
	return uhmm_pfn_bytes(d->space, pfn);
}

/* ---- what the library calls ------------------------------------------------------- */

/* No lock: fork() may be copying our memory, and the page is nobody else's now. */
static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	const struct device *d = ctx;

	memcpy(buf, device_bytes(d, page), PAGE);
	return 0;
}

static int copy_folio_to_ram(void *ctx, uint64_t head, void *buf)
{
	const struct device *d = ctx;

	memcpy(buf, device_bytes(d, head), BLOCK_PAGES * PAGE);
	return 0;
}

static struct block *block_of(const struct device *d, uint64_t page)
{
	return &d->chunk[page / CHUNK_PAGES].block[page % CHUNK_PAGES / BLOCK_PAGES];
}

static void page_free(void *ctx, uint64_t page)
{
	struct device *d = ctx;
	struct block *b = block_of(d, page);
	unsigned i = page % BLOCK_PAGES, nr = 1;

	uhmm_lock(&d->lock);
	if (b->folio) {
		nr = BLOCK_PAGES;
		*b = (struct block){ 0 };
	} else {
		b->used[i / 64] &= ~(UINT64_C(1) << i % 64);
		b->nr_used--;
	}
	d->chunk[page / CHUNK_PAGES].nr_used -= nr;
	uhmm_unlock(&d->lock);
}

static void folio_split(void *ctx, uint64_t head)
{
	struct device *d = ctx;

	uhmm_lock(&d->lock);
	block_of(d, head)->folio = false;
	uhmm_unlock(&d->lock);
}

static const struct uhmm_pagemap_ops ops = {
	.size = sizeof(ops),
	.copy_to_ram = copy_to_ram,
	.page_free = page_free,
	.folio_split = folio_split,
	.copy_folio_to_ram = copy_folio_to_ram,
};

int device_init(struct device *d, struct uhmm_space *space, unsigned number)
{
	struct uhmm_pagemap_config config = { .size = sizeof(config),
					      .nr_pages = DEVICE_PAGES_MAX,
					      .owner = d,
					      .ops = &ops,
					      .ctx = d };

	*d = (struct device){
		.space = space,
		.number = number,
		.coherent = number >= DMIRROR_DEVICES / 2,
	};
	config.type = d->coherent ? UHMM_PAGEMAP_COHERENT : UHMM_PAGEMAP_PRIVATE;
	return uhmm_pagemap_register(space, &config, &d->pagemap);
}

/* ---- chunks ----------------------------------------------------------------------- */

static void chunk_unmap(struct chunk *c)
{
	if (c->block)
		uhmm_host_unmap(c->block, TABLE_SIZE);
	if (c->memory)
		uhmm_host_unmap(c->memory, CHUNK_SIZE);
	*c = (struct chunk){ 0 };
}

static bool chunk_map(const struct device *d, struct chunk *c)
{
	*c = (struct chunk){ .block = uhmm_host_map(TABLE_SIZE) };
	if (c->block && !d->coherent)
		c->memory = uhmm_host_map(CHUNK_SIZE);
	if (c->block && (c->memory || d->coherent))
		return true;
	chunk_unmap(c);
	return false;
}

/* One more chunk, if there may be one. */
static bool grow(struct device *d)
{
	struct chunk new;
	unsigned n;

	if (!chunk_map(d, &new))
		return false;
	uhmm_lock(&d->lock);
	for (n = 0; n < DEVICE_CHUNKS_MAX && d->chunk[n].block; n++)
		;
	if (n < DEVICE_CHUNKS_MAX) {
		d->chunk[n] = new;
		new = (struct chunk){ 0 };
	}
	uhmm_unlock(&d->lock);
	chunk_unmap(&new);
	return n < DEVICE_CHUNKS_MAX;
}

/* Takes the chunks away that are empty. */
static void shrink(struct device *d)
{
	struct chunk gone[DEVICE_CHUNKS_MAX] = { 0 };
	unsigned n;

	uhmm_lock(&d->lock);
	for (n = 0; n < DEVICE_CHUNKS_MAX; n++) {
		if (!d->chunk[n].block || d->chunk[n].nr_used)
			continue;
		gone[n] = d->chunk[n];
		d->chunk[n] = (struct chunk){ 0 };
	}
	uhmm_unlock(&d->lock);
	for (n = 0; n < DEVICE_CHUNKS_MAX; n++)
		chunk_unmap(&gone[n]);
}

/* ---- allocation ------------------------------------------------------------------- */

/* Under the lock: block n, if the device has it. */
static struct block *block_at(const struct device *d, unsigned n)
{
	struct block *block = d->chunk[n / CHUNK_BLOCKS].block;

	return block ? &block[n % CHUNK_BLOCKS] : NULL;
}

/*
 * Under the lock: a block with room, the last one as long as it has some, and one that
 * is in use already before one that could be a folio. NR_BLOCKS: none.
 */
static unsigned find_block(const struct device *d, bool empty)
{
	const struct block *b = block_at(d, d->last);
	unsigned n, found = NR_BLOCKS;

	if (!empty && b && b->nr_used && b->nr_used < BLOCK_PAGES)
		return d->last;
	for (n = 0; n < NR_BLOCKS; n++) {
		b = block_at(d, n);
		if (!b)
			n += CHUNK_BLOCKS - 1;
		else if (b->nr_used && b->nr_used < BLOCK_PAGES && !empty)
			return n;
		else if (!b->nr_used && found == NR_BLOCKS)
			found = n;
	}
	return found;
}

static bool take_page(struct device *d, uint64_t *page)
{
	struct block *b;
	unsigned n, i;

	uhmm_lock(&d->lock);
	n = find_block(d, false);
	if (n < NR_BLOCKS) {
		b = block_at(d, n);
		for (i = 0; !~b->used[i]; i++)
			;
		*page = (uint64_t)n * BLOCK_PAGES + i * 64 +
			(unsigned)__builtin_ctzll(~b->used[i]);
		b->used[i] |= b->used[i] + 1;
		b->nr_used++;
		d->chunk[n / CHUNK_BLOCKS].nr_used++;
		d->last = n;
	}
	uhmm_unlock(&d->lock);
	return n < NR_BLOCKS;
}

static bool take_folio(struct device *d, uint64_t *head)
{
	struct block *b;
	unsigned n;

	uhmm_lock(&d->lock);
	n = find_block(d, true);
	if (n < NR_BLOCKS) {
		b = block_at(d, n);
		memset(b->used, 0xff, sizeof(b->used));
		b->nr_used = BLOCK_PAGES;
		b->folio = true;
		d->chunk[n / CHUNK_BLOCKS].nr_used += BLOCK_PAGES;
		*head = (uint64_t)n * BLOCK_PAGES;
	}
	uhmm_unlock(&d->lock);
	return n < NR_BLOCKS;
}

typedef bool take_fn(struct device *d, uint64_t *page);
typedef int get_fn(struct uhmm_pagemap *map, uint64_t page, uhmm_pfn_t *pfn);

/* page_free() may not have returned yet: then it does in a moment. */
static bool get(struct device *d, take_fn *take, get_fn *from_map, uhmm_pfn_t *pfn)
{
	unsigned tries;
	uint64_t page;

	while (!take(d, &page))
		if (!grow(d))
			return false;
	for (tries = 0; tries < GET_TRIES; tries++) {
		if (from_map(d->pagemap, page, pfn) == 0)
			return true;
		sched_yield();
	}
	page_free(d, page);
	return false;
}

size_t device_alloc(struct device *d, size_t nr, uhmm_pfn_t *pfns)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (!get(d, take_page, uhmm_page_get, &pfns[i]))
			break;
	return i;
}

bool device_alloc_folio(struct device *d, uhmm_pfn_t *pfn)
{
	return !d->coherent && get(d, take_folio, uhmm_folio_get, pfn);
}

/* ---- eviction --------------------------------------------------------------------- */

int device_evict(struct device *d)
{
	int r = uhmm_pagemap_evict(d->pagemap);

	shrink(d);
	return r;
}

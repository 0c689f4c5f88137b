/* SPDX-License-Identifier: Apache-2.0 */
/* See device.h. */
#include "compat/dmirror/device.h"

#include <sched.h>
#include <string.h>

#include "compat/dmirror/table.h"

#define NO_PAGE ((uint32_t)DEVICE_PAGES_MAX)
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

static void page_free(void *ctx, uint64_t page)
{
	struct device *d = ctx;
	struct chunk *c = &d->chunk[page / CHUNK_PAGES];

	uhmm_lock(&d->lock);
	c->next[page % CHUNK_PAGES] = d->free;
	c->nr_used--;
	d->free = (uint32_t)page;
	uhmm_unlock(&d->lock);
}

static const struct uhmm_pagemap_ops ops = {
	.size = sizeof(ops),
	.copy_to_ram = copy_to_ram,
	.page_free = page_free,
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
		.free = NO_PAGE,
	};
	config.type = d->coherent ? UHMM_PAGEMAP_COHERENT : UHMM_PAGEMAP_PRIVATE;
	return uhmm_pagemap_register(space, &config, &d->pagemap);
}

/* ---- chunks ----------------------------------------------------------------------- */

static void chunk_unmap(struct chunk *c)
{
	if (c->next)
		uhmm_host_unmap(c->next, CHUNK_PAGES * sizeof(*c->next));
	if (c->memory)
		uhmm_host_unmap(c->memory, CHUNK_PAGES * PAGE);
	*c = (struct chunk){ 0 };
}

static bool chunk_map(const struct device *d, struct chunk *c)
{
	*c = (struct chunk){ .next = uhmm_host_map(CHUNK_PAGES * sizeof(*c->next)) };
	if (c->next && !d->coherent)
		c->memory = uhmm_host_map(CHUNK_PAGES * PAGE);
	if (c->next && (c->memory || d->coherent))
		return true;
	chunk_unmap(c);
	return false;
}

/* One more chunk, if there may be one. */
static bool grow(struct device *d)
{
	struct chunk new;
	uint64_t first, i;
	unsigned n;

	if (!chunk_map(d, &new))
		return false;
	uhmm_lock(&d->lock);
	for (n = 0; n < DEVICE_CHUNKS_MAX && d->chunk[n].next; n++)
		;
	/* Somebody else's may do as well. */
	if (n < DEVICE_CHUNKS_MAX && d->free == NO_PAGE) {
		first = n * CHUNK_PAGES;
		for (i = 0; i < CHUNK_PAGES; i++)
			new.next[i] = i + 1 < CHUNK_PAGES ? (uint32_t)(first + i + 1) :
							    d->free;
		d->free = (uint32_t)first;
		d->chunk[n] = new;
		new = (struct chunk){ 0 };
	}
	uhmm_unlock(&d->lock);
	chunk_unmap(&new);
	return n < DEVICE_CHUNKS_MAX;
}

static bool take(struct device *d, uint64_t *page)
{
	struct chunk *c;

	uhmm_lock(&d->lock);
	*page = d->free;
	if (*page != NO_PAGE) {
		c = &d->chunk[*page / CHUNK_PAGES];
		d->free = c->next[*page % CHUNK_PAGES];
		c->nr_used++;
	}
	uhmm_unlock(&d->lock);
	return *page != NO_PAGE;
}

/* page_free() may not have returned yet: then it does in a moment. */
static bool get(struct device *d, uint64_t page, uhmm_pfn_t *pfn)
{
	unsigned tries;

	for (tries = 0; tries < GET_TRIES; tries++) {
		if (uhmm_page_get(d->pagemap, page, pfn) == 0)
			return true;
		sched_yield();
	}
	return false;
}

size_t device_alloc(struct device *d, size_t nr, uhmm_pfn_t *pfns)
{
	uint64_t page;
	size_t i;

	for (i = 0; i < nr; i++) {
		while (!take(d, &page))
			if (!grow(d))
				return i;
		if (!get(d, page, &pfns[i])) {
			page_free(d, page);
			return i;
		}
	}
	return nr;
}

/* Takes the free pages of empty chunks off the list, and the chunks away. */
static void shrink(struct device *d)
{
	struct chunk gone[DEVICE_CHUNKS_MAX] = { 0 };
	uint32_t *at = &d->free;
	unsigned n;

	uhmm_lock(&d->lock);
	while (*at != NO_PAGE) {
		struct chunk *c = &d->chunk[*at / CHUNK_PAGES];
		uint32_t *next = &c->next[*at % CHUNK_PAGES];

		if (c->nr_used)
			at = next;
		else
			*at = *next;
	}
	for (n = 0; n < DEVICE_CHUNKS_MAX; n++) {
		if (!d->chunk[n].next || d->chunk[n].nr_used)
			continue;
		gone[n] = d->chunk[n];
		d->chunk[n] = (struct chunk){ 0 };
	}
	uhmm_unlock(&d->lock);
	for (n = 0; n < DEVICE_CHUNKS_MAX; n++)
		chunk_unmap(&gone[n]);
}

int device_evict(struct device *d)
{
	int r = uhmm_pagemap_evict(d->pagemap);

	shrink(d);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A device that a test itself is. See board.h. */
#include "board.h"

const char board_owner[] = "board";

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	const struct board *b = ctx;

	memcpy(buf, b->page[page], PAGE);
	return b->broken ? -EIO : 0;
}

static void page_free(void *ctx, uint64_t page)
{
	struct board *b = ctx;

	if (!b->coherent)
		memset(b->page[page], 0xdb, PAGE);
	__atomic_fetch_add(&b->freed, 1, __ATOMIC_RELAXED);
}

static int migrate_to_ram(void *ctx, const struct uhmm_fault *fault)
{
	struct board *b = ctx;

	__atomic_fetch_add(&b->faults, 1, __ATOMIC_RELAXED);
	return b->to_ram(b, fault);
}

unsigned board_freed(const struct board *b)
{
	return __atomic_load_n(&b->freed, __ATOMIC_RELAXED);
}

unsigned board_faults(const struct board *b)
{
	return __atomic_load_n(&b->faults, __ATOMIC_RELAXED);
}

static struct board *open_any(uint32_t delivery, bool coherent, bool shared,
			      int (*to_ram)(struct board *, const struct uhmm_fault *))
{
	struct uhmm_pagemap_ops ops = {
		.size = sizeof(ops),
		.copy_to_ram = coherent ? NULL : copy_to_ram,
		.page_free = page_free,
		.migrate_to_ram = to_ram ? migrate_to_ram : NULL,
	};
	struct uhmm_pagemap_config config = {
		.size = sizeof(config),
		.nr_pages = DEVICE_PAGES,
		.owner = board_owner,
		.ops = &ops,
		.type = coherent ? UHMM_PAGEMAP_COHERENT : UHMM_PAGEMAP_PRIVATE,
		.flags = shared ? UHMM_PAGEMAP_SHARED : 0,
	};
	struct board *b = uhmm_host_map(sizeof(*b));

	CHECK(b);
	b->coherent = coherent;
	b->shared = shared;
	b->to_ram = to_ram;
	b->space = api_space(delivery, 0);
	config.ctx = b;
	if (shared)
		b->page = mmap(NULL, DEVICE_PAGES * PAGE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	else if (!coherent)
		b->page = uhmm_host_map(DEVICE_PAGES * PAGE);
	CHECK(coherent || (b->page && b->page != MAP_FAILED));
	CHECK_EQ(uhmm_pagemap_register(b->space, &config, &b->map), 0);
	return b;
}

struct board *board_open(uint32_t delivery)
{
	return open_any(delivery, false, false, NULL);
}

struct board *board_open_coherent(uint32_t delivery)
{
	return open_any(delivery, true, false, NULL);
}

struct board *board_open_serving(uint32_t delivery,
				 int (*to_ram)(struct board *, const struct uhmm_fault *))
{
	return open_any(delivery, false, false, to_ram);
}

struct board *board_open_shared(uint32_t delivery)
{
	return open_any(delivery, false, true, NULL);
}

void board_close(struct board *b)
{
	api_destroy(b->space);
	board_free(b);
}

void board_free(struct board *b)
{
	if (b->shared)
		munmap(b->page, DEVICE_PAGES * PAGE);
	else if (b->page)
		uhmm_host_unmap(b->page, DEVICE_PAGES * PAGE);
	uhmm_host_unmap(b, sizeof(*b));
}

int steps_setup(struct steps *s, struct board *b, char *p, size_t nr, uint32_t flags)
{
	*s = (struct steps){ .board = b };
	s->m = (struct uhmm_migrate){ .size = sizeof(s->m),
				      .start = (uintptr_t)p,
				      .end = (uintptr_t)p + nr * PAGE,
				      .src = s->src,
				      .dst = s->dst,
				      .owner = board_owner,
				      .flags = flags };
	return uhmm_migrate_setup(b->space, &s->m);
}

void *board_bytes(struct board *b, uhmm_pfn_t pfn)
{
	uint64_t page;

	if (b->page && uhmm_pfn_pagemap(b->space, pfn, &page) == b->map)
		return b->page[page];
	return uhmm_pfn_bytes(b->space, pfn);
}

uhmm_pfn_t board_get(struct board *b)
{
	uhmm_pfn_t pfn;
	unsigned next;

	do
		next = __atomic_fetch_add(&b->next, 1, __ATOMIC_RELAXED);
	while (uhmm_page_get(b->map, next % DEVICE_PAGES, &pfn));
	return pfn;
}

void steps_copy(struct steps *s, bool to_memory)
{
	struct board *b = s->board;
	size_t i;

	for (i = 0; i < s->m.npages; i++) {
		if (!(s->src[i] & UHMM_PFN_MIGRATE))
			continue;
		if (to_memory)
			CHECK_EQ(uhmm_page_alloc(b->space, &s->dst[i], 1), 1);
		else
			s->dst[i] = board_get(b);
		if (uhmm_pfn_is_valid(s->src[i]))
			memcpy(board_bytes(b, s->dst[i]), board_bytes(b, s->src[i]),
			       PAGE);
		else
			memset(board_bytes(b, s->dst[i]), 0, PAGE);
	}
}

size_t steps_moved(const struct steps *s)
{
	size_t i, n = 0;

	for (i = 0; i < s->m.npages; i++)
		n += (s->src[i] & UHMM_PFN_MIGRATE) != 0;
	return n;
}

void steps_end(struct steps *s)
{
	CHECK_EQ(uhmm_migrate_pages(s->board->space, &s->m), 0);
	CHECK_EQ(uhmm_migrate_finalize(s->board->space, &s->m), 0);
}

void board_take(struct board *b, char *p, size_t nr)
{
	struct steps s;

	CHECK_EQ(steps_setup(&s, b, p, nr, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(s.m.cpages, nr);
	steps_copy(&s, false);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), nr);
	CHECK_EQ(api_resident(p, nr), b->coherent ? nr : 0);
	CHECK_EQ(api_stats(b->space).now_device, nr);
}

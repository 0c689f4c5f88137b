/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the library's own. See host.h.
 *
 * A region is one reservation of 2^n pages. Its first pages hold struct region and, for
 * each order, the set of its free blocks of that order: a buddy allocator whose free
 * lists are bit trees, because free pages must not be written (they have no memory) and
 * because the least member keeps the used part of a region dense. Pages are committed
 * from the region's start as far as a run ever reached.
 *
 * Invariants, all under host.lock:
 * - a page is in a run, in exactly one free block, or in the region's head;
 * - of two buddies below the largest order at most one is free: otherwise they are one;
 * - a free block reads as zeros (unmap discards before it gives the block back);
 * - host.avail[order] has a region's bit exactly if it has a free block of that order.
 *
 * Failure: no address space or no commit gives NULL; nothing is half done.
 */
#include "lib/host.h"

#include <string.h>

#include "lib/assert.h"
#include "lib/host_bits.h"
#include "lib/host_pages.h"
#include "lib/os/os.h"

#define PAGE ((size_t)UHMM_PAGE_SIZE)

/* The largest run of a region, 1 GiB; larger ones are reservations of their own. */
#define RUN_ORDER_MAX 18u
#define NR_ORDERS (RUN_ORDER_MAX + 1)
/* The first region is small, because a limit on address space may be; each doubles. */
#define REGION_ORDER_MIN 14u /* 64 MiB */
#define REGION_ORDER_MAX 28u /* 1 TiB */
/* Regions double: 20 of them are 32 TiB. The rest is for reservations that failed. */
#define REGIONS_MAX 64u
/* Commit at least 2 MiB at a time. */
#define COMMIT_MIN 512u

struct region {
	char *base;
	uint32_t order;     /* it has 2^order pages */
	uint32_t head;      /* of these, taken by this struct and the sets */
	uint32_t committed; /* pages from base that can be read */
	struct bits free[NR_ORDERS];
};

static struct {
	struct uhmm_lock lock;
	uint32_t nr_regions;
	uint64_t avail[NR_ORDERS]; /* a bit for each region */
	struct region *region[REGIONS_MAX];
	uint64_t used_pages; /* of runs, rounded up to their order */
	struct host_stat stat;
} host;

static uint64_t region_pages(const struct region *r)
{
	return UINT64_C(1) << r->order;
}

static size_t round_up(size_t n, size_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* ---- blocks -------------------------------------------------------------------- */

static void block_add(uint32_t r, unsigned order, uint32_t block)
{
	bits_set(&host.region[r]->free[order], block);
	host.avail[order] |= UINT64_C(1) << r;
}

static void block_remove(uint32_t r, unsigned order, uint32_t block)
{
	struct bits *free = &host.region[r]->free[order];

	bits_clear(free, block);
	if (bits_first(free) == BITS_NONE)
		host.avail[order] &= ~(UINT64_C(1) << r);
}

static void block_give(uint32_t r, unsigned order, uint32_t block)
{
	while (order < RUN_ORDER_MAX &&
	       bits_test(&host.region[r]->free[order], block ^ 1)) {
		block_remove(r, order, block ^ 1);
		block /= 2;
		order++;
	}
	block_add(r, order, block);
}

/* The region a block of this order comes from, or -1. */
static int block_take(unsigned order, uint32_t *block)
{
	unsigned o = order;
	uint32_t r, b;

	while (o < NR_ORDERS && !host.avail[o])
		o++;
	if (o == NR_ORDERS)
		return -1;
	r = (uint32_t)__builtin_ctzll(host.avail[o]);
	b = bits_first(&host.region[r]->free[o]);
	block_remove(r, o, b);
	while (o-- > order) {
		b *= 2;
		block_add(r, o, b + 1);
	}
	*block = b;
	return (int)r;
}

/* ---- regions ------------------------------------------------------------------- */

static int region_commit(struct region *r, uint64_t end)
{
	uint64_t step = round_up(r->committed / 4, COMMIT_MIN);
	uint64_t goal = round_up(end, step ? step : COMMIT_MIN);
	char *from = r->base + r->committed * PAGE;

	if (end <= r->committed)
		return 0;
	if (goal > region_pages(r))
		goal = region_pages(r);
	if (os_commit(from, (goal - r->committed) * PAGE)) {
		goal = end;
		if (os_commit(from, (goal - r->committed) * PAGE))
			return -1;
	}
	r->committed = (uint32_t)goal;
	return 0;
}

/* Splits what follows the head into blocks. */
static void region_fill(uint32_t index)
{
	struct region *r = host.region[index];
	uint64_t page = r->head, end = region_pages(r);

	while (page < end) {
		unsigned order = (unsigned)__builtin_ctzll(page);

		if (order > RUN_ORDER_MAX)
			order = RUN_ORDER_MAX;
		while (page + (UINT64_C(1) << order) > end)
			order--;
		block_add(index, order, (uint32_t)(page >> order));
		page += UINT64_C(1) << order;
	}
}

static int region_make(unsigned order)
{
	uint64_t pages = UINT64_C(1) << order, *words;
	size_t bytes = sizeof(struct region);
	struct region *r;
	unsigned o;

	for (o = 0; o < NR_ORDERS; o++)
		bytes += bits_words((pages >> o) + 1) * sizeof(uint64_t);
	bytes = round_up(bytes, PAGE);
	r = os_reserve(pages * PAGE);
	if (!r)
		return -1;
	if (os_commit(r, round_up(bytes, COMMIT_MIN * PAGE))) {
		os_release(r, pages * PAGE);
		return -1;
	}
	r->base = (char *)r;
	r->order = order;
	r->head = (uint32_t)(bytes / PAGE);
	r->committed = (uint32_t)(round_up(bytes, COMMIT_MIN * PAGE) / PAGE);
	words = (uint64_t *)(r + 1);
	for (o = 0; o < NR_ORDERS; o++) {
		bits_init(&r->free[o], (pages >> o) + 1, words);
		words += bits_words((pages >> o) + 1);
	}
	host.stat.bytes_reserved += pages * PAGE;
	host.region[host.nr_regions] = r;
	region_fill(host.nr_regions++);
	return 0;
}

/* As large as all regions so far and larger than the run; smaller if that cannot be. */
static int region_grow(unsigned run_order)
{
	unsigned order = REGION_ORDER_MIN;

	if (host.nr_regions == REGIONS_MAX)
		return -1;
	while (order < REGION_ORDER_MAX &&
	       (order <= run_order || PAGE << order < host.stat.bytes_reserved))
		order++;
	for (; order >= REGION_ORDER_MIN && order > run_order; order--)
		if (!region_make(order))
			return 0;
	return -1;
}

static uint32_t region_find(const char *addr)
{
	uint32_t i;

	for (i = 0; i < host.nr_regions; i++) {
		const struct region *r = host.region[i];

		if (addr >= r->base && (size_t)(addr - r->base) < region_pages(r) * PAGE)
			return i;
	}
	os_die("internal error: memory returned that was never mapped");
}

/* ---- runs ---------------------------------------------------------------------- */

static unsigned run_order(size_t nr_pages)
{
	return nr_pages > 1 ? 64 - (unsigned)__builtin_clzll(nr_pages - 1) : 0;
}

static void *run_take(size_t nr_pages)
{
	unsigned order = run_order(nr_pages);
	struct region *region;
	uint32_t block;
	uint64_t page;
	int r = block_take(order, &block);

	if (r < 0 && !region_grow(order))
		r = block_take(order, &block);
	if (r < 0)
		return NULL;
	region = host.region[r];
	page = (uint64_t)block << order;
	if (region_commit(region, page + nr_pages)) {
		block_give((uint32_t)r, order, block);
		return NULL;
	}
	host.used_pages += UINT64_C(1) << order;
	return region->base + page * PAGE;
}

static void run_give(char *addr, size_t nr_pages)
{
	unsigned order = run_order(nr_pages);
	uint32_t r = region_find(addr);
	uint64_t page = (size_t)(addr - host.region[r]->base) / PAGE;
	unsigned o;

	/* Not what was mapped with this size. */
	assert_always(page % (UINT64_C(1) << order) == 0);
	/* Free already, perhaps as part of a larger block. */
	for (o = order; o < NR_ORDERS; o++)
		assert_always(
			!bits_test(&host.region[r]->free[o], (uint32_t)(page >> o)));
	block_give(r, order, (uint32_t)(page >> order));
	host.used_pages -= UINT64_C(1) << order;
}

/* A reservation of its own for a run larger than regions have. */
static void *map_alone(size_t size_bytes)
{
	void *addr = os_reserve(size_bytes);

	if (addr && os_commit(addr, size_bytes)) {
		os_release(addr, size_bytes);
		return NULL;
	}
	return addr;
}

static void count(size_t size_bytes, int runs)
{
	host.stat.runs += (uint64_t)(int64_t)runs;
	host.stat.bytes_mapped += runs > 0 ? size_bytes : -size_bytes;
}

void *uhmm_host_map(size_t size_bytes)
{
	size_t size = round_up(size_bytes, PAGE);
	bool alone = size / PAGE > (size_t)1 << RUN_ORDER_MAX;
	void *addr;

	if (size == 0 || size < size_bytes)
		return NULL;
	addr = alone ? map_alone(size) : NULL;
	uhmm_lock(&host.lock);
	if (!alone)
		addr = run_take(size / PAGE);
	if (addr)
		count(size, 1);
	uhmm_unlock(&host.lock);
	return addr;
}

void uhmm_host_unmap(void *addr, size_t size_bytes)
{
	size_t size = round_up(size_bytes, PAGE);
	bool alone = size / PAGE > (size_t)1 << RUN_ORDER_MAX;

	if (!addr)
		return;
	if (alone)
		os_release(addr, size);
	else
		uhmm_host_discard(addr, size);
	uhmm_lock(&host.lock);
	if (!alone)
		run_give(addr, size / PAGE);
	count(size, -1);
	uhmm_unlock(&host.lock);
}

void uhmm_host_discard(void *addr, size_t size_bytes)
{
	size_t size = round_up(size_bytes, PAGE);

	/* Locked memory (mlockall) cannot be given back, but it must read as zeros. */
	if (os_discard(addr, size))
		memset(addr, 0, size);
}

/* ---- fork, tests --------------------------------------------------------------- */

void host_fork_prepare(void)
{
	host_pages_fork_prepare();
	uhmm_lock(&host.lock);
}

void host_fork_done(void)
{
	uhmm_unlock(&host.lock);
	host_pages_fork_done();
}

void host_forget(void)
{
	memset(&host, 0, sizeof(host));
	host_pages_forget();
}

void host_stat(struct host_stat *stat)
{
	uhmm_lock(&host.lock);
	*stat = host.stat;
	stat->regions = host.nr_regions;
	uhmm_unlock(&host.lock);
}

void host_for_each(void (*fn)(void *ctx, void *addr, size_t size_bytes), void *ctx)
{
	uint32_t i;

	for (i = 0; i < host.nr_regions; i++)
		fn(ctx, host.region[i]->base, host.region[i]->committed * PAGE);
}

/* Free pages of a region, or UINT64_MAX if a block is free twice or was not merged. */
static uint64_t region_count_free(const struct region *r)
{
	uint64_t pages = 0;
	unsigned order, o;
	uint32_t b;

	for (order = 0; order < NR_ORDERS; order++)
		for (b = 0; b < region_pages(r) >> order; b++) {
			if (b % 64 == 0 && !r->free[order].level[0][b / 64]) {
				b += 63;
				continue;
			}
			if (!bits_test(&r->free[order], b))
				continue;
			pages += UINT64_C(1) << order;
			if (order < RUN_ORDER_MAX && bits_test(&r->free[order], b ^ 1))
				return UINT64_MAX;
			for (o = order + 1; o < NR_ORDERS; o++)
				if (bits_test(&r->free[o], b >> (o - order)))
					return UINT64_MAX;
		}
	return pages;
}

int host_is_valid(void)
{
	uint64_t total = 0, accounted;
	bool valid = true;
	unsigned order;
	uint32_t i;

	uhmm_lock(&host.lock);
	accounted = host.used_pages;
	for (i = 0; i < host.nr_regions; i++) {
		const struct region *r = host.region[i];
		uint64_t free = region_count_free(r);

		valid = valid && free <= region_pages(r) &&
			r->committed <= region_pages(r);
		total += region_pages(r);
		accounted += r->head + free;
		for (order = 0; order < NR_ORDERS; order++)
			valid = valid &&
				(host.avail[order] >> i & 1) ==
					(bits_first(&r->free[order]) != BITS_NONE);
	}
	valid = valid && accounted == total && total * PAGE == host.stat.bytes_reserved;
	uhmm_unlock(&host.lock);
	return valid;
}

void host_reset(void)
{
	uint32_t i;

	for (i = 0; i < host.nr_regions; i++)
		os_release(host.region[i]->base, region_pages(host.region[i]) * PAGE);
	host_forget();
}

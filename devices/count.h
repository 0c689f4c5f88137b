/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a driver counts for struct uhmm_device_stat: in shards, one for each CPU or so, so
 * that threads do not meet there. Zeroed is empty. Any thread.
 */
#ifndef UHMM_DEVICES_COUNT_H
#define UHMM_DEVICES_COUNT_H

#include <stddef.h>
#include <stdint.h>

#include "uhmm/device.h"

#define COUNT_SHARDS 64u

/* Relaxed atomics: differences, since a page is often freed on another CPU. */
struct counts {
	int64_t pages, same, raw, bytes_in;
	int64_t stores, loads, frees, store_failures, load_failures;
} __attribute__((aligned(128)));

struct count {
	struct counts shard[COUNT_SHARDS];
};

static inline struct counts *count_here(struct count *count)
{
	return &count->shard[uhmm_host_cpu() % COUNT_SHARDS];
}

static inline void count_add(int64_t *counter, int64_t n)
{
	if (n)
		__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* Of a batch of which so many pages were stored. */
static inline void count_stored(struct counts *c, uint32_t nr, uint32_t stored,
				int64_t bytes)
{
	count_add(&c->pages, stored);
	count_add(&c->stores, stored);
	count_add(&c->bytes_in, bytes);
	count_add(&c->store_failures, nr - stored);
}

static inline void count_loaded(struct counts *c, uint32_t nr, uint32_t loaded)
{
	count_add(&c->loads, loaded);
	count_add(&c->load_failures, nr - loaded);
}

static inline void count_freed(struct counts *c, uint32_t nr, int64_t bytes)
{
	count_add(&c->pages, -(int64_t)nr);
	count_add(&c->frees, nr);
	count_add(&c->bytes_in, -bytes);
}

/* The sum of one counter over the shards. */
static inline uint64_t count_sum(const struct count *count, size_t member)
{
	int64_t total = 0;
	uint32_t i;

	for (i = 0; i < COUNT_SHARDS; i++)
		total += __atomic_load_n(
			(const int64_t *)((const char *)&count->shard[i] + member),
			__ATOMIC_RELAXED);
	/* Seen between a free and the store it undoes. */
	return total > 0 ? (uint64_t)total : 0;
}

/* All that is counted here. */
static inline void count_stat(const struct count *count, struct uhmm_device_stat *stat)
{
#define COUNT_SUM(member_) count_sum(count, offsetof(struct counts, member_))
	stat->pages = COUNT_SUM(pages);
	stat->pages_same = COUNT_SUM(same);
	stat->pages_raw = COUNT_SUM(raw);
	stat->bytes_in = COUNT_SUM(bytes_in);
	stat->stores = COUNT_SUM(stores);
	stat->loads = COUNT_SUM(loads);
	stat->frees = COUNT_SUM(frees);
	stat->store_failures = COUNT_SUM(store_failures);
	stat->load_failures = COUNT_SUM(load_failures);
#undef COUNT_SUM
}

#endif

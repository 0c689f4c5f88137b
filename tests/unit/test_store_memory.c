/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the packed store takes: beyond the bytes that were put, by its own account and by
 * the kernel's; under a limit; and what it gives back.
 */
#define _GNU_SOURCE
#include "tests/unit/store_items.h"

#include <fcntl.h>
#include <sched.h>

/*
 * Slots are taken in pages by the CPU that asks for them, so how much fits under a limit
 * depends on where the thread runs. On a machine without this CPU it stays where it is.
 */
static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* ---- density and memory -------------------------------------------------------- */

/* Pages of the library's own memory that are resident, by the kernel's account. */
static void count_resident(void *ctx, void *addr, size_t size_bytes)
{
	uint64_t entry[512], *pages = ctx;
	size_t page, nr = size_bytes / 4096, i;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	CHECK(fd >= 0);
	for (page = 0; page < nr; page += 512) {
		size_t n = nr - page < 512 ? nr - page : 512;

		CHECK_EQ(pread(fd, entry, n * 8,
			       (off_t)((uintptr_t)addr / 4096 + page) * 8),
			 (ssize_t)(n * 8));
		for (i = 0; i < n; i++)
			*pages += entry[i] >> 63;
	}
	close(fd);
}

static uint64_t kernel_resident_bytes(void)
{
	uint64_t pages = 0;

	host_for_each(count_resident, &pages);
	return pages * 4096;
}

/* Memory beyond the bytes put, in hundredths of a percent of them. */
static uint64_t overhead(struct uhmm_store *store)
{
	struct uhmm_store_stat stat;

	uhmm_store_stat(store, &stat);
	return (stat.bytes_resident - stat.bytes_requested) * 10000 /
	       stat.bytes_requested;
}

static void check_density(uint32_t nr)
{
	struct uhmm_store *store = store_create(0);
	struct item *items = calloc(nr, sizeof(*items));
	uint64_t full, half, compacted, again;
	uint32_t i, round;

	for (i = 0; i < nr; i++)
		CHECK_EQ(item_put(store, &items[i], i, page_like(item_mix(i))), 0);
	full = overhead(store);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < nr; i++)
			if (item_mix(i + 1000003u * round) % 2)
				item_free(store, &items[i]);
		half = overhead(store);
		uhmm_store_compact(store, UINT64_MAX);
		compacted = overhead(store);
		CHECK_VALID(store);
		for (i = 0; i < nr; i++)
			if (!items[i].live)
				CHECK_EQ(item_put(store, &items[i], i,
						  page_like(
							  item_mix(i ^ item_mix(round)))),
					 0);
		again = overhead(store);
		fprintf(stderr,
			"# %u objects: overhead %.2f%% full, %.2f%% half, "
			"%.2f%% compacted, %.2f%% refilled\n",
			nr, (double)full / 100, (double)half / 100,
			(double)compacted / 100, (double)again / 100);
		CHECK_LE(full, 1000);
		CHECK_LE(compacted, 1000);
		CHECK_LE(again, 1000);
		/* Without being asked, by what frees do. */
		CHECK_LE(half, 1000);
	}
	for (i = 0; i < nr; i++)
		item_check(store, &items[i]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
	free(items);
}

TEST(overhead_is_at_most_a_tenth)
{
	check_density(40000);
	check_density(150000);
}

TEST(resident_is_what_the_kernel_says)
{
	uint64_t base, objects = 0;
	struct uhmm_store_stat stat;
	struct uhmm_store *store;
	static struct item items[20000];
	uint32_t i, step;

	/* The allocator's own pages are not the store's: let it have touched them. */
	uhmm_host_unmap(uhmm_host_map(4096), 4096);
	base = kernel_resident_bytes();
	store = store_create(0);
	for (step = 0; step < 4; step++) {
		for (i = 0; i < 20000; i++)
			if (!items[i].live)
				objects += !item_put(store, &items[i], i,
						     page_like(item_mix(i)));
		for (i = 0; i < 20000; i++)
			if (item_mix(i + step * 77) % 4 < step)
				item_free(store, &items[i]);
		if (step == 3)
			uhmm_store_compact(store, UINT64_MAX);
		uhmm_store_stat(store, &stat);
		/* 64 KiB: sets of the host's free blocks that were touched since. */
		CHECK_GE(kernel_resident_bytes() - base + 65536, stat.bytes_resident);
		CHECK_LE(kernel_resident_bytes() - base, stat.bytes_resident + 65536);
	}
	CHECK_GT(objects, 20000);
	uhmm_store_destroy(store);
	CHECK_LE(kernel_resident_bytes(), base + 65536);
}

TEST(fill_free_fill_does_not_grow)
{
	struct uhmm_store *store = store_create(0);
	static struct item items[20000];
	struct uhmm_store_stat first, stat;
	struct host_stat host_first, host;
	uint32_t i, round;

	for (round = 0; round < 6; round++) {
		for (i = 0; i < 20000; i++)
			CHECK_EQ(item_put(store, &items[i], i,
					  i % 5 ? page_like(item_mix(i)) : 0),
				 0);
		uhmm_store_stat(store, &stat);
		host_stat(&host);
		if (round == 0) {
			first = stat;
			host_first = host;
		}
		/* A page of slots more for each CPU that this thread ran on meanwhile. */
		CHECK_LE(stat.bytes_resident,
			 first.bytes_resident + STORE_SHARDS * UINT64_C(4096));
		CHECK_LE(host.bytes_mapped, host_first.bytes_mapped);
		CHECK_LE(host.bytes_reserved, host_first.bytes_reserved);
		/* Another order each time. */
		for (i = 0; i < 20000; i++)
			item_free(store, &items[(i * 7919u + round * 31u) % 20000]);
		CHECK_VALID(store);
		uhmm_store_stat(store, &stat);
		CHECK_EQ(stat.objects, 0);
		CHECK_EQ(stat.bytes_requested, 0);
		/* What is left are tables, and a page of slots for each CPU's shard. */
		CHECK_LE(store->slot_pages, store->nr_shards);
		CHECK_LE(stat.bytes_resident, (60 + STORE_SHARDS) * UINT64_C(4096));
	}
	uhmm_store_destroy(store);
}

/* Sizes drift: what was freed in one class must come to the help of another. */
TEST(a_full_store_makes_room_for_other_sizes)
{
	struct uhmm_store *store = store_create(UINT64_C(8) << 20);
	static struct item items[65536];
	uint32_t nr = 0, i, again = 0;

	while (item_put(store, &items[nr], nr, 600) == 0)
		nr++;
	for (i = 0; i < nr; i += 2)
		item_free(store, &items[i]);
	while (item_put(store, &items[nr + again], again, 3000) == 0)
		again++;
	/* Half of 8 MiB, less what cannot be had. */
	CHECK_GT(again, 1200);
	CHECK_VALID(store);
	for (i = 1; i < nr; i += 2)
		item_check(store, &items[i]);
	uhmm_store_destroy(store);
}

/* Puts objects of all sizes until the store is full. */
static uint32_t fill_up(struct uhmm_store *store, struct item *items)
{
	uint32_t nr = 0;
	int r;

	while ((r = item_put(store, &items[nr], nr, page_like(item_mix(nr)))) == 0)
		nr++;
	CHECK_EQ(r, -ENOSPC);
	return nr;
}

TEST(a_limit_holds_and_room_comes_back)
{
	struct uhmm_store *store = store_create(UINT64_C(4) << 20);
	static struct item items[32768];
	struct uhmm_store_stat stat;
	uint32_t nr, i;

	run_on(0);
	nr = fill_up(store, items);
	uhmm_store_stat(store, &stat);
	CHECK_LE(stat.bytes_resident, UINT64_C(4) << 20);
	CHECK_GT(stat.bytes_requested, UINT64_C(3) << 20);
	CHECK_VALID(store);
	for (i = 0; i < nr; i++)
		item_check(store, &items[i]);
	for (i = 0; i < nr; i++)
		item_free(store, &items[i]);
	for (i = 0; i < nr; i++)
		CHECK_EQ(item_put(store, &items[i], i, page_like(item_mix(i))), 0);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
	CHECK_EQ(uhmm_store_create(1, &store), -ENOSPC);
}

/* A thread that moves between CPUs has half-used slots on each of them. */
TEST(room_comes_back_on_other_cpus_but_for_a_page_each)
{
	struct uhmm_store *store = store_create(UINT64_C(4) << 20);
	static struct item items[32768];
	struct uhmm_store_stat stat;
	uint64_t refused = 0;
	uint32_t nr, i;

	run_on(0);
	nr = fill_up(store, items);
	for (i = 0; i < nr; i++)
		item_free(store, &items[i]);
	for (i = 0; i < nr; i++) {
		run_on((int)(i / 64 % store->nr_shards));
		if (item_put(store, &items[i], i, page_like(item_mix(i))))
			refused += items[i].len;
	}
	/* What did not fit began on those pages and may end on the next. */
	CHECK_LE(refused, (store->nr_shards - 1) * UINT64_C(8192));
	uhmm_store_stat(store, &stat);
	CHECK_LE(stat.bytes_resident, UINT64_C(4) << 20);
	CHECK_VALID(store);
	for (i = 0; i < nr; i++)
		if (items[i].live)
			item_check(store, &items[i]);
	uhmm_store_destroy(store);
}

TEST(in_a_full_store_a_slot_of_another_cpu_will_do)
{
	struct uhmm_store *store = store_create(UINT64_C(4) << 20);
	static struct item items[32768];
	uint32_t nr, i;

	run_on(0);
	nr = fill_up(store, items);
	run_on(1);
	for (i = 0; i < nr; i++) {
		item_free(store, &items[i]);
		CHECK_EQ(item_put(store, &items[i], i, items[i].len), 0);
	}
	CHECK_VALID(store);
	for (i = 0; i < nr; i++)
		item_check(store, &items[i]);
	uhmm_store_destroy(store);
}

/* What frees left loose is had by values too, which need nothing but slots. */
TEST(a_full_store_makes_room_for_slots)
{
	struct uhmm_store *store = store_create(UINT64_C(4) << 20);
	static struct item items[32768], values[(4u << 20) / 8];
	uint32_t nr, i, nr_values = 0;

	run_on(0);
	nr = fill_up(store, items);
	for (i = 0; i < nr; i += 2)
		item_free(store, &items[i]);
	while (item_put(store, &values[nr_values], nr_values, 0) == 0)
		nr_values++;
	/* Of the half that was freed. */
	CHECK_GT(nr_values, (1u << 20) / 8);
	CHECK_EQ(uhmm_store_compact(store, UINT64_MAX), 0);
	CHECK_VALID(store);
	for (i = 0; i < nr; i++)
		if (items[i].live)
			item_check(store, &items[i]);
	for (i = 0; i < nr_values; i++)
		item_check(store, &values[i]);
	uhmm_store_destroy(store);
}

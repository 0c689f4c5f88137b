/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the library's own runs out: at each allocation of what a scenario takes, one
 * after the other. What was asked for fails with -ENOMEM, what was there stays as it was,
 * and what had been taken for it is given back.
 *
 * From some time on the kernel commits no more, and all that had been committed is taken;
 * so many pages of it in a row are given back, one more each time, until they suffice.
 */
#include <sys/mman.h>

#include "lib/device.h"
#include "tests/system/os/refuse.h"
#include "tests/unit/store_items.h"

#define HOARD 200000u
#define ITEMS 600u
#define COMMITTED ((size_t)32 << 20)

static void *hoard[HOARD];
static unsigned nr_hoarded;

static int by_address(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return (x > y) - (x < y);
}

static void take_all(void)
{
	while ((hoard[nr_hoarded] = uhmm_host_map(UHMM_PAGE_SIZE)))
		CHECK(++nr_hoarded < HOARD);
}

/* Nothing is committed any more, and nothing is free. */
static void run_out(void)
{
	uhmm_host_unmap(uhmm_host_map(COMMITTED), COMMITTED);
	refuse(SYS_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM);
	take_all();
	qsort(hoard, nr_hoarded, sizeof(hoard[0]), by_address);
	CHECK(nr_hoarded > 100);
}

static struct host_stat stat_now(void)
{
	struct host_stat stat;

	host_stat(&stat);
	return stat;
}

/* More pages each time. fn: true, it had enough. */
static void until_enough(bool (*fn)(void))
{
	struct host_stat before, after;
	unsigned pages;
	bool done = false;

	run_out();
	for (pages = 0; !done; pages++) {
		CHECK(nr_hoarded > 0);
		before = stat_now();
		done = fn();
		after = stat_now();
		CHECK_EQ(after.runs, before.runs);
		CHECK_EQ(after.bytes_mapped, before.bytes_mapped);
		CHECK(host_is_valid());
		uhmm_host_unmap(hoard[--nr_hoarded], UHMM_PAGE_SIZE);
	}
	CHECK(pages > 1);
}

/* ---- the store -------------------------------------------------------------------- */

static struct item items[ITEMS];

/* How many could be put. */
static unsigned put_items(struct uhmm_store *store)
{
	unsigned i;
	int r;

	for (i = 0; i < ITEMS; i++) {
		r = item_put(store, &items[i], i, i % 5 ? page_like(item_mix(i)) : 0);
		if (r) {
			CHECK_EQ(r, -ENOMEM);
			break;
		}
	}
	return i;
}

static bool fill_store(void)
{
	struct uhmm_store *store = NULL;
	unsigned nr, i;
	int r = uhmm_store_create(0, &store);

	if (r) {
		CHECK_EQ(r, -ENOMEM);
		CHECK(!store);
		return false;
	}
	nr = put_items(store);
	CHECK_VALID(store);
	for (i = 0; i < nr; i++)
		item_check(store, &items[i]);
	for (i = 0; i < nr; i += 3)
		item_free(store, &items[i]);
	uhmm_store_compact(store, UINT64_MAX);
	CHECK_VALID(store);
	for (i = 0; i < nr; i++)
		if (items[i].live)
			item_check(store, &items[i]);
	uhmm_store_destroy(store);
	return nr == ITEMS;
}

TEST(a_store_without_memory_keeps_what_it_has, .timeout_s = 120)
{
	until_enough(fill_store);
}

/* ---- devices ---------------------------------------------------------------------- */

static const char *spec;

static bool open_device(void)
{
	struct uhmm_device *dev = NULL;
	char error[256] = "";
	int r = device_open(spec, &dev, error, sizeof(error));

	if (r) {
		CHECK_EQ(r, -ENOMEM);
		CHECK(!dev && strstr(error, spec));
		return false;
	}
	device_close(dev);
	return true;
}

TEST(a_device_without_memory_says_so)
{
	spec = "ram";
	until_enough(open_device);
}

TEST(a_compressing_device_without_memory_says_so)
{
	spec = "lz4";
	until_enough(open_device);
}

/* ---- what there is of it ---------------------------------------------------------- */

#define MIB ((size_t)1 << 20)

TEST(a_run_that_cannot_be_committed_is_none)
{
	struct host_stat before;
	void *small = uhmm_host_map(UHMM_PAGE_SIZE), *large;

	CHECK(small != NULL);
	large = uhmm_host_map(1100 * MIB);
	CHECK(large != NULL);
	memset(large, 1, MIB);
	uhmm_host_unmap(large, 1100 * MIB);
	before = stat_now();
	refuse(SYS_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM);
	/* Of a region, of a new one, alone. */
	CHECK(!uhmm_host_map(16 * MIB));
	CHECK(!uhmm_host_map(512 * MIB));
	CHECK(!uhmm_host_map(1100 * MIB));
	CHECK(!uhmm_host_map(0));
	CHECK(!uhmm_host_map(SIZE_MAX));
	CHECK_EQ(stat_now().runs, before.runs);
	CHECK_EQ(stat_now().bytes_mapped, before.bytes_mapped);
	CHECK(host_is_valid());
	uhmm_host_unmap(small, UHMM_PAGE_SIZE);
}

/* A quarter of what there is is committed ahead; if that cannot be, what is wanted is. */
TEST(less_is_committed_where_more_cannot_be)
{
	void *small = uhmm_host_map(UHMM_PAGE_SIZE), *run;

	CHECK(small != NULL);
	refuse(SYS_mprotect, 1, 16 * MIB, ENOMEM);
	run = uhmm_host_map(14 * MIB + UHMM_PAGE_SIZE);
	CHECK(run != NULL);
	memset(run, 1, 14 * MIB + UHMM_PAGE_SIZE);
	CHECK(host_is_valid());
	uhmm_host_unmap(run, 14 * MIB + UHMM_PAGE_SIZE);
	uhmm_host_unmap(small, UHMM_PAGE_SIZE);
}

TEST(memory_that_cannot_be_discarded_is_zeros_all_the_same)
{
	char *run = uhmm_host_map(4 * UHMM_PAGE_SIZE), *again;

	CHECK(run != NULL);
	memset(run, 7, 4 * UHMM_PAGE_SIZE);
	refuse(SYS_madvise, 2, MADV_DONTNEED, EPERM);
	uhmm_host_discard(run, 2 * UHMM_PAGE_SIZE);
	CHECK(run[0] == 0 && run[2 * UHMM_PAGE_SIZE - 1] == 0 &&
	      run[2 * UHMM_PAGE_SIZE] == 7);
	uhmm_host_unmap(run, 4 * UHMM_PAGE_SIZE);
	again = uhmm_host_map(4 * UHMM_PAGE_SIZE);
	CHECK(again == run && again[3 * UHMM_PAGE_SIZE] == 0);
	uhmm_host_unmap(again, 4 * UHMM_PAGE_SIZE);
}

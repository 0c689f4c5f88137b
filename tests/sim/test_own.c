/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's count of the library's own memory is the same whatever the host
 * does with its memory meanwhile: it decides what the library does, and a seed must do
 * the same each time.
 */
#include <string.h>
#include <sys/mman.h>

#include "lib/os/os.h"
#include "tests/sim/sim.h"
#include "tests/test.h"

#define PAGES 64u
#define SIZE (PAGES * SIM_PAGE)

static volatile char *own_get(void)
{
	volatile char *own = os_reserve(SIZE);

	CHECK(own);
	CHECK_EQ(os_commit((void *)own, SIZE), 0);
	return own;
}

/* What the host does by itself to memory that is not touched for a while. */
static void reclaim_by_host(volatile char *own)
{
	madvise((void *)own, SIZE, MADV_PAGEOUT);
}

static void reads(void *arg __attribute__((unused)))
{
	volatile char *own = own_get();
	int64_t before = os_rss_anon_pages(NULL);
	unsigned i;

	for (i = 0; i < PAGES; i++)
		CHECK_EQ(own[i * SIM_PAGE], 0);
	CHECK_EQ(os_rss_anon_pages(NULL), before);
	reclaim_by_host(own);
	CHECK_EQ(os_rss_anon_pages(NULL), before);
	os_release((void *)own, SIZE);
}

static void writes(void *arg __attribute__((unused)))
{
	volatile char *own = own_get();
	int64_t before = os_rss_anon_pages(NULL);
	unsigned i;

	for (i = 0; i < PAGES; i += 2)
		own[i * SIM_PAGE + i] = 1;
	CHECK_EQ(os_rss_anon_pages(NULL), before + PAGES / 2);
	reclaim_by_host(own);
	CHECK_EQ(os_rss_anon_pages(NULL), before + PAGES / 2);
	CHECK_EQ(os_discard((void *)own, SIZE / 2), 0);
	CHECK_EQ(os_rss_anon_pages(NULL), before + PAGES / 4);
	for (i = 0; i < PAGES; i += 2)
		CHECK_EQ(own[i * SIM_PAGE + i], i >= PAGES / 2);
	os_release((void *)own, SIZE);
}

static void run(void (*fn)(void *))
{
	struct sim_config config = { .seed = 1 };

	sim_run(&config, fn, NULL);
}

TEST(memory_that_was_only_read_does_not_count)
{
	run(reads);
}

TEST(memory_that_was_written_counts_until_it_is_discarded)
{
	run(writes);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers: does every page come back, from wherever it has sunk to? Which sink, and what
 * comes of full tiers, of those that fail, and of fork. What happens to a page while it
 * is moved is in test_device_tier_moving.c.
 */
#define _GNU_SOURCE
#include "tests/device/subject.h"

#include <sys/wait.h>

#include "lib/host.h"
#include "tests/device/tier_pages.h"

#define HALF 1001u /* no stride that is used divides it */

/* ---- which page is where --------------------------------------------------------- */

TEST(comes_back_through_generations, .timeout_s = 60)
{
	struct uhmm_device *dev = open_spec("ram:size=1M,lz4:size=2M,ram");
	struct page *pages = pages_of_all_kinds(3 * MANY, 1);
	struct buffers b;
	uint32_t round;

	buffers_init(&b);
	each_batch(dev, &b, pages, 3 * MANY, 1, 16, store_all);
	for (round = 0; round < 6; round++) {
		struct page *part = pages + round % 3 * MANY;

		CHECK_EQ(stat_of(dev).pages, 3 * MANY);
		CHECK_EQ(pages_in_all(dev), 3 * MANY);
		CHECK_GT(pages_in(dev, 0), 100);
		CHECK_GT(pages_in(dev, 1), 100);
		CHECK_GT(pages_in(dev, 2), 100);
		each_batch(dev, &b, pages, 3 * MANY, 997, UHMM_BATCH_MAX - round, load);
		/* A third of them comes back, changes, and goes out again. */
		each_batch(dev, &b, part, MANY, 13, 7 + round, forget_all);
		for (uint32_t i = 0; i < MANY; i++)
			part[i].seed = content_mix(part[i].seed + round);
		each_batch(dev, &b, part, MANY, 29, 1 + 3 * round, store_all);
	}
	each_batch(dev, &b, pages, 3 * MANY, 1, UHMM_BATCH_MAX, load);
	each_batch(dev, &b, pages, 3 * MANY, 1, UHMM_BATCH_MAX, forget_all);
	CHECK_EQ(pages_in_all(dev), 0);
	CHECK_EQ(stat_of(dev).bytes_stored, 0);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/* How many of a batch's pages the first tier has. */
static uint64_t loads_of_first(struct uhmm_device *dev, struct buffers *b,
			       struct page *pages, uint32_t nr)
{
	uint64_t before = stat_of(device_tier(dev, 0)).loads;

	each_batch(dev, b, pages, nr, 1, 8, load);
	return stat_of(device_tier(dev, 0)).loads - before;
}

TEST(the_oldest_sink)
{
	struct uhmm_device *dev = open_spec("ram:size=1M,ram");
	struct page *pages = pages_of_all_kinds(MANY, 2);
	struct buffers b;

	buffers_init(&b);
	each_batch(dev, &b, pages, MANY, 1, 8, store_all);
	CHECK_EQ(loads_of_first(dev, &b, pages, 1000), 0);
	CHECK_EQ(loads_of_first(dev, &b, pages + MANY - 100, 100), 100);
	/* Who loads a page does not make it younger; who stores it again does. */
	CHECK_EQ(loads_of_first(dev, &b, pages, 100), 0);
	each_batch(dev, &b, pages, 100, 1, 8, forget_all);
	each_batch(dev, &b, pages, 100, 1, 8, store_all);
	CHECK_EQ(loads_of_first(dev, &b, pages, 100), 100);
	/* As many at a time as is said, not one for each that comes. */
	CHECK_GE(stat_of(device_tier(dev, 0)).frees, 1500);
	CHECK_GE(pages_in(dev, 0), 150);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

TEST(tiers_of_a_device)
{
	struct uhmm_device *dev = open_spec("lz4,crypt+ram");

	CHECK_EQ(device_batch_hint(dev),
		 device_batch_hint(device_tier(dev, 0)) <
				 device_batch_hint(device_tier(dev, 1)) ?
			 device_batch_hint(device_tier(dev, 0)) :
			 device_batch_hint(device_tier(dev, 1)));
	/* Not secret: that is only one of them. */
	CHECK_EQ(device_flags(dev), UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MEMORY);
	CHECK(device_tier(dev, 2) == NULL);
	CHECK(device_tier(device_tier(dev, 0), 0) == device_tier(dev, 0));
	CHECK(device_tier(device_tier(dev, 0), 1) == NULL);
	CHECK_EQ(device_flush(dev), 0);
	device_close(dev);
	dev = open_spec("crypt+ram,crypt+lz4");
	CHECK(device_flags(dev) & UHMM_DRIVER_SECRET);
	device_close(dev);
}

TEST(a_tier_that_cannot_be_opened)
{
	char error[DEVICE_ERROR_MAX];
	struct uhmm_device *dev = NULL;
	struct host_stat before, after;

	host_stat(&before);
	CHECK_EQ(device_open("ram,lz4,error:op=x+ram", &dev, error, sizeof(error)),
		 -EINVAL);
	CHECK_STR(error, "device \"ram,lz4,error:op=x+ram\": error: op is store, load or "
			 "both");
	CHECK(dev == NULL);
	host_stat(&after);
	CHECK_EQ(after.bytes_mapped, before.bytes_mapped);
}

/* ---- full ------------------------------------------------------------------------ */

/* Until so many were refused; how many there are then. */
static uint32_t fill(struct uhmm_device *dev, struct buffers *b, struct page *pages,
		     uint32_t refused)
{
	struct page *batch[1];
	uint32_t nr, failed = 0;

	for (nr = 0; nr < MANY && failed < refused; nr++) {
		batch[0] = &pages[nr];
		pages[nr].kind = CONTENT_RANDOM;
		failed += store(dev, b, batch, 1);
	}
	CHECK_EQ(failed, refused);
	return nr;
}

TEST(everything_full)
{
	struct uhmm_device *dev = open_spec("ram:size=1M,lz4:size=1M,ram:size=2M");
	struct page *pages = pages_of_all_kinds(MANY, 3), *batch[1];
	struct uhmm_device_stat lower;
	struct buffers b;
	uint32_t nr, i;

	buffers_init(&b);
	nr = fill(dev, &b, pages, 40);
	CHECK_EQ(stat_of(dev).store_failures, 40);
	CHECK_EQ(stat_of(dev).pages, nr - 40);
	CHECK_GT(stat_of(dev).bytes_in, UINT64_C(3) << 20);
	load_stored(dev, &b, pages, nr);
	/* It is known to be full: nobody is asked. */
	lower = stat_of(device_tier(dev, 2));
	for (i = 0; i < 100; i++) {
		batch[0] = &pages[MANY - 1];
		CHECK_EQ(store(dev, &b, batch, 1), 1);
	}
	CHECK_EQ(stat_of(device_tier(dev, 2)).store_failures, lower.store_failures);
	/* Where one was freed there is room for one, again and again. */
	for (i = 0; i < nr; i += 3) {
		batch[0] = &pages[i];
		if (!pages[i].stored)
			continue;
		forget(dev, batch, 1);
		pages[i].seed = content_mix(i);
		CHECK_EQ(store(dev, &b, batch, 1), 0);
	}
	load_stored(dev, &b, pages, nr);
	for (i = 0; i < nr; i++) {
		batch[0] = &pages[i];
		if (pages[i].stored)
			forget(dev, batch, 1);
	}
	CHECK_EQ(pages_in_all(dev), 0);
	CHECK_GE(fill(dev, &b, pages, 1), 900);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/* ---- tiers that fail ------------------------------------------------------------- */

static void all_come_back(const char *spec)
{
	struct uhmm_device *dev = open_spec(spec);
	struct page *pages = pages_of_all_kinds(MANY, 4);
	struct buffers b;
	uint32_t round;

	buffers_init(&b);
	each_batch(dev, &b, pages, MANY, 1, 16, store_all);
	for (round = 0; round < 3; round++) {
		each_batch(dev, &b, pages, MANY, 997, 5, load);
		each_batch(dev, &b, pages, HALF, 17, 9, forget_all);
		each_batch(dev, &b, pages, HALF, 1, 16, store_all);
	}
	each_batch(dev, &b, pages, MANY, 1, 64, load);
	CHECK_EQ(pages_in_all(dev), MANY);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

TEST(a_tier_that_refuses_pages)
{
	all_come_back("ram:size=1M,error:ppm=100000+ram,ram");
	all_come_back("ram:size=1M,error:ppm=900000+ram,lz4");
	all_come_back("error:ppm=300000+ram,error:ppm=300000+lz4,lz4:size=1M,zstd");
	all_come_back("error:ppm=1000000+ram,lz4");
}

/* What could not be stored was refused, and nothing else is missing. */
TEST(the_last_tier_refuses_pages)
{
	struct uhmm_device *dev = open_spec("ram:size=1M,error:ppm=100000+ram");
	struct page *pages = pages_of_all_kinds(MANY, 5), *batch[4];
	uint64_t stored = 0;
	struct buffers b;
	uint32_t i, j;

	buffers_init(&b);
	for (i = 0; i + 4 <= MANY; i += 4) {
		for (j = 0; j < 4; j++)
			batch[j] = &pages[i + j];
		stored += 4 - store(dev, &b, batch, 4);
	}
	CHECK_GT(stored, MANY / 2);
	CHECK_EQ(stat_of(dev).pages, stored);
	load_stored(dev, &b, pages, i);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/*
 * A page that the mover cannot load stays; its owner may have more luck. (A page that is
 * really lost is told to its owner: test_device_claims.)
 */
TEST(a_tier_that_cannot_load)
{
	struct uhmm_device *dev = open_spec("error:ppm=200000,op=load+ram:size=1M,ram");
	struct page *pages = pages_of_all_kinds(MANY, 6);
	struct buffers b;
	uint32_t i, unlucky = 0;

	buffers_init(&b);
	each_batch(dev, &b, pages, MANY, 1, 16, store_all);
	CHECK_EQ(pages_in_all(dev), MANY);
	for (i = 0; i < MANY; unlucky++) {
		struct uhmm_io io = { .page = pages[i].number,
				      .buf = b.data[0],
				      .len = PAGE };

		if (device_run(dev, UHMM_OP_LOAD, &io, 1)) {
			CHECK_EQ(io.result, -EIO);
			continue;
		}
		content_fill(b.expected, pages[i].kind, pages[i].seed);
		check_page(b.data[0], b.expected);
		i++;
	}
	CHECK_GT(unlucky, MANY);
	CHECK_EQ(stat_of(dev).load_failures, unlucky - MANY);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/* ---- fork ------------------------------------------------------------------------ */

static void go_on(struct uhmm_device *dev, struct buffers *b, struct page *pages,
		  uint32_t stride)
{
	each_batch(dev, b, pages, MANY, 997, 5, load);
	each_batch(dev, b, pages, HALF, stride, 7, forget_all);
	for (uint32_t i = 0; i < HALF; i++)
		pages[i].seed = content_mix(pages[i].seed + stride);
	each_batch(dev, b, pages, HALF, stride, 16, store_all);
	each_batch(dev, b, pages, MANY, 1, 64, load);
	CHECK_EQ(pages_in_all(dev), MANY);
}

/* The child's pages sink by themselves, into its own copies of the tiers. */
TEST(forked_tiers)
{
	struct uhmm_device *dev = open_spec("ram:size=1M,lz4:size=1M,crypt+ram");
	struct page *pages = pages_of_all_kinds(MANY, 10);
	struct buffers b;
	int status;
	pid_t pid;

	buffers_init(&b);
	each_batch(dev, &b, pages, MANY, 1, 16, store_all);
	host_fork_prepare();
	pid = fork();
	host_fork_done();
	CHECK_GE(pid, 0);
	if (pid == 0) {
		CHECK_EQ(device_after_fork(dev), 0);
		go_on(dev, &b, pages, 3);
		device_close(dev);
		_exit(0);
	}
	go_on(dev, &b, pages, 5);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	each_batch(dev, &b, pages, MANY, 1, 64, load);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/* From each tier, and nothing that is counted is left in a record. */
TEST(frozen_loads)
{
	struct uhmm_device *dev = open_spec("ram:size=1M,lz4:size=1M,ram");
	struct page *pages = pages_of_all_kinds(MANY, 11);
	struct buffers b;
	uint32_t round, i;

	buffers_init(&b);
	each_batch(dev, &b, pages, MANY, 1, 16, store_all);
	for (round = 0; round < 3; round++)
		for (i = 0; i < MANY; i++) {
			struct uhmm_io io = { .page = pages[i].number,
					      .buf = b.data[0],
					      .len = PAGE };

			CHECK_EQ(device_peek(dev, &io), 0);
			CHECK_EQ(io.page, pages[i].number);
			content_fill(b.expected, pages[i].kind, pages[i].seed);
			check_page(b.data[0], b.expected);
		}
	/* Those in the first tier are not held up there: they sink as others do. */
	CHECK_EQ(loads_of_first(dev, &b, pages + MANY - 100, 100), 100);
	go_on(dev, &b, pages, 3);
	CHECK_EQ(loads_of_first(dev, &b, pages + MANY - 100, 100), 0);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

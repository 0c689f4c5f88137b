/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `error`: fails what it says, and nothing else. */
#include "tests/device/subject.h"

#include <string.h>

#define NR 60u

static uint8_t stored[NR][PAGE] __attribute__((aligned(4096)));
static uint8_t back[NR][PAGE] __attribute__((aligned(4096)));
static struct uhmm_io io[NR];

/* How many failed, of batches of n. */
static uint32_t run(struct uhmm_device *dev, enum uhmm_op op, uint32_t n)
{
	uint32_t at, failed = 0;

	for (at = 0; at < NR; at += n)
		failed += device_run(dev, op, io + at, n < NR - at ? n : NR - at);
	return failed;
}

static void prepare(uint8_t (*buf)[PAGE])
{
	uint32_t i;

	for (i = 0; i < NR; i++) {
		io[i].buf = buf[i];
		io[i].len = PAGE;
	}
}

static struct uhmm_device *open_and_fill(const char *spec)
{
	uint32_t i;

	for (i = 0; i < NR; i++)
		memset(stored[i], (int)i + 1, PAGE);
	prepare(stored);
	return open_spec(spec);
}

TEST(each_third_store)
{
	static const uint32_t sizes[] = { 1, 2, 3, 7, 60 };
	uint32_t s, i, came = 0;

	for (s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++, came = 0) {
		struct uhmm_device *dev = open_and_fill("error:every=3+lz4");

		CHECK_EQ(run(dev, UHMM_OP_STORE, sizes[s]), NR / 3);
		CHECK_EQ(stat_of(dev).pages, NR - NR / 3);
		for (i = 0; i < NR; i++) {
			CHECK_EQ(io[i].result, (i + 1) % 3 ? 0 : -ENOSPC);
			if (io[i].result)
				continue;
			io[i].buf = back[i];
			CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io[i], 1), 0);
			CHECK_MEM(back[i], stored[i], PAGE);
			CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io[i], 1), 0);
			came++;
		}
		CHECK_EQ(came, NR - NR / 3);
		CHECK_EQ(stat_of(dev).pages, 0);
		device_close(dev);
	}
}

TEST(each_fourth_load)
{
	struct uhmm_device *dev = open_and_fill("error:every=4,op=load+ram");
	uint32_t i;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 16), 0);
	prepare(back);
	CHECK_EQ(run(dev, UHMM_OP_LOAD, 16), NR / 4);
	for (i = 0; i < NR; i++) {
		CHECK_EQ(io[i].result, (i + 1) % 4 ? 0 : -EIO);
		if (!io[i].result)
			CHECK_MEM(back[i], stored[i], PAGE);
	}
	/* It stays stored, and the next one to ask may have it. */
	io[3].buf = back[3];
	CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io[3], 1), 0);
	CHECK_MEM(back[3], stored[3], PAGE);
	CHECK_EQ(device_peek(dev, &io[3]), 0);
	CHECK_EQ(run(dev, UHMM_OP_FREE, 64), 0);
	CHECK_EQ(stat_of(dev).pages, 0);
	device_close(dev);
}

static uint32_t failed_of(const char *spec, uint64_t *which)
{
	struct uhmm_device *dev = open_and_fill(spec);
	uint32_t i, failed = run(dev, UHMM_OP_STORE, 8);

	*which = 0;
	for (i = 0; i < NR; i++)
		*which |= (uint64_t)(io[i].result != 0) << i;
	device_close(dev);
	return failed;
}

TEST(at_random_and_the_same_again)
{
	uint64_t first, again, other;

	CHECK_EQ(failed_of("error:ppm=0+ram", &first), 0);
	CHECK_EQ(failed_of("error:ppm=1000000+ram", &first), NR);
	CHECK_LT(failed_of("error:ppm=300000+ram", &first), NR / 2);
	CHECK_GT(failed_of("error:ppm=300000+ram", &again), NR / 8);
	CHECK_EQ(first, again);
	failed_of("error:ppm=300000,seed=2+ram", &other);
	CHECK_NE(first, other);
	/* Loads do not fail because stores shall. */
	CHECK_EQ(failed_of("error:ppm=1000000,op=load+ram", &other), 0);
}

TEST(what_it_is_told_has_to_make_sense)
{
	static const struct {
		const char *spec, *says;
	} bad[] = {
		{ "error", "error" },
		{ "error:op=free+ram", "op is store, load or both" },
		{ "error:ppm=1000001+ram", "0 to 1000000" },
		{ "error:often=1+ram", "has no option" },
	};
	char error[DEVICE_ERROR_MAX];
	struct uhmm_device *dev;
	uint32_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(device_open(bad[i].spec, &dev, error, sizeof(error)) < 0);
		CHECK(strstr(error, bad[i].says), "%.200s", error);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* lib/stream.h: what goes on is seen, and what does not is not. */
#include "test.h"

#include "lib/stream.h"

#define BASE ((uintptr_t)1 << 30)
#define MAX 16u

/* Without tables: nothing needs a fault that has had none. */
static struct uhmm_space space;

static void begin(void)
{
	memset(&space, 0, sizeof(space));
}

/* A fault at a page, after which as many as were chosen are there; strides in pages. */
static unsigned fault_at(int64_t page, int64_t *stride)
{
	uintptr_t addr = BASE + (uintptr_t)(page * (int64_t)PAGE_SIZE);
	unsigned window = stream_window(&space, addr, MAX, stride);

	stream_filled(&space, addr, window);
	*stride /= (int64_t)PAGE_SIZE;
	return window;
}

/* Follows a stream from a page on, so many faults; how many pages were filled. */
static unsigned follow(int64_t page, int64_t stride, unsigned faults)
{
	unsigned all = 0, window;
	int64_t seen;

	for (; faults; faults--) {
		window = fault_at(page, &seen);
		if (window > 1)
			CHECK_EQ(seen, stride);
		page += (int64_t)window * stride;
		all += window;
	}
	return all;
}

TEST(from_page_to_page_the_window_doubles)
{
	begin();
	CHECK_EQ(follow(0, 1, 6), 1 + 2 + 4 + 8 + 16 + 16);
}

TEST(strides_are_seen_by_the_third_fault)
{
	const int64_t strides[] = { 2, 9, 128, -1, -7, -128 };
	size_t i;

	for (i = 0; i < sizeof(strides) / sizeof(strides[0]); i++) {
		begin();
		CHECK_EQ(follow(100000, strides[i], 7), 1 + 1 + 2 + 4 + 8 + 16 + 16);
	}
}

TEST(three_faults_too_far_apart_are_no_stride)
{
	begin();
	CHECK_EQ(follow(0, 129, 40), 40);
	CHECK_EQ(follow(100000, -129, 40), 40);
}

TEST(what_needs_no_fault_is_passed_by)
{
	int64_t stride;

	begin();
	/* 1 + 1 + 2 + 4 pages: it goes on at 8 * 9. But the next three are there. */
	follow(0, 9, 4);
	CHECK_EQ(fault_at((8 + 3) * 9, &stride), 8);
	CHECK_EQ(stride, 9);
	/* Further ahead than it has ever looked it is another. */
	CHECK_EQ(fault_at((8 + 3 + 8 + 17) * 9, &stride), 1);
	/* Between its pages as well. */
	CHECK_EQ(fault_at((8 + 3 + 8) * 9 + 4, &stride), 1);
	CHECK_EQ(fault_at((8 + 3 + 8) * 9, &stride), 16);
}

TEST(strides_are_seen_again_and_again)
{
	int64_t stride, page = 0;
	unsigned round, i;

	begin();
	for (round = 0; round < 100; round++) {
		CHECK_EQ(follow(page, 9, 6), 1 + 1 + 2 + 4 + 8 + 16);
		/* Nothing to do with it, and more than there are streams. */
		for (i = 0; i < STREAMS + round % 7; i++) {
			page += 10000 + i;
			CHECK_EQ(fault_at(page, &stride), 1);
		}
		page += 10000;
	}
}

TEST(many_streams_at_once_are_told_apart)
{
	unsigned round, i, all = 0;
	int64_t stride, at[STREAMS / 2] = { 0 };

	begin();
	for (round = 0; round < 8; round++)
		for (i = 0; i < STREAMS / 2; i++) {
			unsigned window = fault_at(i * 20 + at[i], &stride);

			/* Neighbours are no strides, once each goes its own way. */
			if (round > 2)
				CHECK_EQ(stride, 1);
			at[i] += window;
			all += window;
			if (at[i] > 8)
				at[i] += 100000;
		}
	CHECK_GT(all, 8 * STREAMS / 2);
}

TEST(random_faults_fill_nothing_else)
{
	uint64_t x = 88172645463325252u, more = 0;
	int64_t stride;
	unsigned i;

	begin();
	for (i = 0; i < 100000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		more += fault_at((int64_t)(x % 131072), &stride) - 1;
	}
	CHECK_LT(more, 1000);
}

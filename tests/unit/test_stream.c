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
	space.counter = space.own_counter;
}

static uint64_t in_vain(void)
{
	return space.own_counter[COUNT_PREFETCH_VAIN];
}

/* A fault at a page, after which as many as were chosen are there; strides in pages. */
static unsigned fault_at(int64_t page, int64_t *stride)
{
	uintptr_t addr = BASE + (uintptr_t)(page * (int64_t)PAGE_SIZE);
	unsigned window = stream_window(&space, addr, MAX, stride);

	stream_filled(&space, addr, window, window - 1);
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
		CHECK_EQ(follow(page, 9, 7), 1 + 1 + 2 + 4 + 8 + 16 + 16);
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
	CHECK_LT(more, 20);
	CHECK_LE(in_vain(), more);
}

/*
 * An access to each of nr pages from a page on, so far apart: those that were brought
 * take no fault. Returns how many were brought beside those that were faulted at.
 */
static unsigned touch(int64_t page, int64_t stride, unsigned nr)
{
	unsigned i = 0, faults = 0, all = 0, window;
	int64_t seen;

	while (i < nr) {
		window = fault_at(page + (int64_t)i * stride, &seen);
		if (window > 1)
			CHECK_EQ(seen, stride);
		i += window;
		all += window;
		faults++;
	}
	return all - faults;
}

/* Many runs of so many pages each, far from each other; what the last of them brought. */
static unsigned runs(int64_t from, int64_t stride, unsigned nr)
{
	unsigned i, more = 0;

	for (i = 0; i < 200; i++) {
		unsigned brought = touch(from + i * 100003, stride, nr);

		if (i >= 100)
			more += brought;
	}
	return more;
}

TEST(runs_that_end_are_not_brought_beyond_their_end)
{
	unsigned nr;

	for (nr = 2; nr <= 3; nr++) {
		begin();
		CHECK_EQ(runs(0, 1, nr), 0);
		/* Before it was known; and those that are streams yet. */
		CHECK_LE(in_vain(), STREAMS + 2);
	}
	/* What comes through a window of two is brought, and no more: of four, one. */
	begin();
	CHECK_EQ(runs(0, 1, 4), 100);
	/* 1 + 2 + 4 + 8 pages, and one at a time after that. */
	begin();
	CHECK_EQ(runs(0, 1, 20), 100 * (1 + 3 + 7));
}

TEST(strides_that_end_are_not_brought_beyond_their_end)
{
	begin();
	CHECK_EQ(runs(0, 7, 4), 0);
	begin();
	CHECK_EQ(runs(0, -7, 4), 0);
	/* By itself: what goes from page to page is brought all the same. */
	CHECK_EQ(touch(1 << 28, 1, 15), 11);
}

TEST(a_stream_that_goes_on_is_brought_at_once_after_many_that_ended)
{
	const int64_t strides[] = { 1, 5, -5 };
	unsigned i, nr;

	for (i = 0; i < sizeof(strides) / sizeof(strides[0]); i++)
		for (nr = 3; nr <= 4; nr++) {
			begin();
			runs(0, strides[i], nr);
			/* All but the first ten, in windows that grow to 16. */
			CHECK_GE(touch(1 << 28, strides[i], 1000), 1000 - 10 - 1000 / 16);
		}
}

TEST(streams_that_come_through_again_are_brought_from_their_start_again)
{
	unsigned i;

	begin();
	CHECK_EQ(runs(0, 1, 3), 0);
	/* Those that ended are forgotten first. */
	for (i = 0; i < STREAMS + 4; i++)
		touch((1 << 28) + i * 100003, 1, 40);
	CHECK_EQ(touch(1 << 29, 1, 3), 1);
}

TEST(what_could_not_be_brought_tells_nothing)
{
	int64_t stride;
	unsigned i;

	begin();
	for (i = 0; i < 200; i++) {
		uintptr_t addr = BASE + i * 100003 * PAGE_SIZE;

		stream_window(&space, addr, MAX, &stride);
		stream_filled(&space, addr, 1, 0);
		/* One of two: there is no more. */
		CHECK_EQ(stream_window(&space, addr + PAGE_SIZE, MAX, &stride), 2);
		stream_filled(&space, addr + PAGE_SIZE, 1, 0);
	}
	CHECK_EQ(in_vain(), 0);
}

TEST(a_fault_that_is_repeated_is_no_stream)
{
	int64_t stride;
	unsigned i;

	begin();
	for (i = 0; i < 100; i++)
		CHECK_EQ(stream_window(&space, BASE, MAX, &stride), 1);
	stream_filled(&space, BASE, 1, 0);
	for (i = 0; i < 100; i++)
		CHECK_EQ(stream_window(&space, BASE + PAGE_SIZE, MAX, &stride), 2);
}

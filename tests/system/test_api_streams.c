/* SPDX-License-Identifier: Apache-2.0 */
/* What comes along with a fault: the pages ahead of a stream, and nothing else. */
#include "api.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR 1024u
#define STRIDE 9u

static char *stored(struct uhmm_space *space)
{
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	api_move(space, p, NR, api_device(space, "lz4"), UHMM_MOVED);
	return p;
}

/* Every so many pages of all, up or down; then the faults that this took. */
static uint64_t touch_in_strides(struct uhmm_space *space, const char *p, bool down)
{
	uint64_t before = api_stats(space).fault_device;
	size_t i, at;

	for (i = 0; i < NR; i += STRIDE) {
		at = down ? NR - 1 - i : i;
		api_check(p + at * PAGE, 1, 1 + at);
	}
	return api_stats(space).fault_device - before;
}

static void strides(uint32_t delivery, bool down)
{
	struct uhmm_space *space = api_space(delivery, 0);
	char *p = stored(space);

	/* 114 pages, in windows of 1, 1, 2, 4, 8, 16, 16 ... */
	CHECK_LE(touch_in_strides(space, p, down), 15);
	CHECK_LE(api_resident(p, NR), NR / STRIDE + 16);
	api_check(p, NR, 1);
	api_destroy(space);
}

API_TEST(a_stream_in_strides_is_brought_ahead)
{
	strides(delivery, false);
}

API_TEST(also_one_that_goes_down)
{
	strides(delivery, true);
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* UFFDIO_COPY would take it away. */
API_TEST(a_stride_that_comes_to_a_guard_leaves_it)
{
	struct uhmm_space *space = api_space(delivery, 0);
	char *p = stored(space), *guard = p + 50 * STRIDE * PAGE;
	int out[2];

	if (madvise(guard, PAGE, MADV_GUARD_INSTALL))
		SKIP("no guards before Linux 6.13");
	for (size_t i = 0; i < 50 * STRIDE; i += STRIDE)
		api_check(p + i * PAGE, 1, 1 + i);
	CHECK_EQ(pipe(out), 0);
	errno = 0;
	CHECK(write(out[1], guard, 1) == -1 && errno == EFAULT);
	close(out[0]);
	close(out[1]);
	api_destroy(space);
}

/* What is here already does not end a stream; what was left out does. */
API_TEST(a_stream_passes_by_what_is_here)
{
	struct uhmm_space *space = api_space(delivery, 0);
	char *p = stored(space);
	size_t here;

	api_check(p, 15, 1); /* windows of 1, 2, 4, 8 */
	CHECK_SOON(api_stats(space).fault_device == 4);
	api_move(space, p + 15 * PAGE, 6, NULL, UHMM_MOVED);
	api_check(p + 15 * PAGE, 22, 16);
	CHECK_SOON(api_stats(space).fault_device == 5);
	/* 16 more would have come. */
	here = api_resident(p, NR);
	api_check(p + 45 * PAGE, 1, 46);
	CHECK_EQ(api_resident(p, NR), here + 1);
	api_check(p, NR, 1);
	api_destroy(space);
}

/* Three pages and no more, again and again: what lies behind is not brought any more. */
API_TEST(runs_that_end_are_not_brought_beyond_their_end)
{
	const size_t nr = 80, apart = 131;
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_stats half = { 0 }, end;
	char *p = api_map(nr * apart);
	size_t i;

	api_fill(p, nr * apart, 1);
	api_move(space, p, nr * apart, api_device(space, "lz4"), UHMM_MOVED);
	for (i = 0; i < nr; i++) {
		if (i == nr / 2)
			half = api_stats(space);
		api_check(p + i * apart * PAGE, 3, 1 + i * apart);
	}
	CHECK_SOON(api_stats(space).loaded >= nr * 3);
	end = api_stats(space);
	CHECK_GT(half.prefetch, 0);
	CHECK_EQ(end.prefetch - half.prefetch, 0);
	CHECK_GT(end.prefetch_vain, 0);
	CHECK_LE(end.prefetch_vain, end.prefetch);
	/* A stream is brought all the same, once it has shown that it is one. */
	api_check(p + 4 * apart * PAGE, 3 * apart, 1 + 4 * apart);
	CHECK_GT(api_stats(space).prefetch, end.prefetch + 2 * apart);
	api_check(p, nr * apart, 1);
	api_destroy(space);
}

/* ---- what does not fit ------------------------------------------------------------ */

static void skip_if_the_budget_is_gone(void)
{
	if (test_instrument())
		SKIP("%s alone takes the budget", test_instrument());
}

/* Pages that were loaded while nr from p on were read from the first to the last. */
static uint64_t read_through(struct uhmm_space *space, const char *p, size_t nr)
{
	uint64_t before = api_stats(space).loaded;

	for (size_t i = 0; i < nr; i++)
		CHECK_EQ(*(const volatile size_t *)(p + i * PAGE), i);
	return api_stats(space).loaded - before;
}

static char *written(struct uhmm_space *space, size_t nr)
{
	char *p = api_map(nr);

	CHECK_EQ(uhmm_manage(space, p, nr * PAGE), 0);
	for (size_t i = 0; i < nr; i++)
		*(volatile size_t *)(p + i * PAGE) = i;
	return p;
}

/* What a stream brings makes room for what it brings next, and the rest stays. */
API_TEST(a_loop_over_more_than_fits_keeps_a_part_of_it, .timeout_s = 120)
{
	size_t nr = 24576, i;
	struct uhmm_space *space = api_space(delivery, 64 << 20);
	uint64_t loaded = 0;
	char *p;

	skip_if_the_budget_is_gone();
	api_device(space, "lz4");
	p = written(space, nr);
	read_through(space, p, nr);
	for (i = 0; i < 4; i++)
		loaded += read_through(space, p, nr);
	CHECK_GE(loaded, 4 * (nr - 16384));
	CHECK_LE(loaded, 4 * nr * 9 / 10);
	api_destroy(space);
}

/* But not for ever, if it is used no more. */
API_TEST(what_is_used_no_more_makes_room_for_a_loop_that_fits, .timeout_s = 120)
{
	struct uhmm_space *space = api_space(delivery, 64 << 20);
	size_t nr = 8192, i;
	char *p;

	skip_if_the_budget_is_gone();
	api_device(space, "lz4");
	written(space, 14000);
	p = written(space, nr);
	for (i = 0; i < 12; i++)
		read_through(space, p, nr);
	CHECK_LE(read_through(space, p, nr), nr / 8);
	api_destroy(space);
}

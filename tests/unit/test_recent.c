/* SPDX-License-Identifier: Apache-2.0 */
/* lib/recent.h: what streams brought comes out oldest first, and short runs never. */
#include <pthread.h>

#include "test.h"

#include "lib/policy.h"
#include "lib/recent.h"

#define BASE ((uintptr_t)1 << 30)
#define RUN POLICY_RECENT_RUN

static struct uhmm_space space;

static uintptr_t page_at(size_t page)
{
	return BASE + page * PAGE_SIZE;
}

static void begin(void)
{
	memset(&space, 0, sizeof(space));
}

/* The oldest run is nr pages from a page on. */
static void expect(size_t page, size_t nr)
{
	struct range run;

	CHECK(recent_take(&space, &run));
	CHECK_EQ(run.start, page_at(page));
	CHECK_EQ(run.end, page_at(page + nr));
}

static void expect_nothing(void)
{
	struct range run = { 1, 2 };

	CHECK(!recent_take(&space, &run));
	CHECK_EQ(run.start, 1);
	CHECK_EQ(recent_pages(&space), 0);
}

TEST(the_oldest_run_comes_first)
{
	begin();
	expect_nothing();
	recent_add(&space, page_at(500), RUN);
	recent_add(&space, page_at(100), 16);
	recent_add(&space, page_at(300), 8);
	CHECK_EQ(recent_pages(&space), RUN + 16 + 8);
	expect(500, RUN);
	CHECK_EQ(recent_pages(&space), 16 + 8);
	expect(100, 16);
	expect(300, 8);
	expect_nothing();
}

TEST(single_pages_are_not_for_it)
{
	unsigned nr;

	begin();
	for (nr = 1; nr < RUN; nr++)
		recent_add(&space, page_at(10 * nr), nr);
	expect_nothing();
}

TEST(a_run_grows_as_its_stream_goes_on)
{
	begin();
	recent_add(&space, page_at(0), 8);
	recent_add(&space, page_at(8), 16);
	recent_add(&space, page_at(24), 32);
	/* As large as a group, and no larger. */
	recent_add(&space, page_at(56), 16);
	/* What lies before it, or in it, is another. */
	recent_add(&space, page_at(40), 16);
	CHECK_EQ(recent_pages(&space), 88);
	expect(0, 56);
	expect(56, 16);
	expect(40, 16);
	expect_nothing();
}

TEST(two_streams_at_once_do_not_make_one_run)
{
	unsigned i;

	begin();
	for (i = 0; i < 4; i++) {
		recent_add(&space, page_at(i * 16), 16);
		recent_add(&space, page_at(1000 + i * 16), 16);
	}
	for (i = 0; i < 4; i++) {
		expect(i * 16, 16);
		expect(1000 + i * 16, 16);
	}
	expect_nothing();
}

TEST(what_there_is_no_room_for_is_forgotten_oldest_first)
{
	unsigned i, all = RECENT_MAX + RECENT_MAX / 2;

	begin();
	for (i = 0; i < all; i++)
		recent_add(&space, page_at(i * 100), RUN + i % 8);
	for (i = all - RECENT_MAX; i < all; i++)
		expect(i * 100, RUN + i % 8);
	expect_nothing();
}

TEST(what_is_too_much_is_forgotten_oldest_first)
{
	begin();
	recent_trim(&space, 0);
	recent_add(&space, page_at(500), 16);
	recent_add(&space, page_at(100), 16);
	recent_add(&space, page_at(300), 16);
	recent_trim(&space, 48);
	CHECK_EQ(recent_pages(&space), 48);
	recent_trim(&space, 47);
	CHECK_EQ(recent_pages(&space), 32);
	expect(100, 16);
	recent_trim(&space, 0);
	expect_nothing();
}

#define ROUNDS 20000u

static void *adds(void *arg)
{
	unsigned i;

	for (i = 0; i < ROUNDS; i++)
		recent_add(&space, page_at((size_t)arg + 64 * i), 16);
	return NULL;
}

/* More are taken than the ring has room for, or they are lost: never counted twice. */
TEST(threads_add_while_another_takes)
{
	pthread_t thread[3];
	size_t i, pages = 0;
	struct range run;

	begin();
	for (i = 0; i < 3; i++)
		CHECK(pthread_create(&thread[i], NULL, adds, (void *)(i << 30)) == 0);
	for (i = 0; i < ROUNDS; i++)
		if (recent_take(&space, &run)) {
			CHECK_EQ(run.end - run.start, 16 * PAGE_SIZE);
			pages += 16;
		}
	for (i = 0; i < 3; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
	while (recent_take(&space, &run))
		pages += 16;
	CHECK(pages >= 16 * RECENT_MAX && pages <= 3 * 16 * ROUNDS);
	expect_nothing();
}

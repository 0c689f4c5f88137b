/* SPDX-License-Identifier: Apache-2.0 */
/* lib/policy.h: each choice, at both sides of where it changes. */
#include "test.h"

#include "lib/policy.h"

#define MIB_PAGES 256

static struct uhmm_space space;

/* As much again is isolated, and so much of it came back: the share that results. */
static uint32_t after(struct policy *policy, uint64_t isolated, uint64_t restored)
{
	space.counter[COUNT_ISOLATED] += isolated;
	space.counter[COUNT_RESTORED] += restored;
	policy_probation(policy, &space, 0);
	return policy->share;
}

static void begin(struct policy *policy)
{
	memset(&space, 0, sizeof(space));
	space.counter = space.own_counter;
	policy_init(policy);
}

TEST(probation_grows_where_much_comes_back_and_shrinks_where_nothing_does)
{
	struct policy policy;
	uint32_t first, i;

	begin(&policy);
	first = policy.share;
	CHECK_EQ(after(&policy, 8192, 8192 / 8), first);
	CHECK_EQ(after(&policy, 8192, 8192 / 16 - 1), first - 4);
	CHECK_EQ(after(&policy, 8192, 8192 / 4 + 1), first);
	/* Too few to tell. */
	CHECK_EQ(after(&policy, 100, 100), first);
	for (i = 0; i < 100; i++)
		after(&policy, 8192, 8192);
	CHECK_EQ(policy.share, 48);
	for (i = 0; i < 100; i++)
		after(&policy, 8192, 0);
	CHECK_EQ(policy.share, 8);
}

TEST(probation_is_its_share_of_what_is_resident_and_a_group)
{
	struct policy policy;

	begin(&policy);
	CHECK_EQ(policy_probation(&policy, &space, 0), GROUP_PAGES);
	CHECK_EQ(policy_probation(&policy, &space, -5), GROUP_PAGES);
	CHECK_EQ(policy_probation(&policy, &space, 256 * 100),
		 100 * policy.share + GROUP_PAGES);
}

TEST(what_streams_brought_goes_first_from_a_twentieth_on)
{
	CHECK(!policy_recent_due(0, 0));
	CHECK(!policy_recent_due(1000, 0));
	CHECK(!policy_recent_due(1000, -1));
	CHECK(!policy_recent_due(0, 2000));
	CHECK(!policy_recent_due(100, 2000));
	CHECK(policy_recent_due(101, 2000));
	CHECK(policy_recent_due(2000, 2000));
	CHECK_EQ(policy_recent_max(-1), 0);
	CHECK_EQ(policy_recent_max(2000), 200);
}

TEST(the_hand_has_its_turn_whatever_streams_bring)
{
	unsigned recent = 0, i;
	struct policy policy;

	begin(&policy);
	for (i = 0; i < 400; i++)
		recent += policy_takes_recent(&policy, 101, 2000);
	CHECK_EQ(recent, 300);
	for (i = 0; i < 400; i++)
		CHECK(!policy_takes_recent(&policy, 100, 2000));
}

TEST(who_was_asked_for_stays_and_who_came_back_soon_longest)
{
	unsigned age;

	for (age = 0; age <= ENTRY_GEN_MASK; age++) {
		CHECK_EQ(policy_warmth(true, age), age < GENERATIONS_SHORT ? 2 : 1);
		CHECK_EQ(policy_warmth(false, age), 0);
	}
}

TEST(watermarks_are_in_order_for_any_budget)
{
	struct watermarks wm;
	int64_t limit;
	int related;

	for (limit = 16 * MIB_PAGES; limit < INT64_C(1) << 40; limit += limit / 3)
		for (related = 0; related < 2; related++) {
			policy_watermarks(limit, related, &wm);
			CHECK(wm.low < wm.high && wm.high < wm.full);
			CHECK(wm.full <= wm.limit && wm.full < wm.hurry);
			CHECK(wm.limit < wm.told && wm.fence < wm.limit);
			CHECK(wm.ring_below > 0 && wm.floor > 0 && wm.floor < wm.low);
			CHECK_EQ(wm.full == wm.limit, !related);
		}
}

TEST(what_frees_little_is_left_and_more_of_it_the_less_it_frees)
{
	struct watermarks wm;
	int64_t all, half, none;

	policy_watermarks(1024 * MIB_PAGES, false, &wm);
	all = policy_left(&wm, 100000, 0, 1);
	half = policy_left(&wm, 100000, 50000, 1);
	none = policy_left(&wm, 100000, 200000, 1);
	CHECK(all > 0 && half > all && none > half);
	CHECK_EQ(half, 2 * all);
	CHECK_EQ(policy_left(&wm, 100000, 50000, 4), half / 4);
}

TEST(the_worker_looks_the_more_often_the_less_room_there_is)
{
	struct watermarks wm;
	uint64_t last = 0, ns;
	int64_t used;

	policy_watermarks(1024 * MIB_PAGES, false, &wm);
	for (used = wm.limit + 100 * MIB_PAGES; used > 0; used -= 10 * MIB_PAGES) {
		ns = policy_sleep_ns(&wm, used);
		CHECK(ns >= 1000000 && ns <= 50000000 && ns >= last);
		last = ns;
	}
	CHECK_EQ(last, 50000000);
	CHECK_EQ(policy_sleep_ns(&wm, wm.limit), 1000000);
}

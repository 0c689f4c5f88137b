/* SPDX-License-Identifier: Apache-2.0 */
/* lib/budget.h: room is taken, returned, and never made of nothing. */
#include "test.h"

#include <pthread.h>

#include "lib/budget.h"

static struct uhmm_space space;

static void give(int64_t room)
{
	memset(&space, 0, sizeof(space));
	space.budget.limit_pages = 1000;
	space.budget.room_pages = room;
}

TEST(without_a_budget_there_is_always_room)
{
	give(0);
	space.budget.limit_pages = 0;
	CHECK_EQ(budget_take(&space, 64), 64);
	budget_return(&space, 64);
	CHECK_EQ(space.budget.room_pages, 0);
}

TEST(what_is_granted_is_what_is_gone)
{
	give(100);
	CHECK_EQ(budget_take(&space, 64), 64);
	CHECK_EQ(space.budget.room_pages, 36);
	/* Less than was asked for, and then nothing. */
	CHECK_EQ(budget_take(&space, 64), 36);
	CHECK_EQ(space.budget.room_pages, 0);
	CHECK_EQ(budget_take(&space, 1), 0);
	CHECK_EQ(space.budget.room_pages, 0);
	budget_return(&space, 5);
	CHECK_EQ(budget_take(&space, 64), 5);
}

/* The worker has found more in use than there should be. */
TEST(debts_stay)
{
	give(-50);
	CHECK_EQ(budget_take(&space, 8), 0);
	CHECK_EQ(space.budget.room_pages, -50);
	budget_return(&space, 20);
	CHECK_EQ(budget_take(&space, 8), 0);
	CHECK_EQ(space.budget.room_pages, -30);
}

/* Whoever makes room gets what it needs. */
TEST(lent_room_is_owed)
{
	give(3);
	space.budget.lend = true;
	CHECK_EQ(budget_take(&space, 10), 10);
	CHECK_EQ(space.budget.room_pages, -7);
	budget_return(&space, 10);
	CHECK_EQ(space.budget.room_pages, 3);
}

#define ROUNDS 200000

static void *take_and_return(void *arg)
{
	unsigned want = *(unsigned *)arg, got, i;
	uint64_t kept = 0;

	for (i = 0; i < ROUNDS; i++) {
		got = budget_take(&space, want);
		CHECK_LE(got, want);
		/* A third of it is used. */
		budget_return(&space, got - got / 3);
		kept += got / 3;
	}
	return (void *)(uintptr_t)kept;
}

TEST(threads_get_no_more_than_there_was)
{
	unsigned want[] = { 1, 7, 64, 33 }, i;
	pthread_t thread[4];
	int64_t kept = 0;
	void *result;

	give(5000);
	for (i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, take_and_return, &want[i]), 0);
	for (i = 0; i < 4; i++) {
		CHECK_EQ(pthread_join(thread[i], &result), 0);
		kept += (int64_t)(uintptr_t)result;
	}
	CHECK_EQ(space.budget.room_pages + kept, 5000);
	CHECK_GE(space.budget.room_pages, 0);
}

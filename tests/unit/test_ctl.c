/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of a tree and its supervisor keep together: how long the tree was
 * above its budget and tolerance. All that this needs is a segment in plain memory.
 */
#include "tests/test.h"

#include <pthread.h>
#include <stdlib.h>

#include "preload/ctl.h"

#define BUDGET 1000
/* Below 16 MiB of tolerance there is no less of it: 4096 pages. */
#define ALLOWED (BUDGET + 4096)

static struct ctl *new_ctl(void)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));

	CHECK(ctl);
	ctl->budget_pages = BUDGET;
	return ctl;
}

TEST(time_above_is_what_lies_between_looks)
{
	struct ctl *ctl = new_ctl();

	CHECK(!ctl_is_over(ctl, ALLOWED));
	ctl_note_usage(ctl, ALLOWED, 0);
	CHECK_EQ(ctl->peak_pages, ALLOWED);
	CHECK_EQ(ctl->over_pages, 0);
	/* From the first look that sees it ... */
	CHECK(ctl_is_over(ctl, ALLOWED + 1));
	ctl_note_usage(ctl, ALLOWED + 7, 100);
	ctl_note_usage(ctl, ALLOWED + 3, 130);
	CHECK_EQ(ctl->over_ns, 30);
	/* ... to the first that does not. */
	CHECK(ctl_is_over(ctl, 5));
	ctl_note_usage(ctl, 5, 150);
	CHECK_EQ(ctl->over_ns, 50);
	CHECK(!ctl_is_over(ctl, 5));
	ctl_note_usage(ctl, 5, 0);
	ctl_note_usage(ctl, ALLOWED + 1, 1000);
	ctl_note_usage(ctl, ALLOWED, 1001);
	CHECK_EQ(ctl->over_ns, 51);
	CHECK_EQ(ctl->over_pages, 7);
	CHECK_EQ(ctl->peak_pages, ALLOWED + 7);
	free(ctl);
}

TEST(two_who_look_count_the_time_once)
{
	struct ctl *ctl = new_ctl();

	ctl_note_usage(ctl, ALLOWED + 1, 100);
	ctl_note_usage(ctl, ALLOWED + 1, 110);
	/* Who has read the clock before another, and is later. */
	ctl_note_usage(ctl, ALLOWED + 1, 105);
	ctl_note_usage(ctl, 0, 108);
	CHECK_EQ(ctl->over_ns, 10);
	ctl_note_usage(ctl, 0, 120);
	CHECK_EQ(ctl->over_ns, 20);
	free(ctl);
}

/* ---- threads ----------------------------------------------------------------------- */

#define LOOKS 200000

static uint64_t now;

static void *look(void *arg)
{
	for (int i = 0; i < LOOKS; i++)
		ctl_note_usage(arg, ALLOWED + 1,
			       __atomic_add_fetch(&now, 1, __ATOMIC_RELAXED));
	return NULL;
}

TEST(many_who_look_count_the_time_once)
{
	struct ctl *ctl = new_ctl();
	pthread_t thread[4];

	ctl_note_usage(ctl, ALLOWED + 1, now = 1);
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&thread[i], NULL, look, ctl));
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(thread[i], NULL));
	/* Looks that lost to another left their time to the next. */
	ctl_note_usage(ctl, 0, now + 1);
	CHECK_EQ(ctl->over_ns, now);
	CHECK_EQ(ctl->over_seen_ns, 0);
	free(ctl);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shares that the processes of a tree count, over a model of pages that they share.
 * What nobody counts is taken for room, and the budget is exceeded by it; so whatever the
 * order in which processes fork, write and look, the accounts together must not be below
 * what there is, but for what was written since: by who has not looked, and by others, by
 * which a share becomes larger.
 */
#include "tests/test.h"

#include "lib/os/os.h"
#include "preload/preload.h"

#define PROCESSES 12
#define PAGES 4096

/* page[]: which copy of it the process has. */
static struct process {
	struct usage usage;
	uint32_t page[PAGES];
	uint64_t faults, unseen; /* writes: all, and those since it looked */
	double behind;           /* what its share has grown since it walked its pages */
} * process;

static struct ctl *ctl;
static unsigned nr, current; /* processes; the one whose code runs */
static uint32_t copies;      /* names given so far */
static uint16_t *holders;    /* how many have a copy */
static uint64_t now_ns;

uint64_t os_now_ns(void)
{
	return now_ns;
}

uint64_t os_minor_faults(void)
{
	return process[current].faults;
}

int64_t os_pss_anon_pages(void)
{
	double sum = 0;
	int i;

	process[current].behind = 0;
	for (i = 0; i < PAGES; i++)
		sum += 1.0 / holders[process[current].page[i]];
	return (int64_t)sum;
}

static void look(unsigned who)
{
	current = who;
	CTL_STORE(&ctl->slot[who].usage_pages,
		  usage_pages(&process[who].usage, PAGES, ctl));
	process[who].unseen = 0;
}

static void put_page(unsigned i, unsigned which)
{
	process[i].page[which] = copies;
	holders[copies++] = 1;
}

static void new_tree(void)
{
	unsigned i;

	process = calloc(PROCESSES, sizeof(*process));
	ctl = calloc(1, sizeof(*ctl));
	holders = calloc(UINT16_MAX * 16, sizeof(*holders));
	CHECK(process && ctl && holders);
	nr = 1;
	for (i = 0; i < PAGES; i++)
		put_page(0, i);
	CHECK(ctl_claim(ctl, 1) == &ctl->slot[0]);
	look(0);
}

static void end_tree(void)
{
	free(process);
	free(ctl);
	free(holders);
}

/* One that has a copy to itself keeps it. */
static void write_page(unsigned who, unsigned which)
{
	uint32_t old = process[who].page[which];
	uint16_t left = holders[old] - 1;
	unsigned i;

	if (!left)
		return;
	holders[old] = left;
	for (i = 0; i < nr; i++)
		if (i != who && process[i].page[which] == old)
			process[i].behind += 1.0 / left - 1.0 / (left + 1);
	put_page(who, which);
	process[who].faults++;
	process[who].unseen++;
}

/* The parent's keeper may look between its part and the child's. */
static void do_fork(unsigned parent, bool look_between)
{
	struct ctl_slot *slot = &ctl->slot[parent];
	unsigned child = nr++;
	int i;

	current = parent;
	ctl->forking++;
	process[child] = process[parent];
	for (i = 0; i < PAGES; i++)
		holders[process[child].page[i]]++;
	usage_forked(&process[parent].usage);
	ctl->kin++;
	if (look_between)
		look(parent);
	current = child;
	process[child].faults = 0; /* and what its parent had not seen it has not */
	usage_born(&process[child].usage, ctl_claim(ctl, child + 1), slot, slot->claim);
	ctl->forking--;
}

/* What the tree has and nobody counts, less what it may be. */
static int64_t missing(void)
{
	int64_t pages = 0;
	uint32_t i;

	for (i = 0; i < copies; i++)
		pages += holders[i] != 0;
	for (i = 0; i < nr; i++)
		pages -= (int64_t)process[i].unseen + (int64_t)process[i].behind +
			 4; /* shares are rounded down */
	return pages - ctl_usage_pages(ctl);
}

TEST(children_of_one_parent_that_has_not_looked_meanwhile)
{
	new_tree();
	while (nr < PROCESSES) {
		do_fork(0, false);
		CHECK_LE(missing(), 0);
	}
	end_tree();
}

TEST(each_child_forks_before_it_has_looked)
{
	new_tree();
	while (nr < PROCESSES) {
		do_fork(nr - 1, false);
		CHECK_LE(missing(), 0);
	}
	end_tree();
}

TEST(a_sibling_looks_before_the_child)
{
	new_tree();
	do_fork(0, false);
	do_fork(0, false);
	now_ns += UINT64_C(1000000000);
	look(1);
	CHECK_LE(missing(), 0);
	end_tree();
}

TEST(after_all_have_looked_the_accounts_are_what_there_is)
{
	unsigned i;

	new_tree();
	for (i = 0; i < 4; i++)
		do_fork(i / 2, i & 1);
	for (i = 0; i < PAGES / 2; i++)
		write_page(3, i);
	now_ns += UINT64_C(1000000000);
	for (i = 0; i < nr; i++)
		look(i);
	CHECK_LE(missing(), 0);
	CHECK_LE(ctl_usage_pages(ctl), PAGES + PAGES / 2);
	end_tree();
}

static uint64_t seed;

static unsigned draw(unsigned below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((seed >> 33) % below);
}

TEST(in_any_order, .timeout_s = 120)
{
	unsigned round, i, steps;

	for (round = 0; round < 300; round++) {
		copies = 0;
		seed = round;
		new_tree();
		for (steps = 0; steps < 120 && copies < 15 * UINT16_MAX; steps++) {
			unsigned who = draw(nr), what = draw(8);

			now_ns += draw(20) * UINT64_C(1000000);
			if (what == 0 && nr < PROCESSES)
				do_fork(who, draw(2));
			else if (what < 3)
				for (i = draw(512); i > 0; i--)
					write_page(who, draw(PAGES));
			else
				look(who);
			CHECK(missing() <= 0, "round %u step %u: %ld of %u processes",
			      round, steps, (long)missing(), nr);
		}
		end_tree();
	}
}

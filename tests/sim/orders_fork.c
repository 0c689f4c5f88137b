/* SPDX-License-Identifier: Apache-2.0 */
/* Scenes of fork(), and of children of raw clones. */
#include "tests/sim/orders.h"

static uint32_t child_sleeps_ns;

void before_child_handler(void)
{
	if (child_sleeps_ns)
		sim_sleep(child_sleeps_ns);
}

/* ---- while the space is frozen ----------------------------------------------------- */

static void moves_and_grows(void *arg __attribute__((unused)))
{
	move(0, 16, 32, 16);
	move(32, 16, 32, 8);
	move(32, 8, 32, 16);
	look(32, 16);
}

static void ends(void *arg __attribute__((unused)))
{
}

/* In the middle of a fork this is only written down, and what is touched is copied. */
SCENE(what_grows_where_it_was_moved_to_is_empty_at_a_fork, SEEDS)
{
	uint32_t tid;

	start_with("ram", 16);
	tid = sim_spawn("grow", moves_and_grows, NULL);
	CHECK_EQ(sim_fork_libc(&library_atfork, ends, NULL), 0);
	sim_join(tid);
	look(32, 16);
	end();
}

/* ---- the children of raw clones ---------------------------------------------------- */

static void looks_at_all_places(void *arg __attribute__((unused)))
{
	unsigned page;

	for (page = 0; page < 80; page += 16)
		if (sim_mapped(at(page)))
			look(page, 16);
}

/* Two mappings of 16 pages, all of them on the device. */
static void start_with_two(unsigned first, unsigned second)
{
	start("ram");
	map(first, 16, SIM_RW);
	fill(first, 16, 'a');
	migrate(first, 16, device);
	map(second, 16, SIM_RW);
	fill(second, 16, 'A');
	migrate(second, 16, device);
}

static void fill_children_and_end(void)
{
	while (!sim_children_filled())
		sim_sleep(20000);
	end();
}

/* And there is nothing there any more when it is filled. */
static void clone_unmap_and_end(unsigned page, unsigned nr)
{
	CHECK_EQ(sim_fork(looks_at_all_places, NULL), 0);
	CHECK_EQ(sim_munmap(at(page), nr * SIM_PAGE), 0);
	fill_children_and_end();
}

/* All that is there has the same bytes in the child. */
static void clone_and_end(void)
{
	CHECK_EQ(sim_fork(looks_at_all_places, NULL), 0);
	looks_at_all_places(NULL);
	fill_children_and_end();
}

/*
 * What the child has moved has left a place where something else has come, before it was
 * copied: its old place is mapped and registered, as if nothing had been moved.
 */
SCENE(a_raw_clone_has_what_gave_its_place_to_another, CHILD_SEEDS)
{
	start_with_two(0, 64);
	move(0, 16, 32, 16);
	CHECK_EQ(sim_mremap(at(64), 16 * SIM_PAGE, at(0), 16 * SIM_PAGE, sim_below(2)),
		 0);
	clone_and_end();
}

/* A neighbour has grown into that place, of which the kernel tells nobody. */
SCENE(a_raw_clone_has_what_gave_its_place_to_a_neighbour, CHILD_SEEDS)
{
	start_with_two(0, 16);
	move(16, 16, 64, 16);
	move(0, 16, 0, 32);
	clone_and_end();
}

/* What is moved over something else, and on from there, takes nothing of that along. */
SCENE(a_raw_clone_has_nothing_of_what_was_moved_over, CHILD_SEEDS)
{
	start_with_two(0, 64);
	move(64, 16, 0, 16);
	move(0, 16, 32, 16);
	clone_and_end();
}

/* Where a mapping has shrunk and grown again is nothing, of which nobody is told. */
SCENE(a_raw_clone_has_nothing_where_a_mapping_grew_again, CHILD_SEEDS)
{
	start_with_two(0, 64);
	move(0, 16, 0, 8);
	move(0, 8, 0, 16);
	clone_and_end();
}

/* And the same where it was moved to. */
SCENE(a_raw_clone_has_nothing_where_what_moved_grew_again, CHILD_SEEDS)
{
	start_with_two(0, 64);
	move(0, 16, 32, 16);
	move(32, 16, 32, 8);
	move(32, 8, 32, 16);
	clone_and_end();
}

/* The same, and by the time that the child is filled nothing is there any more. */
SCENE(a_raw_clone_has_nothing_where_a_mapping_grew_again_and_went, CHILD_SEEDS)
{
	start_with_two(0, 64);
	move(0, 16, 0, 8);
	move(0, 8, 0, 16);
	clone_unmap_and_end(0, 16);
}

SCENE(a_raw_clone_has_nothing_where_what_moved_grew_again_and_went, CHILD_SEEDS)
{
	start_with_two(0, 64);
	move(0, 16, 32, 16);
	move(32, 16, 32, 8);
	move(32, 8, 32, 16);
	CHECK_EQ(sim_fork(looks_at_all_places, NULL), 0);
	move(32, 16, 96, 16);
	fill_children_and_end();
}

/* What took the place of what has moved is gone, too. */
SCENE(a_raw_clone_has_what_gave_its_place_to_a_neighbour_that_went, CHILD_SEEDS)
{
	start_with_two(0, 16);
	move(16, 16, 64, 16);
	move(0, 16, 0, 32);
	clone_unmap_and_end(0, 32);
}

static void moves_into_what_is_left(void *arg __attribute__((unused)))
{
	while (sim_mapped(at(0)))
		sim_point();
	move(64, 16, 0, 16);
}

/* The second of two moves may be told of before the first. */
SCENE(a_raw_clone_has_what_gave_its_place_to_another_threads, CHILD_SEEDS)
{
	uint32_t tid;

	start_with_two(0, 64);
	tid = sim_spawn("follow", moves_into_what_is_left, NULL);
	move(0, 16, 32, 16);
	sim_join(tid);
	clone_and_end();
}

static void moves_16(void *arg __attribute__((unused)))
{
	move(0, 16, 32, 16);
}

/* What was moved before fork() copied it may be told of when the child has begun. */
SCENE(a_child_learns_of_what_was_told_late, CHILD_SEEDS)
{
	uint32_t tid;

	start_with_two(0, 64);
	tid = sim_spawn("move", moves_16, NULL);
	CHECK_EQ(sim_fork_libc(&library_atfork, looks_at_all_places, NULL), 0);
	sim_join(tid);
	looks_at_all_places(NULL);
	end();
}

static void clones(void *arg __attribute__((unused)))
{
	CHECK_EQ(sim_fork(looks_at_all_places, NULL), 0);
}

/*
 * fork() may copy the reader while it fills the child of a raw clone, with what was read
 * by then: that is nothing of the other child's. And what either has seen is read first.
 */
SCENE(a_fork_beside_a_raw_clone_has_no_batch, HALF_SEEDS)
{
	uint32_t tid[2];

	start_with_two(0, 64);
	tid[0] = sim_spawn("clone", clones, NULL);
	tid[1] = sim_spawn("move", moves_16, NULL);
	CHECK_EQ(sim_fork_libc(&library_atfork, looks_at_all_places, NULL), 0);
	sim_join(tid[0]);
	sim_join(tid[1]);
	looks_at_all_places(NULL);
	while (!sim_children_filled())
		sim_sleep(20000);
	end();
}

TEST(a_fork_beside_a_raw_clone_has_no_batch_other_seeds)
{
	run(a_fork_beside_a_raw_clone_has_no_batch_scene, HALF_SEEDS + 1, SEEDS);
}

static void looks_at_the_second(void *arg __attribute__((unused)))
{
	look(64, 16);
}

/*
 * While an event is unread nothing can be filled, and who faults does so again and again:
 * of that the log of a fork() keeps nothing, or it would be full.
 */
SCENE(what_is_refused_while_frozen_is_not_logged, CHILD_SEEDS)
{
	const struct frozen_log *log;
	uint32_t tid[2], i;

	start_with_two(0, 64);
	tid[0] = sim_spawn("move", moves_16, NULL);
	tid[1] = sim_spawn("look", looks_at_the_second, NULL);
	CHECK_EQ(sim_fork_libc(&library_atfork, looks_at_all_places, NULL), 0);
	log = space->fork.log;
	for (i = 0; i < log->nr; i++)
		CHECK(log->record[i].kind != FROZEN_VOID);
	sim_join(tid[0]);
	sim_join(tid[1]);
	looks_at_all_places(NULL);
	end();
}

static void looks_at_300(void *arg __attribute__((unused)))
{
	sim_sleep(1 + sim_below(300000));
	look(0, 300);
}

/*
 * A child that gets no processor, and another thread of its parent uses memory meanwhile:
 * of that a log is kept, which has an end. With the limits of test_orders_small it would
 * come to it here.
 */
SCENE(who_faults_waits_for_the_child_when_the_log_is_half_full, FEW_SEEDS)
{
	uint32_t tid;

	start_with("ram", 300);
	child_sleeps_ns = 50000000;
	tid = sim_spawn("look", looks_at_300, NULL);
	CHECK_EQ(sim_fork_libc(&library_atfork, looks_at_300, NULL), 0);
	child_sleeps_ns = 0;
	sim_join(tid);
	end();
}

static void moves_half_of_16(void *arg __attribute__((unused)))
{
	sim_sleep(1 + sim_below(30000));
	move(0, 16, 100, 8);
}

static void looks_on(void *arg __attribute__((unused)))
{
	unsigned i;

	for (i = 0; i < 4; i++)
		look(64, 16);
}

/*
 * Three events of one call, and somebody faults all the time meanwhile: of which the
 * kernel tells first, and that is refused until the last event was read.
 */
SCENE(who_faults_does_not_hide_an_event, HUGE_SEEDS)
{
	uint32_t tid[2];

	start_with_two(0, 64);
	tid[0] = sim_spawn("move", moves_half_of_16, NULL);
	tid[1] = sim_spawn("look", looks_on, NULL);
	CHECK_EQ(sim_fork_libc(&library_atfork, looks_at_all_places, NULL), 0);
	sim_join(tid[0]);
	sim_join(tid[1]);
	looks_at_all_places(NULL);
	end();
}

/* ---- who is looked for ------------------------------------------------------------- */

#define SECOND UINT64_C(1000000000)

static void clone_unlisted(uint64_t ns)
{
	sim_list_no_children(ns);
	CHECK_EQ(sim_fork(looks_at_all_places, NULL), 0);
	while (!sim_children_filled())
		sim_sleep(1000000);
	sim_list_no_children(0);
}

/* Who is slow is waited for; a machine that lists nobody is not, the second time. */
SCENE(a_child_that_is_listed_late_is_found, FEW_SEEDS)
{
	uint64_t from;

	start_with_two(0, 64);
	clone_unlisted(0);
	CHECK_EQ(space->fork.named, NAMED_LAST);
	clone_unlisted(4 * SECOND);
	CHECK_EQ(space->fork.named, NAMED_LAST);
	clone_unlisted(40 * SECOND);
	CHECK_EQ(space->fork.named, NAMED_NOT);
	from = os_now_ns();
	clone_unlisted(40 * SECOND);
	CHECK_LT(os_now_ns() - from, SECOND);
	clone_unlisted(0);
	CHECK_EQ(space->fork.named, NAMED_LAST);
	end();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library on the simulated machine, in scenes: the few operations of a few threads
 * that a certain order of events needs, for orders that a random program (test_sim)
 * hardly ever comes to. Each is run with many seeds, and a seed is a schedule.
 *
 * Those of children are in orders_fork.c.
 */
#include "tests/sim/orders.h"

struct uhmm_space *space;
struct uhmm_device *device;

/* ---- while a device is at work ----------------------------------------------------- */

static void brings_16_back(void *arg __attribute__((unused)))
{
	migrate(0, 16, NULL);
}

/*
 * Pages are being loaded when the reader learns that they are discarded. It waits for
 * them, and whoever discards them goes on: their bytes must not come after that.
 */
SCENE(what_is_loaded_is_not_filled_in_after_a_discard, SEEDS)
{
	uint32_t tid;

	start_with("delay+ram", 16);
	tid = sim_spawn("back", brings_16_back, NULL);
	sim_sleep(1 + sim_below(20000));
	CHECK_EQ(sim_dontneed(at(0), 16 * SIM_PAGE), 0);
	sim_join(tid);
	look(0, 16);
	end();
}

static void discards_16(void *arg __attribute__((unused)))
{
	sim_sleep(1 + sim_below(20000));
	CHECK_EQ(sim_dontneed(at(0), 16 * SIM_PAGE), 0);
}

/* MADV_DONTNEED tells first and discards then: a page that left in between would stay. */
SCENE(nothing_is_stored_while_its_discard_is_to_come, SEEDS)
{
	uint32_t tid;

	start_with("ram", 16);
	migrate(0, 16, NULL);
	tid = sim_spawn("discard", discards_16, NULL);
	sim_sleep(1 + sim_below(30000));
	migrate(0, 16, device);
	migrate(0, 16, device);
	sim_join(tid);
	look(0, 16);
	end();
}

static void looks_at_16(void *arg __attribute__((unused)))
{
	unsigned i;

	for (i = 0; i < 10; i++)
		look(0, 16);
}

static void goes_to_the_first_device(void *arg __attribute__((unused)))
{
	migrate(0, 32, device);
}

/* From one device to another: what is done to it on the way is done. */
SCENE(what_goes_from_device_to_device_can_be_used_on_the_way, CHILD_SEEDS)
{
	struct uhmm_device *other;
	uint32_t tid[2];

	start("delay+ram");
	CHECK_EQ(uhmm_device_open(space, "ram", &other), 0);
	map(0, 32, SIM_RW);
	fill(0, 32, 'a');
	CHECK_EQ(migrate(0, 32, other), 32);
	tid[0] = sim_spawn("go", goes_to_the_first_device, NULL);
	tid[1] = sim_spawn("look", looks_at_16, NULL);
	sim_sleep(1 + sim_below(40000));
	CHECK_EQ(sim_dontneed(at(8), 4 * SIM_PAGE), 0);
	fill(10, 1, 'n');
	move(16, 8, 40, 8);
	look(40, 8);
	sim_join(tid[0]);
	sim_join(tid[1]);
	look(0, 16);
	look(24, 8);
	end();
}

/* A page may be touched at any instant of its being stored, the last one too. */
SCENE(who_touches_what_is_stored_is_woken, SEEDS)
{
	uint32_t tid;
	unsigned i;

	start("delay+ram");
	map(0, 16, SIM_RW);
	fill(0, 16, 'a');
	tid = sim_spawn("look", looks_at_16, NULL);
	for (i = 0; i < 10; i++)
		migrate(0, 16, device);
	sim_join(tid);
	end();
}

/* ---- huge pages -------------------------------------------------------------------- */

/* Then what is left of it on the device comes back page by page. */
SCENE(a_stored_huge_page_of_which_a_page_is_back_comes_back, HUGE_SEEDS)
{
	start("ram");
	map(0, CHUNK, SIM_RW | SIM_THP);
	fill(0, CHUNK, 'a');
	CHECK_EQ(migrate(0, CHUNK, device), CHUNK);
	look(300, 1);
	CHECK(!sim_present(at(0)));
	migrate(0, CHUNK, NULL);
	CHECK(sim_present(at(0)) && sim_present(at(CHUNK - 1)));
	look(0, CHUNK);
	end();
}

static void discards_page_200(void *arg __attribute__((unused)))
{
	sim_sleep(1 + sim_below(30000));
	CHECK_EQ(sim_dontneed(at(200), SIM_PAGE), 0);
}

/* It was huge when it was looked at. The pages before the hole move, each of them. */
SCENE(a_huge_page_gets_a_hole_before_it_is_moved, HUGE_SEEDS)
{
	uint32_t tid;

	map(0, CHUNK, SIM_RW | SIM_THP);
	fill(0, CHUNK, 'a');
	start("ram");
	tid = sim_spawn("discard", discards_page_200, NULL);
	migrate(0, CHUNK, device);
	sim_join(tid);
	look(0, CHUNK);
	end();
}

static void stores_the_chunk(void *arg __attribute__((unused)))
{
	migrate(0, CHUNK, device);
}

static void unmaps_another(void *arg __attribute__((unused)))
{
	sim_sleep(1 + sim_below(200000));
	CHECK_EQ(sim_munmap(at(CHUNK + 200), 16 * SIM_PAGE), 0);
}

/*
 * The program has made a mapping read-only whose huge page is in frames: it comes back as
 * copies; and an event is in the way of some of them. Frames with a page that was copied
 * are not free: a hole would have its bytes.
 */
SCENE(a_huge_page_that_is_copied_back_in_part_leaves_no_frames, FEW_SEEDS)
{
	uint32_t tid[2];

	map(0, CHUNK, SIM_RW | SIM_THP);
	fill(0, CHUNK, 'a');
	map(CHUNK + 200, 16, SIM_RW);
	fill(CHUNK + 200, 16, 'a');
	start("delay+ram");
	migrate(CHUNK + 200, 16, device);
	tid[0] = sim_spawn("store", stores_the_chunk, NULL);
	tid[1] = sim_spawn("unmap", unmaps_another, NULL);
	sim_sleep(1 + sim_below(40000));
	CHECK_EQ(sim_mprotect(at(0), CHUNK * SIM_PAGE, SIM_READ), 0);
	look(0, CHUNK);
	sim_join(tid[0]);
	sim_join(tid[1]);
	map(CHUNK, 64, SIM_RW);
	migrate(CHUNK, 64, device);
	look(CHUNK, 64);
	end();
}

/* ---- another mapping --------------------------------------------------------------- */

static bool moved_away;

static void unmaps_16(void *arg __attribute__((unused)))
{
	sim_sleep(1 + sim_below(30000));
	CHECK_EQ(sim_munmap(at(0), 16 * SIM_PAGE), 0);
}

/* As the kernel would choose for anybody what is free now. */
static void maps_16_and_moves_them(void *arg __attribute__((unused)))
{
	while (sim_mapped(at(0)))
		sim_point();
	map(0, 16, SIM_RW);
	sim_sleep(1 + sim_below(5000));
	CHECK_EQ(sim_mremap(at(0), 16 * SIM_PAGE, at(32), 16 * SIM_PAGE, false), 0);
	look(32, 16);
	moved_away = true;
}

/*
 * A mapping takes the place of one that is being registered, and is registered instead;
 * so its move is told, and is none of what was on the device there before.
 */
SCENE(what_was_unmapped_does_not_move_along_with_what_came_after_it, SEEDS)
{
	uint32_t tid[2];

	start("ram");
	map(0, 16, SIM_RW);
	fill(0, 16, 'a');
	CHECK_EQ(migrate(0, 8, device), 8);
	moved_away = false;
	tid[0] = sim_spawn("unmap", unmaps_16, NULL);
	tid[1] = sim_spawn("map", maps_16_and_moves_them, NULL);
	while (!moved_away)
		migrate(8, 8, device);
	sim_join(tid[0]);
	sim_join(tid[1]);
	look(32, 16);
	end();
}

static void replaces_16(void *arg __attribute__((unused)))
{
	sim_sleep(1 + sim_below(10000));
	CHECK_EQ(sim_munmap(at(0), 16 * SIM_PAGE), 0);
	map(0, 16, SIM_RW);
	fill(0, 16, 'A');
	look(0, 16);
}

/*
 * Nothing of a mapping that was not registered is told; what takes its place while it is
 * being registered may not be registered, and then nothing may leave it.
 */
SCENE(nothing_leaves_what_came_too_late_to_be_registered, SEEDS)
{
	uint32_t tid;

	start("ram");
	map(0, 32, SIM_RW);
	fill(0, 32, 'a');
	tid = sim_spawn("replace", replaces_16, NULL);
	migrate(0, 16, device);
	sim_join(tid);
	look(0, 32);
	end();
}

/* ---- in frames --------------------------------------------------------------------- */

static uint64_t in_frames(void)
{
	struct uhmm_stats stats = { .size = sizeof(stats) };

	CHECK_EQ(uhmm_stats_get(space, &stats), 0);
	return stats.now_probation;
}

/* A frame is stored by where its page is, and that changes. */
SCENE(what_has_moved_in_its_frame_is_stored, HUGE_SEEDS)
{
	struct uhmm_stats stats = { .size = sizeof(stats) };
	unsigned tries = 0;

	start("delay+lz4");
	CHECK_EQ(uhmm_stats_get(space, &stats), 0);
	map(0, PAGES, SIM_RW);
	CHECK_EQ(uhmm_manage(space, (void *)at(0), 2 * PAGES * SIM_PAGE), 0);
	CHECK_EQ(uhmm_budget_set(space,
				 stats.rss_anon_bytes +
					 (BUDGET_OWN_PAGES + PAGES / 4) * SIM_PAGE),
		 0);
	fill(0, PAGES, 'a');
	for (; !in_frames(); tries++) {
		CHECK_GT(PAGES / 16, tries);
		look(tries * 16, 16);
		sim_sleep(1000000);
	}
	CHECK_EQ(uhmm_budget_set(space, 0), 0);
	move(PAGES / 2, PAGES / 2, PAGES, PAGES / 2);
	migrate(PAGES, PAGES / 2, device);
	migrate(0, PAGES / 2, device);
	CHECK_EQ(in_frames(), 0);
	look(0, PAGES / 2);
	look(PAGES, PAGES / 2);
	end();
}

/*
 * What has grown again in its place is moved, in part or whole, before anybody has read
 * of anything: it is empty.
 */
SCENE(what_grew_again_is_moved_empty, SEEDS)
{
	start_with("ram", 16);
	move(0, 16, 0, 8);
	move(0, 8, 0, 16);
	move(8, 8, 32, 8);
	look(32, 8);
	end();
}

static void maps_what_has_moved_and_unmaps_all(void *arg __attribute__((unused)))
{
	while (sim_mapped(at(8)))
		sim_point();
	map(8, 8, SIM_RW);
	CHECK_EQ(sim_munmap(at(0), 16 * SIM_PAGE), 0);
}

/* It had moved before, and may be told of later: nothing had grown there. */
SCENE(what_is_unmapped_where_it_has_moved_away_is_kept, SEEDS)
{
	uint32_t tid;

	start_with("ram", 16);
	tid = sim_spawn("unmap", maps_what_has_moved_and_unmaps_all, NULL);
	move(8, 8, 32, 8);
	sim_join(tid);
	look(32, 8);
	end();
}

/* What moves over what has just arrived, and grows, leaves nothing of it. */
SCENE(what_is_moved_over_by_what_grows_is_gone, SEEDS)
{
	start_with("ram", 16);
	move(0, 8, 32, 8);
	move(8, 1, 34, 4);
	look(32, 8);
	end();
}

SCENE(a_part_of_what_grew_again_is_moved_empty, SEEDS)
{
	start_with("ram", 16);
	move(0, 16, 0, 4);
	move(0, 4, 0, 12);
	move(8, 2, 32, 2);
	look(32, 2);
	CHECK_EQ(sim_munmap(at(0), 8 * SIM_PAGE), 0);
	end();
}

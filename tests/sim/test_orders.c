/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library on the simulated machine, in scenes: the few operations of a few threads
 * that a certain order of events needs, for orders that a random program (test_sim)
 * hardly ever comes to. Each is run with many seeds, and a seed is a schedule.
 */
#include "lib/host.h"
#include "lib/types.h"
#include "tests/sim/program.h"
#include "tests/test.h"
#include "uhmm/uhmm.h"

/* Where there is a huge page a seed takes long, and where there is a child. */
#define SEEDS 1000
#define HUGE_SEEDS 100
#define CHILD_SEEDS 200
#define FEW_SEEDS 50   /* of a huge page by several threads */
#define HALF_SEEDS 500 /* of SEEDS, which take too long for one test */
#define CHUNK 512u     /* pages of a huge page */
#define PAGES 960u     /* more than a budget that the library itself fits in */

static struct uhmm_space *space;
static struct uhmm_device *device;

static uintptr_t at(unsigned page)
{
	return ARENA_BASE + page * SIM_PAGE;
}

/* ---- scenes ------------------------------------------------------------------------ */

static void start(const char *spec)
{
	CHECK_EQ(uhmm_space_create(NULL, &space), 0);
	CHECK_EQ(uhmm_device_open(space, spec, &device), 0);
}

static void map(unsigned page, unsigned nr, unsigned prot)
{
	CHECK_EQ(sim_mmap(at(page), nr * SIM_PAGE, prot), 0);
}

static void fill(unsigned page, unsigned nr, char with)
{
	for (; nr; nr--, page++, with++)
		CHECK_EQ(sim_write(at(page) + page % 500, &with, 1), 0);
}

static void move(unsigned from, unsigned nr, unsigned to, unsigned nr_then)
{
	CHECK_EQ(sim_mremap(at(from), nr * SIM_PAGE, at(to), nr_then * SIM_PAGE, false),
		 0);
}

/* The world compares what is read. */
static void look(unsigned page, unsigned nr)
{
	static char buf[SIM_PAGE];

	for (; nr; nr--, page++)
		CHECK_EQ(sim_read(at(page), buf, SIM_PAGE), 0);
}

/* to: NULL for memory. How many pages moved. */
static size_t migrate(unsigned page, unsigned nr, struct uhmm_device *to)
{
	size_t moved;

	CHECK_EQ(uhmm_migrate(space, (void *)at(page), nr * SIM_PAGE, to, NULL, &moved),
		 0);
	return moved;
}

/* A mapping of nr pages, all of them on the device. */
static void start_with(const char *spec, unsigned nr)
{
	start(spec);
	map(0, nr, SIM_RW);
	fill(0, nr, 'a');
	CHECK_EQ(migrate(0, nr, device), nr);
}

static void run(void (*fn)(void *), unsigned first, unsigned last)
{
	struct sim_config config = { .seed = first, .late_event = 4 };

	for (; config.seed <= last; config.seed++)
		sim_run(&config, fn, NULL);
}

static void end(void)
{
	CHECK_EQ(uhmm_space_destroy(space), 0);
	CHECK(host_is_valid());
	host_reset();
}

#define SCENE(name_, seeds_)                                                             \
	static void name_##_scene(void *arg);                                            \
	TEST(name_)                                                                      \
	{                                                                                \
		run(name_##_scene, 1, seeds_);                                           \
	}                                                                                \
	static void name_##_scene(void *arg __attribute__((unused)))

static uint32_t child_sleeps_ns;

void before_child_handler(void)
{
	if (child_sleeps_ns)
		sim_sleep(child_sleeps_ns);
}

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

/* ---- in frames, and at fork() ------------------------------------------------------ */

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
	CHECK_EQ(sim_fork(looks_at_all_places, NULL), 0);
	CHECK_EQ(sim_munmap(at(0), 16 * SIM_PAGE), 0);
	fill_children_and_end();
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
	CHECK_EQ(sim_fork(looks_at_all_places, NULL), 0);
	CHECK_EQ(sim_munmap(at(0), 32 * SIM_PAGE), 0);
	fill_children_and_end();
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

/* SPDX-License-Identifier: Apache-2.0 */
/* What the scenes of test_orders have in common. */
#ifndef SIM_ORDERS_H
#define SIM_ORDERS_H

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

/* Of the scene that is run. */
extern struct uhmm_space *space;
extern struct uhmm_device *device;

static inline uintptr_t at(unsigned page)
{
	return ARENA_BASE + page * SIM_PAGE;
}

static inline void start(const char *spec)
{
	CHECK_EQ(uhmm_space_create(NULL, &space), 0);
	CHECK_EQ(uhmm_device_open(space, spec, &device), 0);
}

static inline void map(unsigned page, unsigned nr, unsigned prot)
{
	CHECK_EQ(sim_mmap(at(page), nr * SIM_PAGE, prot), 0);
}

static inline void fill(unsigned page, unsigned nr, char with)
{
	for (; nr; nr--, page++, with++)
		CHECK_EQ(sim_write(at(page) + page % 500, &with, 1), 0);
}

static inline void move(unsigned from, unsigned nr, unsigned to, unsigned nr_then)
{
	CHECK_EQ(sim_mremap(at(from), nr * SIM_PAGE, at(to), nr_then * SIM_PAGE, false),
		 0);
}

/* The world compares what is read. */
static inline void look(unsigned page, unsigned nr)
{
	static char buf[SIM_PAGE];

	for (; nr; nr--, page++)
		CHECK_EQ(sim_read(at(page), buf, SIM_PAGE), 0);
}

/* to: NULL for memory. How many pages moved. */
static inline size_t migrate(unsigned page, unsigned nr, struct uhmm_device *to)
{
	size_t moved;

	CHECK_EQ(uhmm_migrate(space, (void *)at(page), nr * SIM_PAGE, to, NULL, &moved),
		 0);
	return moved;
}

/* A mapping of nr pages, all of them on the device. */
static inline void start_with(const char *spec, unsigned nr)
{
	start(spec);
	map(0, nr, SIM_RW);
	fill(0, nr, 'a');
	CHECK_EQ(migrate(0, nr, device), nr);
}

struct scene {
	void (*fn)(void *);
	bool beside_another, over;
};

static inline void waits_for_the_end(void *arg)
{
	struct scene *scene = arg;

	while (!scene->over)
		sim_sleep(100000000);
}

static inline void scene_main(void *arg)
{
	struct scene *scene = arg;
	uint32_t tid = 0;

	if (scene->beside_another)
		tid = sim_spawn("other", waits_for_the_end, scene);
	scene->fn(NULL);
	scene->over = true;
	if (tid)
		sim_join(tid);
}

/*
 * Where the program has one thread the library knows the order of what it does. So every
 * second time there is another, which does nothing.
 */
static inline void run(void (*fn)(void *), unsigned first, unsigned last)
{
	struct sim_config config = { .seed = first, .late_event = 4 };

	for (; config.seed <= last; config.seed++) {
		struct scene scene = { .fn = fn, .beside_another = config.seed % 2 };

		sim_run(&config, scene_main, &scene);
	}
}

static inline void end(void)
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

#endif

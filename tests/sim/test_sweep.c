/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The failure sweep: whatever may fail for want of memory, descriptors or threads fails,
 * the first time, the second, the third ... until a scenario is through without one.
 *
 * Whichever call it was: the library says so by an error, or does without; every byte of
 * the program is what it should be; nothing hangs; and once there is memory again the
 * space can be destroyed and nothing is left over. Each scenario is swept twice: with one
 * failure, and with all calls failing from then on.
 *
 *	test_sweep                         all
 *	test_sweep --scenario N --at N [--on] [--trace]   one run
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/host.h"
#include "tests/sim/program.h"
#include "tests/sim/sweep.h"
#include "uhmm/migrate.h"
#include "uhmm/range.h"
#include "uhmm/uhmm.h"

#define PAGES SWEEP_PAGES
#define SMALL SWEEP_SMALL

static unsigned scenario, nr_calls;
static bool with_trace;

uintptr_t sweep_page(unsigned i)
{
	return ARENA_BASE + i * SIM_PAGE;
}

/* ---- what may be answered --------------------------------------------------------- */

static bool is_shortage(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -EAGAIN || r == -ENOSPC ||
	       r == -EBUSY;
}

/* True: it was done. */
bool sweep_did(const char *what, int r)
{
	if (r < 0 && !is_shortage(r))
		sim_fail("%s: %d (%s)", what, r, strerror(-r));
	return r >= 0;
}

void sweep_must(const char *what, int r)
{
	if (r)
		sim_fail("%s, when there was memory again: %d (%s)", what, r,
			 strerror(-r));
}

/* The world compares what is read. */
void sweep_read(unsigned from, unsigned to)
{
	static char buf[SIM_PAGE];
	int r;

	for (; from < to; from++) {
		r = sim_read(sweep_page(from), buf, sizeof(buf));
		if (r)
			sim_fail("page %u: %d (%s)", from, r, strerror(-r));
	}
}

void sweep_write(unsigned from, unsigned to, char with)
{
	int r;

	for (; from < to; from++) {
		r = sim_write(sweep_page(from) + 8 * (from % 500), &with, 1);
		if (r)
			sim_fail("page %u: %d (%s)", from, r, strerror(-r));
	}
}

/* ---- parts of scenarios ----------------------------------------------------------- */

static void map_memory(void)
{
	sweep_must("mmap", sim_mmap(ARENA_BASE, PAGES * SIM_PAGE, SIM_RW | SIM_THP));
	sweep_write(0, PAGES - 20, 'a');
}

struct uhmm_space *sweep_space(void)
{
	struct uhmm_space *space = NULL;
	int r = uhmm_space_create(NULL, &space);

	return sweep_did("uhmm_space_create", r) ? space : NULL;
}

static void move(struct uhmm_space *space, unsigned from, unsigned to,
		 struct uhmm_device *dev)
{
	size_t moved;

	sweep_did("uhmm_migrate",
		  uhmm_migrate(space, (void *)sweep_page(from), (to - from) * SIM_PAGE,
			       dev, NULL, &moved));
}

void sweep_end_space(struct uhmm_space *space)
{
	int r = uhmm_space_destroy(space);

	if (r == 0)
		return;
	sweep_did("uhmm_space_destroy", r);
	sweep_read(SMALL, PAGES);
	sim_stop_failing();
	sweep_must("uhmm_space_destroy", uhmm_space_destroy(space));
}

/* Out and back, by all the ways that there are. */
static void storage(void)
{
	struct uhmm_space *space = sweep_space();
	struct uhmm_device *dev[2] = { NULL, NULL };

	if (!space)
		return;
	sweep_did("uhmm_device_open", uhmm_device_open(space, "lz4", &dev[0]));
	sweep_did("uhmm_device_open", uhmm_device_open(space, "ram", &dev[1]));
	if (dev[1])
		move(space, 0, SMALL, dev[1]);
	if (dev[0])
		move(space, SMALL, PAGES, dev[0]);
	sweep_read(SMALL, SMALL + 30);
	sweep_write(SMALL + 20, SMALL + 60, 'b');
	move(space, 0, SMALL, NULL);
	sweep_did("uhmm_advise", uhmm_advise(space, (void *)sweep_page(SMALL),
					     40 * SIM_PAGE, UHMM_ADVISE_COLD));
	sweep_must("munmap", sim_munmap(sweep_page(PAGES - 10), 5 * SIM_PAGE));
	sweep_must("dontneed", sim_dontneed(sweep_page(SMALL + 50), 20 * SIM_PAGE));
	sweep_must("mremap", sim_mremap(sweep_page(SMALL + 90), 10 * SIM_PAGE,
					sweep_page(PAGES + 20), 10 * SIM_PAGE, false));
	if (dev[0])
		sweep_did("uhmm_device_close", uhmm_device_close(space, dev[0]));
	sweep_end_space(space);
}

static void budget(void)
{
	struct uhmm_space *space = sweep_space();
	struct uhmm_device *dev;

	if (!space)
		return;
	sweep_did("uhmm_device_open", uhmm_device_open(space, "lz4", &dev));
	sweep_did("uhmm_manage",
		  uhmm_manage(space, (void *)ARENA_BASE, PAGES * SIM_PAGE));
	sweep_did("uhmm_budget_set",
		  uhmm_budget_set(space, (BUDGET_OWN_PAGES + 400) * SIM_PAGE));
	sweep_write(0, PAGES, 'c');
	sim_sleep(100000000);
	sweep_read(0, PAGES);
	sweep_did("uhmm_budget_set", uhmm_budget_set(space, 0));
	sweep_end_space(space);
}

void before_child_handler(void)
{
}

static void child_main(void *arg)
{
	struct uhmm_space *space = arg;

	sweep_read(SMALL, PAGES);
	sweep_write(SMALL, SMALL + 40, 'd');
	sweep_read(0, SMALL);
	(void)space;
	while (!sim_children_filled())
		sim_sleep(20000);
}

static void forks(void)
{
	struct uhmm_space *space = sweep_space();
	struct uhmm_device *dev = NULL;

	if (!space)
		return;
	sweep_did("uhmm_device_open", uhmm_device_open(space, "lz4", &dev));
	if (dev)
		move(space, SMALL, PAGES - 40, dev);
	sweep_did("fork", sim_fork_libc(&library_atfork, child_main, space));
	sweep_read(SMALL, SMALL + 50);
	sweep_did("raw clone", sim_fork(NULL, NULL));
	if (dev)
		move(space, SMALL, PAGES - 40, dev);
	sweep_read(0, PAGES - 20);
	sweep_end_space(space);
}

/* ---- a driver --------------------------------------------------------------------- */

struct board {
	char *memory;
	unsigned next;
};

static int copy_to_ram(void *ctx, uint64_t at, void *buf)
{
	const struct board *b = ctx;

	memcpy(buf, b->memory + at * SIM_PAGE, SIM_PAGE);
	return 0;
}

static const struct uhmm_pagemap_ops ops = { .size = sizeof(ops),
					     .copy_to_ram = copy_to_ram };

static void invalidate(struct uhmm_notifier *n, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	(void)ctx;
	(void)what;
	uhmm_notifier_set_seq(n, seq);
}

/* All pages of a migration go to the board. */
static void copy(struct uhmm_space *space, struct uhmm_pagemap *map, struct board *b,
		 struct uhmm_migrate *m, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		const void *bytes = uhmm_pfn_is_valid(m->src[i]) ?
					    uhmm_pfn_bytes(space, m->src[i]) :
					    NULL;

		if (!(m->src[i] & UHMM_PFN_MIGRATE) ||
		    !sweep_did("uhmm_page_get", uhmm_page_get(map, b->next, &m->dst[i])))
			continue;
		if (bytes)
			memcpy(b->memory + b->next * SIM_PAGE, bytes, SIM_PAGE);
		else
			memset(b->memory + b->next * SIM_PAGE, 0, SIM_PAGE);
		b->next++;
	}
}

static void to_board(struct uhmm_space *space, struct uhmm_pagemap *map, struct board *b)
{
	static uhmm_pfn_t src[64], dst[64];
	struct uhmm_migrate m = { .size = sizeof(m),
				  .start = sweep_page(SMALL),
				  .end = sweep_page(SMALL + 64),
				  .src = src,
				  .dst = dst,
				  .owner = &ops,
				  .flags = UHMM_SELECT_SYSTEM };

	memset(dst, 0, sizeof(dst));
	if (!sweep_did("uhmm_migrate_setup", uhmm_migrate_setup(space, &m)))
		return;
	copy(space, map, b, &m, 64);
	sweep_must("uhmm_migrate_pages", uhmm_migrate_pages(space, &m));
	sweep_must("uhmm_migrate_finalize", uhmm_migrate_finalize(space, &m));
}

static void driver(void)
{
	static const struct uhmm_notifier_ops told = { .size = sizeof(told),
						       .invalidate = invalidate };
	struct uhmm_space *space = sweep_space();
	struct uhmm_pagemap_config config = {
		.size = sizeof(config), .nr_pages = 256, .owner = &ops, .ops = &ops
	};
	struct uhmm_notifier *notifier = NULL;
	struct uhmm_pagemap *map = NULL;
	struct board b = { .memory = uhmm_host_map(256 * SIM_PAGE) };
	uhmm_pfn_t pfn;

	config.ctx = &b;
	if (space && b.memory)
		sweep_did("uhmm_pagemap_register",
			  uhmm_pagemap_register(space, &config, &map));
	if (space)
		sweep_did("uhmm_notifier_insert",
			  uhmm_notifier_insert(space, ARENA_BASE, PAGES * SIM_PAGE, &told,
					       NULL, &notifier));
	if (map)
		to_board(space, map, &b);
	sweep_read(SMALL, SMALL + 20);
	if (map)
		to_board(space, map, &b);
	if (space)
		sweep_did("uhmm_make_exclusive",
			  uhmm_make_exclusive(space, sweep_page(SMALL + 70), &ops, &pfn));
	sweep_read(SMALL, PAGES);
	if (notifier)
		uhmm_notifier_remove(notifier);
	if (map && !sweep_did("uhmm_pagemap_unregister", uhmm_pagemap_unregister(map))) {
		sim_stop_failing();
		sweep_must("uhmm_pagemap_unregister", uhmm_pagemap_unregister(map));
	}
	if (space)
		sweep_end_space(space);
	uhmm_host_unmap(b.memory, 256 * SIM_PAGE);
}

/* ---- sweeping --------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(void);
	const char *dies; /* what the library may end the process of */
} scenarios[] = {
	{ "storage", storage, NULL },
	{ "budget", budget, NULL },
	{ "forks", forks, "no memory or descriptors left to follow a fork()" },
	{ "driver", driver, NULL },
	{ "folios", sweep_folios, NULL },
	{ "coherent", sweep_coherent, NULL },
	{ "shared", sweep_shared, "no memory or descriptors left to follow a fork()" },
	{ "mirror", sweep_mirror, NULL },
};

#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

static void world_main(void *arg)
{
	struct host_stat host;

	(void)arg;
	map_memory();
	scenarios[scenario].run();
	sim_stop_failing();
	sweep_read(0, SMALL);
	sim_sleep(50000000);
	host_stat(&host);
	if (host.runs || !host_is_valid())
		sim_fail("%lu runs of %lu bytes were not returned", host.runs,
			 host.bytes_mapped);
	host_reset();
}

static bool persists;
static uint64_t *most; /* calls of a run without a failure; shared */

static void run_at(uint64_t at)
{
	struct sim_config config = {
		.seed = 1, .trace = with_trace, .fail_at = at, .fail_on = persists
	};

	sim_run(&config, world_main, NULL);
	/* Up to the call that fails each run is that one: no other comes further. */
	if (!at)
		*most = sim_fallible();
}

static unsigned nr_died;

/* The library ended the process, as it says that it does; or that is a failure. */
static bool may_end(const char *line)
{
	const char *dies = scenarios[scenario].dies;

	return dies && strstr(line, "the library ended the process: ") &&
	       strstr(line, dies);
}

static void say_failure(uint64_t at, uint64_t first, int log)
{
	char buf[1024];
	const char *line = batch_last_line(log, buf, sizeof(buf));

	(void)first;
	if (may_end(line)) {
		nr_died++;
		return;
	}
	printf("# --scenario %u --at %lu%s: %s\n", scenario, at, persists ? " --on" : "",
	       line);
}

static bool sweep(unsigned number)
{
	struct batch batch = {
		.jobs = 1, .go_on = true, .run = run_at, .failed = say_failure
	};
	unsigned failed = 0;

	nr_died = 0;
	*most = 0;
	for (batch.from = 0; batch.from <= *most; batch.from += batch.nr) {
		batch.nr = (unsigned)(*most + 1 - batch.from);
		failed += batch_run(&batch);
		nr_calls += batch.nr;
	}
	failed -= nr_died;
	printf("%sok %u - %s_%s\n# %lu runs, %u failed, %u died\n", failed ? "not " : "",
	       number, scenarios[scenario].name, persists ? "from_then_on" : "once",
	       batch.from, failed, nr_died);
	return !failed;
}

static int all(void)
{
	bool good = true;

	printf("1..%zu\n", 2 * SCENARIOS);
	for (scenario = 0; scenario < SCENARIOS; scenario++)
		for (persists = false;; persists = true) {
			good &= sweep(2 * scenario + 1 + persists);
			if (persists)
				break;
		}
	printf("# %u failures were made\n", nr_calls);
	return !good;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "scenario", 1, NULL, 's' }, { "at", 1, NULL, 'a' },
		{ "on", 0, NULL, 'o' },       { "trace", 0, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t at = 0;
	bool one = false;
	int c;

	most = mmap(NULL, sizeof(*most), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (most == MAP_FAILED)
		return 1;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		one = true;
		if (c == 's')
			scenario = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 'a')
			at = strtoull(optarg, NULL, 0);
		else if (c == 'o')
			persists = true;
		else if (c == 't')
			with_trace = true;
		else
			return 125;
	}
	if (!one)
		return all();
	if (scenario >= SCENARIOS)
		return 125;
	run_at(at);
	printf("%lu calls\n", sim_fallible());
	return 0;
}

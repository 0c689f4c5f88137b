/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A random program on a simulated machine, with the library in it.
 *
 * Two to four threads share some hundred pages and do to them whatever programs do; the
 * library is told at random to migrate, to bring back, to pin, to keep to a budget. What
 * a seed does is a function of the seed alone. The world (sim.h) compares every byte.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "tests/sim/sim.h"

struct uhmm_space;
struct uhmm_device;
struct driver;
struct mirror;

#define PROGRAM_DEVICES 2
/* What the library takes for itself once it works, and what reclaim keeps in reserve. */
#define BUDGET_OWN_PAGES 384u

struct program {
	struct uhmm_space *space;
	struct uhmm_device *device[PROGRAM_DEVICES];
	unsigned nr_devices;
	struct driver *driver; /* NULL: none */
	struct mirror *mirror; /* the same */
	bool late_mirror;      /* it begins when somebody wants to use it */
	/* A child has a copy of this struct: so the one not during the other. */
	unsigned mirror_starting, forking;
	unsigned nr_pages; /* of the arena, from its start */
	unsigned nr_threads, nr_operations;
	unsigned forks;      /* still allowed */
	uint64_t base_bytes; /* resident before the program touched anything */
	bool manage, huge;
	bool storm;      /* mostly forks and changes of mappings */
	bool calm;       /* hardly any: huge pages stay huge */
	bool small;      /* few pages; see sim_config */
	bool no_library; /* a child whose library could not take over */
	/* Of each page's mapping: changes so far, and those under way. */
	uint32_t generation[ARENA_PAGES], changing[ARENA_PAGES];
	/* Unpinnings under way, and those during which the mapping was changed. */
	uint32_t unpinning[ARENA_PAGES], unpinned_late[ARENA_PAGES];
};

/* One seed: builds the world, runs the program in it, takes everything down. */
void program_run(const struct sim_config *config);

/* As many operations at random as a thread of it does; operations.c. */
void operations_run(struct program *p);

/* ---- many seeds: batch.c ---------------------------------------------------------- */

struct batch {
	uint64_t from;
	unsigned nr, jobs;
	bool go_on; /* after a failure; else what has begun is ended, and that is all */
	void (*run)(uint64_t seed);
	/*
	 * A seed has failed, in a process that began with `first`; or the least of those
	 * that did. log: a file of what it said.
	 */
	void (*failed)(uint64_t seed, uint64_t first, int log);
};

/* How many failed. */
unsigned batch_run(const struct batch *what);
/* The last line of a log: in buf, of which it takes what there is room for. */
const char *batch_last_line(int log, char *buf, size_t size);

/* ---- fewer operations: shrink.c --------------------------------------------------- */

/*
 * Is this operation to be done? It is known by a number of its own, which is the same in
 * every run of a seed that comes to it.
 */
bool shrink_wants(uint32_t id, const char *name);
/* Only these, of a list of hexadecimal numbers. False: it is none. */
bool shrink_only(const char *list);
/*
 * This seed fails: finds a few operations that are enough for that, and prints them.
 * run() runs the seed with a schedule, in this process.
 */
void shrink(uint64_t seed, void (*run)(uint64_t seed, uint32_t schedule));
/* A driver with a device of its own; driver.c. */
void driver_start(struct program *p);
void driver_migrate(struct program *p, uintptr_t start, unsigned nr);
void driver_evict(struct program *p);
void driver_end(struct program *p, bool unregister);
void driver_free(struct program *p);
/* Where the driver's own device has a page of uhmm_range_fault(); NULL: it has not. */
void *driver_page(struct program *p, uint64_t pfn);
const void *driver_owner(void);
/* A device that mirrors the arena; mirror.c. Ranges are in pages of it. */
void mirror_start(struct program *p);
void mirror_start_in_child(struct program *p);
void mirror_map(struct program *p, unsigned page, unsigned nr);
void mirror_exclusive(struct program *p, unsigned page);
void mirror_use(struct program *p, unsigned page, unsigned nr);
void mirror_end(struct program *p, bool destroyed);
/* fork() of libc, and all of a child's life; child.c. */
void fork_libc(struct program *p);
/* What others do in a child before the library's handler runs; child.c. */
void before_child_handler(void);
/* The library's own handlers, of each process the same; library_state.c. */
extern const struct sim_atfork library_atfork;
/* Whatever can be read is. */
void read_all(struct program *p);

#endif

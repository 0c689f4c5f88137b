/* SPDX-License-Identifier: Apache-2.0 */
/* What inputs say of a simulated world, for targets that run in one. */
#ifndef FUZZ_SIM_H
#define FUZZ_SIM_H

#include "tests/fuzz/fuzz.h"
#include "tests/sim/sim.h"

#define FUZZ_WORLD_BYTES 5u

enum {
	WORLD_SPURIOUS = 1,
	WORLD_SHORT_MOVE = 2,
	WORLD_BUSY_MOVE = 4,
	WORLD_NO_MEMORY = 8,
	WORLD_HUGE = 16, /* for the target to heed */
};

/*
 * 4 bytes of seed: who runs when, what the kernel does; one of WORLD_*, returned. With
 * FUZZ_TRACE in the environment the world says what happens in it.
 */
static inline unsigned fuzz_world(struct fuzz_bytes *in, struct sim_config *config)
{
	unsigned world;

	*config = (struct sim_config){
		.seed = fuzz_number(in, 4),
		.small = true,
		.trace = getenv("FUZZ_TRACE") != NULL,
		.rss_late = 16,
		.on_failure = abort,
	};
	world = fuzz_byte(in);
	config->spurious = world & WORLD_SPURIOUS ? 40 : 0;
	config->short_move = world & WORLD_SHORT_MOVE ? 30 : 0;
	config->busy_move = world & WORLD_BUSY_MOVE ? 60 : 0;
	config->no_memory = world & WORLD_NO_MEMORY ? 200 : 0;
	return world;
}

#endif

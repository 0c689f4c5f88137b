/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions, by a program on the simulated machine: the one of tests/sim, in a
 * small world, whose choices are the input's. The world compares every byte, counts
 * frames and looks for faults that nobody answers, as it does for a seed.
 *
 *	bytes 0-3   the seed of the world: who runs when, what the kernel does
 *	byte 4      what is made to happen: a bit each of WORLD_*
 *	then        16 bytes that the program begins with, and 16 for each operation
 */
#include "tests/fuzz/fuzz.h"
#include "tests/sim/program.h"

#define HEADER 5
/* More takes longer, and says no more than two inputs would. */
#define OPERATIONS_MAX 64u

enum {
	WORLD_SPURIOUS = 1,
	WORLD_SHORT_MOVE = 2,
	WORLD_BUSY_MOVE = 4,
	WORLD_NO_MEMORY = 8
};

uint64_t (*const fuzz_digest)(void) = sim_digest;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes in = { data, data + size };
	struct sim_config config = {
		.small = true,
		.rss_late = 16,
		.on_failure = abort,
	};
	unsigned world;

	if (size < HEADER)
		return -1;
	config.seed = fuzz_number(&in, 4);
	world = fuzz_byte(&in);
	config.spurious = world & WORLD_SPURIOUS ? 40 : 0;
	config.short_move = world & WORLD_SHORT_MOVE ? 30 : 0;
	config.busy_move = world & WORLD_BUSY_MOVE ? 60 : 0;
	config.no_memory = world & WORLD_NO_MEMORY ? 200 : 0;
	config.choices = in.at;
	config.nr_choices = size - HEADER;
	if (config.nr_choices > (1 + OPERATIONS_MAX) * SIM_RECORD)
		config.nr_choices = (1 + OPERATIONS_MAX) * SIM_RECORD;
	program_run(&config);
	return 0;
}

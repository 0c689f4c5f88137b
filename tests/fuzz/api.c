/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions, by a program on the simulated machine: the one of tests/sim, in a
 * small world, whose choices are the input's. The world compares every byte, counts
 * frames and looks for faults that nobody answers, as it does for a seed.
 *
 * First what sim.h says of the world; then 16 bytes that the program begins with, and 16
 * for each operation.
 */
#include "tests/fuzz/sim.h"
#include "tests/sim/program.h"

/* More takes longer, and says no more than two inputs would. */
#define OPERATIONS_MAX 64u

uint64_t (*const fuzz_digest)(void) = sim_digest;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes in = { data, data + size };
	struct sim_config config;

	if (size < FUZZ_WORLD_BYTES)
		return -1;
	fuzz_world(&in, &config);
	config.choices = in.at;
	config.nr_choices = (size_t)(in.end - in.at);
	if (config.nr_choices > (1 + OPERATIONS_MAX) * SIM_RECORD)
		config.nr_choices = (1 + OPERATIONS_MAX) * SIM_RECORD;
	program_run(&config);
	return 0;
}

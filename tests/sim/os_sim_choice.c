/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where choices come from: the world's, and the program's. See sim.h.
 *
 * The world has one stream of numbers, of the seed and the schedule. The program's
 * choices come from a stream of each thread, and where the configuration has choices made
 * by somebody else, from those first: a record for each operation, whoever does it. When
 * a record is used up its thread goes on with a stream that is a function of the record
 * alone. So who changes a record changes one operation, and an operation of a thousand
 * choices needs no thousand bytes.
 */
#include <string.h>

#include "tests/sim/world.h"

static uint64_t rng[2];
static size_t next_record; /* of the choices, in bytes */

uint64_t mix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint32_t below(uint64_t random, uint32_t n)
{
	return (uint32_t)((random >> 32) * n >> 32);
}

void choices_reset(void)
{
	uint64_t schedule = sim_config.schedule;

	rng[0] = sim_config.seed + schedule * UINT64_C(0xd1342543de82ef95);
	rng[1] = ~sim_config.seed;
	next_record = 0;
}

/* ---- the world's ------------------------------------------------------------------ */

uint64_t world_random(void)
{
	return mix(&rng[0]);
}

uint32_t world_below(uint32_t n)
{
	return below(world_random(), n);
}

bool sim_chance(uint32_t one_in)
{
	return one_in && world_below(one_in) == 0;
}

uint64_t os_random(void)
{
	return mix(&rng[1]);
}

int os_random_bytes(void *buf, size_t len)
{
	unsigned char *byte = buf;

	while (len--)
		*byte++ = (unsigned char)mix(&rng[1]);
	return 0;
}

/* ---- the program's ---------------------------------------------------------------- */

uint64_t sim_random(void)
{
	return mix(&sim_current->stream);
}

/* As many bytes as n has, of a record. */
static bool from_record(struct thread *t, uint32_t n, uint32_t *number)
{
	uint64_t value = 0, range = 1;

	do {
		if (t->chosen == SIM_RECORD)
			return false;
		value = value << 8 | t->record[t->chosen++];
		range <<= 8;
	} while (range < n);
	*number = (uint32_t)(value * n / range);
	return true;
}

uint32_t sim_below(uint32_t n)
{
	uint32_t number;

	if (from_record(sim_current, n, &number))
		return number;
	return below(sim_random(), n);
}

void sim_stream(uint64_t stream)
{
	sim_current->stream = stream;
}

static void take_record(struct thread *t)
{
	size_t left = sim_config.nr_choices - next_record, i;
	size_t nr = left < SIM_RECORD ? left : SIM_RECORD;

	memset(t->record, 0, sizeof(t->record));
	memcpy(t->record, sim_config.choices + next_record, nr);
	next_record += nr;
	t->chosen = 0;
	t->stream = 0;
	for (i = 0; i < SIM_RECORD; i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, t->record + i, sizeof(word));
		t->stream ^= word;
		t->stream = mix(&t->stream);
	}
}

void choices_begin(struct thread *t, uint64_t stream)
{
	t->stream = stream;
	t->chosen = SIM_RECORD;
	if (sim_config.choices)
		take_record(t);
}

bool sim_operation(uint64_t stream)
{
	if (sim_config.choices && next_record == sim_config.nr_choices)
		return false;
	choices_begin(sim_current, stream);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gate: many may be inside at once, or one may hold it closed. Entering is cheap and
 * touches a cache line of its own shard; closing looks at all shards. Made for what is
 * entered for microseconds all the time and closed for microseconds now and then.
 *
 * A thread that is inside must not enter again (a closer may have come in between) and
 * must not close. Closers queue. All functions are async-signal-safe.
 */
#ifndef UHMM_GATE_H
#define UHMM_GATE_H

#include "lib/types.h"

/* Returns the shard to leave by. Waits while the gate is closed. */
unsigned gate_enter(struct gate *gate);
/*
 * The same for who has to come in at some time: who closes the gate waits a little for
 * it. Not for all: most find an event unread then, and have come for nothing.
 */
unsigned gate_enter_first(struct gate *gate);
/* False, without waiting, if it is closed or about to be. */
bool gate_try_enter(struct gate *gate, unsigned *shard);
void gate_leave(struct gate *gate, unsigned shard);
/* Does somebody wait to close it? Who stays inside for long asks now and then. */
bool gate_wanted(const struct gate *gate);

/*
 * For threads of the program, inside an API call: no signal handler runs while they are
 * inside, for it could touch migrated memory and wait for who waits for us.
 */
struct gate_visit {
	uint64_t signals;
	unsigned shard;
};
void gate_visit(struct gate *gate, struct gate_visit *visit);
void gate_end_visit(struct gate *gate, const struct gate_visit *visit);

/* Waits until nobody is inside. */
void gate_close(struct gate *gate);
void gate_open(struct gate *gate);

/*
 * In a child by fork(), where nobody is but the caller: who was inside the parent's, or
 * at its door, when memory was copied, never leaves here. Closed by the caller, or open.
 */
void gate_after_fork(struct gate *gate, bool closed);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate. Enter: count in, then look whether it is closed; close: mark closed, then
 * look at the counts. Both pairs are sequentially consistent, so one of the two sees the
 * other.
 */
#include "lib/gate.h"

#include <limits.h>

/* As long as it takes to switch to a thread that was woken, on a busy machine. */
#define GIVE_WAY_NS UINT64_C(5000000)

/* Threads have different stacks; that is a shard without asking who we are. */
static unsigned my_shard(void)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	return (unsigned)((sp >> 16) ^ (sp >> 21)) % GATE_SHARDS;
}

bool gate_try_enter(struct gate *gate, unsigned *shard)
{
	unsigned s = my_shard();

	__atomic_fetch_add(&gate->shard[s].inside, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&gate->closed, __ATOMIC_SEQ_CST) == 0) {
		*shard = s;
		return true;
	}
	gate_leave(gate, s);
	return false;
}

/* Marks that somebody sleeps; false if the gate was opened meanwhile. */
static bool mark_sleeper(struct gate *gate)
{
	uint32_t closed = __atomic_load_n(&gate->closed, __ATOMIC_RELAXED);

	while (closed == 1) {
		if (__atomic_compare_exchange_n(&gate->closed, &closed, 2, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	}
	return closed == 2;
}

unsigned gate_enter(struct gate *gate)
{
	unsigned shard;

	while (!gate_try_enter(gate, &shard))
		if (mark_sleeper(gate))
			os_wait(&gate->closed, 2, -1);
	return shard;
}

unsigned gate_enter_first(struct gate *gate)
{
	unsigned shard;

	if (gate_try_enter(gate, &shard))
		return shard;
	__atomic_fetch_add(&gate->kept_out, 1, __ATOMIC_RELAXED);
	shard = gate_enter(gate);
	__atomic_fetch_sub(&gate->kept_out, 1, __ATOMIC_RELAXED);
	return shard;
}

void gate_leave(struct gate *gate, unsigned shard)
{
	uint32_t *inside = &gate->shard[shard].inside;

	if (__atomic_sub_fetch(inside, 1, __ATOMIC_SEQ_CST) == 0 &&
	    __atomic_load_n(&gate->closed, __ATOMIC_SEQ_CST) != 0)
		os_wake(inside, 1);
}

bool gate_wanted(const struct gate *gate)
{
	return __atomic_load_n(&gate->closed, __ATOMIC_RELAXED) != 0;
}

void gate_visit(struct gate *gate, struct gate_visit *visit)
{
	os_block_signals(&visit->signals);
	visit->shard = gate_enter(gate);
}

void gate_end_visit(struct gate *gate, const struct gate_visit *visit)
{
	gate_leave(gate, visit->shard);
	os_restore_signals(&visit->signals);
}

/*
 * Who closes it again and again lets those in first that must not starve, or they would
 * find it closed each time they have woken up.
 */
static void give_way(const struct gate *gate)
{
	uint64_t until;

	if (!__atomic_load_n(&gate->kept_out, __ATOMIC_RELAXED))
		return;
	until = os_now_ns() + GIVE_WAY_NS;
	while (__atomic_load_n(&gate->kept_out, __ATOMIC_RELAXED) && !gate_wanted(gate) &&
	       os_now_ns() < until)
		os_yield();
}

void gate_close(struct gate *gate)
{
	unsigned s;

	give_way(gate);
	for (;;) {
		uint32_t open = 0;

		if (__atomic_compare_exchange_n(&gate->closed, &open, 1, false,
						__ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			break;
		if (mark_sleeper(gate))
			os_wait(&gate->closed, 2, -1);
	}
	for (s = 0; s < GATE_SHARDS; s++) {
		uint32_t inside;

		while ((inside = __atomic_load_n(&gate->shard[s].inside,
						 __ATOMIC_SEQ_CST)))
			os_wait(&gate->shard[s].inside, inside, -1);
	}
}

void gate_open(struct gate *gate)
{
	if (__atomic_exchange_n(&gate->closed, 0, __ATOMIC_SEQ_CST) == 2)
		os_wake(&gate->closed, INT_MAX);
}

void gate_after_fork(struct gate *gate, bool closed)
{
	*gate = (struct gate){ .closed = closed };
}

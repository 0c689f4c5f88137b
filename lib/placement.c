/* SPDX-License-Identifier: Apache-2.0 */
/* Placement. Times are those of one switch, of one tick, and of what a user notices. */
#include "lib/placement.h"

#include <errno.h>
#include <limits.h>

#include "lib/limits.h"
#include "lib/migrate.h"

#define MS UINT64_C(1000000)

/* A thread that faults so often in so long, and no other meanwhile, faults hard. */
#define HARD_NS (HARD_FAULTS * MS / 10)
/*
 * More faults of others than of the thread, by so many: it is not the only one. And more
 * that bring so many pages along: what is to be done for them is better done elsewhere.
 */
#define OTHERS_MAX 8u
#define BROUGHT_MIN 4u
/* Between two looks where the thread went. */
#define FOLLOW_NS (MS / 20)
/*
 * To follow is taken to cost as much as so many faults gain. A thread that flees before
 * that, again and again, for the scheduler has better places for it, is let go when as
 * much was lost.
 */
#define FOLLOW_FAULTS 8u
#define LOSS_MAX (16 * FOLLOW_FAULTS)

/* The worker gives way for as long as a few faults take. */
#define WAY_NS (MS / 20)

/* Between two looks of the warden. */
#define TICK_NS (2 * MS)
/* So often it sees no sign of a reader that has something to do. */
#define TICKS_HELD_UP 2u
/* And of one that has nothing to do. */
#define TICKS_IDLE 5u

/* What ended badly is not tried again for so long, and each time for longer. */
#define REST_MIN_NS (10 * MS)
#define REST_MAX_NS (1000 * MS)
/* What lasted so long did not end badly. */
#define GOOD_NS (100 * MS)

void placement_begin(struct uhmm_space *sp)
{
	struct placement *p = &sp->placement;

	p->can = os_nr_cpus() > 1 && os_place_get(&p->place) == 0;
	p->rest_ns = REST_MIN_NS;
	__atomic_store_n(&p->reader, os_tid(), __ATOMIC_RELEASE);
}

static void rest(struct placement *p, uint64_t now)
{
	if (now - p->since_ns >= GOOD_NS)
		p->rest_ns = REST_MIN_NS;
	__atomic_store_n(&p->rest_until, now + p->rest_ns, __ATOMIC_RELAXED);
	p->rest_ns = p->rest_ns < REST_MAX_NS / 2 ? p->rest_ns * 2 : REST_MAX_NS;
}

/*
 * Under the lock. All of ours gather there. Each time that one of them is woken elsewhere
 * the thread is too, the next time it has slept in a fault, and is to be followed
 * (Linux 6.18; docs/fault-path.md).
 */
static void set_at(struct placement *p, uint32_t at)
{
	uint32_t worker = __atomic_load_n(&p->worker, __ATOMIC_ACQUIRE);
	uint32_t warden = __atomic_load_n(&p->warden_tid, __ATOMIC_ACQUIRE);

	__atomic_store_n(&p->at, at, __ATOMIC_RELEASE);
	if (worker)
		os_gather(&p->place, worker, (int)at - 1);
	if (warden)
		os_gather(&p->place, warden, (int)at - 1);
}

/* Under the lock. bad: not to be tried again soon. */
static void raise_locked(struct placement *p, bool bad)
{
	if (!p->at || os_raise(&p->place, p->reader))
		return;
	set_at(p, 0);
	if (bad)
		rest(p, os_now_ns());
}

/* By the reader. */
static void raise_me(struct uhmm_space *sp)
{
	struct placement *p = &sp->placement;

	uhmm_lock(&p->lock);
	raise_locked(p, true);
	uhmm_unlock(&p->lock);
}

/* By the warden. The reader may have the lock, and be kept from running by all others. */
static void raise_reader(struct uhmm_space *sp, bool bad)
{
	struct placement *p = &sp->placement;

	if (!uhmm_trylock(&p->lock)) {
		os_raise(&p->place, __atomic_load_n(&p->reader, __ATOMIC_RELAXED));
		return;
	}
	raise_locked(p, bad);
	uhmm_unlock(&p->lock);
}

/* By the reader. */
static void lower(struct uhmm_space *sp, uint32_t tid)
{
	struct placement *p = &sp->placement;
	int cpu = os_thread_cpu(tid);

	uhmm_lock(&p->lock);
	p->since_ns = os_now_ns();
	if (cpu >= 0 && os_lower(&p->place, (uint32_t)cpu, false) == 0) {
		set_at(p, (uint32_t)cpu + 1);
		__atomic_fetch_add(&p->watch, 1, __ATOMIC_SEQ_CST);
		count(sp, COUNT_READER_LOWERED, 1);
	} else {
		rest(p, p->since_ns);
	}
	uhmm_unlock(&p->lock);
	os_wake(&p->watch, 1);
}

/* A thread faults hard. */
static void hard(struct uhmm_space *sp, uint32_t tid, uint64_t now)
{
	struct placement *p = &sp->placement;

	if (!__atomic_load_n(&p->able, __ATOMIC_ACQUIRE)) {
		__atomic_store_n(&p->wanted, true, __ATOMIC_RELEASE);
		return;
	}
	if (now >= __atomic_load_n(&p->rest_until, __ATOMIC_RELAXED))
		lower(sp, tid);
}

static void fault_of(struct uhmm_space *sp, uint32_t tid, bool streams)
{
	struct placement *p = &sp->placement;
	uint64_t now;

	if (streams && !placement_is_low(sp)) {
		p->run = 0;
		return;
	}
	if ((streams || tid != p->tid) && placement_is_low(sp)) {
		if (++p->others >= OTHERS_MAX)
			raise_me(sp);
		return;
	}
	p->others -= p->others ? 1 : 0;
	if (placement_is_low(sp)) {
		p->stayed++;
		return;
	}
	if (tid != p->tid) {
		p->tid = tid;
		p->run = 0;
	}
	if (p->run == 0)
		p->run_ns = os_now_ns();
	if (++p->run < HARD_FAULTS)
		return;
	now = os_now_ns();
	p->run = p->others = 0;
	if (now - p->run_ns < HARD_NS)
		hard(sp, tid, now);
}

/* Pages that have come, also those that were not asked for yet. */
static uint64_t nr_brought(const struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->counter[COUNT_PREFETCH], __ATOMIC_RELAXED) +
	       __atomic_load_n(&sp->counter[COUNT_ZERO_FILLED], __ATOMIC_RELAXED);
}

void placement_answered(struct uhmm_space *sp)
{
	struct placement *p = &sp->placement;
	uint32_t i, nr = sp->batch->nr_faults;
	uint64_t brought;

	if (!p->can || !nr)
		return;
	brought = nr_brought(sp);
	for (i = 0; i < nr; i++)
		fault_of(sp, sp->batch->fault[i].tid,
			 brought - p->brought >= (uint64_t)nr * BROUGHT_MIN);
	p->brought = brought;
}

void placement_beat(struct uhmm_space *sp)
{
	uint32_t *beat = &sp->placement.beat;

	__atomic_store_n(beat, *beat + 1, __ATOMIC_RELAXED);
}

/* By the reader: to where the thread is now, as long as that is worth it. */
static void follow(struct uhmm_space *sp, uint32_t cpu)
{
	struct placement *p = &sp->placement;

	p->loss += FOLLOW_FAULTS;
	p->loss -= p->stayed < p->loss ? p->stayed : p->loss;
	p->stayed = 0;
	if (p->loss >= LOSS_MAX) {
		p->loss = 0;
		raise_me(sp);
		return;
	}
	uhmm_lock(&p->lock);
	if (p->at) {
		set_at(p, cpu + 1);
		os_lower(&p->place, cpu, true);
	}
	uhmm_unlock(&p->lock);
}

void placement_missed(struct uhmm_space *sp)
{
	struct placement *p = &sp->placement;
	uint64_t now = os_now_ns();
	int cpu;

	if (now < p->looked_ns + FOLLOW_NS)
		return;
	p->looked_ns = now;
	cpu = os_thread_cpu(p->tid);
	if (cpu == -EPERM)
		raise_me(sp);
	else if (cpu >= 0 &&
		 (uint32_t)cpu + 1 != __atomic_load_n(&p->at, __ATOMIC_RELAXED))
		follow(sp, (uint32_t)cpu);
}

/* ---- the warden ------------------------------------------------------------------- */

struct watch {
	uint32_t beat;
	unsigned idle, held_up; /* ticks without a beat */
};

/* Does the reader have something to do, and does not come to it? */
static bool is_held_up(struct uhmm_space *sp)
{
	int fds[2] = { sp->uffd, sp->kicker };

	return !__atomic_load_n(&sp->placement.asleep, __ATOMIC_RELAXED) ||
	       os_wait_fds(fds, 2, 0) > 0;
}

void placement_give_way(struct uhmm_space *sp)
{
	struct placement *p = &sp->placement;
	uint32_t beat = __atomic_load_n(&p->beat, __ATOMIC_RELAXED);

	if (placement_is_low(sp) && is_held_up(sp))
		os_wait(&p->beat, beat, WAY_NS);
}

static void tick(struct uhmm_space *sp, struct watch *w)
{
	struct placement *p = &sp->placement;
	uint32_t beat = __atomic_load_n(&p->beat, __ATOMIC_RELAXED);

	if (beat != w->beat) {
		*w = (struct watch){ .beat = beat };
		return;
	}
	if (is_held_up(sp))
		w->held_up++;
	else
		w->idle++;
	if (w->held_up < TICKS_HELD_UP && w->idle < TICKS_IDLE)
		return;
	if (w->held_up >= TICKS_HELD_UP)
		count(sp, COUNT_READER_HELD_UP, 1);
	raise_reader(sp, w->held_up >= TICKS_HELD_UP);
	w->idle = w->held_up = 0;
}

static void warden_main(void *arg)
{
	struct uhmm_space *sp = arg;
	struct placement *p = &sp->placement;
	struct watch w = { 0 };

	if (os_may_raise(&p->place))
		return;
	__atomic_store_n(&p->warden_tid, os_tid(), __ATOMIC_RELEASE);
	__atomic_store_n(&p->able, true, __ATOMIC_RELEASE);
	while (__atomic_load_n(&sp->stop, __ATOMIC_ACQUIRE) != STOP_BOTH) {
		uint32_t seen = __atomic_load_n(&p->watch, __ATOMIC_SEQ_CST);
		bool low = placement_is_low(sp);

		if (__atomic_load_n(&sp->stop, __ATOMIC_ACQUIRE) != STOP_BOTH)
			os_wait(&p->watch, seen, low ? (int64_t)TICK_NS : -1);
		if (low)
			tick(sp, &w);
	}
}

void placement_heed(struct uhmm_space *sp)
{
	struct placement *p = &sp->placement;

	if (!p->worker)
		__atomic_store_n(&p->worker, os_tid(), __ATOMIC_RELEASE);
	if (!__atomic_load_n(&p->wanted, __ATOMIC_ACQUIRE) || p->tried)
		return;
	/* Once: there may be no thread to be had, or it may not do it. */
	p->tried = true;
	if (os_thread_start(&p->warden, warden_main, sp, "uhmm-warden") == 0)
		os_thread_await(&p->warden);
}

void placement_leave(struct uhmm_space *sp)
{
	__atomic_fetch_add(&sp->placement.watch, 1, __ATOMIC_SEQ_CST);
	os_wake(&sp->placement.watch, INT_MAX);
	os_thread_wait(&sp->placement.warden);
}

void placement_stop(struct uhmm_space *sp)
{
	placement_leave(sp);
	os_thread_join(&sp->placement.warden);
}

void placement_after_fork(struct uhmm_space *sp)
{
	os_thread_forget(&sp->placement.warden);
	sp->placement = (struct placement){ .can = false };
}

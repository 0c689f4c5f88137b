/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker. It looks at how much memory is used as often as the room left demands, and
 * above the high watermark works in small steps, each within the world, until it is below
 * the low one:
 *
 *	isolate what the hand meets   until probation has its share
 *	store the oldest group        what was not touched there goes to the device
 *
 * Two stages make a cheap approximation of least recently used: what is touched in
 * probation costs one UFFDIO_MOVE and no copy.
 *
 * A page is taken out of the page table on the processor where it is used, if that can
 * be: every other processor that runs the program has to forget it at once, and that
 * costs more than all the rest (16 us in a virtual machine; docs/fault-path.md). So where
 * faults are delivered inline, or the reader runs where the program does (placement.h),
 * and what the hand meets lies scattered, the worker asks, and sleeps, and who faults
 * next, or the reader, isolates a group. The worker does so itself where nobody faults,
 * or all wait for it.
 *
 * Pages that cannot move (pinned, locked, shared after fork with nothing gained) may be
 * all that is left. Then reclaim is stuck: faults get a trickle of room regardless, the
 * user is told once, and the program goes on above its budget.
 */
#include "lib/reclaim.h"

#include <errno.h>
#include <limits.h>

#include "lib/ask.h"
#include "lib/budget.h"
#include "lib/device.h"
#include "lib/fault.h"
#include "lib/fence.h"
#include "lib/frame.h"
#include "lib/frame_trash.h"
#include "lib/gate.h"
#include "lib/hand.h"
#include "lib/host_pages.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/placement.h"
#include "lib/policy.h"
#include "lib/range.h"
#include "lib/reader.h"
#include "lib/recent.h"
#include "lib/retire.h"

#define MS UINT64_C(1000000)

/* How often the device is asked what it takes: that takes its locks. */
#define LOOK_NS (10 * MS)
#define HOLD_MIN_NS (100 * MS)
#define HOLD_MAX_NS (10000 * MS)
/* What lasts as long is worth a line. */
#define SAY_NS (250 * MS)

/* Groups or folios isolated before one is stored, above the watermark `hurry`. */
#define HURRY_GROUPS 32
/* A device that refuses pages is offered some as often as this at least. */
#define REFUSED_MAX_NS (50 * MS)

/* Addresses swept of zero pages at a time. */
#define SWEEP_MIN ((size_t)4 << 20)
#define SWEEP_MAX ((size_t)1 << 42)

/* What storing gains, and how long that is taken for granted. */
struct worth {
	int64_t stored, usage; /* pages of memory the device took, and all, then */
	int64_t left;          /* pages not worth storing */
	uint64_t looked_ns, until_ns, hold_ns;
	bool trial; /* it was not worth it, and may be now */
};

struct worker {
	struct uhmm_lock hand_lock; /* of the hand */
	struct hand hand;
	struct ask ask;
	bool waiting;        /* for who was asked */
	struct hand brought; /* the worker's: over what streams brought lately */
	struct policy policy;
	struct hand sweeper; /* of zero pages, over what was fenced lately */
	struct range_set unswept;
	struct range sweeping; /* the part of it that is under way */
	size_t sweep_size;
	bool reclaiming;
	bool fenced;          /* a pass was made since the address space last changed */
	int64_t mapped_pages; /* when the fence was last raised */
	uint64_t walk_ns;     /* what that took */
	unsigned idle_steps;  /* steps without progress */
	bool refused;         /* the device took nothing of what it was last offered */
	uint64_t refused_ns;  /* how long it is left alone then */
	bool said_stuck;
	uint64_t stuck_ns; /* since when it is more than told; 0: it was not, last time */
	struct worth worth;
};

int reclaim_init(struct uhmm_space *sp)
{
	sp->w = uhmm_host_map(sizeof(*sp->w));
	if (!sp->w)
		return -ENOMEM;
	policy_init(&sp->w->policy);
	sp->w->sweep_size = SWEEP_MIN;
	sp->w->worth.hold_ns = HOLD_MIN_NS;
	ask_init(&sp->w->ask);
	return 0;
}

void reclaim_fini(struct uhmm_space *sp)
{
	if (sp->w)
		uhmm_host_unmap(sp->w, sizeof(*sp->w));
	sp->w = NULL;
}

void reclaim_ring(struct uhmm_space *sp)
{
	__atomic_fetch_add(&sp->work, 1, __ATOMIC_SEQ_CST);
	os_wake(&sp->work, 1);
}

void reclaim_set_limit(struct uhmm_space *sp, int64_t limit_pages)
{
	if (limit_pages)
		host_pages_keep_none();
	__atomic_store_n(&sp->budget.limit_pages, limit_pages, __ATOMIC_RELAXED);
	reclaim_ring(sp);
}

/* Looks at what is used. False: nothing to go by. */
static bool sample(struct uhmm_space *sp, int64_t *mapped)
{
	struct budget *b = &sp->budget;
	int64_t mine = os_rss_anon_pages(mapped);

	if (mine < 0)
		return false;
	b->usage_pages = mine;
	b->total_pages = mine;
	if (sp->hooks.share)
		b->total_pages = sp->hooks.share(sp->hooks.ctx, sp, mine);
	return true;
}

static int64_t nr_sharers(struct uhmm_space *sp)
{
	int64_t sharers = sp->hooks.sharers ? sp->hooks.sharers(sp->hooks.ctx) : 1;

	return sharers > 1 ? sharers : 1;
}

/*
 * Looks at how well the program's memory compresses. When little is left on the device,
 * what was seen last holds for a while; then it is tried again.
 */
static void look_at_device(struct uhmm_space *sp, const struct watermarks *wm,
			   unsigned device, uint64_t now)
{
	struct uhmm_device_stat d = { .size = sizeof(d) };
	struct worth *v = &sp->w->worth;

	device_stat(sp->device[device], &d);
	v->looked_ns = now;
	v->stored = (int64_t)(d.bytes_resident / PAGE_SIZE);
	if (d.bytes_in / PAGE_SIZE >= POLICY_SAMPLE) {
		v->left = policy_left(wm, d.bytes_in / PAGE_SIZE, (uint64_t)v->stored,
				      nr_sharers(sp));
		v->usage = sp->budget.usage_pages;
		v->until_ns = now + v->hold_ns;
		v->trial = false;
		if (v->usage - v->stored >= v->left)
			v->hold_ns = HOLD_MIN_NS;
	} else if (v->left && (now >= v->until_ns ||
			       sp->budget.usage_pages > v->usage + wm->limit / 16)) {
		v->left = 0;
		v->trial = true;
		v->hold_ns *= v->hold_ns < HOLD_MAX_NS ? 2 : 1;
	}
}

/* Pages of ours that are counted as the program's: they cannot be taken from it. */
static int64_t own_pages(struct uhmm_space *sp)
{
	return (int64_t)(page_table_bytes(sp) / PAGE_SIZE) + trash_held(sp);
}

/* Whether there is more in memory than the program should have whatever it costs. */
static bool worthwhile(struct uhmm_space *sp, const struct watermarks *wm)
{
	const struct worth *v = &sp->w->worth;
	unsigned device = device_first(sp);
	uint64_t now = os_now_ns();

	if (!device)
		return false;
	if (now >= v->looked_ns + LOOK_NS)
		look_at_device(sp, wm, device, now);
	return sp->budget.usage_pages - v->stored - own_pages(sp) >=
	       v->left + (sp->w->reclaiming ? 0 : v->left / 8);
}

static void set_room(struct uhmm_space *sp, const struct watermarks *wm)
{
	struct budget *b = &sp->budget;
	int64_t room = (wm->full - b->total_pages) / nr_sharers(sp);

	/* Where nobody makes room a fault must not wait for it for ever. */
	if ((b->stuck || !sp->w->reclaiming) && room < POLICY_TRICKLE)
		room = POLICY_TRICKLE;
	__atomic_store_n(&b->ring_below_pages, wm->ring_below, __ATOMIC_RELAXED);
	__atomic_store_n(&b->room_pages, room, __ATOMIC_RELAXED);
	/* Who was asked rings. */
	__atomic_store_n(&b->rung, sp->w->waiting, __ATOMIC_RELAXED);
	if (room <= 0)
		return;
	fault_unpark(sp);
	__atomic_fetch_add(&sp->inline_room, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&sp->inline_waiters, __ATOMIC_SEQ_CST))
		os_wake(&sp->inline_room, INT_MAX);
}

void reclaim_wait_for_room(struct uhmm_space *sp)
{
	uint32_t seen;

	__atomic_fetch_add(&sp->inline_waiters, 1, __ATOMIC_SEQ_CST);
	seen = __atomic_load_n(&sp->inline_room, __ATOMIC_SEQ_CST);
	reclaim_ring(sp);
	if (__atomic_load_n(&sp->budget.room_pages, __ATOMIC_RELAXED) <= 0)
		os_wait(&sp->inline_room, seen, 2 * (int64_t)MS);
	__atomic_fetch_sub(&sp->inline_waiters, 1, __ATOMIC_SEQ_CST);
}

/*
 * Once. Not for what is in the way, or is counted twice, for a moment, nor for what is
 * its relatives' memory.
 */
static void say_stuck(struct uhmm_space *sp, const struct watermarks *wm, const char *why)
{
	uint64_t now = os_now_ns();
	struct worker *w = sp->w;

	if (w->said_stuck || !sp->hooks.say)
		return;
	if (sp->budget.total_pages <= wm->told ||
	    sp->budget.usage_pages <= wm->limit / 2) {
		w->stuck_ns = 0;
		return;
	}
	if (!w->stuck_ns)
		w->stuck_ns = now;
	if (now < w->stuck_ns + SAY_NS)
		return;
	w->said_stuck = true;
	sp->hooks.say(sp->hooks.ctx, why);
}

/*
 * What the program has in memory: not what the device stores there. When that was looked
 * at last, so it may be more.
 */
static int64_t resident_pages(const struct uhmm_space *sp)
{
	return sp->budget.usage_pages - sp->w->worth.stored;
}

static int walk(struct uhmm_space *sp)
{
	struct worker *w = sp->w;
	int64_t resident = resident_pages(sp);
	int r = 0;

	recent_trim(sp, policy_recent_max(resident));
	uhmm_lock(&w->hand_lock);
	/* Where memory is shared since a fork the hand looks before, who has it. */
	if (hand_is_light(&w->hand) &&
	    policy_takes_recent(&w->policy, recent_pages(sp), resident)) {
		r = hand_isolate_recent(sp, &w->brought);
		w->hand.copied = false;
	}
	if (r == 0 || r == -ENOENT)
		r = hand_isolate(sp, &w->hand, HAND_WALKS);
	uhmm_unlock(&w->hand_lock);
	return r;
}

/*
 * The hand locked. Nothing that takes long, and no callback of who mirrors the memory:
 * that may come from a thread of ours, or in a call, but not in any touch.
 */
static bool may_fault(struct uhmm_space *sp)
{
	return hand_is_light(&sp->w->hand) &&
	       !__atomic_load_n(&sp->notifiers.nr, __ATOMIC_SEQ_CST);
}

static void isolate_asked(struct uhmm_space *sp, enum hand_pace pace)
{
	struct worker *w = sp->w;
	bool over;
	int r = 0;

	if (!ask_is_open(&w->ask) || !uhmm_trylock(&w->hand_lock))
		return;
	if (may_fault(sp))
		r = hand_isolate(sp, &w->hand, pace);
	if (r > 0)
		count(sp, COUNT_ISOLATED_DIRECT, (uint64_t)r);
	over = ask_take(&w->ask, r);
	uhmm_unlock(&w->hand_lock);
	if (over)
		reclaim_ring(sp);
}

void reclaim_direct(struct uhmm_space *sp)
{
	if (sp->delivery == UHMM_DELIVERY_INLINE)
		isolate_asked(sp, HAND_FAULTS);
}

void reclaim_read(struct uhmm_space *sp)
{
	unsigned shard;

	if (!ask_is_open(&sp->w->ask) || !gate_try_enter(&sp->world, &shard))
		return;
	isolate_asked(sp, HAND_READS);
	gate_leave(&sp->world, shard);
}

/* Does somebody isolate where the program runs, if he is asked? */
static bool is_anybody_there(const struct uhmm_space *sp)
{
	return sp->delivery == UHMM_DELIVERY_INLINE || placement_is_low(sp);
}

/* Would it be of use if somebody else isolated? */
static bool to_be_asked(struct uhmm_space *sp)
{
	struct worker *w = sp->w;
	bool use;

	if (!uhmm_trylock(&w->hand_lock))
		return false; /* who was asked is late */
	use = may_fault(sp) && w->hand.scattered;
	uhmm_unlock(&w->hand_lock);
	return use;
}

/*
 * False: nobody is there to be asked. Else the worker waits for `surplus` pages, or has
 * *taken of them.
 */
static bool ask(struct uhmm_space *sp, int64_t surplus, int *taken)
{
	struct worker *w = sp->w;
	uint64_t now = os_now_ns();
	bool out = ask_is_out(&w->ask);
	int r = -EAGAIN;

	if (!is_anybody_there(sp) || ask_is_useless(&w->ask, now) ||
	    __atomic_load_n(&sp->budget.room_pages, __ATOMIC_RELAXED) <= 0) {
		if (out)
			ask_cancel(&w->ask);
		return false;
	}
	if (!out && !to_be_asked(sp))
		return false;
	if (out)
		r = ask_answer(&w->ask, now);
	else
		ask_for(&w->ask, surplus, now);
	w->waiting = r == -EAGAIN;
	*taken = r > 0 ? r : 0;
	return w->waiting || r > 0;
}

/*
 * Memory is filled faster than it can be stored: what is written for the first time since
 * a fork needs no fault that we could let wait. So everything is isolated, which is much
 * faster than storing; the program's threads come to wait for it wherever they touch it.
 * Not what others share too, which must be copied; and no page is looked at twice, for
 * where nearly all are shared that takes long and finds what was written meanwhile.
 */
static unsigned stop_growth(struct uhmm_space *sp)
{
	struct hand *hand = &sp->w->hand;
	unsigned i, progress = 0;
	uint64_t revolutions;
	int r = 1;

	uhmm_lock(&sp->w->hand_lock);
	revolutions = hand->revolutions;
	for (i = 0; i < HURRY_GROUPS && r > 0; i++) {
		if (hand->shared || hand->revolutions != revolutions)
			break;
		r = hand_isolate(sp, hand, HAND_HURRIES);
		if (r > 0)
			progress += (unsigned)r;
	}
	uhmm_unlock(&sp->w->hand_lock);
	return progress;
}

/*
 * Stores the oldest groups: one, and as many more as can be stored in the time that the
 * search for pages to isolate took. Where nearly all memory is shared with relatives that
 * is long, and finds little.
 */
static unsigned store_oldest(struct uhmm_space *sp, uint64_t search_ns, int64_t surplus)
{
	uint64_t end = os_now_ns() + search_ns;
	unsigned device = device_first(sp);
	unsigned stored = 0;
	bool full = false;

	while (device) {
		uintptr_t folio = 0;
		uint32_t group = frame_group_take(sp, &folio);

		if (group == GROUP_NIL)
			break;
		stored += store_group(sp, group, folio, device, &full);
		if (stored >= surplus || os_now_ns() >= end || gate_wanted(&sp->world))
			break;
	}
	if (stored || full)
		sp->w->refused = !stored;
	if (stored)
		sp->w->refused_ns = 0;
	return stored;
}

/*
 * One step of work. Returns pages that left memory, or moved towards it: none where the
 * device refuses them, for they come back.
 */
static unsigned reclaim_step(struct uhmm_space *sp, const struct watermarks *wm)
{
	struct worker *w = sp->w;
	bool trial = w->worth.trial;
	bool hurry = !trial && sp->budget.total_pages > wm->hurry;
	uint64_t probation = __atomic_load_n(&sp->frames.nr_probation, __ATOMIC_RELAXED);
	uint64_t target = trial ? 0 :
				  policy_probation(&w->policy, sp, resident_pages(sp));
	uint64_t start = os_now_ns();
	unsigned progress = 0;
	int r = 0;

	if (hurry)
		progress = stop_growth(sp);
	if (!progress &&
	    (hurry || probation < target || !probation || ask_is_out(&w->ask))) {
		/* What streams brought lies together. */
		if (hurry || policy_recent_due(recent_pages(sp), resident_pages(sp)) ||
		    !ask(sp, sp->budget.total_pages - wm->low, &r))
			r = walk(sp);
		if (r == -EAGAIN)
			os_yield();
		if (r > 0)
			progress = (unsigned)r;
	}
	/* Where this runs too, who isolates has to interrupt it for each page. */
	if (w->waiting)
		return 0;
	/* Store when probation has its share, or when nothing more can be isolated. */
	if (hurry || probation >= target || (r > 0 && w->hand.copied) || r == -ENOENT ||
	    (r == 0 && w->idle_steps > 16))
		progress += store_oldest(sp, os_now_ns() - start,
					 sp->budget.total_pages - wm->low);
	return w->refused ? 0 : progress;
}

static void note_progress(struct uhmm_space *sp, unsigned progress,
			  const struct watermarks *wm)
{
	struct worker *w = sp->w;

	w->idle_steps = progress ? 0 : w->idle_steps + 1;
	if (w->idle_steps < POLICY_STUCK_STEPS) {
		if (progress)
			sp->budget.stuck = 0;
		return;
	}
	say_stuck(sp, wm,
		  "the budget cannot be held: what is left in memory cannot be moved "
		  "(pinned, locked, file-backed, or refused by the device)");
	sp->budget.stuck = sp->budget.total_pages > wm->high;
	w->reclaiming = false;
	w->idle_steps = 0;
	if (w->refused && w->refused_ns < REFUSED_MAX_NS)
		w->refused_ns = w->refused_ns ? 2 * w->refused_ns : MS;
}

/* False: it could not be raised everywhere. */
static bool raise_fence(struct uhmm_space *sp, int64_t mapped)
{
	struct worker *w = sp->w;
	uint64_t start;

	/* As much may be mapped as before, and not the same. */
	if (w->fenced && mapped == w->mapped_pages && !fence_has_gaps(sp))
		return true;
	start = os_now_ns();
	w->fenced = fence_raise(sp, &w->unswept);
	w->walk_ns = os_now_ns() - start;
	w->mapped_pages = mapped;
	return w->fenced;
}

/*
 * Zero pages behind the fence; a step of it. From the end: most programs write from the
 * beginning, and what they have come to by themselves need not be swept. The less is
 * found the more is looked at, for a mapping may be terabytes of nothing.
 */
static void sweep(struct uhmm_space *sp)
{
	struct worker *w = sp->w;
	struct range *block = &w->sweeping;
	uintptr_t start;
	int r;

	if (block->start == block->end) {
		if (!w->unswept.nr)
			return;
		*block = w->unswept.range[w->unswept.nr - 1];
		if (block->end - block->start > w->sweep_size)
			block->start = block->end - w->sweep_size;
		if (w->sweep_size < SWEEP_MAX)
			w->sweep_size *= 2;
	}
	start = block->start;
	/* One at a time holds threads, or lists them. */
	uhmm_lock(&w->hand_lock);
	r = hand_drop_zeros(sp, &w->sweeper, block);
	uhmm_unlock(&w->hand_lock);
	if (r == -EAGAIN)
		os_yield();
	if (r > 0)
		w->sweep_size = SWEEP_MIN;
	if (block->start > start)
		range_remove(&w->unswept, start, block->start);
}

/* Whether this process has to give something up, and has something. */
static void choose(struct uhmm_space *sp, const struct watermarks *wm)
{
	struct budget *b = &sp->budget;
	struct worker *w = sp->w;

	if (b->total_pages <= wm->told)
		w->stuck_ns = 0;
	if (b->total_pages <= wm->low) {
		w->reclaiming = false;
		return;
	}
	if (b->total_pages <= wm->high || b->usage_pages <= wm->floor)
		return;
	w->reclaiming = worthwhile(sp, wm);
	if (!w->reclaiming && device_first(sp))
		say_stuck(sp, wm,
			  "the budget cannot be held: the program's memory does not "
			  "compress well enough");
}

/* The tree seems to hold more than it may, by a little, and this process all of it. */
static void pretend(struct uhmm_space *sp, struct watermarks *wm)
{
	if (os_now_ns() / sp->evict_ns % 2)
		return;
	sp->budget.total_pages = wm->high + 1;
	wm->floor = 0;
}

/* Returns how long to sleep, 0: go on. */
static uint64_t worker_step(struct uhmm_space *sp)
{
	struct worker *w = sp->w;
	struct budget *b = &sp->budget;
	struct watermarks wm;
	int64_t mapped = 0, limit = budget_limit(sp), expected = 0;
	unsigned progress = 0;
	bool fenced = true;
	uint64_t sleep_ns;

	w->waiting = false;
	placement_heed(sp);
	frames_trim(sp);
	host_pages_trim();
	if (!limit) {
		fault_unpark(sp);
		return 1000 * MS;
	}
	if (!sample(sp, &mapped))
		return 10 * MS;
	policy_watermarks(limit, sp->hooks.related && sp->hooks.related(sp->hooks.ctx),
			  &wm);
	if (sp->hooks.expected)
		expected = sp->hooks.expected(sp->hooks.ctx);
	if (b->total_pages + expected > wm.fence)
		fenced = (!expected || fence_is_current(sp)) && raise_fence(sp, mapped);
	if (expected && fenced)
		sp->hooks.fenced(sp->hooks.ctx);
	sweep(sp);
	if (sp->evict_ns)
		pretend(sp, &wm);
	choose(sp, &wm);
	if (w->reclaiming) {
		progress = reclaim_step(sp, &wm);
		if (!w->waiting)
			note_progress(sp, progress, &wm);
		if (!sample(sp, NULL))
			return 10 * MS;
	}
	set_room(sp, &wm);
	if (w->waiting)
		return w->ask.wait_ns;
	if (w->reclaiming || w->unswept.nr)
		return 0;
	frame_empty_trash(sp);
	if (!fenced)
		return w->walk_ns > MS / 10 ? w->walk_ns : MS / 10;
	sleep_ns = policy_sleep_ns(&wm, b->total_pages);
	if (sp->evict_ns && sleep_ns > sp->evict_ns)
		sleep_ns = sp->evict_ns;
	return w->refused_ns > sleep_ns ? w->refused_ns : sleep_ns;
}

/*
 * While fork() keeps the world closed the worker is the reader's doorbell: the forking
 * thread may not be able to kick it (its descriptors are not in the program's table).
 */
static unsigned enter_world(struct uhmm_space *sp)
{
	unsigned shard;

	while (!gate_try_enter(&sp->world, &shard)) {
		uint32_t phase = __atomic_load_n(&sp->fork.phase, __ATOMIC_ACQUIRE);

		if (phase == FORK_ASKED || phase == FORK_OVER)
			reader_kick(sp);
		os_wait(&sp->fork.phase, phase, 10 * (int64_t)MS);
	}
	return shard;
}

/* Children that the last thread made are filled in first. */
static void end_with_program(struct uhmm_space *sp)
{
	int code;

	if (!os_threads_ended(&code))
		return;
	reader_finish(sp);
	os_exit(code);
}

void reclaim_main(void *arg)
{
	struct uhmm_space *sp = arg;

	while (__atomic_load_n(&sp->stop, __ATOMIC_ACQUIRE) == STOP_NONE) {
		uint32_t seen = __atomic_load_n(&sp->work, __ATOMIC_SEQ_CST);
		unsigned shard;
		bool stopped;
		uint64_t sleep_ns;

		if (retire_asked(sp)) {
			retire_serve(sp);
			continue;
		}
		shard = enter_world(sp);
		stopped = __atomic_load_n(&sp->stop, __ATOMIC_ACQUIRE) != STOP_NONE;
		sleep_ns = stopped ? 0 : worker_step(sp);

		gate_leave(&sp->world, shard);
		if (!sleep_ns) {
			if (__atomic_load_n(&sp->budget.room_pages, __ATOMIC_RELAXED) > 0)
				placement_give_way(sp);
			continue;
		}
		if (sp->w->waiting)
			ask_open(&sp->w->ask);
		end_with_program(sp);
		os_wait(&sp->work, seen, (int64_t)sleep_ns);
	}
}

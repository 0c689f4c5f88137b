/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy. The numbers, and why:
 *
 * - Memory that is not fenced yet is filled by the kernel at up to FILL_PAGES_PER_MS; the
 *   worker must look before that could use up what is left below the limit's tolerance.
 * - The reserve between high and limit is what faults draw from while the worker works:
 *   1/64 of the budget, so that its share of a large one stays small.
 * - While relatives share pages since a fork, each write to one takes a page without a
 *   fault of ours, by all of them at once. What they take until it is noticed and made up
 *   for was seen to be 0-5% of the budget (tests/stress, mp in full); 1/SPARE of it is
 *   kept free for that.
 * - The last pages in memory are worth most to the program, and where it does not
 *   compress well storing them frees little: a quarter of each page at four to three.
 *   Those that would free less than 1/LEFT of the budget together stay. A budget that can
 *   be held is, within half of what is tolerated; one that cannot be is exceeded by a
 *   little more, and the program runs instead of crawling.
 * - Probation is 1/32 to 3/16 of what is resident. Where few pages come back from it, it
 *   is too long (it only keeps cold pages in memory); where many do, hot pages pass
 *   through it and need time to be touched. More than that saves a few of those loads
 *   that are for pages just gone, and costs more faults on what is still there: each of
 *   them is a trap, a delivery and a copy, and little cheaper.
 * - Of what streams brought much is used once. From 1/20 of memory on it goes first;
 *   what is used again comes back from probation, and is the hand's from then on. So is
 *   what is more than twice as much, the oldest: if all of memory were in that queue each
 *   page would leave before it is used. And one group of HANDS_TURN is what the hand
 *   meets: what was used long ago and is no more would stay for ever where streams bring
 *   all that there is.
 * - Who was loaded is passed by once by the hand, and stays for a whole turn of it. Who
 *   comes back a short time after it was stored (GENERATIONS_SHORT) would still have
 *   been there with a little more memory, and is passed by twice. What a stream brought
 *   along has not been touched yet, and may never be.
 * docs/policy.md has what else was tried.
 */
#include "lib/policy.h"

/* 8 GB/s: what two threads touching fresh huge pages were seen to reach. */
#define FILL_PAGES_PER_MS 2000
/*
 * What may be filled at that speed until a worker has woken up, created its space and
 * registered the mappings, on a machine whose processors are all busy. Below such a
 * budget everything that grows is fenced from the start.
 */
#define NOTICE_MIB 64
#define MIB(n) ((int64_t)(n) << (20 - PAGE_SHIFT))
#define SPARE 24
#define LEFT 24
#define SHARE_MIN 8
#define SHARE_MAX 48
#define SHARE_START 48
#define RECENT_PART 20
#define HANDS_TURN 4
/* Isolated pages between two looks at how many came back. */
#define SHARE_PERIOD 4096

static int64_t clamp(int64_t v, int64_t lo, int64_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

void policy_watermarks(int64_t limit, bool related, struct watermarks *wm)
{
	int64_t reserve = clamp(limit / 64, MIB(1), MIB(32));
	int64_t tolerated = clamp(limit / 40, MIB(8), MIB(64));

	wm->limit = limit;
	wm->full = related ? limit - limit / SPARE : limit;
	wm->fence = limit - clamp(limit / 4, MIB(NOTICE_MIB), MIB(1024));
	wm->high = wm->full - reserve;
	wm->low = wm->high - reserve / 2;
	wm->ring_below = reserve;
	wm->hurry = wm->full + tolerated;
	wm->told = limit + tolerated;
	wm->floor = clamp(limit / 64, MIB(1), MIB(8));
}

int64_t policy_left(const struct watermarks *wm, uint64_t in, uint64_t resident,
		    int64_t sharers)
{
	int64_t gain = clamp(wm->limit / LEFT, 0, (wm->told - wm->limit) / 2);
	int64_t freed = in > resident ? (int64_t)(in - resident) : 0;

	/* What they free when they are stored; a 64th at least, not to divide by 0. */
	freed = clamp(freed, (int64_t)(in / 64) + 1, INT64_MAX);
	return (int64_t)((double)(gain / sharers) * (double)in / (double)freed);
}

void policy_init(struct policy *policy)
{
	*policy = (struct policy){ .share = SHARE_START };
}

uint64_t policy_probation(struct policy *policy, struct uhmm_space *sp,
			  int64_t resident_pages)
{
	uint64_t isolated = __atomic_load_n(&sp->counter[COUNT_ISOLATED],
					    __ATOMIC_RELAXED);
	uint64_t restored = __atomic_load_n(&sp->counter[COUNT_RESTORED],
					    __ATOMIC_RELAXED);
	uint64_t in = isolated - policy->seen_isolated;
	uint64_t back = restored - policy->seen_restored;

	if (in >= SHARE_PERIOD) {
		if (back * 4 > in && policy->share < SHARE_MAX)
			policy->share += 4;
		else if (back * 16 < in && policy->share > SHARE_MIN)
			policy->share -= 4;
		policy->seen_isolated = isolated;
		policy->seen_restored = restored;
	}
	return (uint64_t)(resident_pages > 0 ? resident_pages : 0) * policy->share / 256 +
	       GROUP_PAGES;
}

bool policy_recent_due(uint64_t recent_pages, int64_t resident_pages)
{
	return resident_pages > 0 &&
	       recent_pages > (uint64_t)resident_pages / RECENT_PART;
}

bool policy_takes_recent(struct policy *policy, uint64_t recent_pages,
			 int64_t resident_pages)
{
	return policy_recent_due(recent_pages, resident_pages) &&
	       ++policy->turn % HANDS_TURN != 0;
}

uint64_t policy_recent_max(int64_t resident_pages)
{
	return resident_pages > 0 ? 2 * (uint64_t)resident_pages / RECENT_PART : 0;
}

unsigned policy_warmth(bool asked, unsigned age)
{
	if (!asked)
		return 0;
	return age < GENERATIONS_SHORT ? 2 : 1;
}

uint64_t policy_sleep_ns(const struct watermarks *wm, int64_t total_pages)
{
	/* Half of what may be filled before the limit and its tolerance are passed. */
	int64_t slack = wm->full - total_pages + MIB(8);

	return (uint64_t)clamp(slack * 1000000 / (2 * FILL_PAGES_PER_MS), 1000000,
			       50000000);
}

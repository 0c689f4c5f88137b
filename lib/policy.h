/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy: pure choice. How much to keep free, how much to hold in probation, how often to
 * look. No I/O, no locks; the worker is the only caller.
 */
#ifndef UHMM_POLICY_H
#define UHMM_POLICY_H

#include "lib/types.h"

/* Pages granted at a time to faults when reclaim is stuck: slow, but it goes on. */
#define POLICY_TRICKLE 256
/* Steps in a row without progress after which reclaim is stuck for now. */
#define POLICY_STUCK_STEPS 64

/* What a stream brings at once is worth remembering as recent, from so many pages on. */
#define POLICY_RECENT_RUN 4

/* Pages on a device before anything is concluded from how well they compress. */
#define POLICY_SAMPLE 1024

struct watermarks {
	int64_t fence;      /* from here on fresh memory is paid for */
	int64_t high, low;  /* reclaim starts above high and ends below low */
	int64_t floor;      /* a process that uses less is left alone */
	int64_t ring_below; /* room at which a fault wakes the worker */
	int64_t limit;
	int64_t full;  /* faults are given room up to here: the limit, or below it */
	int64_t hurry; /* above full, towards what is tolerated */
	int64_t told;  /* above the limit: who is stuck there says so */
};

/* related: pages may be shared with other processes since a fork, or soon. */
void policy_watermarks(int64_t limit_pages, bool related, struct watermarks *wm);

/*
 * Pages that this process keeps in memory though the budget is exceeded. in: pages on the
 * device, resident: pages of memory that it takes for them; sharers as in space_hooks.
 */
int64_t policy_left(const struct watermarks *wm, uint64_t in, uint64_t resident,
		    int64_t sharers);

struct policy {
	uint64_t seen_isolated, seen_restored;
	uint32_t share; /* of resident pages in probation, in 1/256 */
	uint32_t turn;  /* counts what could have been of streams */
};

void policy_init(struct policy *policy);
/* How many pages probation should hold now. */
uint64_t policy_probation(struct policy *policy, struct uhmm_space *sp,
			  int64_t resident_pages);

/*
 * Whether what streams have brought lately is isolated next, and not what the hand meets:
 * there is so much of it, of all that the process uses, and it is not the hand's turn.
 */
bool policy_takes_recent(struct policy *policy, uint64_t recent_pages,
			 int64_t resident_pages);
/* The first half of that: there is enough of it. */
bool policy_recent_due(uint64_t recent_pages, int64_t resident_pages);
/* Pages of it that are told apart from what is the hand's. */
uint64_t policy_recent_max(int64_t resident_pages);

/*
 * How warm a page is that was loaded: how often the hand passes it by. asked: it was
 * touched, and not brought along; age: generations since it was stored.
 */
unsigned policy_warmth(bool asked, unsigned age);

/* Until the worker looks again, given that memory may be filled at any moment. */
uint64_t policy_sleep_ns(const struct watermarks *wm, int64_t total_pages);

#endif

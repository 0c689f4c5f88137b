/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the worker has others isolate: it asks for so many pages, and sleeps; who faults
 * takes some, each time, until there are as many; then he says so, and rings. Where
 * nothing comes of it the worker does it alone, for longer each time.
 *
 * Times in ns. Who asks is one thread; who takes, one at a time, by the caller's lock.
 */
#ifndef UHMM_ASK_H
#define UHMM_ASK_H

#include "lib/types.h"

/* At most so many pages: a group for each of so many faults. */
#define ASK_MAX (16 * (int64_t)GROUP_PAGES)

struct ask {
	uint32_t is;         /* enum in ask.c; atomic */
	uint32_t taken;      /* pages; atomic */
	uint32_t wanted;     /* of them so many, or as many as there are; atomic */
	uint32_t seen_taken; /* when that was looked at last, and changed */
	uint64_t since_ns;   /* and when that was */
	uint64_t wait_ns;    /* so long it may not change */
	uint64_t alone_until;
	uint64_t alone_ns; /* for so long, last time */
};

void ask_init(struct ask *ask);

/* Is it taken of? Anybody's. */
bool ask_is_open(const struct ask *ask);
/*
 * r pages were, or none or an error: then there are none to be had. True: there are as
 * many as there will be, and the worker is to be woken.
 */
bool ask_take(struct ask *ask, int r);

/* ---- the worker's ----------------------------------------------------------------- */

/* Has it asked, and not heard yet? */
bool ask_is_out(const struct ask *ask);
/* Not to be asked, after it was in vain. */
bool ask_is_useless(const struct ask *ask, uint64_t now);
/* What came of it: pages; -EAGAIN: it is to be waited for; -ETIMEDOUT: nothing does. */
int ask_answer(struct ask *ask, uint64_t now);
/* Nobody is there any more, or it cannot be waited for. */
void ask_cancel(struct ask *ask);
/* For that many pages; none are taken before ask_open(). */
void ask_for(struct ask *ask, int64_t pages, uint64_t now);
/* Right before it sleeps, for ask->wait_ns: who takes runs where it would run. */
void ask_open(struct ask *ask);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: where the reader runs while one thread of the program faults hard.
 *
 * Fault and answer take turns: the thread sleeps while the reader works, and the reader
 * has nothing to do while the thread runs. On one processor a turn is one switch; on two,
 * an idle processor is woken for each (docs/fault-path.md). So while a thread faults hard
 * the reader is *lowered*: it runs on that thread's processor only, in the idle class.
 * The scheduler then mostly leaves the thread where it was, when it is woken, and the
 * thread goes ahead of the reader at once. Where it has put it on another processor,
 * which was idle, the reader follows. The thread itself is left as the program has it.
 * Our other threads gather there too: whenever one of them is woken elsewhere the thread
 * is put there next, and who works on another processor has to be interrupted for each
 * page that is moved.
 *
 * Under `uhmm run` only: what it takes opens files now and then, and elsewhere our
 * threads have the program's descriptors.
 *
 * What is lowered runs when nobody else wants to, which may be late for the other threads
 * of the program. So the *warden*, a thread of ours that is started the first time it is
 * needed, looks every two milliseconds, and raises a reader that does not come to it.
 *
 * Nobody is lowered where real-time threads may have a processor for ever, nor for a
 * thread that is one.
 */
#ifndef UHMM_PLACEMENT_H
#define UHMM_PLACEMENT_H

#include "lib/types.h"

/* ---- the reader's ----------------------------------------------------------------- */

/* First of all, and again in a forked child. */
void placement_begin(struct uhmm_space *sp);
/* What the batch has of faults was answered; now it may be lowered, or raised. */
void placement_answered(struct uhmm_space *sp);
/* It looks at what there is to read. */
void placement_beat(struct uhmm_space *sp);
/*
 * Lowered, and there was nothing to read when it came to run: the thread may have been
 * moved to another processor, and is followed.
 */
void placement_missed(struct uhmm_space *sp);

/* ---- anybody's -------------------------------------------------------------------- */

/* Is the reader lowered? */
static inline bool placement_is_low(const struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->placement.at, __ATOMIC_RELAXED) != 0;
}

/* The worker's, again and again: says who it is, and starts the warden. */
void placement_heed(struct uhmm_space *sp);

/*
 * The worker's, between two pieces of work, in no world: where the reader is lowered it
 * is on the same processor, and goes first for a moment if it has something to do.
 */
void placement_give_way(struct uhmm_space *sp);

/* As os_thread_wait(), of the warden; uhmm_space.stop says so already. */
void placement_leave(struct uhmm_space *sp);
/* Ends it. */
void placement_stop(struct uhmm_space *sp);
/* In a forked child, before it has threads. */
void placement_after_fork(struct uhmm_space *sp);

#endif

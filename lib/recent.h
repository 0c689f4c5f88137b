/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What streams have brought lately: a ring of runs of pages, oldest first. Much of it is
 * used once. It need not wait for the hand to come round: where there is more of it than
 * policy wants it is the next to be isolated (policy_takes_recent()), and what is used
 * again comes back from probation, warmer, and stays.
 *
 * A run is a hint. Its pages may be gone by now, or others at the same place: who
 * isolates looks at the mapping anyway. So nothing is ever taken out when memory is
 * unmapped, and where the ring is full the oldest run is forgotten: the hand comes by.
 *
 * Any thread, the gate entered or not; a leaf lock. Single pages are not for it: those
 * lie apart, and to isolate them one by one costs more than their leaving early gains.
 */
#ifndef UHMM_RECENT_H
#define UHMM_RECENT_H

#include "lib/types.h"

/* nr pages, at most UHMM_BATCH_MAX, from addr on were brought by a stream. */
void recent_add(struct uhmm_space *sp, uintptr_t addr, unsigned nr);
/* Takes the oldest run out. False: there is none. */
bool recent_take(struct uhmm_space *sp, struct range *run);
/* Forgets the oldest runs until they have no more than that many pages. */
void recent_trim(struct uhmm_space *sp, uint64_t max_pages);
/* Pages of all runs. */
uint64_t recent_pages(const struct uhmm_space *sp);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: which processors the reader, the worker and the threads that fault share.
 * For whole programs whose faults are delivered by thread.
 */
#ifndef UHMM_PLACE_H
#define UHMM_PLACE_H

#include "lib/types.h"

/* Everybody where the scheduler puts them. Before the threads start. */
void place_init(struct uhmm_space *sp);
/* By the reader, when it has resolved so many faults. */
void place_note(struct uhmm_space *sp, uint32_t faults);
/* By the worker, now and then. */
void place_follow(struct uhmm_space *sp);

/*
 * By the reader, around what wakes thread tid (0: not known): it goes on here, where the
 * reader is. In between nothing is waited for by giving way.
 */
void place_pull(struct uhmm_space *sp, uint32_t tid, struct os_pull *pull);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim: keeps a space within its budget. One worker thread a space.
 */
#ifndef UHMM_RECLAIM_H
#define UHMM_RECLAIM_H

#include "lib/types.h"

int reclaim_init(struct uhmm_space *sp);
void reclaim_fini(struct uhmm_space *sp);
/* The worker's thread; arg is the space. */
void reclaim_main(void *arg);
/* Has the worker look at once. */
void reclaim_ring(struct uhmm_space *sp);
/*
 * Direct reclaim, in the world, by who has just been in a fault of its own and holds
 * nothing: isolates some pages if the worker has asked for that. Inline delivery.
 */
void reclaim_direct(struct uhmm_space *sp);
/* The same by the reader, outside of the world, where it runs where the program does. */
void reclaim_read(struct uhmm_space *sp);
/* Waits a little for the worker to make room. Inline delivery. */
void reclaim_wait_for_room(struct uhmm_space *sp);
void reclaim_set_limit(struct uhmm_space *sp, int64_t limit_pages);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequential streams among faults: how many pages to fill at once. Pure choice, no I/O.
 *
 * A fault that continues a stream doubles its window, up to max; one that continues none
 * starts a stream of window 1 in place of the oldest. Random faults thus never prefetch.
 */
#ifndef UHMM_STREAM_H
#define UHMM_STREAM_H

#include "lib/types.h"

unsigned stream_window(struct streams *streams, uintptr_t addr, unsigned max);
/* What was really filled from addr on: the stream goes on behind it. */
void stream_filled(struct streams *streams, uintptr_t addr, unsigned nr);

#endif

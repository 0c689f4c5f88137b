/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams among faults, sequential or in even strides: how many pages to fill at once.
 * Pure choice, no I/O.
 *
 * A fault that continues a stream doubles its window, up to max; one that continues none
 * starts a stream of window 1 in place of the oldest. Random faults thus never prefetch.
 * A stream is known by two faults where it goes from page to page, and by three, each as
 * far from the last, where it goes in strides, up or down. It passes by pages that need
 * no fault, as many as its window; not by others: who leaves those out goes elsewhere.
 *
 * Where streams end, what was brought last was for nothing. So it is remembered, for each
 * size of a window, whether streams came through it or ended there, of late. Where most
 * ended it is not brought: its pages fault one by one, and so it is seen, without any
 * loss, when streams come through again.
 */
#ifndef UHMM_STREAM_H
#define UHMM_STREAM_H

#include "lib/types.h"

/*
 * Inside the gate. *stride: the bytes from each of the pages to the next, PAGE_SIZE but
 * for strides.
 */
unsigned stream_window(struct uhmm_space *sp, uintptr_t addr, unsigned max,
		       int64_t *stride);
/*
 * So many pages were really filled, from addr on: the stream goes on behind them. So many
 * of them were loaded from a device, and are in vain if it does not.
 */
void stream_filled(struct uhmm_space *sp, uintptr_t addr, unsigned nr, unsigned loaded);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one device to another. The bytes go through a buffer of ours: the program's memory
 * is as it was, and the budget too.
 */
#ifndef UHMM_TRANSFER_H
#define UHMM_TRANSFER_H

#include "lib/types.h"

/*
 * Pages from addr on, up to max in one chunk, that are on one device, and it is not this
 * one. The world is entered and the gate is not. Returns for how many there are results;
 * 0: there is no such page at addr, or it comes another way (it is part of a folio, on a
 * page map, or its device does not give it back).
 */
unsigned transfer_pages(struct uhmm_space *sp, uintptr_t addr, unsigned max,
			unsigned device, uint8_t *results);

#endif

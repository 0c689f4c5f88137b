/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folios: the 512 pages of a chunk while they are one, in a block of frames or on a page
 * map, and chunk->folio speaks for them. What concerns a part of them only makes them
 * single pages first: they are *split*.
 */
#ifndef UHMM_FOLIO_H
#define UHMM_FOLIO_H

#include "lib/types.h"

/* The entry that a page of a folio would have of its own. */
entry_t folio_page(entry_t folio, unsigned index);

/*
 * The folio at addr, a chunk's, whose entry is f (PROBATION, DEVICE or MIGRATING) or was
 * before the caller made it busy: its pages [from, to) get entries of their own like it,
 * and nothing is left of the others in its frames. The caller holds the entry, or has the
 * gate closed, or is in it and the folio's migration; and settles it NONE.
 */
void folio_split(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr, entry_t f,
		 unsigned from, unsigned to);

/*
 * A folio on a page map is split if there is one at addr, which is any of its pages'; not
 * if it is in transition, or a migration's. The gate is entered.
 */
void folio_split_device(struct uhmm_space *sp, uintptr_t addr);

#endif

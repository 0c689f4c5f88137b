/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrating a range because somebody asked for it: page by page results, no policy.
 */
#ifndef UHMM_MIGRATE_RANGE_H
#define UHMM_MIGRATE_RANGE_H

#include "lib/types.h"

/*
 * Works through up to UHMM_BATCH_MAX pages (or one folio) from start on; *done is how
 * many pages. results gets an enum uhmm_result for each and has room for CHUNK_PAGES. The
 * world is not entered.
 */
void migrate_some(struct uhmm_space *sp, uintptr_t start, uintptr_t end, unsigned device,
		  uint8_t *results, unsigned *done);

/*
 * How often a page is tried again while the program changes mappings, before it is BUSY:
 * at once at first, then after pauses, for the reader may be waiting for a processor.
 * Less than 50 ms together.
 */
#define MIGRATE_TRIES 64
/* Before it is tried again, the gate not entered; try counts from 0. */
void migrate_pause(unsigned try);

#endif

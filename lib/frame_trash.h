/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trash: where pages of our own memory are moved that are not needed any more.
 *
 * Memory that is registered with events must not be discarded with madvise(): our own
 * reader would have to read ours. So its pages are moved to the trash, which is
 * registered on a userfaultfd without events, and discarded there.
 */
#ifndef UHMM_FRAME_TRASH_H
#define UHMM_FRAME_TRASH_H

#include "lib/types.h"

/* A chunk of it for groups, one for folios, one for groups that can be executed. */
#define TRASH_SIZE (3 * CHUNK_SIZE)
#define TRASH_FOLIO CHUNK_SIZE
#define TRASH_EXECUTABLE (2 * CHUNK_SIZE)

/* The trash is committed memory: a userfaultfd for it, also in a forked child. */
int trash_open(struct uhmm_space *sp);
/* Drops those of the GROUP_PAGES pages from start on that are in mask, not 0. */
void trash_pages(struct uhmm_space *sp, uintptr_t start, uint64_t mask, bool executable);
/* Pages that are in it, about: others may be at it. */
int64_t trash_held(struct uhmm_space *sp);
/* Drops what there is of the folio at start. */
void trash_folio(struct uhmm_space *sp, uintptr_t start);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huge pages of our own, to be filled and then moved to the program as one.
 *
 * Frames cannot be had as huge pages: they are registered, and what is missing there is
 * not the kernel's to fill. So there are places outside of them, which are not: the first
 * touch brings a huge page if the kernel has one. A place holds nothing while it is free.
 */
#ifndef UHMM_HUGE_H
#define UHMM_HUGE_H

#include "lib/types.h"

/* In a forked child: what its parent had in use is nobody's. */
void huge_after_fork(struct uhmm_space *sp);
void huge_fini(struct uhmm_space *sp);

/*
 * CHUNK_SIZE bytes; NULL: there is no place, or no huge page. It may be a block of spare
 * frames, and then it is not empty.
 */
char *huge_get(struct uhmm_space *sp);
/* What is left of it is dropped: nothing, if it was moved away. */
void huge_put(struct uhmm_space *sp, char *bytes);

/*
 * Moves [done, CHUNK_SIZE) of a huge page to where a userfaultfd of the space has
 * nothing. How far it came, which is CHUNK_SIZE or what is in the way there: *why.
 */
size_t huge_move(struct uhmm_space *sp, uintptr_t dst, const char *bytes, size_t done,
		 int64_t *why);
/*
 * The same from the first page on; but pages that are there are what they should be:
 * fork() had the space frozen, and they were filled then.
 */
size_t huge_fill(struct uhmm_space *sp, uintptr_t dst, const char *bytes, int64_t *why);

#endif

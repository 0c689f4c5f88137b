/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader: one thread a space that reads its userfaultfd, applies structural events
 * and, where faults are delivered by thread, resolves them.
 */
#ifndef UHMM_READER_H
#define UHMM_READER_H

#include "lib/types.h"

/* The reader's thread; arg is the space. */
void reader_main(void *arg);
/* Starts it, by fn. */
int reader_start(struct uhmm_space *sp, void (*fn)(void *arg));
/* By fn: it reads no more. */
void reader_leave(struct uhmm_space *sp);
/*
 * Ends it, and closes the userfaultfd first: libc, or a sanitizer, may give memory back
 * in a thread that ends, and if it is registered that would wait for itself to read.
 */
void reader_end(struct uhmm_space *sp);
/* The reader's: reads and serves until no event of the past is unread. */
void reader_drain(struct uhmm_space *sp);
/*
 * Does the reader fill the child of a raw clone in? It may have read of one and not said
 * so yet: that is waited for, without a system call, which may be forbidden by now.
 */
bool reader_fills(struct uhmm_space *sp);
/*
 * Waits until what the reader has read by now is applied, children of raw clones are
 * filled in, and copies are freed. For who is not in the middle of a fork.
 */
void reader_finish(struct uhmm_space *sp);
/* Makes the reader look up from its wait. */
void reader_kick(struct uhmm_space *sp);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locked mappings that grow while they move.
 *
 * mremap() of a mapping that is locked (mlock) faults in the pages by which it has grown,
 * and then tells of the move; from the move until that is read nothing can be filled,
 * -EAGAIN. So who waits for such a page waits for ever (Linux 6.18; see ARCHITECTURE.md,
 * The gate). The way out: what is new, where nothing of ours can be, is let go of while
 * the kernel fills it, and registered again before the event is read. Left in two parts,
 * one registered and one not, the program could not move it any more.
 *
 * The reader's.
 */
#ifndef UHMM_GROWN_H
#define UHMM_GROWN_H

#include "lib/types.h"

/*
 * A fault was refused for an unread event, and is about to be woken and to come again.
 * True: it is of such a page, which is there now; its thread was woken.
 */
bool grown_refused(struct uhmm_space *sp, const struct os_event *ev);
/*
 * Nothing is read, and an event is unread. The faults of sp->batch, which wait for that,
 * are looked at from time to time.
 */
void grown_idle(struct uhmm_space *sp);

#endif

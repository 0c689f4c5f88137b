/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling pages of a space whose state must not change, and settling the account later.
 * See fork.h.
 */
#ifndef UHMM_FROZEN_H
#define UHMM_FROZEN_H

#include "lib/types.h"
#include "lib/wipe.h"

/*
 * Copies the current bytes of a migrated page to addr of the address space behind uffd
 * (the parent's or the child's), as its entry at `source` says, by way of buf, a page.
 * 0, 1: there is no entry (a hole); or -errno of the copy; -EIO: lost, poisoned there.
 * quiet: nobody else uses a device meanwhile; and we may be copied by fork().
 */
int frozen_copy(struct uhmm_space *sp, int uffd, uintptr_t addr, uintptr_t source,
		char *buf, bool quiet);

/* There was no memory for the copy: is it to be tried again? tries: 0 at first. */
bool frozen_may_try_again(int r, unsigned *tries);

/*
 * Fills the page at addr behind uffd, where a fault was, and logs it. buf: a page to load
 * into. 0, or -errno: it is to fault again. frozen_fault() sees to that too.
 */
int frozen_fill(struct uhmm_space *sp, int uffd, struct frozen_log *log, uintptr_t addr,
		char *buf);
void frozen_fault(struct uhmm_space *sp, int uffd, struct frozen_log *log, uintptr_t addr,
		  char *buf);
void frozen_event(struct frozen_log *log, const struct os_event *ev);
/* Records that a log has room for. */
uint32_t frozen_room(const struct frozen_log *log);
/* No event is unread. */
void frozen_quiet(struct frozen_log *log);
/* What was moved to [start, end) is not there any more. ctx: the log. */
void frozen_gone(void *ctx, uintptr_t start, uintptr_t end);
/* The event that a record stands for; false: none. */
bool frozen_to_event(const struct frozen_record *r, struct os_event *ev);

/*
 * The state may change again (the world is closed, nobody else runs): applies a log in
 * order. verify: the last fill, if nothing was logged after it, may have happened after
 * the child's memory was copied, so the page is filled again if it is not there. Those
 * before it had happened; that such a page is not there may be the program's doing.
 */
void frozen_apply(struct uhmm_space *sp, const struct frozen_log *log,
		  struct wiped *verify);

/*
 * In the child: these events may or may not have come before its memory was copied, but
 * for those that its copy of the parent's log has. What they touched is filled in now,
 * where it lies.
 */
void frozen_settle(struct uhmm_space *sp, const struct frozen_log *suspect,
		   struct wiped *wiped);

#endif

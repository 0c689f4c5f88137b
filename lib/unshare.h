/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that are shared by fork, or once were, are made exclusive by writing to them:
 * that is the one thing for which a thread of ours touches memory of the program. If the
 * program has discarded such a page meanwhile that is a fault of ours, so it is done with
 * no gate and no lock of the reader's, by one thread at a time.
 *
 * What is touched so must not become a page of a migration (lib/migration.h) while it is:
 * to wait for that might be for ever. So only pages without an entry are touched, and
 * they get none until that is over.
 */
#ifndef UHMM_UNSHARE_H
#define UHMM_UNSHARE_H

#include "lib/types.h"

/* Must the page at addr have no entry now? Under its chunk's lock. */
static inline bool unsharing(const struct uhmm_space *sp, uintptr_t addr)
{
	return addr >= __atomic_load_n(&sp->unsharing.start, __ATOMIC_RELAXED) &&
	       addr < __atomic_load_n(&sp->unsharing.end, __ATOMIC_RELAXED);
}

/*
 * Those of up to GROUP_PAGES pages of a chunk, from base on, that have no entry. The
 * world is entered, the gate is not.
 */
void unshare_pages(struct uhmm_space *sp, uintptr_t base, uint64_t which);
/* A huge page as one, if it is in its place. */
void unshare_folio(struct uhmm_space *sp, uintptr_t addr);

#endif

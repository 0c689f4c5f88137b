/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrations that a driver carries out itself, in three steps: <uhmm/migrate.h>.
 *
 * A page between setup and finalize is MIGRATING. That is no busy state: its holder is a
 * driver, which may take long and may itself touch memory, so nobody waits for it but
 * threads of the program that touch the page. Everybody else may take such a page away
 * from the migration, with the gate closed: the entry does not name the source any more,
 * which then belongs to the migration alone and is dropped at the end.
 *
 * What a migration knows of a page is its source, a frame or a page of a page map; where
 * the program has it is the source's owner, so that it may move meanwhile.
 *
 * Frames that are a migration's, or that were handed out as destinations, are in groups
 * that are *lent* (GROUP_LENT): on no list, so that nothing stores them.
 */
#ifndef UHMM_MIGRATION_H
#define UHMM_MIGRATION_H

#include "lib/pagemap.h"
#include "lib/types.h"
#include "uhmm/migrate.h"

/* Owner of a frame that was handed out: no address of a program's page. */
#define OWNER_ALLOCATED ((uintptr_t)1)

struct migration_item {
	uhmm_pfn_t src, dst; /* as in the caller's arrays */
};

struct migration {
	struct uhmm_space *sp;
	struct migration *next; /* of the space, under migration_lock */
	uintptr_t start;
	size_t nr;
	bool committed;    /* uhmm_migrate_pages() was called */
	uint32_t flags;    /* UHMM_SELECT_* */
	const void *owner; /* what notifiers are told */
	bool told;         /* they are, until setup has ended */
	struct migration_item item[];
};

/*
 * Pages of the window that begins with this one, at most: windows begin at multiples of
 * GROUP_PAGES, so that what was isolated into one group is given back together.
 */
static inline unsigned migration_window(const struct migration *mg, size_t at)
{
	return GROUP_PAGES - (unsigned)((mg->start >> PAGE_SHIFT) + at) % GROUP_PAGES;
}

/* uhmm_page_alloc(); fresh: of memory that the kernel gives this thread. */
int migration_page_alloc(struct uhmm_space *sp, uhmm_pfn_t *pfns, unsigned nr,
			 bool fresh);
/*
 * Setup, at each visit to the world, before pages are taken: tells the notifiers of the
 * range, also those that were not there the last time.
 */
void migration_tell(struct migration *mg);

/* The mapping that [start, end) lies in, if it is one whose pages migrate. */
bool migration_mapping(uintptr_t start, uintptr_t end, struct os_vma *vma);
/* May pages of it be taken? What may not be written is, if the caller has said so. */
static inline bool migration_permits(const struct migration *mg, const struct os_vma *vma)
{
	return vma->writable || mg->flags & UHMM_SELECT_READONLY;
}

/*
 * Around what UFFDIO_MOVE does with [start, start + len) of a mapping that may not be
 * written; nothing if it may. False: that is not possible.
 */
bool migration_lift(const struct os_vma *vma, uintptr_t start, size_t len);
void migration_lower(const struct os_vma *vma, uintptr_t start, size_t len);

/* The migration of a caller's struct, or NULL if there is none under way. */
struct migration *migration_find(struct uhmm_space *sp, const struct uhmm_migrate *m);
/* One of nr pages, on the space's list; or NULL. */
struct migration *migration_make(struct uhmm_space *sp, size_t nr);
void migration_free(struct migration *mg);

/*
 * The entry of a page that is this migration's still, the gate entered; NULL: it was
 * taken away. *addr: where the program has it.
 */
entry_t *migration_entry(struct uhmm_space *sp, uhmm_pfn_t src, uintptr_t *addr);

/* With the gate closed, of any entry: the program has the page at another address now. */
void migration_follow(struct uhmm_space *sp, entry_t e, uintptr_t to);

/*
 * The page (a frame, or a page of a page map), or the first of a folio, is that of addr
 * from now on: a destination serves once. nr: pages of it.
 */
void migration_take(struct uhmm_space *sp, uhmm_pfn_t pfn, uintptr_t addr, size_t nr);

/* In a forked child, whose threads are not in the middle of any. */
void migration_after_fork(struct uhmm_space *sp);
/* The same where the space is good for nothing. */
void migration_forget_all(struct uhmm_space *sp);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migration: isolate -> store -> drop, and what undoes it. The only writer of page state
 * besides fault.c (which brings pages back) and event.c (which forgets them).
 *
 *	isolate   program -> frame     UFFDIO_MOVE; NONE -> ISOLATING -> PROBATION
 *	store     frame -> device      PROBATION -> STORING -> DEVICE; frame dropped
 *	restore   frame -> program     PROBATION -> LOADING -> NONE
 *
 * All functions are called with the world entered and the gate not entered.
 */
#ifndef UHMM_LIB_MIGRATE_H
#define UHMM_LIB_MIGRATE_H

#include "lib/types.h"

/*
 * Registers a mapping, the gate entered. -EAGAIN while an event is unread: the
 * kernel may queue the events of two threads in another order than they happened, and
 * what is mapped where an unread event took something away must not have events of its
 * own. And where [start, end) of it is not of one mapping any more: look it up again.
 */
int register_mapping(struct uhmm_space *sp, const struct range *vma, uintptr_t start,
		     uintptr_t end);
/* The same of a run of mappings, of which nothing is isolated before a look at each. */
int register_run(struct uhmm_space *sp, const struct range *run);

/*
 * Has the program changed a registered mapping without our having read of it? Such an
 * event keeps ioctls from working; a copy to nowhere tells.
 */
bool event_unread(struct uhmm_space *sp);

/* Has the page an entry, of its own or as part of a folio? The gate is not entered. */
bool page_is_known(struct uhmm_space *sp, uintptr_t addr);

/* flags of isolate_pages */
#define ISOLATE_HOT                                                                      \
	0x1u /* also pages that came back lately; otherwise they cool by one */
#define ISOLATE_CHEAP                                                                    \
	0x2u /* not what is shared by fork: making it exclusive takes memory */
#define ISOLATE_ZEROS                                                                    \
	0x4u /* the zero page is there: to become holes, which are ours to fill */
#define ISOLATE_TOLD 0x8u /* the caller has told the notifiers, and more than we could */
#define ISOLATE_NOWAIT 0x10u /* by who must not fault, not even on a frame: the reader */

/*
 * Isolates pages from addr on, bit i of which is the i-th, all in one chunk and one
 * mapping, into an open group with room for them. vma is the mapping: it is registered
 * first, every time.
 * results: NULL, or one enum uhmm_result a page (UHMM_MOVED: isolated). Pages that were
 * dropped count as isolated.
 * The number isolated, or -EAGAIN: the program is changing mappings, come back later;
 * -EINVAL: the mapping cannot be migrated; -ENOMEM.
 */
int isolate_pages(struct uhmm_space *sp, const struct range *vma, uintptr_t addr,
		  uint64_t which, uint32_t group, unsigned flags, uint8_t *results);

/* Is there a huge page here, the program's or in a frame? */
bool is_huge(uintptr_t addr);

/*
 * Isolates a huge page as one. The number of pages isolated: CHUNK_PAGES, or fewer if it
 * was no huge page any more; or an error as above; -EBUSY: its pages may be isolated one
 * by one; -ESTALE: not now (pinned, hot, or isolated already); -ENOSPC: no frames.
 */
int isolate_folio(struct uhmm_space *sp, const struct range *vma, uintptr_t addr,
		  unsigned flags);

/*
 * Stores the pages of a group or folio that was taken off the probation list by
 * frame_group_take(), and gives it back or frees it. The number of pages stored. Pages
 * that the device refuses go back to the program; *full: there were some, else untouched.
 */
unsigned store_group(struct uhmm_space *sp, uint32_t group, uintptr_t folio,
		     unsigned device, bool *full);

/*
 * The same for the folio at addr if that is what is in this group still, taken or not:
 * all of its pages or none, then it goes back whole. *full: the device refused one.
 */
unsigned store_folio(struct uhmm_space *sp, uint32_t group, uintptr_t addr,
		     unsigned device, bool *full);

/*
 * For uhmm_migrate(): stores these slots of an open group; results of refused pages
 * become UHMM_FULL and they go back to the program.
 */
unsigned store_slots(struct uhmm_space *sp, uint32_t group, uint64_t mask,
		     unsigned device, uint64_t *refused);

/* The device of this number that pages may be stored on, or NULL; the world entered. */
struct uhmm_device *device_open_at(struct uhmm_space *sp, unsigned device);
/* The number of the one that has been open longest: where cold pages go. 0: none. */
unsigned device_first(struct uhmm_space *sp);

/* Frees one copy. */
void device_forget(struct uhmm_space *sp, unsigned device, uint64_t page);

/*
 * Fills a page that is LOADING|FROM_FRAME from its frame. The gate is entered. 0: filled,
 * woken, the frame is gone, the caller settles NONE; -EAGAIN, -ENOENT: nothing changed.
 */
int fill_from_frame(struct uhmm_space *sp, uintptr_t addr, uint64_t slot);

/*
 * As restore_page_inside() for a page that was touched: copied back, if that is faster
 * than to move it.
 */
int restore_touched(struct uhmm_space *sp, uintptr_t addr, uint64_t slot, unsigned hot);

/* Moves a page in PROBATION back. 0, -EAGAIN, -ENOENT, -EBUSY (in transition). */
int restore_page(struct uhmm_space *sp, uintptr_t addr, uint64_t slot, unsigned hot);
/*
 * The same for nr pages in a row, whose frames are of one group and in a row too: how
 * many are back, from the first on. What is in the way of the others restore_page() sees.
 */
unsigned restore_run(struct uhmm_space *sp, uintptr_t addr, uint64_t slot, unsigned nr,
		     unsigned hot);
/* The same for a folio; addr is its chunk's. */
int restore_folio(struct uhmm_space *sp, uintptr_t addr);
/* The same for who is inside the gate, or has closed it. */
int restore_page_inside(struct uhmm_space *sp, uintptr_t addr, uint64_t slot,
			unsigned hot);
int restore_folio_inside(struct uhmm_space *sp, uintptr_t addr);

/* See ENTRY_GEN_SHIFT. */
static inline uint64_t store_generation(struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->counter[COUNT_STORED], __ATOMIC_RELAXED) >>
	       sp->gen_shift;
}

static inline void count(struct uhmm_space *sp, enum counter c, uint64_t n)
{
	__atomic_fetch_add(&sp->counter[c], n, __ATOMIC_RELAXED);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: where pages are while they are isolated.
 *
 * A frame is a page-sized slot of an area that is registered on the space's userfaultfd;
 * UFFDIO_MOVE puts a page there and takes it back, no byte is copied. A slot without a
 * page takes no memory. Slots come in groups of 64, filled by one isolator and aged as
 * one, and groups in blocks of 2 MiB, so that a huge page finds an aligned place.
 *
 * UFFDIO_MOVE wants the same access on both sides. So frames are readable and writable,
 * and blocks of them executable besides, as many as pages of such mappings need: a block
 * becomes one kind or the other while it is empty, when there is none of that kind.
 *
 * A slot is named by its index in the area. A slot is *present* from the moment its page
 * was moved in until it was moved back or dropped. A page that was copied back may be
 * *left* in its slot for a while, memory that nobody needs.
 * What is dropped goes to the trash, see frame_trash.h.
 */
#ifndef UHMM_FRAME_H
#define UHMM_FRAME_H

#include "lib/types.h"

/* Room for limit_pages isolated pages at a time. sp->uffd is open. */
int frames_init(struct uhmm_space *sp, uint64_t limit_pages);
/* In a forked child, whose frames are registered on the uffd it inherited. */
int frames_after_fork(struct uhmm_space *sp);
void frames_fini(struct uhmm_space *sp);

static inline uintptr_t frame_addr(const struct uhmm_space *sp, uint64_t slot)
{
	return (uintptr_t)sp->frames.base + slot * PAGE_SIZE;
}

static inline void *frame_bytes(const struct uhmm_space *sp, uint64_t slot)
{
	return sp->frames.base + slot * PAGE_SIZE;
}

static inline bool frame_contains(const struct uhmm_space *sp, uintptr_t addr)
{
	return addr - (uintptr_t)sp->frames.base <
	       (uintptr_t)sp->frames.nr_groups * GROUP_SIZE;
}

/* The group that these bytes of frames are the first of. */
static inline uint32_t frame_group_at(const struct uhmm_space *sp, const void *bytes)
{
	return (uint32_t)((size_t)((const char *)bytes - sp->frames.base) / GROUP_SIZE);
}

static inline struct frame_group *frame_group(struct uhmm_space *sp, uint32_t group)
{
	return &sp->frames.group[group];
}

/* The first nr pages, 1 to GROUP_PAGES. */
static inline uint64_t which_first(unsigned nr)
{
	return ~UINT64_C(0) >> (GROUP_PAGES - nr);
}

/*
 * Whose page is in a slot, the first of a folio for all. Who asks of a slot that is not
 * his own may hear of the page before, or of the next: it is that page's entry that says.
 */
static inline uintptr_t frame_owner(struct uhmm_space *sp, uint64_t slot)
{
	struct frame_group *group = frame_group(sp, (uint32_t)(slot / GROUP_PAGES));

	return __atomic_load_n(&group->owner[slot % GROUP_PAGES], __ATOMIC_RELAXED);
}

static inline void frame_set_owner(struct uhmm_space *sp, uint64_t slot, uintptr_t addr)
{
	struct frame_group *group = frame_group(sp, (uint32_t)(slot / GROUP_PAGES));

	__atomic_store_n(&group->owner[slot % GROUP_PAGES], addr, __ATOMIC_RELAXED);
}

/*
 * An empty group for pages of mappings that can be executed, or that cannot; or
 * GROUP_NIL: no frames are left, or the system has none that can be executed.
 */
uint32_t frame_group_open(struct uhmm_space *sp, bool executable);
/*
 * Slots [nr_used, nr_used + nr) of an open group now hold pages of owner, owner + 1 ...
 */
void frame_group_fill(struct uhmm_space *sp, uint32_t group, uintptr_t owner,
		      unsigned nr);
/*
 * Done filling: onto the probation list, as if it were the oldest if asked for, or free
 * if it holds nothing.
 */
void frame_group_close(struct uhmm_space *sp, uint32_t group, bool oldest);
/* Done filling, as GROUP_LENT; or free if it holds nothing. */
void frame_group_lend(struct uhmm_space *sp, uint32_t group);
/*
 * Up to nr frames of one group, at most GROUP_PAGES, that hold something and belong to
 * nobody: how many; *slot is the first. fresh: from the kernel, for this thread. The
 * world is entered, the gate is not.
 */
unsigned frame_alloc(struct uhmm_space *sp, unsigned nr, bool fresh, uint64_t *slot);
/*
 * Nobody has lent groups any more: frames of owners up to this, which are no pages of the
 * program, are dropped; the others are on probation like any.
 */
void frames_take_back(struct uhmm_space *sp, uintptr_t owner);
/*
 * Takes the oldest group (or folio) off the probation list, or GROUP_NIL. *folio: whose
 * folio it is, 0 for a group of single pages. A folio may go back before it is stored.
 */
uint32_t frame_group_take(struct uhmm_space *sp, uintptr_t *folio);
/* Puts a group that was taken back (as the oldest), or frees it if it holds nothing. */
void frame_group_give(struct uhmm_space *sp, uint32_t group);

/* Eight groups, 2 MiB, aligned: the first group, or GROUP_NIL. Filled at once. */
uint32_t frame_folio_open(struct uhmm_space *sp);
void frame_folio_close(struct uhmm_space *sp, uint32_t group, uintptr_t owner);
/* Has the folio not been moved away since? */
bool frame_folio_is_here(struct uhmm_space *sp, uint32_t group, uintptr_t owner);
/* The folio was moved away (or never came). */
void frame_folio_release(struct uhmm_space *sp, uint32_t group);
/* What is in its place is not needed any more; or is what kept it from coming. */
void frame_folio_drop(struct uhmm_space *sp, uint32_t group);
/*
 * Before it is split: pages that its parts will not have are dropped. mask has a word for
 * each of its groups.
 */
void frame_folio_drop_some(struct uhmm_space *sp, uint32_t group, const uint64_t *mask);
/* What is in its place is not needed any more, and it is not kept for later. */
void frame_folio_empty(struct uhmm_space *sp, uint32_t group);
/* Its pages [from, to) become single pages, in groups on the probation list, or lent. */
void frame_folio_split(struct uhmm_space *sp, uint32_t group, uintptr_t owner,
		       unsigned from, unsigned to);

/* A driver has it from now on. */
void frame_folio_lend(struct uhmm_space *sp, uint32_t group);
/* Does one, and is it still whole? */
bool frame_folio_is_lent(struct uhmm_space *sp, uint32_t group);
/* Is the slot one of a lent group? */
bool frame_is_lent(struct uhmm_space *sp, uint64_t slot);
/*
 * A block that is a driver's, of nobody's pages: an open one that holds bytes now, a huge
 * page of ours.
 */
void frame_folio_allocated(struct uhmm_space *sp, uint32_t group, uintptr_t owner);

/*
 * Spare frames, lib/frame_spare.c: full of what nobody needs, to be written to and moved
 * to the program. A group of them that is the caller's, on no list, or GROUP_NIL.
 */
uint32_t frame_spare_take(struct uhmm_space *sp);
/* Of these slots the pages were not moved away: the others are free. */
void frame_spare_give(struct uhmm_space *sp, uint32_t group, uint64_t left);
/* A block that held a folio; what is in it now need not be a huge page any more. */
uint32_t frame_spare_take_folio(struct uhmm_space *sp);
/* Is there room for that many more? Never where there is a budget. */
bool frame_spare_room(struct uhmm_space *sp, unsigned pages);
/*
 * All slots of a group, whose pages are the caller's, are dropped: they will be spare
 * when the group is freed. False: they are not to be.
 */
bool frame_group_keep(struct uhmm_space *sp, uint32_t group, uint64_t mask);
/* What was not needed since the last time is dropped. */
void frames_trim(struct uhmm_space *sp);
/*
 * All of it; false: there was nothing. As all that is dropped by a thread that has the
 * space's descriptors: where there is a budget a forking thread may have none of them,
 * and nothing is spare.
 */
bool frames_drop_spares(struct uhmm_space *sp);
/* That, and what was left (frame_leave()). */
bool frames_drop_unneeded(struct uhmm_space *sp);

/* The pages of nr slots of a group, from this one on, were moved back to the program. */
void frame_release(struct uhmm_space *sp, uint64_t slot, unsigned nr);
/*
 * May the page of a slot, on probation, be copied back and stay? To move one makes every
 * other processor that runs the program forget where it was; what is left goes when the
 * rest of its group does, at once.
 */
bool frame_may_leave(struct uhmm_space *sp, uint64_t slot);
/* It was. */
void frame_leave(struct uhmm_space *sp, uint64_t slot);
/* Drops what was left in groups that hold nothing else. False: there was nothing. */
bool frames_drop_left(struct uhmm_space *sp);
/* The pages of these slots of a group are not needed any more. */
void frame_drop(struct uhmm_space *sp, uint32_t group, uint64_t mask);
/* The same where their slots are to be filled again: they are empty after this. */
void frame_drop_now(struct uhmm_space *sp, uint32_t group, uint64_t mask);
/*
 * After fork a page in a frame is shared and cannot be moved: writes to it unshares it.
 */
void frame_unshare(struct uhmm_space *sp, uint64_t slot, unsigned nr);
/* Gives the memory of what was dropped back now. */
void frame_empty_trash(struct uhmm_space *sp);

#endif

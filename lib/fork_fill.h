/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What filling a child (fork_fill.c), looking at it (fork_look.c) and at our own memory
 * (fork_ours.c) share.
 */
#ifndef UHMM_FORK_FILL_H
#define UHMM_FORK_FILL_H

#include "lib/fork_name.h"
#include "lib/types.h"

/*
 * What a child may do before it is filled, and children it may have meanwhile: far more
 * than it has time for. A child of which we cannot tell any more where its pages belong
 * must not run on.
 */
#define FILL_EVENTS 16384u
#define FILL_CHILDREN 64u
#define TOO_FAST "memory changes too fast for a child to be filled"

/*
 * A descendant to be filled, how many of fill->event[] its memory has seen, and who made
 * it.
 */
struct descendant {
	int uffd;
	uint32_t seen;
	struct fork_name maker;
};

struct fill {
	struct uhmm_space *sp;
	int uffd;
	uint64_t nr;
	struct fork_name who; /* the one that is filled */
	bool dead;            /* its memory is gone */
	/* Empty in the child, and meant to be: where it had them when it was copied. */
	struct range_set wiped;
	/* Empty in a child of it, where that has them after so many of event[]. */
	struct range_set wiped_later;
	uint32_t listed_after;
	bool names_too; /* let go also of where its name is written */
	bool unlisted;  /* what that has empty could not be found out */
	/* Where the child has another mapping, and registered. */
	struct range_set fresh;
	/*
	 * What was unmapped before the child was read of and is registered here. It may
	 * have been moved there, or else has grown.
	 */
	struct range_set grown;
	bool all_grown;         /* it has all of that */
	bool frozen;            /* sp->batch has what was logged */
	bool moved[EVENTS_MAX]; /* the child has seen this REMAP of sp->batch */
	uint32_t after;         /* events of sp->batch read before the child's */
	uint32_t settled;       /* of these, the first that it has certainly seen */
	/* Events of one epoch may have been read in another order than they happened. */
	uint32_t epoch[EVENTS_MAX];
	uint32_t nr_events, nr_waiting, nr_let_go;
	struct descendant waiting[FILL_CHILDREN];
	/* What the child has done to its memory meanwhile; it runs while it is filled. */
	struct frozen_record event[FILL_EVENTS];
};

/* Something that the child has done to its memory, or a child of its own. */
void fill_note_event(struct fill *fill, const struct os_event *ev);
/* The child has changed its memory: until we have read of it we cannot fill any. */
void fill_read_events(struct fill *fill);
/*
 * Reads on, and finds out where a mapping came of which no event tells. More events may
 * be in sp->batch after it, or in the log.
 */
void fill_look_at_ours(struct fill *fill);
/*
 * Where event `unmap` of the batch, read before the child, took a mapping away: is there
 * another now, or was there one, which has grown there in place? Of that the kernel tells
 * nobody. It counts as grown before the child's copy was taken: who shrinks a mapping,
 * lets it grow and clones must find it empty. (If another thread does that just after the
 * copy, the child lacks the page.) arrived: the page at addr has come there in the batch.
 */
bool fill_has_grown(struct fill *fill, uint32_t unmap, uintptr_t addr, bool arrived);
/* Finds out which process it is, and which of its memory was wiped. */
void fill_look_at_wiped(struct fill *fill);
/* Of a child of the child: also what was wiped when it was made. */
void fill_look_at_wiped_later(struct fill *fill, const struct descendant *next);
/* It is filled: nothing of it is registered any more. */
void fill_let_go(struct fill *fill);

#endif

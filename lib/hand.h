/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock hand: walks over the program's present pages, round and round, and isolates
 * what it meets. There are no access bits in user space: a page that is touched while it
 * is in PROBATION comes back warmer, and the hand passes warm pages by once for each
 * degree.
 */
#ifndef UHMM_HAND_H
#define UHMM_HAND_H

#include "lib/types.h"

#define HAND_EXTENTS 64
/* Pages looked for at a time: what the lists below are good for before they get old. */
#define HAND_SCAN_PAGES 1024
/* Threads that the kernel lists; of the others there may be more, see threads_hold(). */
#define HAND_THREADS 512

struct hand {
	uintptr_t at; /* everything below was looked at in this revolution */
	struct os_extent extent[HAND_EXTENTS];
	int nr, next; /* extents found, and which is being worked on */
	enum os_scan_what what;
	unsigned flags;      /* of isolate_pages() */
	uintptr_t end;       /* where it wraps; 0: at the end of all memory */
	uint32_t offset;     /* pages of it done */
	uint32_t group[2];   /* being filled, by executable, or GROUP_NIL */
	bool scattered;      /* what was found last lies in short runs */
	bool copied;         /* what was isolated last, from what fork shares */
	uint64_t forks;      /* of this process, when the extents were found */
	uint32_t refused;    /* space->nr_refused when this revolution began */
	bool look;           /* some were: it is looked at before, who has them */
	bool met_shared;     /* pages that others have too, in this revolution */
	unsigned shared;     /* groups of those to take, as there was nothing else */
	uintptr_t shared_at; /* where they are looked for next */
	uint64_t revolutions;
	uint64_t taken; /* pages isolated in this revolution */
	/* Memory the kernel writes when a thread ends: never isolated. */
	struct range keep[HAND_THREADS]; /* found with the extents */
	uint32_t nr_keep;
	bool listed;                     /* not anew with the extents */
	uint64_t held[CHUNK_PAGES / 64]; /* bits: pages of the chunk that is taken from */
	uintptr_t chunk;
};

enum hand_pace {
	HAND_WALKS,
	/* whatever there is, warm as well, so that who touches it has to wait */
	HAND_HURRIES,
	/* on the stack of a thread of the program, which waits: little, not deep */
	HAND_FAULTS,
	/* by the reader, for whom nobody answers a fault: the same */
	HAND_READS,
};

/* Whether who faults may be asked for this. */
bool hand_is_light(const struct hand *hand);

/*
 * Isolates up to one group of pages (or one folio). Returns how many, 0 if it met none
 * that can move this time, -EAGAIN if the reader has to run first, -ENOENT when a whole
 * revolution found nothing.
 *
 * A page that several processes share since a fork is the last choice: to take it away
 * from one of them needs a copy, and frees nothing while another has it. Such pages are
 * passed by until a whole revolution found nothing else, then taken for 64 MiB or so.
 */
int hand_isolate(struct uhmm_space *sp, struct hand *hand, enum hand_pace pace);

/*
 * As hand_isolate() with HAND_WALKS, of what streams have brought lately (lib/recent.h),
 * by a hand of its own. -ENOENT: nothing of that is left.
 */
int hand_isolate_recent(struct uhmm_space *sp, struct hand *hand);

/*
 * Makes holes of zero pages in a range, so that writing there is a fault of ours. Some at
 * a time: takes off the range what is done. How many, or -EAGAIN as above.
 */
int hand_drop_zeros(struct uhmm_space *sp, struct hand *hand, struct range *range);

#endif

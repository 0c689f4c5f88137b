/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing pages back: faults, however they arrive, and prefetch.
 */
#ifndef UHMM_FAULT_H
#define UHMM_FAULT_H

#include "lib/types.h"

/* Where loaded pages are put together before they are filled in. */
struct fault_buf {
	char *bytes;
	uint32_t tid;      /* whose fault it is; 0: the caller's */
	unsigned nr_pages; /* 1..UHMM_BATCH_MAX: as far as prefetch goes */
};

/*
 * Resolves the fault at addr (page aligned), and may bring neighbours along. The gate is
 * not entered. Who calls holds the world entered, or is the reader.
 *  0        the page is there, its sleepers are woken
 *  -EAGAIN  try again: wake the page's sleepers so that they fault again, or return to
 *           the instruction that faulted
 *  -EBUSY   in transition: its holder wakes the sleepers (thread delivery), or wait for
 *           it with fault_wait()
 *  -EINPROGRESS  its driver brings it back, on a thread of the page map: the same, but
 *           it is waited for as fault_wait() says
 *  -ENOSPC  no room in the budget: park it
 *  -ENOENT  nothing is migrated there, and the mapping is not (any more) ours
 */
int fault_resolve(struct uhmm_space *sp, uintptr_t addr, bool write,
		  struct fault_buf *buf);

/*
 * Inline delivery: sleeps until a page in transition has settled. True if a migration has
 * it: that may take long, and is to be waited for outside of the world.
 */
bool fault_wait(struct uhmm_space *sp, uintptr_t addr);

/* A message of the reader (OS_EVENT_FAULT): resolves, parks or wakes. */
void fault_deliver(struct uhmm_space *sp, const struct os_event *ev,
		   struct fault_buf *buf);

/* Remembers that who sleeps at addr waits for memory, and rings the worker. */
void fault_park(struct uhmm_space *sp, uintptr_t addr);
/* Lets all parked threads fault again. */
void fault_unpark(struct uhmm_space *sp);

/*
 * Brings [start, end) back as if each migrated page had been touched; results (or NULL)
 * get an enum uhmm_result for each page. Takes no notice of the budget. 0, or -ENOMEM.
 */
int fault_range(struct uhmm_space *sp, uintptr_t start, uintptr_t end, uint8_t *results);

/*
 * fault_range() for whatever is migrated in [start, end): the cost is that of what there
 * is.
 */
int fault_range_present(struct uhmm_space *sp, uintptr_t start, uintptr_t end);
/* Whether anything would have to be brought for that. */
bool fault_range_any(struct uhmm_space *sp);

/* A buffer for a fault of the calling thread; waits for one. Async-signal-safe. */
void fault_buf_get(struct uhmm_space *sp, struct fault_buf *buf);
void fault_buf_put(struct uhmm_space *sp, struct fault_buf *buf);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Locked mappings that grow while they move; see grown.h. */
#include "lib/grown.h"

#include <errno.h>

/*
 * So often a fault is refused before its thread is looked at: who is between a change and
 * telling of it has told by then, unless it has no processor. Odd: of two threads whose
 * faults come in turns each is looked at.
 */
#define REFUSED_TIMES 63u

#define TRIES_AT_ONCE 16u
#define PAUSE_NS INT64_C(100000)

/* As os_thread_grows(), when the thread is asleep. */
static int64_t grows_asleep(uint32_t tid)
{
	uint32_t nothing = 0;
	unsigned tries;
	int64_t r;

	for (tries = 0; (r = os_thread_grows(tid)) == -EAGAIN; tries++)
		if (tries < TRIES_AT_ONCE)
			os_yield();
		else
			os_wait(&nothing, 0, PAUSE_NS);
	return r;
}

/*
 * Whoever faults inside mremap() does for what it has made longer: its first page comes
 * first. Nobody reads meanwhile, so the event stays where it is until all is one mapping.
 */
static bool let_go(struct uhmm_space *sp, const struct os_event *ev)
{
	int64_t grows = ev->tid ? os_thread_grows(ev->tid) : 0;
	struct os_vma vma;
	size_t len;

	if (grows <= 0 || os_vma_next(ev->addr, false, &vma) || vma.start > ev->addr)
		return false;
	len = vma.end - ev->addr < (uint64_t)grows ? vma.end - ev->addr : (size_t)grows;
	if (os_uffd_unregister(sp->uffd, ev->addr, len))
		return false;
	grows_asleep(ev->tid);
	while (os_uffd_register(sp->uffd, ev->addr, len) == -ENOMEM)
		os_yield();
	return true;
}

bool grown_refused(struct uhmm_space *sp, const struct os_event *ev)
{
	if (++sp->nr_unfilled < REFUSED_TIMES)
		return false;
	sp->nr_unfilled = 0;
	return let_go(sp, ev);
}

void grown_idle(struct uhmm_space *sp)
{
	const struct event_batch *b = sp->batch;
	uint32_t i;

	if (++sp->nr_unfilled < REFUSED_TIMES)
		return;
	sp->nr_unfilled = 0;
	for (i = 0; i < b->nr_faults; i++)
		let_go(sp, &b->fault[i]);
}

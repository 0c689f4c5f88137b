/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retiring a space: by its worker, for in a process of which our threads have a table of
 * descriptors of their own nobody else can close the userfaultfd.
 */
#include "lib/retire.h"

#include "lib/budget.h"
#include "lib/fault.h"
#include "lib/gate.h"
#include "lib/placement.h"
#include "lib/reader.h"
#include "lib/reclaim.h"

enum { RETIRE_NOT, RETIRE_ASKED, RETIRE_DONE };

bool retire_asked(const struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->retire_phase, __ATOMIC_ACQUIRE) == RETIRE_ASKED;
}

int retire_ask(struct uhmm_space *sp)
{
	__atomic_store_n(&sp->retire_phase, RETIRE_ASKED, __ATOMIC_RELEASE);
	reclaim_ring(sp);
	while (retire_asked(sp))
		os_wait(&sp->retire_phase, RETIRE_ASKED, -1);
	return sp->retire_result;
}

/* The world is closed: nobody but the reader is in the middle of something. */
static void let_go(struct uhmm_space *sp)
{
	__atomic_store_n(&sp->stop, STOP_BOTH, __ATOMIC_RELEASE);
	/* They have it open as well. */
	reader_kick(sp);
	os_thread_wait(&sp->reader);
	placement_leave(sp);
	__atomic_store_n(&sp->unusable, true, __ATOMIC_RELEASE);
	/* Who waits for a page, or for an event to be read, goes on with that. */
	os_uffd_close(sp->uffd);
}

static int retire(struct uhmm_space *sp)
{
	int64_t limit = budget_limit(sp);
	bool any = true;
	int r = 0;

	/* What is brought would be taken again; and who waits for room waits for that. */
	reclaim_set_limit(sp, 0);
	fault_unpark(sp);
	while (any && !r) {
		r = fault_range_present(sp, 0, (uintptr_t)1 << ADDRESS_BITS);
		gate_close(&sp->world);
		any = fault_range_any(sp);
		if (!any)
			let_go(sp);
		gate_open(&sp->world);
	}
	if (any)
		reclaim_set_limit(sp, limit);
	return any ? r : 0;
}

/*
 * The stacks of threads may be one mapping with memory of the program. Where that is
 * registered, and nobody reads, who unmaps them waits for ever.
 */
void retire_end(struct uhmm_space *sp)
{
	os_thread_join(&sp->reader);
	placement_stop(sp);
}

void retire_serve(struct uhmm_space *sp)
{
	sp->retire_result = retire(sp);
	__atomic_store_n(&sp->retire_phase, RETIRE_DONE, __ATOMIC_RELEASE);
	os_wake(&sp->retire_phase, 1);
}

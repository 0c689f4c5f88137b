/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader. It waits without the gate, closes it, reads and applies, opens it, and only
 * then resolves the faults that came along: so no thread isolates or fills pages between
 * the moment an event was read (when the program goes on) and the moment it was applied.
 *
 * A reader that cannot read ends the process: without it missing pages would be zeros.
 */
#include "lib/reader.h"

#include <errno.h>

#include "lib/budget.h"
#include "lib/event.h"
#include "lib/fault.h"
#include "lib/fork.h"
#include "lib/migrate.h"

void reader_kick(struct uhmm_space *sp)
{
	os_kick(sp->kicker);
}

static void serve(struct uhmm_space *sp)
{
	struct fault_buf buf = { .bytes = sp->reader_buf, .nr_pages = UHMM_BATCH_MAX };
	uint32_t i;

	__atomic_fetch_add(&sp->serving, 1, __ATOMIC_SEQ_CST);
	if (event_read_and_apply(sp) < 0)
		os_die("the userfaultfd cannot be read any more");
	for (i = 0; i < sp->batch->nr_faults; i++)
		fault_deliver(sp, &sp->batch->fault[i], &buf);
	__atomic_fetch_add(&sp->serving, 1, __ATOMIC_RELEASE);
	budget_watch(sp);
}

void reader_drain(struct uhmm_space *sp)
{
	while (event_unread(sp)) {
		serve(sp);
		os_yield();
	}
}

void reader_main(void *arg)
{
	struct uhmm_space *sp = arg;
	int fds[2] = { sp->uffd, sp->kicker };

	while (__atomic_load_n(&sp->stop, __ATOMIC_ACQUIRE) != STOP_BOTH) {
		int ready = os_wait_fds(fds, 2, -1);

		if (ready < 0 && ready != -EINTR)
			os_die("the userfaultfd cannot be waited for any more");
		if (ready & 2) {
			os_kick_clear(sp->kicker);
			if (__atomic_load_n(&sp->fork.phase, __ATOMIC_ACQUIRE) ==
			    FORK_ASKED)
				fork_serve(sp);
		}
		if (ready & 1)
			serve(sp);
	}
}

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
#include "lib/gate.h"

/* Events read at once: what one read returns. */
#define EVENTS 32

void reader_kick(struct uhmm_space *sp)
{
	os_kick(sp->kicker);
}

/* Reads, and applies what is structural; returns the number of events. */
static int read_and_apply(struct uhmm_space *sp, struct os_event *ev)
{
	int n, i;

	gate_close(&sp->gate);
	n = os_uffd_read(sp->uffd, ev, EVENTS);
	for (i = 0; i < n; i++) {
		if (ev[i].kind == OS_EVENT_FORK)
			fork_fill(sp, ev[i].child);
		else if (ev[i].kind != OS_EVENT_FAULT)
			event_apply(sp, &ev[i]);
	}
	gate_open(&sp->gate);
	return n;
}

static void serve(struct uhmm_space *sp)
{
	struct fault_buf buf = { .bytes = sp->reader_buf, .nr_pages = UHMM_BATCH_MAX };
	struct os_event ev[EVENTS];
	int n = read_and_apply(sp, ev), i;

	if (n < 0)
		os_die("the userfaultfd cannot be read any more");
	for (i = 0; i < n; i++)
		if (ev[i].kind == OS_EVENT_FAULT)
			fault_deliver(sp, ev[i].addr, ev[i].write, &buf);
	budget_watch(sp);
}

bool reader_event_unread(struct uhmm_space *sp)
{
	return os_uffd_copy(sp->uffd, (uintptr_t)sp->reader_buf, sp->reader_buf, PAGE_SIZE) ==
	       -EAGAIN;
}

void reader_drain(struct uhmm_space *sp)
{
	while (reader_event_unread(sp)) {
		serve(sp);
		os_yield();
	}
}

void reader_main(void *arg)
{
	struct uhmm_space *sp = arg;
	int fds[2] = { sp->uffd, sp->kicker };

	while (!__atomic_load_n(&sp->stop, __ATOMIC_ACQUIRE)) {
		int ready = os_wait_fds(fds, 2, -1);

		if (ready < 0 && ready != -EINTR)
			os_die("the userfaultfd cannot be waited for any more");
		if (ready & 2) {
			os_kick_clear(sp->kicker);
			if (__atomic_load_n(&sp->fork.phase, __ATOMIC_ACQUIRE) == FORK_ASKED)
				fork_serve(sp);
		}
		if (ready & 1)
			serve(sp);
	}
}

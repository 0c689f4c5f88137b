/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, read until no fault can hide an event. */
#include "lib/message.h"

#include "lib/landed.h"

static bool keep_fault(struct event_batch *b, const struct os_event *fault)
{
	if (b->nr_faults == EVENTS_MAX)
		return false;
	b->fault[b->nr_faults++] = *fault;
	return true;
}

/* True: there may be an event behind these, which are faults. */
static bool take(struct uhmm_space *sp, const struct message_reader *reader,
		 const struct os_event *ev, unsigned n)
{
	bool hidden = n == MESSAGE_BATCH;
	unsigned i;

	for (i = 0; i < n; i++) {
		if (ev[i].kind != OS_EVENT_FAULT) {
			reader->event(sp, &ev[i]);
			hidden = false;
		} else if (!keep_fault(sp->batch, &ev[i])) {
			os_uffd_wake(sp->uffd, ev[i].addr, PAGE_SIZE);
			hidden = false;
		}
	}
	return hidden;
}

int message_read(struct uhmm_space *sp, const struct message_reader *reader)
{
	struct os_event ev[MESSAGE_BATCH];
	int n, total = 0;

	do {
		n = landed_read(reader->landed, sp->uffd, ev, MESSAGE_BATCH, reader->gone,
				reader->ctx);
		if (n < 0)
			return total ? total : n;
		total += n;
	} while (take(sp, reader, ev, (unsigned)n));
	return total;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What layers have in common that look at batches: each is passed to the device below as
 * it is, and when it is complete the layer sees it, with the time that it took.
 *
 * A batch may complete on another thread, long after it was submitted. What its submitter
 * has put into it is kept in a flight meanwhile. There are so many of those as no program
 * has threads that fault at once, or nearly; of more batches each is waited for by who
 * submits it.
 *
 * A frozen batch is not seen: it may leave no trace.
 */
#ifndef UHMM_DEVICES_WATCH_H
#define UHMM_DEVICES_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "uhmm/device.h"

#define WATCH_FLIGHTS 64u

struct watch;

/* Who submitted a batch, and when; when it was complete. */
struct watch_times {
	uint64_t start_ns, end_ns;
	uint32_t tid; /* if the layer wants to know: to ask is a system call */
};

/* On any thread, before the submitter knows. The io is still the batch's. */
typedef void (*watch_fn)(struct watch *watch, const struct uhmm_batch *batch,
			 const struct watch_times *times);

struct watch_flight {
	uint32_t taken; /* atomic */
	struct watch *watch;
	struct watch_times times;
	/* The submitter's. */
	void (*complete)(struct uhmm_batch *batch);
	void *cookie;
} __attribute__((aligned(64)));

/* The layer's first member, zeroed but for next, seen and wants_tid. */
struct watch {
	struct uhmm_device *next;
	watch_fn seen;
	bool wants_tid;
	struct watch_flight flight[WATCH_FLIGHTS];
};

int watch_submit(struct watch *watch, struct uhmm_batch *batch);

#endif

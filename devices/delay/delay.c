/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delay: a layer that makes the device below as slow as another one would be. Each
 * batch is held up for as long as was asked for, and for some of the jitter, before it is
 * passed on: by whom it was submitted, so batches of several threads wait at the same
 * time.
 *
 * How much of the jitter is decided by a batch's number in the order in which they came,
 * and a seed. A frozen batch is not held up: whoever waits for it holds up everybody.
 */
#include <errno.h>
#include <stdbool.h>

#include "devices/mix.h"
#include "uhmm/device.h"

/* In the order of the options. */
enum { STORE_US, LOAD_US, JITTER_US, SEED };

/* More than this nobody waits for: a fault would look like a program that hangs. */
#define LONGEST_US UINT64_C(10000000)

struct delay {
	struct uhmm_device *next;
	uint64_t us[2]; /* UHMM_OP_STORE, UHMM_OP_LOAD */
	uint64_t jitter_us, seed;
	uint64_t came; /* batches so far; relaxed atomic */
};

static const struct uhmm_option delay_options[] = {
	[STORE_US] = { .name = "store",
		       .type = UHMM_OPTION_UINT,
		       .fallback = "0",
		       .max = LONGEST_US,
		       .help = "microseconds before pages are stored" },
	[LOAD_US] = { .name = "load",
		      .type = UHMM_OPTION_UINT,
		      .fallback = "0",
		      .max = LONGEST_US,
		      .help = "microseconds before pages are loaded" },
	[JITTER_US] = { .name = "jitter",
			.type = UHMM_OPTION_UINT,
			.fallback = "0",
			.max = LONGEST_US,
			.help = "up to so many microseconds more of a delay" },
	[SEED] = { .name = "seed",
		   .type = UHMM_OPTION_UINT,
		   .fallback = "1",
		   .help = "another one, and jitter is other (default: 1)" },
	{ .name = NULL },
};

static int delay_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct delay *d = uhmm_host_map(sizeof(*d));

	if (!d) {
		*error = "not enough memory";
		return -ENOMEM;
	}
	d->next = args->next;
	d->us[UHMM_OP_STORE] = args->values[STORE_US].number;
	d->us[UHMM_OP_LOAD] = args->values[LOAD_US].number;
	d->jitter_us = args->values[JITTER_US].number;
	d->seed = args->values[SEED].number;
	*dev = d;
	return 0;
}

static void delay_close(void *dev)
{
	uhmm_host_unmap(dev, sizeof(struct delay));
}

static uint64_t jitter_us(struct delay *d)
{
	uint64_t nr = __atomic_add_fetch(&d->came, 1, __ATOMIC_RELAXED);

	return mix(d->seed, nr) % (d->jitter_us + 1);
}

static int delay_submit(void *dev, struct uhmm_batch *batch)
{
	struct delay *d = dev;
	bool frozen = batch->flags & UHMM_BATCH_FROZEN;

	if (batch->op != UHMM_OP_FREE && !frozen && d->us[batch->op])
		uhmm_host_sleep_ns((d->us[batch->op] + jitter_us(d)) * 1000);
	return uhmm_device_submit(d->next, batch);
}

static void delay_stat(void *dev, struct uhmm_device_stat *stat)
{
	(void)dev;
	stat->bytes_resident = UHMM_PAGE_SIZE;
	stat->bytes_metadata = UHMM_PAGE_SIZE;
}

const struct uhmm_driver uhmm_driver_delay = {
	.size = sizeof(struct uhmm_driver),
	.name = "delay",
	.summary = "makes a device slower, for tests",
	.options = delay_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = UHMM_BATCH_MAX,
	.open = delay_open,
	.close = delay_close,
	.submit = delay_submit,
	.stat = delay_stat,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices for the simulated machine, which stand on others, and the table of all that the
 * library finds there.
 *
 *	error+...   refuses a page in five that is to be stored, for want of room or of
 *	            memory
 *	delay+...   a thread of its own hands each batch on, after a while, and not in the
 *	            order in which they came: so they complete out of order, while whoever
 *	            submitted them sleeps and others run
 *
 * Both answer a frozen batch at once, as <uhmm/device.h> asks. Nothing is locked: there
 * is one real thread, and no scheduling point but where one is named.
 */
#include <errno.h>
#include <limits.h>

#include "lib/device.h"
#include "lib/os/os.h"
#include "tests/sim/sim.h"

extern const struct uhmm_driver uhmm_driver_crypt, uhmm_driver_file, uhmm_driver_lz4,
	uhmm_driver_ram, uhmm_driver_zstd;

/* Of those that came and were not handed on. More than there can be threads. */
#define QUEUE 64u

struct layer {
	struct uhmm_device *next;
	struct uhmm_batch *queue[QUEUE];
	uint32_t nr, came; /* came: changes with each, and is waited on */
	uint32_t tid;
	bool stop;
};

static int layer_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct layer *layer = uhmm_host_map(sizeof(*layer));

	if (!layer) {
		*error = "no memory";
		return -ENOMEM;
	}
	layer->next = args->next;
	*dev = layer;
	return 0;
}

static void layer_close(void *dev)
{
	uhmm_host_unmap(dev, sizeof(struct layer));
}

static void layer_stat(void *dev, struct uhmm_device_stat *stat)
{
	(void)dev;
	(void)stat;
}

/* ---- error ------------------------------------------------------------------------ */

/* The pages of a batch that go on, in a batch of their own; then their answers. */
static void store_others(struct layer *layer, struct uhmm_batch *batch, uint64_t refused)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	uint32_t i, nr = 0;

	for (i = 0; i < batch->nr; i++)
		if (!(refused >> i & 1))
			io[nr++] = batch->io[i];
	if (nr)
		device_run(layer->next, UHMM_OP_STORE, io, nr);
	for (i = nr = 0; i < batch->nr; i++)
		if (!(refused >> i & 1))
			batch->io[i] = io[nr++];
}

static int error_submit(void *dev, struct uhmm_batch *batch)
{
	struct layer *layer = dev;
	uint64_t refused = 0;
	uint32_t i;

	for (i = 0; batch->op == UHMM_OP_STORE && i < batch->nr; i++)
		if (sim_below(5) == 0) {
			refused |= UINT64_C(1) << i;
			batch->io[i].result = sim_below(2) ? -ENOSPC : -ENOMEM;
		}
	if (!refused)
		return uhmm_device_submit(layer->next, batch);
	store_others(layer, batch, refused);
	batch->complete(batch);
	return 0;
}

static const struct uhmm_driver driver_error = {
	.size = sizeof(driver_error),
	.name = "error",
	.summary = "refuses what it is to store, now and then",
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = 16,
	.open = layer_open,
	.close = layer_close,
	.submit = error_submit,
	.stat = layer_stat,
};

/* ---- delay ------------------------------------------------------------------------ */

static void delay_main(void *arg)
{
	struct layer *layer = arg;
	struct uhmm_batch *batch;
	uint32_t came, at;

	while (!layer->stop) {
		came = layer->came;
		if (!layer->nr) {
			os_wait(&layer->came, came, -1);
			continue;
		}
		sim_sleep(1 + sim_below(sim_below(16) ? 5000 : 200000));
		at = sim_below(layer->nr);
		batch = layer->queue[at];
		layer->queue[at] = layer->queue[--layer->nr];
		uhmm_device_submit(layer->next, batch);
	}
}

static int delay_start(void *dev)
{
	struct layer *layer = dev;

	layer->tid = sim_spawn("delay", delay_main, layer);
	return 0;
}

static int delay_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	int r = layer_open(args, dev, error);

	return r ? r : delay_start(*dev);
}

static void delay_close(void *dev)
{
	struct layer *layer = dev;

	if (layer->nr)
		sim_fail("a device is closed that has %u batches", layer->nr);
	layer->stop = true;
	layer->came++;
	os_wake(&layer->came, INT_MAX);
	sim_join(layer->tid);
	layer_close(dev);
}

static int delay_after_fork(void *dev)
{
	const struct layer *layer = dev;

	if (layer->nr)
		sim_fail("a fork() with %u batches in flight", layer->nr);
	return delay_start(dev);
}

static int delay_submit(void *dev, struct uhmm_batch *batch)
{
	struct layer *layer = dev;

	if (batch->flags & UHMM_BATCH_FROZEN || sim_below(3) == 0)
		return uhmm_device_submit(layer->next, batch);
	if (layer->nr == QUEUE)
		sim_fail("more than %u batches at a time", QUEUE);
	layer->queue[layer->nr++] = batch;
	layer->came++;
	os_wake(&layer->came, INT_MAX);
	return 0;
}

static const struct uhmm_driver driver_delay = {
	.size = sizeof(driver_delay),
	.name = "delay",
	.summary = "takes its time",
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = 16,
	.open = delay_open,
	.close = delay_close,
	.submit = delay_submit,
	.after_fork = delay_after_fork,
	.stat = layer_stat,
};

/* ---- the table -------------------------------------------------------------------- */

const struct uhmm_driver *const device_drivers[] = {
	&uhmm_driver_crypt, &driver_delay,    &driver_error,     &uhmm_driver_file,
	&uhmm_driver_lz4,   &uhmm_driver_ram, &uhmm_driver_zstd, NULL,
};

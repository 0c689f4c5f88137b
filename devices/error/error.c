/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: a layer that fails some pages, and passes the others to the device below. For
 * tests of whatever is above: what becomes of a page that could not be stored, or not be
 * read again.
 *
 * Which pages is decided by their number in the order in which they came, and a seed: two
 * runs that ask for the same pages see the same failures. Where threads ask at the same
 * time the order is theirs.
 *
 * A batch of which no page fails is passed on as it is. Of another the pages that do not
 * are passed in a batch of their own, which is waited for: a test has the time.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "devices/below.h"
#include "devices/mix.h"
#include "uhmm/device.h"

/* In the order of the options. */
enum { EVERY, PPM, OP, SEED };

struct error {
	struct uhmm_device *next;
	uint64_t every, ppm, seed;
	bool fails[2];    /* UHMM_OP_STORE, UHMM_OP_LOAD */
	uint64_t came[2]; /* pages so far; relaxed atomics */
};

#define MILLION UINT64_C(1000000)

static const struct uhmm_option error_options[] = {
	[EVERY] = { .name = "every",
		    .type = UHMM_OPTION_UINT,
		    .fallback = "0",
		    .help = "each so many-th page fails (default: none)" },
	[PPM] = { .name = "ppm",
		  .type = UHMM_OPTION_UINT,
		  .fallback = "0",
		  .max = MILLION,
		  .help = "so many of a million pages fail, at random (default: none)" },
	[OP] = { .name = "op",
		 .type = UHMM_OPTION_STRING,
		 .fallback = "store",
		 .help = "what fails: store, load or both (default: store)" },
	[SEED] = { .name = "seed",
		   .type = UHMM_OPTION_UINT,
		   .fallback = "1",
		   .help = "another one, and others fail (default: 1)" },
	{ .name = NULL },
};

static int error_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	const char *op = args->values[OP].string;
	bool both = !strcmp(op, "both");
	struct error *e;

	if (!both && strcmp(op, "store") && strcmp(op, "load")) {
		*error = "op is store, load or both";
		return -EINVAL;
	}
	e = uhmm_host_map(sizeof(*e));
	if (!e) {
		*error = "not enough memory";
		return -ENOMEM;
	}
	e->next = args->next;
	e->every = args->values[EVERY].number;
	e->ppm = args->values[PPM].number;
	e->seed = args->values[SEED].number;
	e->fails[UHMM_OP_STORE] = both || !strcmp(op, "store");
	e->fails[UHMM_OP_LOAD] = both || !strcmp(op, "load");
	*dev = e;
	return 0;
}

static void error_close(void *dev)
{
	uhmm_host_unmap(dev, sizeof(struct error));
}

/* ---- which ------------------------------------------------------------------------ */

/* nr: of the page, from 1. */
static bool fails(const struct error *e, uint64_t nr)
{
	return (e->every && nr % e->every == 0) || mix(e->seed, nr) % MILLION < e->ppm;
}

/* A bit for each page of a batch. */
static uint64_t which_fail(struct error *e, const struct uhmm_batch *batch)
{
	uint64_t failing = 0, first;
	uint32_t i;

	if (batch->op == UHMM_OP_FREE || !e->fails[batch->op])
		return 0;
	first = __atomic_fetch_add(&e->came[batch->op], batch->nr, __ATOMIC_RELAXED);
	for (i = 0; i < batch->nr; i++)
		if (fails(e, first + i + 1))
			failing |= UINT64_C(1) << i;
	return failing;
}

/* ---- batches ---------------------------------------------------------------------- */

static void fail_some(struct error *e, struct uhmm_batch *batch, uint64_t failing)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	struct uhmm_batch others = { .op = batch->op, .io = io };
	uint32_t i, n = 0;

	for (i = 0; i < batch->nr; i++)
		if (!(failing >> i & 1))
			io[others.nr++] = batch->io[i];
	below_run(e->next, &others);
	for (i = 0; i < batch->nr; i++)
		if (!(failing >> i & 1))
			batch->io[i] = io[n++];
		else
			batch->io[i].result = batch->op == UHMM_OP_STORE ? -ENOSPC : -EIO;
}

static int error_submit(void *dev, struct uhmm_batch *batch)
{
	struct error *e = dev;
	uint64_t failing = batch->flags & UHMM_BATCH_FROZEN ? 0 : which_fail(e, batch);

	if (!failing)
		return uhmm_device_submit(e->next, batch);
	fail_some(e, batch, failing);
	batch->complete(batch);
	return 0;
}

static void error_stat(void *dev, struct uhmm_device_stat *stat)
{
	(void)dev;
	stat->bytes_resident = UHMM_PAGE_SIZE;
	stat->bytes_metadata = UHMM_PAGE_SIZE;
}

const struct uhmm_driver uhmm_driver_error = {
	.size = sizeof(struct uhmm_driver),
	.name = "error",
	.summary = "fails some pages, for tests",
	.options = error_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = UHMM_BATCH_MAX,
	.open = error_open,
	.close = error_close,
	.submit = error_submit,
	.stat = error_stat,
};

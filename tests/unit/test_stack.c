/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks of devices, with drivers made for this test that write down what happens to
 * them: in which order layers are opened, driven, forked and closed, what a stack says of
 * itself, and batches that are completed at once, later, or by another thread.
 */
#define _GNU_SOURCE
#include "tests/test.h"

#include <pthread.h>

#include "lib/device.h"
#include "lib/host.h"

static char journal[256];

static void note(const char *what)
{
	strncat(journal, what, sizeof(journal) - strlen(journal) - 1);
}

/* ---- the drivers --------------------------------------------------------------- */

static int bottom_open(const struct uhmm_device_args *args, void **dev,
		       const char **error)
{
	(void)error;
	CHECK(args->next == NULL);
	note("open bottom;");
	*dev = journal;
	return 0;
}

static void bottom_close(void *dev)
{
	CHECK(dev == journal);
	note("close bottom;");
}

/* Odd pages fail. */
static void answer(struct uhmm_batch *batch)
{
	uint32_t i;

	for (i = 0; i < batch->nr; i++)
		batch->io[i].result = batch->io[i].page % 2 ? -EIO : 0;
	batch->complete(batch);
}

static unsigned inside, most_inside; /* atomic */

static int bottom_submit(void *dev, struct uhmm_batch *batch)
{
	unsigned now = __atomic_add_fetch(&inside, 1, __ATOMIC_RELAXED);

	CHECK(dev == journal);
	if (now > __atomic_load_n(&most_inside, __ATOMIC_RELAXED))
		__atomic_store_n(&most_inside, now, __ATOMIC_RELAXED);
	usleep(10);
	__atomic_sub_fetch(&inside, 1, __ATOMIC_RELAXED);
	answer(batch);
	return 0;
}

static int bottom_after_fork(void *dev)
{
	(void)dev;
	note("fork bottom;");
	return 0;
}

static int bottom_flush(void *dev)
{
	(void)dev;
	note("flush bottom;");
	return 0;
}

static void bottom_stat(void *dev, struct uhmm_device_stat *stat)
{
	(void)dev;
	stat->pages = 10;
	stat->bytes_stored = 100;
	stat->bytes_resident = 4096;
	stat->bytes_metadata = 96;
}

static int layer_refuses; /* the how manieth layer to be opened is refused */

static int layer_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	(void)error;
	CHECK(args->next != NULL);
	note("open layer;");
	*dev = args->next;
	return layer_refuses && --layer_refuses == 0 ? -ENOMEM : 0;
}

static void layer_close(void *dev)
{
	(void)dev;
	note("close layer;");
}

static int layer_submit(void *dev, struct uhmm_batch *batch)
{
	return uhmm_device_submit(dev, batch);
}

static int layer_after_fork(void *dev)
{
	(void)dev;
	note("fork layer;");
	return 0;
}

static void layer_stat(void *dev, struct uhmm_device_stat *stat)
{
	(void)dev;
	stat->pages = 11;
	stat->bytes_stored = 1000;
	stat->bytes_resident = 8192;
	stat->bytes_metadata = 4;
}

/* Of a layer that passes pages through. */
static void through_stat(void *dev, struct uhmm_device_stat *stat)
{
	CHECK(dev != journal);
	stat->bytes_resident = 500;
	stat->bytes_metadata = 5;
}

static void *complete_later(void *arg)
{
	usleep(2000);
	answer(arg);
	return NULL;
}

static int later_submit(void *dev, struct uhmm_batch *batch)
{
	pthread_t thread;

	(void)dev;
	CHECK_EQ(pthread_create(&thread, NULL, complete_later, batch), 0);
	CHECK_EQ(pthread_detach(thread), 0);
	return 0;
}

static const struct uhmm_driver bottom = {
	.size = sizeof(bottom),
	.name = "bottom",
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_SERIALIZE,
	.batch = 8,
	.open = bottom_open,
	.close = bottom_close,
	.submit = bottom_submit,
	.flush = bottom_flush,
	.after_fork = bottom_after_fork,
	.stat = bottom_stat,
};

static const struct uhmm_driver layer = {
	.size = sizeof(layer),
	.name = "layer",
	.flags = UHMM_DRIVER_LAYER | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = 32,
	.open = layer_open,
	.close = layer_close,
	.submit = layer_submit,
	.after_fork = layer_after_fork,
	.stat = layer_stat,
};

static const struct uhmm_driver through = {
	.size = sizeof(through),
	.name = "through",
	.flags = UHMM_DRIVER_LAYER | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = 32,
	.open = layer_open,
	.close = layer_close,
	.submit = layer_submit,
	.stat = through_stat,
};

/*
 * Built against a header that ended with submit: what follows is not its own, and calling
 * it would end the test.
 */
static const struct uhmm_driver later = {
	.size = offsetof(struct uhmm_driver, flush),
	.name = "later",
	.flags = UHMM_DRIVER_RECLAIM_SAFE,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = 64,
	.open = bottom_open,
	.close = bottom_close,
	.submit = later_submit,
	.flush = (int (*)(void *))(uintptr_t)8,
	.after_fork = (int (*)(void *))(uintptr_t)8,
	.stat = (void (*)(void *, struct uhmm_device_stat *))(uintptr_t)8,
};

static const struct uhmm_driver *const drivers[] = { &bottom, &later, &layer, &through,
						     NULL };

static struct uhmm_device *open_stack(const char *spec)
{
	char error[DEVICE_ERROR_MAX] = "";
	struct uhmm_device *dev = NULL;

	CHECK(device_open_from(drivers, spec, &dev, error, sizeof(error)) == 0, "%.400s",
	      error);
	return dev;
}

/* ---- stacks -------------------------------------------------------------------- */

TEST(layers_in_order)
{
	struct uhmm_device *dev = open_stack("layer+layer+bottom");

	CHECK_STR(journal, "open bottom;open layer;open layer;");
	CHECK_STR(device_driver(dev)->name, "layer");
	CHECK_EQ(device_batch_hint(dev), 8);
	/* One layer that is not reclaim-safe spoils it; the lowest says memory. */
	CHECK_EQ(device_flags(dev), UHMM_DRIVER_LAYER | UHMM_DRIVER_MEMORY);
	journal[0] = 0;
	CHECK_EQ(device_after_fork(dev), 0);
	CHECK_STR(journal, "fork bottom;fork layer;fork layer;");
	journal[0] = 0;
	CHECK_EQ(device_flush(dev), 0);
	CHECK_STR(journal, "flush bottom;");
	journal[0] = 0;
	device_close(dev);
	CHECK_STR(journal, "close layer;close layer;close bottom;");
	device_close(NULL);
}

TEST(a_layer_that_cannot_be_opened)
{
	char error[DEVICE_ERROR_MAX];
	struct uhmm_device *dev = NULL;
	struct host_stat before, after;

	host_stat(&before);
	layer_refuses = 2;
	CHECK_EQ(device_open_from(drivers, "layer+layer+bottom", &dev, error,
				  sizeof(error)),
		 -ENOMEM);
	CHECK(dev == NULL);
	CHECK_STR(journal, "open bottom;open layer;open layer;close layer;close bottom;");
	host_stat(&after);
	CHECK_EQ(after.bytes_mapped, before.bytes_mapped);
}

TEST(statistics_of_a_stack)
{
	struct uhmm_device *dev = open_stack("layer+bottom");
	struct uhmm_device_stat stat = { .size = sizeof(stat) };

	device_stat(dev, &stat);
	CHECK_EQ(stat.pages, 11);
	CHECK_EQ(stat.bytes_stored, 100);
	CHECK_EQ(stat.bytes_resident, 8192 + 4096);
	CHECK_EQ(stat.bytes_metadata, 100);
	device_close(dev);
}

TEST(what_passes_pages_through_counts_none)
{
	struct uhmm_device *dev = open_stack("through+bottom");
	struct uhmm_device_stat stat = { .size = sizeof(stat) };

	device_stat(dev, &stat);
	CHECK_EQ(stat.pages, 10);
	CHECK_EQ(stat.bytes_stored, 100);
	CHECK_EQ(stat.bytes_resident, 500 + 4096);
	CHECK_EQ(stat.bytes_metadata, 5 + 96);
	device_close(dev);
}

TEST(a_driver_of_an_older_header)
{
	struct uhmm_device *dev = open_stack("layer+later");
	struct uhmm_device_stat stat = { .size = sizeof(stat), .pages = 99 };

	CHECK_EQ(device_flags(dev), UHMM_DRIVER_LAYER);
	CHECK_EQ(device_batch_hint(dev), 32);
	CHECK_EQ(device_after_fork(dev), 0);
	CHECK_EQ(device_flush(dev), 0);
	device_stat(dev, &stat);
	CHECK_EQ(stat.pages, 11);
	CHECK_EQ(stat.bytes_resident, 8192);
	device_close(dev);
}

/* ---- batches ------------------------------------------------------------------- */

static void run_mixed(struct uhmm_device *dev)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	uint32_t nr, i;

	for (nr = 1; nr <= UHMM_BATCH_MAX; nr += 9) {
		for (i = 0; i < nr; i++)
			io[i] = (struct uhmm_io){ .page = i, .result = 99 };
		CHECK_EQ(device_run(dev, UHMM_OP_LOAD, io, nr), nr / 2);
		for (i = 0; i < nr; i++)
			CHECK_EQ(io[i].result, i % 2 ? -EIO : 0);
	}
}

static void *run_in_thread(void *arg)
{
	int i;

	for (i = 0; i < 40; i++)
		run_mixed(arg);
	return NULL;
}

TEST(a_serial_driver_is_entered_by_one)
{
	struct uhmm_device *dev = open_stack("layer+bottom");
	pthread_t thread[4];
	int i;

	for (i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, run_in_thread, dev), 0);
	for (i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	CHECK_EQ(most_inside, 1);
	device_close(dev);
}

TEST(a_batch_completed_by_another_thread)
{
	struct uhmm_device *dev = open_stack("layer+later");

	run_mixed(dev);
	device_close(dev);
}

TEST(an_empty_batch_ends_the_process, .signal = SIGKILL)
{
	struct uhmm_io io = { 0 };

	device_run(open_stack("bottom"), UHMM_OP_LOAD, &io, 0);
}

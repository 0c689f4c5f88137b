/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `stats`: what its table says of batches that are known. */
#define _GNU_SOURCE
#include "tests/device/subject.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

#include "lib/host.h"
#include "tests/device/folder.h"

#define NR 60u

extern const struct uhmm_driver uhmm_driver_ram, uhmm_driver_stats;

static uint8_t page[NR][PAGE] __attribute__((aligned(4096)));
static struct uhmm_io io[NR];

static void prepare(void)
{
	uint32_t i;

	for (i = 0; i < NR; i++) {
		memset(page[i], (int)i + 1, PAGE);
		io[i].buf = page[i];
		io[i].len = PAGE;
	}
}

/* below: what is put under it. */
static struct uhmm_device *open_stats(const char *below)
{
	char spec[256];

	prepare();
	snprintf(spec, sizeof(spec), "stats:to=%s/s+%s", folder(), below);
	return open_spec(spec);
}

/* How many failed, of batches of n. */
static uint32_t run(struct uhmm_device *dev, enum uhmm_op op, uint32_t n)
{
	uint32_t at, failed = 0;

	for (at = 0; at < NR; at += n)
		failed += device_run(dev, op, io + at, n);
	return failed;
}

/* ---- the table -------------------------------------------------------------------- */

static uint64_t cell(const char *text, const char *label, enum uhmm_op op)
{
	const char *row = strstr(text, label);
	uint64_t value[3];

	CHECK(row != NULL, "%s", label);
	CHECK_EQ(sscanf(row + strlen(label), "%lu %lu %lu", &value[0], &value[1],
			&value[2]),
		 3);
	return value[op];
}

/* Of a row, as it is now in the file of that process. */
static uint64_t told_by(pid_t pid, const char *label, enum uhmm_op op)
{
	char row[64];
	size_t len;
	char *text = folder_read("s", pid, &len);
	uint64_t value;

	snprintf(row, sizeof(row), "\n%s", label);
	value = cell(text, row, op);
	free(text);
	return value;
}

static uint64_t told(const char *label, enum uhmm_op op)
{
	return told_by(getpid(), label, op);
}

/* All of an operation but its times. */
static void check_told(enum uhmm_op op, uint64_t batches, uint64_t pages, uint64_t failed)
{
	uint64_t bytes = op == UHMM_OP_FREE ? 0 : (pages - failed) * PAGE;

	CHECK_EQ(told("batches  ", op), batches);
	CHECK_EQ(told("pages  ", op), pages);
	CHECK_EQ(told("pages that failed  ", op), failed);
	CHECK_EQ(told("bytes  ", op), bytes);
}

/* Batches that took less than 2^n us, from `from` on. */
static uint64_t told_took(enum uhmm_op op, unsigned from)
{
	char label[64];
	uint64_t sum = told("  longer", op);
	unsigned n;

	for (n = from; n < 24; n++) {
		snprintf(label, sizeof(label), "  less than%8u us", 1u << n);
		sum += told(label, op);
	}
	return sum;
}

/* Microseconds that they took at least, by the rows in which they are. */
static uint64_t told_least(enum uhmm_op op)
{
	uint64_t sum = 0;
	unsigned n;

	for (n = 1; n <= 24; n++)
		sum += (told_took(op, n) - (n < 24 ? told_took(op, n + 1) : 0))
		       << (n - 1);
	return sum;
}

/* ---- counted ---------------------------------------------------------------------- */

TEST(counts_at_once)
{
	struct uhmm_device *dev = open_stats("ram");

	check_told(UHMM_OP_STORE, 0, 0, 0);
	CHECK_EQ(run(dev, UHMM_OP_STORE, 6), 0);
	check_told(UHMM_OP_STORE, 10, 60, 0);
	check_told(UHMM_OP_LOAD, 0, 0, 0);
	CHECK_EQ(run(dev, UHMM_OP_LOAD, 1), 0);
	CHECK_EQ(run(dev, UHMM_OP_LOAD, 30), 0);
	CHECK_EQ(run(dev, UHMM_OP_FREE, 20), 0);
	check_told(UHMM_OP_STORE, 10, 60, 0);
	check_told(UHMM_OP_LOAD, 62, 120, 0);
	check_told(UHMM_OP_FREE, 3, 60, 0);
	device_close(dev);
	check_told(UHMM_OP_LOAD, 62, 120, 0);
}

TEST(counts_what_failed)
{
	struct uhmm_device *dev = open_stats("error:every=3+ram");

	CHECK_EQ(run(dev, UHMM_OP_STORE, 6), 20);
	check_told(UHMM_OP_STORE, 10, 60, 20);
	device_close(dev);
	unlink(folder_file("s", getpid()));
	dev = open_stats("error:every=4,op=load+ram");
	CHECK_EQ(run(dev, UHMM_OP_STORE, 60), 0);
	CHECK_EQ(run(dev, UHMM_OP_LOAD, 60), 15);
	check_told(UHMM_OP_STORE, 1, 60, 0);
	check_told(UHMM_OP_LOAD, 1, 60, 15);
	device_close(dev);
}

/* Pages that are short, as they are below what compresses. */
TEST(counts_bytes_as_they_are)
{
	struct uhmm_device *dev = open_stats("lz4");
	uint32_t i, bytes = 0;

	for (i = 0; i < NR; i++)
		bytes += io[i].len = i * 50 + 1;
	CHECK_EQ(run(dev, UHMM_OP_STORE, 60), 0);
	CHECK_EQ(told("bytes  ", UHMM_OP_STORE), bytes);
	device_close(dev);
}

TEST(a_frozen_load_is_not_counted)
{
	struct uhmm_device *dev = open_stats("ram");

	CHECK_EQ(run(dev, UHMM_OP_STORE, 60), 0);
	CHECK_EQ(device_peek(dev, &io[7]), 0);
	check_told(UHMM_OP_LOAD, 0, 0, 0);
	device_close(dev);
}

/* ---- timed ------------------------------------------------------------------------ */

TEST(times_what_is_below)
{
	struct uhmm_device *dev = open_stats("delay:store=3000,load=1000+ram");
	uint64_t start = uhmm_host_now_ns(), took;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 6), 0);
	CHECK_EQ(run(dev, UHMM_OP_LOAD, 6), 0);
	took = (uhmm_host_now_ns() - start) / 1000;
	CHECK_GE(told("time, us  ", UHMM_OP_STORE), 10 * 3000);
	CHECK_GE(told("time, us  ", UHMM_OP_LOAD), 10 * 1000);
	CHECK_LE(told("time, us  ", UHMM_OP_STORE) + told("time, us  ", UHMM_OP_LOAD),
		 took);
	/* Nor are they further down than the time that all of them took. */
	CHECK_LE(told_least(UHMM_OP_STORE), told("time, us  ", UHMM_OP_STORE));
	/* 3000 us are less than 4096, and not than 2048. */
	CHECK_EQ(told_took(UHMM_OP_STORE, 12), 10);
	CHECK_EQ(told_took(UHMM_OP_STORE, 0), 10);
	CHECK_EQ(told_took(UHMM_OP_LOAD, 10), 10);
	CHECK_EQ(told_took(UHMM_OP_FREE, 0), 0);
	device_close(dev);
}

/* ---- threads, processes ----------------------------------------------------------- */

#define THREADS 4u
#define ROUNDS 2000u

static void *load_much(void *arg)
{
	static __thread uint8_t buf[PAGE] __attribute__((aligned(4096)));
	struct uhmm_io mine = io[0];
	uint32_t i;

	mine.buf = buf;
	for (i = 0; i < ROUNDS; i++)
		CHECK_EQ(device_run(arg, UHMM_OP_LOAD, &mine, 1), 0);
	return NULL;
}

/* Also in the file: whoever was the last of them wrote it, or left it to who did. */
TEST(threads_lose_nothing)
{
	struct uhmm_device *dev = open_stats("ram");
	pthread_t thread[THREADS];
	uint32_t i;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 60), 0);
	for (i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, load_much, dev), 0);
	for (i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	check_told(UHMM_OP_LOAD, THREADS * ROUNDS, THREADS * ROUNDS, 0);
	CHECK_EQ(told_took(UHMM_OP_LOAD, 0), THREADS * ROUNDS);
	device_close(dev);
}

TEST(a_forked_child_counts_for_itself)
{
	struct uhmm_device *dev = open_stats("ram");
	char first[32], *text;
	size_t len;
	int status;
	pid_t pid;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 6), 0);
	host_fork_prepare();
	pid = fork();
	host_fork_done();
	CHECK_GE(pid, 0);
	if (pid == 0) {
		CHECK_EQ(device_after_fork(dev), 0);
		check_told(UHMM_OP_STORE, 0, 0, 0);
		CHECK_EQ(run(dev, UHMM_OP_LOAD, 5), 0);
		/* However it ends. */
		kill(getpid(), SIGKILL);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK_EQ(told_by(pid, "batches  ", UHMM_OP_LOAD), 12);
	snprintf(first, sizeof(first), "process %7d ", (int)pid);
	text = folder_read("s", pid, &len);
	CHECK(!strncmp(text, first, strlen(first)));
	free(text);
	CHECK_EQ(run(dev, UHMM_OP_FREE, 60), 0);
	check_told(UHMM_OP_LOAD, 0, 0, 0);
	check_told(UHMM_OP_FREE, 1, 60, 0);
	device_close(dev);
}

/* ---- a device that works by itself ------------------------------------------------ */

/* More than are kept track of. */
#define BATCHES 200u

/* Completes batches on a thread of its own, the last that came first. */
static struct {
	pthread_mutex_t lock;
	struct uhmm_device *next;
	struct uhmm_batch *batch[BATCHES];
	uint32_t nr;
	bool ends;
} later = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int later_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	(void)error;
	later.next = args->next;
	*dev = &later;
	return 0;
}

static void later_close(void *dev)
{
	(void)dev;
}

static int later_submit(void *dev, struct uhmm_batch *batch)
{
	(void)dev;
	CHECK_EQ(pthread_mutex_lock(&later.lock), 0);
	later.batch[later.nr++] = batch;
	CHECK_EQ(pthread_mutex_unlock(&later.lock), 0);
	return 0;
}

static void *later_work(void *arg)
{
	struct uhmm_batch *batch;
	bool ends = false;

	while (!ends) {
		usleep(1000);
		CHECK_EQ(pthread_mutex_lock(&later.lock), 0);
		batch = later.nr ? later.batch[--later.nr] : NULL;
		ends = later.ends && !batch;
		CHECK_EQ(pthread_mutex_unlock(&later.lock), 0);
		if (batch)
			uhmm_device_submit(later.next, batch);
	}
	return arg;
}

static const struct uhmm_driver uhmm_driver_later = {
	.size = sizeof(struct uhmm_driver),
	.name = "later",
	.summary = "completes batches later",
	.flags = UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = 1,
	.open = later_open,
	.close = later_close,
	.submit = later_submit,
};

static uint32_t completed; /* atomic */

static void mine_completed(struct uhmm_batch *batch)
{
	CHECK(batch->cookie == batch);
	CHECK(batch->complete == mine_completed);
	batch->cookie = NULL;
	__atomic_fetch_add(&completed, 1, __ATOMIC_RELEASE);
}

/* Each is given back as it was, and all are counted. */
TEST(batches_that_complete_later)
{
	static const struct uhmm_driver *const drivers[] = { &uhmm_driver_later,
							     &uhmm_driver_ram,
							     &uhmm_driver_stats, NULL };
	static struct uhmm_batch batch[BATCHES];
	static struct uhmm_io one[BATCHES];
	char spec[256], error[DEVICE_ERROR_MAX];
	struct uhmm_device *dev;
	pthread_t thread;
	uint32_t i;

	prepare();
	snprintf(spec, sizeof(spec), "stats:to=%s/s+later+ram", folder());
	CHECK_EQ(device_open_from(drivers, spec, &dev, error, sizeof(error)), 0);
	CHECK_EQ(pthread_create(&thread, NULL, later_work, NULL), 0);
	for (i = 0; i < BATCHES; i++) {
		one[i] = (struct uhmm_io){ .buf = page[i % NR], .len = PAGE };
		batch[i] = (struct uhmm_batch){ .op = UHMM_OP_STORE,
						.nr = 1,
						.io = &one[i],
						.complete = mine_completed,
						.cookie = &batch[i] };
		uhmm_device_submit(dev, &batch[i]);
	}
	while (__atomic_load_n(&completed, __ATOMIC_ACQUIRE) < BATCHES)
		usleep(1000);
	CHECK_EQ(pthread_mutex_lock(&later.lock), 0);
	later.ends = true;
	CHECK_EQ(pthread_mutex_unlock(&later.lock), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	check_told(UHMM_OP_STORE, BATCHES, BATCHES, 0);
	/* The first waited for all that were in flight with it, a millisecond each. */
	CHECK_GE(told("time, us  ", UHMM_OP_STORE), BATCHES * 1000);
	CHECK_GE(told_took(UHMM_OP_STORE, 15), 1);
	for (i = 0; i < BATCHES; i++)
		CHECK(!batch[i].cookie && one[i].result == 0);
	device_close(dev);
}

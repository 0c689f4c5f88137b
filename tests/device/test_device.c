/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a device give back what was stored? Alone, in batches, in threads, after fork, and
 * when it is full.
 *
 * How a device keeps pages is never assumed: tests look at bytes, results and statistics.
 */
#define _GNU_SOURCE
#include "tests/device/subject.h"
#include "tests/pace.h"

#include <pthread.h>
#include <sys/wait.h>

#include "lib/host.h"

static int by_number(const void *a, const void *b)
{
	const struct page *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

DEVICE_TEST(reads_back)
{
	struct uhmm_device *dev = open_spec(subject()->spec);
	struct page *pages = pages_of_all_kinds(NR_PAGES, 1), *sorted;
	struct buffers b;
	uint32_t size, i;

	buffers_init(&b);
	for (size = 1; size <= UHMM_BATCH_MAX; size++) {
		/* Another part of the pages each time; 211 is a prime, too. */
		struct page *some = pages + size * 20;

		each_batch(dev, &b, some, 211, 1, size, store_all);
		each_batch(dev, &b, some, 211, 97, UHMM_BATCH_MAX + 1 - size, load);
		/* Loading does not forget. */
		each_batch(dev, &b, some, 211, 13, size, load);
		each_batch(dev, &b, some, 211, 199, size, forget_all);
	}
	each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, store_all);
	each_batch(dev, &b, pages, NR_PAGES, 997, UHMM_BATCH_MAX, load);
	sorted = calloc(NR_PAGES, sizeof(*sorted));
	memcpy(sorted, pages, NR_PAGES * sizeof(*sorted));
	qsort(sorted, NR_PAGES, sizeof(*sorted), by_number);
	for (i = 1; i < NR_PAGES; i++)
		CHECK_NE(sorted[i].number, sorted[i - 1].number);
	device_close(dev);
	free(sorted);
	free(pages);
	buffers_fini(&b);
}

/* One word over and over, and everything that is nearly so. */
DEVICE_TEST(values)
{
	static const uint64_t word[] = { 0,
					 1,
					 UINT64_MAX,
					 UINT64_C(1) << 63,
					 0x5a5a5a5a5a5a5a5a,
					 0x00000000ffffffff,
					 UINT64_C(0x0123456789abcdef) };
	struct uhmm_device *dev = open_spec(subject()->spec);
	static uint64_t buf[PAGE / 8] __attribute__((aligned(4096)));
	static uint64_t back[PAGE / 8] __attribute__((aligned(4096)));
	unsigned w, i, differs;

	for (w = 0; w < sizeof(word) / sizeof(word[0]); w++)
		for (differs = 0; differs <= PAGE / 8; differs++) {
			struct uhmm_io io = { .buf = buf, .len = PAGE };

			for (i = 0; i < PAGE / 8; i++)
				buf[i] = word[w];
			if (differs < PAGE / 8)
				buf[differs] ^= UINT64_C(1) << differs % 64;
			CHECK_EQ(device_run(dev, UHMM_OP_STORE, &io, 1), 0);
			io.buf = back;
			memset(back, 0xcc, PAGE);
			CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io, 1), 0);
			check_page(back, buf);
			CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io, 1), 0);
		}
	CHECK_EQ(stat_of(dev).pages, 0);
	CHECK_EQ(stat_of(dev).bytes_stored, 0);
	device_close(dev);
}

/* Fewer bytes than a page, as a layer above may have; not aligned either. */
DEVICE_TEST(short_pages)
{
	struct uhmm_device *dev = open_spec(subject()->spec);
	static uint8_t buf[PAGE + 8], back[PAGE + 8];
	struct uhmm_device_stat stat;
	uint32_t len, kind;

	for (len = 1; len <= PAGE; len += len < 40 ? 1 : 131)
		for (kind = 0; kind < CONTENT_KINDS; kind++) {
			uint8_t *at = buf + len % 8;
			struct uhmm_io io = { .buf = at, .len = len };
			uint8_t page[PAGE];

			content_fill(page, kind, len);
			memcpy(at, page, len);
			CHECK_EQ(device_run(dev, UHMM_OP_STORE, &io, 1), 0);
			stat = stat_of(dev);
			CHECK_EQ(stat.pages, 1);
			CHECK_EQ(stat.bytes_in, len);
			memset(back, 0xcc, sizeof(back));
			io.buf = back + 3;
			CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io, 1), 0);
			CHECK_MEM(back + 3, at, len);
			CHECK_EQ(back[2], 0xcc);
			CHECK_EQ(back[3 + len], 0xcc);
			CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io, 1), 0);
		}
	stat = stat_of(dev);
	CHECK_EQ(stat.pages, 0);
	CHECK_EQ(stat.bytes_in, 0);
	device_close(dev);
}

static bool has_size_option(const struct uhmm_driver *driver)
{
	const struct uhmm_option *o;

	for (o = driver->options; o && o->name; o++)
		if (!strcmp(o->name, "size") && o->type == UHMM_OPTION_SIZE)
			return true;
	return false;
}

DEVICE_TEST(out_of_space)
{
	const uint64_t limit = UINT64_C(4) << 20;
	const uint32_t nr = 65537;
	struct page *pages = calloc(nr, sizeof(*pages)), *batch[8];
	struct uhmm_device_stat empty, full;
	struct uhmm_device *dev;
	struct buffers b;
	char spec[128];
	uint32_t i, j, n, round;

	if (!has_size_option(subject()->driver))
		SKIP("%s has no option size", subject()->driver->name);
	subject_spec("size=4M", spec, sizeof(spec));
	dev = open_spec(spec);
	buffers_init(&b);
	empty = stat_of(dev);
	for (round = 0; round < 3; round++) {
		/* Of all kinds, so that one page's failure is not the next one's. */
		for (n = 0, i = 0; n < nr - 8 && i < 64; n += 8) {
			for (j = 0; j < 8; j++) {
				batch[j] = &pages[n + j];
				*batch[j] = (struct page){
					.kind = n + j, .seed = content_mix(n + j + round)
				};
			}
			i += store(dev, &b, batch, 8);
		}
		CHECK_GE(i, 64);
		full = stat_of(dev);
		CHECK_EQ(full.store_failures - empty.store_failures, i);
		CHECK_GT(full.bytes_in, limit / 2);
		/* Working memory of compressors comes on top. */
		CHECK_LE(full.bytes_resident, limit + 65536);
		for (i = 0; i < n; i++) {
			batch[0] = &pages[i];
			if (pages[i].stored)
				load(dev, &b, batch, 1);
		}
		for (i = 0; i < n; i++) {
			batch[0] = &pages[i];
			if (pages[i].stored)
				forget(dev, batch, 1);
		}
		empty = stat_of(dev);
		CHECK_EQ(empty.pages, 0);
	}
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

#define THREADS 4
#define STEPS 400

struct worker {
	pthread_t thread;
	struct uhmm_device *dev;
	struct page *shared;
	uint64_t seed;
	struct page pages[NR_PAGES];
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct page *batch[UHMM_BATCH_MAX];
	uint64_t random = w->seed;
	struct buffers b;
	uint32_t step, i, n, size;

	buffers_init(&b);
	for (step = 0; step < STEPS; step++) {
		bool stored = step / 50 % 2;

		random = content_mix(random);
		size = 1 + random % 16;
		for (i = 0, n = 0; i < 200 && n < size; i++) {
			struct page *page = &w->pages[(random + i * 7u) % NR_PAGES];

			/* Not one of the batch again: the stride is no divisor. */
			if (page->stored == stored)
				batch[n++] = page;
		}
		if (n && stored) {
			load(w->dev, &b, batch, n);
			forget(w->dev, batch, n);
		} else if (n) {
			for (i = 0; i < n; i++) {
				batch[i]->kind = (unsigned)(random >> 8) + i;
				batch[i]->seed = random + i;
			}
			CHECK_EQ(store(w->dev, &b, batch, n), 0);
		}
		for (i = 0; i < 4; i++)
			batch[i] = &w->shared[(random >> 16) % (NR_PAGES - 4) + i];
		load(w->dev, &b, batch, 4);
	}
	buffers_fini(&b);
	return NULL;
}

/* SERIALIZE drivers are entered one at a time by device.c, so all must pass. */
DEVICE_TEST(threads)
{
	struct uhmm_device *dev = open_spec(subject()->spec);
	struct worker *worker = calloc(THREADS, sizeof(*worker));
	struct page *shared = pages_of_all_kinds(NR_PAGES, 7), *batch[1];
	uint64_t left = NR_PAGES;
	struct buffers b;
	uint32_t i, j;

	buffers_init(&b);
	each_batch(dev, &b, shared, NR_PAGES, 1, UHMM_BATCH_MAX, store_all);
	for (i = 0; i < THREADS; i++) {
		worker[i].dev = dev;
		worker[i].shared = shared;
		worker[i].seed = 100 + i;
		CHECK_EQ(pthread_create(&worker[i].thread, NULL, work, &worker[i]), 0);
	}
	for (i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(worker[i].thread, NULL), 0);
	for (i = 0; i < THREADS; i++)
		for (j = 0; j < NR_PAGES; j++) {
			batch[0] = &worker[i].pages[j];
			if (!batch[0]->stored)
				continue;
			load(dev, &b, batch, 1);
			left++;
		}
	each_batch(dev, &b, shared, NR_PAGES, 1, UHMM_BATCH_MAX, load);
	CHECK_EQ(stat_of(dev).pages, left);
	device_close(dev);
	free(shared);
	free(worker);
	buffers_fini(&b);
}

/* A third freed, a third replaced, by parent and child each in its own way. */
static void diverge(struct uhmm_device *dev, struct buffers *b, struct page *pages,
		    unsigned who)
{
	struct page *batch[1];
	uint32_t i;

	each_batch(dev, b, pages, NR_PAGES, 13, 7, load);
	for (i = 0; i < NR_PAGES; i++) {
		batch[0] = &pages[i];
		if (i % 3 == 0)
			continue;
		forget(dev, batch, 1);
		if (i % 3 == who)
			continue;
		pages[i].seed = content_mix(i + who * 1000003u);
		pages[i].kind += who;
		CHECK_EQ(store(dev, b, batch, 1), 0);
	}
	for (i = 0; i < NR_PAGES; i++) {
		batch[0] = &pages[i];
		if (pages[i].stored)
			load(dev, b, batch, 1);
	}
}

DEVICE_TEST(forked)
{
	struct uhmm_device *dev = open_spec(subject()->spec);
	struct page *pages = pages_of_all_kinds(NR_PAGES, 3);
	struct buffers b;
	int status, go[2];
	pid_t pid;
	char c;

	buffers_init(&b);
	each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, store_all);
	CHECK_EQ(pipe(go), 0);
	device_before_fork(dev);
	host_fork_prepare();
	pid = fork();
	host_fork_done();
	CHECK_GE(pid, 0);
	if (pid == 0) {
		CHECK_EQ(device_after_fork(dev), 0);
		/* The parent has changed its pages by now. */
		CHECK_EQ(read(go[0], &c, 1), 1);
		diverge(dev, &b, pages, 1);
		device_close(dev);
		_exit(0);
	}
	diverge(dev, &b, pages, 2);
	CHECK_EQ(write(go[1], "g", 1), 1);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	each_batch(dev, &b, pages, 1, 1, 1, load);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

struct peeker {
	pthread_t thread;
	struct uhmm_device *dev;
	struct page *pages;
	uint32_t stop; /* atomic */
};

/* One page after the other, as faults are served while a process forks. */
static void *peek(void *arg)
{
	struct peeker *p = arg;
	struct buffers b;
	uint32_t i;

	buffers_init(&b);
	for (i = 0; !__atomic_load_n(&p->stop, __ATOMIC_RELAXED);
	     i = (i + 1) % NR_PAGES) {
		struct uhmm_io io = { .page = p->pages[i].number,
				      .buf = b.data[0],
				      .len = PAGE };

		CHECK_EQ(device_peek(p->dev, &io), 0);
		content_fill(b.expected, p->pages[i].kind, p->pages[i].seed);
		check_page(b.data[0], b.expected);
	}
	buffers_fini(&b);
	return NULL;
}

/* What the child finds of a load that was cut in two does not hinder it. */
DEVICE_TEST(forked_in_the_middle_of_a_load)
{
	struct uhmm_device *dev = open_spec(subject()->spec);
	struct page *pages = pages_of_all_kinds(NR_PAGES, 13);
	struct peeker p = { .dev = dev, .pages = pages };
	/* On a slow machine it takes longest of all, of each device: less often there. */
	const int forks = 20 / (int)test_pace();
	struct buffers b;
	int status, i;
	pid_t pid;

	buffers_init(&b);
	each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, store_all);
	CHECK_EQ(pthread_create(&p.thread, NULL, peek, &p), 0);
	for (i = 0; i < forks; i++) {
		usleep(500);
		device_before_fork(dev);
		host_fork_prepare();
		pid = fork();
		host_fork_done();
		CHECK_GE(pid, 0);
		if (pid == 0) {
			CHECK_EQ(device_after_fork(dev), 0);
			each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, load);
			each_batch(dev, &b, pages, NR_PAGES, 1, 7, forget_all);
			device_close(dev);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
	__atomic_store_n(&p.stop, 1, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(p.thread, NULL), 0);
	each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, load);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

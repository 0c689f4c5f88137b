/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats: a layer that counts what comes to the device below, and how long that takes.
 * What it has counted is a table in a file of the process (devices/record.h), which is
 * right after each batch: the process may end in any way.
 *
 * Threads count with atomics. One of them at a time writes, and whoever comes meanwhile
 * leaves it to that one: nobody waits. So a column is always what the counters were at
 * some moment, and the last to change one is followed by somebody who writes it.
 */
#include <errno.h>
#include <string.h>

#include "devices/record.h"
#include "devices/text.h"
#include "devices/watch.h"
#include "lib/os/sys.h"
#include "uhmm/device.h"

#define OPS 3u

/* Batches that took less than 1, 2, 4 ... 2^23 us (8 s), and longer ones. */
#define BUCKETS 25u

/*
 * How often one thread writes what others have counted while it wrote. It has a batch to
 * complete; the next one that comes does the rest.
 */
#define ROUNDS_MAX 64u

/* Relaxed atomics. */
struct op_stats {
	uint64_t batches, pages, failed, bytes, ns;
	uint64_t took[BUCKETS];
} __attribute__((aligned(64)));

/* The table. */
enum { NAMES, BATCHES, PAGES, FAILED, BYTES, TIME, TOOK, FIRST_BUCKET };
#define ROWS (FIRST_BUCKET + BUCKETS)
#define LABEL 22u
#define CELL 16u

struct row {
	char label[LABEL];
	char cell[OPS][CELL]; /* begins with a blank */
	char newline;
};

struct stats {
	struct watch watch;
	struct record record;
	struct op_stats op[OPS];
	uint32_t changed; /* atomic; a bit for each op whose column is old */
	struct uhmm_lock lock;
	/* With the lock: the table, and the numbers that it shows. */
	struct row row[ROWS];
	uint64_t shown[ROWS][OPS];
};

static const struct uhmm_option stats_options[] = {
	{ .name = "to",
	  .type = UHMM_OPTION_PATH,
	  .help = "the table is in this file, with .PID behind its name" },
	{ .name = NULL },
};

/* ---- the table -------------------------------------------------------------------- */

static void label(struct row *row, const char *text)
{
	memset(row, ' ', sizeof(*row));
	text_word(row->label, LABEL, text);
	row->newline = '\n';
}

static void label_buckets(struct stats *s)
{
	uint32_t i;

	for (i = 0; i < BUCKETS - 1; i++) {
		struct row *row = &s->row[FIRST_BUCKET + i];

		label(row, "  less than");
		text_number(row->label + 11, 8, UINT64_C(1) << i, ' ');
		memcpy(row->label + 19, " us", 3);
	}
	label(&s->row[FIRST_BUCKET + i], "  longer");
}

static void label_rows(struct stats *s)
{
	static const char *const labels[] = {
		[NAMES] = "process",
		[BATCHES] = "batches",
		[PAGES] = "pages",
		[FAILED] = "pages that failed",
		[BYTES] = "bytes",
		[TIME] = "time, us",
		[TOOK] = "batches that took",
	};
	static const char *const ops[] = { "store", "load", "free" };
	uint32_t i;

	for (i = 0; i < FIRST_BUCKET; i++)
		label(&s->row[i], labels[i]);
	text_number(s->row[NAMES].label + 8, 7, (uint64_t)sys0(SYS_getpid), ' ');
	for (i = 0; i < OPS; i++)
		memcpy(s->row[NAMES].cell[i] + CELL - strlen(ops[i]), ops[i],
		       strlen(ops[i]));
	label_buckets(s);
}

static uint64_t get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void set(struct stats *s, uint32_t row, uint32_t op, uint64_t n)
{
	if (s->shown[row][op] == n)
		return;
	s->shown[row][op] = n;
	text_number(s->row[row].cell[op] + 1, CELL - 1, n, ' ');
}

static void set_column(struct stats *s, uint32_t op)
{
	const struct op_stats *of = &s->op[op];
	uint32_t i;

	set(s, BATCHES, op, get(&of->batches));
	set(s, PAGES, op, get(&of->pages));
	set(s, FAILED, op, get(&of->failed));
	set(s, BYTES, op, get(&of->bytes));
	set(s, TIME, op, get(&of->ns) / 1000);
	for (i = 0; i < BUCKETS; i++)
		set(s, FIRST_BUCKET + i, op, get(&of->took[i]));
}

static void write_columns(struct stats *s, uint32_t changed)
{
	uint32_t i;

	for (i = 0; i < OPS; i++)
		if (changed >> i & 1)
			set_column(s, i);
	record_write(&s->record, 0, s->row, sizeof(s->row), 1);
}

/* Nobody else is here. */
static void begin_table(struct stats *s)
{
	label_rows(s);
	memset(s->shown, 0xff, sizeof(s->shown));
	write_columns(s, (1u << OPS) - 1);
}

/*
 * Either the lock is had, or who has it sees the change when it has given it back: each
 * first writes its own word, then reads the other's.
 */
static void tell(struct stats *s, uint32_t op)
{
	uint32_t round;

	__atomic_fetch_or(&s->changed, 1u << op, __ATOMIC_SEQ_CST);
	for (round = 0; round < ROUNDS_MAX; round++) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&s->changed, __ATOMIC_SEQ_CST) ||
		    !uhmm_trylock(&s->lock))
			return;
		write_columns(s, __atomic_exchange_n(&s->changed, 0, __ATOMIC_SEQ_CST));
		uhmm_unlock(&s->lock);
	}
}

/* ---- batches ---------------------------------------------------------------------- */

static void add(uint64_t *counter, uint64_t n)
{
	if (n)
		__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static uint32_t bucket(uint64_t ns)
{
	uint64_t us = ns / 1000;
	uint32_t bits = us ? 64 - (uint32_t)__builtin_clzll(us) : 0;

	return bits < BUCKETS - 1 ? bits : BUCKETS - 1;
}

static void seen(struct watch *watch, const struct uhmm_batch *batch,
		 const struct watch_times *times)
{
	struct stats *s = (struct stats *)watch;
	struct op_stats *of = &s->op[batch->op];
	uint64_t ns = times->end_ns - times->start_ns, failed = 0, bytes = 0;
	uint32_t i;

	for (i = 0; i < batch->nr; i++)
		if (batch->io[i].result)
			failed++;
		else if (batch->op != UHMM_OP_FREE)
			bytes += batch->io[i].len;
	add(&of->batches, 1);
	add(&of->pages, batch->nr);
	add(&of->failed, failed);
	add(&of->bytes, bytes);
	add(&of->ns, ns);
	add(&of->took[bucket(ns)], 1);
	tell(s, batch->op);
}

static int stats_submit(void *dev, struct uhmm_batch *batch)
{
	return watch_submit(dev, batch);
}

/* ---- open and closed -------------------------------------------------------------- */

static int stats_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct stats *s = uhmm_host_map(sizeof(*s));
	int r;

	if (!s) {
		*error = "not enough memory";
		return -ENOMEM;
	}
	s->watch.next = args->next;
	s->watch.seen = seen;
	r = record_open(&s->record, args->values[0].string, sizeof(s->row), error);
	if (r) {
		uhmm_host_unmap(s, sizeof(*s));
		return r;
	}
	begin_table(s);
	*dev = s;
	return 0;
}

static bool has_counted(const struct stats *s)
{
	uint64_t batches = 0;
	uint32_t i;

	for (i = 0; i < OPS; i++)
		batches += s->op[i].batches;
	return batches;
}

static void stats_close(void *dev)
{
	struct stats *s = dev;

	write_columns(s, s->changed);
	record_close(&s->record, has_counted(s));
	uhmm_host_unmap(s, sizeof(*s));
}

/* It begins to count anew. */
static int stats_after_fork(void *dev)
{
	struct stats *s = dev;

	memset(s->op, 0, sizeof(s->op));
	s->changed = 0;
	s->lock.word = 0;
	record_after_fork(&s->record);
	begin_table(s);
	return 0;
}

static void stats_stat(void *dev, struct uhmm_device_stat *stat)
{
	uint64_t pages = (sizeof(struct stats) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE;

	(void)dev;
	stat->bytes_resident = pages * UHMM_PAGE_SIZE;
	stat->bytes_metadata = stat->bytes_resident;
}

const struct uhmm_driver uhmm_driver_stats = {
	.size = sizeof(struct uhmm_driver),
	.name = "stats",
	.summary = "counts and times what comes to a device",
	.options = stats_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = UHMM_BATCH_MAX,
	.open = stats_open,
	.close = stats_close,
	.submit = stats_submit,
	.after_fork = stats_after_fork,
	.stat = stats_stat,
};

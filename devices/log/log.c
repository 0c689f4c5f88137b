/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: a layer that writes a line for each page that comes to the device below, into a
 * file of the process (devices/record.h). The file has its size from the beginning: when
 * it is full the oldest lines are overwritten.
 *
 * All lines are of one length, and no line is shared: threads get their places from a
 * counter, and wait for nobody. Each line begins with the time, so that sort(1) brings
 * them into their order, also those of several processes.
 */
#include <errno.h>
#include <string.h>

#include "devices/record.h"
#include "devices/text.h"
#include "devices/watch.h"
#include "uhmm/device.h"

/* In the order of the options. */
enum { TO, LINES };

/*
 * 00012345.123456    4711 store        1f03 4096 ENOSPC       3.2
 * Seconds of the clock, the thread, the page's number, bytes, the result, microseconds.
 */
enum { TIME = 0, TID = 16, OP = 24, PAGE = 30, LEN = 42, RESULT = 47, TOOK = 54 };
#define LINE 64u

/* Of each batch: so that none overwrites itself. */
#define LINES_MIN UHMM_BATCH_MAX
/* 1 GiB. */
#define LINES_MAX ((UINT64_C(1) << 24) - 1)

/* Written at once: so much is on the stack. */
#define CHUNK 16u

struct log {
	struct watch watch;
	struct record record;
	uint64_t lines;        /* that the file has room for, behind the head */
	uint64_t came;         /* atomic: lines so far */
	uint32_t begun;        /* atomic */
	struct uhmm_lock lock; /* of who begins it */
	char blank[UHMM_PAGE_SIZE];
};

static const struct uhmm_option log_options[] = {
	[TO] = { .name = "to",
		 .type = UHMM_OPTION_PATH,
		 .help = "the lines are in this file, with .PID behind its name" },
	[LINES] = { .name = "lines",
		    .type = UHMM_OPTION_UINT,
		    .fallback = "8191",
		    .min = LINES_MIN,
		    .max = LINES_MAX,
		    .help = "how many of them are kept, 64 bytes each" },
	{ .name = NULL },
};

/* ---- lines ------------------------------------------------------------------------ */

static void begin_line(char *line)
{
	memset(line, ' ', LINE - 1);
	line[LINE - 1] = '\n';
}

static void put_result(char *at, int32_t result)
{
	switch (-result) {
	case 0:
		text_word(at, 6, "ok");
		break;
	case ENOSPC:
		text_word(at, 6, "ENOSPC");
		break;
	case ENOMEM:
		text_word(at, 6, "ENOMEM");
		break;
	case EIO:
		text_word(at, 6, "EIO");
		break;
	default:
		text_number(at, 6, (uint64_t) - (int64_t)result, ' ');
	}
}

/* n in units of which 10^digits are one. */
static void put_fraction(char *at, uint32_t width, uint64_t n, uint32_t digits, char fill)
{
	uint64_t one = 1;
	uint32_t i;

	for (i = 0; i < digits; i++)
		one *= 10;
	text_number(at, width - digits - 1, n / one, fill);
	at[width - digits - 1] = '.';
	text_number(at + width - digits, digits, n % one, '0');
}

static void put_line(char *line, enum uhmm_op op, const struct uhmm_io *io,
		     const struct watch_times *times)
{
	static const char *const ops[] = {
		[UHMM_OP_STORE] = "store",
		[UHMM_OP_LOAD] = "load",
		[UHMM_OP_FREE] = "free",
	};

	begin_line(line);
	put_fraction(line + TIME, 15, times->start_ns / 1000, 6, '0');
	text_number(line + TID, 7, times->tid, ' ');
	text_word(line + OP, 5, ops[op]);
	/* A page that was not stored has no number. */
	if (op == UHMM_OP_STORE && io->result)
		line[PAGE + 10] = '-';
	else
		text_hex(line + PAGE, 11, io->page);
	if (op != UHMM_OP_FREE)
		text_number(line + LEN, 4, io->len, ' ');
	put_result(line + RESULT, io->result);
	put_fraction(line + TOOK, 9, (times->end_ns - times->start_ns) / 100, 1, ' ');
}

static void put_head(char *line)
{
	begin_line(line);
	text_word(line + TIME, 15, "# seconds");
	text_word(line + TID, 7, " thread");
	text_word(line + OP, 5, "op");
	text_word(line + PAGE, 11, "       page");
	text_word(line + LEN, 4, " len");
	text_word(line + RESULT, 6, "result");
	text_word(line + TOOK, 9, "       us");
}

/* ---- the file --------------------------------------------------------------------- */

/* A line has its place behind the head. */
static void put_lines(struct log *l, uint64_t nr, const void *text, size_t len,
		      uint32_t times)
{
	record_write(&l->record, (nr % l->lines + 1) * LINE, text, len, times);
}

/* Blank lines: a file of zeros is none of text. */
static void fill(struct log *l)
{
	char head[LINE];
	uint64_t at = 0, times;

	put_head(head);
	record_write(&l->record, 0, head, LINE, 1);
	for (; l->lines - at >= sizeof(l->blank) / LINE;
	     at += times * sizeof(l->blank) / LINE) {
		times = (l->lines - at) * LINE / sizeof(l->blank);
		if (times > RECORD_TIMES_MAX)
			times = RECORD_TIMES_MAX;
		put_lines(l, at, l->blank, sizeof(l->blank), (uint32_t)times);
	}
	if (at < l->lines)
		put_lines(l, at, l->blank, (l->lines - at) * LINE, 1);
}

/* By the first that submits: a forked child often only runs another program. */
static void begin(struct log *l)
{
	if (__atomic_load_n(&l->begun, __ATOMIC_ACQUIRE))
		return;
	uhmm_lock(&l->lock);
	if (!l->begun)
		fill(l);
	__atomic_store_n(&l->begun, 1, __ATOMIC_RELEASE);
	uhmm_unlock(&l->lock);
}

static void seen(struct watch *watch, const struct uhmm_batch *batch,
		 const struct watch_times *times)
{
	struct log *l = (struct log *)watch;
	uint64_t first = __atomic_fetch_add(&l->came, batch->nr, __ATOMIC_RELAXED), left;
	char text[CHUNK * LINE];
	uint32_t at, nr, i;

	for (at = 0; at < batch->nr; at += nr) {
		nr = batch->nr - at < CHUNK ? batch->nr - at : CHUNK;
		left = l->lines - (first + at) % l->lines;
		if (nr > left)
			nr = (uint32_t)left;
		for (i = 0; i < nr; i++)
			put_line(text + i * LINE, batch->op, &batch->io[at + i], times);
		put_lines(l, first + at, text, nr * LINE, 1);
	}
}

static int log_submit(void *dev, struct uhmm_batch *batch)
{
	if (!(batch->flags & UHMM_BATCH_FROZEN))
		begin(dev);
	return watch_submit(dev, batch);
}

/* ---- open and closed -------------------------------------------------------------- */

static int log_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct log *l = uhmm_host_map(sizeof(*l));
	uint32_t i;
	int r;

	if (!l) {
		*error = "not enough memory";
		return -ENOMEM;
	}
	l->watch.next = args->next;
	l->watch.seen = seen;
	l->watch.wants_tid = true;
	l->lines = args->values[LINES].number;
	for (i = 0; i < sizeof(l->blank); i += LINE)
		begin_line(l->blank + i);
	r = record_open(&l->record, args->values[TO].string, (l->lines + 1) * LINE,
			error);
	if (r) {
		uhmm_host_unmap(l, sizeof(*l));
		return r;
	}
	*dev = l;
	return 0;
}

static void log_close(void *dev)
{
	struct log *l = dev;

	record_close(&l->record, l->came);
	uhmm_host_unmap(l, sizeof(*l));
}

static int log_after_fork(void *dev)
{
	struct log *l = dev;

	l->came = 0;
	l->begun = 0;
	l->lock.word = 0;
	record_after_fork(&l->record);
	return 0;
}

static void log_stat(void *dev, struct uhmm_device_stat *stat)
{
	uint64_t pages = (sizeof(struct log) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE;

	(void)dev;
	stat->bytes_resident = pages * UHMM_PAGE_SIZE;
	stat->bytes_metadata = stat->bytes_resident;
}

const struct uhmm_driver uhmm_driver_log = {
	.size = sizeof(struct uhmm_driver),
	.name = "log",
	.summary = "writes a line for each page that comes to a device",
	.options = log_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = UHMM_BATCH_MAX,
	.open = log_open,
	.close = log_close,
	.submit = log_submit,
	.after_fork = log_after_fork,
	.stat = log_stat,
};

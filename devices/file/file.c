/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file: pages in a file without a name, or on a block device, written one behind the
 * other in segments of 2 MiB. segment.h says of what it is made.
 *
 * What was stored is in a buffer until the kernel has taken it. What is read is compared
 * with a checksum of it and of the page's number: what somebody else has written there,
 * cut off or lost is -EIO, not data.
 *
 * Forked processes have the same file. What they have stored before is read by all of
 * them, and none writes where another one may.
 */
#include <errno.h>
#include <string.h>

#include "devices/file/segment.h"

/* In the order of the options. */
enum { PATH, SIZE, DIRECT, QUEUE };

static const struct uhmm_option file_options[] = {
	[PATH] = { .name = "path",
		   .type = UHMM_OPTION_PATH,
		   .help = "a directory, a name in one, an empty file, a block device" },
	[SIZE] = { .name = "size",
		   .type = UHMM_OPTION_SIZE,
		   .min = 2 * (uint64_t)SEGMENT_SIZE,
		   .help = "how long the file may become (default: no limit)" },
	[DIRECT] = { .name = "direct",
		     .type = UHMM_OPTION_STRING,
		     .fallback = "auto",
		     .help = "past the kernel's cache: on, off, or auto: where it can" },
	[QUEUE] = { .name = "queue",
		    .type = UHMM_OPTION_UINT,
		    .fallback = "16",
		    .min = 1,
		    .max = 64,
		    .help = "pages that are read at the same time (default: 16)" },
	{ .name = NULL },
};

/* ---- open, close ----------------------------------------------------------------- */

static int parse_direct(const char *text, enum uhmm_file_direct *direct,
			const char **error)
{
	static const char *const words[] = { [UHMM_FILE_BUFFERED] = "off",
					     [UHMM_FILE_DIRECT] = "on",
					     [UHMM_FILE_EITHER] = "auto" };
	unsigned i;

	for (i = 0; i < 3; i++)
		if (!strcmp(text, words[i])) {
			*direct = (enum uhmm_file_direct)i;
			return 0;
		}
	*error = "direct is on, off or auto";
	return -EINVAL;
}

/* Segments that there may be. */
static uint32_t count_segments(struct file *f, uint64_t size)
{
	uint64_t end, bytes;

	uhmm_host_file_bounds(f->file, &f->start, &end);
	bytes = end > f->start ? end - f->start : 0;
	if (size && size < bytes)
		bytes = size;
	bytes /= SEGMENT_SIZE;
	return bytes < SEGMENTS_MAX ? (uint32_t)bytes : SEGMENTS_MAX;
}

static void chunk_free(struct segment *chunk)
{
	uint32_t i, n;

	for (i = 0; i < CHUNK_SEGMENTS; i++)
		for (n = 0; n < LIST_PAGES; n++)
			if (chunk[i].list[n])
				uhmm_host_pages_put((void *const *)&chunk[i].list[n], 1);
	uhmm_host_unmap(chunk, CHUNK_SEGMENTS * sizeof(*chunk));
}

static void file_close(void *dev)
{
	struct file *f = dev;
	uint32_t i;

	share_close(&f->share);
	for (i = 0; f->chunk && i < CHUNKS; i++)
		if (f->chunk[i])
			chunk_free(f->chunk[i]);
	if (f->chunk)
		uhmm_host_unmap(f->chunk, CHUNKS * sizeof(*f->chunk));
	for (i = 0; i <= LOGS; i++)
		if (f->log[i].buf)
			uhmm_host_unmap(f->log[i].buf, BUFFER_SIZE);
	if (f->stage)
		uhmm_host_unmap(f->stage, WORK_SIZE);
	table_close(&f->table);
	work_close(&f->work);
	if (f->file)
		uhmm_host_file_close(f->file);
	uhmm_host_unmap(f, sizeof(*f));
}

static void logs_forget(struct file *f)
{
	uint32_t i;

	for (i = 0; i <= LOGS; i++)
		f->log[i].segment = SHARE_NONE;
}

static int set_up(struct file *f, uint64_t size, const char **error)
{
	uint32_t nr = count_segments(f, size);

	*error = "there is no room for two segments of 2 MiB (see also: ulimit -f)";
	if (nr < 2)
		return -ENOSPC;
	/* Of few segments none is kept back. */
	f->spare = nr >= 16;
	f->nr_logs = nr / 8 < 1 ? 1 : nr / 8 > LOGS ? LOGS : nr / 8;
	f->share.freed = segment_freed;
	f->share.ctx = f;
	*error = "not enough memory";
	f->chunk = uhmm_host_map(CHUNKS * sizeof(*f->chunk));
	f->stage = uhmm_host_map(WORK_SIZE);
	if (!f->chunk || !f->stage || !share_open(&f->share, nr) ||
	    !table_open(&f->table, sizeof(struct record)) ||
	    !work_open(&f->work, WORK_SIZE))
		return -ENOMEM;
	return 0;
}

static int file_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	const struct uhmm_option_value *v = args->values;
	enum uhmm_file_direct direct;
	struct file *f;
	int r = parse_direct(v[DIRECT].string, &direct, error);

	if (r)
		return r;
	*error = "not enough memory";
	f = uhmm_host_map(sizeof(*f));
	if (!f)
		return -ENOMEM;
	logs_forget(f);
	f->depth = (uint32_t)v[QUEUE].number;
	r = uhmm_host_file_open(v[PATH].string, direct, &f->file, error);
	if (!r)
		r = set_up(f, v[SIZE].number, error);
	if (r)
		file_close(f);
	else
		*dev = f;
	return r;
}

/* ---- storing --------------------------------------------------------------------- */

/*
 * The lock of one that nobody else writes, the first one if possible: each has a buffer.
 * NULL: all are only read.
 */
static struct log *log_take(struct file *f)
{
	struct log *log = NULL;
	uint32_t i;

	for (i = f->nr_logs; i-- > 0;)
		if (!f->log[i].kept)
			log = &f->log[i];
	for (i = 0; i < f->nr_logs; i++)
		if (!f->log[i].kept && uhmm_trylock(&f->log[i].lock))
			return &f->log[i];
	if (log)
		uhmm_lock(&log->lock);
	return log;
}

static int write_part(struct file *f, const struct object *object, uint32_t nr)
{
	struct log *log = log_take(f);
	int r = -ENOSPC;

	if (log) {
		r = append(f, log, object, nr, f->spare);
		uhmm_unlock(&log->lock);
	}
	return r;
}

static void store_part(struct file *f, struct uhmm_io *io, uint32_t nr)
{
	struct counts *c = count_here(&f->count);
	struct object object[PART];
	uint32_t i, n = 0, tries = 0;
	int64_t bytes = 0;
	int r = -ENOMEM;

	for (i = 0; i < nr; i++, n++) {
		io[i].page = table_take(&f->table);
		if (io[i].page == UINT64_MAX)
			break;
		object[i] = (struct object){
			.buf = io[i].buf,
			.page = io[i].page,
			.len = io[i].len,
			.check = check_of(io[i].buf, io[i].len, io[i].page),
		};
		bytes += io[i].len;
	}
	/* As long as that makes room. */
	while (n && (r = write_part(f, object, n)) == -ENOSPC && tries++ < 4 &&
	       collect_one(f))
		;
	for (i = 0; i < nr; i++) {
		io[i].result = i < n ? r : -ENOMEM;
		if (i < n && r)
			table_give(&f->table, io[i].page);
	}
	count_stored(c, nr, r ? 0 : n, r ? 0 : bytes);
}

/* ---- loading, forgetting --------------------------------------------------------- */

/* Nobody else is there where it is frozen: the first set is free. */
static void load_some(struct file *f, struct uhmm_io *io, uint32_t nr, bool frozen)
{
	uint32_t set = frozen ? 0 : work_take(&f->work), i, loaded = 0;

	load_part(f, io, nr, work_at(&f->work, set), frozen);
	if (frozen)
		return;
	work_give(&f->work, set);
	for (i = 0; i < nr; i++)
		loaded += !io[i].result;
	count_loaded(count_here(&f->count), nr, loaded);
}

static void free_part(struct file *f, struct uhmm_io *io, uint32_t nr)
{
	int64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		uint64_t place = __atomic_exchange_n(&record_at(f, io[i].page)->place, 0,
						     __ATOMIC_ACQ_REL);
		uint32_t segment = place_segment(place), len = place_len(place);

		__atomic_fetch_sub(&segment_at(f, segment)->live, len, __ATOMIC_RELAXED);
		__atomic_fetch_sub(&f->live, len, __ATOMIC_RELAXED);
		segment_unuse(f, segment, 1);
		table_give(&f->table, io[i].page);
		bytes += len;
		io[i].result = 0;
	}
	count_freed(count_here(&f->count), nr, bytes);
}

/* ---- batches --------------------------------------------------------------------- */

static int file_submit(void *dev, struct uhmm_batch *batch)
{
	struct file *f = dev;
	uint32_t at, nr;

	if (batch->op == UHMM_OP_STORE)
		collect_some(f);
	for (at = 0; at < batch->nr; at += nr) {
		struct uhmm_io *io = batch->io + at;

		nr = batch->nr - at < PART ? batch->nr - at : PART;
		if (batch->op == UHMM_OP_STORE)
			store_part(f, io, nr);
		else if (batch->op == UHMM_OP_LOAD)
			load_some(f, io, nr, batch->flags & UHMM_BATCH_FROZEN);
		else
			free_part(f, io, nr);
	}
	batch->complete(batch);
	return 0;
}

/* ---- fork ------------------------------------------------------------------------ */

/* A child reads from the file what is in a buffer now: it has no part in writing it. */
static void file_before_fork(void *dev)
{
	struct file *f = dev;
	uint32_t i;

	for (i = 0; i <= LOGS; i++)
		append_fork(f, &f->log[i]);
	share_claim(&f->share);
}

static void file_fork_failed(void *dev)
{
	share_disclaim(&((struct file *)dev)->share);
}

/* Where the parent goes on writing the child does not. */
static int file_after_fork(void *dev)
{
	struct file *f = dev;
	uint32_t i;

	if (!share_adopt(&f->share))
		return -EMFILE;
	for (i = 0; i <= LOGS; i++) {
		struct log *log = &f->log[i];

		/* A frozen load may have been looking into it. */
		log->reading = (struct uhmm_lock){ 0 };
		log->kept |= log->stuck;
		if (!log->kept)
			append_end(f, log);
	}
	return 0;
}

/* ---- statistics ------------------------------------------------------------------ */

static uint64_t get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void file_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct file *f = dev;
	uint64_t top = __atomic_load_n(&f->top, __ATOMIC_RELAXED);
	uint64_t own = (sizeof(*f) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE *
		       UHMM_PAGE_SIZE;

	count_stat(&f->count, stat);
	stat->pages_raw = stat->pages;
	stat->bytes_stored = get(&f->live);
	stat->bytes_resident =
		own + table_bytes(&f->table) + work_bytes(&f->work) +
		get(&f->lists) * UHMM_PAGE_SIZE +
		__atomic_load_n(&f->buffers, __ATOMIC_RELAXED) * (uint64_t)BUFFER_SIZE +
		(top * sizeof(struct segment) / UHMM_PAGE_SIZE + 2) * UHMM_PAGE_SIZE;
	stat->bytes_metadata = stat->bytes_resident;
}

const struct uhmm_driver uhmm_driver_file = {
	.size = sizeof(struct uhmm_driver),
	.name = "file",
	.summary = "a file or block device",
	.options = file_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = PART,
	.open = file_open,
	.close = file_close,
	.submit = file_submit,
	.stat = file_stat,
	.after_fork = file_after_fork,
	.before_fork = file_before_fork,
	.fork_failed = file_fork_failed,
};

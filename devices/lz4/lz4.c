/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lz4: pages compressed with LZ4 in memory of this process.
 *
 * A page of zeros takes no bytes; one that consists of another repeated 64-bit word is
 * kept as that word; a page that LZ4 cannot make smaller by a sixteenth is kept as it is;
 * all others are kept compressed. Objects lie in the packed store (see <uhmm/device.h>).
 *
 * A checksum of the page, taken before it was compressed, is kept with each object. What
 * a load returns has been compared with it, so an error of memory, of LZ4 or of the store
 * is -EIO and never data. Zeros are the one value (as the store calls it) that is put:
 * seven bits of check are not enough for any other.
 *
 * Any thread. Compressing needs 24 KiB of working memory; there are as many sets of it as
 * threads were ever seen to compress at once, 64 at most. Nothing is allocated after
 * open() but by the store.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <lz4.h>

#include "uhmm/device.h"

/* Sets of working memory, and of counters, at most. */
#define SHARDS 64u

/* A batch's pages cannot be faulted while it is stored: 8 pages take some 30 us. */
#define BATCH 8u

/*
 * What compressing must spare, to be worth decompressing: a sixteenth, and not nothing,
 * because an object as long as its page is one that was kept as it is.
 */
#define SPARE(len_) ((len_) / 16 + 1)

/* The store's 64 bits of check: 51 of the hash, and the length of the page. */
#define CHECK_LEN UINT64_C(0x1fff)

/*
 * An object of so many bytes, where the page is whole, is a word. LZ4 makes none of a
 * whole page: a byte says how long 255 others are.
 */
#define WORD_LEN ((uint32_t)sizeof(uint64_t))

struct work {
	union LZ4_stream_u state;
	char out[UHMM_PAGE_SIZE];
} __attribute__((aligned(UHMM_PAGE_SIZE)));

/* Relaxed atomics: differences, since a page is often freed on another CPU. */
struct counters {
	int64_t pages, same, raw, bytes_in;
	int64_t stores, loads, frees, store_failures, load_failures;
} __attribute__((aligned(128)));

struct lz4 {
	struct uhmm_store *store;
	int acceleration;
	struct work *work; /* SHARDS, memory as it is used */
	uint32_t nr_works; /* atomic: sets in use */
	struct {
		struct uhmm_lock lock;
	} __attribute__((aligned(64))) work_lock[SHARDS];
	struct counters counters[SHARDS];
};

static struct counters *counters(struct lz4 *lz4)
{
	return &lz4->counters[uhmm_host_cpu() % SHARDS];
}

static void add(int64_t *counter, int64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* ---- open, close --------------------------------------------------------------- */

static const struct uhmm_option lz4_options[] = {
	{ .name = "size",
	  .type = UHMM_OPTION_SIZE,
	  .min = 1u << 20,
	  .help = "memory it may take for all pages (default: no limit)" },
	{ .name = "acceleration",
	  .type = UHMM_OPTION_UINT,
	  .fallback = "1",
	  .min = 1,
	  .max = 65537,
	  .help = "higher is faster and compresses less" },
	{ .name = NULL },
};

static void lz4_close(void *dev)
{
	struct lz4 *lz4 = dev;

	uhmm_store_destroy(lz4->store);
	if (lz4->work)
		uhmm_host_unmap(lz4->work, SHARDS * sizeof(struct work));
	uhmm_host_unmap(lz4, sizeof(*lz4));
}

static int lz4_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct lz4 *lz4 = uhmm_host_map(sizeof(*lz4));
	int r = -ENOMEM;

	if (lz4) {
		lz4->acceleration = (int)args->values[1].number;
		lz4->work = uhmm_host_map(SHARDS * sizeof(struct work));
		if (lz4->work)
			r = uhmm_store_create(args->values[0].number, &lz4->store);
	}
	if (r) {
		*error = "not enough memory";
		if (lz4)
			lz4_close(lz4);
		return r;
	}
	*dev = lz4;
	return 0;
}

/* ---- pages --------------------------------------------------------------------- */

/* Is buf one 64-bit word over and over? Most pages are not, and show it at once. */
static bool same_filled(const uint64_t *buf)
{
	const size_t nr = UHMM_PAGE_SIZE / sizeof(*buf);
	uint64_t word = buf[0], differs;
	size_t i;

	if (buf[nr - 1] != word || buf[nr / 2] != word)
		return false;
	for (i = 0; i < nr; i += 8) {
		differs = (buf[i] ^ word) | (buf[i + 1] ^ word) | (buf[i + 2] ^ word) |
			  (buf[i + 3] ^ word) | (buf[i + 4] ^ word) |
			  (buf[i + 5] ^ word) | (buf[i + 6] ^ word) | (buf[i + 7] ^ word);
		if (differs)
			return false;
	}
	return true;
}

static void fill(uint64_t *buf, uint64_t word)
{
	size_t i;

	if (word == 0)
		memset(buf, 0, UHMM_PAGE_SIZE);
	else
		for (i = 0; i < UHMM_PAGE_SIZE / sizeof(*buf); i++)
			buf[i] = word;
}

static uint64_t check_of(const void *buf, uint32_t len)
{
	return (uhmm_checksum(buf, len) & ~CHECK_LEN) | len;
}

/* The number of a set of working memory that is ours until work_give(). */
static uint32_t work_take(struct lz4 *lz4)
{
	uint32_t cpu = uhmm_host_cpu(), nr, i;

	for (;;) {
		nr = __atomic_load_n(&lz4->nr_works, __ATOMIC_RELAXED);
		for (i = 0; i < nr; i++)
			if (uhmm_trylock(&lz4->work_lock[(cpu + i) % nr].lock))
				return (cpu + i) % nr;
		if (nr == SHARDS)
			break;
		__atomic_compare_exchange_n(&lz4->nr_works, &nr, nr + 1, 0,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	uhmm_lock(&lz4->work_lock[cpu % SHARDS].lock);
	return cpu % SHARDS;
}

static void work_give(struct lz4 *lz4, uint32_t i)
{
	uhmm_unlock(&lz4->work_lock[i].lock);
}

static int store_word(struct lz4 *lz4, struct counters *c, struct uhmm_io *io)
{
	uint64_t word = *(uint64_t *)io->buf;
	int r;

	if (word == 0)
		r = uhmm_store_put_value(lz4->store, 0, &io->page);
	else
		r = uhmm_store_put(lz4->store, &word, WORD_LEN,
				   check_of(io->buf, io->len), &io->page);
	if (!r)
		add(&c->same, 1);
	return r;
}

static int store_page(struct lz4 *lz4, struct work *work, struct counters *c,
		      struct uhmm_io *io)
{
	const void *data = io->buf;
	uint32_t len = io->len;
	uint64_t check;
	int n = 0, r;

	if (len == UHMM_PAGE_SIZE && same_filled(io->buf))
		return store_word(lz4, c, io);
	check = check_of(io->buf, len);
	if (len > SPARE(len))
		n = LZ4_compress_fast_extState(&work->state, io->buf, work->out, (int)len,
					       (int)(len - SPARE(len)),
					       lz4->acceleration);
	if (n > 0) {
		data = work->out;
		len = (uint32_t)n;
	}
	r = uhmm_store_put(lz4->store, data, len, check, &io->page);
	if (!r && n <= 0)
		add(&c->raw, 1);
	return r;
}

static void store(struct lz4 *lz4, struct uhmm_batch *batch)
{
	struct counters *c = counters(lz4);
	uint32_t work = work_take(lz4), i;
	int64_t bytes = 0, stored = 0;

	for (i = 0; i < batch->nr; i++) {
		batch->io[i].result = store_page(lz4, &lz4->work[work], c, &batch->io[i]);
		if (!batch->io[i].result) {
			bytes += batch->io[i].len;
			stored++;
		}
	}
	work_give(lz4, work);
	add(&c->pages, stored);
	add(&c->bytes_in, bytes);
	add(&c->stores, stored);
	if (stored < batch->nr)
		add(&c->store_failures, batch->nr - stored);
}

struct view {
	struct uhmm_io *io;
	uint64_t check;
};

static int view_load(void *ctx, const void *data, uint32_t len, uint64_t check)
{
	struct view *view = ctx;
	struct uhmm_io *io = view->io;
	uint64_t word;

	view->check = check;
	if ((check & CHECK_LEN) != io->len)
		return -EIO;
	if (len == io->len) {
		memcpy(io->buf, data, len);
	} else if (len == WORD_LEN && io->len == UHMM_PAGE_SIZE) {
		memcpy(&word, data, sizeof(word));
		fill(io->buf, word);
	} else if (LZ4_decompress_safe(data, io->buf, (int)len, (int)io->len) !=
		   (int)io->len) {
		return -EIO;
	}
	return 0;
}

static int load_page(struct lz4 *lz4, struct uhmm_io *io, bool frozen)
{
	struct view view = { .io = io };
	uint64_t word;
	int r;

	if (uhmm_store_get_value(lz4->store, io->page, &word)) {
		if (io->len != UHMM_PAGE_SIZE || word)
			return -EIO;
		fill(io->buf, 0);
		return 0;
	}
	r = (frozen ? uhmm_store_peek : uhmm_store_view)(lz4->store, io->page, view_load,
							 &view);
	if (!r && check_of(io->buf, io->len) != view.check)
		r = -EIO;
	return r;
}

static void load(struct lz4 *lz4, struct uhmm_batch *batch)
{
	struct counters *c = counters(lz4);
	int64_t failed = 0;
	uint32_t i;

	for (i = 0; i < batch->nr; i++) {
		batch->io[i].result = load_page(lz4, &batch->io[i],
						batch->flags & UHMM_BATCH_FROZEN);
		failed += batch->io[i].result != 0;
	}
	add(&c->loads, batch->nr - failed);
	if (failed)
		add(&c->load_failures, failed);
}

struct kind {
	int64_t len;       /* of the page */
	int64_t raw, same; /* 1: kept as it was; as a word */
};

static int view_kind(void *ctx, const void *data, uint32_t len, uint64_t check)
{
	struct kind *kind = ctx;

	(void)data;
	kind->len = (int64_t)(check & CHECK_LEN);
	kind->raw = kind->len == len;
	kind->same = kind->len == UHMM_PAGE_SIZE && len == WORD_LEN;
	return 0;
}

static void free_pages(struct lz4 *lz4, struct uhmm_batch *batch)
{
	struct counters *c = counters(lz4);
	int64_t bytes = 0, same = 0, raw = 0;
	uint64_t word;
	uint32_t i;

	for (i = 0; i < batch->nr; i++) {
		struct uhmm_io *io = &batch->io[i];
		struct kind kind = { .len = UHMM_PAGE_SIZE };

		if (uhmm_store_get_value(lz4->store, io->page, &word))
			same++;
		else
			uhmm_store_view(lz4->store, io->page, view_kind, &kind);
		bytes += kind.len;
		raw += kind.raw;
		same += kind.same;
		uhmm_store_free(lz4->store, io->page);
		io->result = 0;
	}
	add(&c->pages, -(int64_t)batch->nr);
	add(&c->bytes_in, -bytes);
	add(&c->frees, batch->nr);
	if (same)
		add(&c->same, -same);
	if (raw)
		add(&c->raw, -raw);
}

static int lz4_submit(void *dev, struct uhmm_batch *batch)
{
	switch (batch->op) {
	case UHMM_OP_STORE:
		store(dev, batch);
		break;
	case UHMM_OP_LOAD:
		load(dev, batch);
		break;
	case UHMM_OP_FREE:
		free_pages(dev, batch);
		break;
	}
	batch->complete(batch);
	return 0;
}

/* ---- statistics ---------------------------------------------------------------- */

static uint64_t sum(struct lz4 *lz4, size_t member)
{
	int64_t total = 0;
	uint32_t i;

	for (i = 0; i < SHARDS; i++)
		total += __atomic_load_n((int64_t *)((char *)&lz4->counters[i] + member),
					 __ATOMIC_RELAXED);
	/* Seen between a free and the store it undoes. */
	return total > 0 ? (uint64_t)total : 0;
}

#define SUM(lz4_, member_) sum(lz4_, offsetof(struct counters, member_))

static void lz4_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct lz4 *lz4 = dev;
	struct uhmm_store_stat s;
	uint64_t own =
		(sizeof(*lz4) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE * UHMM_PAGE_SIZE +
		__atomic_load_n(&lz4->nr_works, __ATOMIC_RELAXED) * sizeof(struct work);

	uhmm_store_stat(lz4->store, &s);
	stat->pages = SUM(lz4, pages);
	stat->pages_same = SUM(lz4, same);
	stat->pages_raw = SUM(lz4, raw);
	stat->bytes_in = SUM(lz4, bytes_in);
	stat->bytes_stored = s.bytes_requested;
	stat->bytes_resident = s.bytes_resident + own;
	stat->bytes_metadata = s.bytes_metadata + own;
	stat->stores = SUM(lz4, stores);
	stat->loads = SUM(lz4, loads);
	stat->frees = SUM(lz4, frees);
	stat->store_failures = SUM(lz4, store_failures);
	stat->load_failures = SUM(lz4, load_failures);
}

const struct uhmm_driver uhmm_driver_lz4 = {
	.size = sizeof(struct uhmm_driver),
	.name = "lz4",
	.summary = "memory compressed with LZ4",
	.options = lz4_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = BATCH,
	.open = lz4_open,
	.close = lz4_close,
	.submit = lz4_submit,
	.stat = lz4_stat,
};

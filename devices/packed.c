/* SPDX-License-Identifier: Apache-2.0 */
/* Pages in fewer bytes: see packed.h. */
#include <errno.h>
#include <string.h>

#include "devices/count.h"
#include "devices/packed.h"
#include "devices/work.h"

/*
 * What compressing must spare, to be worth decompressing: a sixteenth, and not nothing,
 * because an object as long as its page is one that was kept as it is.
 */
#define SPARE(len_) ((len_) / 16 + 1)

/* The store's 64 bits of check: 51 of the hash, and the length of the page. */
#define CHECK_LEN UINT64_C(0x1fff)

/*
 * An object of so many bytes, where the page is whole, is a word. No codec makes one of
 * a whole page.
 */
#define WORD_LEN ((uint32_t)sizeof(uint64_t))

struct packed {
	struct uhmm_store *store;
	struct packed_codec codec;
	struct work work; /* a set: a page for what is packed, and the codec's memory */
	struct count count;
};

/* ---- open, close --------------------------------------------------------------- */

void packed_close(void *dev)
{
	struct packed *p = dev;

	uhmm_store_destroy(p->store);
	work_close(&p->work);
	uhmm_host_unmap(p, sizeof(*p));
}

int packed_open(const struct packed_codec *codec, uint64_t limit_bytes, void **dev,
		const char **error)
{
	struct packed *p = uhmm_host_map(sizeof(*p));
	int r = -ENOMEM;

	if (p) {
		p->codec = *codec;
		if (work_open(&p->work, UHMM_PAGE_SIZE + codec->work_size))
			r = uhmm_store_create(limit_bytes, &p->store);
	}
	if (r) {
		*error = "not enough memory";
		if (p)
			packed_close(p);
		return r;
	}
	*dev = p;
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

/* ---- working memory -------------------------------------------------------------- */

/* What is packed goes to its beginning, the codec's memory lies behind that. */
static char *work_of(struct packed *p, uint32_t i)
{
	char *work = work_at(&p->work, i);

	if (!p->work.owner[i].ready) {
		if (p->codec.work_init)
			p->codec.work_init(&p->codec, work + UHMM_PAGE_SIZE);
		p->work.owner[i].ready = true;
	}
	return work;
}

/* ---- storing --------------------------------------------------------------------- */

static int store_word(struct packed *p, struct counts *c, struct uhmm_io *io)
{
	uint64_t word = *(uint64_t *)io->buf;
	int r;

	if (word == 0)
		r = uhmm_store_put_value(p->store, 0, &io->page);
	else
		r = uhmm_store_put(p->store, &word, WORD_LEN, check_of(io->buf, io->len),
				   &io->page);
	if (!r)
		count_add(&c->same, 1);
	return r;
}

/* Bytes in out, or 0: to be kept as it is. */
static uint32_t pack(struct packed *p, void *out, const struct uhmm_io *io)
{
	uint32_t n;

	if (io->len <= SPARE(io->len))
		return 0;
	n = p->codec.pack(&p->codec, (char *)out + UHMM_PAGE_SIZE, io->buf, io->len, out,
			  io->len - SPARE(io->len));
	return n == WORD_LEN && io->len == UHMM_PAGE_SIZE ? 0 : n;
}

static int store_page(struct packed *p, void *work, struct counts *c, struct uhmm_io *io)
{
	uint64_t check;
	uint32_t n;
	int r;

	if (io->len == UHMM_PAGE_SIZE && same_filled(io->buf))
		return store_word(p, c, io);
	check = check_of(io->buf, io->len);
	n = pack(p, work, io);
	r = uhmm_store_put(p->store, n ? work : io->buf, n ? n : io->len, check,
			   &io->page);
	if (!r && !n)
		count_add(&c->raw, 1);
	return r;
}

static void store(struct packed *p, struct uhmm_batch *batch)
{
	struct counts *c = count_here(&p->count);
	uint32_t set = work_take(&p->work), i;
	void *work = work_of(p, set);
	uint32_t stored = 0;
	int64_t bytes = 0;

	for (i = 0; i < batch->nr; i++) {
		batch->io[i].result = store_page(p, work, c, &batch->io[i]);
		if (!batch->io[i].result) {
			bytes += batch->io[i].len;
			stored++;
		}
	}
	work_give(&p->work, set);
	count_stored(c, batch->nr, stored, bytes);
}

/* ---- loading --------------------------------------------------------------------- */

struct view {
	struct packed *packed;
	struct uhmm_io *io;
	void *work; /* the codec's, or NULL: it needs none */
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
	} else if (!view->packed->codec.unpack(&view->packed->codec, view->work, data,
					       len, io->buf, io->len)) {
		return -EIO;
	}
	return 0;
}

static int load_page(struct packed *p, struct uhmm_io *io, void *work, bool frozen)
{
	struct view view = { .packed = p, .io = io, .work = work };
	uint64_t word;
	int r;

	if (uhmm_store_get_value(p->store, io->page, &word)) {
		if (io->len != UHMM_PAGE_SIZE || word)
			return -EIO;
		fill(io->buf, 0);
		return 0;
	}
	r = (frozen ? uhmm_store_peek : uhmm_store_view)(p->store, io->page, view_load,
							 &view);
	if (!r && check_of(io->buf, io->len) != view.check)
		r = -EIO;
	return r;
}

/* How many failed. Nobody else is there where it is frozen: the first set is free. */
static uint32_t load_pages(struct packed *p, struct uhmm_batch *batch)
{
	bool frozen = batch->flags & UHMM_BATCH_FROZEN, works = p->codec.work_to_load;
	uint32_t set = works && !frozen ? work_take(&p->work) : 0, failed = 0, i;
	void *work = works ? work_of(p, set) + UHMM_PAGE_SIZE : NULL;

	for (i = 0; i < batch->nr; i++) {
		batch->io[i].result = load_page(p, &batch->io[i], work, frozen);
		failed += batch->io[i].result != 0;
	}
	if (works && !frozen)
		work_give(&p->work, set);
	return failed;
}

static void load(struct packed *p, struct uhmm_batch *batch)
{
	uint32_t failed = load_pages(p, batch);

	count_loaded(count_here(&p->count), batch->nr, batch->nr - failed);
}

/* ---- forgetting ------------------------------------------------------------------ */

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

static void free_pages(struct packed *p, struct uhmm_batch *batch)
{
	struct counts *c = count_here(&p->count);
	int64_t bytes = 0, same = 0, raw = 0;
	uint64_t word;
	uint32_t i;

	for (i = 0; i < batch->nr; i++) {
		struct uhmm_io *io = &batch->io[i];
		struct kind kind = { .len = UHMM_PAGE_SIZE };

		if (uhmm_store_get_value(p->store, io->page, &word))
			same++;
		else
			uhmm_store_view(p->store, io->page, view_kind, &kind);
		bytes += kind.len;
		raw += kind.raw;
		same += kind.same;
		uhmm_store_free(p->store, io->page);
		io->result = 0;
	}
	count_freed(c, batch->nr, bytes);
	count_add(&c->same, -same);
	count_add(&c->raw, -raw);
}

int packed_submit(void *dev, struct uhmm_batch *batch)
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

void packed_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct packed *p = dev;
	struct uhmm_store_stat s;
	uint64_t own = (sizeof(*p) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE *
			       UHMM_PAGE_SIZE +
		       work_bytes(&p->work);

	uhmm_store_stat(p->store, &s);
	count_stat(&p->count, stat);
	stat->bytes_stored = s.bytes_requested;
	stat->bytes_resident = s.bytes_resident + own;
	stat->bytes_metadata = s.bytes_metadata + own;
}

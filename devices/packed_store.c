/* SPDX-License-Identifier: Apache-2.0 */
/* Pages in fewer bytes, in memory of this process: see packed.h. */
#include <errno.h>
#include <string.h>

#include "devices/packed_parts.h"

/* The store's 64 bits of check: 51 of the hash, and the length of the page. */
#define CHECK_LEN UINT64_C(0x1fff)

/*
 * An object of so many bytes, where the page is whole, is a word. One that a codec makes
 * of a whole page is not kept; none has been seen to. One as long as its page is one that
 * was kept as it is.
 */
#define WORD_LEN ((uint32_t)sizeof(uint64_t))

struct packed {
	struct packed_head head;
	struct uhmm_store *store;
};

/* ---- open, close --------------------------------------------------------------- */

static void store_close(void *dev)
{
	struct packed *p = dev;

	uhmm_store_destroy(p->store);
	work_close(&p->head.work);
	uhmm_host_unmap(p, sizeof(*p));
}

static uint64_t check_of(const void *buf, uint32_t len)
{
	return (uhmm_checksum(buf, len) & ~CHECK_LEN) | len;
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
static uint32_t pack(struct packed *p, uint32_t set, void *out, const struct uhmm_io *io)
{
	uint32_t n = packed_pack(&p->head, set, io->buf, io->len, out);

	return n == WORD_LEN && io->len == UHMM_PAGE_SIZE ? 0 : n;
}

static int store_page(struct packed *p, uint32_t set, void *out, struct counts *c,
		      struct uhmm_io *io)
{
	uint64_t check;
	uint32_t n;
	int r;

	if (io->len == UHMM_PAGE_SIZE && packed_is_word(io->buf))
		return store_word(p, c, io);
	check = check_of(io->buf, io->len);
	n = pack(p, set, out, io);
	r = uhmm_store_put(p->store, n ? out : io->buf, n ? n : io->len, check,
			   &io->page);
	if (!r && !n)
		count_add(&c->raw, 1);
	return r;
}

static void store(struct packed *p, struct uhmm_batch *batch)
{
	struct counts *c = count_here(&p->head.count);
	uint32_t set = work_take(&p->head.work), stored = 0, i;
	void *out = packed_work(&p->head, set);
	int64_t bytes = 0;

	for (i = 0; i < batch->nr; i++) {
		batch->io[i].result = store_page(p, set, out, c, &batch->io[i]);
		if (!batch->io[i].result) {
			bytes += batch->io[i].len;
			stored++;
		}
	}
	work_give(&p->head.work, set);
	count_stored(c, batch->nr, stored, bytes);
}

/* ---- loading --------------------------------------------------------------------- */

struct view {
	const struct packed_codec *codec;
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
		packed_fill(io->buf, word);
	} else if (!view->codec->unpack(view->codec, view->work, data, len, io->buf,
					io->len)) {
		return -EIO;
	}
	return 0;
}

static int load_page(struct packed *p, struct uhmm_io *io, void *work, bool frozen)
{
	struct view view = { .codec = &p->head.codec, .io = io, .work = work };
	uint64_t word;
	int r;

	if (uhmm_store_get_value(p->store, io->page, &word)) {
		if (io->len != UHMM_PAGE_SIZE || word)
			return -EIO;
		packed_fill(io->buf, 0);
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
	bool frozen = batch->flags & UHMM_BATCH_FROZEN;
	bool works = p->head.codec.work_to_load, takes = works && !frozen;
	uint32_t set = takes ? work_take(&p->head.work) : 0, failed = 0, i;
	void *work = NULL;

	if (works) {
		packed_work(&p->head, set);
		work = packed_codec_work(&p->head, set);
	}
	for (i = 0; i < batch->nr; i++) {
		batch->io[i].result = load_page(p, &batch->io[i], work, frozen);
		failed += batch->io[i].result != 0;
	}
	if (takes)
		work_give(&p->head.work, set);
	return failed;
}

static void load(struct packed *p, struct uhmm_batch *batch)
{
	uint32_t failed = load_pages(p, batch);

	count_loaded(count_here(&p->head.count), batch->nr, batch->nr - failed);
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
	struct counts *c = count_here(&p->head.count);
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

static int store_submit(void *dev, struct uhmm_batch *batch)
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

static void store_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct packed *p = dev;
	struct uhmm_store_stat s;
	uint64_t own = (sizeof(*p) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE *
			       UHMM_PAGE_SIZE +
		       work_bytes(&p->head.work);

	uhmm_store_stat(p->store, &s);
	count_stat(&p->head.count, stat);
	stat->bytes_stored = s.bytes_requested;
	stat->bytes_resident = s.bytes_resident + own;
	stat->bytes_metadata = s.bytes_metadata + own;
}

static const struct packed_kind packed_in_store = {
	.close = store_close,
	.submit = store_submit,
	.stat = store_stat,
};

int packed_store_open(const struct packed_codec *codec, uint64_t limit_bytes, void **dev,
		      const char **error)
{
	struct packed *p = uhmm_host_map(sizeof(*p));
	int r = -ENOMEM;

	*error = "not enough memory";
	if (!p)
		return r;
	if (packed_head_open(&p->head, &packed_in_store, codec, 1)) {
		/* One thread's working memory is part of what was allowed. */
		if (limit_bytes)
			limit_bytes -= p->head.work.size;
		r = uhmm_store_create(limit_bytes, &p->store);
	}
	if (r)
		store_close(p);
	else
		*dev = p;
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages in fewer bytes, on another device: see packed.h.
 *
 * What the device below is given is as long as it has become: a device that does not put
 * short pages together saves nothing. A page of one word is remembered here alone. A
 * batch goes below in parts, each of which is waited for.
 */
#include <errno.h>
#include <string.h>

#include "devices/below.h"
#include "devices/packed_parts.h"
#include "devices/table.h"

/* Pages of a part: what they have become is a set of working memory. */
#define PART 8u

/* What is remembered of a page. */
struct kept {
	uint64_t below;  /* what it is called there; of a page of one word: that */
	uint64_t check;  /* of the bytes as they came */
	uint32_t len;    /* bytes that came */
	uint32_t packed; /* bytes below; 0: it is one word */
};

struct packed_layer {
	struct packed_head head;
	struct uhmm_device *next;
	struct table table;
};

/* A part of a batch, as the device below is given it. */
struct part {
	struct uhmm_batch batch;
	struct uhmm_io io[PART];
	struct uhmm_io *of[PART]; /* whose that is */
	uint32_t set;
	char *memory; /* of the set: a page for each */
};

static struct kept *kept_at(const struct packed_layer *p, uint64_t page)
{
	return table_at(&p->table, page);
}

static void layer_close(void *dev)
{
	struct packed_layer *p = dev;

	table_close(&p->table);
	work_close(&p->head.work);
	uhmm_host_unmap(p, sizeof(*p));
}

/* Nobody else is there where it is frozen: the first set is free. */
static void part_begin(struct packed_layer *p, struct part *part,
		       const struct uhmm_batch *batch)
{
	bool frozen = batch->flags & UHMM_BATCH_FROZEN;

	part->batch = (struct uhmm_batch){ .op = batch->op,
					   .io = part->io,
					   .flags = batch->flags };
	part->set = frozen ? 0 : work_take(&p->head.work);
	part->memory = packed_work(&p->head, part->set);
}

static void part_end(struct packed_layer *p, struct part *part)
{
	if (!(part->batch.flags & UHMM_BATCH_FROZEN))
		work_give(&p->head.work, part->set);
}

/* The next one of the part: buf is where its bytes are below, or will be. */
static void part_add(struct part *part, struct uhmm_io *io, uint64_t below, void *buf,
		     uint32_t len)
{
	uint32_t at = part->batch.nr++;

	part->of[at] = io;
	part->io[at] = (struct uhmm_io){ .page = below, .buf = buf, .len = len };
}

static void *part_page(const struct part *part)
{
	return part->memory + part->batch.nr * (size_t)UHMM_PAGE_SIZE;
}

/* ---- storing --------------------------------------------------------------------- */

/* What it will be is remembered, and it is made ready for the device below. */
static void pack_one(struct packed_layer *p, struct part *part, struct uhmm_io *io)
{
	void *out = part_page(part);
	struct kept *kept;
	uint32_t n;

	io->page = table_take(&p->table);
	io->result = io->page == UINT64_MAX ? -ENOMEM : 0;
	if (io->result)
		return;
	kept = kept_at(p, io->page);
	*kept = (struct kept){ .check = uhmm_checksum(io->buf, io->len), .len = io->len };
	if (io->len == UHMM_PAGE_SIZE && packed_is_word(io->buf)) {
		memcpy(&kept->below, io->buf, sizeof(kept->below));
		return;
	}
	n = packed_pack(&p->head, part->set, io->buf, io->len, out);
	kept->packed = n ? n : io->len;
	part_add(part, io, 0, n ? out : io->buf, kept->packed);
}

static void take_up(struct packed_layer *p, const struct part *part)
{
	uint32_t i;

	for (i = 0; i < part->batch.nr; i++) {
		struct uhmm_io *io = part->of[i];

		io->result = part->io[i].result;
		if (io->result)
			table_give(&p->table, io->page);
		else
			kept_at(p, io->page)->below = part->io[i].page;
	}
}

static void count_kinds(struct counts *c, const struct kept *kept, int64_t n)
{
	if (!kept->packed)
		count_add(&c->same, n);
	else if (kept->packed == kept->len)
		count_add(&c->raw, n);
}

static void store_part(struct packed_layer *p, struct part *part, struct uhmm_io *io,
		       uint32_t nr)
{
	struct counts *c = count_here(&p->head.count);
	uint32_t i, stored = 0;
	int64_t bytes = 0;

	for (i = 0; i < nr; i++)
		pack_one(p, part, &io[i]);
	below_run(p->next, &part->batch);
	take_up(p, part);
	for (i = 0; i < nr; i++) {
		if (io[i].result)
			continue;
		stored++;
		bytes += io[i].len;
		count_kinds(c, kept_at(p, io[i].page), 1);
	}
	count_stored(c, nr, stored, bytes);
}

/* ---- loading --------------------------------------------------------------------- */

static void ask_for_one(struct packed_layer *p, struct part *part, struct uhmm_io *io)
{
	const struct kept *kept = kept_at(p, io->page);
	bool raw = kept->packed == kept->len;

	io->result = kept->len == io->len ? 0 : -EIO;
	if (!io->result && kept->packed)
		part_add(part, io, kept->below, raw ? io->buf : part_page(part),
			 kept->packed);
	else if (!io->result)
		packed_fill(io->buf, kept->below);
}

static void unpack_one(struct packed_layer *p, const struct part *part, uint32_t at)
{
	const struct packed_codec *codec = &p->head.codec;
	const struct uhmm_io *below = &part->io[at];
	struct uhmm_io *io = part->of[at];

	io->result = below->result;
	if (!io->result && below->len != io->len &&
	    !codec->unpack(codec, packed_codec_work(&p->head, part->set), below->buf,
			   below->len, io->buf, io->len))
		io->result = -EIO;
}

static void load_part(struct packed_layer *p, struct part *part, struct uhmm_io *io,
		      uint32_t nr)
{
	uint32_t i, loaded = 0;

	for (i = 0; i < nr; i++)
		ask_for_one(p, part, &io[i]);
	below_run(p->next, &part->batch);
	for (i = 0; i < part->batch.nr; i++)
		unpack_one(p, part, i);
	for (i = 0; i < nr; i++) {
		if (!io[i].result &&
		    uhmm_checksum(io[i].buf, io[i].len) != kept_at(p, io[i].page)->check)
			io[i].result = -EIO;
		loaded += !io[i].result;
	}
	count_loaded(count_here(&p->head.count), nr, loaded);
}

/* ---- forgetting ------------------------------------------------------------------ */

static void free_part(struct packed_layer *p, struct part *part, struct uhmm_io *io,
		      uint32_t nr)
{
	struct counts *c = count_here(&p->head.count);
	int64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		const struct kept *kept = kept_at(p, io[i].page);

		if (kept->packed)
			part_add(part, &io[i], kept->below, NULL, kept->packed);
		bytes += kept->len;
		count_kinds(c, kept, -1);
		io[i].result = 0;
	}
	below_run(p->next, &part->batch);
	for (i = 0; i < nr; i++)
		table_give(&p->table, io[i].page);
	count_freed(c, nr, bytes);
}

/* ---- batches --------------------------------------------------------------------- */

static int layer_submit(void *dev, struct uhmm_batch *batch)
{
	static void (*const run[])(struct packed_layer *, struct part *, struct uhmm_io *,
				   uint32_t) = {
		[UHMM_OP_STORE] = store_part,
		[UHMM_OP_LOAD] = load_part,
		[UHMM_OP_FREE] = free_part,
	};
	struct part part;
	uint32_t at, nr;

	for (at = 0; at < batch->nr; at += nr) {
		nr = batch->nr - at < PART ? batch->nr - at : PART;
		part_begin(dev, &part, batch);
		run[batch->op](dev, &part, batch->io + at, nr);
		part_end(dev, &part);
	}
	batch->complete(batch);
	return 0;
}

static void layer_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct packed_layer *p = dev;
	uint64_t own = (sizeof(*p) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE *
		       UHMM_PAGE_SIZE;

	count_stat(&p->head.count, stat);
	stat->bytes_resident = own + table_bytes(&p->table) + work_bytes(&p->head.work);
	stat->bytes_metadata = stat->bytes_resident;
}

static const struct packed_kind packed_on_device = {
	.close = layer_close,
	.submit = layer_submit,
	.stat = layer_stat,
};

int packed_layer_open(const struct packed_codec *codec, struct uhmm_device *next,
		      void **dev, const char **error)
{
	struct packed_layer *p = uhmm_host_map(sizeof(*p));

	*error = "not enough memory";
	if (!p)
		return -ENOMEM;
	p->next = next;
	if (!packed_head_open(&p->head, &packed_on_device, codec, PART) ||
	    !table_open(&p->table, sizeof(struct kept))) {
		layer_close(p);
		return -ENOMEM;
	}
	*dev = p;
	return 0;
}

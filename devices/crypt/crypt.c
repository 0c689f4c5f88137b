/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypt: a layer that encrypts what the device below keeps, so that nobody who reads that
 * learns of it, and nobody who changes it is believed.
 *
 * The key is drawn when the device is opened, and lies in locked memory until it is
 * closed; nobody else has it. With each page its number is authenticated, and its tag and
 * nonce stay in memory of this process: so a page that was flipped a bit of, exchanged
 * with another, or replaced by what it was before is -EIO when it is loaded. The others
 * are not concerned.
 *
 * Pages are handed on as long as they came. What is encrypted cannot be compressed: a
 * layer that compresses belongs above this one.
 *
 * A batch goes below in parts, each of which is waited for. Any thread. After open()
 * nothing is allocated but chunks of the table (devices/table.h).
 */
#include <errno.h>
#include <string.h>

#include "devices/below.h"
#include "devices/count.h"
#include "devices/crypt/cipher.h"
#include "devices/table.h"
#include "devices/work.h"

/* Pages of a part: what is encrypted of it is a set of working memory. */
#define PART 16u

struct crypt {
	struct uhmm_device *next;
	struct cipher *cipher;
	struct table table;
	struct work work;
	struct count count;
};

/* What is remembered of a page. */
struct sealed {
	uint64_t below; /* what it is called there */
	struct nonce nonce;
	uint8_t tag[TAG_SIZE];
	uint32_t len; /* bytes */
};

/* A part of a batch, as the device below is given it. */
struct part {
	struct uhmm_batch batch;
	struct uhmm_io io[PART];
	uint64_t page[PART]; /* of ours */
};

static struct sealed *sealed_at(const struct crypt *c, uint64_t page)
{
	return table_at(&c->table, page);
}

/* ---- open, close ------------------------------------------------------------------ */

static const struct uhmm_option crypt_options[] = {
	{ .name = "cipher",
	  .type = UHMM_OPTION_STRING,
	  .help = "aes256gcm or xchacha20poly1305 (default: the first if the "
		  "processor has instructions for it)" },
	{ .name = NULL },
};

static int which_cipher(const char *name, enum cipher_kind *kind, const char **error)
{
	bool has_aes = cipher_has_aes();

	*kind = has_aes ? CIPHER_AES256GCM : CIPHER_XCHACHA20POLY1305;
	if (!name)
		return 0;
	if (!strcmp(name, "xchacha20poly1305")) {
		*kind = CIPHER_XCHACHA20POLY1305;
		return 0;
	}
	if (strcmp(name, "aes256gcm") != 0) {
		*error = "cipher is aes256gcm or xchacha20poly1305";
		return -EINVAL;
	}
	if (has_aes)
		return 0;
	*error = "this processor has no instructions for aes256gcm: "
		 "use cipher=xchacha20poly1305";
	return -ENOTSUP;
}

static void crypt_close(void *dev)
{
	struct crypt *c = dev;

	cipher_destroy(c->cipher);
	table_close(&c->table);
	work_close(&c->work);
	uhmm_host_unmap(c, sizeof(*c));
}

static int crypt_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct crypt *c;
	enum cipher_kind kind;
	int r = which_cipher(args->values[0].string, &kind, error);

	if (r)
		return r;
	*error = "not enough memory";
	c = uhmm_host_map(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->next = args->next;
	if (!table_open(&c->table, sizeof(struct sealed)) ||
	    !work_open(&c->work, PART * UHMM_PAGE_SIZE)) {
		crypt_close(c);
		return -ENOMEM;
	}
	c->cipher = cipher_create(kind);
	if (!c->cipher) {
		crypt_close(c);
		*error = "the key cannot be kept from swap: permit to lock 4 KiB of "
			 "memory (ulimit -l)";
		return -EPERM;
	}
	*dev = c;
	return 0;
}

static int crypt_after_fork(void *dev)
{
	struct crypt *c = dev;

	return cipher_after_fork(c->cipher);
}

/* ---- storing ---------------------------------------------------------------------- */

static bool encrypt(struct crypt *c, struct part *part, char *out,
		    const struct uhmm_io *io)
{
	uint64_t nr = table_take(&c->table);
	struct sealed *sealed;
	uint32_t at;

	if (nr == UINT64_MAX)
		return false;
	sealed = sealed_at(c, nr);
	sealed->len = io->len;
	at = part->batch.nr++;
	out += at * UHMM_PAGE_SIZE;
	cipher_encrypt(c->cipher, nr, io->buf, io->len, out, &sealed->nonce, sealed->tag);
	part->page[at] = nr;
	part->io[at] = (struct uhmm_io){ .buf = out, .len = io->len };
	return true;
}

/* What became of those that were handed on. How many are stored. */
static uint32_t take_up(struct crypt *c, struct part *part, struct uhmm_io *io,
			uint32_t nr, int64_t *bytes)
{
	uint32_t i, at = 0, stored = 0;

	for (i = 0; i < nr; i++) {
		if (io[i].result)
			continue;
		io[i].result = part->io[at].result;
		io[i].page = part->page[at];
		if (io[i].result) {
			table_give(&c->table, part->page[at]);
		} else {
			sealed_at(c, part->page[at])->below = part->io[at].page;
			*bytes += io[i].len;
			stored++;
		}
		at++;
	}
	return stored;
}

static void store_part(struct crypt *c, struct uhmm_batch *batch, struct uhmm_io *io,
		       uint32_t nr)
{
	struct part part = {
		.batch = { .op = UHMM_OP_STORE, .io = part.io, .flags = batch->flags }
	};
	uint32_t set = work_take(&c->work), i, stored;
	char *out = work_at(&c->work, set);
	int64_t bytes = 0;

	for (i = 0; i < nr; i++)
		io[i].result = encrypt(c, &part, out, &io[i]) ? 0 : -ENOMEM;
	below_run(c->next, &part.batch);
	stored = take_up(c, &part, io, nr, &bytes);
	work_give(&c->work, set);
	count_stored(count_here(&c->count), nr, stored, bytes);
}

/* ---- loading, forgetting ----------------------------------------------------------- */

/* The pages of io, by the names that they have below. */
static void part_name(struct crypt *c, struct part *part, const struct uhmm_io *io,
		      uint32_t nr)
{
	uint32_t i;

	part->batch.nr = nr;
	for (i = 0; i < nr; i++) {
		part->io[i] = io[i];
		part->io[i].page = sealed_at(c, io[i].page)->below;
	}
}

static void load_part(struct crypt *c, struct uhmm_batch *batch, struct uhmm_io *io,
		      uint32_t nr)
{
	struct part part = {
		.batch = { .op = UHMM_OP_LOAD, .io = part.io, .flags = batch->flags }
	};
	uint32_t i, loaded = 0;

	part_name(c, &part, io, nr);
	below_run(c->next, &part.batch);
	for (i = 0; i < nr; i++) {
		const struct sealed *sealed = sealed_at(c, io[i].page);

		io[i].result = part.io[i].result;
		if (!io[i].result &&
		    !cipher_decrypt(c->cipher, io[i].page, io[i].buf, io[i].len,
				    &sealed->nonce, sealed->tag))
			io[i].result = -EIO;
		loaded += !io[i].result;
	}
	count_loaded(count_here(&c->count), nr, loaded);
}

static void free_part(struct crypt *c, struct uhmm_batch *batch, struct uhmm_io *io,
		      uint32_t nr)
{
	struct part part = {
		.batch = { .op = UHMM_OP_FREE, .io = part.io, .flags = batch->flags }
	};
	int64_t bytes = 0;
	uint32_t i;

	part_name(c, &part, io, nr);
	below_run(c->next, &part.batch);
	for (i = 0; i < nr; i++) {
		bytes += sealed_at(c, io[i].page)->len;
		table_give(&c->table, io[i].page);
		io[i].result = 0;
	}
	count_freed(count_here(&c->count), nr, bytes);
}

static int crypt_submit(void *dev, struct uhmm_batch *batch)
{
	static void (*const run[])(struct crypt *, struct uhmm_batch *, struct uhmm_io *,
				   uint32_t) = {
		[UHMM_OP_STORE] = store_part,
		[UHMM_OP_LOAD] = load_part,
		[UHMM_OP_FREE] = free_part,
	};
	uint32_t at, nr;

	for (at = 0; at < batch->nr; at += nr) {
		nr = batch->nr - at < PART ? batch->nr - at : PART;
		run[batch->op](dev, batch, batch->io + at, nr);
	}
	batch->complete(batch);
	return 0;
}

/* ---- statistics -------------------------------------------------------------------- */

static void crypt_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct crypt *c = dev;
	uint64_t own = (sizeof(*c) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE *
		       UHMM_PAGE_SIZE;

	count_stat(&c->count, stat);
	stat->bytes_resident = own + table_bytes(&c->table) + work_bytes(&c->work) +
			       UHMM_PAGE_SIZE;
	stat->bytes_metadata = stat->bytes_resident;
}

const struct uhmm_driver uhmm_driver_crypt = {
	.size = sizeof(struct uhmm_driver),
	.name = "crypt",
	.summary = "encrypts pages, and notices what was changed",
	.options = crypt_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_LAYER | UHMM_DRIVER_SECRET,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = PART,
	.open = crypt_open,
	.close = crypt_close,
	.submit = crypt_submit,
	.after_fork = crypt_after_fork,
	.stat = crypt_stat,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What devices keep of a page: an input stores pages, loads and frees them, has the store
 * compacted, and in between changes what is kept: flips bits, overwrites, cuts off,
 * swaps. What is loaded then is what was stored, or -EIO; and what was not touched is
 * loaded.
 *
 * Changed are the bytes of pages and what is kept beside them: checksums, lengths,
 * owners, words that stand for a page. Not the way to them (slots with addresses, lists
 * of spans): who overwrites a pointer has lost.
 *
 * byte 0 chooses the device; then a byte for each operation, and what it asks for.
 */
#include <errno.h>
#include <string.h>

#include "lib/device.h"
#include "lib/store_internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/kept.h"

#define PAGES 48u

/* What the model knows of a stored page. */
struct stored {
	bool used, changed;
	uint64_t page;
	uint32_t len;
	unsigned char bytes[UHMM_PAGE_SIZE];
};

static struct {
	const struct uhmm_driver *driver;
	void *impl;
	struct uhmm_device *dev;
	bool any_changed;
	struct stored page[PAGES];
} model;

uint64_t (*const fuzz_digest)(void) = NULL;

/* ---- devices ---------------------------------------------------------------------- */

static void open_device(unsigned which)
{
	static const struct {
		const struct uhmm_driver *driver;
		struct uhmm_option_value value[2];
	} kinds[] = {
		{ &uhmm_driver_ram, { { 0 } } },
		{ &uhmm_driver_lz4, { { 0 }, { .number = 1 } } },
		{ &uhmm_driver_lz4, { { .number = 4 << 20 }, { .number = 1 } } },
		{ &uhmm_driver_lz4, { { 0 }, { .number = 65537 } } },
		{ &uhmm_driver_zstd, { { 0 }, { .number = 1 } } },
	};
	struct uhmm_device_args args = { .size = sizeof(args) };
	const char *error = NULL;

	which %= sizeof(kinds) / sizeof(kinds[0]);
	memset(&model, 0, sizeof(model));
	model.driver = kinds[which].driver;
	args.values = kinds[which].value;
	FUZZ_CHECK(!model.driver->open(&args, &model.impl, &error), "%s", error);
	FUZZ_CHECK(!device_wrap(model.driver, model.impl, &model.dev), "no memory");
}

static struct uhmm_store *packed(void)
{
	return model.driver != &uhmm_driver_ram ? kept_packed_store(model.impl) : NULL;
}

/* ---- what is stored --------------------------------------------------------------- */

static void make_noise(unsigned char *to, size_t len, uint64_t seed)
{
	size_t i;

	for (i = 0; i < len; i++) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		to[i] = (unsigned char)(seed >> 56);
	}
}

/* Pages of all kinds that devices tell apart. */
static void make_bytes(struct fuzz_bytes *in, unsigned char *to, size_t len)
{
	unsigned kind = fuzz_byte(in) % 6, period;
	uint64_t word = fuzz_number(in, kind ? 8 : 0);
	size_t i;

	switch (kind) {
	case 0:
	case 1: /* one word */
		for (i = 0; i < len; i++)
			to[i] = (unsigned char)(word >> 8 * (i % 8));
		break;
	case 2:
		make_noise(to, len, word);
		break;
	case 3: /* noise at the start, then nothing */
		memset(to, 0, len);
		make_noise(to, word % (len + 1), word);
		break;
	case 4: /* one word, but for a byte */
		for (i = 0; i < len; i++)
			to[i] = (unsigned char)(word >> 8 * (i % 8));
		to[fuzz_number(in, 2) % len] ^= 1 + fuzz_byte(in) % 255;
		break;
	default:
		period = 1 + fuzz_byte(in);
		for (i = 0; i < len; i++)
			to[i] = (unsigned char)(word >> i % period % 56);
	}
}

static uint32_t run(enum uhmm_op op, struct stored *s, void *buf)
{
	struct uhmm_io io = { .page = s->page, .buf = buf, .len = s->len };

	device_run(model.dev, op, &io, 1);
	s->page = io.page;
	return (uint32_t)-io.result;
}

static void put(struct fuzz_bytes *in, struct stored *s)
{
	static unsigned char __attribute__((aligned(UHMM_PAGE_SIZE))) buf[UHMM_PAGE_SIZE];
	unsigned full = fuzz_byte(in) % 4;
	uint32_t error;

	if (s->used)
		return;
	/* Less comes from a layer above. */
	s->len = full ? UHMM_PAGE_SIZE : 1 + fuzz_number(in, 2) % UHMM_PAGE_SIZE;
	make_bytes(in, buf, s->len);
	memcpy(s->bytes, buf, s->len);
	error = run(UHMM_OP_STORE, s, buf);
	FUZZ_CHECK(!error || error == ENOSPC || error == ENOMEM, "STORE: %u", error);
	FUZZ_CHECK(error || s->page < UHMM_DEVICE_PAGE_LIMIT, "page 0x%lx", s->page);
	s->used = !error;
	s->changed = false;
}

static void get(struct stored *s, bool frozen)
{
	static unsigned char __attribute__((aligned(UHMM_PAGE_SIZE))) buf[UHMM_PAGE_SIZE];
	struct uhmm_io io = { .page = s->page, .buf = buf, .len = s->len };
	uint32_t error;

	if (!s->used)
		return;
	memset(buf, 0xa5, sizeof(buf));
	error = frozen ? (uint32_t)-device_peek(model.dev, &io) :
			 run(UHMM_OP_LOAD, s, buf);
	FUZZ_CHECK(!error || error == EIO, "LOAD: %u", error);
	FUZZ_CHECK(!error || s->changed, "what nobody has touched is lost");
	FUZZ_CHECK(error || !memcmp(buf, s->bytes, s->len), "wrong bytes");
}

static void drop(struct stored *s)
{
	if (!s->used)
		return;
	FUZZ_CHECK(!run(UHMM_OP_FREE, s, NULL), "FREE failed");
	s->used = false;
}

/* ---- what is kept ----------------------------------------------------------------- */

static struct kept kept_of(const struct stored *s, unsigned part)
{
	return (packed() ? kept_packed : kept_ram)(model.impl, s->page, part, s->changed);
}

static void flip(struct fuzz_bytes *in, struct kept k)
{
	k.at[fuzz_number(in, 2) % k.len] ^= fuzz_byte(in);
}

static void overwrite(struct fuzz_bytes *in, struct kept k)
{
	size_t at = fuzz_number(in, 2) % k.len, nr = fuzz_byte(in) % 32;

	for (; nr && at < k.len; nr--, at++)
		k.at[at] = fuzz_byte(in);
}

static void cut_off(struct fuzz_bytes *in, struct kept k)
{
	size_t at = fuzz_number(in, 2) % k.len;

	memset(k.at + at, fuzz_byte(in), k.len - at);
}

/* With what is kept of another page, as far as it is as long. */
static void swap(struct kept a, struct kept b, size_t from)
{
	size_t i, len = a.len < b.len ? a.len : b.len;

	for (i = from; i < len; i++) {
		unsigned char byte = a.at[i];

		a.at[i] = b.at[i];
		b.at[i] = byte;
	}
}

static void change(struct fuzz_bytes *in, struct stored *s, struct stored *other)
{
	unsigned how = fuzz_byte(in);
	struct kept k;

	if (!s->used)
		return;
	k = kept_of(s, how / 4);
	s->changed = model.any_changed = true;
	switch (how % 4) {
	case 0:
		flip(in, k);
		break;
	case 1:
		overwrite(in, k);
		break;
	case 2:
		cut_off(in, k);
		break;
	default:
		if (!other->used || other == s)
			break;
		swap(k, kept_of(other, how / 4),
		     how & 0x80 ? 0 : sizeof(struct store_object));
		other->changed = true;
	}
}

/* ---- an input --------------------------------------------------------------------- */

static void step(struct fuzz_bytes *in)
{
	unsigned op = fuzz_byte(in);
	struct stored *s = &model.page[fuzz_byte(in) % PAGES];

	switch (op % 8) {
	case 0:
	case 1:
	case 2:
		put(in, s);
		break;
	case 3:
		get(s, op & 0x80);
		break;
	case 4:
		drop(s);
		break;
	case 5:
	case 6:
		change(in, s, &model.page[fuzz_byte(in) % PAGES]);
		break;
	default:
		if (packed())
			uhmm_store_compact(packed(), fuzz_number(in, 3));
	}
	FUZZ_CHECK(model.any_changed || !packed() || store_is_valid(packed()),
		   "the store is not in order: store_check.c:%d", store_wrong_line());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes in = { data, data + size };
	struct uhmm_device_stat stat = { .size = sizeof(stat) };
	unsigned i;

	open_device(fuzz_byte(&in));
	while (in.at < in.end)
		step(&in);
	for (i = 0; i < PAGES; i++) {
		get(&model.page[i], i % 2);
		drop(&model.page[i]);
	}
	device_stat(model.dev, &stat);
	FUZZ_CHECK(!stat.pages && (model.any_changed || !stat.bytes_in),
		   "%lu pages, %lu bytes are left", stat.pages, stat.bytes_in);
	device_close(model.dev);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What devices that compress and encrypt make of their libraries, on one thread: pages
 * are stored, loaded and freed in batches of 8, and beside that the bare library does the
 * same to the same pages with no device around it. Rounds of the one and the other
 * alternate; the lowest time of each counts.
 *
 *   MB/s   bytes of pages a second through the device
 *   bare   through the library: LZ4, Zstandard at level 3, libsodium
 *   ratio  of the two. What a device has to do besides is a checksum either way, finding
 *          memory for what came out, and a copy to it. For crypt, which stands on ram,
 *          what ram alone takes is subtracted: that is not crypt's
 *
 * Pages are of words out of a small vocabulary, no two alike: LZ4 makes 2 to 1 of them.
 *
 * usage: bench-device [MiB [ROUNDS]]: 16 and 9.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <lz4.h>
#include <sodium.h>
#include <zstd.h>

#include <uhmm/device.h>
#include <uhmm/uhmm.h>

#define PAGE ((size_t)UHMM_PAGE_SIZE)
#define BATCH 8u
#define VOCABULARY 512u

/* There and back. */
enum way { THERE, BACK, WAYS };

static size_t nr_pages;
static unsigned rounds;
static char *pages, *back; /* nr_pages each */

static void *map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

static void write_pages(void)
{
	char word[VOCABULARY][12];
	size_t at = 0, len, i;

	for (i = 0; i < VOCABULARY; i++) {
		len = 3 + next_random() % 8;
		for (at = 0; at < len; at++)
			word[i][at] = (char)('a' + next_random() % 26);
		word[i][len] = ' ';
		word[i][len + 1] = 0;
	}
	for (at = 0; at < nr_pages * PAGE; at += len) {
		const char *w = word[next_random() % VOCABULARY];

		len = strlen(w);
		len = len < nr_pages * PAGE - at ? len : nr_pages * PAGE - at;
		memcpy(pages + at, w, len);
	}
}

/* ---- devices ---------------------------------------------------------------------- */

static void completed(struct uhmm_batch *batch)
{
	*(bool *)batch->cookie = true;
}

/* The batch of pages from one on; where: their bytes, or where they go. */
static double run(struct uhmm_device *device, enum uhmm_op op, struct uhmm_io *io,
		  size_t at, char *where)
{
	bool done = false;
	struct uhmm_batch batch = { .op = op,
				    .nr = BATCH,
				    .io = io + at,
				    .complete = completed,
				    .cookie = &done };
	double start = now();
	size_t i;

	for (i = at; i < at + BATCH; i++) {
		io[i].buf = where + i * PAGE;
		io[i].len = (uint32_t)PAGE;
	}
	uhmm_device_submit(device, &batch);
	if (!done)
		errx(1, "a batch of memory has not completed at once");
	for (i = at; i < at + BATCH; i++)
		if (io[i].result)
			errx(1, "a page failed: %d", io[i].result);
	return now() - start;
}

static void least(double *best, double took)
{
	if (*best == 0 || took < *best)
		*best = took;
}

/*
 * Each page takes the place of what it was before, as where a program has been for a
 * while: what it costs to get the first memory from the kernel is not the device's.
 */
static void device_round(struct uhmm_device *device, struct uhmm_io *io, bool first,
			 double best[WAYS])
{
	double took[WAYS] = { 0 };
	size_t at;

	for (at = 0; at < nr_pages; at += BATCH) {
		if (!first)
			run(device, UHMM_OP_FREE, io, at, back);
		took[THERE] += run(device, UHMM_OP_STORE, io, at, pages);
	}
	for (at = 0; at < nr_pages; at += BATCH)
		took[BACK] += run(device, UHMM_OP_LOAD, io, at, back);
	if (memcmp(pages, back, nr_pages * PAGE) != 0)
		errx(3, "a page came back wrong");
	least(&best[THERE], took[THERE]);
	least(&best[BACK], took[BACK]);
}

/* ---- libraries -------------------------------------------------------------------- */

/* What the bare library has made of the pages, each at its place. */
static char *made;
static int *made_len;

typedef void there_fn(size_t i);
typedef void back_fn(size_t i);

static void bare_round(there_fn *there, back_fn *backwards, double best[WAYS])
{
	double start = now();
	size_t i;

	for (i = 0; i < nr_pages; i++)
		there(i);
	least(&best[THERE], now() - start);
	start = now();
	for (i = 0; i < nr_pages; i++)
		backwards(i);
	least(&best[BACK], now() - start);
}

static void lz4_there(size_t i)
{
	static LZ4_stream_t state;

	made_len[i] = LZ4_compress_fast_extState(
		&state, pages + i * PAGE, made + i * PAGE, (int)PAGE, (int)PAGE, 1);
}

static void lz4_back(size_t i)
{
	if (LZ4_decompress_safe(made + i * PAGE, back + i * PAGE, made_len[i],
				(int)PAGE) != (int)PAGE)
		errx(1, "LZ4");
}

static void zstd_there(size_t i)
{
	static ZSTD_CCtx *c;

	if (!c)
		c = ZSTD_createCCtx();
	made_len[i] = (int)ZSTD_compressCCtx(c, made + i * PAGE, PAGE, pages + i * PAGE,
					     PAGE, 3);
}

static void zstd_back(size_t i)
{
	static ZSTD_DCtx *d;

	if (!d)
		d = ZSTD_createDCtx();
	if (ZSTD_decompressDCtx(d, back + i * PAGE, PAGE, made + i * PAGE,
				(size_t)made_len[i]) != PAGE)
		errx(1, "Zstandard");
}

static uint8_t key[32], nonce[24];
static uint8_t (*tags)[16];
static crypto_aead_aes256gcm_state aes;

static void aes_there(size_t i)
{
	memcpy(nonce, &i, sizeof(i));
	crypto_aead_aes256gcm_encrypt_detached_afternm((uint8_t *)made + i * PAGE,
						       tags[i], NULL,
						       (uint8_t *)pages + i * PAGE, PAGE,
						       NULL, 0, NULL, nonce, &aes);
}

static void aes_back(size_t i)
{
	memcpy(nonce, &i, sizeof(i));
	if (crypto_aead_aes256gcm_decrypt_detached_afternm(
		    (uint8_t *)back + i * PAGE, NULL, (uint8_t *)made + i * PAGE, PAGE,
		    tags[i], NULL, 0, nonce, &aes))
		errx(1, "AES");
}

static void chacha_there(size_t i)
{
	memcpy(nonce, &i, sizeof(i));
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
		(uint8_t *)made + i * PAGE, tags[i], NULL, (uint8_t *)pages + i * PAGE,
		PAGE, NULL, 0, NULL, nonce, key);
}

static void chacha_back(size_t i)
{
	memcpy(nonce, &i, sizeof(i));
	if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
		    (uint8_t *)back + i * PAGE, NULL, (uint8_t *)made + i * PAGE, PAGE,
		    tags[i], NULL, 0, nonce, key))
		errx(1, "XChaCha20");
}

/* ---- beside each other ------------------------------------------------------------- */

static const struct row {
	const char *spec, *less; /* less: what that alone takes is subtracted */
	there_fn *there;
	back_fn *back;
} rows[] = {
	{ "lz4", NULL, lz4_there, lz4_back },
	{ "zstd", NULL, zstd_there, zstd_back },
	{ "crypt:cipher=aes256gcm+ram", "ram", aes_there, aes_back },
	{ "crypt:cipher=xchacha20poly1305+ram", "ram", chacha_there, chacha_back },
};

static struct uhmm_device *open_device(struct uhmm_space *space, const char *spec)
{
	struct uhmm_device *device = NULL;

	if (spec && uhmm_device_open(space, spec, &device))
		errx(1, "%s: %s", spec, uhmm_strerror_spec());
	return device;
}

static void measure(struct uhmm_space *space, const struct row *row)
{
	struct uhmm_device *device = open_device(space, row->spec);
	struct uhmm_device *less = open_device(space, row->less);
	struct uhmm_io *io = calloc(nr_pages, sizeof(*io));
	struct uhmm_io *io_below = calloc(nr_pages, sizeof(*io));
	double best[WAYS] = { 0 }, bare[WAYS] = { 0 }, below[WAYS] = { 0 };
	double bytes = (double)(nr_pages * PAGE) / 1e6;
	enum way way;
	unsigned i;

	if (!io || !io_below)
		err(1, "calloc");
	for (i = 0; i < rounds; i++) {
		device_round(device, io, i == 0, best);
		bare_round(row->there, row->back, bare);
		if (less)
			device_round(less, io_below, i == 0, below);
	}
	for (way = THERE; way < WAYS; way++) {
		double took = best[way] - below[way];

		printf("%-36s %-6s %7.0f %7.0f %6.2f\n", row->spec,
		       way == THERE ? "store" : "load", bytes / took, bytes / bare[way],
		       bare[way] / took);
	}
	free(io);
	free(io_below);
	uhmm_device_close(space, device);
	if (less)
		uhmm_device_close(space, less);
}

int main(int argc, char **argv)
{
	struct uhmm_space *space;
	size_t i;

	nr_pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 16) * 256;
	rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 9;
	if (!nr_pages || !rounds)
		errx(2, "usage: bench-device [MiB [ROUNDS]]");
	if (sodium_init() < 0 || uhmm_space_create(NULL, &space))
		errx(1, "no space: see uhmm doctor");
	pages = map(nr_pages * PAGE);
	back = map(nr_pages * PAGE);
	made = map(nr_pages * PAGE);
	made_len = map(nr_pages * sizeof(*made_len));
	tags = map(nr_pages * sizeof(*tags));
	write_pages();
	randombytes_buf(key, sizeof(key));
	if (crypto_aead_aes256gcm_is_available())
		crypto_aead_aes256gcm_beforenm(&aes, key);
	printf("%-36s %-6s %7s %7s %6s\n", "device", "", "MB/s", "bare", "ratio");
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!strstr(rows[i].spec, "aes") || crypto_aead_aes256gcm_is_available())
			measure(space, &rows[i]);
	uhmm_space_destroy(space);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd: pages compressed with Zstandard in memory of this process. See devices/packed.h.
 *
 * Contexts are static (zstd.h: ZSTD_initStaticCCtx()): they lie in working memory and
 * nothing is allocated after open(). Frames have no magic number, no length and no
 * checksum: the store knows the length, and packed.c has a checksum of the page.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "devices/packed.h"

/*
 * A batch's pages cannot be faulted while it is stored: 4 pages take some 120 us where
 * docs/devices.md was measured.
 */
#define BATCH 4u
/* What Zstandard offers without more memory for each context (--ultra). */
#define LEVEL_MAX 19

/* The beginning of a set of working memory; behind it the two contexts. */
struct contexts {
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
} __attribute__((aligned(64)));

static const struct uhmm_option zstd_options[] = {
	{ .name = "size",
	  .type = UHMM_OPTION_SIZE,
	  .min = 1u << 20,
	  .help = "memory it may take for all pages (default: no limit)" },
	{ .name = "level",
	  .type = UHMM_OPTION_UINT,
	  .fallback = "3",
	  .min = 1,
	  .max = LEVEL_MAX,
	  .help = "higher is slower and compresses more" },
	{ .name = NULL },
};

/*
 * The library calls these where they are defined, which any program may do. Ours are
 * found first: nobody else's is called on a thread that resolves faults.
 */
#define TRACE_HOOK __attribute__((visibility("hidden")))
unsigned long long ZSTD_trace_compress_begin(const ZSTD_CCtx *c);
unsigned long long ZSTD_trace_decompress_begin(const ZSTD_DCtx *d);
void ZSTD_trace_compress_end(unsigned long long context, const void *trace);
void ZSTD_trace_decompress_end(unsigned long long context, const void *trace);

TRACE_HOOK unsigned long long ZSTD_trace_compress_begin(const ZSTD_CCtx *c)
{
	(void)c;
	return 0; /* it is not to be traced: the end is not called */
}

TRACE_HOOK unsigned long long ZSTD_trace_decompress_begin(const ZSTD_DCtx *d)
{
	(void)d;
	return 0;
}

TRACE_HOOK void ZSTD_trace_compress_end(unsigned long long context, const void *trace)
{
	(void)context;
	(void)trace;
}

TRACE_HOOK void ZSTD_trace_decompress_end(unsigned long long context, const void *trace)
{
	(void)context;
	(void)trace;
}

/* Both contexts' sizes, each a multiple of 64. */
static size_t pack_size(int level)
{
	ZSTD_compressionParameters p = ZSTD_getCParams(level, UHMM_PAGE_SIZE, 0);

	return (ZSTD_estimateCCtxSize_usingCParams(p) + 63) & ~(size_t)63;
}

static size_t unpack_size(void)
{
	return (ZSTD_estimateDCtxSize() + 63) & ~(size_t)63;
}

static bool is_set(ZSTD_CCtx *c, ZSTD_cParameter parameter, int value)
{
	return !ZSTD_isError(ZSTD_CCtx_setParameter(c, parameter, value));
}

static bool prepare(ZSTD_CCtx *c, ZSTD_DCtx *d, int level)
{
	return c && d && is_set(c, ZSTD_c_compressionLevel, level) &&
	       is_set(c, ZSTD_c_format, ZSTD_f_zstd1_magicless) &&
	       is_set(c, ZSTD_c_contentSizeFlag, 0) &&
	       !ZSTD_isError(
		       ZSTD_DCtx_setParameter(d, ZSTD_d_format, ZSTD_f_zstd1_magicless));
}

static void zstd_work_init(const struct packed_codec *codec, void *work)
{
	struct contexts *contexts = work;
	size_t size = pack_size(codec->level);
	char *memory = (char *)(contexts + 1);

	contexts->c = ZSTD_initStaticCCtx(memory, size);
	contexts->d = ZSTD_initStaticDCtx(memory + size, unpack_size());
	/* Where that fails nothing is packed, and nothing that was is unpacked. */
	if (!prepare(contexts->c, contexts->d, codec->level))
		contexts->c = NULL, contexts->d = NULL;
}

static uint32_t zstd_pack(const struct packed_codec *codec, void *work, const void *buf,
			  uint32_t len, void *out, uint32_t room)
{
	struct contexts *contexts = work;
	size_t n;

	(void)codec;
	if (!contexts->c)
		return 0;
	n = ZSTD_compress2(contexts->c, out, room, buf, len);
	return ZSTD_isError(n) ? 0 : (uint32_t)n;
}

static bool zstd_unpack(const struct packed_codec *codec, void *work, const void *data,
			uint32_t n, void *buf, uint32_t len)
{
	struct contexts *contexts = work;

	(void)codec;
	return contexts->d && ZSTD_decompressDCtx(contexts->d, buf, len, data, n) == len;
}

static int zstd_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct packed_codec codec = {
		.level = (int)args->values[1].number,
		.work_to_load = true,
		.work_init = zstd_work_init,
		.pack = zstd_pack,
		.unpack = zstd_unpack,
	};

	codec.work_size = sizeof(struct contexts) + pack_size(codec.level) +
			  unpack_size();
	return packed_open(&codec, args->values[0].number, args->next, dev, error);
}

const struct uhmm_driver uhmm_driver_zstd = {
	.size = sizeof(struct uhmm_driver),
	.name = "zstd",
	.summary = "memory compressed with Zstandard: smaller than lz4, and slower",
	.options = zstd_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MAY_LAYER | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = BATCH,
	.open = zstd_open,
	.close = packed_close,
	.submit = packed_submit,
	.stat = packed_stat,
};

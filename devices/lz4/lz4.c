/* SPDX-License-Identifier: Apache-2.0 */
/* lz4: pages compressed with LZ4 in memory of this process. See devices/packed.h. */
#include <lz4.h>

#include "devices/packed.h"

/* A batch's pages cannot be faulted while it is stored: 8 pages take some 30 us. */
#define BATCH 8u

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

static uint32_t lz4_pack(const struct packed_codec *codec, void *work, const void *buf,
			 uint32_t len, void *out, uint32_t room)
{
	int n = LZ4_compress_fast_extState(work, buf, out, (int)len, (int)room,
					   codec->level);

	return n > 0 ? (uint32_t)n : 0;
}

static bool lz4_unpack(const struct packed_codec *codec, void *work, const void *data,
		       uint32_t n, void *buf, uint32_t len)
{
	(void)codec;
	(void)work;
	return LZ4_decompress_safe(data, buf, (int)n, (int)len) == (int)len;
}

static int lz4_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct packed_codec codec = {
		.work_size = sizeof(LZ4_stream_t),
		.level = (int)args->values[1].number,
		.pack = lz4_pack,
		.unpack = lz4_unpack,
	};

	return packed_open(&codec, args->values[0].number, args->next, dev, error);
}

const struct uhmm_driver uhmm_driver_lz4 = {
	.size = sizeof(struct uhmm_driver),
	.name = "lz4",
	.summary = "memory compressed with LZ4",
	.options = lz4_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MAY_LAYER | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = BATCH,
	.open = lz4_open,
	.close = packed_close,
	.submit = packed_submit,
	.stat = packed_stat,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of devices that keep pages in fewer bytes: see packed.h. Those that keep them
 * in memory (packed_store.c) and on another device (packed_layer.c) have these in common.
 */
#ifndef UHMM_DEVICES_PACKED_PARTS_H
#define UHMM_DEVICES_PACKED_PARTS_H

#include "devices/count.h"
#include "devices/packed.h"
#include "devices/work.h"

/* What compressing must spare to be worth it: a sixteenth, and not nothing. */
#define PACKED_SPARE(len_) ((len_) / 16 + 1)

/* What one of the two does. */
struct packed_kind {
	void (*close)(void *dev);
	int (*submit)(void *dev, struct uhmm_batch *batch);
	void (*stat)(void *dev, struct uhmm_device_stat *stat);
};

/* The head of both. */
struct packed_head {
	const struct packed_kind *kind;
	struct packed_codec codec;
	/* A set: pages for what is packed, then the codec's memory. */
	struct work work;
	size_t packed_size; /* bytes of those pages */
	struct count count;
};

int packed_store_open(const struct packed_codec *codec, uint64_t limit_bytes, void **dev,
		      const char **error);
int packed_layer_open(const struct packed_codec *codec, struct uhmm_device *next,
		      void **dev, const char **error);

/* Sets with room for so many pages that are packed. The head is zeroed. */
bool packed_head_open(struct packed_head *head, const struct packed_kind *kind,
		      const struct packed_codec *codec, uint32_t pages);
/* A set's first page; what it has of the codec is ready. */
char *packed_work(struct packed_head *head, uint32_t set);
/* The codec's part of a set. */
void *packed_codec_work(const struct packed_head *head, uint32_t set);

/* Is buf, a page, one 64-bit word over and over? Most are not, and show it at once. */
bool packed_is_word(const uint64_t *buf);
void packed_fill(uint64_t *buf, uint64_t word);
/* buf[0..len) in out, a page: how many bytes, or 0: it is to be kept as it is. */
uint32_t packed_pack(struct packed_head *head, uint32_t set, const void *buf,
		     uint32_t len, void *out);

#endif

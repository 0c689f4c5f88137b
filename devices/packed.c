/* SPDX-License-Identifier: Apache-2.0 */
/* Pages in fewer bytes: which of the two it is, and what both do. See packed.h. */
#include <errno.h>
#include <string.h>

#include "devices/packed_parts.h"

int packed_open(const struct packed_codec *codec, uint64_t limit_bytes,
		struct uhmm_device *next, void **dev, const char **error)
{
	if (!next)
		return packed_store_open(codec, limit_bytes, dev, error);
	if (!limit_bytes)
		return packed_layer_open(codec, next, dev, error);
	*error = "size belongs to the device below, which keeps the pages";
	return -EINVAL;
}

void packed_close(void *dev)
{
	((struct packed_head *)dev)->kind->close(dev);
}

int packed_submit(void *dev, struct uhmm_batch *batch)
{
	return ((struct packed_head *)dev)->kind->submit(dev, batch);
}

void packed_stat(void *dev, struct uhmm_device_stat *stat)
{
	((struct packed_head *)dev)->kind->stat(dev, stat);
}

/* ---- working memory -------------------------------------------------------------- */

bool packed_head_open(struct packed_head *head, const struct packed_kind *kind,
		      const struct packed_codec *codec, uint32_t pages)
{
	head->kind = kind;
	head->codec = *codec;
	head->packed_size = pages * (size_t)UHMM_PAGE_SIZE;
	return work_open(&head->work, head->packed_size + codec->work_size);
}

void *packed_codec_work(const struct packed_head *head, uint32_t set)
{
	return work_at(&head->work, set) + head->packed_size;
}

char *packed_work(struct packed_head *head, uint32_t set)
{
	bool *ready = &head->work.owner[set].ready;

	if (!*ready && head->codec.work_init)
		head->codec.work_init(&head->codec, packed_codec_work(head, set));
	*ready = true;
	return work_at(&head->work, set);
}

/* ---- pages ----------------------------------------------------------------------- */

bool packed_is_word(const uint64_t *buf)
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

void packed_fill(uint64_t *buf, uint64_t word)
{
	size_t i;

	if (word == 0)
		memset(buf, 0, UHMM_PAGE_SIZE);
	else
		for (i = 0; i < UHMM_PAGE_SIZE / sizeof(*buf); i++)
			buf[i] = word;
}

uint32_t packed_pack(struct packed_head *head, uint32_t set, const void *buf,
		     uint32_t len, void *out)
{
	if (len <= PACKED_SPARE(len))
		return 0;
	return head->codec.pack(&head->codec, packed_codec_work(head, set), buf, len, out,
				len - PACKED_SPARE(len));
}

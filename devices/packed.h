/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that keep pages in fewer bytes: all but the codec. In memory of this process,
 * in the packed store (see <uhmm/device.h>), or on another device.
 *
 * A page that consists of one 64-bit word over and over is kept as that word, one of
 * zeros in no bytes at all; one that the codec cannot make smaller by a sixteenth is kept
 * as it is; all others are kept as the codec made them.
 *
 * A checksum of the page, taken before it was compressed, is kept with each. What a load
 * returns has been compared with it, so an error of memory, of the codec or of the device
 * below is -EIO and never data. (Zeros are the one value, as the store calls it, that is
 * put there: seven bits of check are not enough for any other.)
 *
 * Any thread. A codec may have working memory: devices/work.h. Nothing is allocated after
 * packed_open() but by the store, and chunks of a table.
 */
#ifndef UHMM_DEVICES_PACKED_H
#define UHMM_DEVICES_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include "uhmm/device.h"

struct packed_codec {
	size_t work_size;  /* bytes of a set of working memory, for either direction */
	bool work_to_load; /* unpack() needs it too */
	int level;         /* the codec's own */
	/* Makes a set, which is zeros, ready for use: once. NULL: there is no need. */
	void (*work_init)(const struct packed_codec *codec, void *work);
	/* buf[0..len) in out: how many bytes, or 0 if they are more than room. */
	uint32_t (*pack)(const struct packed_codec *codec, void *work, const void *buf,
			 uint32_t len, void *out, uint32_t room);
	/* Makes len bytes of data[0..n) again; false: they are not. work may be NULL. */
	bool (*unpack)(const struct packed_codec *codec, void *work, const void *data,
		       uint32_t n, void *buf, uint32_t len);
};

/*
 * limit_bytes: of the store and one thread's working memory, and more than that alone; 0:
 * no limit. next: the device below, which has no limit of
 * ours, or NULL. 0, or -errno and *error set.
 */
int packed_open(const struct packed_codec *codec, uint64_t limit_bytes,
		struct uhmm_device *next, void **dev, const char **error);
/* The members of a driver. */
void packed_close(void *dev);
int packed_submit(void *dev, struct uhmm_batch *batch);
void packed_stat(void *dev, struct uhmm_device_stat *stat);

#endif

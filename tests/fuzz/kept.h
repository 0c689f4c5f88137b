/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where drivers keep what they were given: for store.c, which changes it there. A driver
 * and its insides are in a file together, which takes the place of the archive's.
 */
#ifndef KEPT_H
#define KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/device.h"

extern const struct uhmm_driver uhmm_driver_lz4, uhmm_driver_ram, uhmm_driver_zstd;

/* Memory that one stored page has to itself. */
struct kept {
	unsigned char *at;
	size_t len;
};

/*
 * part: of a driver that keeps a page in several places. changed: what is there is not to
 * be believed any more.
 */
struct kept kept_packed(void *impl, uint64_t page, unsigned part, bool changed);
struct kept kept_ram(void *impl, uint64_t page, unsigned part, bool changed);

struct uhmm_store *kept_packed_store(void *impl);

#endif

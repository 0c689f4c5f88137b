/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a page that was encrypted is, and with what: a table whose places are the pages'
 * numbers. It grows by chunks, which stay. Any thread.
 */
#ifndef UHMM_DEVICES_CRYPT_SEALED_H
#define UHMM_DEVICES_CRYPT_SEALED_H

#include "devices/crypt/cipher.h"
#include "uhmm/device.h"

/* 2^16 places of a chunk, 3.5 MiB: memory is taken as they are used. */
#define SEALED_CHUNK_SHIFT 16
/* 2^32 places: 16 TiB of pages. */
#define SEALED_CHUNKS (UINT64_C(1) << 16)
/* Free places are kept in lists, so that threads seldom want the same. */
#define SEALED_LISTS 16u

struct sealed {
	uint64_t below; /* what it is called below; of a free one: the next, or 0 */
	struct nonce nonce;
	uint8_t tag[TAG_SIZE];
	uint32_t len; /* bytes */
};

struct sealed_list {
	struct uhmm_lock lock;
	uint64_t first; /* atomic: number + 1; 0: none */
} __attribute__((aligned(64)));

struct sealed_table {
	struct sealed **chunk; /* SEALED_CHUNKS; atomic */
	struct uhmm_lock grow;
	uint64_t used; /* atomic: places that were ever used are below */
	struct sealed_list list[SEALED_LISTS];
};

/* table is zeroed. False: no memory. */
bool sealed_open(struct sealed_table *table);
void sealed_close(struct sealed_table *table);
/* The number of a place that is the caller's, or UINT64_MAX: no memory. */
uint64_t sealed_take(struct sealed_table *table);
void sealed_give(struct sealed_table *table, uint64_t nr);
struct sealed *sealed_at(const struct sealed_table *table, uint64_t nr);
/* Bytes that the table takes. */
uint64_t sealed_bytes(const struct sealed_table *table);

#endif

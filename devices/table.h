/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a layer remembers of each page: records of one size, whose places are the pages'
 * numbers. It grows by chunks, which stay. Any thread.
 */
#ifndef UHMM_DEVICES_TABLE_H
#define UHMM_DEVICES_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "uhmm/device.h"

/* 2^16 places of a chunk: memory is taken as they are used. */
#define TABLE_CHUNK_SHIFT 16
/* 2^32 places: 16 TiB of pages. */
#define TABLE_CHUNKS (UINT64_C(1) << 16)
/* Free places are kept in lists, so that threads seldom want the same. */
#define TABLE_LISTS 16u

struct table_list {
	struct uhmm_lock lock;
	uint64_t first; /* atomic: number + 1; 0: none */
} __attribute__((aligned(64)));

struct table {
	size_t record_size;
	char **chunk; /* TABLE_CHUNKS; atomic */
	struct uhmm_lock grow;
	uint64_t used; /* atomic: places that were ever used are below */
	struct table_list list[TABLE_LISTS];
};

/* Records of 8 bytes or more, a multiple of 8. table is zeroed. False: no memory. */
bool table_open(struct table *table, size_t record_size);
void table_close(struct table *table);
/* The number of a place that is the caller's, or UINT64_MAX: no memory. */
uint64_t table_take(struct table *table);
void table_give(struct table *table, uint64_t nr);
/* Its record: as table_take() gives it, it holds anything. */
void *table_at(const struct table *table, uint64_t nr);
/* Bytes that the table takes. */
uint64_t table_bytes(const struct table *table);

#endif

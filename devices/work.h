/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Working memory of a driver, in sets of one size: as many as threads were ever seen to
 * use one at once, 64 at most. A set takes memory from when it is first used. Any thread.
 */
#ifndef UHMM_DEVICES_WORK_H
#define UHMM_DEVICES_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include "uhmm/device.h"

#define WORK_SETS 64u

/* The lock of a set; under it, whether its owner has made it ready. */
struct work_owner {
	struct uhmm_lock lock;
	bool ready;
} __attribute__((aligned(64)));

struct work {
	size_t size; /* of a set: whole pages */
	char *memory;
	uint32_t nr; /* atomic: sets that were used */
	struct work_owner owner[WORK_SETS];
};

/* Sets of at least size bytes, all zeros. work is zeroed. False: no memory. */
bool work_open(struct work *work, size_t size);
void work_close(struct work *work);
/* The number of a set that is the caller's until work_give(). */
uint32_t work_take(struct work *work);
void work_give(struct work *work, uint32_t set);
char *work_at(const struct work *work, uint32_t set);
/* Bytes that the sets take. */
uint64_t work_bytes(const struct work *work);

#endif

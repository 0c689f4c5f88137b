/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load buffers for threads that have none of their own: application threads inside an API
 * call, and those that resolve their own fault in a signal handler, whose stack may be
 * small. A bitmap of free ones; a thread that finds none waits for one. Their memory
 * appears when first used.
 */
#include <errno.h>

#include "lib/fault.h"

void fault_buf_get(struct uhmm_space *sp, struct fault_buf *buf)
{
	struct fault_bufs *bufs = &sp->bufs;
	uint64_t free;
	unsigned i;

	buf->tid = 0;
	for (;;) {
		uint32_t seen = __atomic_load_n(&bufs->returned, __ATOMIC_ACQUIRE);

		free = __atomic_load_n(&bufs->free, __ATOMIC_ACQUIRE);
		while (free) {
			i = (unsigned)__builtin_ctzll(free);
			if (__atomic_compare_exchange_n(
				    &bufs->free, &free, free & ~(UINT64_C(1) << i), false,
				    __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
				buf->bytes = bufs->bytes +
					     (size_t)i * FAULT_BUF_PAGES * PAGE_SIZE;
				buf->nr_pages = FAULT_BUF_PAGES;
				return;
			}
		}
		os_wait(&bufs->returned, seen, -1);
	}
}

void fault_buf_put(struct uhmm_space *sp, struct fault_buf *buf)
{
	struct fault_bufs *bufs = &sp->bufs;
	size_t i = (size_t)(buf->bytes - bufs->bytes) / (FAULT_BUF_PAGES * PAGE_SIZE);

	if (__atomic_fetch_or(&bufs->free, UINT64_C(1) << i, __ATOMIC_RELEASE) == 0) {
		__atomic_fetch_add(&bufs->returned, 1, __ATOMIC_RELEASE);
		os_wake(&bufs->returned, FAULT_BUFS);
	}
}

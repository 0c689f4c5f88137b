/* SPDX-License-Identifier: Apache-2.0 */
/* Working memory, a set for each thread that is at work: see work.h. */
#include "devices/work.h"

bool work_open(struct work *work, size_t size)
{
	work->size = (size + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE * UHMM_PAGE_SIZE;
	work->memory = uhmm_host_map(WORK_SETS * work->size);
	return work->memory;
}

void work_close(struct work *work)
{
	if (work->memory)
		uhmm_host_unmap(work->memory, WORK_SETS * work->size);
}

uint32_t work_take(struct work *work)
{
	uint32_t cpu = uhmm_host_cpu(), nr, i;

	for (;;) {
		nr = __atomic_load_n(&work->nr, __ATOMIC_RELAXED);
		for (i = 0; i < nr; i++)
			if (uhmm_trylock(&work->owner[(cpu + i) % nr].lock))
				return (cpu + i) % nr;
		if (nr == WORK_SETS)
			break;
		__atomic_compare_exchange_n(&work->nr, &nr, nr + 1, 0, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
	}
	uhmm_lock(&work->owner[cpu % WORK_SETS].lock);
	return cpu % WORK_SETS;
}

void work_give(struct work *work, uint32_t set)
{
	uhmm_unlock(&work->owner[set].lock);
}

char *work_at(const struct work *work, uint32_t set)
{
	return work->memory + set * work->size;
}

uint64_t work_bytes(const struct work *work)
{
	return __atomic_load_n(&work->nr, __ATOMIC_RELAXED) * work->size;
}

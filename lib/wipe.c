/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiped mappings. Costs a few system calls for each mapping with migrated pages. A page
 * that the parent's reader filled in the child before it took over is no witness.
 */
#include "lib/wipe.h"

#include "lib/event.h"
#include "lib/fault.h"
#include "lib/page.h"

static int first(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr, bool folio)
{
	uintptr_t *found = ctx;

	(void)chunk;
	(void)entry;
	(void)folio;
	*found = addr;
	return 1;
}

/* The next mapping from `at` on that has migrated pages; *found is one of them. */
static bool next_mapping(struct uhmm_space *sp, uintptr_t at, struct os_vma *vma,
			 uintptr_t *found)
{
	for (;;) {
		if (!page_walk(sp, at, (uintptr_t)1 << ADDRESS_BITS, first, found))
			return false;
		if (*found < at)
			*found = at; /* a folio that began in the mapping before */
		if (os_vma_next(*found, false, vma))
			return false;
		if (vma->start <= *found)
			return true;
		at = vma->start; /* unmapped meanwhile */
	}
}

void wipe_witness(struct uhmm_space *sp)
{
	struct os_vma vma;
	struct os_extent ext;
	uintptr_t at = 0, found, walked;

	while (next_mapping(sp, at, &vma, &found)) {
		at = vma.end;
		if (os_scan(vma.start, vma.end, 1, &ext, 1, &walked) <= 0)
			fault_range(sp, found, found + PAGE_SIZE, NULL);
	}
}

static bool filled_by_parent(const struct frozen_log *log, uintptr_t addr)
{
	uint32_t i, nr = __atomic_load_n(&log->nr, __ATOMIC_ACQUIRE);

	for (i = 0; i < nr; i++)
		if (log->record[i].kind == FROZEN_FILL && log->record[i].from == addr)
			return true;
	return false;
}

/* Is there a page that the kernel copied? */
static bool has_witness(struct uhmm_space *sp, const struct os_vma *vma)
{
	uintptr_t at = vma->start, walked, addr;
	struct os_extent ext;

	while (at < vma->end && os_scan(at, vma->end, 1, &ext, 1, &walked) > 0) {
		addr = ext.start;
		if (!filled_by_parent(&sp->fork.shared->child, addr))
			return true;
		at = addr + PAGE_SIZE;
	}
	return false;
}

void wipe_apply(struct uhmm_space *sp)
{
	struct os_vma vma;
	uintptr_t at = 0, found;

	while (next_mapping(sp, at, &vma, &found)) {
		at = vma.end;
		if (!has_witness(sp, &vma))
			event_discard(sp, vma.start, vma.end, false);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that ask for single pages: snapshots, and exclusive access. */
#include <errno.h>

#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"

/* ---- snapshot --------------------------------------------------------------------- */

#define PMD_ORDER 9u
#define PUD_ORDER 18u

static unsigned char where(const struct mirror *m, uint64_t pfn)
{
	struct uhmm_pagemap *map;
	uint64_t page;

	if (pfn & UHMM_RANGE_ZERO)
		return DMIRROR_PROT_ZERO;
	map = uhmm_range_pagemap(m->space, pfn, &page);
	if (!map)
		return 0;
	/* Foreign private pages are not reported: then it is a coherent one. */
	if (map != m->device->pagemap)
		return DMIRROR_PROT_COHERENT_REMOTE;
	return m->device->coherent ? DMIRROR_PROT_COHERENT_LOCAL :
				     DMIRROR_PROT_PRIVATE_LOCAL;
}

static unsigned char prot_of(const struct mirror *m, uint64_t pfn)
{
	unsigned char prot;

	if (pfn & UHMM_RANGE_ERROR)
		return DMIRROR_PROT_ERROR;
	if (!(pfn & UHMM_RANGE_VALID))
		return DMIRROR_PROT_NONE;
	prot = where(m, pfn);
	prot |= pfn & UHMM_RANGE_WRITE ? DMIRROR_PROT_WRITE : DMIRROR_PROT_READ;
	if (uhmm_range_order(pfn) >= PUD_ORDER)
		prot |= DMIRROR_PROT_PUD;
	else if (uhmm_range_order(pfn) >= PMD_ORDER)
		prot |= DMIRROR_PROT_PMD;
	return prot;
}

static int snapshot_window(struct work *w, uintptr_t start, uintptr_t end, uint64_t ptr)
{
	unsigned char prot[WINDOW_PAGES];
	size_t nr = (end - start) / PAGE, i;
	int r = mirror_look(w, start, end);

	if (r)
		return r;
	for (i = 0; i < nr; i++)
		prot[i] = prot_of(w->mirror, w->pfns[i]);
	return copy_to_program(ptr, prot, nr);
}

int call_snapshot(struct work *w, struct dmirror_cmd *cmd)
{
	uintptr_t addr = cmd->addr, end = addr + cmd->npages * PAGE, next;
	int r = 0;

	for (; !r && addr < end; addr = next) {
		next = end - addr < WINDOW ? end : addr + WINDOW;
		r = snapshot_window(w, addr, next, cmd->ptr + cmd->cpages);
		if (!r)
			cmd->cpages += (next - addr) / PAGE;
	}
	return r;
}

/* ---- exclusive -------------------------------------------------------------------- */

/* With the lock of the mappings. */
static int exclude(struct work *w, uintptr_t addr)
{
	struct mirror *m = w->mirror;
	uint64_t seq, own_seq;
	uhmm_pfn_t pfn;
	void *bytes;
	int r = mirror_reserve(m, 1);

	if (r)
		return r;
	own_seq = __atomic_load_n(&m->own_seq, __ATOMIC_ACQUIRE);
	seq = uhmm_notifier_read_begin(m->notifier);
	r = uhmm_make_exclusive(m->space, addr, m, &pfn);
	if (r)
		return r;
	bytes = uhmm_pfn_bytes(m->space, pfn);
	uhmm_lock(&m->lock);
	if (uhmm_notifier_read_retry(m->notifier, seq) || m->own_seq != own_seq ||
	    !table_set(&m->table, addr, (uintptr_t)bytes | ENTRY_EXCLUSIVE))
		r = -EBUSY;
	uhmm_unlock(&m->lock);
	return r;
}

static int exclude_page(struct work *w, uintptr_t addr)
{
	int64_t until = now_ms() + TRY_MS;
	sigset_t signals;
	int r;

	do {
		maps_lock_read(&signals);
		r = exclude(w, addr);
		maps_unlock(&signals);
	} while (r == -EBUSY && now_ms() < until);
	return r;
}

int call_exclusive(struct work *w, struct dmirror_cmd *cmd)
{
	uintptr_t addr = cmd->addr, end = addr + cmd->npages * PAGE;
	int r = bounce_map(w, cmd->npages);

	for (; !r && addr < end; addr += PAGE)
		r = exclude_page(w, addr);
	if (!r)
		r = bounce_read(w, cmd->addr, end);
	if (!r)
		r = copy_to_program(cmd->ptr, w->bounce, w->bounce_size);
	cmd->cpages = w->done;
	return r;
}

int call_check_exclusive(struct work *w, struct dmirror_cmd *cmd)
{
	uintptr_t addr = cmd->addr, end = addr + cmd->npages * PAGE;
	struct mirror *m = w->mirror;
	entry_t e;

	do {
		uhmm_lock(&m->lock);
		e = table_next(&m->table, &addr, end);
		uhmm_unlock(&m->lock);
		addr += PAGE;
	} while (e && !(e & ENTRY_EXCLUSIVE) && addr < end);
	return e & ENTRY_EXCLUSIVE ? -EPERM : 0;
}

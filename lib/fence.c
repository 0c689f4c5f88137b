/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence keeps the mappings it registered in a sorted array and merges the next walk
 * over /proc/self/maps into it: registering what is known already would cost a system call
 * that takes the address space's lock for each mapping, each time.
 */
#include "lib/fence.h"

#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/range.h"

int fence_init(struct uhmm_space *sp)
{
	sp->fence.known = uhmm_host_map(2 * FENCE_MAX * sizeof(struct range));
	return sp->fence.known ? 0 : -1;
}

void fence_fini(struct uhmm_space *sp)
{
	if (sp->fence.known)
		uhmm_host_unmap(sp->fence.known, 2 * FENCE_MAX * sizeof(struct range));
	sp->fence.known = NULL;
}

/* Registered with the gate entered: an UNMAP applied meanwhile would be forgotten. */
static bool put_up(struct uhmm_space *sp, const struct os_vma *vma)
{
	unsigned shard = gate_enter(&sp->gate);
	struct range range = { vma->start, vma->end };
	int r = register_mapping(sp, &range);

	gate_leave(&sp->gate, shard);
	return r == 0;
}

void fence_raise(struct uhmm_space *sp)
{
	struct fence *f = &sp->fence;
	struct range *old = f->known, *next = f->known + FENCE_MAX;
	uint32_t nr_old, nr = 0, i = 0;
	struct os_vma vma;
	uintptr_t at = 0;

	uhmm_lock(&f->lock);
	nr_old = f->nr;
	f->forgotten = false;
	uhmm_unlock(&f->lock);
	while (nr < FENCE_MAX && os_vma_next(at, true, &vma) == 0) {
		at = vma.end;
		if (!space_manages(sp, &vma))
			continue;
		while (i < nr_old && old[i].start < vma.start)
			i++;
		if (!(i < nr_old && old[i].start == vma.start && old[i].end == vma.end) &&
		    !put_up(sp, &vma))
			continue;
		next[nr++] = (struct range){ vma.start, vma.end };
	}
	uhmm_lock(&f->lock);
	/* Forgotten meanwhile: unknown again, whatever this walk saw. */
	if (f->forgotten)
		nr = 0;
	for (i = 0; i < nr; i++)
		old[i] = next[i];
	f->nr = nr;
	uhmm_unlock(&f->lock);
}

void fence_forget(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	struct fence *f = &sp->fence;
	uint32_t i, lo = 0, hi;

	if (!f->known)
		return;
	uhmm_lock(&f->lock);
	f->forgotten = true;
	for (hi = f->nr; lo < hi;) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (f->known[mid].end <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* An end that no mapping has: never found equal, and the order stays. */
	for (i = lo; i < f->nr && f->known[i].start < end; i++)
		f->known[i].end = f->known[i].start;
	uhmm_unlock(&f->lock);
}

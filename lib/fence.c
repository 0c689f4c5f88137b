/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence keeps the mappings it registered in a sorted array and merges the next walk
 * over /proc/self/maps into it: registering what is known already would cost a system
 * call that takes the address space's lock for each mapping, each time.
 */
#include "lib/fence.h"

#include <errno.h>

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
static int put_up(struct uhmm_space *sp, const struct range *run)
{
	unsigned shard = gate_enter(&sp->gate);
	int r = register_run(sp, run);

	gate_leave(&sp->gate, shard);
	return r;
}

/*
 * The next run of adjacent private anonymous mappings, some of which is ours to manage.
 * They are registered together, whatever their protection: pieces that mprotect() makes
 * equal again must become one mapping again, or the program's mremap() of it would fail.
 */
static bool next_run(struct uhmm_space *sp, uintptr_t at, struct range *run)
{
	struct range piece;
	struct os_vma vma;
	bool managed = false;

	*run = (struct range){ 0, 0 };
	while (os_vma_next(at, false, &vma) == 0 && !(vma.start >> ADDRESS_BITS)) {
		bool anon = (vma.kind == OS_VMA_ANON || vma.kind == OS_VMA_HEAP) &&
			    space_clip(sp, vma.start, vma.end, &piece);

		if (managed && (!anon || vma.start != run->end))
			return true;
		if (!anon || vma.start != run->end) {
			run->start = vma.start;
			managed = false;
		}
		if (anon && space_manages(sp, &vma))
			managed = true;
		at = run->end = vma.end;
		if (!anon)
			run->end = 0;
	}
	return managed;
}

/* What of a run none of the known ranges from known[0] on covers. */
static void note_news(struct range_set *news, const struct range *run,
		      const struct range *known, uint32_t nr)
{
	uintptr_t at = run->start;

	for (; nr-- && known->start < run->end; known++) {
		if (known->start > at)
			range_add_or_all(news, at, known->start);
		if (known->end > at)
			at = known->end;
	}
	if (at < run->end)
		range_add_or_all(news, at, run->end);
}

bool fence_is_current(struct uhmm_space *sp)
{
	unsigned shard = gate_enter(&sp->gate);
	bool unread = event_unread(sp);

	gate_leave(&sp->gate, shard);
	return !unread;
}

bool fence_has_gaps(const struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->fence.forgotten, __ATOMIC_ACQUIRE);
}

bool fence_raise(struct uhmm_space *sp, struct range_set *news)
{
	struct fence *f = &sp->fence;
	struct range *old = f->known, *next = f->known + FENCE_MAX, run;
	uint32_t nr_old, nr = 0, i = 0;
	uintptr_t at = 0;
	bool whole = true;
	int r;

	uhmm_lock(&f->lock);
	nr_old = f->nr;
	__atomic_store_n(&f->forgotten, false, __ATOMIC_RELAXED);
	uhmm_unlock(&f->lock);
	for (; nr < FENCE_MAX && next_run(sp, at, &run); at = run.end) {
		while (i < nr_old && old[i].start < run.start)
			i++;
		if (!(i < nr_old && old[i].start == run.start && old[i].end == run.end)) {
			uint32_t before = i ? i - 1 : 0;

			r = put_up(sp, &run);
			if (r == -EAGAIN || r == -ENOMEM)
				whole = false;
			if (r)
				continue;
			note_news(news, &run, old + before, nr_old - before);
		}
		next[nr++] = run;
	}
	uhmm_lock(&f->lock);
	/* Forgotten meanwhile: unknown again, whatever this walk saw. */
	if (f->forgotten)
		nr = 0;
	for (i = 0; i < nr; i++)
		old[i] = next[i];
	f->nr = nr;
	uhmm_unlock(&f->lock);
	return whole && !fence_has_gaps(sp);
}

void fence_forget(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	struct fence *f = &sp->fence;
	uint32_t i, lo = 0, hi;

	if (!f->known)
		return;
	uhmm_lock(&f->lock);
	__atomic_store_n(&f->forgotten, true, __ATOMIC_RELEASE);
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

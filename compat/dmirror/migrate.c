/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migration to the device and back: three steps, a window at a time, as migrate.h says
 * that it is done. The table has what has moved before the program can have it again.
 */
#include <errno.h>
#include <string.h>

#include "compat/dmirror/convert.h"
#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"

/* ---- one window ------------------------------------------------------------------- */

static bool is_moving(const struct work *w, size_t i)
{
	return (w->src[i] & UHMM_PFN_MIGRATE) != 0;
}

/* Is the window one huge page? Windows end where those do, so it is all of it. */
static bool is_folio(const struct work *w)
{
	return is_moving(w, 0) && w->src[0] & UHMM_PFN_COMPOUND;
}

/* nr pages of the source from its page `first` on, or zeros. */
static void copy(struct work *w, uhmm_pfn_t dst, uhmm_pfn_t src, size_t first, size_t nr)
{
	const struct device *d = w->mirror->device;
	void *to = device_pfn_bytes(d, dst);

	if (uhmm_pfn_is_valid(src))
		memcpy(to, (const char *)device_pfn_bytes(d, src) + first * PAGE,
		       nr * PAGE);
	else
		memset(to, 0, nr * PAGE);
}

static bool must_fail(struct mirror *m)
{
	return __atomic_fetch_and(&m->flags, ~DMIRROR_FLAG_FAIL_ALLOC, __ATOMIC_ACQ_REL) &
	       DMIRROR_FLAG_FAIL_ALLOC;
}

static bool fill_folio(struct work *w, bool to_device)
{
	struct mirror *m = w->mirror;

	if (must_fail(m) || (to_device ? !device_alloc_folio(m->device, &w->dst[0]) :
					 uhmm_folio_alloc(m->space, &w->dst[0]) != 0))
		return false;
	copy(w, w->dst[0], w->src[0], 0, UHMM_FOLIO_PAGES);
	return true;
}

static size_t alloc(struct work *w, bool to_device, size_t nr)
{
	struct mirror *m = w->mirror;
	int n;

	if (to_device)
		return device_alloc(m->device, nr, w->pfns);
	n = nr ? uhmm_page_alloc(m->space, w->pfns, (unsigned)nr) : 0;
	return n > 0 ? (size_t)n : 0;
}

/* Destinations for pages that move, and their bytes. False: there was not enough. */
static bool fill_destinations(struct work *w, bool to_device)
{
	bool folio = is_folio(w);
	size_t i, want = 0, got, next = 0;

	if (folio && fill_folio(w, to_device))
		return true;
	/* A folio that is none at its destination goes page by page. */
	for (i = 0; i < w->migrate.npages; i++)
		want += folio || is_moving(w, i);
	/* A coherent device has no folios; as many pages are tried as if it had. */
	if (want && must_fail(w->mirror) && want < WINDOW_PAGES)
		want--;
	got = alloc(w, to_device, want);
	for (i = 0; i < w->migrate.npages && next < got; i++) {
		if (!folio && !is_moving(w, i))
			continue;
		w->dst[i] = w->pfns[next++];
		copy(w, w->dst[i], w->src[folio ? 0 : i], folio ? i : 0, 1);
	}
	return got == want;
}

/* The table's entry of a page that has moved. */
static entry_t moved_entry(const struct work *w, size_t i)
{
	const struct mirror *m = w->mirror;
	size_t at = is_folio(w) ? 0 : i;
	entry_t flags = w->src[at] & UHMM_PFN_WRITE ? ENTRY_WRITE : 0;
	uint64_t page;

	if (!is_moving(w, at) || !uhmm_pfn_pagemap(m->space, w->dst[at], &page))
		return 0;
	if (m->device->coherent)
		return ENTRY_MEMORY | flags;
	return (page + i - at) << PAGE_SHIFT | ENTRY_DEVICE | flags;
}

/* What is on the device now. False: something has happened, which is not to be undone. */
static bool store(struct work *w, uint64_t seq)
{
	struct mirror *m = w->mirror;
	bool done;
	size_t i;

	for (i = 0; i < w->migrate.npages; i++)
		w->entries[i] = moved_entry(w, i);
	uhmm_lock(&m->lock);
	__atomic_fetch_add(&m->own_seq, 1, __ATOMIC_RELEASE);
	done = !uhmm_notifier_read_retry(m->notifier, seq);
	for (i = 0; done && i < w->migrate.npages; i++)
		if (w->entries[i])
			done = table_set(&m->table, w->migrate.start + i * PAGE,
					 w->entries[i]);
	uhmm_unlock(&m->lock);
	return done;
}

static int begin(struct work *w, uintptr_t start, uintptr_t end, uint32_t flags,
		 const void *owner)
{
	w->migrate = (struct uhmm_migrate){
		.size = sizeof(w->migrate),
		.start = start,
		.end = end,
		.src = w->src,
		.dst = w->dst,
		.owner = owner,
		.flags = flags,
	};
	return uhmm_migrate_setup(w->mirror->space, &w->migrate);
}

/* What may not be written, too, as we have the lock of the mappings; and folios. */
static uint32_t select_flags(const struct device *d)
{
	return UHMM_SELECT_READONLY | (d->coherent ? 0 : UHMM_SELECT_COMPOUND);
}

static int window_to_dev(struct work *w, uintptr_t start, uintptr_t end)
{
	struct mirror *m = w->mirror;
	uint32_t flags = UHMM_SELECT_SYSTEM | select_flags(m->device);
	uint64_t seq;
	bool stored;
	int r = mirror_reserve(m, WINDOW_PAGES);

	if (!r)
		r = begin(w, start, end, flags, m);
	if (r)
		return r;
	fill_destinations(w, true);
	seq = uhmm_notifier_read_begin(m->notifier);
	uhmm_migrate_pages(m->space, &w->migrate);
	stored = store(w, seq);
	uhmm_migrate_finalize(m->space, &w->migrate);
	/* Some may have been unmapped or discarded meanwhile. */
	return stored ? 0 : mirror_adopt(w, start, end);
}

static int window_to_sys(struct work *w, uintptr_t start, uintptr_t end, uint64_t *moved)
{
	struct mirror *m = w->mirror;
	uint32_t type = m->device->coherent ? UHMM_SELECT_DEVICE_COHERENT :
					      UHMM_SELECT_DEVICE_PRIVATE;
	int r = begin(w, start, end, type | select_flags(m->device), m->device);
	size_t i;

	if (r)
		return r;
	if (!fill_destinations(w, false))
		r = -ENOMEM;
	uhmm_migrate_pages(m->space, &w->migrate);
	for (i = 0; i < w->migrate.npages; i++)
		*moved += uhmm_pfn_is_valid(w->src[i]) && is_moving(w, i);
	uhmm_migrate_finalize(m->space, &w->migrate);
	return r;
}

/* ---- a range ---------------------------------------------------------------------- */

/* The window from addr on that is within one mapping; *end of it. */
static int next_window(struct work *w, uintptr_t addr, uintptr_t limit, uintptr_t *end,
		       bool *migrates)
{
	struct vma vma;

	if (!vma_find(&w->cursor, addr, &vma) || !vma.read || vma.kind == VMA_SPECIAL)
		return -EINVAL;
	*end = vma.end < limit ? vma.end : limit;
	/* Windows end where huge pages do. */
	if (*end - addr > WINDOW)
		*end = (addr + WINDOW) & ~(WINDOW - 1);
	*migrates = keep_clip(&w->keep, addr, end) && vma.kind == VMA_ANON;
	return 0;
}

static int migrate_range(struct work *w, const struct dmirror_cmd *cmd, uint64_t *moved)
{
	uintptr_t addr = cmd->addr, limit = addr + cmd->npages * PAGE, end;
	bool migrates;
	int r = 0;

	vma_begin(&w->cursor);
	for (; !r && addr < limit; addr = end) {
		r = next_window(w, addr, limit, &end, &migrates);
		if (r || !migrates)
			continue;
		r = moved ? window_to_sys(w, addr, end, moved) :
			    window_to_dev(w, addr, end);
	}
	vma_end(&w->cursor);
	return r;
}

int call_migrate_to_dev(struct work *w, struct dmirror_cmd *cmd)
{
	uintptr_t start = cmd->addr, end = start + cmd->npages * PAGE;
	sigset_t signals;
	int r = bounce_map(w, cmd->npages);

	if (r)
		return r;
	convert_range(w, start, end);
	maps_lock_read(&signals);
	r = migrate_range(w, cmd, NULL);
	maps_unlock(&signals);
	if (!r)
		r = bounce_read(w, start, end);
	if (!r)
		r = copy_to_program(cmd->ptr, w->bounce, w->bounce_size);
	cmd->cpages = w->done;
	return r;
}

int call_migrate_to_sys(struct work *w, struct dmirror_cmd *cmd)
{
	sigset_t signals;
	int r;

	maps_lock_read(&signals);
	r = migrate_range(w, cmd, &cmd->cpages);
	maps_unlock(&signals);
	return r;
}

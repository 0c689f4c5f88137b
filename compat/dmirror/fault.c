/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's faults: from the program's mappings to the mirror's table, as range.h says
 * that it is done.
 */
#include <errno.h>

#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"

int mirror_reserve(struct mirror *m, size_t nr_pages)
{
	size_t nodes = table_nodes(nr_pages);
	struct slab *slab;
	bool enough;

	uhmm_lock(&m->lock);
	enough = m->table.nr_spare >= nodes;
	uhmm_unlock(&m->lock);
	if (enough)
		return 0;
	slab = table_slab(nodes);
	if (!slab)
		return -ENOMEM;
	uhmm_lock(&m->lock);
	table_add(&m->table, slab);
	uhmm_unlock(&m->lock);
	return 0;
}

/* ---- what the library says, as entries -------------------------------------------- */

/* Which pages go into the table. */
enum take {
	TAKE_ALL,
	TAKE_WRITABLE,
	TAKE_OWN, /* only what is on the mirror's own device, without a fault */
};

static entry_t entry_of(const struct mirror *m, uint64_t pfn, enum take which)
{
	entry_t flags = pfn & UHMM_RANGE_WRITE ? ENTRY_WRITE : 0;
	struct uhmm_pagemap *map;
	uint64_t page = 0;

	if (!(pfn & UHMM_RANGE_VALID))
		return 0;
	map = uhmm_range_pagemap(m->space, pfn, &page);
	if (map != m->device->pagemap && which == TAKE_OWN)
		return 0;
	if (map == m->device->pagemap && !m->device->coherent)
		return page << PAGE_SHIFT | ENTRY_DEVICE | flags;
	/* In memory, or on a coherent device: there for the program, and so for us. */
	return ENTRY_MEMORY | flags;
}

static int take(struct work *w, enum take which)
{
	size_t i, nr = (w->range.end - w->range.start) / PAGE;

	for (i = 0; i < nr; i++) {
		w->entries[i] = entry_of(w->mirror, w->pfns[i], which);
		if (which == TAKE_WRITABLE && !(w->entries[i] & ENTRY_WRITE))
			return -EFAULT;
	}
	return 0;
}

/* One attempt at w->pfns. With the lock of the mappings. */
static int look_once(struct work *w, uintptr_t start, uintptr_t end, uint64_t wanted)
{
	const struct mirror *m = w->mirror;

	w->range = (struct uhmm_range){
		.size = sizeof(w->range),
		.notifier = m->notifier,
		.notifier_seq = uhmm_notifier_read_begin(m->notifier),
		.start = start,
		.end = end,
		.pfns = w->pfns,
		.default_flags = wanted,
		.dev_private_owner = m->device,
	};
	return uhmm_range_fault(&w->range);
}

/* Puts w->entries into the table, if nothing has happened since. */
static int store(struct work *w, uint64_t own_seq)
{
	struct mirror *m = w->mirror;
	uintptr_t addr;
	size_t i = 0;
	int r = 0;

	uhmm_lock(&m->lock);
	if (uhmm_notifier_read_retry(m->notifier, w->range.notifier_seq) ||
	    m->own_seq != own_seq)
		r = -EBUSY;
	for (addr = w->range.start; !r && addr < w->range.end; addr += PAGE, i++)
		if (w->entries[i] && !table_set(&m->table, addr, w->entries[i]))
			r = -EBUSY; /* others had our nodes; what is set is right */
	uhmm_unlock(&m->lock);
	return r;
}

/* With the lock of the mappings. */
static int window_once(struct work *w, uintptr_t start, uintptr_t end, enum take which)
{
	static const uint64_t wanted[] = {
		[TAKE_ALL] = UHMM_RANGE_REQ_FAULT,
		[TAKE_WRITABLE] = UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE,
		[TAKE_OWN] = 0,
	};
	struct mirror *m = w->mirror;
	uint64_t own_seq;
	int r = mirror_reserve(m, WINDOW_PAGES);

	if (r)
		return r;
	own_seq = __atomic_load_n(&m->own_seq, __ATOMIC_ACQUIRE);
	r = look_once(w, start, end, wanted[which]);
	if (!r)
		r = take(w, which);
	return r ? r : store(w, own_seq);
}

/* Not longer than TRY_MS, as one page of it may be in many hands. */
static int window(struct work *w, uintptr_t start, uintptr_t end, enum take which)
{
	int64_t until = now_ms() + TRY_MS;
	sigset_t signals;
	int r;

	do {
		maps_lock_read(&signals);
		r = window_once(w, start, end, which);
		maps_unlock(&signals);
	} while (r == -EBUSY && now_ms() < until);
	return r;
}

int mirror_fault(struct work *w, uintptr_t start, uintptr_t end, bool write)
{
	uintptr_t next;
	int r = 0;

	for (; !r && start < end; start = next) {
		next = end - start < WINDOW ? end : start + WINDOW;
		r = window(w, start, next, write ? TAKE_WRITABLE : TAKE_ALL);
	}
	return r;
}

int mirror_adopt(struct work *w, uintptr_t start, uintptr_t end)
{
	int64_t until = now_ms() + TRY_MS;
	int r;

	do
		r = window_once(w, start, end, TAKE_OWN);
	while (r == -EBUSY && now_ms() < until);
	return r;
}

int mirror_look(struct work *w, uintptr_t start, uintptr_t end)
{
	int64_t until = now_ms() + TRY_MS;
	sigset_t signals;
	int r;

	do {
		maps_lock_read(&signals);
		r = look_once(w, start, end, 0);
		maps_unlock(&signals);
	} while (r == -EBUSY && now_ms() < until);
	return r;
}

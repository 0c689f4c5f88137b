/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/uhmm.h>. Arguments are checked here; the caller's memory (results, stats) is only
 * touched outside of the world, because touching it may fault.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/device.h"
#include "lib/fault.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/inline.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap_fault.h"
#include "lib/populate.h"
#include "lib/range.h"
#include "lib/reclaim.h"
#include "lib/registry.h"
#include "lib/space.h"

static __thread char spec_error_text[DEVICE_ERROR_MAX];

const char *uhmm_version(void)
{
	return "0.1.0";
}

const char *uhmm_strerror_spec(void)
{
	return spec_error_text;
}

/* ---- spaces ----------------------------------------------------------------------- */

static int create(const struct space_config *config, struct uhmm_space **space)
{
	struct uhmm_space *sp;
	int r = space_create(config, &sp);

	if (r)
		return r;
	r = space_start(sp);
	if (!r)
		r = registry_add(sp);
	if (r)
		space_destroy(sp);
	else
		*space = sp;
	return r;
}

int uhmm_space_create(const struct uhmm_space_config *config, struct uhmm_space **space)
{
	struct space_config c = { 0 };
	uint64_t signals;
	int r;

	if (config) {
		if (config->size < sizeof(*config) || config->flags ||
		    config->delivery > UHMM_DELIVERY_INLINE)
			return -EINVAL;
		c.delivery = config->delivery;
		c.limit_pages = (int64_t)(config->budget_bytes >> PAGE_SHIFT);
	}
	if (c.delivery == UHMM_DELIVERY_INLINE) {
		r = inline_install();
		if (r)
			return r;
	}
	registry_lock(&signals);
	r = create(&c, space);
	registry_unlock(&signals);
	return r;
}

int uhmm_space_destroy(struct uhmm_space *sp)
{
	bool was_inline;
	uint64_t signals;
	int r;

	if (!sp)
		return 0;
	map_faults_stop_all(sp);
	registry_lock(&signals);
	r = sp->migrations ? -EBUSY : registry_end(sp);
	registry_unlock(&signals);
	if (r) {
		map_faults_start_all(sp);
		return r;
	}
	was_inline = sp->delivery == UHMM_DELIVERY_INLINE;
	r = space_destroy_prepare(sp);
	registry_lock(&signals);
	if (r) {
		registry_go_on(sp);
		registry_unlock(&signals);
		return r;
	}
	notifier_release_all(sp);
	inline_ending(sp);
	registry_remove(sp);
	r = space_destroy(sp);
	inline_ended(was_inline);
	registry_unlock(&signals);
	return r;
}

/* ---- devices ---------------------------------------------------------------------- */

int uhmm_device_open(struct uhmm_space *sp, const char *spec, struct uhmm_device **dev)
{
	struct uhmm_device *opened;
	int r;

	if (!spec)
		return -EINVAL;
	r = device_open(spec, &opened, spec_error_text, sizeof(spec_error_text));
	if (r)
		return r;
	r = space_add_device(sp, opened);
	if (r < 0) {
		snprintf(spec_error_text, sizeof(spec_error_text),
			 "device \"%.200s\": a space has at most %d devices", spec,
			 SPACE_DEVICES - 1);
		device_close(opened);
		return r;
	}
	*dev = opened;
	return 0;
}

int uhmm_device_close(struct uhmm_space *sp, struct uhmm_device *dev)
{
	return space_evict_device(sp, dev);
}

/* ---- ranges ----------------------------------------------------------------------- */

/* Pages entirely inside (or, outward, touched). False: empty or wrapping. */
static bool page_range(void *addr, size_t len, bool outward, uintptr_t *start,
		       uintptr_t *end)
{
	uintptr_t from = (uintptr_t)addr, to = from + len;

	if (!len || to < from || to > UINTPTR_MAX - PAGE_SIZE)
		return false;
	*start = (outward ? from : from + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
	*end = (outward ? to + PAGE_SIZE - 1 : to) & ~(PAGE_SIZE - 1);
	return true;
}

static void hand_out(uint8_t **results, size_t *moved, const uint8_t *some, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++)
		*moved += some[i] == UHMM_MOVED;
	if (*results) {
		memcpy(*results, some, nr);
		*results += nr;
	}
}

static int move_back(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
		     uint8_t *results, size_t *moved)
{
	uint8_t some[CHUNK_PAGES];
	int r = 0;

	while (start < end && !r) {
		uintptr_t to = chunk_start(start) + CHUNK_SIZE;
		struct gate_visit visit;

		if (to > end)
			to = end;
		gate_visit(&sp->world, &visit);
		memset(some, UHMM_FULL, sizeof(some));
		r = fault_range(sp, start, to, some);
		gate_end_visit(&sp->world, &visit);
		hand_out(&results, moved, some, (unsigned)((to - start) >> PAGE_SHIFT));
		start = to;
	}
	for (; start < end; start += PAGE_SIZE) {
		some[0] = UHMM_FULL;
		hand_out(&results, moved, some, 1);
	}
	return 0;
}

static void move_out(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
		     unsigned device, uint8_t *results, size_t *moved)
{
	uint8_t some[CHUNK_PAGES];
	unsigned done;

	while (start < end) {
		migrate_some(sp, start, end, device, some, &done);
		hand_out(&results, moved, some, done);
		start += done * PAGE_SIZE;
	}
}

int uhmm_migrate(struct uhmm_space *sp, void *addr, size_t len, struct uhmm_device *dev,
		 uint8_t *results, size_t *nr_moved)
{
	int device = dev ? space_find_device(sp, dev) : 0;
	uintptr_t start, end;
	size_t moved = 0;

	if (device < 0 || !page_range(addr, len, false, &start, &end))
		return -EINVAL;
	if (dev)
		move_out(sp, start, end, (unsigned)device, results, &moved);
	else
		move_back(sp, start, end, results, &moved);
	if (nr_moved)
		*nr_moved = moved;
	return 0;
}

int uhmm_manage(struct uhmm_space *sp, void *addr, size_t len)
{
	uintptr_t start, end;
	int r;

	if (!page_range(addr, len, false, &start, &end) || start >= end)
		return -EINVAL;
	r = range_add(&sp->managed, start, end);
	reclaim_ring(sp);
	return r;
}

int uhmm_unmanage(struct uhmm_space *sp, void *addr, size_t len)
{
	uintptr_t start, end;

	if (!page_range(addr, len, false, &start, &end) || start >= end)
		return -EINVAL;
	return range_remove(&sp->managed, start, end);
}

int uhmm_budget_set(struct uhmm_space *sp, uint64_t budget_bytes)
{
	reclaim_set_limit(sp, (int64_t)(budget_bytes >> PAGE_SHIFT));
	return 0;
}

/* ---- advice ----------------------------------------------------------------------- */

/*
 * One page, the gate entered: an munmap() that has returned may not be applied yet, and
 * would take the pins of what is mapped there now. And the world, because while fork
 * keeps that closed what was read is applied only afterwards.
 */
static int pin_page(struct uhmm_space *sp, uintptr_t addr, int delta)
{
	struct gate_visit visit;
	struct chunk *chunk;
	unsigned shard;
	int r;

	gate_visit(&sp->world, &visit);
	shard = gate_enter(&sp->gate);
	chunk = page_chunk_make(sp, addr);
	r = addr >> ADDRESS_BITS ? -EINVAL : -ENOMEM;
	if (chunk) {
		uhmm_lock((struct uhmm_lock *)&chunk->lock);
		r = page_pin(sp, chunk, page_index(addr), delta);
		uhmm_unlock((struct uhmm_lock *)&chunk->lock);
	}
	gate_leave(&sp->gate, shard);
	gate_end_visit(&sp->world, &visit);
	return r;
}

/* Pin counts of [start, *end) change by delta; on failure *end is how far it came. */
static int pin_pages(struct uhmm_space *sp, uintptr_t start, uintptr_t *end, int delta)
{
	uintptr_t addr;
	int r = 0;

	for (addr = start; addr < *end && !r; addr += PAGE_SIZE)
		r = pin_page(sp, addr, delta);
	if (r)
		*end = addr - PAGE_SIZE;
	return r;
}

/*
 * Inline delivery: a system call cannot fill a hole where the mapping is registered, so
 * pages are there before it. What cannot be written is not filled.
 */
static void fill_holes(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	for (; start < end; start += PAGE_SIZE)
		populate(sp, start, start + PAGE_SIZE, true);
}

static int pin(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	uint8_t results[GROUP_PAGES];
	uintptr_t to = end, at;
	struct gate_visit visit;
	int r = pin_pages(sp, start, &to, 1);

	for (at = start; !r && at < end; at += GROUP_SIZE) {
		uintptr_t stop = end - at > GROUP_SIZE ? at + GROUP_SIZE : end;

		gate_visit(&sp->world, &visit);
		r = fault_range(sp, at, stop, results);
		gate_end_visit(&sp->world, &visit);
		if (!r && memchr(results, UHMM_LOST, (stop - at) >> PAGE_SHIFT))
			r = -EIO;
		if (!r && memchr(results, UHMM_BUSY, (stop - at) >> PAGE_SHIFT))
			r = -EBUSY;
	}
	if (!r && sp->delivery == UHMM_DELIVERY_INLINE)
		fill_holes(sp, start, end);
	if (r)
		pin_pages(sp, start, &to, -1);
	return r;
}

static int unpin(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	uintptr_t to = end;
	int r = pin_pages(sp, start, &to, -1);

	if (r)
		pin_pages(sp, start, &to, 1);
	return r;
}

int uhmm_advise(struct uhmm_space *sp, void *addr, size_t len, enum uhmm_advice advice)
{
	uintptr_t start, end;
	unsigned device;
	size_t moved = 0;

	if (!page_range(addr, len, advice != UHMM_ADVISE_COLD, &start, &end))
		return -EINVAL;
	switch (advice) {
	case UHMM_ADVISE_COLD:
		device = device_first(sp);
		if (!device)
			return -ENODEV;
		move_out(sp, start, end, device, NULL, &moved);
		return 0;
	case UHMM_ADVISE_WILLNEED:
		return move_back(sp, start, end, NULL, &moved);
	case UHMM_ADVISE_PIN:
		return pin(sp, start, end);
	case UHMM_ADVISE_UNPIN:
		return unpin(sp, start, end);
	default:
		return -EINVAL;
	}
}

/* ---- statistics ------------------------------------------------------------------- */

static uint64_t counted(struct uhmm_space *sp, enum counter c)
{
	return __atomic_load_n(&sp->counter[c], __ATOMIC_RELAXED);
}

static void device_totals(struct uhmm_space *sp, struct uhmm_stats *s)
{
	struct gate_visit visit;
	uint32_t i;

	/* In the world a device is not closed. */
	gate_visit(&sp->world, &visit);
	for (i = 1; i < SPACE_DEVICES; i++) {
		struct uhmm_device *dev = __atomic_load_n(&sp->device[i],
							  __ATOMIC_ACQUIRE);
		struct uhmm_device_stat d = { .size = sizeof(d) };

		if (!dev)
			continue;
		device_stat(dev, &d);
		s->now_device += d.pages;
		s->device_bytes_in += d.bytes_in;
		s->device_bytes_resident += d.bytes_resident;
	}
	gate_end_visit(&sp->world, &visit);
}

int uhmm_stats_get(struct uhmm_space *sp, struct uhmm_stats *stats)
{
	struct uhmm_stats s = {
		.size = sizeof(s),
		.fault_probation = counted(sp, COUNT_FAULT_PROBATION),
		.fault_device = counted(sp, COUNT_FAULT_DEVICE),
		.fault_zero = counted(sp, COUNT_FAULT_ZERO),
		.fault_busy = counted(sp, COUNT_FAULT_BUSY),
		.refault = counted(sp, COUNT_REFAULT),
		.prefetch = counted(sp, COUNT_PREFETCH),
		.prefetch_vain = counted(sp, COUNT_PREFETCH_VAIN),
		.isolated = counted(sp, COUNT_ISOLATED),
		.isolated_folio = counted(sp, COUNT_ISOLATED_FOLIO),
		.restored = counted(sp, COUNT_RESTORED),
		.stored = counted(sp, COUNT_STORED),
		.loaded = counted(sp, COUNT_LOADED),
		.store_failed = counted(sp, COUNT_STORE_FAILED),
		.load_failed = counted(sp, COUNT_LOAD_FAILED),
		.dropped = counted(sp, COUNT_DROPPED),
		.skip_pinned = counted(sp, COUNT_SKIP_PINNED),
		.unshared = counted(sp, COUNT_UNSHARED),
		.now_probation = __atomic_load_n(&sp->frames.nr_probation,
						 __ATOMIC_RELAXED),
		.metadata_bytes = page_table_bytes(sp),
	};
	int64_t rss = os_rss_anon_pages(NULL);
	size_t size;

	if (!stats || stats->size < sizeof(size_t))
		return -EINVAL;
	size = stats->size < sizeof(s) ? stats->size : sizeof(s);
	s.rss_anon_bytes = rss > 0 ? (uint64_t)rss << PAGE_SHIFT : 0;
	device_totals(sp, &s);
	s.size = size;
	memcpy(stats, &s, size);
	return 0;
}

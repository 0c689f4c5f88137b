/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating, starting and ending a space. All its memory is from uhmm_host_map() and
 * os_reserve(): nothing of it can be migrated.
 */
#include "lib/space.h"

#include <errno.h>

#include "lib/coherent.h"
#include "lib/device.h"
#include "lib/fault.h"
#include "lib/fence.h"
#include "lib/fork.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/host_pages.h"
#include "lib/huge.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/pagemap.h"
#include "lib/pagemap_fault.h"
#include "lib/placement.h"
#include "lib/reader.h"
#include "lib/recall.h"
#include "lib/reclaim.h"

/* Frames when there is no budget to derive their number from: 1 GiB of addresses. */
#define DEFAULT_FRAME_PAGES ((uint64_t)1 << (30 - PAGE_SHIFT))
#define MIN_FRAME_PAGES ((uint64_t)32 << (20 - PAGE_SHIFT))

unsigned space_uffd_flags(const struct uhmm_space *sp)
{
	unsigned flags = OS_UFFD_EVENTS;

	if (sp->delivery == UHMM_DELIVERY_INLINE)
		flags |= OS_UFFD_SIGBUS;
	if (sp->user_only)
		flags |= OS_UFFD_USER_ONLY;
	if (sp->fork_events)
		flags |= OS_UFFD_FORK;
	return flags;
}

/*
 * The most that is permitted: events of forks need CAP_SYS_PTRACE, a full userfaultfd
 * needs a permission that faults resolved inline can do without.
 */
static int open_uffd(struct uhmm_space *sp, const struct space_config *config)
{
	sp->fork_events = !config->no_fork_events;
	sp->uffd = os_uffd_open(space_uffd_flags(sp));
	if (sp->uffd == -EPERM && !config->need_fork_events) {
		sp->fork_events = false;
		sp->uffd = os_uffd_open(space_uffd_flags(sp));
	}
	if (sp->uffd == -EPERM && sp->delivery == UHMM_DELIVERY_INLINE) {
		sp->user_only = true;
		sp->uffd = os_uffd_open(space_uffd_flags(sp));
	}
	/* What is asked for makes sense: the kernel does not know all of it. */
	if (sp->uffd == -EINVAL)
		return -ENOSYS;
	return sp->uffd < 0 ? sp->uffd : 0;
}

static int map_buffers(struct uhmm_space *sp)
{
	sp->reader_buf = uhmm_host_map(UHMM_BATCH_MAX * PAGE_SIZE);
	sp->bufs.bytes = uhmm_host_map((size_t)FAULT_BUFS * FAULT_BUF_PAGES * PAGE_SIZE);
	sp->bufs.free = ~UINT64_C(0);
	sp->batch = uhmm_host_map(sizeof(*sp->batch));
	sp->zeros = uhmm_host_map(UHMM_BATCH_MAX * PAGE_SIZE);
	return sp->reader_buf && sp->bufs.bytes && sp->batch && sp->zeros ? 0 : -ENOMEM;
}

static int map_here(struct uhmm_space *sp)
{
	sp->here = os_reserve(PAGE_SIZE);
	if (!sp->here || os_commit(sp->here, PAGE_SIZE))
		return -ENOMEM;
	os_wipe_on_fork(sp->here, PAGE_SIZE);
	*sp->here = 1;
	return 0;
}

static void release(struct uhmm_space *sp)
{
	unsigned i;

	/* First: who unmaps what is registered waits for a reader. */
	if (sp->uffd >= 0)
		os_uffd_close(sp->uffd);
	for (i = 1; i <= sp->nr_devices; i++) {
		device_close(sp->device[i]); /* NULL where it was closed before */
		if (sp->pagemap[i])
			pagemap_free(sp->pagemap[i]);
	}
	if (sp->kicker >= 0)
		os_close(sp->kicker);
	if (sp->here)
		os_release(sp->here, PAGE_SIZE);
	frames_fini(sp);
	host_pages_drop();
	huge_fini(sp);
	fence_fini(sp);
	recall_fini(sp);
	reclaim_fini(sp);
	page_table_fini(sp);
	fork_fini(sp);
	if (sp->batch)
		uhmm_host_unmap(sp->batch, sizeof(*sp->batch));
	if (sp->zeros)
		uhmm_host_unmap((void *)sp->zeros, UHMM_BATCH_MAX * PAGE_SIZE);
	if (sp->reader_buf)
		uhmm_host_unmap(sp->reader_buf, UHMM_BATCH_MAX * PAGE_SIZE);
	if (sp->bufs.bytes)
		uhmm_host_unmap(sp->bufs.bytes,
				(size_t)FAULT_BUFS * FAULT_BUF_PAGES * PAGE_SIZE);
	uhmm_host_unmap(sp, sizeof(*sp));
}

/* Frames of a whole program, for each page of its budget: addresses, not memory. */
#define FRAMES_WHOLE 4

int space_create(const struct space_config *config, struct uhmm_space **space)
{
	struct uhmm_space *sp = uhmm_host_map(sizeof(*sp));
	uint64_t frames = config->frame_pages;
	int r;

	if (!sp)
		return -ENOMEM;
	sp->delivery = config->delivery;
	sp->whole = config->whole;
	sp->private_files = config->private_files;
	sp->may_refuse = config->may_refuse;
	sp->evict_ns = config->evict_ns;
	sp->hooks = config->hooks;
	sp->counter = config->counter ? config->counter : sp->own_counter;
	sp->pid = os_pid();
	sp->uffd = sp->kicker = sp->frames.trash_uffd = -1;
	sp->fork.listener = sp->fork.child_uffd = sp->fork.early_uffd = -1;
	if (config->limit_pages)
		host_pages_keep_none();
	sp->budget.limit_pages = config->limit_pages;
	sp->budget.room_pages = config->limit_pages;
	if (!frames)
		frames = config->limit_pages ? (uint64_t)config->limit_pages :
					       DEFAULT_FRAME_PAGES;
	if (frames < MIN_FRAME_PAGES)
		frames = MIN_FRAME_PAGES;
	while (frames / GENERATIONS >> sp->gen_shift > 1)
		sp->gen_shift++;
	/* To stop growth zero pages are isolated too, which take frames but no memory. */
	if (config->whole)
		frames *= FRAMES_WHOLE;
	r = os_attach();
	if (!r)
		r = open_uffd(sp, config);
	if (!r)
		r = sp->kicker = os_kicker_open();
	if (r >= 0)
		r = frames_init(sp, frames);
	if (!r)
		r = map_here(sp);
	if (!r)
		r = map_buffers(sp);
	if (!r)
		r = fence_init(sp);
	if (!r)
		r = fork_init(sp);
	if (!r)
		r = reclaim_init(sp);
	if (r) {
		release(sp);
		return r;
	}
	*space = sp;
	return 0;
}

static int add(struct uhmm_space *sp, struct uhmm_device *dev, struct uhmm_pagemap *map)
{
	uint32_t n;

	uhmm_lock(&sp->device_lock);
	for (n = 1;
	     n < SPACE_DEVICES && __atomic_load_n(&sp->device[n], __ATOMIC_ACQUIRE); n++)
		;
	if (n < SPACE_DEVICES) {
		sp->device_age[n] = ++sp->device_clock;
		if (map)
			map->number = n;
		__atomic_store_n(&sp->pagemap[n], map, __ATOMIC_RELEASE);
		__atomic_store_n(&sp->device[n], dev, __ATOMIC_RELEASE);
		if (n > sp->nr_devices)
			__atomic_store_n(&sp->nr_devices, n, __ATOMIC_RELEASE);
	}
	uhmm_unlock(&sp->device_lock);
	return n < SPACE_DEVICES ? (int)n : -ENOSPC;
}

int space_add_device(struct uhmm_space *sp, struct uhmm_device *dev)
{
	return add(sp, dev, NULL);
}

int space_add_pagemap(struct uhmm_space *sp, struct uhmm_pagemap *map)
{
	return add(sp, map->dev, map);
}

int space_find_device(struct uhmm_space *sp, const struct uhmm_device *dev)
{
	uint32_t i;

	for (i = 1; dev && i < SPACE_DEVICES; i++)
		if (device_open_at(sp, i) == dev)
			return (int)i;
	return -EINVAL;
}

int space_start_reader(struct uhmm_space *sp)
{
	return reader_start(sp, reader_main);
}

static void stop(struct uhmm_space *sp)
{
	__atomic_store_n(&sp->stop, STOP_BOTH, __ATOMIC_RELEASE);
	reclaim_ring(sp);
	os_thread_join(&sp->worker);
	reader_end(sp);
	placement_stop(sp);
	__atomic_store_n(&sp->stop, STOP_NONE, __ATOMIC_RELEASE);
}

int space_start(struct uhmm_space *sp)
{
	int r = space_start_reader(sp);

	if (r)
		return r;
	r = os_thread_start(&sp->worker, reclaim_main, sp, "uhmm-worker");
	if (r)
		stop(sp);
	return r;
}

static int is_poisoned(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		       bool folio)
{
	(void)ctx;
	(void)chunk;
	(void)addr;
	(void)folio;
	return entry_state(entry_load(entry)) == PAGE_POISONED;
}

static void stop_worker(struct uhmm_space *sp)
{
	__atomic_store_n(&sp->stop, STOP_WORKER, __ATOMIC_RELEASE);
	reclaim_ring(sp);
	os_thread_join(&sp->worker);
	__atomic_store_n(&sp->stop, STOP_NONE, __ATOMIC_RELEASE);
}

int space_destroy(struct uhmm_space *sp)
{
	int lost = page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, is_poisoned, NULL);

	stop(sp);
	release(sp);
	return lost ? -EIO : 0;
}

struct on_device {
	unsigned device;
	uintptr_t found;
};

static int find_on_device(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
			  bool folio)
{
	struct on_device *on = ctx;
	entry_t e = entry_load(entry);

	(void)chunk;
	(void)folio;
	if (!entry_busy(e) &&
	    ((entry_state(e) != PAGE_DEVICE && entry_state(e) != PAGE_COHERENT) ||
	     entry_device(e) != on->device))
		return 0;
	on->found = addr;
	return 1;
}

/* The gate is entered for the walk: entries are freed when it is closed. */
static bool find_next(struct uhmm_space *sp, struct on_device *on, uintptr_t at)
{
	unsigned shard = gate_enter(&sp->gate);
	int found = page_walk(sp, at, (uintptr_t)1 << ADDRESS_BITS, find_on_device, on);

	gate_leave(&sp->gate, shard);
	return found;
}

int space_bring_back(struct uhmm_space *sp, unsigned device)
{
	struct on_device on = { .device = device };
	struct gate_visit visit;
	uintptr_t at = 0;
	int r = 0;

	gate_visit(&sp->world, &visit);
	while (!r && find_next(sp, &on, at)) {
		r = fault_range(sp, on.found, on.found + PAGE_SIZE, NULL);
		coherent_release(sp, on.found);
		at = on.found + PAGE_SIZE;
	}
	gate_end_visit(&sp->world, &visit);
	return r;
}

/*
 * What coherent page maps have of the program's is memory of the program's already. But
 * their drivers are told that it is not theirs any more.
 */
static int bring_all_back(struct uhmm_space *sp)
{
	const struct uhmm_pagemap *map;
	int r = fault_range_present(sp, 0, (uintptr_t)1 << ADDRESS_BITS);
	unsigned i;

	for (i = 1; r == 0 && i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (map && map->memory)
			r = space_bring_back(sp, i);
	}
	return r;
}

int space_destroy_prepare(struct uhmm_space *sp)
{
	int r;

	/* First the worker; the reader serves till the end. */
	stop_worker(sp);
	r = bring_all_back(sp);
	if (r) {
		os_thread_start(&sp->worker, reclaim_main, sp, "uhmm-worker");
		map_faults_start_all(sp);
	} else {
		fault_unpark(sp);
	}
	return r;
}

/* Pages that drivers have, to be or in the middle of being migrated. */
static bool in_use(struct uhmm_space *sp, unsigned device)
{
	const struct uhmm_pagemap *map = pagemap_at(sp, device);

	return map && __atomic_load_n(&map->nr_used, __ATOMIC_ACQUIRE);
}

/*
 * With the world closed nobody but the reader is in the middle of something. -EAGAIN: a
 * page was stored by who had begun before the device was retiring.
 */
static int take_out(struct uhmm_space *sp, unsigned device)
{
	struct on_device on = { .device = device };
	uint64_t signals;
	int r = -EAGAIN;

	/* A handler of the program could wait for the world on this thread. */
	os_block_signals(&signals);
	gate_close(&sp->world);
	if (!find_next(sp, &on, 0)) {
		/* It may have copies to free of pages that it has brought back. */
		reader_finish(sp);
		r = in_use(sp, device) ? -EBUSY : 0;
	}
	if (r == 0) {
		/* This first: with the other its number can be had again. */
		__atomic_store_n(&sp->pagemap[device], NULL, __ATOMIC_RELEASE);
		__atomic_store_n(&sp->device[device], NULL, __ATOMIC_RELEASE);
	}
	if (r != -EAGAIN)
		__atomic_fetch_and(&sp->retiring, ~(1u << device), __ATOMIC_RELEASE);
	gate_open(&sp->world);
	os_restore_signals(&signals);
	return r;
}

int space_evict_device(struct uhmm_space *sp, struct uhmm_device *dev)
{
	uint64_t lost = __atomic_load_n(&sp->counter[COUNT_LOAD_FAILED],
					__ATOMIC_RELAXED);
	int n, r;

	uhmm_lock(&sp->device_lock);
	n = space_find_device(sp, dev);
	if (n > 0)
		__atomic_fetch_or(&sp->retiring, 1u << n, __ATOMIC_SEQ_CST);
	uhmm_unlock(&sp->device_lock);
	if (n < 0)
		return n;
	do {
		r = space_bring_back(sp, (unsigned)n);
		if (r) {
			__atomic_fetch_and(&sp->retiring, ~(1u << n), __ATOMIC_RELEASE);
			return r;
		}
		r = take_out(sp, (unsigned)n);
	} while (r == -EAGAIN);
	if (r)
		return r;
	device_close(dev);
	lost = __atomic_load_n(&sp->counter[COUNT_LOAD_FAILED], __ATOMIC_RELAXED) - lost;
	return lost ? -EIO : 0;
}

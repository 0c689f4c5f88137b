/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating, starting and ending a space. All its memory is from uhmm_host_map() and
 * os_reserve(): nothing of it can be migrated.
 */
#include "lib/space.h"

#include <errno.h>

#include "lib/device.h"
#include "lib/fault.h"
#include "lib/fence.h"
#include "lib/fork.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/page.h"
#include "lib/reader.h"
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
static int open_uffd(struct uhmm_space *sp, bool need_fork_events)
{
	sp->fork_events = true;
	sp->uffd = os_uffd_open(space_uffd_flags(sp));
	if (sp->uffd == -EPERM && !need_fork_events) {
		sp->fork_events = false;
		sp->uffd = os_uffd_open(space_uffd_flags(sp));
	}
	if (sp->uffd == -EPERM && sp->delivery == UHMM_DELIVERY_INLINE) {
		sp->user_only = true;
		sp->uffd = os_uffd_open(space_uffd_flags(sp));
	}
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

static void release(struct uhmm_space *sp)
{
	unsigned i;

	for (i = 1; i <= sp->nr_devices; i++)
		device_close(sp->device[i]); /* NULL where it was closed before */
	if (sp->uffd >= 0)
		os_uffd_close(sp->uffd);
	if (sp->kicker >= 0)
		os_close(sp->kicker);
	frames_fini(sp);
	fence_fini(sp);
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
	sp->hooks = config->hooks;
	sp->counter = config->counter ? config->counter : sp->own_counter;
	sp->pid = os_pid();
	sp->uffd = sp->kicker = sp->frames.trash_uffd = -1;
	sp->fork.listener = sp->fork.child_uffd = sp->fork.early_uffd = -1;
	sp->budget.limit_pages = config->limit_pages;
	sp->budget.room_pages = config->limit_pages;
	if (!frames)
		frames = config->limit_pages ? (uint64_t)config->limit_pages :
					       DEFAULT_FRAME_PAGES;
	if (frames < MIN_FRAME_PAGES)
		frames = MIN_FRAME_PAGES;
	r = os_attach();
	if (!r)
		r = open_uffd(sp, config->need_fork_events);
	if (!r)
		r = sp->kicker = os_kicker_open();
	if (r >= 0)
		r = frames_init(sp, frames);
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

int space_add_device(struct uhmm_space *sp, struct uhmm_device *dev)
{
	uint32_t n = sp->nr_devices + 1;

	if (n >= SPACE_DEVICES)
		return -ENOSPC;
	sp->device[n] = dev;
	__atomic_store_n(&sp->nr_devices, n, __ATOMIC_RELEASE);
	return (int)n;
}

int space_find_device(const struct uhmm_space *sp, const struct uhmm_device *dev)
{
	uint32_t i, nr = __atomic_load_n(&sp->nr_devices, __ATOMIC_ACQUIRE);

	for (i = 1; i <= nr; i++)
		if (sp->device[i] == dev)
			return (int)i;
	return -EINVAL;
}

int space_start_reader(struct uhmm_space *sp)
{
	return os_thread_start(&sp->reader, reader_main, sp, "uhmm-reader");
}

static void stop(struct uhmm_space *sp)
{
	__atomic_store_n(&sp->stop, STOP_BOTH, __ATOMIC_RELEASE);
	reclaim_ring(sp);
	os_thread_join(&sp->worker);
	reader_kick(sp);
	os_thread_join(&sp->reader);
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

int space_destroy_prepare(struct uhmm_space *sp)
{
	int r;

	/* First the worker; the reader serves till the end. */
	stop_worker(sp);
	r = fault_range_present(sp, 0, (uintptr_t)1 << ADDRESS_BITS);
	if (r)
		os_thread_start(&sp->worker, reclaim_main, sp, "uhmm-worker");
	else
		fault_unpark(sp);
	return r;
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
	    (entry_state(e) != PAGE_DEVICE || entry_device(e) != on->device))
		return 0;
	on->found = addr;
	return 1;
}

/* Nobody is in the middle of something that began before: copies may still be freed. */
static void wait_for_others(struct uhmm_space *sp)
{
	uint32_t serving;

	gate_close(&sp->world);
	gate_open(&sp->world);
	serving = __atomic_load_n(&sp->serving, __ATOMIC_SEQ_CST);
	while (serving & 1 && __atomic_load_n(&sp->serving, __ATOMIC_ACQUIRE) == serving)
		os_yield();
}

int space_evict_device(struct uhmm_space *sp, unsigned device)
{
	struct on_device on = { .device = device };
	struct uhmm_device *dev = sp->device[device];
	uintptr_t all = (uintptr_t)1 << ADDRESS_BITS, at = 0;
	uint64_t lost = __atomic_load_n(&sp->counter[COUNT_LOAD_FAILED],
					__ATOMIC_RELAXED);
	struct gate_visit visit;
	int r = 0;

	stop_worker(sp);
	gate_visit(&sp->world, &visit);
	while (!r && page_walk(sp, at, all, find_on_device, &on)) {
		r = fault_range(sp, on.found, on.found + PAGE_SIZE, NULL);
		at = on.found + PAGE_SIZE;
	}
	gate_end_visit(&sp->world, &visit);
	if (!r) {
		wait_for_others(sp);
		sp->device[device] = NULL;
		device_close(dev);
		lost = __atomic_load_n(&sp->counter[COUNT_LOAD_FAILED],
				       __ATOMIC_RELAXED) -
		       lost;
	}
	os_thread_start(&sp->worker, reclaim_main, sp, "uhmm-worker");
	return r ? r : lost ? -EIO : 0;
}

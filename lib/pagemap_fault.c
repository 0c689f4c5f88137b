/* SPDX-License-Identifier: Apache-2.0 */
/* See pagemap_fault.h. */
#include "lib/pagemap_fault.h"

#include <errno.h>
#include <limits.h>

#include "lib/fault.h"
#include "lib/fault_internal.h"
#include "lib/folio.h"
#include "lib/gate.h"
#include "lib/migration.h"
#include "lib/page.h"
#include "lib/pagemap_share.h"

static bool running(struct map_faults *mf)
{
	return __atomic_load_n(&mf->running, __ATOMIC_ACQUIRE);
}

static void ring(struct map_faults *mf)
{
	__atomic_fetch_add(&mf->work, 1, __ATOMIC_RELEASE);
	os_wake(&mf->work, 1);
}

/* Of a request: the page has been in memory since, so who touched it has been served. */
#define IS_STALE 1u

/* The i-th of those that wait, the one that is being served first. */
static uintptr_t *request(struct map_faults *mf, uint32_t i)
{
	return &mf->addr[(mf->first + i) % MAP_FAULTS_MAX];
}

static bool is_queued(struct map_faults *mf, uintptr_t addr)
{
	uint32_t i;

	for (i = 0; i < mf->nr; i++)
		if (*request(mf, i) == addr)
			return true;
	return false;
}

static void set_nr(struct map_faults *mf, uint32_t nr)
{
	__atomic_store_n(&mf->nr, nr, __ATOMIC_RELEASE);
}

bool map_fault(struct uhmm_space *sp, uintptr_t addr, entry_t e, uint32_t tid)
{
	struct uhmm_pagemap *map = pagemap_at(sp, entry_device(e));
	struct map_faults *mf;
	bool queued;

	if (!map || !map->ops.migrate_to_ram)
		return false;
	mf = &map->faults;
	if ((tid ? tid : os_tid()) == __atomic_load_n(&mf->tid, __ATOMIC_RELAXED))
		return false;
	uhmm_lock(&mf->lock);
	queued = running(mf) && is_queued(mf, addr);
	if (!queued && running(mf) && mf->nr < MAP_FAULTS_MAX) {
		*request(mf, mf->nr) = addr;
		set_nr(mf, mf->nr + 1);
		queued = true;
	}
	uhmm_unlock(&mf->lock);
	if (queued)
		ring(mf);
	return queued;
}

void map_faults_expire(struct uhmm_pagemap *map, uintptr_t addr, size_t nr)
{
	struct map_faults *mf = &map->faults;
	uint32_t i;

	if (!__atomic_load_n(&mf->nr, __ATOMIC_ACQUIRE))
		return;
	uhmm_lock(&mf->lock);
	for (i = 0; i < mf->nr; i++)
		if (*request(mf, i) - addr < nr * PAGE_SIZE)
			*request(mf, i) |= IS_STALE;
	uhmm_unlock(&mf->lock);
}

/* The one that has waited longest: it waits until it is done with. False: nobody does. */
static bool first_of(struct map_faults *mf, uintptr_t *addr)
{
	bool any;

	uhmm_lock(&mf->lock);
	any = mf->nr;
	if (any)
		*addr = *request(mf, 0);
	uhmm_unlock(&mf->lock);
	return any;
}

/* From here on who touches the page asks anew. */
static void done_with_first(struct map_faults *mf)
{
	uhmm_lock(&mf->lock);
	mf->first = (mf->first + 1) % MAP_FAULTS_MAX;
	set_nr(mf, mf->nr - 1);
	uhmm_unlock(&mf->lock);
}

/* ---- the thread ------------------------------------------------------------------- */

/* Looked at after the page's entry: what is on the device by then is what was touched. */
static bool is_stale(struct map_faults *mf)
{
	uintptr_t addr;

	return !first_of(mf, &addr) || addr & IS_STALE;
}

/* What there is to say of the page, if it is on the device still. */
static bool describe(struct uhmm_pagemap *map, uintptr_t addr, struct uhmm_fault *fault)
{
	struct uhmm_space *sp = map->sp;
	struct gate_visit visit;
	struct os_vma vma;
	unsigned shard;
	struct chunk *chunk;
	entry_t *entry, e;
	bool is, folio;

	gate_visit(&sp->world, &visit);
	shard = gate_enter(&sp->gate);
	entry = find_entry(sp, addr, &chunk, &folio);
	e = entry ? entry_load(entry) : 0;
	if (folio)
		e = folio_page(e, page_index(addr));
	is = entry_state(e) == PAGE_DEVICE && entry_device(e) == map->number &&
	     !is_stale(&map->faults) && migration_mapping(addr, addr + PAGE_SIZE, &vma);
	gate_leave(&sp->gate, shard);
	gate_end_visit(&sp->world, &visit);
	if (is)
		*fault = (struct uhmm_fault){
			.size = sizeof(*fault),
			.space = sp,
			.pagemap = map,
			.page = entry_payload(e),
			.addr = addr,
			.pfn = pfn_make(map->number, entry_payload(e)),
			.start = vma.start,
			.end = vma.end,
		};
	return is;
}

static void serve(struct uhmm_pagemap *map, uintptr_t addr)
{
	struct uhmm_space *sp = map->sp;
	struct gate_visit visit;
	struct uhmm_fault fault;
	bool is = describe(map, addr, &fault);
	int r = is ? map->ops.migrate_to_ram(map->ctx, &fault) : 0;

	gate_visit(&sp->world, &visit);
	if (r < 0)
		fault_range(sp, addr, addr + PAGE_SIZE, NULL);
	done_with_first(&map->faults);
	os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
	gate_end_visit(&sp->world, &visit);
	__atomic_fetch_add(&sp->migration_done, 1, __ATOMIC_SEQ_CST);
	os_wake(&sp->migration_done, INT_MAX);
}

static void thread_main(void *arg)
{
	struct uhmm_pagemap *map = arg;
	struct map_faults *mf = &map->faults;
	uintptr_t addr;
	uint32_t seen;

	os_accept_faults();
	if (map->share)
		map_share_live(map);
	__atomic_store_n(&mf->tid, os_tid(), __ATOMIC_RELEASE);
	os_wake(&mf->tid, INT_MAX);
	while (running(mf)) {
		seen = __atomic_load_n(&mf->work, __ATOMIC_ACQUIRE);
		if (first_of(mf, &addr))
			serve(map, addr & ~(uintptr_t)IS_STALE);
		else
			os_wait(&mf->work, seen, -1);
	}
	if (map->share)
		map_share_rest(map);
}

/* ---- life ------------------------------------------------------------------------- */

int map_faults_start(struct uhmm_pagemap *map)
{
	struct map_faults *mf = &map->faults;
	int r;

	if ((!map->ops.migrate_to_ram && !map->share) || running(mf))
		return 0;
	__atomic_store_n(&mf->running, true, __ATOMIC_RELEASE);
	__atomic_store_n(&mf->tid, 0, __ATOMIC_RELAXED);
	r = os_thread_start(&mf->thread, thread_main, map, "uhmm-pagemap");
	if (r)
		__atomic_store_n(&mf->running, false, __ATOMIC_RELEASE);
	/* From here on its process is seen to end. */
	while (!r && !__atomic_load_n(&mf->tid, __ATOMIC_ACQUIRE))
		os_wait(&mf->tid, 0, -1);
	return r;
}

void map_faults_stop(struct uhmm_pagemap *map)
{
	struct map_faults *mf = &map->faults;
	uintptr_t addr;

	if (!running(mf))
		return;
	/* Under the lock: after that nothing is queued. */
	uhmm_lock(&mf->lock);
	__atomic_store_n(&mf->running, false, __ATOMIC_RELEASE);
	uhmm_unlock(&mf->lock);
	ring(mf);
	os_thread_join(&mf->thread);
	for (; first_of(mf, &addr); done_with_first(mf))
		os_uffd_wake(map->sp->uffd, addr & ~(uintptr_t)IS_STALE, PAGE_SIZE);
}

static void forget(struct uhmm_pagemap *map)
{
	struct map_faults *mf = &map->faults;

	os_thread_forget(&mf->thread);
	mf->lock = (struct uhmm_lock){ 0 };
	mf->nr = 0;
	mf->running = false;
}

static void for_all(struct uhmm_space *sp, void (*fn)(struct uhmm_pagemap *map))
{
	struct uhmm_pagemap *map;
	unsigned i;

	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (map)
			fn(map);
	}
}

void map_faults_forget_all(struct uhmm_space *sp)
{
	for_all(sp, forget);
}

void map_faults_stop_all(struct uhmm_space *sp)
{
	for_all(sp, map_faults_stop);
}

int map_faults_start_all(struct uhmm_space *sp)
{
	struct uhmm_pagemap *map;
	unsigned i;
	int r, first = 0;

	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		r = map ? map_faults_start(map) : 0;
		/* Without it the pages of others are fetched by copy_to_ram(). */
		if (r && map->share && !first)
			first = r;
	}
	return first;
}

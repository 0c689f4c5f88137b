/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm_range_fault(): what a device may map of a range.
 *
 * Window by window: first the entries say which pages are away, and where; of all others
 * the kernel's page tables say what there is. The first page of which that is not enough
 * for what is wanted is seen to, with those behind it that need the same, and the window
 * is looked at again from there on.
 *
 * Nothing keeps what was looked at from changing: whoever takes a page away has told the
 * notifiers before, and then the caller's sequence is stale. What only gets there
 * meanwhile does no harm. So that we hear of what the program does, mappings whose pages
 * could migrate are registered before their page tables are looked at, as for isolating
 * them (lib/isolate.c); of others the kernel tells nothing.
 *
 * The world is entered for looking, not for touching pages, nor for waiting for a driver
 * or for the caller's array.
 */
#include <errno.h>
#include <string.h>

#include "lib/coherent.h"
#include "lib/fault.h"
#include "lib/fault_internal.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap.h"
#include "lib/pagemap_share.h"
#include "lib/populate.h"

#define WINDOW OS_LOOK_PAGES
/* Page map and page, or address. */
#define RANGE_PFN (((uint64_t)SPACE_DEVICES << PFN_PAGE_BITS) - 1)
#define REQUESTS (UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE)
#define FOLIO_ORDER (CHUNK_SHIFT - PAGE_SHIFT)

/* For a migration to give a page back; whoever ends one wakes us before. */
#define WAIT_NS INT64_C(2000000)

/* Where a page is, as its entry says. */
enum place {
	IN_TABLE,  /* where the kernel says, if anywhere */
	ON_DEVICE, /* on a private page map of the device's owner */
	COHERENT,  /* where the kernel says, and that is a coherent page map's */
	AWAY,      /* in a frame, on another device: can be fetched */
	SETTLING,  /* in transition: where the kernel says, or else as AWAY */
	MIGRATING, /* a driver has it */
	LOST,
};

/* What has to be done before a page is as it is wanted. */
enum need {
	NOTHING,
	FETCH, /* bring it back */
	WAIT,  /* for the driver that has it */
	READ,  /* touch it */
	WRITE,
	AGAIN, /* its mapping is changing just now */
};

struct window {
	struct uhmm_space *sp;
	const struct uhmm_range *range;
	uintptr_t addr;
	unsigned nr;   /* pages, of one chunk */
	unsigned done; /* of these, their out is final */
	uint32_t migrations;
	/* of pages [needy, needy_end) */
	enum need need;
	unsigned needy, needy_end;
	unsigned failed; /* the page that could not be touched the last time, or WINDOW */
	unsigned paused; /* times in a row that it was AGAIN */
	struct os_vma vma;
	uint64_t out[WINDOW];
	uint8_t want[WINDOW], place[WINDOW], seen[WINDOW];
	bool forked[WINDOW];  /* another process has the same page of the device */
	bool written[WINDOW]; /* by us, so it can be written */
};

#define WANT_READ 1u
#define WANT_WRITE 2u

static uint64_t order_bits(unsigned order)
{
	return (uint64_t)order << UHMM_RANGE_ORDER_SHIFT;
}

static uint64_t on_pagemap(entry_t e, unsigned i)
{
	return (uint64_t)entry_device(e) << PFN_PAGE_BITS | (entry_payload(e) + i);
}

/* ---- entries ---------------------------------------------------------------------- */

/*
 * Where page i is of what this entry speaks for (a folio; 0 of a page's own). *pfn is for
 * ON_DEVICE and COHERENT, without WRITE.
 */
static enum place location_of(struct window *w, unsigned at, entry_t e, unsigned i,
			      uint64_t *pfn)
{
	const struct uhmm_pagemap *map;

	switch (entry_state(e)) {
	case PAGE_NONE:
		return IN_TABLE;
	case PAGE_POISONED:
		return LOST;
	case PAGE_MIGRATING:
		return MIGRATING;
	case PAGE_COHERENT:
		*pfn = on_pagemap(e, 0);
		w->forked[at] = e & ENTRY_FORKED;
		return COHERENT;
	case PAGE_DEVICE:
		map = pagemap_at(w->sp, entry_device(e));
		if (!map || map->memory || map->owner != w->range->dev_private_owner)
			return AWAY;
		*pfn = on_pagemap(e, i) | UHMM_RANGE_VALID;
		w->forked[at] = map_share_is_shared(map, entry_payload(e) + i);
		return w->forked[at] && w->want[at] & WANT_WRITE ? AWAY : ON_DEVICE;
	default:
		/*
		 * Who has touched it may have gone on already. If it is about to leave
		 * that was told.
		 */
		if (entry_state(e) == PAGE_LOADING && coherent_pagemap(w->sp, e)) {
			*pfn = on_pagemap(e, 0);
			w->forked[at] = e & ENTRY_FORKED;
			return COHERENT;
		}
		return entry_busy(e) ? SETTLING : AWAY;
	}
}

static void look_at_entries(struct window *w)
{
	unsigned shard = gate_enter(&w->sp->gate), i;
	struct chunk *chunk = page_chunk(w->sp, w->addr);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0;
	const entry_t *entry = page_entry(chunk, w->addr);
	bool folio = entry_state(f) != PAGE_NONE;

	for (i = w->done; i < w->nr; i++) {
		entry_t e = folio ? f : entry ? entry_load(&entry[i]) : 0;
		unsigned in_folio = folio ? page_index(w->addr) + i : 0;

		w->out[i] = 0;
		w->forked[i] = false;
		w->place[i] = (uint8_t)location_of(w, i, e, in_folio, &w->out[i]);
		if (w->place[i] == ON_DEVICE && folio)
			w->out[i] |= order_bits(FOLIO_ORDER);
	}
	gate_leave(&w->sp->gate, shard);
}

/* ---- page tables ------------------------------------------------------------------ */

static bool is_writable(const struct window *w, unsigned i)
{
	if (!w->vma.writable || w->seen[i] & OS_PAGE_ZERO)
		return false;
	if (w->vma.kind == OS_VMA_SHARED)
		return true;
	return !(w->seen[i] & OS_PAGE_FILE) &&
	       (w->seen[i] & OS_PAGE_EXCLUSIVE || w->written[i]);
}

static uint64_t from_table(const struct window *w, unsigned i)
{
	uint64_t out = UHMM_RANGE_VALID | ((w->addr >> PAGE_SHIFT) + i);

	if (!(w->seen[i] & OS_PAGE_PRESENT))
		return 0;
	/* Of a device's registers, say. */
	if (w->vma.kind == OS_VMA_SHARED && !(w->seen[i] & OS_PAGE_FILE))
		return UHMM_RANGE_ERROR;
	if (w->seen[i] & OS_PAGE_ZERO)
		out |= UHMM_RANGE_ZERO;
	if (is_writable(w, i))
		out |= UHMM_RANGE_WRITE;
	if (w->vma.page_shift > PAGE_SHIFT)
		out |= order_bits(w->vma.page_shift - PAGE_SHIFT);
	else if (w->seen[i] & OS_PAGE_HUGE)
		out |= order_bits(FOLIO_ORDER);
	return out;
}

/*
 * The same of a page that the program has from a coherent page map; on is where. Since a
 * fork it is the device's until one of the two has written.
 */
static uint64_t from_coherent(const struct window *w, unsigned i, uint64_t on)
{
	uint64_t out = from_table(w, i);

	if (!(out & UHMM_RANGE_VALID) || (w->forked[i] && w->seen[i] & OS_PAGE_EXCLUSIVE))
		return out;
	return (out & ~RANGE_PFN) | on;
}

/* The page's out, and what has to be done for it; or -errno: it cannot be had. */
static int judge(struct window *w, unsigned i)
{
	bool read = w->want[i] & WANT_READ, write = read && w->want[i] & WANT_WRITE;
	enum need need = NOTHING;

	if (w->place[i] == SETTLING)
		w->place[i] = w->seen[i] & OS_PAGE_PRESENT ? IN_TABLE : AWAY;
	switch (w->place[i]) {
	case IN_TABLE:
	case COHERENT:
		w->out[i] = w->place[i] == IN_TABLE ? from_table(w, i) :
						      from_coherent(w, i, w->out[i]);
		if (!(w->out[i] & UHMM_RANGE_VALID))
			need = write ? WRITE : READ;
		else if (write && !(w->out[i] & UHMM_RANGE_WRITE))
			need = WRITE;
		break;
	case ON_DEVICE:
		if (w->vma.writable && !w->forked[i])
			w->out[i] |= UHMM_RANGE_WRITE;
		break;
	case LOST:
		w->out[i] = UHMM_RANGE_ERROR;
		break;
	default:
		w->out[i] = 0;
		need = w->place[i] == AWAY ? FETCH : WAIT;
		break;
	}
	if (read && w->out[i] & UHMM_RANGE_ERROR)
		return -EFAULT;
	if (!read || need == NOTHING)
		return NOTHING;
	return write && !w->vma.writable ? -EPERM : (int)need;
}

/* 1: it can be done along with what is needed before, if anything; 0: only after that. */
static int needs(struct window *w, unsigned i, enum need need)
{
	if (w->need == NOTHING) {
		w->need = need;
		w->needy = i;
	} else if (w->need != need || w->needy_end != i) {
		return 0;
	}
	w->needy_end = i + 1;
	return 1;
}

static int again(struct window *w, unsigned i)
{
	needs(w, i, AGAIN);
	return 0;
}

static bool is_watchable(const struct os_vma *vma)
{
	return vma->kind == OS_VMA_ANON || vma->kind == OS_VMA_HEAP;
}

/* False: not now. What cannot be registered is not, another space's for one. */
static bool watch(struct window *w)
{
	unsigned shard;
	int r;

	if (!is_watchable(&w->vma))
		return true;
	shard = gate_enter(&w->sp->gate);
	r = register_mapping(w->sp, &(struct range){ w->vma.start, w->vma.end },
			     w->vma.start, w->vma.end);
	gate_leave(&w->sp->gate, shard);
	return r != -EAGAIN;
}

/* Is what was registered and looked at the mapping that we thought it was? */
static bool is_same(const struct window *w, unsigned i)
{
	struct os_vma vma;

	return !is_watchable(&w->vma) ||
	       (os_vma_next(w->addr + i * PAGE_SIZE, false, &vma) == 0 &&
		vma.start == w->vma.start && vma.end == w->vma.end &&
		vma.kind == w->vma.kind && vma.readable == w->vma.readable &&
		vma.writable == w->vma.writable);
}

/* Pages [from, to) are of one mapping. 1: go on behind them; 0, or -errno: do not. */
static int judge_mapped(struct window *w, unsigned from, unsigned to)
{
	unsigned i;
	int r;

	if (!watch(w))
		return again(w, from);
	r = os_look(w->addr + from * PAGE_SIZE, to - from, &w->seen[from]);
	if (r)
		return -EFAULT;
	if (!is_same(w, from))
		return again(w, from);
	for (i = from; i < to; i++) {
		r = judge(w, i);
		if (r < 0)
			return w->need ? 0 : r; /* first things first */
		if (r == NOTHING && !w->need)
			w->done = i + 1;
		else if (r == NOTHING || !needs(w, i, (enum need)r))
			return 0;
	}
	return 1;
}

/* Pages [from, to) have no mapping, or one that nobody may read. */
static int judge_unmapped(struct window *w, unsigned from, unsigned to)
{
	unsigned i;

	for (i = from; i < to; i++) {
		if (w->need)
			return 0;
		if (w->want[i] & WANT_READ)
			return -EFAULT;
		w->out[i] = UHMM_RANGE_ERROR;
		w->done = i + 1;
	}
	return 1;
}

/* The mapping of page i, or what comes before the next. *to: as far as that goes. */
static bool mapping_of(struct window *w, unsigned i, unsigned *to)
{
	uintptr_t addr = w->addr + i * PAGE_SIZE, end = w->addr + w->nr * PAGE_SIZE;
	int r;

	while ((r = os_vma_next(addr, false, &w->vma)) == -EAGAIN)
		os_yield(); /* it has just changed */
	*to = w->nr;
	if (r || w->vma.start >= end)
		return false;
	if (w->vma.start > addr) {
		*to = (unsigned)((w->vma.start - w->addr) >> PAGE_SHIFT);
		return false;
	}
	if (w->vma.end < end)
		*to = (unsigned)((w->vma.end - w->addr) >> PAGE_SHIFT);
	return w->vma.readable && w->vma.kind != OS_VMA_SPECIAL;
}

/* 0: w->need says what to do, if anything; or why what is wanted cannot be had. */
static int look(struct window *w)
{
	unsigned i = w->done, to;
	int r = 1;

	w->need = NOTHING;
	look_at_entries(w);
	while (i < w->nr && r > 0) {
		r = mapping_of(w, i, &to) ? judge_mapped(w, i, to) :
					    judge_unmapped(w, i, to);
		i = to;
	}
	return r < 0 ? r : 0;
}

/* ---- seeing to it ----------------------------------------------------------------- */

static int fetch(struct window *w, uintptr_t start, uintptr_t end)
{
	struct gate_visit visit;
	int r;

	gate_visit(&w->sp->world, &visit);
	r = fault_range(w->sp, start, end, NULL);
	gate_end_visit(&w->sp->world, &visit);
	return r;
}

static int touch_some(struct window *w, uintptr_t start, uintptr_t end)
{
	bool write = w->need == WRITE;

	if (populate(w->sp, start, end, write))
		return -EFAULT;
	if (write)
		memset(&w->written[w->needy], true, (end - start) >> PAGE_SHIFT);
	return 0;
}

/*
 * All of them at once, or else the first. That it cannot be touched may be because its
 * mapping has changed since we looked: the second time it counts.
 */
static int touch(struct window *w, uintptr_t start, uintptr_t end)
{
	if (touch_some(w, start, end) == 0 ||
	    (end - start > PAGE_SIZE && touch_some(w, start, start + PAGE_SIZE) == 0))
		return 0;
	if (w->failed == w->needy)
		return -EFAULT;
	w->failed = w->needy;
	return 0;
}

static int see_to(struct window *w)
{
	uintptr_t start = w->addr + w->needy * PAGE_SIZE;
	uintptr_t end = w->addr + w->needy_end * PAGE_SIZE;

	if (w->need != AGAIN)
		w->paused = 0;
	switch (w->need) {
	case AGAIN:
		migrate_pause(w->paused++);
		return 0;
	case FETCH:
		return fetch(w, start, end);
	case WAIT:
		os_wait(&w->sp->migration_done, w->migrations, WAIT_NS);
		return 0;
	default:
		return touch(w, start, end);
	}
}

/* ---- windows ---------------------------------------------------------------------- */

static int is_stale(const struct uhmm_range *range)
{
	if (!__atomic_load_n(&range->notifier->space, __ATOMIC_ACQUIRE))
		return -EFAULT;
	return notifier_is_stale(range->notifier, range->notifier_seq) ? -EBUSY : 0;
}

static int window_run(struct window *w)
{
	struct gate_visit visit;
	int r;

	for (;;) {
		r = is_stale(w->range);
		if (r)
			return r;
		w->migrations = __atomic_load_n(&w->sp->migration_done, __ATOMIC_ACQUIRE);
		gate_visit(&w->sp->world, &visit);
		r = look(w);
		gate_end_visit(&w->sp->world, &visit);
		if (r || !w->need)
			return r;
		r = see_to(w);
		if (r)
			return r;
	}
}

static void window_begin(struct window *w, uintptr_t addr, const uint64_t *pfns)
{
	uintptr_t end = chunk_start(addr) + CHUNK_SIZE;
	uint64_t request;
	unsigned i;

	if (end > w->range->end)
		end = w->range->end;
	w->addr = addr;
	w->nr = (unsigned)((end - addr) >> PAGE_SHIFT);
	w->done = w->paused = 0;
	w->failed = WINDOW;
	memset(w->written, 0, w->nr);
	for (i = 0; i < w->nr; i++) {
		request = (pfns[i] & w->range->pfn_flags_mask) | w->range->default_flags;
		w->want[i] = 0;
		if (request & UHMM_RANGE_REQ_FAULT)
			w->want[i] |= WANT_READ;
		if (request & UHMM_RANGE_REQ_WRITE)
			w->want[i] |= WANT_WRITE;
	}
}

static bool is_valid(const struct uhmm_range *range)
{
	const struct uhmm_notifier *n = range->notifier;

	return n && range->start < range->end &&
	       !((range->start | range->end) & (PAGE_SIZE - 1)) &&
	       (n->start & ~(PAGE_SIZE - 1)) <= range->start &&
	       range->end - 1 <= (n->last | (PAGE_SIZE - 1)) && range->pfns &&
	       !(range->default_flags & ~REQUESTS);
}

int uhmm_range_fault(struct uhmm_range *arg)
{
	struct uhmm_range range;
	struct window w = { .range = &range };
	uint64_t *pfns;
	int r = 0;

	if (!arg || arg->size < sizeof(*arg))
		return -EINVAL;
	range = *arg;
	if (!is_valid(&range))
		return -EINVAL;
	w.sp = notifier_use(range.notifier);
	if (!w.sp)
		return -EFAULT;
	for (w.addr = range.start, pfns = range.pfns; w.addr < range.end && !r;
	     w.addr += w.nr * PAGE_SIZE, pfns += w.nr) {
		window_begin(&w, w.addr, pfns);
		r = window_run(&w);
		if (!r)
			memcpy(pfns, w.out, w.nr * sizeof(*pfns));
	}
	notifier_unuse(range.notifier);
	return r;
}

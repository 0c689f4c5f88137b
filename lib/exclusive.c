/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exclusive pages. See exclusive.h.
 *
 * A page is made exclusive like one of a migration: what is elsewhere is brought back,
 * what is not there is written to, the page is isolated, and when its entry went from
 * PROBATION to EXCLUSIVE it is the device's. Who touched it in between has it back. One
 * that is exclusive already changes hands: notifiers are told of the new owner.
 */
#include "lib/exclusive.h"

#include <errno.h>

#include "lib/coherent.h"
#include "lib/fault.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap.h"
#include "lib/populate.h"
#include "uhmm/range.h"

/* ---- taking it away --------------------------------------------------------------- */

/* The gate is entered. */
static bool to_probation(struct uhmm_space *sp, entry_t *entry, uintptr_t addr,
			 entry_t *to)
{
	entry_t e = entry ? entry_load(entry) : 0;

	*to = entry_make(PAGE_PROBATION, entry_payload(e), 0);
	return entry_state(e) == PAGE_EXCLUSIVE && page_change(sp, entry, addr, &e, *to);
}

/*
 * If it has become exclusive once more since we told, whoever made it so began before
 * that: his sequence is stale.
 */
bool exclusive_revoke(struct uhmm_space *sp, uintptr_t addr, entry_t *e)
{
	bool told = notifier_begin(sp, addr, addr + PAGE_SIZE, UHMM_EVENT_CLEAR, NULL);
	unsigned shard = gate_enter(&sp->gate);
	bool done = to_probation(sp, page_entry(page_chunk(sp, addr), addr), addr, e);

	gate_leave(&sp->gate, shard);
	notifier_end(sp, told);
	return done;
}

static int give_up_one(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		       bool folio)
{
	entry_t e;

	(void)chunk;
	(void)folio;
	to_probation(ctx, entry, addr, &e);
	return 0;
}

void exclusive_give_up(struct uhmm_space *sp)
{
	unsigned shard;

	if (!__atomic_load_n(&sp->exclusives.any, __ATOMIC_ACQUIRE))
		return;
	shard = gate_enter(&sp->gate);
	page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, give_up_one, sp);
	gate_leave(&sp->gate, shard);
	__atomic_store_n(&sp->exclusives.any, false, __ATOMIC_RELEASE);
}

/* ---- making one ------------------------------------------------------------------- */

/* A group with a slot to spare, or GROUP_NIL. Under the lock. */
static uint32_t open_group(struct uhmm_space *sp, bool executable)
{
	uint32_t *kept = &sp->exclusives.group[executable];

	if (!*kept)
		*kept = frame_group_open(sp, executable) + 1; /* NIL + 1 is 0 */
	return *kept - 1;
}

static void lend_if_full(struct uhmm_space *sp, bool executable)
{
	uint32_t *kept = &sp->exclusives.group[executable];

	if (frame_group(sp, *kept - 1)->nr_used < GROUP_PAGES)
		return;
	frame_group_lend(sp, *kept - 1);
	*kept = 0;
}

/* The number of an owner, 0 if there are too many. Under the lock. */
static unsigned owner_number(struct uhmm_space *sp, const void *owner)
{
	const void **known = sp->exclusives.owner;
	unsigned i;

	for (i = 1; i < SPACE_DEVICES && known[i] && known[i] != owner; i++)
		;
	if (!owner || i == SPACE_DEVICES)
		return 0;
	known[i] = owner;
	return i;
}

static entry_t entry_now(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	entry_t *entry = page_entry(page_chunk(sp, addr), addr);
	entry_t e = entry ? entry_load(entry) : 0;

	gate_leave(&sp->gate, shard);
	return e;
}

/* From PROBATION in this group, where we have put it, or from another owner. */
static bool to_exclusive(struct uhmm_space *sp, uintptr_t addr, uint32_t group,
			 unsigned owner, uhmm_pfn_t *pfn)
{
	unsigned shard = gate_enter(&sp->gate);
	entry_t *entry = page_entry(page_chunk(sp, addr), addr);
	entry_t e = entry ? entry_load(entry) : 0;
	uint64_t slot = entry_payload(e);
	bool done = entry_state(e) == PAGE_EXCLUSIVE ||
		    (entry_state(e) == PAGE_PROBATION && slot / GROUP_PAGES == group);

	done = done &&
	       page_change(sp, entry, addr, &e, entry_make(PAGE_EXCLUSIVE, slot, owner));
	gate_leave(&sp->gate, shard);
	*pfn = pfn_make(0, slot);
	return done;
}

/* -EAGAIN: not now. */
static int isolate_locked(struct uhmm_space *sp, uintptr_t addr, unsigned owner,
			  const struct os_vma *vma, uhmm_pfn_t *pfn)
{
	struct range range = { vma->start, vma->end };
	uint32_t group = open_group(sp, vma->executable);
	uint8_t result = UHMM_BUSY;
	int r;

	if (group == GROUP_NIL)
		return -ENOMEM;
	r = isolate_pages(sp, &range, addr, 1, group, ISOLATE_HOT | ISOLATE_TOLD,
			  &result);
	__atomic_store_n(&sp->exclusives.any, true, __ATOMIC_RELEASE);
	if (r > 0)
		r = to_exclusive(sp, addr, group, owner, pfn) ? 0 : -EAGAIN;
	else if (r == 0)
		r = result == UHMM_PINNED ? -EBUSY : -EAGAIN;
	else if (r == -EINVAL)
		r = -EOPNOTSUPP;
	else if (r != -ENOMEM)
		r = -EAGAIN;
	lend_if_full(sp, vma->executable);
	return r;
}

/* Under the lock. What is the owner's already nobody is told of. */
static int take_locked(struct uhmm_space *sp, uintptr_t addr, const void *owner,
		       const struct os_vma *vma, uhmm_pfn_t *pfn)
{
	unsigned number = owner_number(sp, owner);
	entry_t e = entry_now(sp, addr);
	bool exclusive = entry_state(e) == PAGE_EXCLUSIVE, told;
	int r;

	*pfn = pfn_make(0, entry_payload(e));
	if (exclusive && number && entry_device(e) == number)
		return 0;
	told = notifier_begin(sp, addr, addr + PAGE_SIZE, UHMM_EVENT_EXCLUSIVE, owner);
	if (exclusive)
		r = to_exclusive(sp, addr, GROUP_NIL, number, pfn) ? 0 : -EAGAIN;
	else
		r = isolate_locked(sp, addr, number, vma, pfn);
	notifier_end(sp, told);
	return r;
}

static int take(struct uhmm_space *sp, uintptr_t addr, const void *owner,
		const struct os_vma *vma, uhmm_pfn_t *pfn)
{
	int r;

	uhmm_lock(&sp->exclusives.lock);
	r = take_locked(sp, addr, owner, vma, pfn);
	uhmm_unlock(&sp->exclusives.lock);
	return r;
}

/* 0: it may have pages that can be exclusive. */
static int look_at_mapping(uintptr_t addr, struct os_vma *vma)
{
	int r = os_vma_next(addr, false, vma);

	if (r == -EAGAIN)
		return r;
	if (r || vma->start > addr || addr >> ADDRESS_BITS)
		return -EFAULT;
	if (vma->kind != OS_VMA_ANON && vma->kind != OS_VMA_HEAP)
		return -EOPNOTSUPP;
	return vma->writable ? 0 : -EPERM;
}

/*
 * Brings the page to its place, unless it is exclusive. *touch: it is to be written to,
 * to be a page of its own.
 */
static int bring_here(struct uhmm_space *sp, uintptr_t addr, bool *touch)
{
	uint8_t result = UHMM_ALREADY, seen = 0;
	int r;

	if (entry_state(entry_now(sp, addr)) == PAGE_EXCLUSIVE)
		return 0;
	r = fault_range(sp, addr, addr + PAGE_SIZE, &result);
	if (r)
		return r;
	if (result == UHMM_LOST)
		return -EFAULT;
	if (result == UHMM_BUSY)
		return -EBUSY;      /* a migration has it */
	coherent_release(sp, addr); /* what one has for itself is memory */
	r = os_look(addr, 1, &seen);
	if (r)
		return -EFAULT;
	*touch = !(seen & OS_PAGE_PRESENT) || seen & OS_PAGE_ZERO;
	return 0;
}

/* -EAGAIN: once more, if *touch after the page has been written to. */
static int try(struct uhmm_space *sp, uintptr_t addr, const void *owner, uhmm_pfn_t *pfn,
	       bool *touch)
{
	struct os_vma vma;
	int r = look_at_mapping(addr, &vma);

	*touch = false;
	if (!r)
		r = bring_here(sp, addr, touch);
	if (!r)
		r = *touch ? -EAGAIN : take(sp, addr, owner, &vma, pfn);
	return r;
}

int uhmm_make_exclusive(struct uhmm_space *sp, uintptr_t addr, const void *owner,
			uhmm_pfn_t *pfn)
{
	struct gate_visit visit;
	uhmm_pfn_t got = 0;
	unsigned tries;
	bool touch, failed = false;
	int r = -EAGAIN;

	if (!pfn || addr & (PAGE_SIZE - 1))
		return -EINVAL;
	for (tries = 0; r == -EAGAIN && tries < MIGRATE_TRIES; tries++) {
		gate_visit(&sp->world, &visit);
		r = try(sp, addr, owner, &got, &touch);
		gate_end_visit(&sp->world, &visit);
		if (r == -EAGAIN && !touch) {
			migrate_pause(tries);
		} else if (touch && populate(sp, addr, addr + PAGE_SIZE, true)) {
			if (failed)
				return -EFAULT; /* and no change of the mapping */
			failed = true;
		}
	}
	if (r == 0)
		*pfn = got;
	return r == -EAGAIN ? -EBUSY : r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolving a fault in the thread that has it, in a handler, with all signals blocked:
 * see lib/inline.c.
 */
#include <errno.h>

#include "lib/budget.h"
#include "lib/fault.h"
#include "lib/fault_internal.h"
#include "lib/fork.h"
#include "lib/gate.h"
#include "lib/inline.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/populate.h"
#include "lib/reclaim.h"

/* A driver has the page, for as long as its driver likes. */
static void wait_for_migration(struct uhmm_space *sp, uint32_t seen)
{
	os_wait(&sp->migration_done, seen, 2000000);
}

/* Inside the gate: an event that was read may not be applied yet. */
static bool poisoned(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	entry_t *entry = page_entry(page_chunk(sp, addr), addr);
	bool is = entry && entry_state(entry_load(entry)) == PAGE_POISONED;

	gate_leave(&sp->gate, shard);
	return is;
}

bool inline_is(const struct uhmm_space *sp)
{
	return sp && sp->delivery == UHMM_DELIVERY_INLINE && !sp->unusable;
}

/* Do our tables, as they were copied, have the page? Nothing is locked. */
static bool was_known(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk *chunk;
	bool folio;
	const entry_t *entry = find_entry(sp, addr, &chunk, &folio);

	return entry && entry_state(entry_load(entry)) != PAGE_NONE;
}

/*
 * Is memory at addr registered with some userfaultfd? Another one is refused there. What
 * /proc would tell is of no use where this is asked: what is open of it is the parent's,
 * and a child may be without.
 */
static bool is_registered(struct uhmm_space *sp, uintptr_t addr)
{
	int uffd = os_uffd_open(OS_UFFD_USER_ONLY), r;

	if (uffd < 0)
		return was_known(sp, addr); /* none to be had: then that is what tells */
	r = os_uffd_register(uffd, addr, PAGE_SIZE);
	os_uffd_close(uffd);
	return r == -EBUSY;
}

/*
 * In a child by a raw clone(), whose memory its parent fills and nobody else can: is the
 * page one that is still to be filled? What there is of us was copied in the middle of
 * anything, so nothing is locked, and what our tables say may be of before.
 */
static bool wait_to_be_filled(struct uhmm_space *sp, uintptr_t addr)
{
	/*
	 * Or it was lost there: a kernel without CONFIG_MEMORY_FAILURE raises the same
	 * signal for that.
	 */
	int r = os_populate(addr, PAGE_SIZE, false);
	unsigned tries;

	if (r == 0 || r == -EHWPOISON)
		return r == 0;
	/*
	 * All has been filled when it is not registered any more; which it may become for
	 * a moment, when that is tried out (fork_fill.c).
	 */
	for (tries = 0; tries < 8 && !is_registered(sp, addr); tries++) {
		if (os_populate(addr, PAGE_SIZE, false) == 0)
			return true;
		os_yield();
	}
	os_yield();
	return tries < 8;
}

bool inline_resolve(struct uhmm_space *sp, uintptr_t addr, bool alone)
{
	uint32_t migrations = __atomic_load_n(&sp->migration_done, __ATOMIC_ACQUIRE);
	struct fault_buf buf;
	unsigned shard;
	int r = 0;

	if (fork_frozen_inline(sp, addr))
		return true;
	if (!*sp->here)
		return wait_to_be_filled(sp, addr);
	if (poisoned(sp, addr))
		return false;
	if (!fork_enter_inline(sp, addr, &shard))
		return true;
	if (sp->unusable) {
		gate_leave(&sp->world, shard);
		return true;
	}
	if (!alone && !page_is_known(sp, addr))
		r = populate_owns(sp, addr);
	if (r) {
		gate_leave(&sp->world, shard);
		return r == -EAGAIN;
	}
	fault_buf_get(sp, &buf);
	r = fault_resolve(sp, addr, true, &buf);
	fault_buf_put(sp, &buf);
	if (r == -EBUSY)
		r = fault_wait(sp, addr) ? -EINPROGRESS : 0;
	else
		reclaim_direct(sp);
	gate_leave(&sp->world, shard);
	if (r == -EINPROGRESS)
		wait_for_migration(sp, migrations);
	if (r == -ENOSPC) {
		__atomic_fetch_add(&sp->counter[COUNT_FAULT_PARKED], 1, __ATOMIC_RELAXED);
		reclaim_wait_for_room(sp);
	}
	budget_watch(sp);
	return r != -ENOENT && !(r == 0 && poisoned(sp, addr));
}

bool inline_fault(struct uhmm_space *sp, uintptr_t addr)
{
	return inline_is(sp) && inline_resolve(sp, addr & ~(PAGE_SIZE - 1), true);
}

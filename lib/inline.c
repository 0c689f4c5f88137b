/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SIGBUS handler. It runs on the faulting thread, with all signals blocked, between
 * two instructions of the program: it takes no lock that libc or the program could hold,
 * and what it waits for (a page in transition, room in the budget) never waits for it.
 *
 * The kernel does not say which userfaultfd a SIGBUS came from, nor that it came from
 * one: the fault is ours if a space has the page migrated, or if the page can be filled,
 * which only works where the mapping is registered. Everything else, and a page whose
 * bytes are lost, goes to the handler that was there before.
 *
 * Any userfaultfd of the process may fill where any other is registered. So where there
 * are several spaces, one without an entry for the page must not take it for a hole: the
 * page may be isolated by another. It asks the kernel whose the mapping is, by
 * registering it: that is refused for another's and changes nothing for one's own.
 *
 * A space that ends is out of the registry before its userfaultfd is closed, and its
 * memory is freed when no handler can have it in hand any more. A fault that no space
 * claims is repeated while one ends, and once more after each end.
 */
#include "lib/inline.h"

#include <errno.h>
#include <signal.h>

#include "lib/budget.h"
#include "lib/fault.h"
#include "lib/fault_internal.h"
#include "lib/fork.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/populate.h"
#include "lib/registry.h"
#include "lib/reclaim.h"

static struct sigaction before;

/* Handlers at work, in two generations: who waits for the older ones to leave. */
static uint32_t handlers[2], generation;
static struct uhmm_lock quiesce_lock;
static uint32_t ending, ended; /* spaces; has one ended? */
static uint64_t last_unclaimed;

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

static bool is_inline(const struct uhmm_space *sp)
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

/* Resolves a fault that is the space's. False: it is not. */
static bool resolve(struct uhmm_space *sp, uintptr_t addr, bool alone)
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
	return is_inline(sp) && resolve(sp, addr & ~(PAGE_SIZE - 1), true);
}

/* Who has an entry for the page has it; else who has the mapping. */
static bool resolve_any(uintptr_t addr)
{
	struct uhmm_space *sp;
	int i, nr = 0;

	for (i = 0; i < REGISTRY_SPACES; i++)
		nr += is_inline(registry_get(i));
	for (i = 0; nr > 1 && i < REGISTRY_SPACES; i++) {
		sp = registry_get(i);
		if (is_inline(sp) && *sp->here && page_is_known(sp, addr))
			return resolve(sp, addr, false);
	}
	for (i = 0; i < REGISTRY_SPACES; i++) {
		sp = registry_get(i);
		if (is_inline(sp) && resolve(sp, addr, nr == 1))
			return true;
	}
	return false;
}

/*
 * The fault may be one of a space that has ended since: then it does not repeat. Two
 * threads that share the word at worst repeat theirs once more.
 */
static bool maybe_stale(uintptr_t addr)
{
	uint64_t id = (uint64_t)os_tid() << 48 ^ addr;

	if (__atomic_load_n(&ending, __ATOMIC_ACQUIRE)) {
		os_yield();
		return true;
	}
	return __atomic_load_n(&ended, __ATOMIC_ACQUIRE) &&
	       __atomic_exchange_n(&last_unclaimed, id, __ATOMIC_RELAXED) != id;
}

void inline_ending(struct uhmm_space *sp)
{
	int i;

	if (sp->delivery != UHMM_DELIVERY_INLINE)
		return;
	__atomic_fetch_add(&ending, 1, __ATOMIC_ACQ_REL);
	registry_remove(sp);
	uhmm_lock(&quiesce_lock);
	/* Twice: a handler may have read the generation before it counted itself in. */
	for (i = 0; i < 2; i++) {
		uint32_t old = __atomic_fetch_xor(&generation, 1, __ATOMIC_SEQ_CST);

		while (__atomic_load_n(&handlers[old], __ATOMIC_SEQ_CST))
			os_yield();
	}
	uhmm_unlock(&quiesce_lock);
}

void inline_ended(bool was_inline)
{
	if (!was_inline)
		return;
	/* A fault that was repeated once may be one of this space as well. */
	__atomic_store_n(&last_unclaimed, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
	__atomic_fetch_sub(&ending, 1, __ATOMIC_ACQ_REL);
}

void inline_after_fork(void)
{
	/* Whose handlers these were is not here. */
	handlers[0] = handlers[1] = ending = 0;
	quiesce_lock = (struct uhmm_lock){ 0 };
}

static void chain(int sig, siginfo_t *info, void *ucontext)
{
	bool is_fault = info->si_code > 0; /* else somebody has sent it */

	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(sig, info, ucontext);
	} else if (before.sa_handler == SIG_DFL ||
		   (before.sa_handler == SIG_IGN && is_fault)) {
		/* Again, without us: a fault repeats, and is not ignored by anybody. */
		signal(sig, SIG_DFL);
		if (!is_fault)
			raise(sig);
	} else if (before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	}
}

static void on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	uintptr_t addr = (uintptr_t)info->si_addr & ~(PAGE_SIZE - 1);
	bool may_be = info->si_code == BUS_ADRERR, claimed;
	uint32_t mine = __atomic_load_n(&generation, __ATOMIC_SEQ_CST);
	int saved = errno;

	__atomic_fetch_add(&handlers[mine], 1, __ATOMIC_SEQ_CST);
	claimed = may_be && resolve_any(addr);
	__atomic_fetch_sub(&handlers[mine], 1, __ATOMIC_SEQ_CST);
	if (!claimed && may_be)
		claimed = maybe_stale(addr);
	errno = saved;
	if (!claimed)
		chain(sig, info, ucontext);
}

int inline_install(void)
{
	static uint32_t installed;
	struct sigaction sa = { .sa_sigaction = on_sigbus,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	if (__atomic_exchange_n(&installed, 1, __ATOMIC_ACQ_REL))
		return 0;
	sigfillset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, &before) ? -errno : 0;
}

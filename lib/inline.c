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
 */
#include "lib/inline.h"

#include <errno.h>
#include <signal.h>

#include "lib/budget.h"
#include "lib/fault.h"
#include "lib/fork.h"
#include "lib/gate.h"
#include "lib/page.h"
#include "lib/registry.h"
#include "lib/reclaim.h"

static struct sigaction before;

/* Waits a little for the worker to make room. */
static void wait_for_room(struct uhmm_space *sp)
{
	uint32_t seen = __atomic_load_n(&sp->inline_room, __ATOMIC_ACQUIRE);

	reclaim_ring(sp);
	os_wait(&sp->inline_room, seen, 2000000);
}

static bool poisoned(struct uhmm_space *sp, uintptr_t addr)
{
	entry_t *entry = page_entry(page_chunk(sp, addr), addr);

	return entry && entry_state(entry_load(entry)) == PAGE_POISONED;
}

/* Resolves a fault that is the space's. False: it is not. */
static bool resolve(struct uhmm_space *sp, uintptr_t addr)
{
	struct fault_buf buf;
	unsigned shard;
	int r;

	if (sp->delivery != UHMM_DELIVERY_INLINE || sp->unusable || poisoned(sp, addr))
		return false;
	if (fork_frozen_inline(sp, addr))
		return true;
	shard = gate_enter(&sp->world);
	fault_buf_get(sp, &buf);
	r = fault_resolve(sp, addr, true, &buf);
	fault_buf_put(sp, &buf);
	if (r == -EBUSY)
		fault_wait(sp, addr);
	gate_leave(&sp->world, shard);
	if (r == -ENOSPC) {
		__atomic_fetch_add(&sp->counter[COUNT_FAULT_PARKED], 1, __ATOMIC_RELAXED);
		wait_for_room(sp);
	}
	budget_watch(sp);
	return r != -ENOENT && !(r == 0 && poisoned(sp, addr));
}

static void chain(int sig, siginfo_t *info, void *ucontext)
{
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(sig, info, ucontext);
	} else if (before.sa_handler == SIG_DFL) {
		/* Again, without us: the fault repeats when we return. */
		signal(sig, SIG_DFL);
	} else if (before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	}
}

static void on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	uintptr_t addr = (uintptr_t)info->si_addr & ~(PAGE_SIZE - 1);
	int saved = errno, i;

	for (i = 0; i < REGISTRY_SPACES; i++) {
		struct uhmm_space *sp = registry_get(i);

		if (sp && info->si_code == BUS_ADRERR && resolve(sp, addr)) {
			errno = saved;
			return;
		}
	}
	errno = saved;
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

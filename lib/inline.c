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

#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/registry.h"

static struct sigaction before;

/* Handlers at work, in two generations: who waits for the older ones to leave. */
static uint32_t handlers[2], generation;
static struct uhmm_lock quiesce_lock;
static uint32_t ending, ended; /* spaces; has one ended? */
static uint64_t last_unclaimed;

/* Who has an entry for the page has it; else who has the mapping. */
static bool resolve_any(uintptr_t addr)
{
	struct uhmm_space *sp;
	int i, nr = 0;

	for (i = 0; i < REGISTRY_SPACES; i++)
		nr += inline_is(registry_get(i));
	for (i = 0; nr > 1 && i < REGISTRY_SPACES; i++) {
		sp = registry_get(i);
		if (inline_is(sp) && *sp->here && page_is_known(sp, addr))
			return inline_resolve(sp, addr, false);
	}
	for (i = 0; i < REGISTRY_SPACES; i++) {
		sp = registry_get(i);
		if (inline_is(sp) && inline_resolve(sp, addr, nr == 1))
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

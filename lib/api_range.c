/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/range.h>: notifiers come and go, spaces are found. What takes place in the space
 * is in lib/notifier.c, lib/range_fault.c and lib/exclusive.c.
 *
 * A notifier may outlive its space: what its driver calls then finds that it has ended.
 * So the two come apart, and notifiers come and go, under the registry's lock, which also
 * keeps fork() away: a child finds the tree of notifiers whole.
 */
#include <errno.h>
#include <string.h>

#include "lib/gate.h"
#include "lib/notifier.h"
#include "lib/pagemap.h"
#include "lib/reader.h"
#include "lib/registry.h"

/* ---- notifiers -------------------------------------------------------------------- */

/*
 * Who is at work in the space may have seen that it has no notifiers. The first one is
 * told of nothing that such a thread does, so it begins when they are done. In a forked
 * child whose driver's after_fork() does this there is nobody, and the world is closed.
 */
static void give_grace(struct uhmm_space *sp)
{
	if (__atomic_load_n(&sp->fork.phase, __ATOMIC_ACQUIRE) != FORK_NONE)
		return;
	gate_close(&sp->world);
	gate_open(&sp->world);
	reader_finish(sp);
}

int uhmm_notifier_insert(struct uhmm_space *sp, uintptr_t start, size_t len,
			 const struct uhmm_notifier_ops *ops, void *ctx,
			 struct uhmm_notifier **notifier)
{
	struct uhmm_notifier *n;
	uint64_t signals;

	if (!ops || ops->size < sizeof(*ops) || !ops->invalidate || !len)
		return -EINVAL;
	if (start + (len - 1) < start)
		return -EOVERFLOW;
	n = uhmm_host_map(sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->space = sp;
	n->start = start;
	n->last = start + (len - 1);
	n->ops = *ops;
	n->ctx = ctx;
	registry_lock(&signals);
	if (notifier_link(sp, n))
		give_grace(sp);
	registry_unlock(&signals);
	*notifier = n;
	return 0;
}

void uhmm_notifier_remove(struct uhmm_notifier *n)
{
	uint64_t signals;

	if (!n)
		return;
	registry_lock(&signals);
	if (n->space)
		notifier_unlink(n->space, n);
	registry_unlock(&signals);
	uhmm_host_unmap(n, sizeof(*n));
}

uint64_t uhmm_notifier_read_begin(struct uhmm_notifier *n)
{
	struct uhmm_space *sp = notifier_use(n);
	uint64_t seq;

	if (!sp)
		return __atomic_load_n(&n->seq, __ATOMIC_ACQUIRE);
	seq = notifier_read_begin(sp, n);
	notifier_unuse(n);
	return seq;
}

bool uhmm_notifier_read_retry(struct uhmm_notifier *n, uint64_t seq)
{
	return notifier_is_stale(n, seq);
}

void uhmm_notifier_set_seq(struct uhmm_notifier *n, uint64_t seq)
{
	__atomic_store_n(&n->seq, seq, __ATOMIC_RELEASE);
}

void uhmm_protection_changed(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	if (start < end)
		notifier_end(sp,
			     notifier_begin(sp, start, end, UHMM_EVENT_PROTECTION, NULL));
}

struct uhmm_pagemap *uhmm_range_pagemap(struct uhmm_space *sp, uint64_t pfn,
					uint64_t *page)
{
	unsigned device = (unsigned)(pfn >> PFN_PAGE_BITS) % SPACE_DEVICES;

	if (!(pfn & UHMM_RANGE_VALID) || !device)
		return NULL;
	*page = pfn & PFN_PAGE_MASK;
	return pagemap_at(sp, device);
}

/* ---- spaces ----------------------------------------------------------------------- */

struct uhmm_space *uhmm_space_find(int pid)
{
	struct uhmm_space *sp;
	uint64_t signals;

	if (pid && (uint32_t)pid != os_pid())
		return NULL;
	registry_lock(&signals);
	sp = registry_hold(NULL);
	registry_unlock(&signals);
	return sp;
}

struct uhmm_space *uhmm_space_get(struct uhmm_space *sp)
{
	uint64_t signals;

	if (!sp)
		return NULL;
	registry_lock(&signals);
	sp = registry_hold(sp);
	registry_unlock(&signals);
	return sp;
}

void uhmm_space_put(struct uhmm_space *sp)
{
	uint64_t signals;

	if (!sp)
		return;
	registry_lock(&signals);
	sp->holds--;
	registry_unlock(&signals);
}

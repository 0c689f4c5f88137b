/* SPDX-License-Identifier: Apache-2.0 */
/* See mirror.h: opening, releasing, and what the notifier tells. */
#include "compat/dmirror/mirror.h"

#include <errno.h>
#include <time.h>

#include "compat/dmirror/lock.h"
#include "compat/dmirror/process.h"

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* ---- the notifier ----------------------------------------------------------------- */

/*
 * Migrations to the device, and exclusive access, carry the mirror as their owner: what
 * the table has stays, and the mirror changes it itself. Those from the device carry the
 * device, so that they are told to all who mirror it.
 */
static bool is_own(const struct mirror *m, const struct uhmm_invalidation *what)
{
	return (what->event == UHMM_EVENT_MIGRATE ||
		what->event == UHMM_EVENT_EXCLUSIVE) &&
	       what->owner == m;
}

static void invalidate(struct uhmm_notifier *notifier, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	struct mirror *m = ctx;

	if (is_own(m, what))
		return;
	uhmm_lock(&m->lock);
	uhmm_notifier_set_seq(notifier, seq);
	table_erase(&m->table, what->start, what->end);
	uhmm_unlock(&m->lock);
}

static const struct uhmm_notifier_ops ops = {
	.size = sizeof(ops),
	.invalidate = invalidate,
};

/* ---- open and release ------------------------------------------------------------- */

int mirror_open(unsigned number, struct mirror **out)
{
	struct device *device;
	struct mirror *m;
	int r = process_device(number, &device);

	if (r)
		return r;
	m = uhmm_host_map(sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->device = device;
	m->space = device->space;
	m->generation = process_generation();
	m->refs = 1;
	r = uhmm_notifier_insert(m->space, 0, UINTPTR_MAX, &ops, m, &m->notifier);
	if (r)
		uhmm_host_unmap(m, sizeof(*m));
	else
		*out = m;
	return r;
}

void mirror_release(struct mirror *m)
{
	sigset_t signals;

	uhmm_notifier_remove(m->notifier);
	/* In a child the device is not that of who opened it. */
	if (process_is_current(m->generation)) {
		maps_lock_write(&signals);
		device_evict(m->device);
		maps_unlock(&signals);
	}
	table_fini(&m->table);
	uhmm_host_unmap(m, sizeof(*m));
}

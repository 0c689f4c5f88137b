/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interval notifiers. See notifier.h.
 *
 * A treap, ordered by start, in which each node knows where the intervals below it end.
 * An invalidation walks it with the lock taken, but for the callbacks; it finds its way
 * by the order of notifiers, so that others may come and go meanwhile.
 */
#include "lib/notifier.h"

#include <limits.h>

#include "lib/assert.h"
#include "lib/gate.h"

/* ---- the tree; under the lock ----------------------------------------------------- */

static bool before(const struct uhmm_notifier *a, const struct uhmm_notifier *b)
{
	return a->start != b->start ? a->start < b->start : (uintptr_t)a < (uintptr_t)b;
}

/* As good as random, and always the same. */
static uint64_t priority(const struct uhmm_notifier *n)
{
	uint64_t h = ((uint64_t)(uintptr_t)n >> 6) * UINT64_C(0x9e3779b97f4a7c15);

	return (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
}

static struct uhmm_notifier *updated(struct uhmm_notifier *n)
{
	n->max_last = n->last;
	if (n->left && n->left->max_last > n->max_last)
		n->max_last = n->left->max_last;
	if (n->right && n->right->max_last > n->max_last)
		n->max_last = n->right->max_last;
	return n;
}

/* Those of t before n, and those behind it. */
static void split(struct uhmm_notifier *t, const struct uhmm_notifier *n,
		  struct uhmm_notifier **below, struct uhmm_notifier **above)
{
	if (!t) {
		*below = *above = NULL;
	} else if (before(t, n)) {
		split(t->right, n, &t->right, above);
		*below = updated(t);
	} else {
		split(t->left, n, below, &t->left);
		*above = updated(t);
	}
}

static struct uhmm_notifier *join(struct uhmm_notifier *below,
				  struct uhmm_notifier *above)
{
	if (!below || !above)
		return below ? below : above;
	if (priority(below) > priority(above)) {
		below->right = join(below->right, above);
		return updated(below);
	}
	above->left = join(below, above->left);
	return updated(above);
}

static struct uhmm_notifier *without(struct uhmm_notifier *t,
				     const struct uhmm_notifier *n)
{
	assert_always(t);
	if (t == n)
		return join(t->left, t->right);
	if (before(n, t))
		t->left = without(t->left, n);
	else
		t->right = without(t->right, n);
	return updated(t);
}

/* The first behind `after` (NULL: of all) that has a byte of [start, last]. */
static struct uhmm_notifier *next(struct uhmm_notifier *t, uintptr_t start,
				  uintptr_t last, const struct uhmm_notifier *after)
{
	struct uhmm_notifier *found;

	while (t && t->max_last >= start) {
		if (!after || before(after, t)) {
			found = next(t->left, start, last, after);
			if (found)
				return found;
			if (t->start > last)
				return NULL;
			if (t->last >= start)
				return t;
		} else if (t->start > last) {
			return NULL;
		}
		t = t->right;
	}
	return NULL;
}

/* ---- waiting; the lock is let go of meanwhile ------------------------------------- */

static void wait_progress(struct notifiers *ns)
{
	uint32_t seen = ns->progress;

	ns->waiters++;
	uhmm_unlock(&ns->lock);
	os_wait(&ns->progress, seen, -1);
	uhmm_lock(&ns->lock);
	ns->waiters--;
}

static void progress(struct notifiers *ns)
{
	__atomic_fetch_add(&ns->progress, 1, __ATOMIC_SEQ_CST);
	if (ns->waiters)
		os_wake(&ns->progress, INT_MAX);
}

/* ---- invalidations ---------------------------------------------------------------- */

static void call_returned(struct notifiers *ns, struct uhmm_notifier *n)
{
	if (n && --n->calls == 0)
		progress(ns);
}

void notifier_tell(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
		   enum uhmm_event event, const void *owner)
{
	struct uhmm_invalidation what = {
		.start = start, .end = end, .event = event, .owner = owner
	};
	struct notifiers *ns = &sp->notifiers;
	struct uhmm_notifier *n, *last = NULL;
	uint64_t seq;

	uhmm_lock(&ns->lock);
	ns->active++;
	if (ns->root)
		ns->seq |= 1;
	while ((n = next(ns->root, start, end - 1, last))) {
		seq = ns->seq;
		n->calls++;
		call_returned(ns, last);
		uhmm_unlock(&ns->lock);
		n->ops.invalidate(n, n->ctx, &what, seq);
		uhmm_lock(&ns->lock);
		last = n;
	}
	call_returned(ns, last);
	uhmm_unlock(&ns->lock);
}

void notifier_told(struct uhmm_space *sp)
{
	struct notifiers *ns = &sp->notifiers;

	uhmm_lock(&ns->lock);
	if (--ns->active == 0 && ns->seq & 1) {
		ns->seq++;
		progress(ns);
	}
	uhmm_unlock(&ns->lock);
}

/* ---- coming and going ------------------------------------------------------------- */

bool notifier_link(struct uhmm_space *sp, struct uhmm_notifier *n)
{
	struct notifiers *ns = &sp->notifiers;
	struct uhmm_notifier **at = &ns->root;
	bool first;

	n->calls = 0;
	uhmm_lock(&ns->lock);
	/* What is being invalidated it does not hear of: who reads waits for the end. */
	if (ns->active)
		ns->seq |= 1;
	n->seq = ns->seq & 1 ? ns->seq : ns->seq - 1;
	while (*at && priority(*at) >= priority(n)) {
		if ((*at)->max_last < n->last)
			(*at)->max_last = n->last;
		at = before(*at, n) ? &(*at)->right : &(*at)->left;
	}
	split(*at, n, &n->left, &n->right);
	*at = updated(n);
	first = __atomic_fetch_add(&ns->nr, 1, __ATOMIC_SEQ_CST) == 0;
	uhmm_unlock(&ns->lock);
	return first;
}

static void unlink_locked(struct notifiers *ns, struct uhmm_notifier *n)
{
	ns->root = without(ns->root, n);
	__atomic_fetch_sub(&ns->nr, 1, __ATOMIC_SEQ_CST);
	while (n->calls)
		wait_progress(ns);
}

void notifier_unlink(struct uhmm_space *sp, struct uhmm_notifier *n)
{
	struct notifiers *ns = &sp->notifiers;

	uhmm_lock(&ns->lock);
	unlink_locked(ns, n);
	uhmm_unlock(&ns->lock);
}

/* ---- using one -------------------------------------------------------------------- */

struct uhmm_space *notifier_use(struct uhmm_notifier *n)
{
	struct uhmm_space *sp;

	/* Count in, then look; who ends the space clears it, then looks at the count. */
	__atomic_fetch_add(&n->users, 1, __ATOMIC_SEQ_CST);
	sp = __atomic_load_n(&n->space, __ATOMIC_SEQ_CST);
	if (!sp)
		notifier_unuse(n);
	return sp;
}

void notifier_unuse(struct uhmm_notifier *n)
{
	if (__atomic_sub_fetch(&n->users, 1, __ATOMIC_SEQ_CST) == 0 &&
	    !__atomic_load_n(&n->space, __ATOMIC_SEQ_CST))
		os_wake(&n->users, INT_MAX);
}

uint64_t notifier_read_begin(struct uhmm_space *sp, struct uhmm_notifier *n)
{
	struct notifiers *ns = &sp->notifiers;
	struct gate_visit visit;
	uint64_t seq;

	/* What the program has done before we were called is known after this. */
	gate_visit(&sp->world, &visit);
	gate_leave(&sp->gate, gate_enter(&sp->gate));
	gate_end_visit(&sp->world, &visit);
	uhmm_lock(&ns->lock);
	seq = __atomic_load_n(&n->seq, __ATOMIC_RELAXED);
	/* It may be told anew meanwhile: whoever reads finds that out. */
	while (ns->seq == seq)
		wait_progress(ns);
	uhmm_unlock(&ns->lock);
	return seq;
}

/* ---- the end ---------------------------------------------------------------------- */

static void detach(struct notifiers *ns, struct uhmm_notifier *n)
{
	uint32_t users;

	__atomic_store_n(&n->space, NULL, __ATOMIC_SEQ_CST);
	unlink_locked(ns, n);
	uhmm_unlock(&ns->lock);
	while ((users = __atomic_load_n(&n->users, __ATOMIC_SEQ_CST)))
		os_wait(&n->users, users, -1);
	uhmm_lock(&ns->lock);
}

void notifier_release_all(struct uhmm_space *sp)
{
	struct notifiers *ns = &sp->notifiers;

	notifier_end(sp, notifier_begin(sp, 0, UINTPTR_MAX, UHMM_EVENT_RELEASE, NULL));
	uhmm_lock(&ns->lock);
	while (ns->root)
		detach(ns, ns->root);
	uhmm_unlock(&ns->lock);
}

static void forget(struct uhmm_notifier *n)
{
	if (!n)
		return;
	forget(n->left);
	forget(n->right);
	n->space = NULL;
	n->users = n->calls = 0;
}

void notifier_forget_all(struct uhmm_space *sp)
{
	struct notifiers *ns = &sp->notifiers;

	forget(ns->root);
	*ns = (struct notifiers){ .seq = (ns->seq | 1) + 1 };
}

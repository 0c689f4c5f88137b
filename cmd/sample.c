/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at processes that have no keeper.
 *
 * Their memory is read from /proc/PID/statm as often as their own keepers would do it,
 * and its sum is part of what the tree uses. What relatives share since a fork is counted
 * as in preload/usage.c.
 *
 * A process can be rung only between two system calls, and one call may take much memory:
 * read() up to 2 GiB. So while as much is left of the budget, nobody needs a keeper; when
 * there is less, all are rung, and new processes start theirs at once (ctl->eager). Below
 * 2 GiB, then, it is as if there were no doors.
 *
 * A process of which this is not known yet may have executed another program: then there
 * is nobody at the door, and it is left alone until it claims its slot anew.
 */
#include "tree.h"

#include "probe.h"
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/policy.h"

/* UHMM_RING_ROOM (MiB) is for tests of small programs. */
#define ROOM_MIB 2048
/* Between two attempts at the same process. */
#define RETRY_NS UINT64_C(2000000)
/* The user is told of a process that could not be rung for so long. */
#define TELL_NS UINT64_C(1000000000)
/* Time between two looks, in units of what one took; and at what a process shares. */
#define LOOK_REST 8
#define SHARE_REST 20
#define SHARE_REST_CHANGED 3

void tree_sample_init(struct tree *tree)
{
	const char *env = getenv("UHMM_RING_ROOM");
	int64_t mib = env ? strtol(env, NULL, 10) : ROOM_MIB;
	struct ctl *ctl = tree->ctl;

	tree->room_pages = mib * (1 << 20) / 4096;
	if ((int64_t)ctl->budget_pages < tree->room_pages)
		ctl->eager |= CTL_EAGER_NEAR;
	if (!ring_is_possible())
		ctl->eager |= CTL_EAGER_NOBODY;
}

int tree_sample_start(struct tree *tree)
{
	/* Zeros are right: most of it is never looked at. */
	tree->sample = calloc(CTL_SLOTS, sizeof(*tree->sample));
	tree->sample_ns = 0;
	return tree->sample ? 0 : -ENOMEM;
}

static void forget(struct tree_sample *sample)
{
	if (sample->statm)
		close(sample->statm - 1);
	*sample = (struct tree_sample){ 0 };
}

/* Resident anonymous pages. statm: size resident shared ... */
static int64_t read_rss(struct tree_sample *sample, uint32_t pid)
{
	long size, resident, shared;
	char text[128];
	ssize_t n;

	if (!sample->statm) {
		snprintf(text, sizeof(text), "/proc/%u/statm", pid);
		sample->statm = open(text, O_RDONLY | O_CLOEXEC) + 1;
	}
	n = sample->statm ? pread(sample->statm - 1, text, sizeof(text) - 1, 0) : -1;
	if (n <= 0)
		return 0;
	text[n] = 0;
	if (sscanf(text, "%ld %ld %ld", &size, &resident, &shared) != 3 ||
	    resident < shared)
		return 0;
	return resident - shared;
}

/* The same, pages that others have too by their share. -1: cannot be told. */
static int64_t read_pss(uint32_t pid)
{
	char path[64], text[4096], *at;
	long kib;

	snprintf(path, sizeof(path), "/proc/%u/smaps_rollup", pid);
	if (probe_read(path, text, sizeof(text)))
		return -1;
	at = strstr(text, "Pss_Anon:");
	return at && sscanf(at, "Pss_Anon: %ld", &kib) == 1 ? kib / 4 : -1;
}

static int64_t read_pages(struct tree_sample *sample, uint32_t pid, uint32_t forks,
			  uint32_t kin)
{
	int64_t rss = read_rss(sample, pid), pss;
	uint64_t before, after;

	if (forks == sample->alone)
		return rss;
	before = monotonic_ns();
	if (before >= sample->share_ns ||
	    (kin != sample->kin && before >= sample->again_share_ns)) {
		pss = read_pss(pid);
		if (pss < 0)
			return rss;
		after = monotonic_ns();
		sample->share_ns = after + (after - before) * SHARE_REST;
		sample->again_share_ns = after + (after - before) * SHARE_REST_CHANGED;
		sample->kin = kin;
		sample->pss_pages = pss;
		sample->rss_pages = rss;
		if (pss >= rss - rss / 256)
			sample->alone = forks;
	}
	pss = sample->pss_pages + rss - sample->rss_pages;
	return pss > 0 ? pss : 0;
}

/* Who holds the slot, if it has a door. */
static bool has_door(const struct ctl_slot *slot, union ctl_owner *owner, uint64_t *at)
{
	owner->claim = __atomic_load_n(&slot->claim, __ATOMIC_ACQUIRE);
	*at = __atomic_load_n(&slot->door, __ATOMIC_ACQUIRE);
	return *at && owner->pid && owner->pid != CTL_PID_FOLDING &&
	       CTL_LOAD(&slot->claim) == owner->claim;
}

/* What the process in slot i uses, if it does not say so itself; counts it in *doors. */
static int64_t look_at(struct tree *tree, uint32_t i, unsigned *doors)
{
	struct tree_sample *sample = &tree->sample[i];
	struct ctl_slot *slot = &tree->ctl->slot[i];
	union ctl_owner owner;
	uint64_t at;

	if (!has_door(slot, &owner, &at)) {
		if (sample->claim)
			forget(sample);
		return 0;
	}
	++*doors;
	if (sample->claim != owner.claim) {
		forget(sample);
		sample->claim = owner.claim;
	}
	sample->pages = 0;
	if (sample->state != SAMPLE_RUNG)
		sample->pages = read_pages(sample, owner.pid, CTL_LOAD(&slot->forks),
					   CTL_LOAD(&tree->ctl->kin));
	return sample->pages;
}

/* It could not be rung; it may be traced, or wait for a vfork child. */
static void note_failure(struct tree *tree, struct tree_sample *sample, uint32_t pid)
{
	uint64_t now = monotonic_ns();

	if (!sample->rung_ns)
		sample->rung_ns = now;
	/* Less and less often. */
	sample->again_ns = now + RETRY_NS + (now - sample->rung_ns) / 8;
	if (sample->said || now - sample->rung_ns < TELL_NS ||
	    ctl_usage_pages(tree->ctl) <= (int64_t)tree->ctl->budget_pages)
		return;
	sample->said = true;
	ctl_message_put(tree->ctl, pid,
			"a process is stopped or traced and runs without a limit");
}

static void ring_slot(struct tree *tree, uint32_t i)
{
	struct tree_sample *sample = &tree->sample[i];
	struct ctl_slot *slot = &tree->ctl->slot[i];
	union ctl_owner owner;
	uint64_t at;

	if (!has_door(slot, &owner, &at) || owner.claim != sample->claim ||
	    sample->state != SAMPLE_WATCHED || monotonic_ns() < sample->again_ns)
		return;
	switch (ring(owner.pid, owner.claim, at)) {
	case RING_UNABLE:
		ctl_message_put(tree->ctl, owner.pid,
				"a process could not start a thread and runs without a "
				"limit");
		CTL_STORE(&slot->managed, 2);
		sample->state = SAMPLE_UNABLE;
		break;
	case RING_DONE:
	case RING_NOBODY:
		sample->state = SAMPLE_RUNG;
		break;
	case RING_LATER:
		note_failure(tree, sample, owner.pid);
		break;
	}
}

/* Whether everyone must have a keeper; tells those to come. */
static bool is_near(struct tree *tree, int64_t total)
{
	struct ctl *ctl = tree->ctl;
	int64_t left = (int64_t)ctl->budget_pages - total;

	if (left < tree->room_pages)
		__atomic_fetch_or(&ctl->eager, CTL_EAGER_NEAR, __ATOMIC_RELAXED);
	else if (left > tree->room_pages + tree->room_pages / 8)
		__atomic_fetch_and(&ctl->eager, ~CTL_EAGER_NEAR, __ATOMIC_RELAXED);
	return left < tree->room_pages;
}

void tree_sample(struct tree *tree, bool everyone)
{
	struct ctl *ctl = tree->ctl;
	uint32_t nr = CTL_LOAD(&ctl->nr_slots);
	uint64_t before = monotonic_ns(), sleep_ns, cost_ns;
	struct watermarks wm;
	int64_t sum = 0, total;
	unsigned doors = 0;

	if (!tree->sample)
		return;
	nr = nr < CTL_SLOTS ? nr : CTL_SLOTS;
	for (uint32_t i = 0; i < nr; i++)
		sum += look_at(tree, i, &doors);
	CTL_STORE(&ctl->watched_pages, sum);
	total = ctl_usage_pages(ctl);
	ctl_note_usage(ctl, total);
	cost_ns = monotonic_ns() - before;
	if (is_near(tree, total) || everyone)
		for (uint32_t i = 0; i < nr; i++)
			ring_slot(tree, i);
	policy_watermarks((int64_t)ctl->budget_pages, false, &wm);
	/* Where there are no doors, those who have a keeper look. */
	sleep_ns = policy_sleep_ns(&wm, doors ? total : 0);
	if (sleep_ns < cost_ns * LOOK_REST)
		sleep_ns = cost_ns * LOOK_REST;
	tree->sample_ns = monotonic_ns() + sleep_ns;
}

void tree_sample_stop(struct tree *tree)
{
	__atomic_fetch_or(&tree->ctl->eager, CTL_EAGER_NOBODY, __ATOMIC_RELAXED);
	tree_sample(tree, true);
}

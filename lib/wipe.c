/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiped mappings. The kernel tells which they are only in /proc/self/smaps, at the price
 * of a walk over all resident pages. So a *witness* comes first: a mapping in which the
 * child finds a page that the kernel copied was not wiped. Only where there is none the
 * kernel is asked. A page that the parent's reader filled in the child is no witness.
 */
#include "lib/wipe.h"

#include <errno.h>

#include "lib/event.h"
#include "lib/page.h"
#include "lib/range.h"

/* Descriptors may be short for a moment. Without the list bytes would be wrong. */
#define LIST_TRIES 64u

/*
 * The next mapping from `at` on that has migrated pages; of what lies in no mapping
 * nothing is kept.
 */
static bool next_mapping(struct uhmm_space *sp, uintptr_t at, struct os_vma *vma)
{
	uintptr_t all = (uintptr_t)1 << ADDRESS_BITS, found, gap;
	unsigned tries;
	int r;

	while (page_first(sp, at, all, &found)) {
		for (tries = 0; (r = os_vma_next(found, false, vma)) && r != -ENOENT;
		     tries++) {
			if (tries == LIST_TRIES)
				os_die("the mappings of a forked child cannot be read");
			os_yield();
		}
		gap = r ? all : vma->start;
		if (gap <= found)
			return true;
		event_discard(sp, found, gap, true);
		at = gap;
	}
	return false;
}

static bool filled_by_parent(const struct frozen_log *log, uintptr_t addr)
{
	uint32_t i, nr = __atomic_load_n(&log->nr, __ATOMIC_ACQUIRE);

	for (i = 0; i < nr; i++)
		if (log->record[i].kind == FROZEN_FILL && log->record[i].from == addr)
			return true;
	return false;
}

static bool has_witness(struct uhmm_space *sp, const struct os_vma *vma)
{
	uintptr_t at = vma->start, walked;
	struct os_extent ext;

	while (at < vma->end &&
	       os_scan(at, vma->end, OS_SCAN_MEMORY, 1, &ext, 1, &walked) > 0) {
		if (!filled_by_parent(&sp->fork.shared->child, ext.start))
			return true;
		at = ext.start + PAGE_SIZE;
	}
	return false;
}

static void add(void *ctx, uintptr_t start, uintptr_t end)
{
	if (range_add(ctx, start, end))
		os_die("more mappings are wiped on fork than can be followed");
}

int wipe_list(uint32_t pid, struct range_set *set)
{
	set->nr = 0;
	return os_for_each_wiped(pid, add, set);
}

void wipe_list_own(struct range_set *set)
{
	unsigned tries;

	for (tries = 0; wipe_list(0, set); tries++) {
		if (tries == LIST_TRIES)
			os_die("which memory is wiped on fork cannot be read in "
			       "/proc/self/smaps");
		os_yield();
	}
}

static bool is_wiped(struct wiped *wiped, const struct os_vma *vma)
{
	struct range piece;

	if (has_witness(wiped->sp, vma))
		return false;
	if (!wiped->set) {
		wiped->set = uhmm_host_map(sizeof(*wiped->set));
		if (!wiped->set)
			os_die("no memory left to follow a fork()");
		wipe_list_own(wiped->set);
	}
	return range_clip(wiped->set, true, vma->start, vma->end, &piece);
}

bool wipe_is_wiped(struct wiped *wiped, uintptr_t addr)
{
	struct os_vma vma;

	return os_vma_next(addr, false, &vma) == 0 && vma.start <= addr &&
	       is_wiped(wiped, &vma);
}

void wipe_apply(struct wiped *wiped)
{
	struct os_vma vma;
	uintptr_t at = 0;

	for (; next_mapping(wiped->sp, at, &vma); at = vma.end)
		if (is_wiped(wiped, &vma))
			event_discard(wiped->sp, vma.start, vma.end, false);
}

void wipe_fini(struct wiped *wiped)
{
	if (wiped->set)
		uhmm_host_unmap(wiped->set, sizeof(*wiped->set));
	wiped->set = NULL;
}

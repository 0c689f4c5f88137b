/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock hand. Present pages are found by PAGEMAP_SCAN a thousand at a time, so the
 * cost is that of what is present, not of what is mapped. The mapping a page lies in is
 * asked for again right before it is isolated: it is registered as a whole, and must not
 * be an old one's shape.
 */
#include "lib/hand.h"

#include <errno.h>
#include <string.h>

#include "lib/frame.h"
#include "lib/migrate.h"
#include "lib/range.h"
#include "lib/recent.h"

/* Windows tried, or scans for more, before the caller sees to its other work. */
#define LOOKS 64

static uint64_t nr_forks(const struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->counter[COUNT_EVENT_FORK], __ATOMIC_RELAXED);
}

static void keep_area(void *ctx, uintptr_t addr, size_t len)
{
	struct hand *hand = ctx;

	if (hand->nr_keep < HAND_THREADS)
		hand->keep[hand->nr_keep++] = (struct range){ addr, addr + len };
}

static void hold_area(void *ctx, uintptr_t addr, size_t len)
{
	struct hand *hand = ctx;
	uintptr_t end = addr + len;
	size_t i;

	for (addr &= ~(PAGE_SIZE - 1); addr < end; addr += PAGE_SIZE) {
		i = (addr - hand->chunk) >> PAGE_SHIFT;
		if (i < CHUNK_PAGES)
			hand->held[i / 64] |= UINT64_C(1) << i % 64;
	}
}

/* Pages from addr on, at most nr and all of one chunk, before one that is held. */
static unsigned before_held(const struct hand *hand, uintptr_t addr, unsigned nr)
{
	size_t at = (addr - hand->chunk) >> PAGE_SHIFT;
	unsigned i;

	for (i = 0; i < nr; i++, at++)
		if (at < CHUNK_PAGES && hand->held[at / 64] >> at % 64 & 1)
			break;
	return i;
}

/*
 * Pages from addr on, at most nr, before a kept area; 0 and *skip if addr is inside one.
 */
static unsigned before_kept(const struct hand *hand, uintptr_t addr, unsigned nr,
			    unsigned *skip)
{
	uint32_t i;

	*skip = 0;
	for (i = 0; i < hand->nr_keep; i++) {
		const struct range *k = &hand->keep[i];
		uintptr_t start = k->start & ~(PAGE_SIZE - 1);
		uintptr_t end = (k->end + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);

		if (end <= addr || start >= addr + nr * PAGE_SIZE)
			continue;
		if (start <= addr) {
			*skip = (unsigned)((end - addr) >> PAGE_SHIFT);
			return 0;
		}
		nr = (unsigned)((start - addr) >> PAGE_SHIFT);
	}
	nr = before_held(hand, addr, nr);
	*skip = !nr;
	return nr;
}

/* Groups of pages that others share, between two revolutions that look for better. */
#define SHARED_GROUPS 256

/* From the beginning, or on with what is shared if there is nothing else. */
static void wrap(struct uhmm_space *sp, struct hand *hand, bool nothing)
{
	uint32_t refused = __atomic_load_n(&sp->nr_refused, __ATOMIC_RELAXED);

	if (hand->shared)
		hand->shared_at = hand->shared = 0;
	else if (nothing && hand->met_shared)
		hand->shared = SHARED_GROUPS;
	hand->at = hand->shared ? hand->shared_at : 0;
	hand->look = hand->met_shared || refused != hand->refused;
	hand->refused = refused;
	hand->met_shared = false;
	hand->taken = 0;
	hand->revolutions++;
}

/*
 * Whether pages that other processes have are passed by. Everybody has the zero page and
 * nobody shares it.
 */
static bool own_only(const struct hand *hand)
{
	return hand->look && !(hand->flags & ISOLATE_ZEROS) &&
	       (!hand->shared || hand->flags & ISOLATE_CHEAP);
}

static void keep_threads(struct uhmm_space *sp, struct hand *hand)
{
	hand->nr_keep = 0;
	if (sp->whole)
		os_for_each_thread_area(keep_area, hand);
}

/* Extents that are found one after the other. */
struct extents {
	struct os_extent at[HAND_EXTENTS];
	int nr;
	uintptr_t full; /* the first page there was no room for; 0: none yet */
};

static void add_page(struct extents *list, uintptr_t addr)
{
	struct os_extent *last = list->nr ? &list->at[list->nr - 1] : NULL;

	if (list->full)
		return;
	if (last && !last->huge && last->start + last->nr_pages * PAGE_SIZE == addr)
		last->nr_pages++;
	else if (list->nr < HAND_EXTENTS)
		list->at[list->nr++] = (struct os_extent){ .start = addr, .nr_pages = 1 };
	else
		list->full = addr;
}

static void add_huge(struct extents *list, const struct os_extent *ext)
{
	if (!list->full && list->nr < HAND_EXTENTS)
		list->at[list->nr++] = *ext;
	else if (!list->full)
		list->full = ext->start;
}

/* Those pages of an extent that no other process has. Returns how many there are. */
static unsigned add_own(struct extents *list, const struct os_extent *ext)
{
	uint64_t own[OS_MAPPED_ONCE_PAGES / 64];
	unsigned done, i, nr, found = 0;

	for (done = 0; done < ext->nr_pages; done += nr) {
		uintptr_t start = ext->start + done * PAGE_SIZE;

		nr = ext->nr_pages - done;
		nr = nr < OS_MAPPED_ONCE_PAGES ? nr : OS_MAPPED_ONCE_PAGES;
		os_mapped_once(start, nr, own);
		for (i = 0; i < nr; i++) {
			if (!(own[i / 64] >> i % 64 & 1))
				continue;
			found++;
			if (!ext->huge)
				add_page(list, start + i * PAGE_SIZE);
		}
	}
	if (ext->huge && found == ext->nr_pages)
		add_huge(list, ext);
	return found;
}

static void keep_own(struct hand *hand)
{
	struct extents own = { .nr = 0 };
	int i;

	for (i = 0; i < hand->nr && !own.full; i++)
		if (add_own(&own, &hand->extent[i]) < hand->extent[i].nr_pages)
			hand->met_shared = true;
	memcpy(hand->extent, own.at, (size_t)own.nr * sizeof(own.at[0]));
	hand->nr = own.nr;
	if (own.full)
		hand->at = own.full;
}

static bool is_scattered(const struct hand *hand)
{
	uint64_t pages = 0;
	int i;

	for (i = 0; i < hand->nr; i++)
		pages += hand->extent[i].nr_pages;
	return pages < (uint64_t)hand->nr * TOGETHER;
}

/*
 * Finds more present pages; maybe none that are wanted yet. False: there are none from
 * here to the end.
 */
static bool find_more(struct uhmm_space *sp, struct hand *hand)
{
	struct os_vma vma;
	struct range piece;
	uintptr_t walked;

	hand->nr = hand->next = 0;
	hand->offset = 0;
	while ((!hand->end || hand->at < hand->end) &&
	       os_vma_next(hand->at, true, &vma) == 0) {
		uintptr_t from = vma.start > hand->at ? vma.start : hand->at;

		if (hand->end && vma.end > hand->end)
			vma.end = hand->end;
		if (from >= vma.end || !space_manages(sp, &vma) ||
		    !space_clip(sp, from, vma.end, &piece)) {
			hand->at = vma.end;
			continue;
		}
		hand->nr = os_scan(piece.start, piece.end, hand->what, HAND_SCAN_PAGES,
				   hand->extent, HAND_EXTENTS, &walked);
		hand->at = hand->nr < 0 ? vma.end : walked;
		if (hand->nr <= 0)
			continue;
		hand->forks = nr_forks(sp);
		if (own_only(hand))
			keep_own(hand);
		hand->scattered = is_scattered(hand);
		if (hand->nr && !hand->listed)
			keep_threads(sp, hand);
		return true;
	}
	hand->nr = 0;
	return false;
}

/* The page that is looked at next; the walk behind the last extent goes on there. */
static uintptr_t current(const struct hand *hand)
{
	return hand->next < hand->nr ?
		       hand->extent[hand->next].start + hand->offset * PAGE_SIZE :
		       hand->at;
}

static void advance(struct hand *hand, unsigned nr)
{
	hand->offset += nr;
	if (hand->offset >= hand->extent[hand->next].nr_pages) {
		hand->next++;
		hand->offset = 0;
	}
}

/* The mapping around addr, if it is one of ours still. */
static bool mapping(struct uhmm_space *sp, uintptr_t addr, struct range *range,
		    bool *executable)
{
	struct os_vma vma;

	if (os_vma_next(addr, true, &vma) || vma.start > addr || !space_manages(sp, &vma))
		return false;
	*range = (struct range){ vma.start, vma.end };
	*executable = vma.executable;
	return true;
}

/* ---- the groups that are filled --------------------------------------------------- */

/* False: no frames are left. Executable ones are opened when they are needed. */
static bool open_groups(struct uhmm_space *sp, struct hand *hand)
{
	hand->group[true] = GROUP_NIL;
	hand->group[false] = frame_group_open(sp, false);
	return hand->group[false] != GROUP_NIL;
}

static uint32_t group_for(struct uhmm_space *sp, struct hand *hand, bool executable)
{
	if (hand->group[executable] == GROUP_NIL)
		hand->group[executable] = frame_group_open(sp, executable);
	return hand->group[executable];
}

static bool is_full(struct uhmm_space *sp, uint32_t group)
{
	return group != GROUP_NIL && frame_group(sp, group)->nr_used == GROUP_PAGES;
}

static bool any_full(struct uhmm_space *sp, const struct hand *hand)
{
	return is_full(sp, hand->group[false]) || is_full(sp, hand->group[true]);
}

static void close_groups(struct uhmm_space *sp, struct hand *hand, bool oldest)
{
	if (hand->group[true] != GROUP_NIL)
		frame_group_close(sp, hand->group[true], oldest);
	frame_group_close(sp, hand->group[false], oldest);
}

/* ---- taking ----------------------------------------------------------------------- */

static bool whole_folio(const struct hand *hand, uintptr_t addr, const struct range *vma,
			unsigned left)
{
	unsigned skip;

	return hand->extent[hand->next].huge && !(addr & (CHUNK_SIZE - 1)) &&
	       left >= CHUNK_PAGES && addr >= vma->start &&
	       addr + CHUNK_SIZE <= vma->end &&
	       before_kept(hand, addr, CHUNK_PAGES, &skip) == CHUNK_PAGES;
}

/*
 * The pages that the scan found in [addr, addr + nr pages), nr at most GROUP_PAGES, and
 * of them the first room. What was found here and there is isolated together: looking at
 * the mapping and registering it costs more than moving a page.
 */
static uint64_t window(const struct hand *hand, uintptr_t addr, unsigned nr,
		       unsigned room)
{
	const struct os_extent *ext = &hand->extent[hand->next];
	const struct os_extent *end = hand->extent + hand->nr;
	uint64_t which = 0;

	/* A huge page behind the first is to be met as one. */
	for (; ext < end && (!which || !ext->huge); ext++) {
		uintptr_t to = ext->start + ext->nr_pages * PAGE_SIZE;
		uintptr_t at = ext->start > addr ? ext->start : addr;

		for (; at < to; at += PAGE_SIZE) {
			if (at >= addr + nr * PAGE_SIZE || !room)
				return which;
			which |= UINT64_C(1) << ((at - addr) >> PAGE_SHIFT);
			room--;
		}
	}
	return which;
}

/* Goes on behind the last page of a window. */
static void advance_beyond(struct hand *hand, uintptr_t addr, uint64_t which)
{
	unsigned nr = GROUP_PAGES - (unsigned)__builtin_clzll(which);
	uintptr_t to = addr + nr * PAGE_SIZE;

	for (; hand->next < hand->nr; hand->next++) {
		const struct os_extent *ext = &hand->extent[hand->next];

		hand->offset = ext->start < to ?
				       (uint32_t)((to - ext->start) >> PAGE_SHIFT) :
				       0;
		if (hand->offset < ext->nr_pages)
			return;
	}
	hand->offset = 0;
}

/* Isolates from the current extent, of one chunk; how many, or an error. */
static int take_held(struct uhmm_space *sp, struct hand *hand, bool *folio)
{
	const struct os_extent *ext = &hand->extent[hand->next];
	uintptr_t addr = ext->start + hand->offset * PAGE_SIZE;
	unsigned left = ext->nr_pages - hand->offset;
	unsigned in_chunk = CHUNK_PAGES - (unsigned)(addr >> PAGE_SHIFT) % CHUNK_PAGES;
	unsigned nr, skip, flags = hand->flags;
	uint32_t group = GROUP_NIL;
	bool executable = false;
	uint64_t which;
	struct range vma;
	int r;

	if (mapping(sp, addr, &vma, &executable))
		group = group_for(sp, hand, executable);
	if (group == GROUP_NIL) {
		advance(hand, left);
		return 0;
	}
	if (left > (vma.end - addr) >> PAGE_SHIFT)
		left = (unsigned)((vma.end - addr) >> PAGE_SHIFT);
	/* Huge pages that can be executed are rare; they are taken apart. */
	if (!executable && whole_folio(hand, addr, &vma, left)) {
		r = isolate_folio(sp, &vma, addr, flags);
		if (r != -EBUSY && r != -ENOSPC) {
			*folio = r > 0;
			if (r != -EAGAIN)
				advance(hand, CHUNK_PAGES);
			return r == -ESTALE ? 0 : r;
		}
	}
	nr = before_kept(hand, addr, in_chunk < GROUP_PAGES ? in_chunk : GROUP_PAGES,
			 &skip);
	if (!nr) {
		advance(hand, skip < left ? skip : left);
		return 0;
	}
	if (nr > (vma.end - addr) >> PAGE_SHIFT)
		nr = (unsigned)((vma.end - addr) >> PAGE_SHIFT);
	which = window(hand, addr, nr, GROUP_PAGES - frame_group(sp, group)->nr_used);
	r = isolate_pages(sp, &vma, addr, which, group, flags, NULL);
	if (__atomic_load_n(&sp->nr_refused, __ATOMIC_RELAXED) != hand->refused)
		hand->look = true;
	if (r != -EAGAIN)
		advance_beyond(hand, addr, which);
	return r == -EBUSY ? 0 : r;
}

/*
 * The same. What the kernel listed when the pages were found may be of old threads: those
 * that there are now are held to begin no sooner than this is over.
 */
static int take(struct uhmm_space *sp, struct hand *hand, bool *folio)
{
	int r;

	if (!sp->hooks.hold_threads)
		return take_held(sp, hand, folio);
	hand->chunk = current(hand) & ~(CHUNK_SIZE - 1);
	memset(hand->held, 0, sizeof(hand->held));
	sp->hooks.hold_threads(sp->hooks.ctx, hand->chunk, hand->chunk + CHUNK_SIZE,
			       hold_area, hand);
	r = take_held(sp, hand, folio);
	sp->hooks.release_threads(sp->hooks.ctx);
	return r;
}

/*
 * Goes back to the first page not looked at, if there was a fork since they were found:
 * none is its owner's alone now.
 */
static void drop_stale(const struct uhmm_space *sp, struct hand *hand)
{
	if (hand->forks == nr_forks(sp) || !own_only(hand))
		return;
	hand->at = current(hand);
	hand->nr = hand->next = 0;
	hand->offset = 0;
}

static uint64_t nr_unshared(const struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->counter[COUNT_UNSHARED], __ATOMIC_RELAXED);
}

bool hand_is_light(const struct hand *hand)
{
	return !hand->look && !hand->shared;
}

int hand_isolate(struct uhmm_space *sp, struct hand *hand, enum hand_pace pace)
{
	static const unsigned flags[] = {
		[HAND_WALKS] = 0,
		[HAND_HURRIES] = ISOLATE_HOT | ISOLATE_CHEAP,
		[HAND_FAULTS] = ISOLATE_CHEAP,
		[HAND_READS] = ISOLATE_CHEAP | ISOLATE_NOWAIT,
	};
	unsigned looks = pace < HAND_FAULTS ? LOOKS : LOOKS / 4;
	uint64_t unshared = nr_unshared(sp);
	unsigned taken = 0, looked = 0;
	bool folio = false;
	int r = 0;

	if (!open_groups(sp, hand))
		return 0;
	hand->what = OS_SCAN_MEMORY;
	hand->flags = flags[pace];
	/* Not for ever where all is warm or pinned: the caller has other work too. */
	while (!folio && !any_full(sp, hand) && looked < looks) {
		looked++;
		drop_stale(sp, hand);
		if (hand->next < hand->nr) {
			r = take(sp, hand, &folio);
		} else if (!find_more(sp, hand)) {
			r = hand->taken + taken == 0 ? -ENOENT : 0;
			wrap(sp, hand, r == -ENOENT);
			break;
		}
		if (r == -EAGAIN)
			break;
		if (r > 0)
			taken += (unsigned)r;
		r = 0;
	}
	/*
	 * A copy is more memory, not less, until it is stored: it does not wait for its
	 * time on probation.
	 */
	hand->copied = nr_unshared(sp) != unshared;
	close_groups(sp, hand, hand->copied);
	hand->taken += taken;
	if (taken && hand->shared && --hand->shared == 0) {
		hand->shared_at = current(hand);
		hand->at = 0;
		hand->nr = hand->next = 0;
		hand->taken = 0;
	}
	return taken ? (int)taken : r;
}

/* Goes on to the next run. False: there is none. */
static bool next_run(struct uhmm_space *sp, struct hand *hand)
{
	struct range run;

	if (!recent_take(sp, &run))
		return false;
	hand->at = run.start;
	hand->end = run.end;
	return true;
}

int hand_isolate_recent(struct uhmm_space *sp, struct hand *hand)
{
	unsigned looked = 0, taken = 0;
	bool folio = false, more = true;
	int r = 0;

	if (!open_groups(sp, hand))
		return 0;
	hand->what = OS_SCAN_MEMORY;
	/* What others share is the other hand's. */
	hand->flags = ISOLATE_CHEAP;
	hand->refused = __atomic_load_n(&sp->nr_refused, __ATOMIC_RELAXED);
	hand->look = false;
	/* Once, and not for each run: they are short. */
	keep_threads(sp, hand);
	hand->listed = true;
	while (more && r != -EAGAIN && !folio && !any_full(sp, hand) &&
	       looked++ < LOOKS) {
		r = 0;
		if (hand->next < hand->nr)
			r = take(sp, hand, &folio);
		else if (hand->at >= hand->end || !find_more(sp, hand))
			more = next_run(sp, hand);
		taken += r > 0 ? (unsigned)r : 0;
	}
	close_groups(sp, hand, false);
	return taken ? (int)taken : !more ? -ENOENT : r == -EAGAIN ? r : 0;
}

int hand_drop_zeros(struct uhmm_space *sp, struct hand *hand, struct range *range)
{
	unsigned looked = 0, taken = 0;
	bool folio, more = true;
	int r = 0;

	if (!open_groups(sp, hand))
		return -EAGAIN;
	hand->what = OS_SCAN_ZEROS;
	hand->flags = ISOLATE_HOT | ISOLATE_CHEAP | ISOLATE_ZEROS;
	hand->at = range->start;
	hand->end = range->end;
	hand->nr = hand->next = 0;
	/* What was written meanwhile stays in the group. */
	while (r != -EAGAIN && !any_full(sp, hand) &&
	       looked++ < HAND_SCAN_PAGES / GROUP_PAGES) {
		more = hand->next < hand->nr || find_more(sp, hand);
		if (!more)
			break;
		r = take(sp, hand, &folio);
		taken += r > 0 ? (unsigned)r : 0;
	}
	close_groups(sp, hand, false);
	range->start = more ? current(hand) : range->end;
	return r == -EAGAIN && !taken ? r : (int)taken;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Isolation: UFFDIO_MOVE from the program's page table into frames.
 *
 * In the kernel's words this is lock, unmap and check for pins in one atomic step: MOVE
 * refuses pinned pages and pages shared by fork (EBUSY), and refuses altogether (EAGAIN)
 * while a structural event has not been read, which is what keeps us from taking pages
 * out of a mapping that is not the one we looked at. The mapping is registered first,
 * each time, because a page that is moved out of an unregistered mapping reads as zeros
 * (lib/register.c).
 *
 * The whole mapping is registered, never a part: registering a part would split it, and
 * the program's mremap() across the split would fail.
 *
 * Where the program has read and never written there is the kernel's zero page. A write
 * to it takes memory without a fault that we see, so near the budget holes are made of
 * such pages. They are written to and moved then: to move the zero page itself, and move
 * it again to drop it, flushes each twice from all processors that run the program (Linux
 * 6.18; bench/zeros.c).
 *
 * Pages shared by fork, now or ever since they were last written, are made exclusive by
 * writing to them (os_make_exclusive), outside the gate because that may fault; if MOVE
 * still refuses, the page is pinned and is left alone.
 */
#include <errno.h>
#include <string.h>

#include "lib/assert.h"
#include "lib/folio.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/unshare.h"
#include "lib/zap.h"

struct isolation {
	struct uhmm_space *sp;
	const struct range *vma;
	struct chunk *chunk;
	uint32_t group;
	unsigned flags;
	uint64_t left;    /* pages asked for that were not looked at yet */
	uint64_t refused; /* pages that MOVE found busy: shared or pinned */
	uint64_t moved;   /* pages in their frames, held still */
	uint64_t wanted;  /* pages whose sleepers must be woken */
	uint8_t *results;
	uintptr_t base; /* the page of bit and result 0 */
	unsigned isolated;
	int error; /* -EAGAIN, -EINVAL, -ENOMEM: ends the run */
};

static void report(struct isolation *is, uintptr_t addr, enum uhmm_result result)
{
	if (is->results)
		is->results[(addr - is->base) >> PAGE_SHIFT] = (uint8_t)result;
}

static uint64_t bit_of(const struct isolation *is, uintptr_t addr)
{
	return UINT64_C(1) << ((addr - is->base) >> PAGE_SHIFT);
}

/* Makes one page ISOLATING, or says why not. */
static bool claim(struct isolation *is, uintptr_t addr)
{
	entry_t *entry = page_entry(is->chunk, addr);
	entry_t e = entry_load(entry);
	unsigned hot = entry_hot(e);

	if (page_pinned(is->chunk, page_index(addr))) {
		report(is, addr, UHMM_PINNED);
		return false;
	}
	if (entry_state(e) != PAGE_NONE) {
		report(is, addr, entry_busy(e) ? UHMM_BUSY : UHMM_ALREADY);
		return false;
	}
	if (unsharing(is->sp, addr) || zap_pending(is->sp, addr, addr + PAGE_SIZE)) {
		report(is, addr, UHMM_BUSY);
		return false;
	}
	if (hot && !(is->flags & ISOLATE_HOT)) {
		page_change(is->sp, entry, addr, &e, entry_with_hot(e, hot - 1));
		return false;
	}
	return page_change(is->sp, entry, addr, &e,
			   entry_with_hot(entry_make(PAGE_ISOLATING, 0, 0), hot));
}

static void settle(struct isolation *is, uintptr_t addr, entry_t to)
{
	entry_t *entry = page_entry(is->chunk, addr);
	unsigned hot = entry_hot(entry_load(entry));

	if (page_settle(is->sp, entry, addr, entry_with_hot(to, hot)) & ENTRY_WANTED)
		is->wanted |= bit_of(is, addr);
}

bool is_huge(uintptr_t addr)
{
	struct os_extent ext;
	uintptr_t walked;

	return !(addr & (CHUNK_SIZE - 1)) &&
	       os_scan(addr, addr + CHUNK_SIZE, OS_SCAN_MEMORY, CHUNK_PAGES, &ext, 1,
		       &walked) == 1 &&
	       ext.huge && ext.start == addr && ext.nr_pages == CHUNK_PAGES;
}

static bool is_inline(const struct uhmm_space *sp)
{
	return sp->delivery == UHMM_DELIVERY_INLINE;
}

/*
 * Whether pages are kept while they are held, and without a fault: inline, where that
 * would be a signal, and by the reader, who would wait for itself.
 */
static bool keeps_held(const struct uhmm_space *sp, unsigned flags)
{
	return is_inline(sp) || flags & ISOLATE_NOWAIT;
}

static int keep_one(const struct uhmm_space *sp, uintptr_t addr)
{
	return is_inline(sp) ? os_populate(addr, PAGE_SIZE, true) :
			       os_keep_now((void *)addr);
}

/*
 * A page that was marked free must not vanish from its frame: who waits for what a fault
 * on a frame brings may be the reader. The pages are held, nobody moves them meanwhile.
 * What the kernel has taken already is zeros.
 */
static void keep_held(struct uhmm_space *sp, uint64_t slot, unsigned nr)
{
	uintptr_t addr = frame_addr(sp, slot);
	unsigned i;

	/* In a handler, where the kernel writes for us it is no signal. */
	if (is_inline(sp) && nr && os_populate(addr, nr * PAGE_SIZE, true) == 0)
		return;
	if (nr == CHUNK_PAGES && keep_one(sp, addr) == 0 && is_huge(addr))
		return;
	for (i = 0; i < nr; i++, addr += PAGE_SIZE)
		if (keep_one(sp, addr))
			os_uffd_zero(sp->uffd, addr, PAGE_SIZE);
}

/* One write is enough for a huge page, if it is still one after that. */
static void keep_whole(struct uhmm_space *sp, uint64_t slot)
{
	unsigned i;

	os_keep(frame_bytes(sp, slot));
	if (is_huge(frame_addr(sp, slot)))
		return;
	for (i = 1; i < CHUNK_PAGES; i++)
		os_keep(frame_bytes(sp, slot + i));
}

/* They were written to before they were moved: none has vanished. */
static bool all_zeros(const struct uhmm_space *sp, uint64_t slot, unsigned nr)
{
	const char *bytes = frame_bytes(sp, slot);

	return !bytes[0] && !memcmp(bytes, bytes + 1, nr * PAGE_SIZE - 1);
}

/*
 * Nothing but zeros can be a hole again, in a mapping that is registered. True if all nr
 * pages could.
 */
static bool dropped_zeros(struct isolation *is, uintptr_t addr, unsigned nr)
{
	struct frame_group *group = frame_group(is->sp, is->group);
	unsigned i;

	if (!(is->flags & ISOLATE_ZEROS) ||
	    !all_zeros(is->sp, (uint64_t)is->group * GROUP_PAGES + group->nr_used, nr))
		return false;
	__atomic_fetch_add(&is->sp->frames.nr_probation, nr, __ATOMIC_RELAXED);
	frame_drop_now(is->sp, is->group, which_first(nr) << group->nr_used);
	for (i = 0; i < nr; i++)
		settle(is, addr + i * PAGE_SIZE, entry_make(PAGE_NONE, 0, 0));
	is->isolated += nr;
	return true;
}

/*
 * What was moved into the frames behind slot, in order of addresses. Where they are kept
 * first, all that one look at the chunk has moved: to have the kernel keep them takes as
 * long as to move them one by one.
 */
static void settle_all(struct isolation *is, uint64_t slot)
{
	if (keeps_held(is->sp, is->flags))
		keep_held(is->sp, slot, (unsigned)__builtin_popcountll(is->moved));
	for (; is->moved; is->moved &= is->moved - 1, slot++)
		settle(is, is->base + (uintptr_t)__builtin_ctzll(is->moved) * PAGE_SIZE,
		       entry_make(PAGE_PROBATION, slot, 0));
}

static void settle_moved(struct isolation *is, uintptr_t addr, unsigned nr)
{
	struct frame_group *group = frame_group(is->sp, is->group);
	uint64_t slot = (uint64_t)is->group * GROUP_PAGES + group->nr_used;
	unsigned i;

	if (dropped_zeros(is, addr, nr))
		return;
	/* The owner is known before the page can be found through its entry. */
	frame_group_fill(is->sp, is->group, addr, nr);
	for (i = 0; i < nr; i++) {
		report(is, addr + i * PAGE_SIZE, UHMM_MOVED);
		is->moved |= bit_of(is, addr + i * PAGE_SIZE);
	}
	is->isolated += nr;
	if (!keeps_held(is->sp, is->flags))
		settle_all(is, slot);
}

/* Why the page at addr did not move; true if the pages behind it may. */
static bool refused(struct isolation *is, uintptr_t addr, int64_t why)
{
	switch (why) {
	case -ENOENT:
		report(is, addr, UHMM_HOLE);
		return true;
	case -EBUSY:
		is->refused |= bit_of(is, addr);
		report(is, addr, UHMM_PINNED);
		return true;
	case -EEXIST:
		/* Somebody looked into our frame and got a zero page there. */
		__atomic_fetch_add(&is->sp->frames.nr_probation, 1, __ATOMIC_RELAXED);
		frame_drop_now(is->sp, is->group,
			       UINT64_C(1) << frame_group(is->sp, is->group)->nr_used);
		report(is, addr, UHMM_BUSY);
		return true;
	case -EFAULT: /* a guard, or a page that the memory has lost */
		report(is, addr, UHMM_UNMOVABLE);
		return true;
	case -EAGAIN:
	case -ENOMEM: /* for a page table */
		is->error = (int)why;
		report(is, addr, UHMM_BUSY);
		return false;
	default:
		is->error = -EINVAL;
		report(is, addr, UHMM_UNMOVABLE);
		return false;
	}
}

/* Moves nr claimed pages; all are settled when it returns. */
static void move_claimed(struct isolation *is, uintptr_t addr, unsigned nr)
{
	unsigned i = 0;

	while (i < nr && !is->error) {
		uint64_t slot = (uint64_t)is->group * GROUP_PAGES +
				frame_group(is->sp, is->group)->nr_used;
		uintptr_t at = addr + i * PAGE_SIZE;
		int64_t r = os_uffd_move(is->sp->uffd, frame_addr(is->sp, slot), at,
					 (nr - i) * PAGE_SIZE, 0);

		if (r > 0) {
			settle_moved(is, at, (unsigned)(r >> PAGE_SHIFT));
			i += (unsigned)(r >> PAGE_SHIFT);
			continue;
		}
		refused(is, at, r);
		settle(is, at, entry_make(PAGE_NONE, 0, 0));
		i++;
	}
	for (; i < nr; i++) {
		report(is, addr + i * PAGE_SIZE,
		       is->error == -EINVAL ? UHMM_UNMOVABLE : UHMM_BUSY);
		settle(is, addr + i * PAGE_SIZE, entry_make(PAGE_NONE, 0, 0));
	}
}

/*
 * Claims and moves run by run; pages that cannot be claimed end a run. Ends early where
 * somebody wants to close the gate: that is the reader, and a thread waits for its page.
 */
static void isolate_locked(struct isolation *is)
{
	uint64_t slot = (uint64_t)is->group * GROUP_PAGES +
			frame_group(is->sp, is->group)->nr_used;

	while (is->left && !is->error) {
		unsigned i = (unsigned)__builtin_ctzll(is->left), run = 0;
		uintptr_t at = is->base + i * PAGE_SIZE;

		while (i + run < GROUP_PAGES && is->left >> (i + run) & 1 &&
		       claim(is, at + run * PAGE_SIZE))
			run++;
		if (run)
			move_claimed(is, at, run);
		/* The page that ended the run was looked at too: it cools once. */
		i += run + 1;
		is->left &= i < GROUP_PAGES ? ~UINT64_C(0) << i : 0;
		if (run && gate_wanted(&is->sp->gate))
			break;
	}
	settle_all(is, slot);
}

static void wake_wanted(struct isolation *is)
{
	while (is->wanted) {
		unsigned i = (unsigned)__builtin_ctzll(is->wanted);

		is->wanted &= is->wanted - 1;
		os_uffd_wake(is->sp->uffd, is->base + i * PAGE_SIZE, PAGE_SIZE);
	}
}

/*
 * Delivery by thread: pages [from, to) of a group, of which some may have gone back.
 * Outside the gate, for if a page has gone just now this is a fault. Then a page of zeros
 * stays in its frame, which refused() knows of; a page that has come there since is not
 * changed.
 */
static void keep_frames(struct uhmm_space *sp, uint32_t group, unsigned from, unsigned to)
{
	const uint64_t *present = &frame_group(sp, group)->present;
	uint64_t slot = (uint64_t)group * GROUP_PAGES;

	for (; from < to; from++)
		if (__atomic_load_n(present, __ATOMIC_ACQUIRE) >> from & 1)
			os_keep(frame_bytes(sp, slot + from));
}

/* Whatever was stored there as a folio is none after this. */
static void isolate_from_pages(struct isolation *is)
{
	entry_t f = entry_load(&is->chunk->folio);

	if (f & ENTRY_STORED)
		page_change(is->sp, &is->chunk->folio, chunk_start(is->base), &f,
			    f & ~ENTRY_STORED);
	isolate_locked(is);
}

static int isolate_once(struct isolation *is)
{
	struct uhmm_space *sp = is->sp;
	unsigned used = frame_group(sp, is->group)->nr_used;
	unsigned shard = gate_enter(&sp->gate);
	unsigned first = (unsigned)__builtin_ctzll(is->left);
	unsigned end = GROUP_PAGES - (unsigned)__builtin_clzll(is->left);
	int r = register_mapping(sp, is->vma, is->base + first * PAGE_SIZE,
				 is->base + end * PAGE_SIZE);

	is->chunk = page_chunk_make(sp, is->base);
	if (r == 0 && is->chunk) {
		uhmm_lock((struct uhmm_lock *)&is->chunk->lock);
		if (entry_state(entry_load(&is->chunk->folio)) != PAGE_NONE)
			is->error = -EBUSY;
		else if (!page_entries_make(sp, is->chunk))
			is->error = -ENOMEM;
		else
			isolate_from_pages(is);
		uhmm_unlock((struct uhmm_lock *)&is->chunk->lock);
	} else {
		is->error = r ? r : -ENOMEM;
	}
	gate_leave(&sp->gate, shard);
	wake_wanted(is);
	if (!keeps_held(sp, is->flags))
		keep_frames(sp, is->group, used, frame_group(sp, is->group)->nr_used);
	return is->error;
}

/* The gate is left and entered again as often as the reader wants it. */
static int isolate_some(struct isolation *is, uint64_t which)
{
	int r;

	is->left = which;
	do
		r = isolate_once(is);
	while (r == 0 && is->left);
	return r;
}

static int isolate_told(struct uhmm_space *sp, const struct range *vma, uintptr_t addr,
			uint64_t which, uint32_t group, unsigned flags, uint8_t *results)
{
	struct isolation is = {
		.sp = sp,
		.vma = vma,
		.group = group,
		.flags = flags,
		.results = results,
		.base = addr,
	};
	unsigned before;
	int r;

	assert_always(which && (unsigned)__builtin_popcountll(which) +
					       frame_group(sp, group)->nr_used <=
				       GROUP_PAGES);
	if (flags & ISOLATE_ZEROS)
		unshare_pages(sp, addr, which);
	r = isolate_some(&is, which);
	if (is.refused)
		__atomic_fetch_add(&sp->nr_refused, 1, __ATOMIC_RELAXED);
	if (r == 0 && is.refused && !(flags & ISOLATE_CHEAP)) {
		which = is.refused;
		before = is.isolated;
		unshare_pages(sp, addr, which);
		is.refused = 0;
		is.flags |= ISOLATE_HOT;
		r = isolate_some(&is, which);
		count(sp, COUNT_UNSHARED, is.isolated - before);
		count(sp, COUNT_SKIP_PINNED, (uint64_t)__builtin_popcountll(is.refused));
	}
	count(sp, COUNT_ISOLATED, is.isolated);
	return is.isolated ? (int)is.isolated : r;
}

/* Nobody but the kernel knows which of these will leave: devices let all of them go. */
static bool tell(struct uhmm_space *sp, uintptr_t start, uintptr_t end, unsigned flags)
{
	return !(flags & ISOLATE_TOLD) &&
	       notifier_begin(sp, start, end, UHMM_EVENT_CLEAR, NULL);
}

/*
 * Reclaim: of these pages, those that may be taken. What is hot cools, and that is all
 * that is done to it. Where none is left neither the kernel nor a device is asked: the
 * hand comes round again and again to what has coherent pages, or others that stay.
 */
static uint64_t only_cold(struct uhmm_space *sp, uintptr_t addr, uint64_t which)
{
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk = page_chunk(sp, addr);
	uint64_t left = chunk ? which : 0, bit;

	for (; left; left &= ~bit) {
		uintptr_t at = addr + (uintptr_t)__builtin_ctzll(left) * PAGE_SIZE;
		entry_t *entry = page_entry(chunk, at);
		entry_t e = entry ? entry_load(entry) : 0;

		bit = left & -left;
		if (entry_state(e) != PAGE_NONE || page_pinned(chunk, page_index(at))) {
			which &= ~bit;
		} else if (entry_hot(e)) {
			page_change(sp, entry, at, &e,
				    entry_with_hot(e, entry_hot(e) - 1));
			which &= ~bit;
		}
	}
	gate_leave(&sp->gate, shard);
	return which;
}

int isolate_pages(struct uhmm_space *sp, const struct range *vma, uintptr_t addr,
		  uint64_t which, uint32_t group, unsigned flags, uint8_t *results)
{
	unsigned first, end;
	bool told;
	int r;

	if (!(flags & ISOLATE_HOT))
		which = only_cold(sp, addr, which);
	if (!which)
		return 0;
	first = (unsigned)__builtin_ctzll(which);
	end = GROUP_PAGES - (unsigned)__builtin_clzll(which);
	told = tell(sp, addr + first * PAGE_SIZE, addr + end * PAGE_SIZE, flags);
	r = isolate_told(sp, vma, addr, which, group, flags, results);
	notifier_end(sp, told);
	return r;
}

/* ---- folios ----------------------------------------------------------------------- */

static int claim_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
		       unsigned flags)
{
	entry_t f = entry_load(&chunk->folio);
	unsigned i, hot = entry_hot(f);

	if (page_chunk_pinned(chunk) || entry_state(f) != PAGE_NONE ||
	    unsharing(sp, addr) || zap_pending(sp, addr, addr + CHUNK_SIZE))
		return -ESTALE;
	for (i = 0; chunk->page && i < CHUNK_PAGES; i++)
		if (entry_state(entry_load(&chunk->page[i])) != PAGE_NONE)
			return -EBUSY;
	if (hot && !(flags & ISOLATE_HOT)) {
		page_change(sp, &chunk->folio, addr, &f, entry_with_hot(f, hot - 1));
		return -ESTALE;
	}
	return page_change(sp, &chunk->folio, addr, &f,
			   entry_with_hot(entry_make(PAGE_ISOLATING, 0, 0), hot)) ?
		       0 :
		       -ESTALE;
}

static int isolate_folio_locked(struct uhmm_space *sp, struct chunk *chunk,
				uintptr_t addr, uint32_t group, unsigned flags,
				bool *wanted)
{
	uint64_t slot = (uint64_t)group * GROUP_PAGES;
	unsigned hot = entry_hot(entry_load(&chunk->folio));
	entry_t to = entry_make(PAGE_NONE, 0, 0);
	bool whole;
	int64_t r;

	if (!page_entries_make(sp, chunk))
		return -ENOMEM;
	r = claim_folio(sp, chunk, addr, flags);
	if (r)
		return (int)r;
	r = os_uffd_move(sp->uffd, frame_addr(sp, slot), addr, CHUNK_SIZE, 0);
	whole = r == (int64_t)CHUNK_SIZE;
	if (r > 0 && keeps_held(sp, flags))
		keep_held(sp, slot, (unsigned)(r >> PAGE_SHIFT));
	if (whole && flags & ISOLATE_ZEROS && all_zeros(sp, slot, CHUNK_PAGES)) {
		frame_folio_close(sp, group, addr);
		frame_folio_drop(sp, group);
	} else if (whole) {
		frame_folio_close(sp, group, addr);
		to = entry_make(PAGE_PROBATION, slot, 0);
	} else if (r > 0) {
		/* No huge page any more: what moved is kept as single pages. */
		frame_folio_close(sp, group, addr);
		folio_split(sp, chunk, addr, entry_make(PAGE_PROBATION, slot, 0), 0,
			    (unsigned)(r >> PAGE_SHIFT));
	}
	*wanted = page_settle(sp, &chunk->folio, addr, entry_with_hot(to, hot)) &
		  ENTRY_WANTED;
	return (int)(r > 0 ? r >> PAGE_SHIFT : r);
}

/* As keep_frames(). */
static void keep_folio(struct uhmm_space *sp, uint32_t group, uintptr_t addr, unsigned nr,
		       unsigned flags)
{
	unsigned from;

	if (keeps_held(sp, flags))
		return;
	if (nr == CHUNK_PAGES) {
		if (frame_folio_is_here(sp, group, addr))
			keep_whole(sp, (uint64_t)group * GROUP_PAGES);
		return;
	}
	for (from = 0; from < nr; from += GROUP_PAGES)
		keep_frames(sp, group + from / GROUP_PAGES, 0,
			    nr - from < GROUP_PAGES ? nr - from : GROUP_PAGES);
}

static int isolate_folio_told(struct uhmm_space *sp, const struct range *vma,
			      uintptr_t addr, unsigned flags)
{
	uint32_t group = frame_folio_open(sp);
	struct chunk *chunk;
	bool wanted = false;
	unsigned shard;
	int r;

	if (group == GROUP_NIL)
		return -ENOSPC;
	if (flags & ISOLATE_ZEROS)
		unshare_folio(sp, addr);
	shard = gate_enter(&sp->gate);
	r = register_mapping(sp, vma, addr, addr + CHUNK_SIZE);
	chunk = page_chunk_make(sp, addr);
	if (r == 0 && chunk) {
		uhmm_lock((struct uhmm_lock *)&chunk->lock);
		r = isolate_folio_locked(sp, chunk, addr, group, flags, &wanted);
		uhmm_unlock((struct uhmm_lock *)&chunk->lock);
	} else {
		r = r ? r : -ENOMEM;
	}
	gate_leave(&sp->gate, shard);
	if (r > 0)
		keep_folio(sp, group, addr, (unsigned)r, flags);
	else if (r == -EEXIST) /* as refused() says */
		frame_folio_drop(sp, group);
	else
		frame_folio_release(sp, group);
	if (wanted)
		os_uffd_wake(sp->uffd, addr, CHUNK_SIZE);
	if (r > 0)
		count(sp, COUNT_ISOLATED, (uint64_t)r);
	if (r == (int)CHUNK_PAGES)
		count(sp, COUNT_ISOLATED_FOLIO, CHUNK_PAGES);
	return r;
}

int isolate_folio(struct uhmm_space *sp, const struct range *vma, uintptr_t addr,
		  unsigned flags)
{
	bool told = tell(sp, addr, addr + CHUNK_SIZE, flags);
	int r = isolate_folio_told(sp, vma, addr, flags);

	notifier_end(sp, told);
	return r;
}

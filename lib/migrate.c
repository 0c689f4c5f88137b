/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storing isolated pages on a device, and moving them back from their frames.
 *
 * Pages are stored a few at a time (the device's batch): while a page is STORING a thread
 * that touches it waits. A page that somebody waits for when its copy is done goes back
 * to PROBATION and the copy is thrown away; the fault that follows moves the frame back.
 */
#include "lib/migrate.h"

#include <errno.h>

#include "lib/assert.h"
#include "lib/budget.h"
#include "lib/device.h"
#include "lib/folio.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/page.h"
#include "lib/pagemap.h"

bool page_is_known(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t *entry = page_entry(chunk, addr);
	bool known = (entry && entry_state(entry_load(entry)) != PAGE_NONE) ||
		     (chunk && entry_state(entry_load(&chunk->folio)) != PAGE_NONE);

	gate_leave(&sp->gate, shard);
	return known;
}

/* ---- devices ---------------------------------------------------------------------- */

struct uhmm_device *device_open_at(struct uhmm_space *sp, unsigned device)
{
	if (__atomic_load_n(&sp->retiring, __ATOMIC_SEQ_CST) & (1u << device))
		return NULL;
	return __atomic_load_n(&sp->device[device], __ATOMIC_ACQUIRE);
}

unsigned device_first(struct uhmm_space *sp)
{
	unsigned i, first = 0;

	for (i = 1; i < SPACE_DEVICES; i++)
		if (device_open_at(sp, i) && !pagemap_at(sp, i) &&
		    (!first || sp->device_age[i] < sp->device_age[first]))
			first = i;
	return first;
}

void device_forget(struct uhmm_space *sp, unsigned device, uint64_t page)
{
	struct uhmm_io io = { .page = page };

	device_run(sp->device[device], UHMM_OP_FREE, &io, 1);
}

/* ---- store ------------------------------------------------------------------------ */

struct storing {
	struct uhmm_space *sp;
	unsigned device;
	uint32_t group;
	unsigned nr;
	unsigned slot[UHMM_BATCH_MAX];  /* of the group */
	entry_t *entry[UHMM_BATCH_MAX]; /* busy, so the pointer is good */
	uintptr_t addr[UHMM_BATCH_MAX];
	struct uhmm_io io[UHMM_BATCH_MAX];
};

/* Makes the page in this slot STORING if it still is in PROBATION there. */
static void claim(struct storing *st, unsigned i)
{
	struct uhmm_space *sp = st->sp;
	uint64_t slot = (uint64_t)st->group * GROUP_PAGES + i;
	uintptr_t addr = frame_owner(sp, slot);
	entry_t *entry = page_entry(page_chunk(sp, addr), addr);
	entry_t e = entry ? entry_load(entry) : 0;
	unsigned n = st->nr;

	if (entry_state(e) != PAGE_PROBATION || entry_payload(e) != slot)
		return;
	if (!page_change(sp, entry, addr, &e, entry_make(PAGE_STORING, slot, 0)))
		return;
	st->slot[n] = i;
	st->entry[n] = entry;
	st->addr[n] = addr;
	st->io[n] = (struct uhmm_io){ .buf = frame_bytes(sp, slot), .len = PAGE_SIZE };
	st->nr++;
}

/* True if the page is on the device now; else it is in PROBATION again. */
static bool settle(struct storing *st, unsigned n)
{
	struct uhmm_space *sp = st->sp;
	uint64_t slot = (uint64_t)st->group * GROUP_PAGES + st->slot[n];
	bool failed = st->io[n].result != 0;
	entry_t to = entry_make(PAGE_DEVICE, st->io[n].page, st->device), flags;

	to = entry_with_gen(to, store_generation(sp));
	if (failed || (entry_load(st->entry[n]) & ENTRY_WANTED)) {
		if (!failed)
			device_forget(sp, st->device, st->io[n].page);
		to = entry_make(PAGE_PROBATION, slot, 0);
	}
	flags = page_settle(sp, st->entry[n], st->addr[n], to);
	if (flags & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, st->addr[n], PAGE_SIZE);
	return entry_state(to) == PAGE_DEVICE;
}

unsigned store_slots(struct uhmm_space *sp, uint32_t group, uint64_t mask,
		     unsigned device, uint64_t *refused)
{
	struct storing st = { .sp = sp, .device = device, .group = group };
	unsigned hint = device_batch_hint(sp->device[device]), n;
	uint64_t stored = 0, full = 0;

	while (mask) {
		unsigned shard = gate_enter(&sp->gate);

		for (st.nr = 0; mask && st.nr < hint; mask &= mask - 1)
			claim(&st, (unsigned)__builtin_ctzll(mask));
		gate_leave(&sp->gate, shard);
		if (!st.nr)
			continue;
		device_run(sp->device[device], UHMM_OP_STORE, st.io, st.nr);
		for (n = 0; n < st.nr; n++) {
			uint64_t bit = UINT64_C(1) << st.slot[n];

			if (st.io[n].result)
				full |= bit;
			if (settle(&st, n))
				stored |= bit;
		}
	}
	frame_drop(sp, group, stored);
	count(sp, COUNT_STORED, (uint64_t)__builtin_popcountll(stored));
	count(sp, COUNT_STORE_FAILED, (uint64_t)__builtin_popcountll(full));
	*refused = full;
	return (unsigned)__builtin_popcountll(stored);
}

/* Pages that a device refused are not tried again until they have cooled down. */
static void restore_slots(struct uhmm_space *sp, uint32_t group, uint64_t mask)
{
	for (; mask; mask &= mask - 1) {
		unsigned i = (unsigned)__builtin_ctzll(mask);
		uint64_t slot = (uint64_t)group * GROUP_PAGES + i;

		restore_page(sp, frame_owner(sp, slot), slot, 3);
	}
}

/*
 * A folio whose entry we hold (STORING): its pages one by one to the device. How many;
 * *full if the device refused one.
 */
static unsigned store_folio_pages(struct uhmm_space *sp, struct chunk *chunk,
				  uint64_t slot, uint64_t *page, unsigned device,
				  bool *full)
{
	unsigned hint = device_batch_hint(sp->device[device]), done = 0, i;
	struct uhmm_io io[UHMM_BATCH_MAX];

	while (done < CHUNK_PAGES && !(entry_load(&chunk->folio) & ENTRY_WANTED)) {
		unsigned nr = CHUNK_PAGES - done < hint ? CHUNK_PAGES - done : hint;

		for (i = 0; i < nr; i++)
			io[i] = (struct uhmm_io){ .buf = frame_bytes(sp, slot + done + i),
						  .len = PAGE_SIZE };
		device_run(sp->device[device], UHMM_OP_STORE, io, nr);
		for (i = 0; i < nr && io[i].result == 0; i++)
			page[done++] = io[i].page;
		if (i == nr)
			continue;
		*full = true;
		for (i++; i < nr; i++)
			if (io[i].result == 0)
				device_forget(sp, device, io[i].page);
		break;
	}
	return done;
}

/* All 512 entries become DEVICE while the folio's entry is still busy. */
static void publish_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			  const uint64_t *page, unsigned device)
{
	uint64_t gen = store_generation(sp);
	unsigned i;

	for (i = 0; i < CHUNK_PAGES; i++) {
		entry_t none = entry_load(&chunk->page[i]);
		entry_t to = entry_make(PAGE_DEVICE, page[i], device);

		assert_always(page_change(sp, &chunk->page[i], addr + i * PAGE_SIZE,
					  &none, entry_with_gen(to, gen)));
	}
}

unsigned store_folio(struct uhmm_space *sp, uint32_t group, uintptr_t addr,
		     unsigned device, bool *full)
{
	uint64_t slot = (uint64_t)group * GROUP_PAGES;
	uint64_t *page = uhmm_host_map(CHUNK_PAGES * sizeof(*page));
	unsigned shard = gate_enter(&sp->gate), done, i;
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0;
	bool mine = entry_state(f) == PAGE_PROBATION && entry_payload(f) == slot &&
		    page_change(sp, &chunk->folio, addr, &f,
				entry_make(PAGE_STORING, slot, 0));
	entry_t flags;

	gate_leave(&sp->gate, shard);
	if (!mine) {
		/* Moved back, unmapped or split meanwhile: not ours any more. */
		if (page)
			uhmm_host_unmap(page, CHUNK_PAGES * sizeof(*page));
		return 0;
	}
	done = page ? store_folio_pages(sp, chunk, slot, page, device, full) : 0;
	if (*full)
		count(sp, COUNT_STORE_FAILED, CHUNK_PAGES);
	if (done == CHUNK_PAGES) {
		publish_folio(sp, chunk, addr, page, device);
		flags = page_settle(sp, &chunk->folio, addr,
				    entry_make(PAGE_NONE, 0, 0) | ENTRY_STORED);
		frame_folio_drop(sp, group);
		count(sp, COUNT_STORED, CHUNK_PAGES);
	} else {
		for (i = 0; i < done; i++)
			device_forget(sp, device, page[i]);
		frame_group_give(sp, group);
		flags = page_settle(sp, &chunk->folio, addr,
				    entry_make(PAGE_PROBATION, slot, 0));
		restore_folio(sp, addr);
		done = 0;
	}
	if (flags & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, addr, CHUNK_SIZE);
	if (page)
		uhmm_host_unmap(page, CHUNK_PAGES * sizeof(*page));
	return done;
}

unsigned store_group(struct uhmm_space *sp, uint32_t group, uintptr_t folio,
		     unsigned device, bool *full)
{
	struct frame_group *g = frame_group(sp, group);
	uint64_t present, refused;
	unsigned stored;

	if (folio)
		return store_folio(sp, group, folio, device, full);
	present = __atomic_load_n(&g->present, __ATOMIC_ACQUIRE);
	stored = store_slots(sp, group, present, device, &refused);
	restore_slots(sp, group, refused);
	frame_group_give(sp, group);
	*full |= refused != 0;
	return stored;
}

/* ---- restore ---------------------------------------------------------------------- */

int fill_from_frame(struct uhmm_space *sp, uintptr_t addr, uint64_t slot)
{
	uint32_t group = (uint32_t)(slot / GROUP_PAGES);
	int64_t r = os_uffd_move(sp->uffd, addr, frame_addr(sp, slot), PAGE_SIZE, 0);

	if (r == -EBUSY) {
		frame_unshare(sp, slot, 1);
		r = os_uffd_move(sp->uffd, addr, frame_addr(sp, slot), PAGE_SIZE, 0);
	}
	/*
	 * Marked free by the program, and taken by the kernel before os_keep(). A copy
	 * from there would wait for the reader, which may be us.
	 */
	if (r == -ENOENT) {
		int64_t zero = os_uffd_zero(sp->uffd, frame_addr(sp, slot), PAGE_SIZE);

		if (zero == -EAGAIN || zero == -ENOMEM)
			return (int)zero;
		if (zero > 0)
			r = os_uffd_move(sp->uffd, addr, frame_addr(sp, slot), PAGE_SIZE,
					 0);
	}
	if (r > 0) {
		frame_release(sp, slot, 1);
		return 0;
	}
	/*
	 * The program has changed the mapping's protection or locked it since, or
	 * something holds the frame for a moment: a copy is allowed where a move is not.
	 */
	if (r != -EAGAIN && r != -EEXIST)
		r = os_uffd_copy(sp->uffd, addr, frame_bytes(sp, slot), PAGE_SIZE);
	if (r == -EAGAIN || r == -ENOENT || r == -ENOMEM)
		return (int)r;
	/* EEXIST: filled while the space was frozen by fork; what is there is current. */
	assert_result(r > 0 || r == -EEXIST, r);
	if (r == -EEXIST)
		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
	frame_drop(sp, group, UINT64_C(1) << slot % GROUP_PAGES);
	return 0;
}

/*
 * A page that is moved has to be forgotten by every other processor that runs the
 * program, also by those that are idle (Linux 6.18): that takes longer than to copy it,
 * and the worker is there to be interrupted where pages come back (docs/fault-path.md).
 * A copy is more memory for a while: none where there is no room for that.
 *
 * Not of what may have been marked free, and taken by the kernel: this would wait for the
 * reader, which may be us.
 */
static bool copy_back(struct uhmm_space *sp, uintptr_t addr, uint64_t slot)
{
	if (!frame_may_leave(sp, slot) || !budget_take(sp, 1))
		return false;
	if ((sp->delivery == UHMM_DELIVERY_INLINE ||
	     os_keep_now(frame_bytes(sp, slot)) == 0) &&
	    os_uffd_copy(sp->uffd, addr, frame_bytes(sp, slot), PAGE_SIZE) > 0) {
		frame_leave(sp, slot);
		return true;
	}
	budget_return(sp, 1);
	return false;
}

/* How a page on probation comes back. */
enum back { BACK_MOVED, BACK_COPIED };

static int bring_back(struct uhmm_space *sp, uintptr_t addr, uint64_t slot, unsigned hot,
		      enum back how)
{
	entry_t *entry = page_entry(page_chunk(sp, addr), addr);
	entry_t e = entry ? entry_load(entry) : 0, back, to;
	int r = -EBUSY;

	if (entry_state(e) == PAGE_PROBATION && entry_payload(e) == slot) {
		back = e & ~(ENTRY_WANTED | ENTRY_WAITERS);
		if (page_change(sp, entry, addr, &e,
				entry_make(PAGE_LOADING, slot, 0) | ENTRY_FROM_FRAME)) {
			r = how == BACK_COPIED && copy_back(sp, addr, slot) ?
				    0 :
				    fill_from_frame(sp, addr, slot);
			to = r ? back : entry_with_hot(entry_make(PAGE_NONE, 0, 0), hot);
			if ((page_settle(sp, entry, addr, to) & ENTRY_WANTED) && r)
				os_uffd_wake(sp->uffd, addr, PAGE_SIZE);
		}
	}
	if (r == 0)
		count(sp, COUNT_RESTORED, 1);
	return r;
}

int restore_page_inside(struct uhmm_space *sp, uintptr_t addr, uint64_t slot,
			unsigned hot)
{
	return bring_back(sp, addr, slot, hot, BACK_MOVED);
}

int restore_touched(struct uhmm_space *sp, uintptr_t addr, uint64_t slot, unsigned hot)
{
	return bring_back(sp, addr, slot, hot, BACK_COPIED);
}

int restore_page(struct uhmm_space *sp, uintptr_t addr, uint64_t slot, unsigned hot)
{
	unsigned shard = gate_enter(&sp->gate);
	int r = restore_page_inside(sp, addr, slot, hot);

	gate_leave(&sp->gate, shard);
	return r;
}

/* Makes up to nr pages LOADING, as long as they are in PROBATION in frames in a row. */
static unsigned claim_run(struct uhmm_space *sp, uintptr_t addr, uint64_t slot,
			  unsigned nr)
{
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t *entry = page_entry(chunk, addr);
	unsigned left = CHUNK_PAGES - page_index(addr), i;

	for (i = 0; entry && i < nr && i < left; i++) {
		entry_t e = entry_load(&entry[i]);

		if (entry_state(e) != PAGE_PROBATION || entry_payload(e) != slot + i ||
		    !page_change(sp, &entry[i], addr + i * PAGE_SIZE, &e,
				 entry_make(PAGE_LOADING, slot + i, 0) |
					 ENTRY_FROM_FRAME))
			break;
	}
	return i;
}

unsigned restore_run(struct uhmm_space *sp, uintptr_t addr, uint64_t slot, unsigned nr,
		     unsigned hot)
{
	unsigned shard = gate_enter(&sp->gate), i, done = 0;
	entry_t *entry = page_entry(page_chunk(sp, addr), addr), to;
	int64_t r;

	nr = claim_run(sp, addr, slot, nr);
	if (nr) {
		r = os_uffd_move(sp->uffd, addr, frame_addr(sp, slot), nr * PAGE_SIZE, 0);
		done = r > 0 ? (unsigned)(r >> PAGE_SHIFT) : 0;
	}
	if (done)
		frame_release(sp, slot, done);
	for (i = 0; i < nr; i++) {
		to = i < done ? entry_with_hot(entry_make(PAGE_NONE, 0, 0), hot) :
				entry_make(PAGE_PROBATION, slot + i, 0);
		if ((page_settle(sp, &entry[i], addr + i * PAGE_SIZE, to) &
		     ENTRY_WANTED) &&
		    i >= done)
			os_uffd_wake(sp->uffd, addr + i * PAGE_SIZE, PAGE_SIZE);
	}
	gate_leave(&sp->gate, shard);
	count(sp, COUNT_RESTORED, done);
	return done;
}

/* Pages of a folio that are in the program's memory, and in their frames still. */
struct copied {
	uint64_t of_group[BLOCK_GROUPS];
	bool any;
};

static void note_copied(struct copied *copied, size_t at)
{
	copied->of_group[at / GROUP_SIZE] |= UINT64_C(1) << at / PAGE_SIZE % GROUP_PAGES;
	copied->any = true;
}

/*
 * As fill_from_frame(), for all pages of a folio that is LOADING|FROM_FRAME. Returns how
 * many bytes were filled.
 */
static size_t fill_folio(struct uhmm_space *sp, uintptr_t addr, uint64_t slot,
			 struct copied *copied)
{
	size_t done = 0;

	while (done < CHUNK_SIZE) {
		uint64_t at = slot + done / PAGE_SIZE;
		int64_t r = os_uffd_move(sp->uffd, addr + done, frame_addr(sp, at),
					 CHUNK_SIZE - done, 0);

		if (r == -EBUSY) {
			frame_unshare(sp, at, 1);
			r = os_uffd_move(sp->uffd, addr + done, frame_addr(sp, at),
					 PAGE_SIZE, 0);
		}
		if (r == -EBUSY || r == -EINVAL) {
			r = os_uffd_copy(sp->uffd, addr + done, frame_bytes(sp, at),
					 PAGE_SIZE);
			if (r > 0)
				note_copied(copied, done);
		}
		if (r == -EEXIST) {
			r = PAGE_SIZE;
			note_copied(copied, done);
		}
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return done;
}

/* The folio's entry is held (LOADING). Returns what it is settled in. */
static entry_t fill_held_folio(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr,
			       uint64_t slot)
{
	uint32_t group = (uint32_t)(slot / GROUP_PAGES);
	struct copied copied = { .any = false };
	size_t done = fill_folio(sp, addr, slot, &copied);

	if (done == 0)
		return entry_make(PAGE_PROBATION, slot, 0);
	if (done < CHUNK_SIZE) {
		/* Frames that hold a page are not free. */
		if (copied.any)
			frame_folio_drop_some(sp, group, copied.of_group);
		folio_split(sp, chunk, addr, entry_make(PAGE_PROBATION, slot, 0),
			    (unsigned)(done >> PAGE_SHIFT), CHUNK_PAGES);
	} else if (copied.any) {
		frame_folio_drop(sp, group);
	} else {
		frame_folio_release(sp, group);
	}
	return entry_with_hot(entry_make(PAGE_NONE, 0, 0), 3);
}

int restore_folio_inside(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0;
	uint64_t slot = entry_payload(f);
	entry_t to, flags;
	int r = -EBUSY;

	if (entry_state(f) == PAGE_PROBATION && page_entries_make(sp, chunk) &&
	    page_change(sp, &chunk->folio, addr, &f,
			entry_make(PAGE_LOADING, slot, 0) | ENTRY_FROM_FRAME)) {
		to = fill_held_folio(sp, chunk, addr, slot);
		r = entry_state(to) == PAGE_NONE ? 0 : -EAGAIN;
		flags = page_settle(sp, &chunk->folio, addr, to);
		if (r == 0 || (flags & ENTRY_WANTED))
			os_uffd_wake(sp->uffd, addr, CHUNK_SIZE);
	}
	if (r == 0)
		count(sp, COUNT_RESTORED, CHUNK_PAGES);
	return r;
}

int restore_folio(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	int r = restore_folio_inside(sp, addr);

	gate_leave(&sp->gate, shard);
	return r;
}

# SPDX-License-Identifier: Apache-2.0
"""Bugs in how pages leave and come back."""
from .mutant import Mutant

MUTANTS = [
    # ---- isolation --------------------------------------------------------------------
    Mutant("skip_register", "lib/register.c",
           "pages leave a mapping that is not registered: they read as zeros", """
	r = os_uffd_register(sp->uffd, run->start, run->end - run->start);
""", """
	r = 0;
"""),
    Mutant("lose_moves_tail", "lib/isolate.c",
           "what a MOVE did not come to is taken for moved", """
			settle_moved(is, at, (unsigned)(r >> PAGE_SHIFT));
			i += (unsigned)(r >> PAGE_SHIFT);
""", """
			settle_moved(is, at, nr - i);
			i = nr;
"""),
    Mutant("publish_before_move", "lib/isolate.c",
           "a page is in PROBATION before it has moved", """
		int64_t r = os_uffd_move(is->sp->uffd, frame_addr(is->sp, slot), at,
					 (nr - i) * PAGE_SIZE, 0);
""", """
		int64_t r;

		settle(is, at, entry_make(PAGE_PROBATION, slot, 0));
		r = os_uffd_move(is->sp->uffd, frame_addr(is->sp, slot), at,
				 (nr - i) * PAGE_SIZE, 0);
		*page_entry(is->chunk, at) = entry_make(PAGE_ISOLATING, 0, 0);
"""),
    Mutant("ignore_pins", "lib/isolate.c",
           "pages that the program has pinned are isolated", """
	if (page_pinned(is->chunk, page_index(addr))) {
""", """
	if (0) {
"""),
    Mutant("drop_more_than_zeros", "lib/isolate.c",
           "a page whose first bytes are zeros becomes a hole", """
	return !bytes[0] && !memcmp(bytes, bytes + 1, nr * PAGE_SIZE - 1);
""", """
	return !bytes[0] && !memcmp(bytes, bytes + 1, 3);
"""),
    Mutant("isolate_while_discarding", "lib/isolate.c",
           "a page that a discard is still to come for is isolated", """
	if (unsharing(is->sp, addr) || zap_pending(is->sp, addr, addr + PAGE_SIZE)) {
""", """
	if (unsharing(is->sp, addr)) {
"""),
    Mutant("kept_in_one_frame", "lib/isolate.c",
           "pages that were kept together are all looked for in the first frame", """
	for (; is->moved; is->moved &= is->moved - 1, slot++)
""", """
	for (; is->moved; is->moved &= is->moved - 1)
"""),
    # ---- store ------------------------------------------------------------------------
    Mutant("store_without_waking", "lib/migrate.c",
           "who waits for a page that is being stored sleeps on", """
	if (flags & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, st->addr[n], PAGE_SIZE);
""", """
	if (0)
		os_uffd_wake(sp->uffd, st->addr[n], PAGE_SIZE);
"""),
    Mutant("wake_too_early", "lib/migrate.c",
           "who waits is woken before the page's state has changed", """
	flags = page_settle(sp, st->entry[n], st->addr[n], to);
	if (flags & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, st->addr[n], PAGE_SIZE);
""", """
	flags = entry_load(st->entry[n]);
	if (flags & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, st->addr[n], PAGE_SIZE);
	page_settle(sp, st->entry[n], st->addr[n], to);
"""),
    Mutant("drop_refused_frames", "lib/migrate.c",
           "a frame is given up though the device has refused its page", """
	frame_drop(sp, group, stored);
""", """
	frame_drop(sp, group, stored | full);
"""),
    Mutant("keep_copy_of_wanted", "lib/migrate.c",
           "the copy of a page that goes back after all stays on the device", """
		if (!failed)
			device_forget(sp, st->device, st->io[n].page);
""", """
"""),
    Mutant("half_a_folio_stays", "lib/migrate.c",
           "pages of a folio that a full device has taken stay there", """
		for (i = 0; i < done; i++)
			device_forget(sp, device, page[i]);
""", """
"""),
    # ---- restore ----------------------------------------------------------------------
    Mutant("ignore_eagain", "lib/migrate.c",
           "a page that could not be moved back for now is taken for there", """
		return (int)r;
""", """
		return 0;
"""),
    Mutant("restore_loses_tail", "lib/migrate.c",
           "pages that a MOVE back did not come to are taken for there", """
		done = r > 0 ? (unsigned)(r >> PAGE_SHIFT) : 0;
""", """
		done = r > 0 ? nr : 0;
"""),
    # ---- faults -----------------------------------------------------------------------
    Mutant("fill_over_entries", "lib/fault.c",
           "zeros are filled in where pages are elsewhere", """
		if (entry && entry_state(entry_load(entry)) != PAGE_NONE)
			break;
""", """
		(void)entry;
"""),
    Mutant("free_before_fill", "lib/fault.c",
           "copies are freed though the pages could not be filled in", """
			put_back(ld, n);
""", """
			put_back(ld, n);
		ld->done = which_first(ld->nr);
		free_copies(ld);
		ld->done = 0;
"""),
    Mutant("keep_stale_copy", "lib/fault.c",
           "copies of pages that came back stay on the device", """
		free_copies(ld);
""", """
"""),
    Mutant("fill_with_gate_closed", "lib/fault.c",
           "pages are filled in while the program's changes are applied", """
	if (gate_try_enter(&sp->gate, &shard)) {
		fill_all(ld);
		gate_leave(&sp->gate, shard);
""", """
	shard = 0;
	if (1) {
		fill_all(ld);
"""),
    Mutant("lost_page_is_zeros", "lib/fault.c",
           "a page that the device cannot give back reads as zeros", """
	settle(ld, n, entry_make(PAGE_POISONED, 0, 0));
	os_uffd_poison(sp->uffd, at, PAGE_SIZE);
""", """
	settle(ld, n, entry_make(PAGE_NONE, 0, 0));
	os_uffd_zero(sp->uffd, at, PAGE_SIZE);
"""),
    Mutant("park_for_ever", "lib/fault.c",
           "who waits for room in the budget is not woken when there is some", """
		for (i = 0; i < nr; i++)
			os_uffd_wake(sp->uffd, some[i], PAGE_SIZE);
""", """
		(void)i;
"""),
    Mutant("drivers_pages_come_as_a_folio", "lib/fault_chunk.c",
           "what a driver put where a folio was stored once comes back as that", """
	if (pagemap_at(cl->sp, cl->device))
		return false;
""", """
"""),
    Mutant("stored_folio_stays_busy", "lib/fault_chunk.c",
           "pages of a folio that could not be claimed whole stay LOADING", """
	settle(cl, 0, i, true);
""", """
"""),
    Mutant("passes_by_what_is_away", "lib/stream.c",
           "a stream brings what nobody wants, behind pages that were left out", """
		if (entry && entry_state(entry_load(entry)) != PAGE_NONE)
			return false;
	}
""", """
		if (entry && entry_state(entry_load(entry)) == PAGE_NR_STATES)
			return false;
	}
"""),
    Mutant("strides_over_a_guard", "lib/fault.c",
           "a page is brought ahead in the place of a guard", """
	if (entry_state(e) == PAGE_DEVICE && !pagemap_at(sp, entry_device(e)) &&
	    os_empty(addr, PAGE_SIZE) == PAGE_SIZE)
""", """
	if (entry_state(e) == PAGE_DEVICE && !pagemap_at(sp, entry_device(e)))
"""),
    Mutant("trusts_what_ended", "lib/stream.c",
           "pages are brought ahead though streams end there each time", """
	st->to_come = *trust_in(s, st) < 0 ? st->window : 0;
""", """
	st->to_come = 0;
"""),
    Mutant("never_trusts_again", "lib/stream.c",
           "where streams have ended nothing is ever brought again", """
	if (through && *trust < TRUST_MAX)
""", """
	if (through && *trust < TRUST_MAX && !st->to_come)
"""),
    Mutant("strides_judge_all", "lib/stream.c",
           "where strides have ended what goes from page to page is not brought", """
	return &s->trust[st->stride != PAGE_SIZE][size];
""", """
	return &s->trust[0][size];
"""),
    Mutant("repeated_is_a_stream", "lib/stream.c",
           "a fault that is repeated is taken for one that goes on", """
	if (addr == st->last) /* the same fault again */
		return st->to_come ? 1 : st->window;
""", """
"""),
    # ---- protection and the budget ----------------------------------------------------
    Mutant("stays_writable", "lib/migration.c",
           "what may only be read can be written after a migration", """
	if (!vma->writable)
		os_set_writable(start, len, vma, false);
""", """
	(void)start;
	(void)len;
	(void)vma;
"""),
    Mutant("frames_counted_for_ever", "lib/frame.c",
           "frames that were given back are counted as on probation", """
	__atomic_fetch_sub(&f->nr_probation, (uint64_t)__builtin_popcountll(mask),
			   __ATOMIC_RELAXED);
""", """
"""),
    Mutant("split_frames_counted_twice", "lib/frame_folio.c",
           "pages of a huge frame that is split are not counted", """
	__atomic_fetch_sub(&f->nr_probation, CHUNK_PAGES - (to - from), __ATOMIC_RELAXED);
""", """
	__atomic_fetch_sub(&f->nr_probation, CHUNK_PAGES, __ATOMIC_RELAXED);
"""),
    Mutant("another_mapping", "lib/register.c",
           "what has come to a mapping's place is registered, and has its pages", """
	if (r != -EAGAIN && !has_pages_elsewhere(sp, vma, start, end)) {
""", """
	(void)has_pages_elsewhere;
	if (r != -EAGAIN) {
"""),
    Mutant("came_too_late", "lib/register.c",
           "pages leave what came to a mapping's place after that was registered", """
			return r;
		r = os_uffd_probe(sp->uffd, start, end - start);
	}
""", """
			return r;
	}
"""),
    Mutant("shared_since_fork_stays", "lib/isolate.c",
           "pages that a fork has left shared are never made exclusive", """
		unshare_pages(sp, addr, which);
		is.refused = 0;
""", """
		is.refused = 0;
"""),
    Mutant("torn_folio_loses_a_page", "lib/isolate.c",
           "a huge page that became small in the middle of a move loses its rest", """
		folio_split(sp, chunk, addr, entry_make(PAGE_PROBATION, slot, 0), 0,
			    (unsigned)(r >> PAGE_SHIFT));
	}
""", """
		folio_split(sp, chunk, addr, entry_make(PAGE_PROBATION, slot, 0), 0,
			    (unsigned)(r >> PAGE_SHIFT) - 1);
	}
"""),
    Mutant("budget_raised_twice", "lib/budget.h",
           "room that was taken in vain is given back twice", """
	__atomic_fetch_add(&sp->budget.room_pages, -left, __ATOMIC_RELAXED);
""", """
	__atomic_fetch_add(&sp->budget.room_pages, -2 * left, __ATOMIC_RELAXED);
"""),
    Mutant("copied_frames_are_free", "lib/migrate.c",
           "frames whose pages were copied back take others on top of them", """
		if (copied.any)
			frame_folio_drop_some(sp, group, copied.of_group);
""", """
"""),
    # ---- which pages ------------------------------------------------------------------
    Mutant("the_hand_has_no_turn", "lib/policy.c",
           "what is used no more stays where streams bring all that there is", """
	return policy_recent_due(recent_pages, resident_pages) &&
	       ++policy->turn % HANDS_TURN != 0;
""", """
	return policy_recent_due(recent_pages, resident_pages);
"""),
    Mutant("forgotten_runs_count", "lib/recent.c",
           "runs that there is no room for are counted among the recent for ever", """
		if (r->nr == RECENT_MAX)
			drop_oldest(r);
""", """
		if (r->nr == RECENT_MAX) {
			r->first = (r->first + 1) % RECENT_MAX;
			r->nr--;
		}
"""),
    Mutant("the_hand_takes_all", "lib/reclaim.c",
           "what streams bring waits for the hand, and too long a loop keeps nothing",
           """
		r = hand_isolate_recent(sp, &w->brought);
""", """
"""),
    # ---- where, and when --------------------------------------------------------------
    Mutant("the_reader_stays_low", "lib/placement.c",
           "the reader stays in the idle class when nobody faults any more", """
	raise_reader(sp, w->held_up >= TICKS_HELD_UP);
""", """
	(void)raise_reader;
"""),
    Mutant("raised_where_it_was", "lib/os/os_linux_place.c",
           "who was lowered is left on the one processor where it was", """
	r = set_policy(tid, place, false);
	set_cpus(tid, place->cpus);
""", """
	r = set_policy(tid, place, false);
"""),
    Mutant("keeping_is_waited_for", "lib/os/os_linux_mem.c",
           "the reader waits for itself where a page in a frame has been taken away", """
	long r = sys6(SYS_futex, (long)addr, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0,
		      (long)addr, FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0));
""", """
	long r = 0;

	os_keep(addr);
"""),
    Mutant("others_stay_apart", "lib/placement.c",
           "the worker stays where it was, and the thread is put there too", """
	if (worker)
		os_gather(&p->place, worker, (int)at - 1);
""", """
"""),
    Mutant("gathered_for_good", "lib/placement.c",
           "the worker is left on the one processor where all were", """
	if (worker)
		os_gather(&p->place, worker, (int)at - 1);
""", """
	if (worker && at)
		os_gather(&p->place, worker, (int)at - 1);
"""),
    # ---- what was copied back ---------------------------------------------------------
    Mutant("left_frames_are_free", "lib/frame_list.c",
           "a group with a page that was copied back is free, and that is dropped later",
           """
	if (__atomic_load_n(&f->group[g].left, __ATOMIC_ACQUIRE)) {
		left_push(f, g);
		return;
	}
""", """
	(void)left_push;
"""),
    Mutant("left_is_dropped_twice", "lib/frame.c",
           "what was left in a group is dropped again with the pages that are there then",
           """
	all = mask | __atomic_exchange_n(&frame_group(sp, g)->left, 0, __ATOMIC_RELAXED);
""", """
	all = mask | __atomic_load_n(&frame_group(sp, g)->left, __ATOMIC_RELAXED);
"""),
    Mutant("left_after_it_is_free", "lib/frame.c",
           "a page is left in a group that is free already", """
	__atomic_fetch_or(&group->left, UINT64_C(1) << slot % GROUP_PAGES,
			  __ATOMIC_RELAXED);
	frame_release(sp, slot, 1);
""", """
	frame_release(sp, slot, 1);
	__atomic_fetch_or(&group->left, UINT64_C(1) << slot % GROUP_PAGES,
			  __ATOMIC_RELAXED);
"""),
    Mutant("who_forks_drops_frames", "lib/fork.c",
           "a thread without the library's descriptors drops what was left in frames", """
	frames_drop_spares(sp);
""", """
	frames_drop_unneeded(sp);
"""),
    # ---- from device to device --------------------------------------------------------
    Mutant("transfer_keeps_the_old_copy", "lib/transfer.c",
           "a page that went to another device stays on the first one too", """
	if (nr_moved)
		device_run(ld->sp->device[ld->device], UHMM_OP_FREE, ld->io, nr_moved);
""", """
"""),
    Mutant("transfer_wakes_nobody", "lib/transfer.c",
           "who touches a page on its way to another device sleeps on", """
	if (page_settle(sp, ld->entry[n], at, to) & ENTRY_WANTED)
		os_uffd_wake(sp->uffd, at, PAGE_SIZE);
""", """
	page_settle(sp, ld->entry[n], at, to);
"""),
    Mutant("transfer_takes_refused_pages", "lib/transfer.c",
           "a page that the other device refused is taken for moved", """
	bool moved = n < t->loaded && t->store[n].result == 0;
""", """
	bool moved = n < t->loaded;
"""),
]

# SPDX-License-Identifier: Apache-2.0
"""Bugs in what follows the program's own changes of its mappings."""
from .mutant import Mutant

MUTANTS = [
    # ---- events -----------------------------------------------------------------------
    Mutant("discarded_comes_back", "lib/event.c",
           "what the program has discarded is there again", """
		event_discard(sp, ev.from, ev.end, false);
""", """
"""),
    Mutant("unmapped_comes_back", "lib/event.c",
           "what was unmapped is there in the next mapping at its address", """
	event_discard(sp, unmap.from, unmap.end, true);
""", """
"""),
    Mutant("moves_stay", "lib/event.c",
           "pages are looked for where they were before mremap()", """
	event_remap(sp, ev->from, ev->to, ev->len);
""", """
"""),
    Mutant("order_of_events", "lib/event.c",
           "what freed an address is applied after what was moved there", """
		if (!b->applied[j] && frees(&b->event[j], ev->to, end))
""", """
		if (0)
"""),
    Mutant("do_not_gather", "lib/event.c",
           "events that belong together are applied apart", """
	if (structural)
		event_gather(sp);
""", """
"""),
    Mutant("do_not_wait_for_holder", "lib/event_follow.c",
           "an event is applied to a page that somebody is at work on", """
	while (entry_busy(e = entry_load(entry)))
		page_wait(sp, entry);
	return e;
""", """
	e = entry_load(entry);
	return entry_busy(e) ? 0 : e;
"""),
    Mutant("split_loses_a_page", "lib/event_follow.c",
           "the last page of a folio that is taken apart is lost", """
	folio_split(sp, chunk, addr, f, 0, CHUNK_PAGES);
""", """
	folio_split(sp, chunk, addr, f, 0, CHUNK_PAGES - 1);
"""),
    # ---- the gate ---------------------------------------------------------------------
    Mutant("close_and_go", "lib/gate.c",
           "who closes the gate does not wait for those who are inside", """
		while ((inside = __atomic_load_n(&gate->shard[s].inside,
						 __ATOMIC_SEQ_CST)))
			os_wait(&gate->shard[s].inside, inside, -1);
""", """
		inside = 0;
		(void)inside;
"""),
    Mutant("open_without_waking", "lib/gate.c",
           "who waits at the gate sleeps on when it is opened", """
	if (__atomic_exchange_n(&gate->closed, 0, __ATOMIC_SEQ_CST) == 2)
		os_wake(&gate->closed, INT_MAX);
""", """
	__atomic_exchange_n(&gate->closed, 0, __ATOMIC_SEQ_CST);
"""),
    Mutant("frames_owner_stays", "lib/event_follow.c",
           "a frame says that its page is where it was before mremap()", """
	if (entry_state(e) == PAGE_PROBATION)
		frame_set_owner(sp, entry_payload(e), to);
	else
""", """
	if (entry_state(e) != PAGE_PROBATION)
"""),
    Mutant("pins_stay", "lib/event_follow.c",
           "a pinned page is not pinned after mremap()", """
			remap_pins(&rm, chunk, addr);
""", """
			(void)remap_pins;
"""),
    Mutant("mremap_tells_half", "lib/event.c",
           "who mirrors memory is not told that pages were moved away from it", """
	bool told = notifier_begin(sp, ev->from, ev->from + ev->len, UHMM_EVENT_UNMAP,
				   NULL);
""", """
	bool told = false;
"""),
   Mutant("coherent_after_a_clone", "lib/event.c",
           "after a raw clone a coherent page counts as one that only we have", """
	if (b->nr_filled < b->nr_children)
		coherent_forked(sp);
""", """
"""),
    Mutant("regrown_is_what_was_there", "lib/event.c",
           "what has grown where something was moved to has its bytes", """
	while (!to_be_replaced(sp, addr) && !is_gone(sp->batch, addr) &&
""", """
	(void)is_gone;
	while (!to_be_replaced(sp, addr) &&
"""),
    Mutant("grown_waits_for_itself", "lib/grown.c",
           "who moves a locked mapping that grows waits for a page for ever", """
	if (grows <= 0 || os_vma_next(ev->addr, false, &vma) || vma.start > ev->addr)
		return false;
""", """
	if (grows >= 0 || os_vma_next(ev->addr, false, &vma) || vma.start > ev->addr)
		return false;
"""),
    Mutant("grown_is_two_mappings", "lib/grown.c",
           "what is new of a locked mapping that has grown is not registered again", """
	while (os_uffd_register(sp->uffd, ev->addr, len) == -ENOMEM)
		os_yield();
""", """
	(void)ENOMEM;
"""),
    Mutant("fault_hides_an_event", "lib/landed.c",
           "a fault that is raised again and again hides an event from the reader", """
		if (ev[n].kind != OS_EVENT_FAULT)
			return n + 1;
""", """
		return n + 1;
"""),
    Mutant("crowd_hides_an_event", "lib/message.c",
           "the faults of many threads hide an event from the reader", """
	bool hidden = n == MESSAGE_BATCH;
""", """
	bool hidden = false;
"""),
    Mutant("moves_reach_no_further", "lib/event.c",
           "what was moved before an UNMAP of where it begins, told later, is lost", """
		    move.from >= ev.from && move.from < ev.end &&
""", """
		    move.from >= ev.from && move.from + move.len <= ev.end &&
"""),
    Mutant("moved_before_it_grew_again", "lib/event.c",
           "what has grown again and is moved has the bytes of what was unmapped", """
		    !grew_again(sp, unmap, &move))
""", """
		    !(0 && grew_again(sp, unmap, &move)))
"""),
    Mutant("grew_again_beside_a_hole", "lib/event.c",
           "what another thread has unmapped beside a move counts as grown again", """
	return is_or_was_there(sp, i, from - PAGE_SIZE) &&
	       (move->from == from || is_or_was_there(sp, i, move->from - PAGE_SIZE));
""", """
	return is_or_was_there(sp, i, from - PAGE_SIZE) || move->from >= from;
"""),
    Mutant("grows_over_what_stays", "lib/event.c",
           "what moves over what has arrived, and grows, has some of its bytes", """
		if (!makes_room(sp->batch, &unmap))
""", """
		if (1 || !makes_room(sp->batch, &unmap))
"""),
    Mutant("order_is_not_known", "lib/event.c",
           "a single thread's events may be in another order", """
	b->single = has_one_thread(b);
""", """
	b->single = false && has_one_thread(b);
"""),
    Mutant("order_of_many_is_known", "lib/event.c",
           "many threads' events are in the order in which they are read", """
	b->single = has_one_thread(b);
""", """
	b->single = true || has_one_thread(b);
"""),
]

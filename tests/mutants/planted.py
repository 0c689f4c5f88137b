# SPDX-License-Identifier: Apache-2.0
"""Bugs to plant in the library, each a piece of text to replace.

A mutant is a mistake that somebody could make, in the code as it is: `old` is in the file
exactly once. Where the code has changed so that it is not, `make mutants` and the lint say
so, and the mutant is to be planted anew. Those that could not be told from the right code
by anybody are not here.
"""
from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    file: str
    what: str  # what goes wrong
    old: str
    new: str


MUTANTS = [
    # ---- isolation ----------------------------------------------------------------
    Mutant("skip_register", "lib/isolate.c",
           "pages leave a mapping that is not registered: they read as zeros",
           "r = os_uffd_register(sp->uffd, vma->start, vma->end - vma->start);",
           "r = 0;"),
    Mutant("lose_moves_tail", "lib/isolate.c",
           "what a MOVE did not come to is taken for moved",
           "			settle_moved(is, at, (unsigned)(r >> PAGE_SHIFT));\n"
           "			i += (unsigned)(r >> PAGE_SHIFT);\n",
           "			settle_moved(is, at, nr - i);\n"
           "			i = nr;\n"),
    Mutant("publish_before_move", "lib/isolate.c",
           "a page is in PROBATION before it has moved",
           "	while (i < nr && !is->error) {\n"
           "		uint64_t slot = (uint64_t)is->group * GROUP_PAGES +\n"
           "				frame_group(is->sp, is->group)->nr_used;\n"
           "		uintptr_t at = addr + i * PAGE_SIZE;\n"
           "		int64_t r = os_uffd_move(is->sp->uffd, frame_addr(is->sp, slot), at,\n"
           "					 (nr - i) * PAGE_SIZE, 0);\n",
           "	while (i < nr && !is->error) {\n"
           "		uint64_t slot = (uint64_t)is->group * GROUP_PAGES +\n"
           "				frame_group(is->sp, is->group)->nr_used;\n"
           "		uintptr_t at = addr + i * PAGE_SIZE;\n"
           "		int64_t r;\n"
           "\n"
           "		settle(is, at, entry_make(PAGE_PROBATION, slot, 0));\n"
           "		r = os_uffd_move(is->sp->uffd, frame_addr(is->sp, slot), at,\n"
           "				 (nr - i) * PAGE_SIZE, 0);\n"
           "		*page_entry(is->chunk, at) = entry_make(PAGE_ISOLATING, 0, 0);\n"),
    Mutant("ignore_pins", "lib/isolate.c",
           "pages that the program has pinned are isolated",
           "	if (page_pinned(is->chunk, page_index(addr))) {\n",
           "	if (0) {\n"),
    Mutant("drop_more_than_zeros", "lib/isolate.c",
           "a page whose first bytes are zeros becomes a hole",
           "return !bytes[0] && !memcmp(bytes, bytes + 1, nr * PAGE_SIZE - 1);",
           "return !bytes[0] && !memcmp(bytes, bytes + 1, 3);"),
    Mutant("isolate_while_discarding", "lib/isolate.c",
           "a page that a discard is still to come for is isolated",
           "	if (unsharing(is->sp, addr) || zap_pending(is->sp, addr, addr + PAGE_SIZE)) {\n",
           "	if (unsharing(is->sp, addr)) {\n"),
    Mutant("once_a_folio", "lib/isolate.c",
           "pages that were stored one by one come back as the folio that they were",
           "	if (f & ENTRY_STORED)\n		page_change(is->sp,",
           "	if (0)\n		page_change(is->sp,"),
    # ---- store --------------------------------------------------------------------
    Mutant("store_without_waking", "lib/migrate.c",
           "who waits for a page that is being stored sleeps on",
           "	if (flags & ENTRY_WANTED)\n		os_uffd_wake(sp->uffd, st->addr[n],",
           "	if (0)\n		os_uffd_wake(sp->uffd, st->addr[n],"),
    Mutant("wake_too_early", "lib/migrate.c",
           "who waits is woken before the page's state has changed",
           "	flags = page_settle(sp, st->entry[n], st->addr[n], to);\n"
           "	if (flags & ENTRY_WANTED)\n"
           "		os_uffd_wake(sp->uffd, st->addr[n], PAGE_SIZE);\n",
           "	flags = entry_load(st->entry[n]);\n"
           "	if (flags & ENTRY_WANTED)\n"
           "		os_uffd_wake(sp->uffd, st->addr[n], PAGE_SIZE);\n"
           "	page_settle(sp, st->entry[n], st->addr[n], to);\n"),
    Mutant("drop_refused_frames", "lib/migrate.c",
           "a frame is given up though the device has refused its page",
           "	frame_drop(sp, group, stored);\n",
           "	frame_drop(sp, group, stored | full);\n"),
    Mutant("keep_copy_of_wanted", "lib/migrate.c",
           "the copy of a page that goes back after all stays on the device",
           "		if (!failed)\n			device_forget(sp, st->device, st->io[n].page);\n",
           ""),
    Mutant("half_a_folio_stays", "lib/migrate.c",
           "pages of a folio that a full device has taken stay there",
           "		for (i = 0; i < done; i++)\n			device_forget(sp, device, page[i]);\n",
           ""),
    # ---- restore ------------------------------------------------------------------
    Mutant("ignore_eagain", "lib/migrate.c",
           "a page that could not be moved back for now is taken for there",
           "	if (r == -EAGAIN || r == -ENOENT || r == -ENOMEM)\n		return (int)r;\n",
           "	if (r == -EAGAIN || r == -ENOENT || r == -ENOMEM)\n		return 0;\n"),
    Mutant("restore_loses_tail", "lib/migrate.c",
           "pages that a MOVE back did not come to are taken for there",
           "		done = r > 0 ? (unsigned)(r >> PAGE_SHIFT) : 0;\n	}\n	if (done)\n",
           "		done = r > 0 ? nr : 0;\n	}\n	if (done)\n"),
    # ---- faults -------------------------------------------------------------------
    Mutant("fill_over_entries", "lib/fault.c",
           "zeros are filled in where pages are elsewhere",
           "		if (entry && entry_state(entry_load(entry)) != PAGE_NONE)\n			break;\n	}\n	return n;",
           "		(void)entry;\n	}\n	return n;"),
    Mutant("free_before_fill", "lib/fault.c",
           "copies are freed though the pages could not be filled in",
           "	} else {\n		for (n = 0; n < ld->nr; n++)\n			put_back(ld, n);\n	}\n",
           "	} else {\n		for (n = 0; n < ld->nr; n++)\n			put_back(ld, n);\n"
           "		ld->done = which_first(ld->nr);\n		free_copies(ld);\n		ld->done = 0;\n	}\n"),
    Mutant("keep_stale_copy", "lib/fault.c",
           "copies of pages that came back stay on the device",
           "		gate_leave(&sp->gate, shard);\n		free_copies(ld);\n",
           "		gate_leave(&sp->gate, shard);\n"),
    Mutant("fill_with_gate_closed", "lib/fault.c",
           "pages are filled in while the program's changes are applied",
           "	if (gate_try_enter(&sp->gate, &shard)) {\n		fill_all(ld);\n		gate_leave(&sp->gate, shard);\n",
           "	shard = 0;\n	if (1) {\n		fill_all(ld);\n"),
    Mutant("lost_page_is_zeros", "lib/fault.c",
           "a page that the device cannot give back reads as zeros",
           "	settle(ld, n, entry_make(PAGE_POISONED, 0, 0));\n	os_uffd_poison(sp->uffd, at, PAGE_SIZE);\n",
           "	settle(ld, n, entry_make(PAGE_NONE, 0, 0));\n	os_uffd_zero(sp->uffd, at, PAGE_SIZE);\n"),
    Mutant("forget_the_budget", "lib/fault.c",
           "room in the budget that was not used is not given back",
           "	budget_return(sp, granted - (ld.filled < granted ? ld.filled : granted));\n	if (ld.filled) {\n		stream_filled",
           "	if (ld.filled) {\n		stream_filled"),
    Mutant("park_for_ever", "lib/fault.c",
           "who waits for room in the budget is not woken when there is some",
           "		for (i = 0; i < nr; i++)\n			os_uffd_wake(sp->uffd, some[i], PAGE_SIZE);\n",
           "		(void)i;\n"),
    Mutant("stored_folio_stays_busy", "lib/fault_chunk.c",
           "pages of a folio that could not be claimed whole stay LOADING",
           "	settle(cl, 0, i, true);\n	return false;\n",
           "	return false;\n"),
    # ---- events -------------------------------------------------------------------
    Mutant("discarded_comes_back", "lib/event.c",
           "what the program has discarded is there again",
           "		event_discard(sp, ev.from, ev.end, false);\n		zap_announce(sp, ev.from, ev.end);\n",
           "		zap_announce(sp, ev.from, ev.end);\n"),
    Mutant("unmapped_comes_back", "lib/event.c",
           "what was unmapped is there in the next mapping at its address",
           "			drop_if_gone(sp, found);\n	}\n	event_discard(sp, ev->from, ev->end, true);\n",
           "			drop_if_gone(sp, found);\n	}\n"),
    Mutant("moves_stay", "lib/event.c",
           "pages are looked for where they were before mremap()",
           "	event_remap(sp, ev->from, ev->to, ev->len);\n",
           ""),
    Mutant("order_of_events", "lib/event.c",
           "what freed an address is applied after what was moved there",
           "		if (!b->applied[j] && frees(&b->event[j], ev->to, end))\n			apply_one(sp, j);\n",
           "		if (0)\n			apply_one(sp, j);\n"),
    Mutant("do_not_gather", "lib/event.c",
           "events that belong together are applied apart",
           "	if (structural)\n		event_gather(sp);\n	event_apply_batch(sp);\n	sp->late.nr = 0;",
           "	event_apply_batch(sp);\n	sp->late.nr = 0;"),
    Mutant("do_not_wait_for_holder", "lib/event.c",
           "an event is applied to a page that somebody is at work on",
           "	while (entry_busy(e = entry_load(entry)))\n		page_wait(sp, entry);\n	return e;\n}\n\nstatic void to_none",
           "	e = entry_load(entry);\n	return entry_busy(e) ? 0 : e;\n}\n\nstatic void to_none"),
    Mutant("split_loses_a_page", "lib/event.c",
           "the last page of a folio that is taken apart is lost",
           "	folio_split(sp, chunk, addr, f, 0, CHUNK_PAGES);\n	to_none(",
           "	folio_split(sp, chunk, addr, f, 0, CHUNK_PAGES - 1);\n	to_none("),
    # ---- the gate -----------------------------------------------------------------
    Mutant("close_and_go", "lib/gate.c",
           "who closes the gate does not wait for those who are inside",
           "		while ((inside = __atomic_load_n(&gate->shard[s].inside,\n						 __ATOMIC_SEQ_CST)))\n			os_wait(&gate->shard[s].inside, inside, -1);\n",
           "		inside = 0;\n		(void)inside;\n"),
    Mutant("open_without_waking", "lib/gate.c",
           "who waits at the gate sleeps on when it is opened",
           "	if (__atomic_exchange_n(&gate->closed, 0, __ATOMIC_SEQ_CST) == 2)\n		os_wake(&gate->closed, INT_MAX);\n",
           "	__atomic_exchange_n(&gate->closed, 0, __ATOMIC_SEQ_CST);\n"),
    # ---- fork ---------------------------------------------------------------------
    Mutant("fork_in_an_open_world", "lib/fork.c",
           "the child's memory is copied while others change states",
           "	os_block_signals(&signals);\n	gate_close(&sp->world);\n	if (!share(fs)) {",
           "	os_block_signals(&signals);\n	gate_close(&sp->world);\n	gate_open(&sp->world);\n	if (!share(fs)) {"),
    Mutant("do_not_log_fills", "lib/frozen.c",
           "what was filled in while the space was frozen is still elsewhere after it",
           "		if (log->record[i].kind == FROZEN_FILL)\n			apply_fill(",
           "		if (0)\n			apply_fill("),
    Mutant("childs_log_is_lost", "lib/fork_child.c",
           "what the child did before it took over is not known to it",
           "	frozen_apply(sp, &fs->shared->child, NULL);\n",
           ""),
    Mutant("hand_over_too_early", "lib/fork.c",
           "the child is given its userfaultfd before all events were read",
           "	while (event_unread(sp)) {\n		read_parent(sp);\n		os_yield();\n	}\n	if (os_handover_send",
           "	if (os_handover_send"),
    Mutant("raw_child_is_empty", "lib/event.c",
           "a raw clone's child gets nothing of what was migrated",
           "	for (i = 0; i < b->nr || c < b->nr_children; i++) {\n		for (; c < b->nr_children && b->child[c].after <= i; c++)\n			fork_fill(sp, b->child[c].uffd, b->child[c].after);\n",
           "	for (i = 0; i < b->nr || c < b->nr_children; i++) {\n		for (; c < b->nr_children && b->child[c].after <= i; c++)\n			os_uffd_close(b->child[c].uffd);\n"),
    Mutant("forget_the_childs_reference", "lib/pagemap_share.c",
           "a page of a shared page map is freed while a child has it",
           "		for (; left; left &= left - 1)\n			__atomic_fetch_add(refs(map,\n						i * 64 +",
           "		for (left = 0; left; left &= left - 1)\n			__atomic_fetch_add(refs(map,\n						i * 64 +"),
    # ---- drivers ------------------------------------------------------------------
    Mutant("do_not_tell", "lib/notifier.c",
           "who mirrors memory is told, but its sequence stays what it was",
           "	if (ns->root)\n		ns->seq |= 1;\n	while ((n = next(",
           "	while ((n = next("),
    Mutant("destination_twice", "lib/migration_end.c",
           "two pages go to one page of the device",
           "		return map && pagemap_is_spare(map, pfn_page(dst));\n",
           "		return map != NULL;\n"),
    Mutant("disowned_is_settled", "lib/event.c",
           "a page that was unmapped in the middle of a migration comes back at its end",
           "	migration_disown(sp, e);\n	if (e & ENTRY_WANTED)\n		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);\n}\n\n/* With the gate closed: its pages",
           "	if (e & ENTRY_WANTED)\n		os_uffd_wake(sp->uffd, addr, PAGE_SIZE);\n}\n\n/* With the gate closed: its pages"),
    # ---- devices ------------------------------------------------------------------
    Mutant("do_not_compare", "devices/ram/ram.c",
           "a page whose bytes have changed on the device is handed out",
           "	return uhmm_checksum(io->buf, io->len) == entry->check ? 0 : -EIO;\n",
           "	return 0;\n"),
    Mutant("one_entry_too_many", "devices/ram/ram.c",
           "the device takes more than its size",
           "	if (i == ram->max_pages)\n",
           "	if (i == ram->max_pages + 1)\n"),
    Mutant("page_is_kept_and_unmapped", "lib/host_pages.c",
           "a page that is kept for the next is given back too",
           "	for (; done < nr; done++)\n		uhmm_host_unmap(page[done], UHMM_PAGE_SIZE);\n}\n\nvoid host_pages_drop",
           "	for (done = 0; done < nr; done++)\n		uhmm_host_unmap(page[done], UHMM_PAGE_SIZE);\n}\n\nvoid host_pages_drop"),
]

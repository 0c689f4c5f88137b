# SPDX-License-Identifier: Apache-2.0
"""Bugs in what a fork copies."""
from .mutant import Mutant

MUTANTS = [
    # ---- fork -------------------------------------------------------------------------
    Mutant("taken_again_is_not_moved", "lib/fork_fill.c",
           "a raw clone has not seen a move whose old place is taken again", """
	if (i < fill->settled || is_taken_again(fill, i) ||
""", """
	if (i < fill->settled || (0 && is_taken_again(fill, i)) ||
"""),
    Mutant("grown_into_is_not_moved", "lib/fork_fill.c",
           "a raw clone has not seen a move whose old place a neighbour took", """
		return fill_has_grown(fill, unmap, move->from, false);
""", """
		return false;
"""),
    Mutant("told_later_is_forgotten", "lib/fork_fill.c",
           "a raw clone lacks what was moved before, and told of after, another move", """
			j = unmapped ? b->nr : moved_before(b, i, *addr);
""", """
			j = b->nr;
			(void)moved_before, (void)unmapped;
"""),
    Mutant("left_before_the_child_has_it", "lib/event.c",
           "what a batch brings back meanwhile a raw clone does not get", """
	event_gather(sp);
	fill_children(sp);
}
""", """
	event_gather(sp);
}
"""),
    Mutant("beside_a_fork_at_once", "lib/fork.c",
           "a raw clone beside a fork() is filled before what it has seen was read", """
		gather(sp); /* there may be more of them */
""", """
"""),
    Mutant("refused_fills_are_logged", "lib/frozen.c",
           "each time that a page cannot be filled while frozen a record is left", """
	if (record == &log->record[log->nr - 1])
		__atomic_store_n(&log->nr, log->nr - 1, __ATOMIC_RELEASE);
	else
""", """
"""),
    Mutant("batch_outlives_a_fork", "lib/fork_child.c",
           "a forked child has the batch that its parent's reader was at", """
	event_after_fork(sp);
""", """
"""),
    Mutant("fork_in_an_open_world", "lib/fork.c",
           "the child's memory is copied while others change states", """
	gate_close(&sp->world);
""", """
	gate_close(&sp->world);
	gate_open(&sp->world);
"""),
    Mutant("do_not_log_fills", "lib/frozen.c",
           "what was filled in a frozen space is still elsewhere after it", """
		if (log->record[i].kind == FROZEN_FILL)
""", """
		if (0)
"""),
    Mutant("childs_log_is_lost", "lib/fork_child.c",
           "what the child did before it took over is not known to it", """
	frozen_apply(sp, &fs->shared->child, NULL);
""", """
"""),
    Mutant("hand_over_too_early", "lib/fork.c",
           "the child is given its userfaultfd before all events were read", """
		if (quiet || frozen_room(sp->fork.log) <= FROZEN_MAX / 4)
			return;
		read_parent(sp);
""", """
		return;
"""),
    Mutant("nobody_is_held_back", "lib/fork.c",
           "who faults while a child takes long to take over fills the log", """
	return frozen_room(fs->log) < FROZEN_MAX / 2 &&
""", """
	return false && frozen_room(fs->log) < FROZEN_MAX / 2 &&
"""),
    Mutant("raw_child_is_empty", "lib/event.c",
           "a raw clone's child gets nothing of what was migrated", """
		fork_fill(sp, b->child[c].uffd, b->child[c].after);
""", """
		os_uffd_close(b->child[c].uffd);
"""),
   Mutant("forget_the_childs_reference", "lib/pagemap_share.c",
           "a page of a shared page map is freed while a child has it", """
		for (; left; left &= left - 1)
""", """
		for (left = 0; left; left &= left - 1)
"""),
    Mutant("the_dead_keep_their_pages", "lib/pagemap_share.c",
           "pages of a process that has ended are never free again", """
			give_up_all(map, i);
			__atomic_store_n(&m->state, MEMBER_NONE, __ATOMIC_RELEASE);
""", """
			__atomic_store_n(&m->state, MEMBER_NONE, __ATOMIC_RELEASE);
"""),
    Mutant("wiped_as_the_parent_has_it", "lib/fork_look.c",
           "what a raw clone's child has empty is asked of its parent, later", """
	if (look(fill, &fill->wiped, &nr) == 0)
""", """
	if (!fill->who.pid && look(fill, &fill->wiped, &nr) == 0)
"""),
    Mutant("grandchildren_are_not_known", "lib/fork_look.c",
           "who is made while a child is looked for has no maker", """
		fill->waiting[i].maker = fill->who;
""", """
		;
"""),
    Mutant("unlisted_is_filled", "lib/fork_look.c",
           "a child's child of which is not known what is wiped there gets all", """
	fill->unlisted = fill->who.pid;
""", """
	fill->unlisted = false;
"""),
    Mutant("name_is_let_go_first", "lib/fork_look.c",
           "who is made while a child is let go of has no name", """
	if (start <= names && names < end && !fill->names_too)
		return;
""", """
	(void)names;
"""),
    Mutant("all_of_the_makers_name", "lib/os/os_linux_child.c",
           "who is made while its maker gets its name is not found", """
	return (present & search->name) == search->name &&
	       !(present & ~(search->name | search->inherited));
""", """
	return present == search->name || present == (search->name | search->inherited);
"""),
    Mutant("others_stay_inside", "lib/gate.c",
           "who was in a gate when memory was copied is there in the child", """
	*gate = (struct gate){ .closed = closed };
""", """
	gate->closed = closed;
"""),
    Mutant("frozen_regrown_is_what_was_there", "lib/frozen.c",
           "while frozen, what has grown where something was moved to has its bytes", """
			if (freed && covers(r->from, r->len, *addr))
				return false;
			break;
		case FROZEN_REMAP:
""", """
			break;
		case FROZEN_REMAP:
"""),
    Mutant("children_are_not_let_go", "lib/fork_look.c",
           "a child waits for ever where another one has its userfaultfd open", """
	if (fill->sp->private_files)
		return;""", """
	if (fill)
		return;"""),
    Mutant("child_has_what_had_shrunk", "lib/fork_fill.c",
           "a raw clone's child has old bytes where a mapping has grown again", """
	return i < fill->after && fill_has_grown(fill, i, addr, has_arrived);
""", """
	return false;
"""),
    Mutant("gone_again_has_not_grown", "lib/fork_ours.c",
           "a raw clone's child has old bytes where what had grown again has gone", """
	return mapped || range_touches(&fill->grown, addr, addr + PAGE_SIZE) ||
	       is_unmapped_again(b, unmap, addr);
""", """
	return mapped || range_touches(&fill->grown, addr, addr + PAGE_SIZE) ||
	       (0 && is_unmapped_again(b, unmap, addr));
"""),
    Mutant("gone_unread_has_not_grown", "lib/fork_ours.c",
           "and where of its going is not read yet", """
	while (fill->after && event_unread(fill->sp) && read_on(fill))
		;
""", """
"""),
    Mutant("late_children_are_given_up", "lib/fork_name.c",
           "of a child that is listed late nothing is known", """
	if (fs->named == NAMED_LAST)
		return WAIT_NAMED_NS;
""", """
	if (fs->named == NAMED_LAST)
		return WAIT_NS;
"""),
    Mutant("hidden_children_are_waited_for", "lib/fork_name.c",
           "where no child is listed each is waited for as the first was", """
	return fs->named == NAMED_NOT ? WAIT_LESS_NS : WAIT_NS;
""", """
	return WAIT_NS;
"""),
]

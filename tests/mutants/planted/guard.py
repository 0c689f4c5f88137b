# SPDX-License-Identifier: Apache-2.0
"""Where system calls are guarded."""
from .mutant import Mutant

MUTANTS = [
    Mutant("holds_nothing", "preload/guard_hold.c",
           "what a call touches is brought, and taken again before it is made", """
	__atomic_store_n(&task->busy, 1, __ATOMIC_RELEASE);
""", """
	__atomic_store_n(&task->busy, 0, __ATOMIC_RELEASE);
"""),
    Mutant("a_page_is_brought", "preload/guard_hold.c",
           "of what a call touches only the first page is brought", """
	for (at = pages->start; at < pages->end; at += PAGE_SIZE)
		if (!guard_peek(at))
			return false;
""", """
	at = pages->start;
	if (!guard_peek(at))
		return false;
"""),
    Mutant("made_twice", "preload/guard_x86_64.c",
           "a call that a handler has interrupted after it was made is made again", """
	c->rip = task->site - (before ? SYSCALL_SIZE : 0);
""", """
	c->rip = task->site - SYSCALL_SIZE;
	(void)before;
"""),
    Mutant("the_mask_is_the_calls", "preload/guard_x86_64.c",
           "after a call that waits with another mask its argument is ours", """
	"	movq	16(%rsp), \\\\register\\n"
""", """
	"	movq	%rsp, %rsp\\n"
"""),
    Mutant("a_mask_for_good", "preload/guard_signal.c",
           "what a handler has blocked stays so when it has returned", """
	*context_mask(c) = signals_real(task, mask);
	if (!altstack_has""", """
	signals_real(task, mask);
	if (!altstack_has"""),
    Mutant("on_any_stack", "preload/guard_x86_64.c",
           "handlers run on the stack that the program runs on", """
	if (action->flags & SA_ONSTACK && alt->ss_size && !altstack_has(alt, c->rsp))
""", """
	if (action->flags & SA_ONSTACK && !alt->ss_size && !altstack_has(alt, c->rsp))
"""),
    Mutant("children_come_unguarded", "preload/guard_task.c",
           "the child of a fork makes its calls unguarded", """
		tasks_after_fork(task);
		idle = guard_is_idle();
""", """
		idle = guard_is_idle();
"""),
    Mutant("a_window_is_all", "preload/guard.c",
           "of a long transfer the first window is made, and that is said", """
	if (r < (long)(left < GUARD_WINDOW ? left : GUARD_WINDOW) || w->once ||
""", """
	if (r < (long)(left < GUARD_WINDOW ? left : GUARD_WINDOW) || w->size ||
"""),
    Mutant("our_files_are_closed", "preload/guard.c",
           "a program that closes all descriptors closes ours", """
		if (!is_our_file(fd))
			continue;
""", """
		continue;
"""),
    Mutant("handlers_from_before", "preload/guard_action.c",
           "what a thread has set before it is guarded is not looked for", """
	if (is_ours(&old))
		return false;
""", """
	if (taken || is_ours(&old))
		return false;
"""),
    Mutant("who_executes_is_interrupted", "preload/guard_arm.c",
           "a thread that executes another program is sent a signal", """
	if (!__atomic_load_n(&gate.executors, __ATOMIC_SEQ_CST))
""", """
	__atomic_load_n(&gate.executors, __ATOMIC_SEQ_CST);
"""),
    Mutant("what_we_block_stays_blocked", "preload/guarded.c",
           "a thread that is armed while we block signals has them blocked", """
	os_linux_unblocked = SIGNALS_OURS | SIGNAL_BIT(SIGARM);
""", """
	os_linux_unblocked = SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGARM);
"""),
    Mutant("we_open_files_too", "preload/preload.c",
           "who looks at a process opens files in the program's table", """
	if (os_private_files() || os_attach())
		self.hopeless = true;
	keeper_loop();
""", """
	if (os_attach())
		self.hopeless = true;
	keeper_loop();
"""),
    Mutant("who_waits_is_interrupted", "preload/guard_arm.c",
           "a call that waits when a thread is armed says EINTR", """
		context_again(c, recruit->nr);
""", """
		(void)context_again;
"""),
    Mutant("nobody_is_poked", "preload/hot.c",
           "who waits in a hot call does not hear that it is cancelled", """
		guard_poke(tid);
""", """
		(void)tid;
"""),
    Mutant("late_is_never", "preload/guarded.c",
           "a process of which a thread has not answered is given up", """
	return r == -ETIMEDOUT ? start_again() : r;
""", """
	return r == -ETIMEDOUT && start_again() ? r : r;
"""),
    Mutant("filters_are_not_seen", "preload/guard.c",
           "a process that gets a filter on its system calls goes on being migrated", """
	if (!sets_filter(nr, arg) || is_of_another(task))
		return 0;
""", """
	if (!sets_filter(nr, arg) || is_of_another(task) || nr > 0)
		return 0;
"""),
    Mutant("filters_of_before", "preload/guard_arm.c",
           "a thread that has a filter on its system calls is armed", """
	return guard_has_filter(tid) ? -EACCES : ask(tid);
""", """
	return tid == UINT32_MAX && guard_has_filter(tid) ? -EACCES : ask(tid);
"""),
    Mutant("children_of_filters", "preload/forked.c",
           "the child of a process with a filter makes calls that may be forbidden", """
	if (!self.far_children && !self.far && !self.filtered)
""", """
	if (!self.far_children && !self.far)
"""),
    Mutant("rings_are_harmless", "preload/guard.c",
           "a guarded process makes a ring, and the kernel uses memory at any time", """
		return hook && !is_of_another(task) ? guard_leave(GUARD_LEAVES_RING) :
""", """
		return !hook || !is_of_another(task) ? 0 :
"""),
    Mutant("idle_threads_are_half_armed", "preload/guard_task.c",
           "a thread made while its process leaves has another's stack for signals", """
	if (task->free) {
		set_free(task, c);
""", """
	if (guard_is_idle()) {
		(void)c;
"""),
    Mutant("an_idle_parents_handlers_stay", "preload/guard_task.c",
           "the child of a process that has left is told of handlers of ours", """
	signals_give_back(task->signals);
""", """
"""),
    Mutant("a_child_returns_once", "preload/guard_task.c",
           "the child of a process that has left has our stack for signals", """
	context_return_twice(c);
""", """
"""),
    Mutant("dispatch_is_not_noted", "preload/obstacle.c",
           "a process that dispatches system calls itself is guarded", """
	CTL_STORE(&self.dispatches, true);
""", """
	CTL_STORE(&self.dispatches, false);
"""),
    Mutant("tracers_are_not_seen", "lib/os/os_linux_status.c",
           "a process that is traced is guarded, and its tracer sees it", """
	return tracer ? os_linux_number(tracer) : 0;
""", """
	return tracer ? 0 : 0;
"""),
]

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps a process from being migrated, or its system calls from being guarded; and
 * what becomes of it then: its faults are resolved by a thread of ours, where that is
 * permitted, or it runs without a limit, and the user is told.
 */
#include "preload/self.h"

#include <errno.h>

#include "lib/os/os_linux.h"
#include "lib/retire.h"
#include "preload/guard.h"

bool self_is_inline(void)
{
	return self.ctl->faults != CTL_FAULTS_THREAD && !self.by_thread;
}

bool preload_may_fill(size_t len)
{
	return self.ctl && !preload_guarded && !self.hopeless && self_is_inline() &&
	       len / PAGE_SIZE >= ctl_tolerance_pages(self.ctl->budget_pages);
}

bool preload_may_go_by_thread(void)
{
	return self.ctl->faults == CTL_FAULTS_EITHER;
}

bool go_by_thread(void)
{
	if (!preload_may_go_by_thread())
		return false;
	if (self.by_thread)
		return true;
	guarded_end();
	self.by_thread = true;
	__atomic_fetch_add(&self.ctl->by_thread, 1, __ATOMIC_RELAXED);
	return true;
}

/* Signals of faults and system calls are somebody else's: who; or NULL. */
static const char *taken_already(void)
{
	if (CTL_LOAD(&self.dispatches))
		return "a process dispatches its system calls itself, and runs without "
		       "a limit";
	if (os_linux_tracer(os_pid()))
		return "a process is traced, by a debugger or the like, which would see "
		       "each page come back: it runs without a limit";
	return NULL;
}

bool is_told_already(void)
{
	return self.filtered || CTL_LOAD(&self.dispatches);
}

bool cannot_be_guarded(void)
{
	bool first = !self.looked;

	self.looked = true;
	return is_told_already() || (first && os_linux_tracer(os_pid()));
}

const char has_ring[] = "a process uses io_uring, and runs without a limit";
static const char has_filter[] =
	"a process has a filter on its system calls (seccomp), and runs without a limit";

const char *obstacle(void)
{
	if (self.looks_for_leaks)
		return "a process has LeakSanitizer, which stops all threads: it runs "
		       "without a limit (see ASAN_OPTIONS=detect_leaks=0)";
	/* This thread might be killed for what it would have to do. */
	return preload_has_filter(0) ? has_filter : NULL;
}

const char *inline_obstacle(bool *later)
{
	const char *why = taken_already();
	int r;

	if (why)
		return why;
	/* The kernel's threads that serve it would not answer, either. */
	if (guard_sees_ring(os_pid()) > 0)
		return has_ring;
	r = guarded_start();
	*later = r == -EAGAIN;
	if (!r || *later)
		return NULL;
	return r == -EACCES ? has_filter :
			      "the system calls of a process cannot be guarded, and it "
			      "runs without a limit (see uhmm doctor)";
}

bool preload_has_filter(uint32_t tid)
{
	return os_linux_filters(tid) > self.ctl->filters;
}

void preload_note_filter(bool all)
{
	/* First: a keeper that starts now need not find out. */
	self.filtered = true;
	/* Who is there by then has no filter, if it is not for all. */
	if (all && preload_give_up(GUARD_LEAVES_FILTER_OF_ALL) == 0)
		preload_rest();
	else
		preload_keep();
}

void preload_note_dispatch(void)
{
	CTL_STORE(&self.dispatches, true);
}

int preload_give_up(enum guard_leaves why)
{
	uint64_t signals, files;
	struct uhmm_space *sp;
	bool changes = false;
	int r;

	/* A child of vfork() or the like: this is another process's. */
	if (self.pid != os_pid())
		return 0;
	signals = lock_self();
	sp = self.space;
	files = os_linux_files_of_program();
	r = sp ? retire_ask(sp) : 0;
	if (r == 0) {
		/* Who waits for an event to be read goes on with that. */
		if (sp)
			os_linux_drop_files(files);
		__atomic_store_n(&self.space, NULL, __ATOMIC_RELEASE);
		/* Our threads are from before a filter, if it is not for all. */
		changes = why != GUARD_LEAVES_FILTER_OF_ALL && go_by_thread();
		self.hopeless = !changes;
		if (why == GUARD_LEAVES_FILTER || why == GUARD_LEAVES_FILTER_OF_ALL)
			self.filtered = true;
		self.guarded = false;
		CTL_STORE(&self.slot->managed, changes ? 0 : 2);
	}
	unlock_self(signals);
	if (sp && !r && !changes)
		preload_say("a process installs a filter on its system calls (seccomp), "
			    "and runs without a limit");
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has of us around fork(), and in the child.
 */
#include "preload/self.h"

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "lib/fork.h"
#include "lib/host.h"
#include "lib/host_file.h"
#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"
#include "preload/guard.h"

struct ctl_slot self_nowhere;

/*
 * A child that shares nothing of ours opens all of it anew: /proc, a userfaultfd, one to
 * drop frames by, one to be kicked by.
 */
#define CHILD_FILES 8u

/*
 * Whether the calling thread is the one of whose fork has been heard by libc's handlers.
 * If it has been armed in between the guard hears of it as well.
 */
static bool forks_here(void)
{
	return self.forker == os_thread_copied() && !self.fork_guarded;
}

/* false: it has become guarded, or has ceased to be. */
static bool before_fork(bool foreign, bool guarded)
{
	uint64_t signals = lock_self();

	if (self.guarded != guarded) {
		unlock_self(signals);
		return false;
	}
	self.signals = signals;
	self.forker = os_thread_copied();
	self.fork_guarded = guarded;
	__atomic_fetch_add(&self.ctl->forking, 1, __ATOMIC_RELAXED);
	/* Nor can a child that may be killed for what it would have to do. */
	self.foreign = foreign = foreign || self.filtered;
	self.prepared = !foreign &&
			(!self.space || ((!guarded || os_linux_files_left(CHILD_FILES)) &&
					 fork_prepare(self.space)));
	/* Without a space too: the notes of threads lie in such memory. */
	if (self.prepared)
		host_fork_prepare();
	return true;
}

bool preload_refuses_fork(void)
{
	return self.space && self.space->may_refuse && !self.prepared && !self.foreign;
}

/* Who is made so cannot take our place; see clone.c. */
#define FAR (CLONE_FILES | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)

bool preload_before_guarded_fork(uint64_t flags)
{
	if (forks_here() || !before_fork(self.pid != os_pid(), true))
		return false;
	self.far = flags & FAR;
	self.shares_files = flags & CLONE_FILES;
	if (self.space)
		fork_child_alone(self.space, self.far, flags & CLONE_FILES);
	return true;
}

/* Rather than that a guarded process could not fork: it has no descriptors left. */
static bool goes_by_thread(void)
{
	return preload_may_go_by_thread() && self.space && self.pid == os_pid() &&
	       !os_linux_files_left(CHILD_FILES) && guard_leave(GUARD_LEAVES_FORK) == 0;
}

void preload_before_fork(void)
{
	bool foreign;

	exec_bind();
	if (__atomic_load_n(&self.guarded, __ATOMIC_RELAXED) && !goes_by_thread())
		return;
	foreign = self.pid != os_pid();
	/* It may be in another pid namespace. */
	if (foreign)
		preload_look_at_pids();
	/* Without them nobody holds the dynamic linker's lock, here or in the child. */
	if (threads_any()) {
		clone_bind();
		leave_bind();
		wrap_bind();
	}
	before_fork(foreign, false);
}

static void after_fork_parent(void)
{
	if (self.prepared)
		host_fork_done();
	usage_forked(&self.usage);
	CTL_STORE(&self.slot->forks, CTL_LOAD(&self.slot->forks) + 1);
	__atomic_fetch_add(&self.ctl->kin, 1, __ATOMIC_RELAXED);
	if (self.space)
		fork_parent(self.space);
	self.forker = 0;
	unlock_self(self.signals);
}

void self_claim_slot(void)
{
	char name[16] = "";
	int i;

	self.slot = ctl_claim(self.ctl, (uint32_t)sys0(SYS_getpid));
	if (!self.slot)
		return;
	self.claim = CTL_LOAD(&self.slot->claim);
	sys2(SYS_prctl, PR_GET_NAME, name);
	for (i = 0; i < 16; i++)
		CTL_STORE(&self.slot->name[i], name[i]);
}

/* The space is the child's. False: it has none now. */
static bool take_over(void)
{
	int r;

	/* Memory is complete, and what is ours is as it was in somebody else. */
	if (self.foreign) {
		self.space = NULL;
		self.device = NULL;
		return false;
	}
	self.space->counter = self.slot->counter;
	CTL_STORE(&self.slot->managed, 1);
	/* The keeper was the space's worker: the space has forgotten it. */
	self.keeper = (struct os_thread){ 0 };
	os_thread_forget(&self.sampler);
	r = fork_child(self.space);
	if (r == 0)
		return true;
	if (r != -EXDEV)
		preload_say(
			r == -EMFILE ?
				"a forked process runs without a limit: it had no "
				"descriptors left" :
			r == -EAGAIN ?
				"a forked process runs without a limit: it could not "
				"start a thread" :
				"a forked process runs without a limit: it may not look "
				"at itself in /proc, or there is no memory");
	self.space = NULL;
	self.hopeless = true;
	CTL_STORE(&self.slot->managed, 2);
	return false;
}

static void after_fork_child(void)
{
	struct ctl_slot *parent = self.slot;
	uint64_t parents_claim = self.claim;

	if (self.prepared)
		host_fork_done();
	else
		host_forget();
	self.lock = (struct uhmm_lock){ 0 };
	self.forker = 0;
	self.bell = 0;
	expect_after_fork();
	threads_after_fork();
	guard_exec_forget();
	self.device_look_ns = 0;
	self.slot = NULL;
	self.pid = os_pid();
	if (!self.far_children && !self.far && !self.filtered)
		self_claim_slot();
	usage_born(&self.usage, self.space ? self.slot : NULL, parent, parents_claim);
	__atomic_fetch_sub(&self.ctl->forking, 1, __ATOMIC_RELEASE);
	if (!self.slot)
		self.slot = &self_nowhere;
	CTL_STORE(&self.slot->forks, 1);
	if (!self.space || !take_over()) {
		/* It may have files that nobody has handed over. */
		self.device = NULL;
		host_files_forget(self_is_inline() && !self.shares_files);
		if (self.kept)
			os_thread_forget(&self.keeper);
		os_thread_forget(&self.sampler);
		if (!self.far && !self.filtered)
			self_begin();
	}
	os_restore_signals(&self.signals);
}

void preload_after_guarded_fork(long pid)
{
	if (pid < 0) /* the child does this else */
		__atomic_fetch_sub(&self.ctl->forking, 1, __ATOMIC_RELEASE);
	if (pid)
		after_fork_parent();
	else
		after_fork_child();
}

void preload_after_fork_parent(void)
{
	if (forks_here())
		after_fork_parent();
}

void preload_after_fork_child(void)
{
	/* It may have another thread pointer; but who has the lock has made it. */
	if (self.forker && !self.fork_guarded)
		after_fork_child();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: the forking thread's side and the parent's reader's side. See fork.h for the
 * protocol, fork_child.c for the child's.
 */
#include "lib/fork.h"

#include <errno.h>
#include <limits.h>

#include "lib/coherent.h"
#include "lib/device.h"
#include "lib/event.h"
#include "lib/exclusive.h"
#include "lib/fault.h"
#include "lib/frame.h"
#include "lib/frozen.h"
#include "lib/gate.h"
#include "lib/grown.h"
#include "lib/host_file.h"
#include "lib/landed.h"
#include "lib/message.h"
#include "lib/migrate.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap_share.h"
#include "lib/range.h"
#include "lib/reader.h"

static uint32_t phase_of(struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->fork.phase, __ATOMIC_ACQUIRE);
}

static void set_phase(struct uhmm_space *sp, uint32_t phase)
{
	__atomic_store_n(&sp->fork.phase, phase, __ATOMIC_RELEASE);
	os_wake(&sp->fork.phase, INT_MAX);
}

static void wait_while(struct uhmm_space *sp, uint32_t phase)
{
	while (phase_of(sp) == phase)
		os_wait(&sp->fork.phase, phase, LOOK_NS);
}

/* The worker passes the kick on where our descriptors are not in this thread's table. */
static void ask(struct uhmm_space *sp, uint32_t phase)
{
	set_phase(sp, phase);
	if (!sp->private_files)
		reader_kick(sp);
}

/* ---- the forking thread ----------------------------------------------------------- */

/* What parent and child share. False: there are no descriptors left, or no memory. */
static bool share(struct fork_state *fs)
{
	fs->shared = os_map_shared(sizeof(*fs->shared));
	if (fs->shared && os_lifeline(fs->lifeline)) {
		os_unmap_shared(fs->shared, sizeof(*fs->shared));
		fs->shared = NULL;
	}
	return fs->shared;
}

/* Has the child pages that are not memory of this process? */
static bool devices_share(struct uhmm_space *sp)
{
	unsigned i;

	for (i = 1; i <= sp->nr_devices; i++)
		if (sp->device[i] && device_is_shared(sp->device[i]))
			return true;
	return map_shares_any(sp);
}

bool fork_prepare(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	uint64_t signals;

	if (sp->pid != os_pid() || sp->unusable)
		return true;
	os_block_signals(&signals);
	gate_close(&sp->world);
	if (!share(fs)) {
		/* Else the child has copies of our descriptors, and cannot know. */
		if (!sp->private_files && !sp->may_refuse)
			os_die("no memory or descriptors left to follow a fork()");
		gate_open(&sp->world);
		os_restore_signals(&signals);
		return false;
	}
	fs->signals = signals;
	fs->forker = os_tid();
	fs->copied = os_thread_copied();
	fs->ready = fs->returned = 0;
	fs->early_uffd = -1;
	__atomic_store_n(&fs->log->nr, 0, __ATOMIC_RELAXED);
	fs->told = notifier_begin(sp, 0, UINTPTR_MAX, UHMM_EVENT_PROTECTION, NULL);
	exclusive_give_up(sp);
	ask(sp, FORK_ASKED);
	wait_while(sp, FORK_ASKED);
	os_thread_await(&sp->worker); /* the reader has answered */
	/* The child would share them, and they could not be moved. */
	frames_drop_spares(sp);
	/* Nobody changes an entry now. */
	map_shares_claim(sp);
	coherent_forked(sp);
	return true;
}

/* Until the child has taken over, is gone, or never was. */
static void wait_for_child(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	uint32_t *outcome = &fs->shared->outcome;

	os_close(fs->lifeline[1]);
	while ((sp->fork_events || devices_share(sp)) &&
	       __atomic_load_n(outcome, __ATOMIC_ACQUIRE) == FORK_PENDING)
		if (os_wait_fds(fs->lifeline, 1, LOOK_NS) > 0)
			break;
	while (__atomic_load_n(outcome, __ATOMIC_ACQUIRE) == FORK_UNABLE)
		os_wait(outcome, FORK_UNABLE, LOOK_NS);
	os_close(fs->lifeline[0]);
}

void fork_parent(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	uint64_t signals;

	if (sp->pid != os_pid() || sp->unusable || !fs->shared)
		return;
	__atomic_store_n(&fs->returned, 1, __ATOMIC_RELEASE);
	wait_for_child(sp);
	if (__atomic_load_n(&fs->shared->outcome, __ATOMIC_ACQUIRE) != FORK_TAKEN)
		map_shares_disclaim(sp);
	ask(sp, FORK_OVER);
	wait_while(sp, FORK_OVER);
	os_unmap_shared(fs->shared, sizeof(*fs->shared));
	fs->shared = NULL;
	fs->copied = 0;
	signals = fs->signals;
	notifier_end(sp, fs->told);
	gate_open(&sp->world);
	os_restore_signals(&signals);
}

/*
 * A log fills while a child that has no processor does not take over. Who faults, or has
 * changed memory, can wait for that once nobody needs it for fork() to return.
 */
static bool holds_back(const struct fork_state *fs)
{
	return frozen_room(fs->log) < FROZEN_MAX / 2 &&
	       __atomic_load_n(&fs->returned, __ATOMIC_ACQUIRE);
}

bool fork_frozen_inline(struct uhmm_space *sp, uintptr_t addr)
{
	struct fork_state *fs = &sp->fork;
	uint32_t phase = phase_of(sp);
	bool frozen, held;

	if (phase != FORK_FROZEN && phase != FORK_SEEN)
		return false;
	if (sp->pid == os_pid()) {
		uhmm_lock(&fs->frozen_lock);
		phase = phase_of(sp);
		frozen = phase == FORK_FROZEN || phase == FORK_SEEN;
		held = frozen && holds_back(fs);
		if (frozen && !held)
			frozen_fault(sp, sp->uffd, fs->log, addr, fs->frozen_page);
		uhmm_unlock(&fs->frozen_lock);
		if (held)
			os_wait(&fs->phase, phase, LOOK_NS); /* and faults again */
		return frozen;
	}
	/* Another thread's, by a raw clone() in between: it is filled. */
	if (fs->copied != os_thread_copied())
		return false;
	/* The child, before its handler ran: take the userfaultfd now. */
	if (fs->early_uffd < 0 &&
	    os_handover_receive(&fs->shared->name, &fs->early_uffd, 1))
		os_die("a forked child could not get its userfaultfd");
	frozen_fault(sp, fs->early_uffd, &fs->shared->child, addr, fs->frozen_page);
	return true;
}

bool fork_enter_inline(struct uhmm_space *sp, uintptr_t addr, unsigned *shard)
{
	while (!gate_try_enter(&sp->world, shard)) {
		uint32_t phase = phase_of(sp);

		if (fork_frozen_inline(sp, addr))
			return false;
		os_wait(&sp->fork.phase, phase, LOOK_NS);
	}
	return true;
}

/* ---- the reader, frozen ----------------------------------------------------------- */

int fork_init(struct uhmm_space *sp)
{
	sp->fork.log = uhmm_host_map(sizeof(*sp->fork.log));
	sp->fork.frozen_page = uhmm_host_map(PAGE_SIZE);
	return sp->fork.log && sp->fork.frozen_page ? fork_fill_init(sp) : -ENOMEM;
}

void fork_fini(struct uhmm_space *sp)
{
	fork_fill_fini(sp);
	if (sp->fork.log)
		uhmm_host_unmap(sp->fork.log, sizeof(*sp->fork.log));
	if (sp->fork.frozen_page)
		uhmm_host_unmap(sp->fork.frozen_page, PAGE_SIZE);
}

static void set_outcome(struct uhmm_space *sp, uint32_t outcome)
{
	__atomic_store_n(&sp->fork.shared->outcome, outcome, __ATOMIC_RELEASE);
	os_wake(&sp->fork.shared->outcome, INT_MAX);
}

static void add_later(struct fork_state *fs, int uffd, uint32_t seen)
{
	if (fs->nr_later == FORK_LATER_MAX)
		os_die("too many children at a time to be filled");
	fs->later[fs->nr_later].uffd = uffd;
	fs->later[fs->nr_later++].seen = seen;
}

static void child_appeared(struct uhmm_space *sp, int uffd)
{
	struct fork_state *fs = &sp->fork;
	uint32_t seen = fs->log->nr;

	count(sp, COUNT_EVENT_FORK, 1);
	fs->nr_children++;
	if (fs->nr_children == 1) {
		/* At once: a child that is made from now on must know of it. */
		fs->child_uffd = uffd;
		fs->child_seen = seen;
		fs->child_known = false;
	}
	if (phase_of(sp) == FORK_FROZEN)
		set_phase(sp, FORK_SEEN);
	if (fs->nr_children == 1)
		return;
	/* A raw clone at the same time: which is which cannot be told. Both get all. */
	add_later(fs, uffd, seen);
}

static void answer(struct uhmm_space *sp, const struct os_event *fault)
{
	int r = frozen_fill(sp, sp->uffd, sp->fork.log, fault->addr, sp->reader_buf);

	if (r && (r != -EAGAIN || !grown_refused(sp, fault)))
		os_uffd_wake(sp->uffd, fault->addr, PAGE_SIZE);
}

static void log_event(struct uhmm_space *sp, const struct os_event *ev)
{
	struct fork_state *fs = &sp->fork;

	if (ev->kind == OS_EVENT_FORK) {
		child_appeared(sp, ev->child);
		return;
	}
	frozen_event(fs->log, ev);
	frozen_event(&fs->shared->suspect, ev);
	if (ev->kind == OS_EVENT_REMAP)
		landed_add(&fs->landed, ev->to, ev->to + ev->len);
	fs->changed = true;
}

/*
 * Is nothing unread? Then what is logged from here on happened after what was before, and
 * the log says so. The log's lock is held.
 */
static bool note_if_quiet(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	if (event_unread(sp))
		return false;
	frozen_quiet(fs->log);
	fs->landed.nr = 0;
	return true;
}

/*
 * The program's own events and faults. First what changes memory: who did it goes on, and
 * a fault that was read along must not be answered with what was there before.
 */
static void read_parent_locked(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	struct event_batch *b = sp->batch;
	const struct message_reader reader = { .event = log_event,
					       .landed = &fs->landed,
					       .gone = frozen_gone,
					       .ctx = fs->log };
	uint32_t i;

	b->nr_faults = 0;
	fs->changed = false;
	if (message_read(sp, &reader) < 0)
		os_die("the userfaultfd cannot be read any more");
	if (fs->changed)
		note_if_quiet(sp);
	for (i = 0; i < b->nr_faults; i++)
		answer(sp, &b->fault[i]);
	b->nr_faults = 0;
}

bool fork_read_on(struct uhmm_space *sp)
{
	if (frozen_room(sp->fork.log) <= FROZEN_MAX / 4)
		return false;
	read_parent_locked(sp);
	os_yield();
	return true;
}

/* What was read is logged before another thread's fault looks into the log. */
static void read_parent(struct uhmm_space *sp)
{
	uhmm_lock(&sp->fork.frozen_lock);
	read_parent_locked(sp);
	uhmm_unlock(&sp->fork.frozen_lock);
}

/*
 * Who has changed memory before a child's was copied may tell of it after that. Where so
 * many change theirs that there is always one, we go on.
 */
static void gather(struct uhmm_space *sp)
{
	bool quiet;

	for (;;) {
		uhmm_lock(&sp->fork.frozen_lock);
		quiet = note_if_quiet(sp);
		uhmm_unlock(&sp->fork.frozen_lock);
		if (quiet || frozen_room(sp->fork.log) <= FROZEN_MAX / 4)
			return;
		read_parent(sp);
		os_yield();
	}
}

static void fill(struct uhmm_space *sp, int uffd, uint32_t seen,
		 const struct frozen_log *done)
{
	uhmm_lock(&sp->fork.frozen_lock);
	fork_fill_frozen(sp, uffd, seen, done);
	uhmm_unlock(&sp->fork.frozen_lock);
}

/* The child that is being served. */
static void fill_known(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	gather(sp);
	fill(sp, fs->child_uffd, fs->child_seen, &fs->shared->child);
	fs->child_uffd = -1;
}

/* Those that have appeared beside it; then it is filled too. */
static void fill_later(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	uint32_t i;

	if (!fs->nr_later)
		return;
	while (fs->nr_later) {
		gather(sp); /* there may be more of them */
		i = fs->nr_later - 1;
		fill(sp, fs->later[i].uffd, fs->later[i].seen, NULL);
		/* More may have come behind it while it was filled. */
		fs->later[i] = fs->later[--fs->nr_later];
	}
	if (fs->child_uffd >= 0) {
		fill_known(sp);
		set_outcome(sp, FORK_FILLED);
	}
}

/*
 * The child that we have been serving comes from a raw clone: it runs no handler that
 * would take over. Its faults need no answer: they end when its userfaultfd is closed.
 */
static void fill_impostor(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	uint32_t i = fs->nr_later;

	add_later(fs, fs->child_uffd, fs->child_seen);
	/* Another one may be the forking thread's, and appear while the rest is read. */
	fs->child_uffd = -1;
	fs->nr_children = 0;
	gather(sp);
	fill(sp, fs->later[i].uffd, fs->later[i].seen, &fs->shared->child);
	fs->shared->child.nr = 0;
	fs->later[i] = fs->later[--fs->nr_later];
}

/* Does this fault show that the child is not the one that the forking thread makes? */
static bool betrays_impostor(struct fork_state *fs, const struct os_event *ev)
{
	if (ev->kind != OS_EVENT_FAULT || fs->child_known)
		return false;
	fs->child_known = os_is_child_of(fs->forker, ev->tid);
	return !fs->child_known;
}

static void read_child(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	struct os_event ev[32];
	int n = os_uffd_read(fs->child_uffd, ev, 32), i;

	for (i = 0; i < n; i++) {
		if (ev[i].kind == OS_EVENT_FORK)
			fill(sp, ev[i].child, fs->child_seen, &fs->shared->child);
		else
			frozen_event(&fs->shared->child, &ev[i]);
	}
	for (i = 0; i < n; i++) {
		if (betrays_impostor(fs, &ev[i])) {
			fill_impostor(sp);
			return;
		}
		if (ev[i].kind == OS_EVENT_FAULT)
			frozen_fault(sp, fs->child_uffd, &fs->shared->child, ev[i].addr,
				     sp->reader_buf);
	}
	if (n < 0) {
		os_uffd_close(fs->child_uffd);
		fs->child_uffd = -1;
	}
}

/*
 * The child must learn of every structural event that came before its memory was copied.
 */
static void hand_over(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	int fds[OS_HANDOVER_MAX];
	unsigned nr = 1;

	gather(sp);
	fill_later(sp);
	fds[0] = fs->child_uffd;
	if (sp->private_files)
		nr += host_files(fds + 1);
	if (os_handover_send(fs->listener, fds, nr) == 0 && fs->child_uffd >= 0) {
		os_uffd_close(fs->child_uffd);
		fs->child_uffd = -1;
		count(sp, COUNT_FORK_HANDOVER, 1);
	}
}

static void serve_once(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	int fds[4] = { holds_back(fs) ? -1 : sp->uffd, sp->kicker, fs->listener,
		       fs->child_uffd };
	int ready = os_wait_fds(fds, 4, LOOK_NS);

	if (ready < 0)
		os_die("the userfaultfd cannot be waited for any more");
	if (ready & 2)
		os_kick_clear(sp->kicker);
	if (ready & 1)
		read_parent(sp);
	fill_later(sp); /* before anybody takes the known one for an impostor */
	if (ready & 8 && fs->child_uffd >= 0)
		read_child(sp);
	if (ready & 4)
		hand_over(sp);
	if (fs->child_uffd >= 0 &&
	    __atomic_load_n(&fs->shared->outcome, __ATOMIC_ACQUIRE) == FORK_UNABLE) {
		fill_known(sp);
		set_outcome(sp, FORK_FILLED);
	}
	fill_later(sp);
}

static void for_devices(struct uhmm_space *sp, void (*fn)(struct uhmm_device *dev))
{
	unsigned i;

	for (i = 1; i <= sp->nr_devices; i++)
		if (sp->device[i])
			fn(sp->device[i]);
}

void fork_serve(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	/*
	 * Nothing is registered from here on. So a mapping that the child finds where an
	 * event of the frozen time took one away is either the old one, or not
	 * registered.
	 */
	reader_drain(sp);
	/* Here, where their files are; and nobody changes an entry from now on. */
	for_devices(sp, device_before_fork);
	fs->listener = sp->fork_events ? os_handover_listen(&fs->shared->name) : -1;
	fs->child_uffd = -1;
	fs->nr_children = fs->nr_later = 0;
	fs->landed.nr = 0;
	set_phase(sp, FORK_FROZEN);
	/* Who waits for room may hold a lock of libc that the forking thread needs. */
	fault_unpark(sp);
	while (phase_of(sp) != FORK_OVER)
		serve_once(sp);
	/* A raw clone's, if libc has made none; or it is dead. */
	if (fs->child_uffd >= 0)
		fill_known(sp);
	fill_later(sp);
	if (fs->listener >= 0)
		os_close(fs->listener);
	if (__atomic_load_n(&fs->shared->outcome, __ATOMIC_ACQUIRE) != FORK_TAKEN)
		for_devices(sp, device_fork_failed);
	/* When the lock is ours who found the space frozen is done; nobody else does. */
	uhmm_lock(&fs->frozen_lock);
	uhmm_unlock(&fs->frozen_lock);
	gate_close(&sp->gate);
	sp->batch->nr_faults = 0;
	frozen_apply(sp, fs->log, NULL);
	gate_open(&sp->gate);
	event_repeat_faults(sp);
	fault_unpark(sp);
	set_phase(sp, FORK_NONE);
}

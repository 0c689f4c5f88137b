/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: the child's side. A new reader thread receives the child's userfaultfd, settles
 * what happened while the space was frozen, starts a worker and goes on as the child's
 * reader. The forking thread waits for that in its atfork handler; until the handover the
 * parent's reader serves its faults.
 */
#include <errno.h>
#include <limits.h>

#include "lib/device.h"
#include "lib/event.h"
#include "lib/fork.h"
#include "lib/frame.h"
#include "lib/frozen.h"
#include "lib/gate.h"
#include "lib/host_file.h"
#include "lib/huge.h"
#include "lib/migration.h"
#include "lib/notifier.h"
#include "lib/pagemap_fault.h"
#include "lib/pagemap_share.h"
#include "lib/page.h"
#include "lib/range.h"
#include "lib/placement.h"
#include "lib/reader.h"
#include "lib/reclaim.h"
#include "lib/space.h"
#include "lib/wipe.h"

struct anew {
	struct uhmm_space *sp;
	uintptr_t end; /* of the mapping that was registered last */
};

/* Without EVENT_FORK the child's mappings lost their registration: anew, where needed. */
static int register_one(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
			bool folio)
{
	struct anew *anew = ctx;
	struct os_vma vma;

	(void)chunk;
	(void)entry;
	(void)folio;
	if (addr < anew->end || os_vma_next(addr, false, &vma) || vma.start > addr)
		return 0;
	os_uffd_register(anew->sp->uffd, vma.start, vma.end - vma.start);
	anew->end = vma.end;
	return 0;
}

static int open_anew(struct uhmm_space *sp)
{
	struct anew anew = { .sp = sp };

	sp->uffd = os_uffd_open(space_uffd_flags(sp));
	if (sp->uffd < 0)
		return sp->uffd;
	os_uffd_register(sp->uffd, (uintptr_t)sp->frames.base,
			 (size_t)sp->frames.nr_groups * GROUP_SIZE);
	pagemap_register_memory(sp);
	page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, register_one, &anew);
	return 0;
}

/* With the files of devices, where there are none in the child's table. */
static int receive(struct uhmm_space *sp)
{
	int fds[OS_HANDOVER_MAX];
	unsigned nr = 1;
	int r;

	if (!sp->fork_events)
		return open_anew(sp);
	fds[0] = sp->fork.early_uffd;
	if (sp->private_files)
		nr += host_files(fds + 1);
	if (fds[0] < 0) {
		r = os_handover_receive(&sp->fork.shared->name, fds, nr);
		if (r)
			return r;
	}
	if (sp->private_files)
		host_files_replace(fds + 1);
	/* A fault of the forking thread uses it too, meanwhile. */
	sp->fork.early_uffd = sp->uffd = fds[0];
	return 0;
}

static int take_over(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	struct wiped wiped = { .sp = sp };
	unsigned i;
	int r = os_attach();

	if (r)
		return r;
	sp->kicker = os_kicker_open();
	if (sp->kicker < 0)
		return sp->kicker;
	r = map_shares_after_fork(sp);
	if (!r && sp->delivery == UHMM_DELIVERY_THREAD)
		r = map_faults_start_all(sp);
	if (!r)
		r = frames_after_fork(sp);
	huge_after_fork(sp);
	for (i = 1; !r && i <= sp->nr_devices; i++)
		r = sp->device[i] ? device_after_fork(sp->device[i]) : 0;
	/* Last of what may fail: with that we are on our own. */
	if (!r)
		r = receive(sp);
	if (r)
		return r;
	migration_after_fork(sp);
	os_files_after_fork(!sp->private_files && !sp->fork.shares_files);
	frozen_apply(sp, fs->log, &wiped);
	frozen_apply(sp, &fs->shared->child, NULL);
	frozen_settle(sp, &fs->shared->suspect, &wiped);
	wipe_apply(&wiped);
	wipe_fini(&wiped);
	return 0;
}

/* Our userfaultfd never came: the parent fills everything in, or nobody can. */
static void be_filled(struct uhmm_space *sp)
{
	uint32_t *outcome = &sp->fork.shared->outcome, pending = FORK_PENDING;
	uint32_t parent = os_parent_pid();

	__atomic_compare_exchange_n(outcome, &pending, FORK_UNABLE, false,
				    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	os_wake(outcome, INT_MAX);
	while (__atomic_load_n(outcome, __ATOMIC_ACQUIRE) != FORK_FILLED) {
		/* As long as it takes: there may be much, or the parent is stopped. */
		os_wait(outcome, FORK_UNABLE, LOOK_NS);
		if (os_parent_pid() != parent &&
		    __atomic_load_n(outcome, __ATOMIC_ACQUIRE) != FORK_FILLED)
			os_die("a forked child lost its parent before it had its memory");
	}
}

/* Ends with the space working, but for its threads, or with all memory filled in. */
static void settle_in(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	bool received;
	int r = 0;

	if (sp->fork.alone)
		r = -EXDEV;
	else if (sp->private_files)
		r = os_private_files();
	/* It waits for the world. There may be no thread to be had: better known now. */
	if (!r && sp->delivery == UHMM_DELIVERY_THREAD)
		r = os_thread_start(&sp->worker, reclaim_main, sp, "uhmm-worker");
	sp->uffd = -1;
	if (!r)
		r = take_over(sp);
	received = sp->uffd >= 0;
	if (r && received)
		os_die("a forked child could not set up its userfaultfd");
	fs->result = r;
	if (r)
		map_faults_stop_all(sp);
	if (r && sp->fork_events)
		be_filled(sp);
	else if (r)
		fork_fill_self(sp);
	else
		__atomic_store_n(&fs->shared->outcome, FORK_TAKEN, __ATOMIC_RELEASE);
	os_wake(&fs->shared->outcome, INT_MAX);
}

static void child_main(void *arg)
{
	struct uhmm_space *sp = arg;
	struct fork_state *fs = &sp->fork;

	settle_in(sp);
	if (fs->result)
		__atomic_store_n(&sp->stop, STOP_BOTH, __ATOMIC_RELEASE);
	__atomic_store_n(&fs->ready, 1, __ATOMIC_RELEASE);
	os_wake(&fs->ready, INT_MAX);
	if (fs->result == 0)
		reader_main(sp);
	else
		reader_leave(sp);
}

/*
 * Faults by thread: until the new reader has taken over, the parent's serves those of the
 * forking thread, which waits.
 */
static void settle_in_on_reader(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	int r = reader_start(sp, child_main);

	/* If it was started, the result is its own: it may be known by now. */
	if (r) {
		fs->result = r;
		be_filled(sp);
		return;
	}
	while (!__atomic_load_n(&fs->ready, __ATOMIC_ACQUIRE))
		os_wait(&fs->ready, 0, -1);
}

/*
 * Inline: libc allocates for a thread from the program's memory, and the forking thread
 * must be able to resolve that fault; so the threads come last.
 */
static void start_threads(struct uhmm_space *sp)
{
	if (reader_start(sp, reader_main) ||
	    os_thread_start(&sp->worker, reclaim_main, sp, "uhmm-worker") ||
	    map_faults_start_all(sp))
		os_die("a forked child could not start a thread");
}

/* What lies in a file table that the child has a copy of names the parent's memory. */
static void close_inherited(struct uhmm_space *sp)
{
	if (sp->private_files || sp->fork.shares_files)
		return;
	os_uffd_close(sp->uffd);
	os_uffd_close(sp->frames.trash_uffd);
	os_close(sp->kicker);
	if (sp->fork.listener >= 0)
		os_close(sp->fork.listener);
	fork_fill_forget(sp);
}

int fork_child(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	bool by_thread = sp->delivery == UHMM_DELIVERY_THREAD;
	uint64_t signals;

	sp->reading = 0;
	if (sp->unusable)
		return 0;
	if (__atomic_load_n(&fs->phase, __ATOMIC_RELAXED) == FORK_NONE) {
		map_shares_forget(sp);
		return -EMFILE;
	}
	/* Else the handler takes us for the parent: not before we have our own. */
	if (by_thread)
		sp->pid = os_pid();
	close_inherited(sp);
	os_close(fs->lifeline[0]);
	os_thread_forget(&sp->reader);
	os_thread_forget(&sp->worker);
	placement_after_fork(sp);
	sp->parked.nr = 0;
	sp->parked.lock = (struct uhmm_lock){ 0 };
	sp->fence.nr = 0;
	fs->log->lock = (struct uhmm_lock){ 0 };
	fs->frozen_lock = (struct uhmm_lock){ 0 };
	range_reset(&fs->landed);
	event_after_fork(sp);
	gate_after_fork(&sp->world, true); /* by us, in fork_prepare() */
	gate_after_fork(&sp->gate, false);
	sp->device_lock = (struct uhmm_lock){ 0 };
	sp->migration_lock = (struct uhmm_lock){ 0 };
	map_faults_forget_all(sp);
	notifier_forget_all(sp);
	sp->retiring = 0; /* who was closing a device is not here */
	if (by_thread)
		settle_in_on_reader(sp);
	else
		settle_in(sp);
	sp->pid = os_pid();
	*sp->here = 1;
	os_close(fs->lifeline[1]);
	os_unmap_shared(fs->shared, sizeof(*fs->shared));
	fs->shared = NULL;
	sp->unusable = fs->result != 0;
	/* Memory is complete, and nobody is there who could bring anything back. */
	if (sp->unusable) {
		page_table_fini(sp);
		map_shares_forget(sp);
		migration_forget_all(sp);
	}
	__atomic_store_n(&fs->phase, FORK_NONE, __ATOMIC_RELEASE);
	os_wake(&fs->phase, INT_MAX);
	signals = fs->signals;
	gate_open(&sp->world);
	if (!by_thread && !sp->unusable)
		start_threads(sp);
	os_restore_signals(&signals);
	return fs->result;
}

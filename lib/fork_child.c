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
#include "lib/fork.h"
#include "lib/frame.h"
#include "lib/frozen.h"
#include "lib/gate.h"
#include "lib/page.h"
#include "lib/reader.h"
#include "lib/reclaim.h"
#include "lib/space.h"
#include "lib/wipe.h"

/* Without EVENT_FORK the child's mappings lost their registration: anew, where needed. */
static int register_one(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
			bool folio)
{
	struct uhmm_space *sp = ctx;
	struct os_vma vma;

	(void)chunk;
	(void)entry;
	(void)folio;
	if (os_vma_next(addr, false, &vma) == 0 && vma.start <= addr)
		os_uffd_register(sp->uffd, vma.start, vma.end - vma.start);
	return 0;
}

static int open_anew(struct uhmm_space *sp)
{
	sp->uffd = os_uffd_open(space_uffd_flags(sp));
	if (sp->uffd < 0)
		return sp->uffd;
	os_uffd_register(sp->uffd, (uintptr_t)sp->frames.base,
			 (size_t)sp->frames.nr_groups * GROUP_SIZE);
	page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, register_one, sp);
	return 0;
}

static int receive(struct uhmm_space *sp)
{
	int fd;

	if (!sp->fork_events)
		return open_anew(sp);
	fd = sp->fork.early_uffd;
	if (fd < 0)
		fd = os_handover_receive(&sp->fork.shared->name);
	if (fd < 0)
		return fd;
	sp->uffd = fd;
	return 0;
}

static int take_over(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	struct wiped wiped = { .sp = sp };
	unsigned i;
	int r = os_attach();

	if (!r)
		r = receive(sp);
	if (r)
		return r;
	sp->kicker = os_kicker_open();
	if (sp->kicker < 0)
		return sp->kicker;
	r = frames_after_fork(sp);
	for (i = 1; !r && i <= sp->nr_devices; i++)
		r = sp->device[i] ? device_after_fork(sp->device[i]) : 0;
	if (r)
		return r;
	frozen_apply(sp, fs->log, &wiped);
	frozen_apply(sp, &fs->shared->child, NULL);
	frozen_settle(sp, &fs->shared->suspect, &wiped);
	wipe_apply(&wiped);
	wipe_fini(&wiped);
	return os_thread_start(&sp->worker, reclaim_main, sp, "uhmm-worker");
}

/* Our userfaultfd never came: the parent fills everything in, or nobody can. */
static void be_filled(struct uhmm_space *sp)
{
	uint32_t *outcome = &sp->fork.shared->outcome, pending = FORK_PENDING;

	__atomic_compare_exchange_n(outcome, &pending, FORK_UNABLE, false,
				    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	os_wake(outcome, INT_MAX);
	while (__atomic_load_n(outcome, __ATOMIC_ACQUIRE) != FORK_FILLED)
		if (os_wait(outcome, FORK_UNABLE, INT64_C(5000000000)) == -ETIMEDOUT)
			os_die("a forked child could not get its memory from its parent");
}

static void child_main(void *arg)
{
	struct uhmm_space *sp = arg;
	struct fork_state *fs = &sp->fork;
	bool received;
	int r = 0;

	if (sp->private_files)
		r = os_private_files();
	sp->uffd = -1;
	if (!r)
		r = take_over(sp);
	received = sp->uffd >= 0;
	if (r && received)
		os_die("a forked child could not set up its userfaultfd");
	fs->result = r;
	if (r)
		be_filled(sp);
	else
		__atomic_store_n(&fs->shared->outcome, FORK_TAKEN, __ATOMIC_RELEASE);
	os_wake(&fs->shared->outcome, INT_MAX);
	__atomic_store_n(&fs->ready, 1, __ATOMIC_RELEASE);
	os_wake(&fs->ready, INT_MAX);
	if (!r)
		reader_main(sp);
}

/* What lies in a file table that the child has a copy of names the parent's memory. */
static void close_inherited(struct uhmm_space *sp)
{
	if (sp->private_files)
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
	uint64_t signals;
	int r;

	if (sp->unusable || __atomic_load_n(&fs->phase, __ATOMIC_RELAXED) == FORK_NONE)
		return 0;
	sp->pid = os_pid();
	close_inherited(sp);
	os_close(fs->lifeline[0]);
	os_thread_forget(&sp->reader);
	os_thread_forget(&sp->worker);
	sp->parked.nr = 0;
	sp->parked.lock = (struct uhmm_lock){ 0 };
	sp->fence.nr = 0;
	fs->log->lock = (struct uhmm_lock){ 0 };
	sp->device_lock = (struct uhmm_lock){ 0 };
	sp->retiring = 0; /* who was closing a device is not here */
	r = os_thread_start(&sp->reader, child_main, sp, "uhmm-reader");
	if (r)
		os_die("a forked child could not start a thread");
	while (!__atomic_load_n(&fs->ready, __ATOMIC_ACQUIRE))
		os_wait(&fs->ready, 0, -1);
	os_close(fs->lifeline[1]);
	os_unmap_shared(fs->shared, sizeof(*fs->shared));
	fs->shared = NULL;
	sp->unusable = fs->result != 0;
	__atomic_store_n(&fs->phase, FORK_NONE, __ATOMIC_RELEASE);
	os_wake(&fs->phase, INT_MAX);
	signals = fs->signals;
	gate_open(&sp->world);
	os_restore_signals(&signals);
	return fs->result;
}

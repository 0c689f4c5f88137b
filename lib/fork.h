/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: the child gets its own copy of the space, by the kernel's copy-on-write of our
 * own memory, and its own userfaultfd, by EVENT_FORK and a handover.
 *
 *	forking thread            parent's reader              child
 *	fork_prepare: closes the world
 *	   asks  ---------------> serves frozen: fills without
 *	   <--------------------- changing any state
 *	fork() ................... reads EVENT_FORK: has the
 *	                           child's uffd, serves both
 *	fork_parent: waits        <---------------------- fork_child: its new reader asks
 *	                           sends the uffd ------> applies what happened,
 *	   <---------------------------------------------- says that it has taken over
 *	applies what happened meanwhile, opens the world
 *
 * Frozen. The child's memory, our tables in it, is copied at some instant between prepare
 * and EVENT_FORK, while other threads of the program (whose locks the forking thread may
 * be waiting for) still fault. So faults are then resolved by copies that change no state
 * and take no lock of a device, and remembered in a log that parent and child apply
 * afterwards: whatever the instant, the copy shows us at rest. And no device uses a page
 * of the program meanwhile: notifiers are told PROTECTION of everything, which lasts
 * until the world is open again.
 *
 * A child that did not come from fork() of libc (raw clone) has no handlers: the parent's
 * reader fills all its migrated pages in before it starts (fork_fill).
 */
#ifndef UHMM_FORK_H
#define UHMM_FORK_H

#include "lib/types.h"

/* How long the parent waits before it looks whether the child is still alive. */
#define LOOK_NS INT64_C(20000000)

int fork_init(struct uhmm_space *sp);
void fork_fini(struct uhmm_space *sp);

/*
 * pthread_atfork handlers of a space, on the forking thread. False: nothing could be
 * prepared, and the child is as one of a raw clone, or is not made if the space may
 * refuse that. Then the reader is at work while it is made, and the caller keeps no lock
 * that it needs.
 */
bool fork_prepare(struct uhmm_space *sp);
void fork_parent(struct uhmm_space *sp);
/*
 * 0, or -errno: the space is unusable here, but memory is complete; -EMFILE: or will be,
 * as a raw clone's.
 */
int fork_child(struct uhmm_space *sp);

/*
 * After fork_prepare(), without events: the child that is about to be made cannot take
 * the space over, as it lives in other namespaces, or shares our descriptors.
 */
static inline void fork_child_alone(struct uhmm_space *sp, bool alone, bool shares_files)
{
	sp->fork.alone = alone;
	sp->fork.shares_files = shares_files;
}

/* In the child, without events: all pages come back, and there is no space any more. */
void fork_fill_self(struct uhmm_space *sp);

/* The reader's part: returns when the world may move again. */
void fork_serve(struct uhmm_space *sp);
int fork_fill_init(struct uhmm_space *sp);
void fork_fill_fini(struct uhmm_space *sp);
/*
 * In a libc child: what our parent had open of a raw clone's child that it was serving.
 * Left open here it would not go when our parent closes it, and that child would wait for
 * answers for ever.
 */
void fork_fill_forget(struct uhmm_space *sp);
/*
 * EVENT_FORK of a child without handlers; the gate is closed. Closes child_uffd. Events
 * in sp->batch are not applied yet: they may have come before the child's memory was
 * copied, or after, whichever was read first; the first `after` were read before it.
 */
void fork_fill(struct uhmm_space *sp, int child_uffd, uint32_t after);
/*
 * The same while frozen; sp->batch is empty. The first `seen` records of the log were
 * read before the child. What it has done to its memory since is in done, or NULL.
 */
void fork_fill_frozen(struct uhmm_space *sp, int child_uffd, uint32_t seen,
		      const struct frozen_log *done);

/*
 * Reads what is unread into the log, whose lock the caller holds. False: there is little
 * room left for more.
 */
bool fork_read_on(struct uhmm_space *sp);

/* Inline delivery: is the space frozen? Then the fault is resolved as one. */
bool fork_frozen_inline(struct uhmm_space *sp, uintptr_t addr);
/*
 * Inline delivery: enters the world. While fork() keeps it closed the faulting thread may
 * hold a lock of libc that the forking thread waits for: so its fault is resolved as of a
 * frozen space as soon as it is one. False: that was done, and the world is not entered.
 */
bool fork_enter_inline(struct uhmm_space *sp, uintptr_t addr, unsigned *shard);

#endif

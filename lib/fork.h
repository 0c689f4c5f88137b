/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: the child gets its own copy of the space, by the kernel's copy-on-write of our own
 * memory, and its own userfaultfd, by EVENT_FORK and a handover.
 *
 *	forking thread            parent's reader              child
 *	fork_prepare: closes the world
 *	   asks  ---------------> serves frozen: fills without
 *	   <--------------------- changing any state
 *	fork() ................... reads EVENT_FORK: has the
 *	                           child's uffd, serves both
 *	fork_parent: waits        <------------------------- fork_child: its new reader asks
 *	                           sends the uffd ----------> applies what happened meanwhile,
 *	   <------------------------------------------------- says that it has taken over
 *	applies what happened meanwhile, opens the world
 *
 * Frozen. The child's memory, our tables in it, is copied at some instant between prepare
 * and EVENT_FORK, while the forking thread (in libc) and other threads of the program may
 * still fault. So faults are then resolved by copies that change no state, and remembered
 * in a log that parent and child apply afterwards. Before EVENT_FORK only the forking
 * thread's own faults are resolved; while it waits for one the copy is not being made, so
 * the copy never shows us in the middle of something.
 *
 * A child that did not come from fork() of libc (raw clone) has no handlers: the parent's
 * reader fills all its migrated pages in before it starts (fork_fill).
 */
#ifndef UHMM_FORK_H
#define UHMM_FORK_H

#include "lib/types.h"

/* pthread_atfork handlers of a space, on the forking thread. */
void fork_prepare(struct uhmm_space *sp);
void fork_parent(struct uhmm_space *sp);
/* 0, or -errno: the space is unusable here, but memory is complete. */
int fork_child(struct uhmm_space *sp);

/* The reader's part: returns when the world may move again. */
void fork_serve(struct uhmm_space *sp);
/* EVENT_FORK of a child without handlers; the gate is closed. Closes child_uffd. */
void fork_fill(struct uhmm_space *sp, int child_uffd);

/* Inline delivery: is this the forking thread of a frozen space? Resolves its fault. */
bool fork_frozen_inline(struct uhmm_space *sp, uintptr_t addr, bool write);

#endif

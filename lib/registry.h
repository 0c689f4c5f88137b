/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spaces of this process, for those who are called without one: the SIGBUS handler
 * and the handlers around fork().
 */
#ifndef UHMM_REGISTRY_H
#define UHMM_REGISTRY_H

#include "lib/types.h"

#define REGISTRY_SPACES 8

/* Async-signal-safe. NULL where there is none. */
struct uhmm_space *registry_get(int i);
/*
 * No fork() between the two. While a userfaultfd is open that no reader reads, at the
 * beginning and the end of a space: the kernel keeps a fork waiting for that, and closing
 * does not end the wait, as the child that is being made has the descriptor too.
 */
void registry_lock(uint64_t *signals);
void registry_unlock(const uint64_t *signals);
/* -EMFILE. All of these locked. */
int registry_add(struct uhmm_space *sp);
void registry_remove(struct uhmm_space *sp);
/*
 * That space, or for NULL this process's oldest, is held once more. NULL: there is none,
 * or it is ending.
 */
struct uhmm_space *registry_hold(struct uhmm_space *sp);
/* From now on nobody can hold it, or again. -EBUSY: somebody does. */
int registry_end(struct uhmm_space *sp);
void registry_go_on(struct uhmm_space *sp);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of groups and blocks, for lib/frame*.c. A group is on the list of free groups of
 * its kind, or on the probation list, or on none; a block that is wholly free is on that
 * of its kind, and then its groups are on none. Everything but block_take() is under
 * frames.lock.
 */
#ifndef UHMM_FRAME_LIST_H
#define UHMM_FRAME_LIST_H

#include "lib/types.h"

struct frame_block *block_of(struct frames *f, uint32_t group);
bool group_is_executable(struct frames *f, uint32_t group);

void free_group_push(struct frames *f, uint32_t g);
void free_group_unlink(struct frames *f, uint32_t g);
void free_block_push(struct frames *f, uint32_t b);
void probation_append(struct frames *f, uint32_t g);
void probation_prepend(struct frames *f, uint32_t g);
void probation_unlink(struct frames *f, uint32_t g);
/* On the probation list; one that its storer took is the head of nothing. */
bool group_on_list(struct frames *f, uint32_t g);
/*
 * A group that is stale becomes a spare one; one where something was left waits for
 * frames_drop_left(). When all groups of a block are free the
 * block is, and can hold a folio again.
 */
void group_free(struct frames *f, uint32_t g);
/* GROUP_SPARE, GROUP_FOLIO_SPARE; lib/frame_spare.c. */
void spare_push(struct frames *f, uint32_t g, enum group_kind kind);

/* Takes a free block off its list, that of the first kind in order that has one. */
uint32_t block_take(struct uhmm_space *sp, const enum block_kind *order);

#endif

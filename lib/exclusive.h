/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exclusive pages: for what a device calls atomic a page is in memory, in a frame, and
 * only the device uses it. An EXCLUSIVE page is one on probation that is not stored, and
 * that changes: so whoever takes it away from the device tells the notifiers before, and
 * it is on probation after that.
 *
 * The frames are in groups that are lent (GROUP_LENT), as those of migrations. In the
 * place of a device an entry has a number for the owner, so that who asks for his own
 * page once more disturbs nobody: he has to ask once more if anything was told since he
 * began, and what he does himself is told too.
 */
#ifndef UHMM_EXCLUSIVE_H
#define UHMM_EXCLUSIVE_H

#include "lib/types.h"

/*
 * Somebody needs the page; the gate is not entered. True: it is on probation by this,
 * with that entry; else somebody else was faster.
 */
bool exclusive_revoke(struct uhmm_space *sp, uintptr_t addr, entry_t *e);

/*
 * All of them: fork is about to copy the memory. The world is closed, and notifiers were
 * told of everything.
 */
void exclusive_give_up(struct uhmm_space *sp);

#endif

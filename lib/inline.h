/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inline delivery: the SIGBUS handler in which a faulting thread resolves its own fault.
 */
#ifndef UHMM_INLINE_H
#define UHMM_INLINE_H

#include "lib/types.h"

/* Installs the handler, once. */
int inline_install(void);
bool inline_is(const struct uhmm_space *sp);
/* A fault that may be the space's. alone: it is the only one. false: it is not. */
bool inline_resolve(struct uhmm_space *sp, uintptr_t addr, bool alone);
/*
 * For who has a handler of his own, and one space: resolves the fault of a SIGBUS with
 * BUS_ADRERR. false: it is not ours, or the page is lost. All signals are blocked but the
 * handler's own.
 */
bool inline_fault(struct uhmm_space *sp, uintptr_t addr);
/*
 * Before and after an inline space is freed; nothing for another. ending() takes it out
 * of the registry and waits until no handler has it in hand.
 */
void inline_ending(struct uhmm_space *sp);
void inline_ended(bool was_inline);
/* In a forked child. */
void inline_after_fork(void);

#endif

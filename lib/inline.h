/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inline delivery: the SIGBUS handler in which a faulting thread resolves its own fault.
 */
#ifndef UHMM_INLINE_H
#define UHMM_INLINE_H

#include "lib/types.h"

/* Installs the handler, once. */
int inline_install(void);

#endif

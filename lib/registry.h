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
/* -EMFILE. Installs the fork handlers the first time. */
int registry_add(struct uhmm_space *sp);
void registry_remove(struct uhmm_space *sp);

#endif

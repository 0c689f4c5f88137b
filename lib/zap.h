/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards that were announced and may not have happened yet.
 *
 * MADV_DONTNEED tells us first, in REMOVE, lets the address space go while we read that,
 * and discards the pages afterwards, when its thread runs again. In between the mapping
 * is not changing, so MOVE works: a page isolated then escapes the discard, and its old
 * bytes would come back where the program was promised zeros. So nothing is isolated
 * where a discard is pending.
 *
 * A discard has happened once none of its pages is present: whatever appears there later
 * was filled by us and is new. That is looked at when somebody touches such a page, and
 * when somebody wants to isolate one. Where pages stay (MADV_FREE announces itself in the
 * same way) only time tells.
 */
#ifndef UHMM_ZAP_H
#define UHMM_ZAP_H

#include "lib/types.h"

/* REMOVE was read; the gate is closed. */
void zap_announce(struct uhmm_space *sp, uintptr_t start, uintptr_t end);
/* May a page of [start, end) be about to be discarded? The gate is entered. */
bool zap_pending(struct uhmm_space *sp, uintptr_t start, uintptr_t end);

#endif

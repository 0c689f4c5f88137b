/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing pages back while other threads raise events without end: the reader does it,
 * in between two of them. See recall.c.
 */
#ifndef UHMM_RECALL_H
#define UHMM_RECALL_H

#include "lib/types.h"

/*
 * For who has tried in vain to bring [start, end) back: asks the reader, and waits until
 * it has brought back what it could, which may be nothing. again: that was not all the
 * last time; this costs more. The world is entered, the gate is not.
 */
void recall_ask(struct uhmm_space *sp, uintptr_t start, uintptr_t end, bool again);

void recall_fini(struct uhmm_space *sp);

/* The reader's. */
bool recall_asked(struct uhmm_space *sp);
/* The gate is closed, the batch applied, as it is afterwards. */
void recall_serve(struct uhmm_space *sp);

#endif

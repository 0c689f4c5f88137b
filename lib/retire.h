/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A space of which there is no more use in a process that goes on: everything is brought
 * back, and all memory let go of, so that nothing is missing any more.
 */
#ifndef UHMM_RETIRE_H
#define UHMM_RETIRE_H

#include "lib/types.h"

/*
 * Has the worker do that, and waits for it; not from within the world. Faults from before
 * are told that they are resolved. The reader and the worker end, or return; the space
 * stays as it is, for somebody may be looking at it. No page maps. -ENOMEM: it lives on
 * as before. One at a time.
 */
int retire_ask(struct uhmm_space *sp);

/*
 * What is left then, when the userfaultfd is open nowhere any more, in no table of
 * descriptors.
 */
void retire_end(struct uhmm_space *sp);

/* The worker's, outside of the world. */
bool retire_asked(const struct uhmm_space *sp);
void retire_serve(struct uhmm_space *sp);

#endif

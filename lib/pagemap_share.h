/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a device whose memory fork() does not copy: parent and child have the same
 * ones. In memory that all processes of a family share there is, of each page, how many
 * of them have it, and of each process which.
 *
 * A process may end at any time without giving anything back: it is killed, or becomes
 * another program. So the page map's thread holds its life (os_life_begin()), and who
 * finds a page taken by others looks whether they live.
 *
 * A process is claimed by its parent before it is made, with all pages of the parent,
 * and disclaimed by it if nothing came of it.
 */
#ifndef UHMM_PAGEMAP_SHARE_H
#define UHMM_PAGEMAP_SHARE_H

#include "lib/pagemap.h"
#include "lib/types.h"

/* Of a new page map; its process is claimed. -ENOMEM. */
int map_share_make(struct uhmm_pagemap *map);
void map_share_free(struct uhmm_pagemap *map);
/* On the page map's thread: from now on the process is seen to end. */
void map_share_live(struct uhmm_pagemap *map);
/* And when that thread ends, and the process does not. */
void map_share_rest(struct uhmm_pagemap *map);

/*
 * The page is to be this process's alone. True: nobody had it. Looks for processes that
 * have ended if others have it.
 */
bool map_share_get(struct uhmm_pagemap *map, uint64_t page);
/* This process has it no more. True: nobody has. */
bool map_share_put(struct uhmm_pagemap *map, uint64_t page);
/* Has another process the page too? */
bool map_share_is_shared(const struct uhmm_pagemap *map, uint64_t page);

/* Of all page maps of a space, the world closed: before a fork, or if none came of it. */
void map_shares_claim(struct uhmm_space *sp);
void map_shares_disclaim(struct uhmm_space *sp);
/* Is there a page map that is shared? */
bool map_shares_any(struct uhmm_space *sp);
/* In the child. -EMFILE: the family is too large; it must not use the pages. */
int map_shares_after_fork(struct uhmm_space *sp);
/* If that child could not take over: its parent gives back what it had. */
void map_shares_forget(struct uhmm_space *sp);

#endif

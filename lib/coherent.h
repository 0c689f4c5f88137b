/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of coherent page maps: the program uses them where they are.
 *
 * Such a page is either in the page map's memory, an area of ours as frames are, and then
 * its entry is DEVICE (or MIGRATING) like that of any other device's page; or UFFDIO_MOVE
 * has put it into the program's page table, and its entry is COHERENT. It is the same
 * physical page in both places, so whatever the driver did for that memory (a node, an
 * accelerator that sees it) holds in both.
 *
 * The program keeps its page as long as it likes; events tell when it is gone. After a
 * fork a write makes a copy, which is memory like any other: an entry that a fork has
 * seen is FORKED, and whether the page is still the device's is looked at when it
 * matters.
 */
#ifndef UHMM_COHERENT_H
#define UHMM_COHERENT_H

#include "lib/pagemap.h"
#include "lib/types.h"

/* The page map of an entry if that is coherent, or NULL. */
struct uhmm_pagemap *coherent_pagemap(struct uhmm_space *sp, entry_t e);

/*
 * A page in the page map's memory goes to the program, who sleeps there is woken. 0;
 * -EAGAIN: an event is unread; -EBUSY: it is not there, or not now. Inside the gate, or
 * with the gate closed.
 */
int coherent_map_inside(struct uhmm_space *sp, uintptr_t addr);
/* The same for who is outside; tried again while events are unread. */
int coherent_map(struct uhmm_space *sp, uintptr_t addr);

/*
 * Takes the page at addr out of the program's page table, for a migration: it is
 * MIGRATING. vma is its mapping, writable; only: NULL, or the page that it has to be. The
 * gate is not entered.
 *  0        *pfn is the page
 *  -EBUSY   not a COHERENT one of this owner; pinned, or in transition
 *  -EAGAIN  the program is changing mappings
 *  -ESTALE  it is memory like any other now, since a fork
 */
int coherent_take(struct uhmm_space *sp, const struct range *vma, uintptr_t addr,
		  const void *owner, const uhmm_pfn_t *only, uhmm_pfn_t *pfn);

/* The page is memory like any other from now on, where it is. The gate is not entered. */
void coherent_release(struct uhmm_space *sp, uintptr_t addr);

/*
 * A COHERENT page is the device's still? If not its entry is NONE when this returns. The
 * gate is not entered.
 */
bool coherent_look(struct uhmm_space *sp, uintptr_t addr);

/* Somebody touched a page that is COHERENT: is it gone, without an event? As above. */
void coherent_fault(struct uhmm_space *sp, uintptr_t addr);

/* Before the memory is copied by fork, or after; nobody changes entries. */
void coherent_forked(struct uhmm_space *sp);

/*
 * There is a page in the page map's memory, to be written to: that is not to be a fault.
 * What was there before will do. -ENOMEM. Neither world nor gate are entered.
 */
int coherent_make_present(const struct uhmm_pagemap *map, uint64_t page);

/* Is addr in the memory of a page map, where nothing is? */
bool coherent_contains(struct uhmm_space *sp, uintptr_t addr);

#endif

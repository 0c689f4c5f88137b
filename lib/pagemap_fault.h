/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults that a driver serves itself, by migrate_to_ram(). That is a migration, which may
 * wait for the reader and for anything else, so it is done on a thread of the page map,
 * one page after the other; who touched the page sleeps meanwhile.
 */
#ifndef UHMM_PAGEMAP_FAULT_H
#define UHMM_PAGEMAP_FAULT_H

#include "lib/pagemap.h"
#include "lib/types.h"

/* Starts the page map's thread if it needs one. */
int map_faults_start(struct uhmm_pagemap *map);
/* Who still waits for the thread is to touch its page again. */
void map_faults_stop(struct uhmm_pagemap *map);
/* Of all page maps of a space. */
void map_faults_stop_all(struct uhmm_space *sp);
/* In a forked child: there are no threads any more, and later some again. */
void map_faults_forget_all(struct uhmm_space *sp);
/* -errno: that this process ends other processes of a shared page map would not see. */
int map_faults_start_all(struct uhmm_space *sp);
/*
 * Thread tid has touched addr, of which e is the entry. True: the page map's thread sees
 * to it. False: it is to be fetched by copy_to_ram(), as there is no such thread, or it
 * has too much to do, or that is who asks. Any thread; takes a leaf lock.
 */
bool map_fault(struct uhmm_space *sp, uintptr_t addr, entry_t e, uint32_t tid);
/*
 * nr pages from addr on go to this page map. A request for one of them that still waits
 * is of before, and was served by whatever brought the page into memory: the driver is
 * not to bring it back again. Before their entries say so, the gate entered or closed;
 * takes a leaf lock.
 */
void map_faults_expire(struct uhmm_pagemap *map, uintptr_t addr, size_t nr);

#endif

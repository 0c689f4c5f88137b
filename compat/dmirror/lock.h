/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock of the program's mappings: what the kernel calls mmap_lock. Who changes
 * mappings takes it for writing, whoever has to find them unchanged for reading: a
 * migration from setup to finalize (UHMM_SELECT_READONLY asks for that), a device that
 * faults or copies. Writers go first, or a program that has its devices busy would never
 * unmap anything.
 *
 * Who holds it may wait for the library's threads, as munmap() and every fault do; so
 * nothing that they call takes it, and nobody who holds it waits for a thread of the
 * program but by touching a page that a migration has.
 *
 * All signals are blocked from *_lock() to *_unlock(): a handler that unmaps memory would
 * wait for its own thread.
 */
#ifndef COMPAT_DMIRROR_LOCK_H
#define COMPAT_DMIRROR_LOCK_H

#include <signal.h>

void maps_lock_read(sigset_t *signals);
void maps_lock_write(sigset_t *signals);
void maps_unlock(const sigset_t *signals);
/* For fork(), which keeps it while the memory is copied. */
void maps_fork_prepare(void);
void maps_fork_parent(void);
void maps_fork_child(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the scenarios of the failure sweep have in common: test_sweep.c runs them. A
 * scenario uses ARENA pages [0, SWEEP_PAGES), written to but for the last 20, of which
 * the first SWEEP_SMALL are a huge page. It may be refused anything for want of memory,
 * and then goes on without it, or ends.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "tests/sim/sim.h"

#define SWEEP_PAGES 700u /* a huge page, and others */
#define SWEEP_SMALL 512u /* the first of the others */

struct uhmm_space;
struct uhmm_device;

uintptr_t sweep_page(unsigned i);
/* True: it was done. False: there was no memory. Anything else is a failure. */
bool sweep_did(const char *what, int r);
/* Nothing fails (any more), and so it must not. */
void sweep_must(const char *what, int r);
/* Reads or writes each page; the world compares what is read. */
void sweep_read(unsigned from, unsigned to);
void sweep_write(unsigned from, unsigned to, char with);
struct uhmm_space *sweep_space(void); /* NULL: none to be had */
void sweep_end_space(struct uhmm_space *space);

/* sweep_driver.c */
void sweep_folios(void);
void sweep_coherent(void);
void sweep_shared(void);
void sweep_mirror(void);

#endif

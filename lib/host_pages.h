/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages for devices that come and go (uhmm_host_pages_get()): those that were given back
 * are kept for who comes next. To have a page from the kernel and to give it back takes
 * longer than to copy one.
 *
 * Not for long: what was not needed since the last host_pages_trim() is given back then.
 * And none in a process that has a budget, nor across a fork, which would share them.
 */
#ifndef UHMM_HOST_PAGES_H
#define UHMM_HOST_PAGES_H

#include "uhmm/device.h"

/* 64 MiB: as much as frames, SPARE_PAGES_MAX. */
#define HOST_PAGES_MAX 16384u

/* Memory is short in this process: nothing is kept from now on. */
void host_pages_keep_none(void);
/* What is kept now is given back. */
void host_pages_drop(void);
/* A worker of the process, about once a second. */
void host_pages_trim(void);

/* host_fork_prepare() and its like (lib/host.h) call these. */
void host_pages_fork_prepare(void);
void host_pages_fork_done(void);
void host_pages_forget(void);

#endif

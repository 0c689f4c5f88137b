/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The space and the devices of this process: there when the first device is opened, and
 * from then on.
 *
 * A child of fork() has a copy of the space and of the devices, and a new *generation*:
 * what was open before is nothing there, as the memory that it mirrored is another
 * process's. A child made in any other way (a raw clone) has complete memory and no
 * space; it gets one of its own when it opens a device.
 */
#ifndef COMPAT_DMIRROR_PROCESS_H
#define COMPAT_DMIRROR_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;
struct uhmm_space;

/* 0 and the device; -errno: there is no space to be had, or no device. */
int process_device(unsigned number, struct device **device);
/* The space, or NULL: this process has none. */
struct uhmm_space *process_space(void);
/* Of the process and not of one that it was forked from? */
bool process_is_current(unsigned generation);
unsigned process_generation(void);
/* False in a child of vfork(), or of a raw clone: it is to leave everything as it is. */
bool process_is_ours(void);
/* Mappings of [addr, addr + len) have changed, or may have. */
void process_mappings_changed(uintptr_t addr, size_t len);
/* Before the program starts. */
void process_init(void);

#endif

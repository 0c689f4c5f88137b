/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices as the core sees them: opened by a spec, driven by batches. Drivers see
 * <uhmm/device.h> only.
 *
 * Opening and closing happens on ordinary threads: drivers may use libc there. Everything
 * else is for any thread, also while a fault is being resolved.
 */
#ifndef UHMM_LIB_DEVICE_H
#define UHMM_LIB_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/device.h"

/* A message about a spec is one line, no longer than this. */
#define DEVICE_ERROR_MAX 512

/* All drivers, ordered by name; NULL at the end. Made by devices/meson.build. */
extern const struct uhmm_driver *const device_drivers[];
/* The one after prev, the first for NULL; NULL after the last. */
const struct uhmm_driver *device_driver_next(const struct uhmm_driver *prev);

/*
 * Opens what the spec says, of each tier the lowest layer first. -EINVAL the spec,
 * -ENODEV no such device, -ENOMEM, or what a driver said; error then names the argument,
 * what was wrong and what is accepted, in one line.
 */
int device_open(const char *spec, struct uhmm_device **dev, char *error,
		size_t error_size);
/* The same with the drivers of a table. */
int device_open_from(const struct uhmm_driver *const *drivers, const char *spec,
		     struct uhmm_device **dev, char *error, size_t error_size);
/* One layer, of a driver that is open already. -ENOMEM. */
int device_wrap(const struct uhmm_driver *driver, void *impl, struct uhmm_device **dev);
/* No batch is in flight. Pages still stored are forgotten. NULL is fine. */
void device_close(struct uhmm_device *dev);

/* Of the whole stack: a flag or model that one layer lacks, the stack lacks. */
uint32_t device_flags(const struct uhmm_device *dev);
uint32_t device_batch_hint(const struct uhmm_device *dev);
/* The driver on top. */
const struct uhmm_driver *device_driver(const struct uhmm_device *dev);
/* Its i-th tier, NULL behind the last. A device that has none is its only one. */
struct uhmm_device *device_tier(struct uhmm_device *dev, uint32_t i);

/*
 * Hands a batch over and waits until it is complete: results are in io, one each. nr is 1
 * to UHMM_BATCH_MAX. Returns how many failed.
 */
uint32_t device_run(struct uhmm_device *dev, enum uhmm_op op, struct uhmm_io *io,
		    uint32_t nr);

/* One LOAD with UHMM_BATCH_FROZEN; its result. */
int device_peek(struct uhmm_device *dev, struct uhmm_io *io);

/* 0 or -errno of the first layer that failed. */
int device_flush(struct uhmm_device *dev);
/* Are there pages that a forked child does not have a copy of? */
bool device_is_shared(const struct uhmm_device *dev);
/* Of all layers, as <uhmm/device.h> has it. */
void device_before_fork(struct uhmm_device *dev);
void device_fork_failed(struct uhmm_device *dev);
/* In a forked child, before anything else, with no batch in flight. */
int device_after_fork(struct uhmm_device *dev);
/*
 * Counts of the top layer that counts what is stored, memory of all of them. stat->size
 * is set by the caller, as in <uhmm/device.h>.
 */
void device_stat(struct uhmm_device *dev, struct uhmm_device_stat *stat);

/* ---- lib/device_spec*.c -------------------------------------------------------- */

/*
 * Tiers, layers of each, options of a driver, length of a spec: far more than make sense.
 */
#define SPEC_TIERS_MAX 8
#define SPEC_LAYERS_MAX 8
#define SPEC_OPTIONS_MAX 32
#define SPEC_MAX 1023

struct spec_layer {
	const struct uhmm_driver *driver;
	struct uhmm_option_value value[SPEC_OPTIONS_MAX];
};

struct spec_tier {
	uint32_t nr_layers; /* [0] is on top */
	struct spec_layer layer[SPEC_LAYERS_MAX];
};

/* Some 33 KiB: more than a small stack has. */
struct spec {
	uint32_t nr_tiers; /* [0] is where pages go first */
	struct spec_tier tier[SPEC_TIERS_MAX];
	char text[SPEC_MAX + 1]; /* what strings point into */
};

/* 0, -EINVAL, -ENODEV: then error says why. */
int spec_parse(const struct uhmm_driver *const *drivers, const char *text,
	       struct spec *spec, char *error, size_t error_size);
/*
 * The spec as it is from anywhere, with relative paths appended to a directory's: NULL if
 * that is not known. out has size bytes, and holds anything if it fails: as spec_parse(),
 * or -ENOMEM.
 */
int spec_absolute(const struct uhmm_driver *const *drivers, const char *text,
		  const char *directory, char *out, size_t size, char *error,
		  size_t error_size);
/* Writes `device "SPEC": ` and the strings that follow, up to a NULL, as one line. */
void spec_error(const char *spec, char *error, size_t error_size, ...)
	__attribute__((sentinel));

#endif

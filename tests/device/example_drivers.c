/* SPDX-License-Identifier: Apache-2.0 */
/* The table of drivers that devices/meson.build makes, with this one alone. */
#include "lib/device.h"

extern const struct uhmm_driver uhmm_driver_slots;

const struct uhmm_driver *const device_drivers[] = { &uhmm_driver_slots, NULL };

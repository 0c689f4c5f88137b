/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook: a layer for tests of tiers. Before it hands a batch to the device below it calls
 * a function, which may use the device of tiers that it is a part of.
 */
#ifndef TESTS_TIER_HOOK_H
#define TESTS_TIER_HOOK_H

#include "lib/device.h"

/* Opens a spec of hook, ram and lz4; hooks count tiers in the order they are opened. */
struct uhmm_device *hook_open(const char *spec);
/* Called on the thread that submits. NULL: nothing is. */
void hook_set(void (*fn)(uint32_t tier, const struct uhmm_batch *batch));

#endif

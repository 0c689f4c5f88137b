/* SPDX-License-Identifier: Apache-2.0 */
/* What layers have in common: a batch of their own for the device below, waited for. */
#ifndef UHMM_DEVICES_BELOW_H
#define UHMM_DEVICES_BELOW_H

#include "uhmm/device.h"

static inline void below_complete(struct uhmm_batch *batch)
{
	uhmm_unlock(batch->cookie);
}

/* What is waited for is unlocked by whoever completes it. A batch may be empty. */
static inline void below_run(struct uhmm_device *next, struct uhmm_batch *batch)
{
	struct uhmm_lock in_flight = { 0 };

	if (!batch->nr)
		return;
	batch->complete = below_complete;
	batch->cookie = &in_flight;
	uhmm_lock(&in_flight);
	uhmm_device_submit(next, batch);
	uhmm_lock(&in_flight);
}

#endif

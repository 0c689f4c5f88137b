/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of devices, and waiting for it. */
#include "lib/os/os.h"
#include "uhmm/device.h"

uint64_t uhmm_host_now_ns(void)
{
	return os_now_ns();
}

void uhmm_host_sleep_ns(uint64_t ns)
{
	uint64_t end = os_now_ns() + ns, now;
	uint32_t nobody_wakes = 0;

	while ((now = os_now_ns()) < end)
		os_wait(&nobody_wakes, 0, (int64_t)(end - now));
}

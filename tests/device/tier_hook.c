/* SPDX-License-Identifier: Apache-2.0 */
/* A layer that calls a function: see tier_hook.h. */
#include "tests/device/tier_hook.h"

#include "tests/test.h"

extern const struct uhmm_driver uhmm_driver_lz4, uhmm_driver_ram;

struct hook {
	struct uhmm_device *next;
	uint32_t nr;
};

static void (*hook_fn)(uint32_t tier, const struct uhmm_batch *batch);
static uint32_t nr_opened;

void hook_set(void (*fn)(uint32_t tier, const struct uhmm_batch *batch))
{
	hook_fn = fn;
}

static int hook_driver_open(const struct uhmm_device_args *args, void **dev,
			    const char **error)
{
	struct hook *hook = uhmm_host_map(sizeof(*hook));

	(void)error;
	CHECK(hook != NULL);
	hook->next = args->next;
	hook->nr = nr_opened++;
	*dev = hook;
	return 0;
}

static void hook_close(void *dev)
{
	uhmm_host_unmap(dev, sizeof(struct hook));
}

static int hook_submit(void *dev, struct uhmm_batch *batch)
{
	struct hook *hook = dev;

	if (hook_fn)
		hook_fn(hook->nr, batch);
	return uhmm_device_submit(hook->next, batch);
}

static const struct uhmm_driver driver = {
	.size = sizeof(driver),
	.name = "hook",
	.flags = UHMM_DRIVER_LAYER,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = UHMM_BATCH_MAX,
	.open = hook_driver_open,
	.close = hook_close,
	.submit = hook_submit,
};

struct uhmm_device *hook_open(const char *spec)
{
	static const struct uhmm_driver *const drivers[] = { &driver, &uhmm_driver_lz4,
							     &uhmm_driver_ram, NULL };
	char error[DEVICE_ERROR_MAX] = "";
	struct uhmm_device *dev = NULL;

	nr_opened = 0;
	CHECK(device_open_from(drivers, spec, &dev, error, sizeof(error)) == 0, "%.400s",
	      error);
	return dev;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `delay`: what it holds up, and for how long. */
#include "tests/device/subject.h"

#include <string.h>

#define US UINT64_C(1000)
#define NR 20u

static uint8_t page[NR][PAGE] __attribute__((aligned(4096)));
static struct uhmm_io io[NR];

static struct uhmm_device *open_delay(const char *spec)
{
	uint32_t i;

	for (i = 0; i < NR; i++) {
		memset(page[i], (int)i + 1, PAGE);
		io[i].buf = page[i];
		io[i].len = PAGE;
	}
	return open_spec(spec);
}

/* Nanoseconds for NR batches of a page. */
static uint64_t run(struct uhmm_device *dev, enum uhmm_op op)
{
	uint64_t start = uhmm_host_now_ns();
	uint32_t i;

	for (i = 0; i < NR; i++)
		CHECK_EQ(device_run(dev, op, &io[i], 1), 0);
	return uhmm_host_now_ns() - start;
}

TEST(each_is_held_up_as_long_as_asked)
{
	struct uhmm_device *dev = open_delay("delay:store=3000,load=1000+ram");

	CHECK_GE(run(dev, UHMM_OP_STORE), NR * 3000 * US);
	CHECK_GE(run(dev, UHMM_OP_LOAD), NR * 1000 * US);
	device_close(dev);
}

TEST(what_is_not_asked_for_is_not_held_up)
{
	struct uhmm_device *dev = open_delay("delay:load=100000,jitter=100000+ram");
	uint64_t stored = run(dev, UHMM_OP_STORE), loaded = run(dev, UHMM_OP_LOAD);

	CHECK_GE(loaded, NR * 100000 * US);
	/* However slow the machine is: some of it would have been jitter. */
	CHECK_LT(stored, loaded / 2);
	device_close(dev);
}

/* Each has another part of it, and all together about half. */
TEST(jitter_is_up_to_what_was_asked)
{
	struct uhmm_device *dev = open_delay("delay:store=1,jitter=20000+ram");
	uint64_t took = run(dev, UHMM_OP_STORE);

	CHECK_GE(took, NR * 20000 * US / 4);
	device_close(dev);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the device ram promises beyond what tests/device asks of every device. */
#include "tests/test.h"

#include <errno.h>

#include "lib/device.h"

#define SIZE (UINT64_C(1) << 20)

static char page[UHMM_PAGE_SIZE];

/* It has no working memory that would come on top of its size. */
TEST(it_takes_its_size_to_the_page_and_no_more)
{
	char error[DEVICE_ERROR_MAX] = "";
	struct uhmm_device_stat stat = { .size = sizeof(stat) };
	struct uhmm_device *dev = NULL;
	struct uhmm_io io;

	memset(page, 0x5a, sizeof(page) / 2);
	CHECK(device_open("ram:size=1M", &dev, error, sizeof(error)) == 0, "%.400s",
	      error);
	do
		io = (struct uhmm_io){ .buf = page, .len = sizeof(page) };
	while (!device_run(dev, UHMM_OP_STORE, &io, 1));
	CHECK_EQ(io.result, -ENOSPC);
	device_stat(dev, &stat);
	CHECK_LE(stat.bytes_resident, SIZE);
	CHECK_GT(stat.bytes_resident + UHMM_PAGE_SIZE, SIZE);
	device_close(dev);
}

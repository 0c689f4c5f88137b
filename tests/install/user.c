/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user of the installed library, valid as C99 and as C++11: migrates a buffer to a
 * device and reads it back. Exits 77 where the machine does not permit that.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uhmm/device.h>
#include <uhmm/uhmm.h>

#define LEN (1024u * UHMM_PAGE_SIZE)

static int fail(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-error));
	return error == -EPERM || error == -ENOSYS ? 77 : 1;
}

int main(void)
{
	struct uhmm_space *space = NULL;
	struct uhmm_device *device = NULL;
	struct uhmm_stats stats;
	unsigned char *buf;
	size_t moved = 0, i;
	int error;

	if (strcmp(uhmm_version(), EXPECTED_VERSION) != 0)
		return fail(uhmm_version(), -EINVAL);
	error = uhmm_space_create(NULL, &space);
	if (error)
		return fail("uhmm_space_create", error);
	error = uhmm_device_open(space, "lz4", &device);
	if (error)
		return fail(uhmm_strerror_spec(), error);
	buf = (unsigned char *)malloc(LEN);
	if (!buf)
		return 1;
	for (i = 0; i < LEN; i++)
		buf[i] = (unsigned char)(i / UHMM_PAGE_SIZE + i);
	error = uhmm_migrate(space, buf, LEN, device, NULL, &moved);
	if (error)
		return fail("uhmm_migrate", error);
	memset(&stats, 0, sizeof(stats));
	stats.size = sizeof(stats);
	error = uhmm_stats_get(space, &stats);
	if (error)
		return fail("uhmm_stats_get", error);
	printf("%lu pages moved, %lu on the device\n", (unsigned long)moved,
	       (unsigned long)stats.now_device);
	if (moved < LEN / UHMM_PAGE_SIZE / 2 || stats.now_device < moved)
		return 2;
	for (i = 0; i < LEN; i++)
		if (buf[i] != (unsigned char)(i / UHMM_PAGE_SIZE + i))
			return 3;
	error = uhmm_space_destroy(space);
	if (error)
		return fail("uhmm_space_destroy", error);
	free(buf);
	return 0;
}

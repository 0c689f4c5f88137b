/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inline delivery: the thread that touches a migrated page brings it back itself, which
 * is several times faster and needs no permission, but a system call does not. So a
 * buffer that is handed to the kernel is pinned for as long as the kernel uses it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uhmm/device.h>
#include <uhmm/uhmm.h>

#define LEN (256u * UHMM_PAGE_SIZE)

int main(void)
{
	struct uhmm_space_config config = {
		.size = sizeof(config),
		.delivery = UHMM_DELIVERY_INLINE,
	};
	struct uhmm_space *space;
	struct uhmm_device *lz4;
	size_t moved, i;
	char *buffer;
	ssize_t n;
	int error, fd;

	error = uhmm_space_create(&config, &space);
	if (error) {
		fprintf(stderr, "cannot create a space: %s\n", strerror(-error));
		return 77;
	}
	if (uhmm_device_open(space, "lz4", &lz4))
		return 1;
	buffer = aligned_alloc(UHMM_PAGE_SIZE, LEN);
	if (!buffer)
		return 1;
	memset(buffer, 'a', LEN);
	if (uhmm_migrate(space, buffer, LEN, lz4, NULL, &moved))
		return 1;
	printf("%zu pages are on lz4\n", moved);

	/* Without the pin this read would fail with EFAULT, or stop at the first page. */
	error = uhmm_advise(space, buffer, LEN, UHMM_ADVISE_PIN);
	if (error) {
		fprintf(stderr, "cannot pin: %s\n", strerror(-error));
		return 1;
	}
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	n = read(fd, buffer, LEN / 2);
	close(fd);
	printf("read %zd bytes of %u into them\n", n, LEN / 2);
	error = uhmm_advise(space, buffer, LEN, UHMM_ADVISE_UNPIN);
	if (error || n != LEN / 2)
		return 1;

	/* The program's own accesses need no pin. */
	if (uhmm_migrate(space, buffer, LEN, lz4, NULL, NULL))
		return 1;
	for (i = 0; i < LEN; i++)
		if (buffer[i] != (i < LEN / 2 ? 0 : 'a'))
			return 1;
	printf("and every byte is there\n");
	error = uhmm_space_destroy(space);
	free(buffer);
	return error ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrates a buffer by hand, looks at what became of each page, and reads it back by
 * simply using it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uhmm/device.h>
#include <uhmm/uhmm.h>

#define NR_PAGES 2048u
#define LEN ((size_t)NR_PAGES * UHMM_PAGE_SIZE)

static void print_stats(struct uhmm_space *space, const char *when)
{
	struct uhmm_stats stats = { .size = sizeof(stats) };

	if (uhmm_stats_get(space, &stats) == 0)
		printf("%-16s %5llu pages on the device, in %llu KiB\n", when,
		       (unsigned long long)stats.now_device,
		       (unsigned long long)stats.device_bytes_resident / 1024);
}

int main(void)
{
	static const char *const names[] = { "moved", "already there", "holes", "pinned",
					     "busy",  "unmovable",     "full",  "lost" };
	static uint8_t results[NR_PAGES];
	size_t count[8] = { 0 }, i;
	struct uhmm_space *space;
	struct uhmm_device *lz4;
	char *text;
	int error;

	error = uhmm_space_create(NULL, &space);
	if (error) {
		/* `uhmm doctor` says what to do about it. */
		fprintf(stderr, "cannot create a space: %s\n", strerror(-error));
		return 77;
	}
	error = uhmm_device_open(space, "lz4", &lz4);
	if (error) {
		fprintf(stderr, "cannot open lz4: %s\n", uhmm_strerror_spec());
		return 1;
	}

	/* Page aligned: only pages entirely inside a range are migrated. */
	text = aligned_alloc(UHMM_PAGE_SIZE, LEN);
	if (!text)
		return 1;
	/* The last quarter is never written: nothing to move there. */
	for (i = 0; i < LEN / 4 * 3; i++)
		text[i] = "heterogeneous "[i % 14];
	print_stats(space, "before");

	error = uhmm_migrate(space, text, LEN, lz4, results, NULL);
	if (error) {
		fprintf(stderr, "cannot migrate: %s\n", strerror(-error));
		return 1;
	}
	print_stats(space, "migrated");
	for (i = 0; i < NR_PAGES; i++)
		count[results[i] & 7]++;
	for (i = 0; i < 8; i++)
		if (count[i])
			printf("  %5zu %s\n", count[i], names[i]);

	/* Touching the first half brings it back. */
	for (i = 0; i < LEN / 2; i++)
		if (text[i] != "heterogeneous "[i % 14])
			return 1;
	print_stats(space, "half was read");

	/* Brings the rest back and closes the device. */
	error = uhmm_space_destroy(space);
	free(text);
	return error ? 1 : 0;
}

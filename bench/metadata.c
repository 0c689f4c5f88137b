/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migrated page takes of memory besides its bytes: a region is filled, migrated,
 * and each part of what is left of it in memory is printed, in bytes a page.
 *
 *   in memory  what became resident for it: of the process (anonymous memory, as the
 *              kernel counts it) after the migration, less what it had without the pages
 *   device     of that, what the device says that it takes, the pages' own bytes included
 *   tables     what the space says that its tables and frame owners take
 *   rest       what nobody owns up to: in memory - device - tables. Frames and buffers
 *              that are kept. Below zero where a table is counted whole, of which the
 *              kernel has given only the pages that were touched
 *
 * The device ram stores pages as they are, so what it takes more than 4096 is overhead.
 * "sparse" has one page migrated of each 2 MiB, which is the worst for tables.
 *
 * A line of JSON for each. Exit status 1: a page was not migrated; 3: came back wrong.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uhmm/uhmm.h>

#include "bench/access.h"

/* The budget, in sizes of the region: there are frames for as many pages as it has. */
#define BUDGETS 2u
/* Pages of 2 MiB. */
#define SPARSE 512u

static const struct row {
	const char *name, *device;
	enum content content;
	size_t step;
} rows[] = {
	{ "ram", "ram", CONTENT_GOOD, 1 },
	{ "lz4, 2.5 to 1", "lz4", CONTENT_GOOD, 1 },
	{ "lz4, half of it zeros", "lz4", CONTENT_ZEROS, 1 },
	{ "ram, sparse", "ram", CONTENT_GOOD, SPARSE },
};

static struct uhmm_stats stats_of(struct uhmm_space *space)
{
	struct uhmm_stats stats = { .size = sizeof(stats) };

	if (uhmm_stats_get(space, &stats))
		errx(1, "no stats");
	return stats;
}

static void migrate(struct uhmm_space *space, struct uhmm_device *device, char *start,
		    size_t nr)
{
	size_t moved = 0;

	if (uhmm_migrate(space, start, nr * PAGE, device, NULL, &moved) || moved != nr)
		errx(1, "only %zu of %zu pages migrated", moved, nr);
}

static void print(const struct row *row, const struct uhmm_stats *before,
		  const struct uhmm_stats *after, size_t nr)
{
	double n = (double)nr, tables, device, memory;

	memory = (double)after->rss_anon_bytes - (double)before->rss_anon_bytes;
	/* The pages themselves have left. */
	memory = memory / n + (double)PAGE;
	device = (double)after->device_bytes_resident / n;
	tables = (double)after->metadata_bytes / n;
	printf("{\"case\": \"%s\", \"pages\": %zu, \"memory\": %.1f, \"device\": %.1f, "
	       "\"tables\": %.1f, \"rest\": %.1f}\n",
	       row->name, nr, memory, device, tables, memory - device - tables);
}

static void measure(const struct row *row, size_t nr)
{
	/* Without a budget spare frames are kept; of this one nothing is reclaimed. */
	struct uhmm_space_config config = { .size = sizeof(config),
					    .delivery = UHMM_DELIVERY_INLINE,
					    .budget_bytes = BUDGETS * nr * PAGE };
	struct uhmm_stats before, after;
	struct uhmm_device *device;
	struct uhmm_space *space;
	struct pages pages;
	size_t i, moved = 0;
	int error;

	if (!pages_map(&pages, nr, row->content))
		err(2, "no memory for %zu pages", nr);
	error = uhmm_space_create(&config, &space);
	if (error)
		errx(77, "cannot create a space: %s", strerror(-error));
	if (uhmm_device_open(space, row->device, &device))
		errx(2, "%s: %s", row->device, uhmm_strerror_spec());
	for (i = 0; i < nr; i++)
		page_fill(&pages, i);
	before = stats_of(space);
	if (row->step == 1) {
		migrate(space, device, pages.base, nr);
		moved = nr;
	}
	for (i = 0; row->step > 1 && i < nr; i += row->step, moved++)
		migrate(space, device, pages.base + i * PAGE, 1);
	after = stats_of(space);
	if (after.now_device != moved)
		errx(1, "%llu pages are on the device, not %zu",
		     (unsigned long long)after.now_device, moved);
	print(row, &before, &after, moved);
	for (i = 0; i < nr; i++)
		if (!page_whole(&pages, i))
			errx(3, "page %zu is wrong", i);
	if (uhmm_space_destroy(space))
		errx(1, "the space was not destroyed");
	pages_unmap(&pages);
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 512, i;

	if (argc > 2 || mib < 2 || mib > 1u << 20)
		errx(2, "usage: bench-metadata [MIB]");
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		measure(&rows[i], mib << 8);
	return 0;
}

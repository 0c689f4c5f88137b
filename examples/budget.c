/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table that is larger than the memory it may take: the space keeps the process at its
 * budget, and the program uses the table as if all of it were there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define MIB ((size_t)1 << 20)
#define TABLE (96 * MIB)
#define NR_ROWS (TABLE / sizeof(struct row))

struct row {
	uint64_t key;
	char text[56];
};

static void fill(struct row *row, uint64_t key)
{
	row->key = key;
	snprintf(row->text, sizeof(row->text), "row %llu of the table",
		 (unsigned long long)key);
}

int main(void)
{
	struct uhmm_space_config config = {
		.size = sizeof(config),
		.delivery = UHMM_DELIVERY_THREAD,
		.budget_bytes = 48 * MIB,
	};
	struct uhmm_stats stats = { .size = sizeof(stats) };
	struct row *table, expected;
	struct uhmm_space *space;
	struct uhmm_device *lz4;
	uint64_t x = 1, i;
	int error;

	error = uhmm_space_create(&config, &space);
	if (error) {
		fprintf(stderr, "cannot create a space: %s\n", strerror(-error));
		return 77;
	}
	if (uhmm_device_open(space, "lz4", &lz4))
		return 1;
	table = mmap(NULL, TABLE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (table == MAP_FAILED)
		return 1;
	/* From now on its cold pages go to lz4 while the process is above its budget. */
	error = uhmm_manage(space, table, TABLE);
	if (error) {
		fprintf(stderr, "cannot manage the table: %s\n", strerror(-error));
		return 1;
	}

	for (i = 0; i < NR_ROWS; i++)
		fill(&table[i], i);
	for (i = 0; i < 20000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		memset(&expected, 0, sizeof(expected));
		fill(&expected, (x >> 33) % NR_ROWS);
		if (table[expected.key].key != expected.key ||
		    strcmp(table[expected.key].text, expected.text) != 0) {
			fprintf(stderr, "row %llu is wrong\n",
				(unsigned long long)expected.key);
			return 1;
		}
	}

	if (uhmm_stats_get(space, &stats))
		return 1;
	printf("table %zu MiB, budget %zu MiB, resident %llu MiB, "
	       "on lz4 %llu MiB in %llu MiB\n",
	       TABLE / MIB, (size_t)config.budget_bytes / MIB,
	       (unsigned long long)(stats.rss_anon_bytes / MIB),
	       (unsigned long long)(stats.device_bytes_in / MIB),
	       (unsigned long long)(stats.device_bytes_resident / MIB));

	/* A mapping that goes away takes its migrated pages along; nothing is loaded. */
	munmap(table, TABLE);
	return uhmm_space_destroy(space) ? 1 : 0;
}

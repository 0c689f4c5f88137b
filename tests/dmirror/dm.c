/* SPDX-License-Identifier: Apache-2.0 */
/* See dm.h. */
#include "dm.h"

#include <fcntl.h>

int dm_open(unsigned number)
{
	char path[] = "/dev/hmm_dmirrorN";
	int fd;

	path[sizeof(path) - 2] = (char)('0' + number);
	fd = open(path, O_RDWR);
	if (fd < 0 && (errno == EPERM || errno == ENOSYS))
		SKIP("userfaultfd cannot be used here: %s", strerror(errno));
	CHECK(fd >= 0);
	return fd;
}

/* ---- calls ------------------------------------------------------------------------ */

int dm_call(int fd, enum dmirror_call call, const void *addr, void *ptr, size_t nr,
	    struct dmirror_cmd *out)
{
	struct dmirror_cmd cmd = { (uintptr_t)addr, (uintptr_t)ptr, nr, 77, 77 };
	int r = ioctl(fd, DMIRROR_CALL(call), &cmd);

	if (out)
		*out = cmd;
	if (r < 0) {
		/* It is given back only with success. */
		CHECK_EQ(cmd.cpages, 77);
		CHECK_EQ(cmd.faults, 77);
		return -errno;
	}
	return r;
}

void dm_read(int fd, const void *addr, void *ptr, size_t nr, unsigned faults)
{
	struct dmirror_cmd cmd;

	CHECK_EQ(dm_call(fd, DMIRROR_READ, addr, ptr, nr, &cmd), 0);
	CHECK_EQ(cmd.cpages, nr);
	CHECK_EQ(cmd.faults, faults);
}

void dm_write(int fd, void *addr, void *ptr, size_t nr, unsigned faults)
{
	struct dmirror_cmd cmd;

	CHECK_EQ(dm_call(fd, DMIRROR_WRITE, addr, ptr, nr, &cmd), 0);
	CHECK_EQ(cmd.cpages, nr);
	CHECK_EQ(cmd.faults, faults);
}

void dm_to_dev(int fd, void *addr, size_t nr, uint64_t key)
{
	char *copy = dm_map(nr);
	struct dmirror_cmd cmd;

	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, addr, copy, nr, &cmd), 0);
	CHECK_EQ(cmd.cpages, nr);
	CHECK_EQ(cmd.faults, 0);
	dm_check(copy, nr, key);
	munmap(copy, nr * PAGE);
}

void dm_to_sys(int fd, void *addr, size_t nr, size_t moved)
{
	struct dmirror_cmd cmd;

	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_SYS, addr, NULL, nr, &cmd), 0);
	CHECK_EQ(cmd.cpages, moved);
}

void dm_snapshot(int fd, const void *addr, size_t nr, unsigned prot)
{
	unsigned char *m = malloc(nr);
	struct dmirror_cmd cmd;
	size_t i;

	CHECK(m);
	CHECK_EQ(dm_call(fd, DMIRROR_SNAPSHOT, addr, m, nr, &cmd), 0);
	CHECK_EQ(cmd.cpages, nr);
	for (i = 0; i < nr; i++)
		CHECK((m[i] == DMIRROR_PROT_ERROR ? m[i] : m[i] & ~DMIRROR_PROT_PMD) ==
			      prot,
		      "page %zu of %zu is %02x, not %02x", i, nr, m[i], prot);
	free(m);
}

unsigned dm_local(unsigned number)
{
	return DMIRROR_PROT_WRITE | (number == COHERENT ? DMIRROR_PROT_COHERENT_LOCAL :
							  DMIRROR_PROT_PRIVATE_LOCAL);
}

/* ---- memory ----------------------------------------------------------------------- */

char *dm_map(size_t nr)
{
	size_t len = nr * PAGE, all = len + 3 * FOLIO;
	char *base = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p;

	CHECK(base != MAP_FAILED);
	p = (char *)(((uintptr_t)base + 2 * FOLIO - 1) & ~(FOLIO - 1));
	CHECK_EQ(mprotect(p, len, PROT_READ | PROT_WRITE), 0);
	return p;
}

void dm_fill(void *p, size_t nr, uint64_t key)
{
	size_t i;

	for (i = 0; i < nr; i++)
		stamp_fill((char *)p + i * PAGE, key + i);
}

void dm_check(const void *p, size_t nr, uint64_t key)
{
	size_t i, word;

	for (i = 0; i < nr; i++) {
		word = stamp_check((const char *)p + i * PAGE, key + i);
		CHECK(word == PAGE_WORDS, "page %zu of %zu, key %ju, word %zu", i, nr,
		      (uintmax_t)(key + i), word);
	}
}

long dm_smaps_kib(const void *p, const char *field)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false;
	char line[512];
	long kib = -1;

	CHECK(f);
	while (kib < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)p >= start && (uintptr_t)p < end;
		else if (here && !strncmp(line, field, strlen(field)))
			kib = atol(line + strlen(field));
	}
	fclose(f);
	CHECK(kib >= 0, "%s of %p", field, p);
	return kib;
}

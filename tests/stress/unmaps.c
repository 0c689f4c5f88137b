/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unmaps -m MIB: a program that unmaps what it does not know.
 *
 * Each mapping of a file that is not the program, libc or the dynamic linker is unmapped,
 * write-protected and moved, page by page: when the program begins, when it has filled
 * MIB, and in a child. Then all is as it was.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stamp.h"

#define MAPPINGS 256

struct mapping {
	char *start, *end;
};

static bool known(const char *name)
{
	return name[0] != '/' || strstr(name, "/unmaps") || strstr(name, "/libc.so") ||
	       strstr(name, "/libc-") || strstr(name, "/ld-linux");
}

/* All are found before any is taken away: stdio is not to be in the way. */
static void unmap_strangers(void)
{
	static struct mapping found[MAPPINGS];
	char line[512], name[512];
	unsigned nr = 0;
	FILE *file = fopen("/proc/self/maps", "re");

	if (!file)
		exit(1);
	while (nr < MAPPINGS && fgets(line, sizeof(line), file)) {
		name[0] = 0;
		if (sscanf(line, "%p-%p %*s %*s %*s %*s %511s", (void **)&found[nr].start,
			   (void **)&found[nr].end, name) == 3 &&
		    !known(name))
			nr++;
	}
	fclose(file);
	while (nr--) {
		for (char *at = found[nr].start; at < found[nr].end; at += PAGE) {
			mprotect(at, PAGE, PROT_NONE);
			mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			       found[nr].start - PAGE);
			munmap(at, PAGE);
		}
	}
}

static uint64_t sum(const uint64_t *p, size_t nr)
{
	uint64_t s = 0;

	for (size_t i = 0; i < nr; i++)
		s = s * 31 + p[i];
	return s;
}

static void fill(uint64_t *p, size_t nr, uint64_t key)
{
	for (size_t i = 0; i < nr; i++)
		p[i] = mix64(key + i / 16);
}

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoull(argv[2], NULL, 10) * MIB / sizeof(uint64_t) : 0;
	uint64_t *p;
	int status = 0;
	pid_t pid;

	if (!nr) {
		fputs("usage: unmaps -m MIB\n", stderr);
		return 2;
	}
	unmap_strangers();
	p = malloc(nr * sizeof(*p));
	if (!p)
		return 1;
	fill(p, nr, 1);
	printf("sum %016llx\n", (unsigned long long)sum(p, nr));
	unmap_strangers();
	printf("sum %016llx\n", (unsigned long long)sum(p, nr));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		unmap_strangers();
		fill(p, nr / 4, 2);
		printf("child: sum %016llx\n", (unsigned long long)sum(p, nr));
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	printf("child: status %x\n", status);
	printf("sum %016llx\n", (unsigned long long)sum(p, nr));
	return 0;
}

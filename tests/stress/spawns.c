/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawns [-n TIMES] [-m MIB]: fork and exec, TIMES each, from a process that holds MIB.
 *
 * In turn fork + _exit, fork + exec, vfork + exec. For the cost of starting processes:
 * the MIB are written before, and a word of them is checked in each forked child.
 * Prints how many children ended well.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stamp.h"

static char *data;

static pid_t spawn(int n, size_t pages)
{
	pid_t pid = n % 3 == 2 ? vfork() : fork();

	if (pid != 0)
		return pid;
	if (n % 3 != 2) {
		size_t at = (size_t)n * 7919 % pages;

		if (*(volatile uint64_t *)(data + at * PAGE) != stamp_word(at + 1, 0))
			_exit(1);
	}
	if (n % 3)
		execl("/bin/true", "true", (char *)NULL);
	_exit(n % 3 ? 127 : 0);
}

int main(int argc, char **argv)
{
	size_t pages = 32 * MIB / PAGE;
	int o, nr = 600, good = 0;

	while ((o = getopt(argc, argv, "n:m:")) != -1) {
		if (o == 'n')
			nr = atoi(optarg);
		else if (o == 'm')
			pages = strtoull(optarg, NULL, 10) * MIB / PAGE;
		else
			return 2;
	}
	data = malloc(pages * PAGE);
	if (!data) {
		perror("spawns: malloc");
		return 1;
	}
	for (size_t i = 0; i < pages; i++)
		stamp_fill(data + i * PAGE, i + 1);
	for (int n = 0; n < nr; n++) {
		pid_t pid = spawn(n, pages);
		int status;

		if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
			good++;
	}
	printf("%d of %d\n", good, nr);
	return good != nr;
}

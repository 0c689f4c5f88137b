/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records which pages a program touches: runs it under valgrind's lackey and reads what
 * that prints, one line for each access. Kept is what uhmm would have to do with: private
 * anonymous memory, as /proc/PID/maps says when a page is first seen.
 *
 * A touch of one of the pages that were touched last (--near of them) is left out: no
 * policy with room for many more of them would have taken that page away, and what is
 * left is bounded. A reader that simulates memories not much larger than --near pages
 * would be misled.
 *
 *	record --near=32 OUT -- PROGRAM ARG...      OUT: page numbers, 64 bits each
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_SHIFT 12
#define MAX_NEAR 256u
#define AREAS 4096u
#define SEEN_BITS 20
#define PIPE_SIZE (1 << 20)

struct area {
	uint64_t start, end; /* pages */
};

static struct area area[AREAS];
static unsigned nr_areas;

/* Pages seen, and whether they are kept: open addressing; 0 is free. */
static uint64_t seen[1u << SEEN_BITS];
static unsigned nr_seen;

static uint64_t near[MAX_NEAR]; /* the latest first */
static unsigned nr_near, max_near = 32;

static void read_areas(pid_t pid)
{
	char name[64], line[512], perms[8];
	uint64_t start, end, offset, inode;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/maps", (int)pid);
	f = fopen(name, "r");
	nr_areas = 0;
	while (f && nr_areas < AREAS && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64,
			   &start, &end, perms, &offset, &inode) != 5)
			continue;
		if (!inode && perms[1] == 'w' && perms[3] == 'p')
			area[nr_areas++] = (struct area){ start >> PAGE_SHIFT,
							  end >> PAGE_SHIFT };
	}
	if (f)
		fclose(f);
}

static bool in_areas(uint64_t page)
{
	unsigned i;

	for (i = 0; i < nr_areas; i++)
		if (page >= area[i].start && page < area[i].end)
			return true;
	return false;
}

static bool is_kept(pid_t pid, uint64_t page)
{
	uint64_t mask = (UINT64_C(1) << SEEN_BITS) - 1;
	uint64_t i = page * UINT64_C(0x9e3779b97f4a7c15) >> (64 - SEEN_BITS);

	for (; seen[i]; i = (i + 1) & mask)
		if (seen[i] >> 1 == page)
			return seen[i] & 1;
	if (++nr_seen > mask / 2)
		errx(1, "too many pages");
	if (!in_areas(page))
		read_areas(pid);
	seen[i] = page << 1 | in_areas(page);
	return seen[i] & 1;
}

/* Was it touched just now? */
static bool is_near(uint64_t page)
{
	unsigned i;

	for (i = 0; i < nr_near && near[i] != page; i++)
		;
	if (i < nr_near) {
		memmove(near + 1, near, i * sizeof(near[0]));
		near[0] = page;
		return true;
	}
	if (nr_near < max_near)
		nr_near++;
	memmove(near + 1, near, (nr_near - 1) * sizeof(near[0]));
	near[0] = page;
	return false;
}

static void touch(pid_t pid, uint64_t page, FILE *out)
{
	if (nr_near && near[0] == page)
		return;
	if (is_kept(pid, page) && !is_near(page))
		fwrite(&page, sizeof(page), 1, out);
}

/* " L 1ffeffe7e8,8"; S and M as well. */
static void read_line(pid_t pid, const char *line, FILE *out)
{
	uint64_t addr, last;
	char *end;

	if (line[0] != ' ' || (line[1] != 'L' && line[1] != 'S' && line[1] != 'M'))
		return;
	addr = strtoull(line + 3, &end, 16);
	last = addr + strtoull(end + 1, NULL, 10) - 1;
	touch(pid, addr >> PAGE_SHIFT, out);
	if (last >> PAGE_SHIFT != addr >> PAGE_SHIFT)
		touch(pid, last >> PAGE_SHIFT, out);
}

/* The pipe is let fill up: to be woken for each line would take most of the time. */
static void follow(pid_t pid, int in, FILE *out)
{
	static char buf[PIPE_SIZE + 1];
	size_t have = 0;
	char *line, *end;
	ssize_t n;

	while ((n = read(in, buf + have, PIPE_SIZE - have)) > 0) {
		have += (size_t)n;
		buf[have] = 0;
		for (line = buf; (end = strchr(line, '\n')); line = end + 1)
			read_line(pid, line, out);
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (n < PIPE_SIZE / 2)
			usleep(2000);
	}
}

static pid_t start(char **program, int nr, int *lines)
{
	char log[32];
	char **argv = calloc((size_t)nr + 5, sizeof(*argv));
	int ends[2];
	pid_t pid;

	if (!argv || pipe(ends))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		close(ends[0]);
		snprintf(log, sizeof(log), "--log-fd=%d", ends[1]);
		argv[0] = "valgrind";
		argv[1] = "--tool=lackey";
		argv[2] = "--trace-mem=yes";
		argv[3] = log;
		memcpy(argv + 4, program, (size_t)nr * sizeof(*argv));
		execvp("valgrind", argv);
		err(127, "valgrind");
	}
	free(argv);
	close(ends[1]);
	fcntl(ends[0], F_SETPIPE_SZ, PIPE_SIZE);
	*lines = ends[0];
	return pid;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "near", required_argument, NULL, 'n' },
		{ 0 },
	};
	int c, status, lines;
	FILE *out;
	pid_t pid;

	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c != 'n')
			return 2;
		max_near = (unsigned)strtoul(optarg, NULL, 10);
	}
	if (argc - optind < 2 || !max_near || max_near > MAX_NEAR)
		errx(2, "usage: record [--near=1..%u] OUT -- PROGRAM ARG...", MAX_NEAR);
	out = fopen(argv[optind++], "wb");
	if (!out)
		err(1, "%s", argv[optind - 1]);
	if (strcmp(argv[optind], "--") == 0)
		optind++;
	pid = start(argv + optind, argc - optind, &lines);
	follow(pid, lines, out);
	if (fclose(out))
		err(1, "writing");
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s: status %d", argv[optind], status);
	return 0;
}

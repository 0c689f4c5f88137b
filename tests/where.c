/* SPDX-License-Identifier: Apache-2.0 */
/* Where the threads of a process group are: what a test that hangs leaves behind. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

/* The first line of a file in /proc, without its end. */
static const char *first_line(const char *folder, const char *name, char line[256])
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	line[0] = 0;
	f = fopen(path, "re");
	if (!f)
		return line;
	if (!fgets(line, 256, f))
		line[0] = 0;
	line[strcspn(line, "\n")] = 0;
	fclose(f);
	return line;
}

/* The mapping of a place in a program's text, and how far into the file it is. */
static void print_place(FILE *out, const char *folder, uint64_t pc)
{
	uint64_t start, end, offset;
	char path[128], line[512];
	int name;
	FILE *f;

	snprintf(path, sizeof(path), "%s/maps", folder);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %n",
			   &start, &end, &offset, &name) < 3 ||
		    pc < start || pc >= end)
			continue;
		line[strcspn(line, "\n")] = 0;
		fprintf(out, " at %s+0x%" PRIx64, line + name, pc - start + offset);
		break;
	}
	if (f)
		fclose(f);
}

static void print_thread(FILE *out, const char *folder, const char *tid)
{
	char at[96], line[256];
	const char *pc;

	snprintf(at, sizeof(at), "%s/task/%.16s", folder, tid);
	fprintf(out, "  %s %s:", tid, first_line(at, "comm", line));
	fprintf(out, " %s", first_line(at, "wchan", line));
	/* Number and arguments, stack pointer and place; or "running". */
	fprintf(out, " [%s]", first_line(at, "syscall", line));
	pc = strrchr(line, ' ');
	if (pc)
		print_place(out, at, strtoull(pc, NULL, 16));
	fprintf(out, "\n");
}

void test_where(FILE *out, pid_t group)
{
	struct dirent *proc, *task;
	char folder[32], path[96], line[256];
	int of;
	DIR *all, *tasks;

	all = opendir("/proc");
	while (all && (proc = readdir(all))) {
		snprintf(folder, sizeof(folder), "/proc/%.16s", proc->d_name);
		if (proc->d_name[0] < '1' || proc->d_name[0] > '9' ||
		    sscanf(strrchr(first_line(folder, "stat", line), ')') ?: ")",
			   ") %*c %*d %d", &of) != 1 ||
		    of != group)
			continue;
		fprintf(out, "process %s:\n", proc->d_name);
		snprintf(path, sizeof(path), "%s/task", folder);
		tasks = opendir(path);
		while (tasks && (task = readdir(tasks)))
			if (task->d_name[0] != '.')
				print_thread(out, folder, task->d_name);
		if (tasks)
			closedir(tasks);
	}
	if (all)
		closedir(all);
}

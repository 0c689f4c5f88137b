/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of the tree that did not load uhmm.
 *
 * A program that is statically linked, that another user runs, or that was started with
 * an environment of its own is neither migrated nor counted. That must not go unsaid: who
 * has typed --memory thinks of all that runs. So the supervisor looks for such processes
 * now and then, tells of those that are large enough to matter, and adds up what they
 * hold for the summary.
 *
 * A process is ours if its environment names our segment, or if its parent is one of ours
 * (who clears the environment) or the program. It is a stray if it has no slot, or one
 * that it claimed as another program. So has a process between fork or exec and the start
 * of its keeper; therefore it must be seen twice. Those that end before that, or whose
 * parent ends and that cleared the environment, are not seen.
 *
 * What is known of each process of the machine is kept from one look to the next, so that
 * its environment is read once. A look costs some microseconds for each process; the time
 * between two grows with that. One thread, the supervisor's.
 */
#include "tree.h"

#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/policy.h"

/* Between two looks: short at first, for programs that are soon gone. */
#define REST_MIN_NS UINT64_C(250000000)
#define REST_MAX_NS UINT64_C(1000000000)
/* The same, in units of the time that a look takes. */
#define REST 100
/* Looks that must find a process without a slot. */
#define SEEN 2
/* Parents followed upwards: deeper trees are not ours. */
#define DEPTH_MAX 256
/* Environments are at most 128 KiB a string; those that are longer in all are cut. */
#define ENVIRON_MAX (256 * 1024)

enum kind {
	KIND_OTHER,
	KIND_NAMED,     /* its environment names our segment */
	KIND_ELSEWHERE, /* another run's, within ours */
};

struct process {
	uint32_t pid, parent;
	uint64_t start; /* with pid: which process it is */
	enum kind kind;
	unsigned seen; /* times that it was a stray */
	char name[16];
};

struct tree_strays {
	uint64_t due_ns, rest_ns;
	uint32_t program;
	struct process *list; /* by pid */
	size_t nr, room;
	char environ[ENVIRON_MAX];
	uint32_t slot_pid[CTL_SLOTS], nr_slots; /* who has one, sorted */
	/* what came of it */
	uint64_t processes;
	int64_t peak_pages;
};

/* ---- one process ------------------------------------------------------------------- */

/* False: it has gone, or is a zombie. */
static bool read_stat(struct process *process)
{
	char path[64], text[1024], state, *open, *close;
	unsigned long long start;

	snprintf(path, sizeof(path), "/proc/%u/stat", process->pid);
	if (probe_read(path, text, sizeof(text)))
		return false;
	open = strchr(text, '(');
	close = strrchr(text, ')');
	if (!open || !close ||
	    sscanf(close + 1,
		   " %c %u %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
		   "%*d %*d %llu",
		   &state, &process->parent, &start) != 3)
		return false;
	*close = 0;
	snprintf(process->name, sizeof(process->name), "%s", open + 1);
	process->start = start;
	return state != 'Z' && state != 'X';
}

static enum kind read_kind(struct tree *tree, uint32_t pid)
{
	static const char name[] = CTL_ENV "=";
	struct tree_strays *s = tree->strays;
	size_t len = 0, at = 0;
	char path[64];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/environ", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && len < sizeof(s->environ) - 1 &&
	       (n = read(fd, s->environ + len, sizeof(s->environ) - 1 - len)) > 0)
		len += (size_t)n;
	if (fd >= 0)
		close(fd);
	s->environ[len] = 0;
	for (; at < len; at += strlen(s->environ + at) + 1)
		if (!strncmp(s->environ + at, name, sizeof(name) - 1))
			return strcmp(s->environ + at + sizeof(name) - 1, tree->path) ?
				       KIND_ELSEWHERE :
				       KIND_NAMED;
	return KIND_OTHER;
}

static int64_t read_pages(uint32_t pid)
{
	long size, resident, shared;
	char path[64], text[128];

	snprintf(path, sizeof(path), "/proc/%u/statm", pid);
	if (probe_read(path, text, sizeof(text)) ||
	    sscanf(text, "%ld %ld %ld", &size, &resident, &shared) != 3)
		return 0;
	return resident > shared ? resident - shared : 0;
}

/* ---- all of them ------------------------------------------------------------------- */

static struct process *find(const struct tree_strays *s, uint32_t pid)
{
	size_t lo = 0, hi = s->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->list[mid].pid < pid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->nr && s->list[lo].pid == pid ? &s->list[lo] : NULL;
}

static int by_pid(const void *a, const void *b)
{
	const struct process *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

/* Adds a process to a list that grows. False: no memory. */
static bool add(struct process **list, size_t *nr, size_t *room,
		const struct process *process)
{
	size_t more = *nr < *room ? *room : *room * 2 + 256;
	struct process *grown = *list;

	if (more != *room)
		grown = realloc(*list, more * sizeof(*grown));
	if (!grown)
		return false;
	*list = grown;
	*room = more;
	grown[(*nr)++] = *process;
	return true;
}

/* Lists all processes anew, with what was known of them. */
static void list_all(struct tree *tree)
{
	struct tree_strays *s = tree->strays;
	struct process *list = NULL, *known;
	size_t nr = 0, room = 0;
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	while (dir && (entry = readdir(dir))) {
		struct process process = { .pid = (uint32_t)atoi(entry->d_name) };

		if (!process.pid || !read_stat(&process))
			continue;
		known = find(s, process.pid);
		if (known && known->start == process.start) {
			process.kind = known->kind;
			process.seen = known->seen;
		} else {
			process.kind = read_kind(tree, process.pid);
		}
		if (!add(&list, &nr, &room, &process))
			break;
	}
	if (dir)
		closedir(dir);
	if (list)
		qsort(list, nr, sizeof(*list), by_pid);
	free(s->list);
	s->list = list;
	s->nr = nr;
	s->room = room;
}

static bool is_ours(const struct tree_strays *s, const struct process *process)
{
	for (int depth = 0; process && depth < DEPTH_MAX; depth++) {
		if (process->kind != KIND_OTHER || process->pid == s->program)
			return process->kind != KIND_ELSEWHERE;
		process = find(s, process->parent);
	}
	return false;
}

static int by_number(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * Is who claimed the slot still there, or has it executed something that knows nothing of
 * it? It has a keeper, or opens the door; or it is known that it has neither.
 */
static bool is_held(const struct ctl_slot *slot, uint32_t pid)
{
	uint64_t at = CTL_LOAD(&slot->door);
	struct ctl_door door = { 0 };
	struct iovec here = { &door, sizeof(door) }, there = { (void *)at, sizeof(door) };

	if (CTL_LOAD(&slot->managed) || CTL_LOAD(&slot->writer))
		return true;
	if (!at)
		return false;
	if (process_vm_readv((pid_t)pid, &here, 1, &there, 1, 0) < 0)
		return errno == EPERM;
	return door.magic == CTL_DOOR_MAGIC;
}

static void list_slots(struct tree *tree)
{
	struct tree_strays *s = tree->strays;
	uint32_t nr = CTL_LOAD(&tree->ctl->nr_slots);

	s->nr_slots = 0;
	for (uint32_t i = 0; i < nr && i < CTL_SLOTS; i++) {
		uint32_t pid = CTL_LOAD(&tree->ctl->slot[i].pid);

		if (pid && pid != CTL_PID_FOLDING && is_held(&tree->ctl->slot[i], pid))
			s->slot_pid[s->nr_slots++] = pid;
	}
	qsort(s->slot_pid, s->nr_slots, sizeof(uint32_t), by_number);
}

static bool has_slot(const struct tree_strays *s, uint32_t pid)
{
	return bsearch(&pid, s->slot_pid, s->nr_slots, sizeof(pid), by_number);
}

/* ---- what the user is told --------------------------------------------------------- */

static const char *reason(struct tree *tree, const struct process *process)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%u", process->pid);
	if (stat(path, &st) == 0 && st.st_uid != geteuid())
		return "it runs as another user";
	/* It may have executed another program since it was first seen. */
	if (read_kind(tree, process->pid) == KIND_OTHER)
		return "it was started with an environment of its own";
	return "it is statically linked, 32-bit, setuid, in another pid namespace, "
	       "made by a raw clone, or by a process with a seccomp filter";
}

static void tell(struct tree *tree, const struct process *process)
{
	char text[CTL_MESSAGE_MAX - 8];

	snprintf(text, sizeof(text), "%s is neither migrated nor counted: %s",
		 process->name, reason(tree, process));
	ctl_message_put(tree->ctl, process->pid, text);
}

static void look(struct tree *tree)
{
	struct tree_strays *s = tree->strays;
	struct watermarks wm;
	int64_t sum = 0;

	policy_watermarks((int64_t)tree->ctl->budget_pages, false, &wm);
	list_all(tree);
	list_slots(tree);
	for (size_t i = 0; i < s->nr; i++) {
		struct process *process = &s->list[i];
		int64_t pages;

		if (!is_ours(s, process) || has_slot(s, process->pid))
			continue;
		pages = read_pages(process->pid);
		/* What is so small would be left alone in any case. */
		if (pages <= wm.floor && process->seen < SEEN)
			continue;
		if (process->seen < SEEN && ++process->seen == SEEN) {
			s->processes++;
			tell(tree, process);
		}
		sum += process->seen == SEEN ? pages : 0;
	}
	if (sum > s->peak_pages)
		s->peak_pages = sum;
}

void tree_strays_start(struct tree *tree, uint32_t program)
{
	tree->strays = calloc(1, sizeof(*tree->strays));
	if (!tree->strays)
		return;
	tree->strays->program = program;
	tree->strays->rest_ns = REST_MIN_NS;
	tree->strays->due_ns = monotonic_ns() + REST_MIN_NS;
}

void tree_strays_look(struct tree *tree)
{
	struct tree_strays *s = tree->strays;
	uint64_t now = monotonic_ns(), cost;

	if (!s || now < s->due_ns)
		return;
	/* What it waits for a processor, on a busy machine, is not its price. */
	cost = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	look(tree);
	cost = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cost;
	s->rest_ns = s->rest_ns * 2 < REST_MAX_NS ? s->rest_ns * 2 : REST_MAX_NS;
	s->due_ns = now + (cost * REST > s->rest_ns ? cost * REST : s->rest_ns);
}

uint64_t tree_strays(const struct tree *tree, int64_t *peak_pages)
{
	*peak_pages = tree->strays ? tree->strays->peak_pages : 0;
	return tree->strays ? tree->strays->processes : 0;
}

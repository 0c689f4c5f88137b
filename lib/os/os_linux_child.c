/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children: whom a thread has made, and which of them is the one whose userfaultfd we
 * have. The kernel lists a thread's children, oldest first, in
 * /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN); and says in /proc/PID/pagemap which
 * pages a process has, to who may look at it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

/* Of the children of a thread, those that are looked at: it makes one after another. */
#define NEWEST 64u

/* The folder of a process's threads; pid 0: of this one. */
static void threads_of(struct os_path *path, uint32_t pid)
{
	path->len = 0;
	if (pid)
		os_linux_path_of(path, pid, "task");
	else
		os_linux_path_add(path, "/proc/self/task");
}

/*
 * Calls fn for each child of a thread, whose folder `path` ends with, until it returns
 * false. -errno: there is no such list.
 */
static int for_each_child(struct os_path *path, uint32_t tid,
			  bool (*fn)(void *ctx, uint32_t child), void *ctx)
{
	unsigned len = path->len;
	uint32_t number = 0;
	bool more = true;
	char buf[512];
	long n, i;
	int fd;

	os_linux_path_add(path, "/");
	os_linux_path_add_number(path, tid);
	os_linux_path_add(path, "/children");
	fd = os_linux_open_self(path->text, 0);
	path->len = len;
	if (fd < 0)
		return fd;
	/* "12 345 6789 " */
	while (more && (n = sys3(SYS_read, fd, buf, sizeof(buf))) > 0)
		for (i = 0; i < n && more; i++) {
			if (buf[i] == ' ') {
				more = fn(ctx, number);
				number = 0;
			} else {
				number = number * 10 + (uint32_t)(buf[i] - '0');
			}
		}
	os_close(fd);
	return 0;
}

struct wanted {
	uint32_t pid;
	bool found;
};

static bool is_other(void *ctx, uint32_t child)
{
	struct wanted *wanted = ctx;

	wanted->found = child == wanted->pid;
	return !wanted->found;
}

bool os_is_child_of(uint32_t maker, uint32_t child)
{
	struct wanted wanted = { .pid = child };
	struct os_path path;

	threads_of(&path, 0);
	return for_each_child(&path, maker, is_other, &wanted) || wanted.found;
}

/* ---- the one that has certain pages ----------------------------------------------- */

struct newest {
	uint32_t pid[NEWEST];
	uint64_t nr; /* pid[nr % NEWEST] is the oldest, or none */
};

static bool note(void *ctx, uint32_t child)
{
	struct newest *newest = ctx;

	newest->pid[newest->nr++ % NEWEST] = child;
	return true;
}

/* Which of OS_NAME_PAGES pages from addr on a process has; -errno: nobody tells. */
static int look_at(uint32_t pid, uintptr_t addr, uint64_t *present)
{
	uint64_t entry[OS_NAME_PAGES];
	struct os_path path;
	long n;
	int fd;
	unsigned i;

	os_linux_path_of(&path, pid, "pagemap");
	fd = os_linux_open_self(path.text, 0);
	if (fd < 0)
		return fd;
	n = sys4(SYS_pread64, fd, entry, sizeof(entry),
		 (long)(addr / OS_PAGE_SIZE * sizeof(*entry)));
	os_close(fd);
	*present = 0;
	for (i = 0; n == (long)sizeof(entry) && i < OS_NAME_PAGES; i++)
		*present |= (entry[i] >> 63) << i;
	return 0;
}

struct search {
	uintptr_t addr;
	uint64_t name, inherited;
	struct os_path threads;
	struct newest newest;
	uint32_t found;
	int error; /* of what could not be looked at */
};

/* Its maker may have had a part of its own name when it was copied. */
static bool has_name(const struct search *search, uint64_t present)
{
	return (present & search->name) == search->name &&
	       !(present & ~(search->name | search->inherited));
}

/* The youngest of a thread's children that has the name; 0: go on. */
static int search_thread(void *ctx, uint32_t tid)
{
	struct search *search = ctx;
	struct newest *newest = &search->newest;
	uint64_t present, i;
	int r;

	newest->nr = 0;
	r = for_each_child(&search->threads, tid, note, newest);
	if (r && r != -ESRCH)
		search->error = r;
	for (i = 0; i < newest->nr && i < NEWEST; i++) {
		uint32_t pid = newest->pid[(newest->nr - 1 - i) % NEWEST];

		r = look_at(pid, search->addr, &present);
		if (r && r != -ENOENT && r != -ESRCH)
			search->error = r;
		if (r == 0 && has_name(search, present)) {
			search->found = pid;
			return 1;
		}
	}
	return 0;
}

int64_t os_find_child(uint32_t maker, uintptr_t addr, uint64_t name, uint64_t inherited)
{
	struct search search = { .addr = addr, .name = name, .inherited = inherited };
	int r;

	threads_of(&search.threads, maker);
	r = os_linux_for_each_number(search.threads.text, search_thread, &search);
	if (r < 0)
		return r;
	return search.found ? (int64_t)search.found : search.error;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes: a child has its own copy of what is on devices, opens devices itself, and
 * cannot reach its parent by a descriptor that it inherited.
 */
#include "dm.h"

#include <dirent.h>
#include <sys/wait.h>

#define NR 64u

/* See tests/system/api.h: fork() of a process with a space. */
static const char *cannot_fork(void)
{
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
	return "ThreadSanitizer stops the library's threads during fork()";
#else
	return NULL;
#endif
}

static void expect(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}

/*
 * AddressSanitizer's runtime (gcc 12) does not let go of its locks in a forked child: the
 * library's threads have begun before anybody forks, and then they have their names.
 */
static bool threads_have_begun(void)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;
	char path[300], name[32] = "";
	unsigned n = 0;
	FILE *f;

	CHECK(dir);
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		f = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (f && fgets(name, sizeof(name), f))
			n += !strncmp(name, "uhmm-", 5);
		if (f)
			fclose(f);
	}
	closedir(dir);
	return n >= 2;
}

static int open_and_fork(unsigned number)
{
	int fd = dm_open(number), tries = 0;

	while (!threads_have_begun() && tries++ < 5000)
		usleep(1000);
	return fd;
}

#define FORKS()                                                                          \
	do {                                                                             \
		if (cannot_fork())                                                       \
			SKIP("%s", cannot_fork());                                       \
	} while (0)

/* As the kernel's harness does it: nobody has opened anything yet. */
DM_TEST(children_of_a_process_that_has_opened_nothing)
{
	pid_t pids[3];
	int i;

	for (i = 0; i < 3; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			int fd = dm_open(number);
			char *p = dm_map(NR);

			dm_fill(p, NR, 1 + i);
			dm_to_dev(fd, p, NR, 1 + i);
			dm_check(p, NR, 1 + i);
			_exit(0);
		}
	}
	for (i = 0; i < 3; i++)
		expect(pids[i]);
}

DM_TEST(a_child_has_what_is_on_the_device)
{
	char *p = dm_map(NR), *q = dm_map(NR);
	int fd;
	pid_t pid;

	FORKS();
	fd = open_and_fork(number);
	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	pid = fork();
	if (!pid) {
		int own = dm_open(number);

		dm_read(own, p, q, NR, 1);
		dm_check(q, NR, 1);
		dm_fill(q, NR, 100);
		/* A private device's memory was copied, a coherent one's is shared. */
		dm_write(own, p, q, NR, number == COHERENT);
		dm_check(p, NR, 100);
		dm_to_dev(own, p, NR, 100);
		CHECK_EQ(close(own), 0);
		dm_snapshot(dm_open(number), p, NR, DMIRROR_PROT_WRITE);
		dm_check(p, NR, 100);
		_exit(0);
	}
	expect(pid);
	dm_read(fd, p, q, NR, 1);
	dm_check(q, NR, 1);
	dm_check(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
}

DM_TEST(an_inherited_descriptor_mirrors_nothing)
{
	char *p = dm_map(NR), *q = dm_map(NR);
	int fd;
	pid_t pid;

	FORKS();
	fd = open_and_fork(number);
	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	pid = fork();
	if (!pid) {
		CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, NR, NULL), -EFAULT);
		CHECK_EQ(dm_call(fd, DMIRROR_WRITE, p, q, NR, NULL), -EFAULT);
		CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, NR, NULL), -EINVAL);
		CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_SYS, p, q, NR, NULL), -EINVAL);
		CHECK_EQ(dm_call(fd, DMIRROR_SNAPSHOT, p, q, NR, NULL), -EINVAL);
		CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, q, NR, NULL), -EINVAL);
		CHECK_EQ(close(fd), 0);
		CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, NR, NULL), -EBADF);
		dm_check(p, NR, 1);
		_exit(0);
	}
	expect(pid);
	/* Of a coherent page nobody knows whether it is the one that was there. */
	dm_snapshot(fd, p, NR, number == PRIVATE ? dm_local(number) : DMIRROR_PROT_WRITE);
	dm_check(p, NR, 1);
}

DM_TEST(both_write_after_a_fork)
{
	char *p = dm_map(NR);
	int fd, kind;
	pid_t pid;

	FORKS();
	fd = open_and_fork(number);
	for (kind = 0; kind < 3; kind++) {
		dm_fill(p, NR, 1);
		if (kind == 1)
			dm_to_dev(fd, p, NR, 1);
		if (kind == 2)
			CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, dm_map(NR), NR, NULL),
				 0);
		pid = fork();
		if (!pid) {
			dm_check(p, NR, 1);
			dm_fill(p, NR, 100);
			dm_check(p, NR, 100);
			_exit(0);
		}
		dm_check(p, NR, 1);
		dm_fill(p, NR, 200);
		expect(pid);
		dm_check(p, NR, 200);
		dm_snapshot(fd, p, NR, DMIRROR_PROT_WRITE);
	}
}

DM_TEST(generations)
{
	char *p = dm_map(NR);
	int depth, fd;
	pid_t pid;

	FORKS();
	fd = open_and_fork(number);
	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	for (depth = 0; depth < 4; depth++) {
		pid = fork();
		if (pid) {
			expect(pid);
			dm_check(p, NR, 1 + depth);
			if (depth)
				_exit(0);
			return;
		}
		fd = open_and_fork(number);
		dm_check(p, NR, 1 + depth);
		dm_fill(p, NR, 2 + depth);
		dm_to_dev(fd, p, NR, 2 + depth);
	}
	_exit(0);
}

DM_TEST(what_is_executed_finds_the_devices_shut)
{
	static char name[] = "true";
	char *argv[] = { name, NULL }, *p = dm_map(NR);
	int fd;
	pid_t pid;

	FORKS();
	fd = open_and_fork(number);
	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	pid = vfork();
	if (!pid) {
		/* It has the parent's memory: what it closes stays open there. */
		close(fd);
		execvp(argv[0], argv);
		_exit(99);
	}
	expect(pid);
	dm_snapshot(fd, p, NR, dm_local(number));
}

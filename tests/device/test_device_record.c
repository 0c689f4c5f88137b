/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in which layers tell what they saw: nobody comes to harm by them, whatever
 * becomes of the file, and no other file does.
 */
#define _GNU_SOURCE
#include "tests/device/subject.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/host.h"
#include "tests/device/folder.h"

static uint8_t page[PAGE] __attribute__((aligned(4096)));

static const char *spec_of(const char *layer)
{
	static char spec[256];

	snprintf(spec, sizeof(spec), "%s:to=%s/r+ram", layer, folder());
	return spec;
}

static void use(struct uhmm_device *dev)
{
	struct uhmm_io io = { .buf = page, .len = PAGE };

	CHECK_EQ(device_run(dev, UHMM_OP_STORE, &io, 1), 0);
	CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io, 1), 0);
	CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io, 1), 0);
}

static bool is_there(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

static const char *mine(void)
{
	return folder_file("r", getpid());
}

/* The file that this process has. */
static bool file_says(const char *text)
{
	size_t len;
	char *all = folder_read("r", getpid(), &len);
	bool says = strstr(all, text);

	free(all);
	return says;
}

static const char *const layers[] = { "log", "stats" };
#define EACH_LAYER(i_)                                                                   \
	(i_) = 0;                                                                        \
	(i_) < sizeof(layers) / sizeof(layers[0]);                                       \
	(i_)++

/* ---- names ------------------------------------------------------------------------ */

TEST(what_was_there_stays)
{
	char first[PATH_MAX], second[PATH_MAX + 2];
	struct uhmm_device *dev, *other;
	uint32_t i;

	for (EACH_LAYER(i)) {
		snprintf(first, sizeof(first), "%s", mine());
		snprintf(second, sizeof(second), "%s.2", first);
		CHECK_EQ(symlink("elsewhere", first), 0);
		dev = open_spec(spec_of(layers[i]));
		CHECK(is_there(second));
		/* Two at the same time, and a third. */
		CHECK_EQ(unlink(first), 0);
		other = open_spec(spec_of(layers[i]));
		CHECK(is_there(first));
		use(dev);
		device_close(other);
		device_close(dev);
		/* One was used. */
		CHECK(!is_there(first));
		CHECK(is_there(second));
		CHECK_EQ(unlink(second), 0);
	}
}

TEST(what_is_not_its_own_is_not_removed)
{
	struct uhmm_device *dev;
	uint32_t i;
	int fd;

	for (EACH_LAYER(i)) {
		dev = open_spec(spec_of(layers[i]));
		CHECK_EQ(unlink(mine()), 0);
		fd = open(mine(), O_CREAT | O_WRONLY, 0600);
		CHECK_GE(fd, 0);
		device_close(dev);
		close(fd);
		/* It is there to be removed. */
		CHECK_EQ(unlink(mine()), 0);
	}
}

TEST(a_path_from_the_working_directory)
{
	struct uhmm_device *dev;

	CHECK_EQ(chdir(folder()), 0);
	dev = open_spec("stats:to=r+ram");
	CHECK_EQ(chdir("/"), 0);
	use(dev);
	CHECK(file_says("process"));
	device_close(dev);
}

/* ---- what becomes of the file ----------------------------------------------------- */

TEST(a_file_that_is_cut_short)
{
	struct uhmm_device *dev;
	uint32_t i;

	for (EACH_LAYER(i)) {
		dev = open_spec(spec_of(layers[i]));
		use(dev);
		CHECK_EQ(truncate(mine(), 0), 0);
		use(dev);
		CHECK_EQ(truncate(mine(), 100), 0);
		use(dev);
		CHECK_EQ(unlink(mine()), 0);
		use(dev);
		device_close(dev);
		CHECK(!is_there(mine()));
	}
}

/* The folder is one of 64 KiB, which only this test sees. */
static bool make_small(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", folder(), "tmpfs", 0, "size=64k") == 0;
}

TEST(a_disk_that_is_full)
{
	char path[128], text[4096] = { 1 };
	struct uhmm_device *dev;
	int fd, i;

	if (!make_small())
		SKIP("may not mount");
	dev = open_spec(spec_of("log"));
	snprintf(path, sizeof(path), "%s/other", folder());
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	CHECK_GE(fd, 0);
	while (write(fd, text, sizeof(text)) > 0)
		;
	CHECK_EQ(errno, ENOSPC);
	close(fd);
	for (i = 0; i < 3000; i++)
		use(dev);
	device_close(dev);
}

/* The program's own file, at a number that it has closed before. */
TEST(a_program_that_closes_all_descriptors)
{
	struct uhmm_device *dev;
	char path[128];
	uint32_t i;
	int fd, low;

	snprintf(path, sizeof(path), "%s/program", folder());
	for (EACH_LAYER(i)) {
		low = open("/dev/null", O_RDONLY);
		close(low);
		dev = open_spec(spec_of(layers[i]));
		/* Nothing was left open. */
		fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
		CHECK_EQ(fd, low);
		use(dev);
		CHECK_EQ(lseek(fd, 0, SEEK_END), 0);
		close(fd);
		use(dev);
		CHECK(file_says(i ? " 2 " : "free"));
		device_close(dev);
		CHECK_EQ(unlink(mine()), 0);
	}
	CHECK_EQ(unlink(path), 0);
}

/* A child that cannot have one goes on without, and leaves its parent's alone. */
TEST(a_child_that_cannot_make_one)
{
	const struct rlimit none = { 0, 0 };
	struct uhmm_device *dev;
	int status;
	uint32_t i;
	pid_t pid;

	for (EACH_LAYER(i)) {
		dev = open_spec(spec_of(layers[i]));
		host_fork_prepare();
		pid = fork();
		host_fork_done();
		CHECK_GE(pid, 0);
		if (pid == 0) {
			CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
			CHECK_EQ(device_after_fork(dev), 0);
			use(dev);
			device_close(dev);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		CHECK(!is_there(folder_file("r", pid)));
		/* Nobody has used it: neither has the child. */
		device_close(dev);
		CHECK(!is_there(mine()));
	}
}

/* ---- refused ---------------------------------------------------------------------- */

static void check_refused(const char *spec, int r, const char *says)
{
	char error[DEVICE_ERROR_MAX] = "";
	struct host_stat before, after;
	struct uhmm_device *dev;

	host_stat(&before);
	CHECK_EQ(device_open(spec, &dev, error, sizeof(error)), r);
	CHECK(strstr(error, says), "%.400s", error);
	host_stat(&after);
	CHECK_EQ(after.bytes_mapped, before.bytes_mapped);
	CHECK(!is_there(mine()));
}

TEST(refused)
{
	char spec[256];
	uint32_t i;

	for (EACH_LAYER(i)) {
		snprintf(spec, sizeof(spec), "%s+ram", layers[i]);
		check_refused(spec, -EINVAL, "needs a to");
		snprintf(spec, sizeof(spec), "%s:to=%s/no/r+ram", layers[i], folder());
		check_refused(spec, -ENOENT, "the folder of that path is not there");
		snprintf(spec, sizeof(spec), "%s:to=/proc/r+ram", layers[i]);
		check_refused(spec, -ENOENT, "is not there");
	}
}

/* With SIGXFSZ it would not come back. */
TEST(refused_by_a_limit_of_files)
{
	const struct rlimit small = { 100, 100 };
	uint32_t i;

	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (EACH_LAYER(i))
		check_refused(spec_of(layers[i]), -EFBIG, "ulimit -f");
}

TEST(refused_without_descriptors)
{
	const struct rlimit none = { 0, 0 };
	struct rlimit now;
	uint32_t i;

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
	for (EACH_LAYER(i)) {
		CHECK_EQ(setrlimit(RLIMIT_NOFILE,
				   &(struct rlimit){ none.rlim_cur, now.rlim_max }),
			 0);
		check_refused(spec_of(layers[i]), -EMFILE, "no descriptors left");
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
	}
}

TEST(refused_by_rights)
{
	uint32_t i;

	uid_t user = geteuid();

	if (user == 0 && seteuid(65534))
		SKIP("cannot become another user");
	CHECK_EQ(chdir("/"), 0);
	for (EACH_LAYER(i)) {
		char spec[64];

		snprintf(spec, sizeof(spec), "%s:to=uhmm-record+ram", layers[i]);
		check_refused(spec, -EACCES, "no file may be made and written there");
	}
	/* As it was: LeakSanitizer looks at this process. */
	CHECK_EQ(seteuid(user), 0);
	CHECK_EQ(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
}

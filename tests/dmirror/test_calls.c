/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device as a file, and what its calls refuse.
 */
#include "dm.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ---- files ------------------------------------------------------------------------ */

static int open_fails(const char *path)
{
	int fd = open(path, O_RDWR);

	CHECK_EQ(fd, -1);
	return errno;
}

TEST(there_are_four_devices)
{
	unsigned i;

	for (i = 0; i < DMIRROR_DEVICES; i++)
		CHECK_EQ(close(dm_open(i)), 0);
	CHECK_EQ(open_fails("/dev/hmm_dmirror4"), ENOENT);
	CHECK_EQ(open_fails("/dev/hmm_dmirror00"), ENOENT);
	CHECK_EQ(open_fails("/dev/hmm_dmirror"), ENOENT);
	CHECK_EQ(open_fails(""), ENOENT);
}

TEST(all_ways_to_open_find_it)
{
	int fds[4], i;

	close(dm_open(0));
	fds[0] = open64("/dev/hmm_dmirror0", O_RDWR);
	fds[1] = openat(AT_FDCWD, "/dev/hmm_dmirror0", O_RDWR);
	fds[2] = openat64(-1, "/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	fds[3] = openat(AT_FDCWD, "/dev/hmm_dmirror0", O_RDONLY | O_CREAT, 0600);
	for (i = 0; i < 4; i++) {
		CHECK(fds[i] >= 0);
		CHECK_EQ(fcntl(fds[i], F_GETFD), i == 2 ? FD_CLOEXEC : 0);
		CHECK_EQ(dm_call(fds[i], DMIRROR_FLAGS, NULL, NULL, 1, NULL), 0);
		CHECK_EQ(close(fds[i]), 0);
		CHECK_EQ(dm_call(fds[i], DMIRROR_FLAGS, NULL, NULL, 1, NULL), -EBADF);
	}
}

TEST(other_files_are_what_they_are)
{
	int device = dm_open(0), null = open("/dev/null", O_RDWR | O_CLOEXEC), value = 1;
	int fds[2];

	CHECK(null >= 0);
	CHECK_EQ(dm_call(null, DMIRROR_READ, NULL, NULL, 1, NULL), -ENOTTY);
	CHECK_EQ(ioctl(-1, DMIRROR_CALL(DMIRROR_READ), NULL), -1);
	CHECK_EQ(errno, EBADF);
	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(write(fds[1], "abc", 3), 3);
	CHECK_EQ(ioctl(fds[0], FIONREAD, &value), 0);
	CHECK_EQ(value, 3);
	/* What any file answers, this one does as well. */
	CHECK_EQ(ioctl(device, FIOCLEX), 0);
	CHECK_EQ(fcntl(device, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(ioctl(device, FIONREAD, &value), -1);
	CHECK_EQ(errno, EINVAL);
}

DM_TEST(a_duplicate_is_the_same_file)
{
	int fd = dm_open(number), copies[5], i;
	char *p = dm_map(8), *q = dm_map(8);

	dm_fill(p, 8, 1);
	dm_to_dev(fd, p, 8, 1);
	copies[0] = dup(fd);
	copies[1] = dup2(fd, 100);
	copies[2] = dup3(fd, 101, O_CLOEXEC);
	copies[3] = fcntl(fd, F_DUPFD, 200);
	copies[4] = fcntl(fd, F_DUPFD_CLOEXEC, 200);
	CHECK_EQ(close(fd), 0);
	for (i = 0; i < 5; i++) {
		CHECK(copies[i] >= 0);
		/* One table, so no fault; and nothing was evicted. */
		dm_read(copies[i], p, q, 8, 0);
		dm_check(q, 8, 1);
		dm_snapshot(copies[i], p, 8, dm_local(number));
		CHECK_EQ(close(copies[i]), 0);
	}
	fd = dm_open(number);
	dm_snapshot(fd, p, 8, DMIRROR_PROT_WRITE);
	dm_check(p, 8, 1);
}

DM_TEST(the_last_close_brings_everything_back)
{
	int fd = dm_open(number), other = dm_open(number);
	char *p = dm_map(64);

	dm_fill(p, 64, 1);
	dm_to_dev(fd, p, 64, 1);
	dm_snapshot(other, p, 64, dm_local(number));
	CHECK_EQ(close(fd), 0);
	dm_snapshot(other, p, 64, DMIRROR_PROT_WRITE);
	dm_check(p, 64, 1);
}

TEST(a_number_that_is_another_file_now)
{
	int fd = dm_open(0), null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* Closed behind the library's back, and taken. */
	CHECK_EQ(syscall(SYS_dup2, null, fd), fd);
	CHECK_EQ(dm_call(fd, DMIRROR_FLAGS, NULL, NULL, 1, NULL), -ENOTTY);
	CHECK_EQ(close(fd), 0);
	fd = dm_open(0);
	CHECK_EQ(dup2(null, fd), fd);
	CHECK_EQ(dm_call(fd, DMIRROR_FLAGS, NULL, NULL, 1, NULL), -ENOTTY);
	fd = dm_open(0);
	CHECK_EQ(close_range((unsigned)fd, (unsigned)fd, 0), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_FLAGS, NULL, NULL, 1, NULL), -EBADF);
}

/* ---- mmap ------------------------------------------------------------------------- */

DM_TEST(the_device_maps_pages_of_zeros)
{
	int fd = dm_open(number), i;
	unsigned char m[4];
	char *p[2];

	for (i = 0; i < 2; i++) {
		p[i] = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		CHECK(p[i] != MAP_FAILED);
		CHECK_EQ(dm_call(fd, DMIRROR_SNAPSHOT, p[i], m, 4, NULL), 0);
		CHECK_EQ(m[0], DMIRROR_PROT_READ);
		CHECK_EQ(m[3], DMIRROR_PROT_READ);
		dm_check(p[i] + PAGE, 1, 0);
		dm_fill(p[i], 1, 5);
		dm_snapshot(fd, p[i], 1, DMIRROR_PROT_WRITE);
		CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p[i], p[i], 1, NULL),
			 -EINVAL);
	}
	CHECK_EQ(close(fd), 0);
	dm_check(p[0], 1, 5);
	CHECK_EQ(munmap(p[0], 4 * PAGE), 0);
}

/* ---- arguments -------------------------------------------------------------------- */

DM_TEST(what_is_no_range_of_pages_is_refused)
{
	int fd = dm_open(number);
	char *p = dm_map(4), *q = dm_map(4);
	unsigned call;

	dm_fill(p, 4, 1);
	for (call = 0; call < DMIRROR_NR_CALLS; call++) {
		CHECK_EQ(dm_call(fd, call, p + 1, q, 1, NULL), -EINVAL);
		CHECK_EQ(dm_call(fd, call, p + 512, q, 1, NULL), -EINVAL);
		CHECK_EQ(dm_call(fd, call, p, q, 0, NULL), -EINVAL);
		CHECK_EQ(dm_call(fd, call, (void *)-PAGE, q, 1, NULL), -EINVAL);
		CHECK_EQ(dm_call(fd, call, p, q, SIZE_MAX / PAGE + 1, NULL), -EINVAL);
	}
	for (call = DMIRROR_NR_CALLS; call < 300; call++)
		CHECK_EQ(dm_call(fd, call, p, q, 1, NULL), -EINVAL);
	dm_check(p, 4, 1);
}

TEST(a_call_that_is_not_one_of_ours)
{
	struct dmirror_cmd cmd = { 0 };
	int fd = dm_open(0);

	cmd.addr = (uintptr_t)dm_map(1);
	cmd.npages = 1;
	CHECK_EQ(ioctl(fd, DMIRROR_CALL(DMIRROR_FLAGS), &cmd), 0);
	/* Of another size, another direction, another driver. */
	CHECK_EQ(ioctl(fd, _IOWR('H', DMIRROR_FLAGS, int), &cmd), -1);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(ioctl(fd, _IOR('H', DMIRROR_FLAGS, struct dmirror_cmd), &cmd), -1);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(ioctl(fd, _IOWR('I', DMIRROR_FLAGS, struct dmirror_cmd), &cmd), -1);
	CHECK_EQ(errno, EINVAL);
}

TEST(a_struct_that_cannot_be_read_or_written)
{
	int fd = dm_open(0);
	struct dmirror_cmd *cmd = (void *)dm_map(1);

	CHECK_EQ(ioctl(fd, DMIRROR_CALL(DMIRROR_FLAGS), NULL), -1);
	CHECK_EQ(errno, EFAULT);
	/* Half of it lies where nothing is. */
	cmd = (void *)((char *)cmd + PAGE - sizeof(*cmd) / 2);
	CHECK_EQ(ioctl(fd, DMIRROR_CALL(DMIRROR_FLAGS), cmd), -1);
	CHECK_EQ(errno, EFAULT);
	cmd = (void *)dm_map(1);
	*cmd = (struct dmirror_cmd){ .npages = 1 };
	CHECK_EQ(mprotect(cmd, PAGE, PROT_READ), 0);
	CHECK_EQ(ioctl(fd, DMIRROR_CALL(DMIRROR_FLAGS), cmd), -1);
	CHECK_EQ(errno, EFAULT);
}

DM_TEST(memory_that_is_not_there)
{
	int fd = dm_open(number);
	char *p = dm_map(4), *q = dm_map(4);
	unsigned char m[4];

	dm_fill(p, 4, 1);
	dm_fill(q, 4, 9);
	CHECK_EQ(munmap(p + 2 * PAGE, PAGE), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, 4, NULL), -EFAULT);
	CHECK_EQ(dm_call(fd, DMIRROR_WRITE, p, q, 4, NULL), -EFAULT);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, 4, NULL), -EINVAL);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_SYS, p, q, 4, NULL), -EINVAL);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, q, 4, NULL), -EFAULT);
	CHECK_EQ(dm_call(fd, DMIRROR_SNAPSHOT, p, m, 4, NULL), 0);
	CHECK_EQ(m[2], DMIRROR_PROT_ERROR);
	CHECK_EQ(m[3], DMIRROR_PROT_WRITE);
	/* Nothing was given back but what the device had written into the rest. */
	dm_check(q, 4, 9);
	dm_check(p + 3 * PAGE, 1, 4);
}

DM_TEST(a_buffer_that_is_not_there)
{
	int fd = dm_open(number);
	char *p = dm_map(4), *q = dm_map(2);

	dm_fill(p, 4, 1);
	dm_fill(q, 2, 9);
	/* q has two pages, and behind them is nothing. */
	CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, 4, NULL), -EFAULT);
	CHECK_EQ(dm_call(fd, DMIRROR_WRITE, p, q, 4, NULL), -EFAULT);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, 4, NULL), -EFAULT);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, q, 4, NULL), -EFAULT);
	CHECK_EQ(dm_call(fd, DMIRROR_SNAPSHOT, p, NULL, 4, NULL), -EFAULT);
	dm_check(p, 4, 1);
}

DM_TEST(the_buffer_may_be_on_the_device)
{
	int fd = dm_open(number);
	char *p = dm_map(8), *q = dm_map(8);

	dm_fill(p, 8, 1);
	dm_fill(q, 8, 50);
	dm_to_dev(fd, p, 8, 1);
	dm_to_dev(fd, q, 8, 50);
	dm_read(fd, p, q, 8, 0);
	dm_check(q, 8, 1);
	/* Its own range. */
	dm_to_dev(fd, p, 8, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, p, 8, NULL), 0);
	dm_check(p, 8, 1);
	dm_write(fd, p, p + 4 * PAGE, 4, number == PRIVATE);
	dm_check(p, 4, 5);
}

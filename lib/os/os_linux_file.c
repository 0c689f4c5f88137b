/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that pages are kept in.
 *
 * A file has no name: nobody else opens it, and it is gone when the last process that has
 * it is. Where one must have a name (an empty file, a block device) it is locked.
 *
 * A program may close a descriptor that it does not know, and have the number for a file
 * of its own. So before each write it is looked whose it is. (Not for reads: what was
 * read from elsewhere is not what was stored, and that is noticed.)
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/os_linux_ring.h"
#include "lib/os/sys.h"
#include "uhmm/device.h"

/* Where the kernel keeps files only in memory, of which none would be saved. */
#ifndef RAMFS_MAGIC
#define RAMFS_MAGIC 0x858458f6
#endif

/* A block device keeps what says that it is a swap area. */
#define DEVICE_START ((uint64_t)1 << 20)

/* Who writes beyond that is sent SIGXFSZ, and programs end of it. */
static uint64_t longest_file(void)
{
	struct rlimit limit;

	if (sys4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &limit) || limit.rlim_cur > INT64_MAX)
		return INT64_MAX;
	return limit.rlim_cur;
}

/* ---- opening --------------------------------------------------------------------- */

struct opening {
	const char *path;
	int flags; /* O_DIRECT, or not */
	const char **why;
};

static int fail(const struct opening *o, int error, const char *why)
{
	*o->why = why;
	return -error;
}

static int open_it(const char *path, int flags)
{
	return (int)sys4(SYS_openat, AT_FDCWD, path, flags | O_RDWR | O_CLOEXEC, 0600);
}

static int why_not(const struct opening *o, int r)
{
	switch (-r) {
	case EACCES:
	case EPERM:
	case EROFS:
		return fail(o, -r, "there may nothing be written; name another place");
	case ENOENT:
	case ENOTDIR:
		return fail(o, -r,
			    "there is no such directory; make it, or name another");
	case EBUSY:
		return fail(o, -r, "it is in use: mounted, a swap area, or another's");
	case EMFILE:
	case ENFILE:
		return fail(o, -r, "there are no descriptors left (ulimit -n)");
	case EINVAL:
		return fail(o, -r, "direct=on is not possible there; leave it out");
	case ENOSPC:
	case EDQUOT:
		return fail(o, -r, "there is no space left; name another place");
	default:
		return fail(o, -r, "it cannot be opened; name another place");
	}
}

/* For file systems that cannot have a file without a name from the beginning. */
static int open_and_unlink(const char *dir, int flags)
{
	struct os_path name;
	char path[PATH_MAX];
	size_t len = strlen(dir);
	unsigned tries;
	int fd = -ENAMETOOLONG;

	if (len + sizeof(name.text) >= sizeof(path))
		return fd;
	memcpy(path, dir, len);
	for (tries = 0; tries < 16; tries++) {
		name.len = 0;
		os_linux_path_add(&name, "/.uhmm-");
		os_linux_path_add_number(&name, os_pid());
		os_linux_path_add(&name, "-");
		os_linux_path_add_number(&name, (uint32_t)os_random());
		memcpy(path + len, name.text, name.len + 1);
		fd = open_it(path, flags | O_CREAT | O_EXCL);
		if (fd >= 0)
			sys3(SYS_unlinkat, AT_FDCWD, path, 0);
		if (fd != -EEXIST)
			break;
	}
	return fd;
}

static int open_unnamed(const struct opening *o, const char *dir)
{
	int fd = open_it(dir, o->flags | O_TMPFILE | O_EXCL);

	if (fd == -EOPNOTSUPP || fd == -EISDIR)
		fd = open_and_unlink(dir, o->flags);
	return fd;
}

/* What does not exist is a name in a directory; the name is not used. */
static int open_beside(const struct opening *o)
{
	const char *slash = strrchr(o->path, '/');
	size_t len = slash ? (size_t)(slash - o->path) : 0;
	char dir[PATH_MAX];

	if (!slash)
		return open_unnamed(o, ".");
	if (!len)
		return open_unnamed(o, "/");
	if (len >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, o->path, len);
	dir[len] = 0;
	return open_unnamed(o, dir);
}

/* A file of somebody's: not if there is anything in it. */
static int open_empty(const struct opening *o, const struct stat *st)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	if (st->st_size)
		return fail(
			o, EEXIST,
			"it is not empty, and would be overwritten; name another file, "
			"or a directory");
	fd = open_it(o->path, o->flags);
	if (fd < 0 || sys3(SYS_fcntl, fd, F_OFD_SETLK, &lock) == 0)
		return fd;
	sys1(SYS_close, fd);
	return fail(o, EBUSY, "another process has it; name a directory");
}

/* What nobody misses: zeros, or a swap area, whose mark is at the end of its page. */
static bool is_spare(int fd)
{
	static const char mark[] = "SWAPSPACE2";
	static char page[UHMM_FILE_BLOCK] __attribute__((aligned(UHMM_FILE_BLOCK)));
	const char *end = page + sizeof(page) - (sizeof(mark) - 1);
	bool marked = true, zeros = true;
	size_t i;

	if (sys4(SYS_pread64, fd, page, sizeof(page), 0) != (long)sizeof(page))
		return false;
	for (i = 0; i < sizeof(mark) - 1; i++)
		marked &= end[i] == mark[i];
	for (i = 0; i < sizeof(page); i++)
		zeros &= !page[i];
	return marked || zeros;
}

static int open_device(const struct opening *o, struct os_file *file)
{
	uint64_t size = 0;
	int fd = open_it(o->path, o->flags | O_EXCL);

	if (fd < 0)
		return fd;
	file->start = DEVICE_START;
	if (sys3(SYS_ioctl, fd, BLKGETSIZE64, &size) == 0 && is_spare(fd)) {
		file->end = size;
		return fd;
	}
	sys1(SYS_close, fd);
	return fail(o, EEXIST,
		    "it is neither a swap area nor empty, and would be overwritten; "
		    "if nobody needs what it has, make it one: mkswap");
}

static int open_kind(const struct opening *o, struct os_file *file)
{
	struct stat st;
	long r = sys4(SYS_newfstatat, AT_FDCWD, o->path, &st, 0);

	if (r == -ENOENT)
		return open_beside(o);
	if (r)
		return (int)r;
	if (S_ISDIR(st.st_mode))
		return open_unnamed(o, o->path);
	if (S_ISREG(st.st_mode))
		return open_empty(o, &st);
	if (S_ISBLK(st.st_mode))
		return open_device(o, file);
	return fail(o, EINVAL,
		    "it is neither a directory, nor a file, nor a block device");
}

static int look_at(const struct opening *o, struct os_file *file)
{
	struct statfs fs;
	struct stat st;

	if (sys2(SYS_fstat, file->fd, &st) || sys2(SYS_fstatfs, file->fd, &fs))
		return fail(o, EIO, "it cannot be looked at");
	if (!S_ISBLK(st.st_mode) &&
	    (fs.f_type == TMPFS_MAGIC || (unsigned long)fs.f_type == RAMFS_MAGIC))
		return fail(o, EINVAL,
			    "that file system keeps files in memory, so nothing would be "
			    "saved; name a directory on a disk");
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	if (!file->end)
		file->end = longest_file();
	return 0;
}

/* -EINVAL: not so. */
static int open_so(const struct opening *o, struct os_file *file)
{
	int r;

	*o->why = NULL;
	*file = (struct os_file){ .fd = -1, .direct = o->flags & O_DIRECT };
	r = open_kind(o, file);
	if (r < 0)
		return r;
	file->fd = os_linux_own(r);
	r = look_at(o, file);
	if (r)
		os_file_close(file);
	return r;
}

int os_file_open(const char *path, int direct, struct os_file *file, const char **why)
{
	struct opening o = { .path = path, .why = why };
	int r;

	o.flags = direct == UHMM_FILE_BUFFERED ? 0 : O_DIRECT;
	r = open_so(&o, file);
	if (r == -EINVAL && !*why && direct == UHMM_FILE_EITHER) {
		o.flags = 0;
		r = open_so(&o, file);
	}
	if (r == 0)
		os_linux_rings_open();
	return r && !*why ? why_not(&o, r) : r;
}

void os_file_close(struct os_file *file)
{
	if (file->fd >= 0)
		os_close(file->fd);
	file->fd = -1;
}

/* ---- writing --------------------------------------------------------------------- */

static bool is_ours(const struct os_file *file)
{
	struct stat st;

	return sys2(SYS_fstat, file->fd, &st) == 0 && st.st_dev == file->dev &&
	       st.st_ino == file->ino;
}

static int write_error(long r)
{
	if (r == -EDQUOT || r == -EFBIG || r == -ENOSPC)
		return -ENOSPC;
	return r < 0 ? (int)r : -EIO;
}

/* By itself, for as long as it takes. */
static int write_part(int fd, const struct uhmm_file_part *part, uint64_t offset)
{
	size_t done = 0;
	long n;

	while (done < part->len) {
		n = sys4(SYS_pwrite64, fd, (char *)part->buf + done, part->len - done,
			 offset + done);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			return write_error(n);
		done += (size_t)n;
	}
	return 0;
}

static size_t length(const struct uhmm_file_part *part, unsigned nr)
{
	size_t len = 0;

	while (nr--)
		len += part[nr].len;
	return len;
}

int os_file_write(const struct os_file *file, const struct uhmm_file_part *part,
		  unsigned nr, uint64_t offset)
{
	long n;
	int r = 0;

	if (!is_ours(file))
		return -EIO;
	/* A block device has its end, and no such limit. */
	if (!file->start && offset + length(part, nr) > longest_file())
		return -ENOSPC;
	n = sys6(SYS_pwritev, file->fd, (long)part, nr, (long)offset, 0, 0);
	if (n == (long)length(part, nr))
		return 0;
	if (n < 0 && n != -EINTR && n != -EAGAIN)
		return write_error(n);
	/* Some of it: a full disk says so when it is asked for the rest. */
	for (; nr && !r; nr--, part++) {
		r = write_part(file->fd, part, offset);
		offset += part->len;
	}
	return r;
}

void os_file_punch(const struct os_file *file, uint64_t offset, uint64_t len)
{
	if (is_ours(file))
		sys4(SYS_fallocate, file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		     offset, len);
}

/* ---- reading --------------------------------------------------------------------- */

void os_linux_file_read(int fd, struct uhmm_file_read *read)
{
	long n;

	do
		n = sys6(SYS_preadv, fd, (long)read->part, read->nr, (long)read->offset,
			 0, 0);
	while (n == -EINTR || n == -EAGAIN);
	read->result = n == (long)length(read->part, read->nr) ? 0 :
		       n < 0                                   ? (int)n :
								 -EIO;
}

void os_file_read(const struct os_file *file, struct uhmm_file_read *read, unsigned nr,
		  unsigned depth)
{
	unsigned i;

	if (depth > 1 && nr > 1 && os_linux_ring_read(file->fd, read, nr, depth))
		return;
	for (i = 0; i < nr; i++)
		os_linux_file_read(file->fd, &read[i]);
}

bool os_is_over(uint32_t pid)
{
	return sys2(SYS_kill, pid, 0) == -ESRCH;
}

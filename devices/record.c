/* SPDX-License-Identifier: Apache-2.0 */
/* A file of a process, written by the kernel: see record.h. */
#include "devices/record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "devices/text.h"
#include "lib/os/sys.h"
#include "uhmm/device.h"

/* Files of one name and pid: of so many programs that a process ran one after another. */
#define SAME_PID 99u
/* ".4194304.99" */
#define ENDING_MAX 12u

/* ---- its name --------------------------------------------------------------------- */

static int set_path(struct record *r, const char *to, const char **error)
{
	size_t len = strlen(to), base = 0;
	long n;

	*error = "to: the path is too long";
	if (*to != '/') {
		n = sys2(SYS_getcwd, r->path, sizeof(r->path));
		if (n < 0) {
			*error = "to: the working directory has no path; give an "
				 "absolute one";
			return (int)n;
		}
		base = strlen(r->path);
		if (base + 1 == sizeof(r->path))
			return -ENAMETOOLONG;
		r->path[base++] = '/';
	}
	if (base + len + ENDING_MAX >= sizeof(r->path))
		return -ENAMETOOLONG;
	memcpy(r->path + base, to, len);
	r->base = (uint32_t)(base + len);
	return 0;
}

static size_t add_number(char *at, uint64_t n)
{
	uint64_t rest = n;
	uint32_t width = 1;

	while (rest /= 10)
		width++;
	*at = '.';
	text_number(at + 1, width, n, '0');
	return width + 1;
}

/* The nr-th of that name, from 1. */
static void name_file(struct record *r, uint32_t nr)
{
	char *end = r->path + r->base;

	end += add_number(end, (uint64_t)sys0(SYS_getpid));
	if (nr > 1)
		end += add_number(end, nr);
	*end = 0;
}

/* ---- making it -------------------------------------------------------------------- */

static int make_file(struct record *r)
{
	uint32_t nr = 1;
	long fd;

	do {
		name_file(r, nr);
		fd = sys4(SYS_openat, AT_FDCWD, r->path,
			  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	} while (fd == -EEXIST && nr++ < SAME_PID);
	return (int)fd;
}

/* Who asks for more than it may have is sent SIGXFSZ. */
static int set_size(const struct record *r, int fd)
{
	struct rlimit limit;

	if (sys4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &limit) == 0 &&
	    limit.rlim_cur < r->size)
		return -EFBIG;
	return (int)sys2(SYS_ftruncate, fd, r->size);
}

static int map_file(struct record *r, int fd)
{
	struct stat st;
	long at, e = set_size(r, fd);

	if (!e)
		e = sys2(SYS_fstat, fd, &st);
	if (e)
		return (int)e;
	at = sys6(SYS_mmap, 0, (long)r->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at < 0 && at > -4096)
		return (int)at;
	/* What is written there is this process's. */
	sys3(SYS_madvise, at, r->size, MADV_DONTFORK);
	r->at = (char *)at;
	*r->pid = (uint32_t)sys0(SYS_getpid);
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	return 0;
}

static void unmap(struct record *r)
{
	sys2(SYS_munmap, r->at, r->size);
	r->at = NULL;
}

/* A page that nobody needs: can the kernel write there? */
static int try_it(struct record *r)
{
	if (record_write(r, r->size - 1, "", 1, 1))
		return 0;
	unmap(r);
	return -EPERM;
}

static int make(struct record *r)
{
	int fd = make_file(r), e;

	if (fd < 0)
		return fd;
	e = map_file(r, fd);
	sys1(SYS_close, fd);
	if (!e)
		e = try_it(r);
	if (e)
		sys3(SYS_unlinkat, AT_FDCWD, r->path, 0);
	return e;
}

/* Of our memory, which is never migrated; the page goes back there as it was. */
static int map_pid(struct record *r)
{
	r->pid = uhmm_host_map(UHMM_PAGE_SIZE);
	return r->pid ? (int)sys3(SYS_madvise, r->pid, UHMM_PAGE_SIZE, MADV_WIPEONFORK) :
			-ENOMEM;
}

static void unmap_pid(struct record *r)
{
	if (!r->pid)
		return;
	sys3(SYS_madvise, r->pid, UHMM_PAGE_SIZE, MADV_KEEPONFORK);
	uhmm_host_unmap(r->pid, UHMM_PAGE_SIZE);
}

static const char *why(int error)
{
	switch (-error) {
	case ENOENT:
	case ENOTDIR:
		return "to: the folder of that path is not there";
	case EACCES:
	case EPERM:
	case EROFS:
		return "to: no file may be made and written there";
	case EEXIST:
		return "to: too many files of that name and process are there";
	case ENOMEM:
		return "not enough memory";
	case ENOSPC:
	case EDQUOT:
		return "to: there is no space on the disk";
	case EFBIG:
		return "to: the file would be larger than this process may make one "
		       "(ulimit -f)";
	case EMFILE:
	case ENFILE:
		return "to: there are no descriptors left";
	default:
		return "to: no file can be made there";
	}
}

int record_open(struct record *r, const char *to, size_t size, const char **error)
{
	int e;

	r->size = size;
	e = set_path(r, to, error);
	if (e)
		return e;
	e = map_pid(r);
	if (!e)
		e = make(r);
	if (!e)
		return 0;
	unmap_pid(r);
	*error = why(e);
	return e;
}

/*
 * Somebody may have given the name to another file. It is not taken for ours, which is
 * there as long as it is mapped.
 */
static bool is_still_named(const struct record *r)
{
	struct stat st;

	return sys4(SYS_newfstatat, AT_FDCWD, r->path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == r->dev && st.st_ino == r->ino;
}

void record_close(struct record *r, bool keep)
{
	unmap_pid(r);
	if (!r->at)
		return;
	if (!keep && is_still_named(r))
		sys3(SYS_unlinkat, AT_FDCWD, r->path, 0);
	unmap(r);
}

/* The parent's is not mapped here. */
void record_after_fork(struct record *r)
{
	r->at = NULL;
	make(r);
}

/* ---- writing ---------------------------------------------------------------------- */

bool record_write(const struct record *r, size_t at, const void *bytes, size_t len,
		  uint32_t times)
{
	struct iovec from[RECORD_TIMES_MAX], to = { r->at + at, len * times };
	uint32_t i, pid = *r->pid;

	if (!r->at || !pid)
		return false;
	for (i = 0; i < times; i++)
		from[i] = (struct iovec){ (void *)(uintptr_t)bytes, len };
	return sys6(SYS_process_vm_writev, pid, (long)from, times, (long)&to, 1, 0) ==
	       (long)(len * times);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control segment of the tree, as a process finds it when it begins.
 */
#include "preload/preload.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Pids mean the same here as for the supervisor, or nobody knows. Its lock shows its pid
 * as it is seen from here, which is much cheaper than to look at /proc.
 */
static bool same_pids(const struct ctl *ctl, int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;

	if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK &&
	    lock.l_pid == (pid_t)CTL_LOAD(&ctl->supervisor_pid))
		return true;
	return !ctl->pid_ns || (stat("/proc/self/ns/pid", &st) == 0 &&
				(uint64_t)st.st_ino == ctl->pid_ns);
}

struct ctl *segment_map(const char *path)
{
	struct ctl *ctl = NULL;
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && (size_t)st.st_size >= sizeof(*ctl)) {
		ctl = mmap(NULL, sizeof(*ctl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (ctl == MAP_FAILED)
			ctl = NULL;
	}
	if (ctl && (__atomic_load_n(&ctl->magic, __ATOMIC_ACQUIRE) != CTL_MAGIC ||
		    ctl->version != CTL_VERSION || ctl->size != sizeof(*ctl) ||
		    !same_pids(ctl, fd))) {
		munmap(ctl, sizeof(*ctl));
		ctl = NULL;
	}
	if (ctl)
		preload_seal(ctl, sizeof(*ctl));
	close(fd);
	return ctl;
}

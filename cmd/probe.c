/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probes, and what follows from them; see probe.h.
 *
 * A userfaultfd takes UFFDIO_API once, so each question opens one of its own. The
 * answers lie in memory that the child shares with us: if it is killed half way, those
 * it had not come to stay PROBE_NOT_ASKED.
 */
#include "probe.h"

#include "lib/os/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul

const struct probe_feature probe_features[] = {
	{ UFFD_FEATURE_EVENT_FORK, true, "EVENT_FORK", "4.11", "follow fork" },
	{ UFFD_FEATURE_EVENT_REMAP, true, "EVENT_REMAP", "4.11", "follow mremap" },
	{ UFFD_FEATURE_EVENT_REMOVE, true, "EVENT_REMOVE", "4.11", "follow madvise" },
	{ UFFD_FEATURE_EVENT_UNMAP, true, "EVENT_UNMAP", "4.11", "follow munmap" },
	{ UFFD_FEATURE_THREAD_ID, true, "THREAD_ID", "4.14", "know who faults" },
	{ UFFD_FEATURE_MOVE, true, "MOVE", "6.8", "isolate pages" },
	{ UFFD_FEATURE_SIGBUS, false, "SIGBUS", "4.14", "delivery inline" },
	{ UFFD_FEATURE_PAGEFAULT_FLAG_WP, false, "PAGEFAULT_FLAG_WP", "5.7",
	  "protect pages" },
	{ UFFD_FEATURE_POISON, true, "POISON", "6.6", "report lost pages" },
	{ UFFD_FEATURE_WP_ASYNC, false, "WP_ASYNC", "6.7", "find written pages" },
	{ 0, false, NULL, NULL, NULL },
};

/* ---- in the child ------------------------------------------------------------------ */

static int open_syscall(int flags)
{
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
}

static int open_dev(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

	if (dev < 0)
		return -1;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	close(dev);
	return fd;
}

/* The errno of UFFDIO_API on fd, 0 if it went well. */
static int api(int fd, uint64_t features, uint64_t *known)
{
	struct uffdio_api arg = { .api = UFFD_API, .features = features };

	if (ioctl(fd, UFFDIO_API, &arg))
		return errno;
	if (known)
		*known = arg.features;
	return 0;
}

/* How a descriptor can be had: the errno, with its features in *known if it can. */
static int ask(int fd, uint64_t *known)
{
	int err;

	if (fd < 0)
		return errno;
	err = api(fd, 0, known);
	close(fd);
	return err;
}

/* A descriptor of the best kind that can be had, or -1. */
static int open_best(const struct probe *probe)
{
	if (probe->syscall == 0)
		return open_syscall(0);
	if (probe->dev == 0)
		return open_dev();
	if (probe->user_only == 0)
		return open_syscall(UFFD_USER_MODE_ONLY);
	return -1;
}

/* Moves two pages, as isolation does, and looks whether they arrived. The errno. */
static int try_move(int fd)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_move move = { .len = 2 * PAGE };
	char *src, *dst;
	int err = api(fd, UFFD_FEATURE_MOVE, NULL);

	if (err)
		return err;
	src = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	dst = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	if (src == MAP_FAILED || dst == MAP_FAILED)
		return ENOMEM;
	memset(src, 0x5a, PAGE);
	memset(src + PAGE, 0xa5, PAGE);
	reg.range.start = (uintptr_t)dst;
	reg.range.len = 2 * PAGE;
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		return errno;
	move.dst = (uintptr_t)dst;
	move.src = (uintptr_t)src;
	if (ioctl(fd, UFFDIO_MOVE, &move))
		return errno;
	/* Its source is a hole now, which reads as zeros: it is not registered. */
	if (move.move != 2 * (int64_t)PAGE || dst[0] != 0x5a ||
	    dst[2 * PAGE - 1] != (char)0xa5 || src[0] || src[2 * PAGE - 1])
		return EIO;
	return 0;
}

static int try_pagemap_scan(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct page_region region[4];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)region & ~(PAGE - 1),
		.vec = (uintptr_t)region,
		.vec_len = 4,
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE | PAGE_IS_PFNZERO,
	};

	if (fd < 0)
		return errno;
	memset(region, 0, sizeof(region));
	arg.end = arg.start + PAGE;
	switch (ioctl(fd, PAGEMAP_SCAN, &arg)) {
	case -1:
		return errno;
	case 1:
		return 0;
	default:
		return EIO;
	}
}

static int try_procmap_query(void)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	struct procmap_query arg = { .size = sizeof(arg), .query_addr = (uintptr_t)&fd };

	if (fd < 0)
		return errno;
	if (ioctl(fd, PROCMAP_QUERY, &arg))
		return errno;
	return arg.vma_start <= (uintptr_t)&fd && (uintptr_t)&fd < arg.vma_end ? 0 : EIO;
}

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#endif

/* io_uring_setup without parameters fails with EFAULT where it exists and is allowed. */
static int try_io_uring(void)
{
	syscall(SYS_io_uring_setup, 1, NULL);
	return errno == EFAULT ? 0 : errno;
}

static void child(struct probe *probe)
{
	uint64_t needed = 0, known = 0;
	int fd;

	for (const struct probe_feature *f = probe_features; f->bit; f++)
		if (f->needed)
			needed |= f->bit;
	probe->syscall = ask(open_syscall(0), &known);
	probe->dev = ask(open_dev(), &known);
	probe->user_only = ask(open_syscall(UFFD_USER_MODE_ONLY), &known);
	probe->features = known;
	if (probe->syscall == 0 || probe->dev == 0)
		probe->needed = api(open_best(probe), needed, NULL);
	fd = open_best(probe);
	if (fd >= 0) {
		probe->inline_mode = api(fd,
					 UFFD_FEATURE_MOVE | UFFD_FEATURE_SIGBUS |
						 UFFD_FEATURE_EVENT_REMAP |
						 UFFD_FEATURE_EVENT_REMOVE |
						 UFFD_FEATURE_EVENT_UNMAP,
					 NULL);
		probe->move = try_move(open_best(probe));
	}
	probe->dispatch = prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0,
				0) ?
				  errno :
				  0;
	probe->pagemap_scan = try_pagemap_scan();
	probe->procmap_query = try_procmap_query();
	probe->io_uring = try_io_uring();
}

/* ---- in the parent ----------------------------------------------------------------- */

int probe_read(const char *path, char *buf, unsigned long size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -errno;
	if (n && buf[n - 1] == '\n')
		n--;
	buf[n] = 0;
	return 0;
}

/* What stands behind the name in /proc/self/status; NULL if it is not there. */
static const char *status_field(const char *status, const char *name)
{
	const char *field = strstr(status, name);

	return field ? field + strlen(name) : NULL;
}

int probe_filters(void)
{
	char buf[8192];
	const char *field = NULL;

	if (!probe_read("/proc/self/status", buf, sizeof(buf)))
		field = status_field(buf, "\nSeccomp_filters:");
	return field ? atoi(field) : 0;
}

static void look(struct probe *probe)
{
	char buf[8192];
	const char *field;
	unsigned inside, outside, count;

	probe->has_sysctl = !probe_read("/proc/sys/vm/unprivileged_userfaultfd", buf,
					sizeof(buf));
	if (probe->has_sysctl)
		probe->sysctl = atoi(buf);
	if (!probe_read("/proc/self/status", buf, sizeof(buf))) {
		field = status_field(buf, "\nCapEff:");
		if (field)
			probe->has_cap = strtoull(field, NULL, 16) >> CAP_SYS_PTRACE & 1;
		field = status_field(buf, "\nSeccomp:");
		probe->filtered = field && atoi(field) != 0;
	}
	probe->bounded = prctl(PR_CAPBSET_READ, CAP_SYS_PTRACE, 0, 0, 0) == 1;
	if (!probe_read("/proc/self/uid_map", buf, sizeof(buf)))
		probe->userns = sscanf(buf, "%u %u %u", &inside, &outside, &count) != 3 ||
				inside != 0 || outside != 0 || count != UINT32_MAX;
}

void probe_machine(struct probe *probe)
{
	struct sigaction normal = { .sa_handler = SIG_DFL }, old;
	struct probe *shared;
	int status = 0;
	pid_t pid;

	memset(probe, 0, sizeof(*probe));
	probe->syscall = probe->dev = probe->user_only = probe->needed = PROBE_NOT_ASKED;
	probe->inline_mode = probe->move = probe->pagemap_scan = PROBE_NOT_ASKED;
	probe->procmap_query = probe->io_uring = probe->dispatch = PROBE_NOT_ASKED;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		probe->failed = errno;
	} else {
		/* Ignored, as some parents leave it, it would hide the end. */
		sigaction(SIGCHLD, &normal, &old);
		*shared = *probe;
		pid = fork();
		if (pid == 0) {
			/* If a filter kills it, that is an answer and not a core dump. */
			setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
			child(shared);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid) {
			probe->failed = errno;
		} else {
			*probe = *shared;
			if (WIFSIGNALED(status))
				probe->killed = WTERMSIG(status);
		}
		sigaction(SIGCHLD, &old, NULL);
		munmap(shared, sizeof(*shared));
	}
	look(probe);
}

/* ---- what follows ------------------------------------------------------------------ */

#define FIX_KERNEL "boot Linux 6.8 or newer, built with CONFIG_USERFAULTFD=y"
#define FIX_FILTER                                                                       \
	"allow the system call userfaultfd in the seccomp filter: docker run "           \
	"--security-opt seccomp=unconfined, or SystemCallFilter=userfaultfd"

static const char *missing_feature(const struct probe *probe, const char **fix)
{
	static char why[256];
	struct utsname uts;

	for (const struct probe_feature *f = probe_features; f->bit; f++) {
		if (!f->needed || probe->features & f->bit)
			continue;
		uname(&uts);
		snprintf(why, sizeof(why),
			 "Linux %s cannot %s with userfaultfd (%s, since Linux %s)",
			 uts.release, f->use, f->name, f->since);
		*fix = FIX_KERNEL;
		return why;
	}
	return NULL;
}

/* For a library that serves faults of system calls: there are other ways to permit it. */
static const char *not_permitted_to_library(const char **fix)
{
	*fix = "as root: sysctl vm.unprivileged_userfaultfd=1, or chmod a+rw "
	       "/dev/userfaultfd; or run it as root";
	return "a userfaultfd that serves system calls too is not permitted";
}

/* No capability, or one that does not count. */
static const char *not_permitted(const struct probe *probe, const char **fix)
{
	static char mend[512];

	if (probe->has_cap && probe->userns) {
		*fix = "run it outside of the user namespace (rootless container, "
		       "unshare -U)";
		return "userfaultfd that follows forks needs CAP_SYS_PTRACE in the "
		       "initial user namespace";
	}
	if (probe->has_cap && probe->filtered) {
		*fix = FIX_FILTER;
		return "a seccomp filter forbids userfaultfd";
	}
	if (probe->has_cap) {
		*fix = "see the audit log for what denied it (SELinux, AppArmor)";
		return "a security module forbids userfaultfd";
	}
	if (!probe->bounded) {
		*fix = "start the container with --cap-add SYS_PTRACE";
		return "userfaultfd that follows forks needs CAP_SYS_PTRACE, which was "
		       "taken from "
		       "this container or service";
	}
	snprintf(
		mend, sizeof(mend),
		"sudo setpriv --reuid %u --regid %u --init-groups --inh-caps +sys_ptrace "
		"--ambient-caps +sys_ptrace uhmm run ...",
		(unsigned)getuid(), (unsigned)getgid());
	*fix = mend;
	return "userfaultfd that follows forks needs root or CAP_SYS_PTRACE";
}

/* forks: it has to follow them by events, or handlers of libc do. */
static const char *obstacle(const struct probe *probe, bool forks, const char **fix)
{
	static char why[256];
	const char *missing;

	if (probe->failed) {
		*fix = "end processes of yours, or raise ulimit -u";
		snprintf(why, sizeof(why), "cannot look at this machine: %s",
			 strerror(probe->failed));
		return why;
	}
	if (probe->killed) {
		*fix = FIX_FILTER;
		return "a seccomp filter kills who calls userfaultfd";
	}
	if (probe->syscall == ENOSYS && probe->dev != 0) {
		if (probe->has_sysctl) {
			*fix = FIX_FILTER;
			return "a seccomp filter hides userfaultfd";
		}
		*fix = FIX_KERNEL;
		return "the kernel has no userfaultfd";
	}
	missing = probe->features ? missing_feature(probe, fix) : NULL;
	if (missing)
		return missing;
	if (probe->syscall && probe->dev && !forks && !probe->has_cap)
		return not_permitted_to_library(fix);
	if (probe->syscall && probe->dev)
		return not_permitted(probe, fix);
	if (forks && probe->needed == EPERM)
		return not_permitted(probe, fix);
	if (probe->pagemap_scan) {
		*fix = "mount -t proc proc /proc, and boot Linux 6.8 or newer";
		return "/proc/self/pagemap cannot be scanned";
	}
	if ((forks && probe->needed) || probe->move) {
		snprintf(why, sizeof(why), "userfaultfd does not work here: %s",
			 strerror(probe->needed > 0 ? probe->needed : probe->move));
		*fix = "report this with the output of uhmm doctor --json";
		return why;
	}
	return NULL;
}

const char *probe_obstacle(const struct probe *probe, const char **fix)
{
	return obstacle(probe, true, fix);
}

const char *probe_inline_obstacle(const struct probe *probe, const char **fix)
{
	static char why[256];
	const char *missing;

	if (probe->failed || probe->killed ||
	    (probe->user_only && probe->syscall && probe->dev))
		return obstacle(probe, false, fix);
	missing = missing_feature(probe, fix);
	if (missing)
		return missing;
#if !defined(__x86_64__)
	*fix = "use --faults=thread";
	return "system calls are guarded on x86-64 only";
#endif
	if (probe->dispatch) {
		*fix = "boot Linux 5.11 or newer with CONFIG_GENERIC_ENTRY, or use "
		       "--faults=thread";
		snprintf(why, sizeof(why), "system calls cannot be guarded here: %s",
			 strerror(probe->dispatch));
		return why;
	}
	if (probe->pagemap_scan)
		return obstacle(probe, false, fix);
	if (probe->inline_mode || probe->move) {
		*fix = "report this with the output of uhmm doctor --json";
		snprintf(why, sizeof(why), "userfaultfd does not work here: %s",
			 strerror(probe->inline_mode > 0 ? probe->inline_mode :
							   probe->move));
		return why;
	}
	return NULL;
}

const char *probe_library_obstacle(const struct probe *probe, const char **fix)
{
	return obstacle(probe, false, fix);
}

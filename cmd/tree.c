/* SPDX-License-Identifier: Apache-2.0 */
/* The control segment from the supervisor's side; see tree.h. */
#include "tree.h"

#include "cmd.h"
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define FILE_PREFIX "uhmm-"
/* The other_fd among the slots that epoll names. */
#define OTHER CTL_SLOTS
/* Ends taken from epoll in one go. */
#define EVENTS_MAX 64
/* A writer takes microseconds; one that has not finished after this was killed. */
#define STUCK_NS UINT64_C(1000000000)
/* The janitor looks this often, and goes when the tree was empty so many times running:
 * a child that was just forked has no slot yet. */
#define JANITOR_TICK_MS 1000
#define JANITOR_EMPTY 3
/* As long, if the segment says that a fork is under way: that is only a hint. */
#define JANITOR_EMPTY_FORKING 30

uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 0 : st.st_ino;
}

static bool process_exists(uint32_t pid)
{
	return kill((pid_t)pid, 0) == 0 || errno != ESRCH;
}

/* ---- the file ---------------------------------------------------------------------- */

/* Whether all that used the segment have ended, as far as this pid namespace can tell. */
static bool abandoned(const struct ctl *ctl)
{
	uint32_t nr = CTL_LOAD(&ctl->nr_slots);

	if (ctl->magic != CTL_MAGIC || ctl->version != CTL_VERSION ||
	    ctl->size != sizeof(*ctl) || !ctl->pid_ns || ctl->pid_ns != pid_namespace() ||
	    nr > CTL_SLOTS || process_exists(CTL_LOAD(&ctl->supervisor_pid)))
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t pid = CTL_LOAD(&ctl->slot[i].pid);

		if (pid && pid != CTL_PID_FOLDING && process_exists(pid))
			return false;
	}
	return true;
}

/* Removes segments of ours whose supervisor was killed before it could. */
static void remove_abandoned(const char *dir_name)
{
	DIR *dir = opendir(dir_name);
	struct dirent *entry;
	struct stat st;
	void *map;
	int fd;

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, FILE_PREFIX, strlen(FILE_PREFIX)))
			continue;
		fd = openat(dirfd(dir), entry->d_name,
			    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
		    st.st_size == sizeof(struct ctl)) {
			map = mmap(NULL, sizeof(struct ctl), PROT_READ, MAP_SHARED, fd,
				   0);
			if (map != MAP_FAILED && abandoned(map))
				unlinkat(dirfd(dir), entry->d_name, 0);
			if (map != MAP_FAILED)
				munmap(map, sizeof(struct ctl));
		}
		close(fd);
	}
	if (dir)
		closedir(dir);
}

static int create_in(struct tree *tree, const char *dir)
{
	int fd, err = 0;
	void *map;

	if (!dir || dir[0] != '/' ||
	    snprintf(tree->path, sizeof(tree->path), "%s/" FILE_PREFIX "XXXXXX", dir) >=
		    (int)sizeof(tree->path))
		return -ENAMETOOLONG;
	remove_abandoned(dir);
	fd = mkostemp(tree->path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/*
	 * All of it now: were the file system full later, the processes that map the file
	 * would die of SIGBUS.
	 */
	err = posix_fallocate(fd, 0, sizeof(struct ctl));
	map = err ? MAP_FAILED :
		    mmap(NULL, sizeof(struct ctl), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 0);
	if (map == MAP_FAILED) {
		err = err ? err : errno;
		unlink(tree->path);
		close(fd);
		return -err;
	}
	close(fd);
	tree->ctl = map;
	return 0;
}

static uint32_t number_of(const char *variable)
{
	const char *text = getenv(variable);

	return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

int tree_create(struct tree *tree, uint64_t budget_pages, const char *device,
		enum ctl_faults faults)
{
	const char *dirs[] = { "/dev/shm", getenv("XDG_RUNTIME_DIR"), "/tmp" };
	int err = -ENOENT, first_err = 0;
	struct ctl *ctl;

	*tree = (struct tree){ .epoll = -1, .tick_ms = TREE_TICK_MIN_MS };
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]) && err; i++) {
		err = create_in(tree, dirs[i]);
		if (!first_err)
			first_err = err;
	}
	if (err) {
		complain("run: no directory for the control segment: /dev/shm: %s, /tmp: "
			 "%s",
			 strerror(-first_err), strerror(-err));
		return err;
	}
	ctl = tree->ctl;
	ctl->version = CTL_VERSION;
	ctl->size = sizeof(*ctl);
	ctl->budget_pages = budget_pages;
	ctl->faults = faults;
	/* Of a sandbox that we are in: all that we start have them as well. */
	ctl->filters = probe_filters();
	ctl->supervisor_pid = (uint32_t)getpid();
	ctl->pid_ns = pid_namespace();
	tree_sample_init(tree);
	ctl->debug = number_of("UHMM_DEBUG");
	ctl->evict_ms = number_of("UHMM_EVICT");
	if (ctl->evict_ms)
		ctl->eager |= CTL_EAGER_NOBODY;
	snprintf(ctl->device, sizeof(ctl->device), "%s", device);
	__atomic_store_n(&ctl->magic, CTL_MAGIC, __ATOMIC_RELEASE);
	return 0;
}

void tree_remove(struct tree *tree)
{
	unlink(tree->path);
}

/* ---- watching ---------------------------------------------------------------------- */

/* Shows to who looks that we are there; see same_pids() in preload/preload.c. */
static void lock_file(struct tree *tree)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	tree->lock = open(tree->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (tree->lock >= 0)
		fcntl(tree->lock, F_SETLK, &lock);
}

int tree_watch_start(struct tree *tree, int other_fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = OTHER };
	struct rlimit limit;

	/* A pidfd per process. The program was given the limits it must have before. */
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	lock_file(tree);
	tree->watch = malloc(CTL_SLOTS * sizeof(*tree->watch));
	tree->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!tree->watch || tree->epoll < 0)
		return -errno;
	for (unsigned i = 0; i < CTL_SLOTS; i++)
		tree->watch[i] = (struct tree_watch){ .pidfd = -1 };
	if (other_fd >= 0 && epoll_ctl(tree->epoll, EPOLL_CTL_ADD, other_fd, &event))
		return -errno;
	return tree_sample_start(tree);
}

static void unwatch(struct tree_watch *watch)
{
	if (watch->pidfd >= 0)
		close(watch->pidfd);
	*watch = (struct tree_watch){ .pidfd = -1 };
}

/* The process that held the slot as watch->claim says has ended. */
static void ended(struct tree *tree, unsigned i)
{
	ctl_reap(tree->ctl, &tree->ctl->slot[i], tree->watch[i].claim);
	unwatch(&tree->watch[i]);
}

/* Does the process run another program than the one that claimed the slot? */
static bool has_changed(struct tree *tree, unsigned i, union ctl_owner owner)
{
	uint32_t writer = CTL_LOAD(&tree->ctl->slot[i].writer);

	/* exec ends all threads but one, which gets the number of the process. */
	return writer && syscall(SYS_tgkill, owner.pid, writer, 0) && errno == ESRCH;
}

/* Brings the watch of a slot in line with who holds it. true: somebody new does. */
static bool look_at(struct tree *tree, unsigned i)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
	struct tree_watch *watch = &tree->watch[i];
	union ctl_owner owner = { .claim = CTL_LOAD(&tree->ctl->slot[i].claim) };

	if (owner.pid == CTL_PID_FOLDING)
		return false;
	if (owner.claim == watch->claim && watch->pidfd >= 0) {
		/* Also true of one that has just ended: reaped either way. */
		if (has_changed(tree, i, owner))
			ended(tree, i);
		return false;
	}
	unwatch(watch);
	if (!owner.pid)
		return false;
	watch->claim = owner.claim;
	watch->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)owner.pid, 0);
	if (watch->pidfd >= 0 &&
	    !epoll_ctl(tree->epoll, EPOLL_CTL_ADD, watch->pidfd, &event))
		return true;
	/* Out of descriptors: look by pid, each time again. */
	if (!process_exists(owner.pid))
		ended(tree, i);
	else
		unwatch(watch);
	return true;
}

/* Reaps those that epoll names. How many it named; *other: other_fd was among them. */
static int take_events(struct tree *tree, int timeout_ms, int *other)
{
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(tree->epoll, events, EVENTS_MAX, timeout_ms);

	*other = 0;
	for (int i = 0; i < n; i++) {
		if (events[i].data.u32 == OTHER)
			*other = 1;
		else
			ended(tree, events[i].data.u32);
	}
	return n;
}

/* Of those that have ended nobody says so until they are looked at: they come first. */
static void reap_all(struct tree *tree)
{
	int other;

	while (take_events(tree, 0, &other) == EVENTS_MAX)
		;
}

/* Who holds which slot, and who has ended: all are asked. */
static void look_at_all(struct tree *tree, uint64_t now)
{
	uint32_t nr = CTL_LOAD(&tree->ctl->nr_slots);
	bool news = false;

	for (uint32_t i = 0; i < nr && i < CTL_SLOTS; i++)
		news |= look_at(tree, i);
	reap_all(tree);
	tree->tick_ms = news ? TREE_TICK_MIN_MS : tree->tick_ms * 2;
	if (tree->tick_ms > TREE_TICK_MAX_MS)
		tree->tick_ms = TREE_TICK_MAX_MS;
	tree->all_ns = now + tree->tick_ms * MS;
}

static void look(struct tree *tree, bool at_all)
{
	struct ctl *ctl = tree->ctl;
	int64_t allowed = ctl_allowed_pages(ctl);
	uint64_t now = monotonic_ns();
	int64_t pages = ctl_usage_pages(ctl);

	/* What it seems to hold may be of processes that are gone. */
	if (at_all || now >= tree->all_ns || pages > allowed) {
		look_at_all(tree, now);
		pages = ctl_usage_pages(ctl);
	}
	ctl_note_peak(ctl, pages);
	if (pages > allowed && tree->looked_ns)
		CTL_STORE(&ctl->over_ns, ctl->over_ns + now - tree->looked_ns);
	if (pages - allowed > ctl->over_pages)
		CTL_STORE(&ctl->over_pages, pages - allowed);
	tree->looked_ns = now;
	tree->look_ns = tree->all_ns;
	/* It takes no longer than that to fill what is left, and the tolerance. */
	if (pages > (int64_t)(ctl->budget_pages / 4 * 3))
		tree->look_ns = now + TREE_TICK_MIN_MS * MS;
}

int tree_wait(struct tree *tree)
{
	uint64_t due = tree->look_ns;
	uint64_t first = due < tree->sample_ns ? due : tree->sample_ns;
	uint64_t now = monotonic_ns();
	/* Rounded up, or the last part of a millisecond is spent spinning. */
	int wait_ms = now < first ? (int)((first - now + 999999) / 1000000) : 0;
	int other;

	take_events(tree, wait_ms, &other);
	if (monotonic_ns() >= tree->sample_ns)
		tree_sample(tree, false);
	if (monotonic_ns() >= due) {
		look(tree, false);
		tree_strays_look(tree);
		tree_print_messages(tree, false);
	}
	return other;
}

void tree_settle(struct tree *tree)
{
	look(tree, true);
}

unsigned tree_live(const struct tree *tree)
{
	uint32_t nr = CTL_LOAD(&tree->ctl->nr_slots);
	unsigned live = 0;

	for (uint32_t i = 0; i < nr && i < CTL_SLOTS; i++) {
		uint32_t pid = CTL_LOAD(&tree->ctl->slot[i].pid);

		live += pid && pid != CTL_PID_FOLDING;
	}
	return live;
}

/* ---- messages ---------------------------------------------------------------------- */

/* stderr may be a pipe that nobody reads: the supervisor must not wait for it. */
static bool stderr_ready(void)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&fd, 1, 0) != 0;
}

/* Each process says by itself what is the matter: for the user it is one matter. */
static bool said_before(struct tree *tree, const char *text)
{
	int i;

	for (i = 0; i < TREE_SAID && tree->said[i][0]; i++)
		if (!strcmp(tree->said[i], text))
			return true;
	if (i < TREE_SAID)
		snprintf(tree->said[i], sizeof(tree->said[i]), "%s", text);
	return false;
}

void tree_print_messages(struct tree *tree, bool last)
{
	struct ctl *ctl = tree->ctl;
	char text[sizeof(ctl->message[0].text)];
	uint64_t now = monotonic_ns();
	uint32_t pid, dropped;

	while ((last || stderr_ready()) &&
	       ctl_message_take(
		       ctl, last || (tree->stuck_ns && now - tree->stuck_ns > STUCK_NS),
		       &pid, text)) {
		tree->stuck_ns = 0;
		if (!said_before(tree, text))
			complain("%s", text);
	}
	if (CTL_LOAD(&ctl->taken_message) == CTL_LOAD(&ctl->next_message))
		tree->stuck_ns = 0;
	else if (!tree->stuck_ns)
		tree->stuck_ns = now;
	dropped = __atomic_exchange_n(&ctl->dropped_messages, 0, __ATOMIC_RELAXED);
	if (dropped)
		complain("%u more messages were dropped: they came faster than stderr "
			 "took them",
			 dropped);
}

/* ---- after the program ------------------------------------------------------------- */

/* Runs until the tree has ended; holds nothing open that anybody could wait for. */
static void janitor(struct tree *tree)
{
	unsigned empty = 0;
	int other;
	sigset_t none;

	prctl(PR_SET_NAME, "uhmm-janitor", 0, 0, 0);
	close_range(0, ~0u, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	free(tree->watch);
	free(tree->sample);
	if (chdir("/") || tree_watch_start(tree, -1))
		_exit(1);
	CTL_STORE(&tree->ctl->supervisor_pid, (uint32_t)getpid());
	do {
		look(tree, true);
		/* Those who could not be rung before. */
		tree_sample(tree, true);
		/* The end of a process comes here at once. */
		take_events(tree, JANITOR_TICK_MS, &other);
		empty = tree_live(tree) ? 0 : empty + 1;
	} while (empty <
		 (CTL_LOAD(&tree->ctl->forking) ? JANITOR_EMPTY_FORKING : JANITOR_EMPTY));
	tree_remove(tree);
	_exit(0);
}

void tree_leave(struct tree *tree)
{
	pid_t pid;

	tree_sample_stop(tree);
	if (!tree_live(tree) && !CTL_LOAD(&tree->ctl->forking)) {
		tree_remove(tree);
		return;
	}
	pid = fork();
	if (pid == 0) {
		/* Its own session, nobody's child: nothing waits for it or stops it. */
		setsid();
		if (fork() == 0)
			janitor(tree);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	/* If there is no janitor, the next run removes the file. */
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without CAP_SYS_PTRACE the kernel does not tell of forks, and a child opens a
 * userfaultfd of its own; and who may not use userfaultfd for faults of the kernel has
 * the rest, delivered inline.
 */
#include "board.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOBODY 65534

/* Who is not root has none to begin with. */
static void drop_ptrace(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	CHECK_EQ(syscall(SYS_capget, &header, data), 0);
	data[0].effective &= ~(1u << CAP_SYS_PTRACE);
	data[0].permitted &= ~(1u << CAP_SYS_PTRACE);
	CHECK_EQ(syscall(SYS_capset, &header, data), 0);
}

static void become_nobody(void)
{
	if (geteuid() == 0)
		CHECK(!setgroups(0, NULL) && !setgid(NOBODY) && !setuid(NOBODY));
	/* As after exec: what a process looks at of itself in /proc is its own again. */
	CHECK_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
}

/* The child has its memory, and what it writes is its own. */
static void check_fork(char *p, size_t nr, uint64_t key)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		api_check(p, nr, key);
		api_fill(p, nr / 2, key + 1000);
		api_check(p + nr / 2 * PAGE, nr / 2, key + nr / 2);
		api_check(p, nr / 2, key + 1000);
		_exit(0);
	}
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	api_check(p, nr, key);
}

API_TEST(a_child_of_which_the_kernel_does_not_tell)
{
	struct uhmm_space *space;
	struct uhmm_device *dev;
	char *p = api_map(NR), *other = api_map(NR);

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	drop_ptrace();
	space = api_space(delivery, 0);
	dev = api_device(space, "lz4");
	api_fill(p, NR, 1);
	api_fill(other, NR, 5000);
	api_move(space, p, NR, dev, UHMM_MOVED);
	check_fork(p, NR, 1);
	/* Some back, some probably not; and one that was unmapped. */
	api_move(space, p, NR / 2, dev, UHMM_MOVED);
	api_move(space, other, NR, dev, UHMM_MOVED);
	api_unmap(other, NR / 4);
	check_fork(p, NR, 1);
	api_check(other + NR / 4 * PAGE, NR - NR / 4, 5000 + NR / 4);
	api_destroy(space);
}

API_TEST(a_coherent_device_of_such_a_child)
{
	struct board *b;
	char *p = api_map(NR);

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	drop_ptrace();
	b = board_open_coherent(delivery);
	api_fill(p, NR, 1);
	board_take(b, p, NR);
	check_fork(p, NR, 1);
	board_close(b);
}

TEST(who_may_only_have_faults_of_the_program)
{
	struct uhmm_space *space = NULL;
	struct uhmm_device *dev;
	char *p = api_map(NR);
	int r;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	become_nobody();
	r = uhmm_space_create(NULL, &space);
	if (r == 0)
		SKIP("everybody may have all faults here");
	CHECK_EQ(r, -EPERM);
	CHECK(!space);
	space = api_space(UHMM_DELIVERY_INLINE, 0);
	dev = api_device(space, "lz4");
	api_fill(p, NR, 1);
	api_move(space, p, NR, dev, UHMM_MOVED);
	api_check(p, NR, 1);
	api_move(space, p, NR, dev, UHMM_MOVED);
	check_fork(p, NR, 1);
	/* The kernel does not fetch them; the library does when it is asked. */
	api_move(space, p, NR, dev, UHMM_MOVED);
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_PIN), 0);
	api_check(p, NR, 1);
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_UNPIN), 0);
	api_destroy(space);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/os/os_linux_mem.c: memory of the library's own, where it is short, locked, or
 * without a place to be aligned in; and the policy of a thread for nodes.
 */
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "tests/system/os/refuse.h"

#define PAGE OS_PAGE_SIZE
#define HUGE (512 * PAGE)
#define MANY 1024u

static bool is_aligned(const void *p)
{
	return (uintptr_t)p % HUGE == 0;
}

TEST(a_reservation_that_is_not_to_be_had)
{
	struct rlimit limit;

	CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = HUGE;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	CHECK(!os_reserve(PAGE));
	CHECK(!os_map_shared(PAGE));
	limit.rlim_cur = limit.rlim_max;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Each takes a place in a table; what finds none there is given back. */
TEST(more_reservations_than_there_are_places)
{
	static char *r[MANY];
	unsigned i, nr = 0;
	uintptr_t gone;

	for (i = 0; i < MANY; i++) {
		r[i] = os_reserve(PAGE);
		nr += r[i] != NULL;
		CHECK(is_aligned(r[i]));
		CHECK(!r[i] || os_is_reserved((uintptr_t)r[i]));
		CHECK(!r[i] || !os_is_reserved((uintptr_t)r[i] + PAGE));
	}
	CHECK(nr > MANY / 2);
	while (os_reserve(PAGE))
		CHECK(nr++ < MANY);
	gone = (uintptr_t)r[5];
	os_release(r[5], PAGE);
	CHECK(!os_is_reserved(gone));
	r[5] = os_reserve(PAGE);
	CHECK(r[5] && os_is_reserved((uintptr_t)r[5]));
	CHECK_EQ(os_commit(r[5], PAGE), 0);
	r[5][7] = 7;
	CHECK(!os_reserve(PAGE));
}

/*
 * Where no huge page's alignment is to be had the kernel says any address. So all address
 * space is taken but a hole that is just large enough and begins in the middle of a huge
 * page.
 */
TEST(a_reservation_is_aligned_in_any_hole)
{
	size_t size = (size_t)1 << 46, need = 4 * HUGE;
	char *hole = mmap(NULL, need + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	char *r, *again;

	if (test_instrument())
		SKIP("%s needs address space of its own", test_instrument());
	CHECK(hole != MAP_FAILED);
	while (size >= PAGE)
		if (mmap(NULL, size, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
			size /= 2;
	CHECK(!os_reserve(PAGE));
	hole += HUGE - (uintptr_t)hole % HUGE + PAGE;
	CHECK_EQ(munmap(hole, need), 0);
	r = os_reserve(PAGE);
	CHECK(r && is_aligned(r));
	/* A margin on each side of a huge page, and nothing else was kept. */
	CHECK(r - HUGE >= hole && r + 2 * HUGE <= hole + need);
	CHECK_EQ(os_commit(r, PAGE), 0);
	*r = 1;
	os_release(r, PAGE);
	again = os_reserve(PAGE);
	CHECK(again == r);
	/* Ending takes a mapping or two. */
	os_release(again, PAGE);
}

static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmLck:", 6))
			kib = atol(line + 6);
	CHECK(f && kib >= 0);
	fclose(f);
	return kib;
}

TEST(memory_of_ours_is_not_locked_with_the_programs)
{
	char *before = os_reserve(4 * HUGE), *later, *p;
	long locked;

	if (test_instrument())
		SKIP("%s does not let mlockall() through", test_instrument());
	CHECK(before && os_commit(before, 4 * HUGE) == 0);
	memset(before, 1, 100 * PAGE);
	/* The program's own: room in what is counted as locked. */
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	CHECK(p != MAP_FAILED);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		SKIP("mlockall: %s", strerror(errno));
	locked = locked_kib();
	/* Locked memory is not discarded, but for us. */
	CHECK_EQ(os_discard(before, 50 * PAGE), 0);
	CHECK(before[0] == 0 && before[50 * PAGE] == 1);
	os_linux_unlock_all();
	CHECK_LE(locked_kib(), locked - (long)(4 * HUGE / 1024));
	later = os_reserve(HUGE);
	CHECK(later && os_commit(later, HUGE) == 0);
	locked = locked_kib();
	CHECK_EQ(os_discard(later, HUGE), 0);
	CHECK_EQ(os_prefer_huge(later, HUGE), 0);
	CHECK_LE(locked_kib(), locked);
	later[HUGE - 1] = 1;
	CHECK_EQ(madvise(p, PAGE, MADV_DONTNEED), -1);
}

TEST(memory_for_a_huge_page_is_empty_and_writable)
{
	char *r = os_reserve(2 * HUGE);

	CHECK(r && os_commit(r, HUGE) == 0);
	memset(r, 5, HUGE);
	CHECK_EQ(os_prefer_huge(r, 2 * HUGE), 0);
	CHECK(r[0] == 0 && r[HUGE - 1] == 0);
	r[2 * HUGE - 1] = 1;
	CHECK_EQ(os_set_executable(r, HUGE, true), 0);
	CHECK_EQ(os_set_executable(r, HUGE, false), 0);
	r[0] = 1;
	refuse(SYS_mmap, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
	       ENOMEM);
	CHECK_EQ(os_prefer_huge(r, HUGE), -ENOMEM);
	CHECK_EQ(r[0], 1);
}

/* All three ways; and what is not, is taken, or nobody would know. */
TEST(what_is_marked_free_and_kept_is_not_taken)
{
	const size_t nr = 1024, part = nr / 4;
	size_t i, taken = 0;
	char *p = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	CHECK_EQ(madvise(p, nr * PAGE, MADV_NOHUGEPAGE), 0);
	for (i = 0; i < nr; i++)
		p[i * PAGE] = 9;
	CHECK_EQ(madvise(p, nr * PAGE, MADV_FREE), 0);
	for (i = 0; i < part; i++)
		os_keep(p + i * PAGE);
	for (; i < 2 * part; i++)
		CHECK_EQ(os_keep_now(p + i * PAGE), 0);
	CHECK_EQ(os_populate((uintptr_t)p + i * PAGE, part * PAGE, true), 0);
	CHECK_EQ(madvise(p, nr * PAGE, MADV_PAGEOUT), 0);
	for (i = 0; i < 3 * part; i++)
		CHECK_EQ(p[i * PAGE], 9);
	for (; i < nr; i++)
		taken += !p[i * PAGE];
	CHECK_GT(taken, 0);
	CHECK_EQ(munmap(p, nr * PAGE), 0);
}

/* Nobody reads of faults there: who waited for one would wait for ever. */
TEST(what_is_not_there_is_not_waited_for_to_be_kept)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int uffd = os_uffd_open(0);

	if (uffd == -EPERM || uffd == -ENOSYS)
		SKIP("userfaultfd cannot be used here");
	CHECK(p != MAP_FAILED);
	CHECK_EQ(madvise(p, 2 * PAGE, MADV_NOHUGEPAGE), 0);
	p[PAGE] = 5;
	CHECK_EQ(os_uffd_register(uffd, (uintptr_t)p, 2 * PAGE), 0);
	CHECK_EQ(os_keep_now(p), -EFAULT);
	CHECK_EQ(os_keep_now(p + PAGE), 0);
	CHECK_EQ(p[PAGE], 5);
	CHECK_EQ(os_uffd_copy(uffd, (uintptr_t)p, p + PAGE, PAGE), PAGE);
	CHECK_EQ(os_keep_now(p), 0);
	CHECK_EQ(p[0], 5);
	os_uffd_close(uffd);
	CHECK_EQ(munmap(p, 2 * PAGE), 0);
}

TEST(shared_memory_is_a_childs_too)
{
	char *p = os_map_shared(PAGE), *wiped = os_reserve(PAGE);
	int status;
	pid_t pid;

	CHECK(p && p[0] == 0);
	CHECK(wiped && os_commit(wiped, PAGE) == 0);
	wiped[0] = 1;
	os_wipe_on_fork(wiped, PAGE);
	pid = fork();
	if (pid == 0) {
		p[0] = 4;
		_exit(wiped[0] ? 1 : 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(p[0] == 4 && wiped[0] == 1);
	os_unmap_shared(p, PAGE);
}

/* ---- nodes ------------------------------------------------------------------------ */

static long policy(int *mode, unsigned long *nodes)
{
	return syscall(SYS_get_mempolicy, mode, nodes, OS_NODES + 1, 0, 0);
}

TEST(a_node_is_for_a_while)
{
	struct os_node_policy saved;
	unsigned long nodes[OS_NODES / 64] = { 1 };
	int mode;

	CHECK_EQ(os_node_set(-1, &saved), -EINVAL);
	CHECK_EQ(os_node_set(OS_NODES, &saved), -EINVAL);
	if (policy(&mode, nodes))
		SKIP("get_mempolicy: %s", strerror(errno));
	CHECK_EQ(os_node_set(OS_NODES - 1, &saved), -EINVAL);
	CHECK_EQ(os_node_set(0, &saved), 0);
	CHECK(policy(&mode, nodes) == 0 && mode == MPOL_BIND && nodes[0] == 1);
	os_node_restore(&saved);
	CHECK(policy(&mode, nodes) == 0 && mode == MPOL_DEFAULT);
	/* What the program has chosen is there again. */
	nodes[0] = 1;
	CHECK_EQ(syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, nodes, OS_NODES + 1), 0);
	CHECK_EQ(os_node_set(0, &saved), 0);
	os_node_restore(&saved);
	CHECK(policy(&mode, nodes) == 0 && mode == MPOL_INTERLEAVE && nodes[0] == 1);
	/* MPOL_LOCAL takes no nodes. */
	CHECK_EQ(syscall(SYS_set_mempolicy, MPOL_LOCAL, NULL, 0), 0);
	CHECK_EQ(os_node_set(0, &saved), 0);
	os_node_restore(&saved);
	CHECK(policy(&mode, nodes) == 0 && mode == MPOL_LOCAL);
}

TEST(a_system_without_nodes_says_so)
{
	struct os_node_policy saved;

	refuse(SYS_get_mempolicy, REFUSE_ANY, 0, ENOSYS);
	CHECK_EQ(os_node_set(0, &saved), -ENOSYS);
}

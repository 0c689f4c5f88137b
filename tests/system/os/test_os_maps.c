/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/os/os_linux_maps.c and os_linux_smaps.c: what Linux tells of this process's memory,
 * each way that it can be asked, and what is said where it does not tell.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/uapi.h"
#include "tests/system/os/refuse.h"

#define PAGE OS_PAGE_SIZE
#define RW (PROT_READ | PROT_WRITE)
#define HUGE (512 * PAGE)
#define MAPPINGS 2048
/* How files of /proc are opened. */
#define LOOKS (O_RDONLY | O_CLOEXEC)

static char *map(size_t pages, int prot, int flags)
{
	char *p = mmap(NULL, pages * PAGE, prot, flags | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* ---- mappings --------------------------------------------------------------------- */

/* Of a file whose path is as long as one can be. */
static void map_long_path(void)
{
	char name[201], top[] = "/tmp/uhmm-test-XXXXXX";
	int fd, i, dirs = 18;

	memset(name, 'd', 200);
	name[200] = 0;
	CHECK(mkdtemp(top) && chdir(top) == 0);
	for (i = 0; i < dirs; i++) {
		CHECK_EQ(mkdir(name, 0700), 0);
		CHECK_EQ(chdir(name), 0);
	}
	fd = open(name, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	close(fd);
	unlink(name);
	for (i = 0; i < dirs; i++) {
		CHECK_EQ(chdir(".."), 0);
		CHECK_EQ(rmdir(name), 0);
	}
	CHECK_EQ(rmdir(top), 0);
}

static unsigned walk(bool writable_only, struct os_vma *all)
{
	uintptr_t addr = 0;
	unsigned n = 0;
	int r;

	while ((r = os_vma_next(addr, writable_only, &all[n])) == 0) {
		CHECK(all[n].end > addr);
		CHECK(all[n].writable || !writable_only);
		addr = all[n].end;
		CHECK(++n < MAPPINGS);
	}
	CHECK_EQ(r, -ENOENT);
	return n;
}

static const struct os_vma *found(const struct os_vma *all, unsigned n, const void *p)
{
	for (; n; all++, n--)
		if ((uintptr_t)p >= all->start && (uintptr_t)p < all->end)
			return all;
	test_fail("%p is in no mapping", p);
}

/* The page of vsyscall is in the text and cannot be asked for. */
static unsigned without_vsyscall(const struct os_vma *all, unsigned n)
{
	if (n && all[n - 1].start >> 63) {
		CHECK_EQ(all[n - 1].kind, OS_VMA_SPECIAL);
		n--;
	}
	return n;
}

static void check_same(const struct os_vma *a, unsigned na, const struct os_vma *b,
		       unsigned nb)
{
	CHECK_EQ(na, nb);
	for (; na; a++, b++, na--) {
		CHECK_EQ(a->start, b->start);
		CHECK_EQ(a->end, b->end);
		CHECK_EQ(a->kind, b->kind);
		CHECK_EQ(a->readable, b->readable);
		CHECK_EQ(a->writable, b->writable);
		CHECK_EQ(a->executable, b->executable);
		CHECK_EQ(b->page_shift, 12);
	}
}

static struct os_vma asked[2][MAPPINGS], read_of[2][MAPPINGS];

TEST(mappings_are_the_same_by_query_and_by_text)
{
	char *anon = map(3, RW, MAP_PRIVATE), *none = map(1, PROT_NONE, MAP_PRIVATE);
	char *shared = map(1, RW, MAP_SHARED), *code = map(1, PROT_EXEC, MAP_PRIVATE);
	void *ours = os_reserve(PAGE);
	unsigned n[2], m[2], i;
	struct os_vma vma;

	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, anon, 3 * PAGE, "of a test");
	CHECK(sbrk(PAGE) != (void *)-1);
	map_long_path();
	CHECK(ours && os_commit(ours, PAGE) == 0);
	CHECK_EQ(os_attach(), 0);
	for (i = 0; i < 2; i++)
		n[i] = walk(i, asked[i]);
	CHECK_EQ(found(asked[0], n[0], anon)->kind, OS_VMA_ANON);
	CHECK_EQ(found(asked[0], n[0], shared)->kind, OS_VMA_SHARED);
	CHECK_EQ(found(asked[0], n[0], ours)->kind, OS_VMA_SPECIAL);
	CHECK_EQ(found(asked[0], n[0], __builtin_frame_address(0))->kind, OS_VMA_STACK);
	CHECK_EQ(found(asked[0], n[0], (char *)sbrk(0) - 1)->kind, OS_VMA_HEAP);
	CHECK_EQ(found(asked[0], n[0], strerror)->kind, OS_VMA_FILE);
	CHECK(found(asked[0], n[0], code)->executable);
	CHECK(!found(asked[0], n[0], none)->readable);
	/* As before Linux 6.11. */
	refuse(SYS_ioctl, 1, (uint32_t)PROCMAP_QUERY, ENOTTY);
	for (i = 0; i < 2; i++)
		m[i] = walk(i, read_of[i]);
	for (i = 0; i < 2; i++)
		check_same(asked[i], n[i], read_of[i],
			   without_vsyscall(read_of[i], m[i]));
	/* And back, and not from the start. */
	for (i = 2; i--;) {
		CHECK_EQ(os_vma_next((uintptr_t)(i ? shared : anon), false, &vma), 0);
		CHECK_EQ(vma.end, found(asked[0], n[0], i ? shared : anon)->end);
	}
}

TEST(a_query_that_fails_for_now_is_no_kernel_without_it)
{
	struct os_vma vma;

	CHECK_EQ(os_attach(), 0);
	refuse(SYS_ioctl, 1, (uint32_t)PROCMAP_QUERY, ESRCH);
	CHECK_EQ(os_vma_next(0, false, &vma), -ESRCH);
}

TEST(what_cannot_be_opened_is_said)
{
	struct os_vma vma;
	char *p = map(1, RW, MAP_PRIVATE);

	*p = 1;
	CHECK_EQ(os_empty((uintptr_t)p, PAGE), 0);
	refuse(SYS_openat, 2, LOOKS, EMFILE);
	CHECK_EQ(os_attach(), -EMFILE);
	CHECK_EQ(os_vma_next(0, false, &vma), -EBADF);
	CHECK_EQ(os_pss_anon_pages(), -EMFILE);
	CHECK(!os_huge_allowed((uintptr_t)p));
}

/* ---- pages ------------------------------------------------------------------------ */

/* zeros, memory, nothing, memory; in a mapping without huge pages */
static char *four_kinds(void)
{
	char *p = map(4, RW, MAP_PRIVATE);

	CHECK_EQ(madvise(p, 4 * PAGE, MADV_NOHUGEPAGE), 0);
	CHECK_EQ(*(volatile char *)p, 0);
	p[PAGE] = p[3 * PAGE] = 1;
	return p;
}

TEST(pages_are_told_apart)
{
	uintptr_t p = (uintptr_t)four_kinds(), walked = 0;
	int fd = open("/proc/self/exe", O_RDONLY);
	char *file = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	struct os_extent e[4];
	uint8_t pages[4];
	uint64_t once = ~UINT64_C(0);

	if (!test_has_zero_page())
		SKIP("this kernel has no page of zeros");
	CHECK_EQ(os_attach(), 0);
	CHECK_EQ(os_look(p, 4, pages), 0);
	CHECK_EQ(pages[0] & ~OS_PAGE_EXCLUSIVE, OS_PAGE_PRESENT | OS_PAGE_ZERO);
	CHECK_EQ(pages[1], OS_PAGE_PRESENT | OS_PAGE_EXCLUSIVE);
	CHECK_EQ(pages[2], 0);
	CHECK_EQ(os_scan(p, p + 4 * PAGE, OS_SCAN_MEMORY, 10, e, 4, &walked), 2);
	CHECK(e[0].start == p + PAGE && e[0].nr_pages == 1 && !e[0].huge);
	CHECK(e[1].start == p + 3 * PAGE && e[1].nr_pages == 1 && !e[1].huge);
	CHECK_EQ(walked, p + 4 * PAGE);
	CHECK_EQ(os_scan(p, p + 4 * PAGE, OS_SCAN_ZEROS, 10, e, 4, &walked), 1);
	CHECK(e[0].start == p && e[0].nr_pages == 1);
	CHECK_EQ(os_scan(p, p + 4 * PAGE, OS_SCAN_MEMORY, 1, e, 4, &walked), 1);
	CHECK(walked > p + PAGE && walked <= p + 3 * PAGE);
	CHECK_EQ(os_scan(p, p + 4 * PAGE, OS_SCAN_MEMORY, 10, e, 1, &walked), 1);
	CHECK(walked <= p + 3 * PAGE);
	os_mapped_once(p, 4, &once);
	CHECK_EQ(once & ~UINT64_C(1), 0xa);
	CHECK_EQ(os_empty(p + 2 * PAGE, 2 * PAGE), PAGE);
	CHECK_EQ(os_empty(p + 2 * PAGE, PAGE), PAGE);
	CHECK_EQ(os_empty(p + PAGE, PAGE), 0);
	CHECK_EQ(os_linux_filled(p, 0), 0);
	CHECK_EQ(os_linux_filled(p, 4 * PAGE), 2 * PAGE);
	CHECK(file != MAP_FAILED && *file == 0x7f);
	CHECK_EQ(os_look((uintptr_t)file, 1, pages), 0);
	CHECK_EQ(pages[0] & (OS_PAGE_PRESENT | OS_PAGE_FILE),
		 OS_PAGE_PRESENT | OS_PAGE_FILE);
}

TEST(a_huge_page_is_seen)
{
	uintptr_t p = ((uintptr_t)map(1024, RW, MAP_PRIVATE) + HUGE - 1) & ~(HUGE - 1);
	uintptr_t walked;
	struct os_extent e[2];
	uint8_t pages[2];
	int n;

	CHECK_EQ(os_attach(), 0);
	madvise((void *)p, HUGE, MADV_HUGEPAGE);
	if (!os_huge_allowed(p))
		SKIP("no huge pages are given here");
	*(char *)p = 1;
	n = os_scan(p, p + HUGE, OS_SCAN_MEMORY, 1000, e, 2, &walked);
	CHECK_EQ(n, 1);
	if (e[0].nr_pages == 1)
		SKIP("there is no huge page free");
	CHECK(e[0].huge && e[0].nr_pages == 512);
	CHECK_EQ(os_look(p + PAGE, 2, pages), 0);
	CHECK_EQ(pages[1], OS_PAGE_PRESENT | OS_PAGE_EXCLUSIVE | OS_PAGE_HUGE);
	madvise((void *)p, HUGE, MADV_NOHUGEPAGE);
	CHECK(!os_huge_allowed(p));
}

TEST(a_fork_shares_pages_until_they_are_written)
{
	char *p = four_kinds();
	uintptr_t at = (uintptr_t)p + PAGE;
	uint64_t once;
	uint8_t look;
	int fds[2];
	char byte;
	pid_t pid;

	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(os_attach(), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[1]);
		CHECK_EQ(read(fds[0], &byte, 1), 0);
		_exit(0);
	}
	os_mapped_once(at, 1, &once);
	CHECK_EQ(once, 0);
	CHECK_EQ(os_look(at, 1, &look), 0);
	CHECK_EQ(look, OS_PAGE_PRESENT);
	CHECK_EQ(os_make_exclusive(at, PAGE), 0);
	CHECK_EQ(os_look(at, 1, &look), 0);
	CHECK_EQ(look, OS_PAGE_PRESENT | OS_PAGE_EXCLUSIVE);
	CHECK_EQ(p[PAGE], 1);
	close(fds[1]);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(pages_that_cannot_be_asked_for_are_taken_for_none)
{
	uintptr_t p = (uintptr_t)four_kinds(), walked = 7;
	struct os_extent e[1];
	uint64_t once = 7;
	uint8_t pages[4];

	CHECK_EQ(os_attach(), 0);
	refuse(SYS_ioctl, 1, (uint32_t)PAGEMAP_SCAN, ENOTTY);
	CHECK_EQ(os_scan(p, p + PAGE, OS_SCAN_MEMORY, 1, e, 1, &walked), -ENOTTY);
	CHECK_EQ(walked, 7);
	CHECK_EQ(os_look(p, 4, pages), -ENOTTY);
	CHECK_EQ(os_empty(p + 2 * PAGE, PAGE), 0);
	refuse(SYS_pread64, REFUSE_ANY, 0, EIO);
	CHECK_EQ(os_look(p, 4, pages), -EIO);
	os_mapped_once(p, 4, &once);
	CHECK_EQ(once, 0);
	CHECK_EQ(os_rss_anon_pages(NULL), -EIO);
}

TEST(protection_is_changed_and_given_back)
{
	struct os_vma vma = { .readable = true, .executable = false };
	char *p = map(2, PROT_READ, MAP_PRIVATE);
	uintptr_t at = (uintptr_t)p;
	struct os_vma now;

	CHECK_EQ(os_attach(), 0);
	CHECK_EQ(os_set_writable(at, PAGE, &vma, true), 0);
	*p = 1;
	CHECK_EQ(os_set_writable(at, PAGE, &vma, false), 0);
	CHECK_EQ(os_vma_next(at, false, &now), 0);
	CHECK(now.readable && !now.writable && !now.executable);
	vma = (struct os_vma){ .writable = true };
	CHECK_EQ(os_set_writable(at, PAGE, &vma, false), 0);
	CHECK_EQ(os_vma_next(at, false, &now), 0);
	CHECK(!now.readable && now.writable && now.end == at + PAGE);
	vma = (struct os_vma){ .executable = true };
	CHECK_EQ(os_set_writable(at, PAGE, &vma, false), 0);
	CHECK_EQ(os_vma_next(at, false, &now), 0);
	CHECK(!now.readable && !now.writable && now.executable);
	munmap(p, PAGE);
	CHECK_EQ(os_set_writable(at, PAGE, &vma, true), -ENOMEM);
	CHECK_EQ(os_populate(at + PAGE, PAGE, false), 0);
	CHECK_EQ(os_populate(at + PAGE, PAGE, true), -EINVAL);
}

/* ---- sums ------------------------------------------------------------------------- */

static void *attach(void *arg)
{
	*(int *)arg = os_attach();
	return NULL;
}

TEST(resident_memory_is_counted_when_who_began_it_has_ended)
{
	int64_t before, after, pss, mapped, more, slack;
	pthread_t thread;
	char *p;
	int r = 1;

	CHECK_EQ(pthread_create(&thread, NULL, attach, &r), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(r, 0);
	before = os_rss_anon_pages(&mapped);
	pss = os_pss_anon_pages();
	CHECK(before > 0 && mapped > before && pss > 0);
	p = map(2000, RW, MAP_PRIVATE);
	memset(p, 1, 2000 * PAGE);
	after = os_rss_anon_pages(&more);
	/* Each processor has not added 64 pages yet, or twice as many as there are. */
	slack = 64 * os_nr_cpus() + 200;
	CHECK_GE(after - before, 2000 - slack);
	CHECK_GE(more - mapped, 2000);
	CHECK_GE(os_pss_anon_pages() - pss, 2000 - slack);
	/* What watches each access has memory of its own for each page. */
	if (!test_instrument()) {
		CHECK_LE(after - before, 2000 + slack);
		CHECK_LE(more - mapped, 2000 + slack);
		CHECK_LE(os_pss_anon_pages() - pss, 2000 + slack);
	}
	CHECK(os_minor_faults() >= 4);
}

/* ---- what the kernel writes when a thread ends ------------------------------------ */

static struct {
	unsigned nr;
	uintptr_t seen[64];
} areas;

static void note(void *ctx, uintptr_t addr, size_t len)
{
	CHECK(ctx == &areas && len > 0 && areas.nr < 64);
	areas.seen[areas.nr++] = addr + len / 2;
}

static void *wait_for_end(void *arg)
{
	uintptr_t *mine = arg;
	char byte;
	size_t len;

	CHECK_EQ(syscall(SYS_get_robust_list, 0, &mine[1], &len), 0);
	__atomic_store_n(&mine[2], 1, __ATOMIC_RELEASE);
	CHECK_EQ(read((int)mine[0], &byte, 1), 0);
	return NULL;
}

TEST(the_area_of_each_thread_is_told)
{
	uintptr_t mine[3] = { 0 }, first;
	pthread_t thread;
	unsigned i, hits = 0;
	size_t len;
	int fds[2];

	CHECK_EQ(pipe(fds), 0);
	mine[0] = (uintptr_t)fds[0];
	CHECK_EQ(os_attach(), 0);
	CHECK_EQ(pthread_create(&thread, NULL, wait_for_end, mine), 0);
	while (!__atomic_load_n(&mine[2], __ATOMIC_ACQUIRE))
		sched_yield();
	CHECK_EQ(syscall(SYS_get_robust_list, 0, &first, &len), 0);
	os_for_each_thread_area(note, &areas);
	for (i = 0; i < areas.nr; i++)
		hits += areas.seen[i] == first || areas.seen[i] == mine[1];
	CHECK_EQ(hits, 2);
	close(fds[1]);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	/* Threads that have all ended when they are asked of: looked for some times. */
	areas.nr = 0;
	refuse(SYS_get_robust_list, REFUSE_ANY, 0, ESRCH);
	os_for_each_thread_area(note, &areas);
	CHECK_EQ(areas.nr, 0);
}

TEST(a_child_is_known_by_its_maker)
{
	enum { CHILDREN = 100 };
	pid_t pid[CHILDREN];
	int fds[2], i;
	char byte;

	CHECK_EQ(pipe(fds), 0);
	for (i = 0; i < CHILDREN; i++) {
		pid[i] = fork();
		if (pid[i])
			continue;
		close(fds[1]);
		_exit(read(fds[0], &byte, 1) != 0);
	}
	for (i = 0; i < CHILDREN; i++)
		CHECK(os_is_child_of(os_tid(), (uint32_t)pid[i]));
	CHECK(!os_is_child_of(os_tid(), 1));
	CHECK(!os_is_child_of(os_tid(), (uint32_t)getpid()));
	/* A thread that there is not: it is not known to be another's. */
	CHECK(os_is_child_of(1, (uint32_t)pid[0]));
	close(fds[1]);
	for (i = 0; i < CHILDREN; i++)
		CHECK_EQ(waitpid(pid[i], NULL, 0), pid[i]);
}

static void note_page(void *ctx, uintptr_t start, uintptr_t end)
{
	uintptr_t *at = ctx;

	if (at[0] >= start && at[0] < end) {
		CHECK_EQ(end - start, PAGE);
		at[1]++;
	}
}

TEST(what_is_registered_is_told)
{
	char *p = map(3, RW, MAP_PRIVATE);
	uintptr_t at[2] = { (uintptr_t)p + PAGE };
	int uffd = os_uffd_open(OS_UFFD_USER_ONLY);

	CHECK(uffd >= 0);
	CHECK_EQ(os_for_each_registered(0, note_page, at), 0);
	CHECK_EQ(at[1], 0);
	CHECK_EQ(os_uffd_register(uffd, (uintptr_t)p + PAGE, PAGE), 0);
	CHECK_EQ(os_for_each_registered((uint32_t)getpid(), note_page, at), 0);
	CHECK_EQ(at[1], 1);
	CHECK_EQ(os_uffd_unregister(uffd, (uintptr_t)p + PAGE, PAGE), 0);
	CHECK_EQ(os_for_each_registered(0, note_page, at), 0);
	CHECK_EQ(at[1], 1);
	refuse(SYS_openat, 2, LOOKS, EMFILE);
	CHECK_EQ(os_for_each_registered((uint32_t)getpid(), note_page, at), -EMFILE);
	os_uffd_close(uffd);
}

/* In a child that has `name` of the pages, until `go` is closed. */
static pid_t make_named(const char *names, uint64_t name, const int go[2])
{
	pid_t pid = fork();
	char byte;
	unsigned i;

	if (pid)
		return pid;
	close(go[1]);
	for (i = 0; i < OS_NAME_PAGES; i++)
		if (name >> i & 1)
			(void)*(const volatile char *)(names + i * PAGE);
	_exit(read(go[0], &byte, 1) != 0);
}

static int64_t find_soon(const char *names, uint64_t name, uint64_t inherited)
{
	int64_t r;
	int tries = 0;

	while ((r = os_find_child(0, (uintptr_t)names, name, inherited)) == 0 &&
	       tries++ < 5000)
		usleep(1000);
	return r;
}

TEST(a_child_is_known_by_its_pages)
{
	const uint64_t a = 0x5555, b = 0x5556, c = 0x9a00, inherited = 0xf0;
	char *names = map(OS_NAME_PAGES, RW, MAP_PRIVATE);
	uintptr_t at = (uintptr_t)names;
	pid_t pid[4];
	int go[2], i;

	CHECK_EQ(pipe(go), 0);
	CHECK_EQ(os_find_child(0, at, a, 0), 0);
	pid[0] = make_named(names, a, go);
	pid[1] = make_named(names, b | inherited, go);
	CHECK_EQ(find_soon(names, a, inherited), pid[0]);
	CHECK_EQ(find_soon(names, b, inherited), pid[1]);
	CHECK_EQ(os_find_child(0, at, b, 0), 0);
	/* Its maker had a part of that when it made it. */
	pid[3] = make_named(names, c | (inherited & 0x30), go);
	CHECK_EQ(find_soon(names, c, inherited), pid[3]);
	CHECK_EQ(os_find_child(0, at, c, inherited & 0x10), 0);
	CHECK_EQ(os_find_child(0, at, c | 0x100, inherited), 0);
	/* The youngest of two. */
	pid[2] = make_named(names, a, go);
	while (os_find_child(0, at, a, 0) != pid[2])
		usleep(1000);
	/* Nobody's, and of somebody that there is not. */
	CHECK_EQ(os_find_child((uint32_t)pid[0], at, a, 0), 0);
	refuse(SYS_openat, 2, LOOKS, EACCES);
	CHECK_EQ(os_find_child(0, at, a, 0), -EACCES);
	close(go[1]);
	for (i = 0; i < 4; i++)
		CHECK_EQ(waitpid(pid[i], NULL, 0), pid[i]);
}

struct asker {
	pthread_t thread;
	uintptr_t wiped;
	uint32_t *stop;
	uint64_t rounds;
};

static void *ask_again_and_again(void *arg)
{
	struct asker *a = arg;

	while (!__atomic_load_n(a->stop, __ATOMIC_RELAXED)) {
		uintptr_t at[2] = { a->wiped };

		CHECK_EQ(os_for_each_wiped(0, note_page, at), 0);
		CHECK_EQ(at[1], 1);
		__atomic_fetch_add(&a->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* While the mappings before it come and go, and with them its place in the file. */
TEST(two_who_ask_at_once_are_both_told, .timeout_s = 60)
{
	struct asker a[2];
	uint32_t stop = 0;
	char *low, *p;
	int i, rounds = 100;

	low = map(64, PROT_NONE, MAP_PRIVATE);
	p = map(3, RW, MAP_PRIVATE);
	CHECK_EQ(madvise(p + PAGE, PAGE, MADV_WIPEONFORK), 0);
	CHECK_EQ(os_attach(), 0);
	for (i = 0; i < 2; i++) {
		a[i] = (struct asker){ .wiped = (uintptr_t)p + PAGE, .stop = &stop };
		CHECK_EQ(pthread_create(&a[i].thread, NULL, ask_again_and_again, &a[i]),
			 0);
	}
	while (rounds-- > 0 || !__atomic_load_n(&a[0].rounds, __ATOMIC_RELAXED) ||
	       !__atomic_load_n(&a[1].rounds, __ATOMIC_RELAXED))
		for (i = 0; i < 64; i += 2)
			CHECK_EQ(mprotect(low + i * PAGE, PAGE,
					  rounds & 1 ? RW : PROT_NONE),
				 0);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(a[i].thread, NULL);
}

TEST(what_a_child_finds_empty_is_told)
{
	char *p = map(3, RW, MAP_PRIVATE);
	uintptr_t at[2] = { (uintptr_t)p + PAGE };

	map_long_path();
	CHECK_EQ(madvise(p + PAGE, PAGE, MADV_WIPEONFORK), 0);
	CHECK_EQ(os_for_each_wiped(0, note_page, at), 0);
	CHECK_EQ(at[1], 1);
	/* As of a child: until it has a page there. */
	CHECK_EQ(os_for_each_wiped((uint32_t)getpid(), note_page, at), 0);
	CHECK_EQ(at[1], 2);
	p[PAGE] = 1;
	CHECK_EQ(os_for_each_wiped((uint32_t)getpid(), note_page, at), 0);
	CHECK_EQ(at[1], 2);
	/* Of others it takes a descriptor, of oneself none. */
	CHECK_EQ(os_attach(), 0);
	refuse(SYS_openat, 2, LOOKS, EMFILE);
	CHECK_EQ(os_for_each_wiped((uint32_t)getpid(), note_page, at), -EMFILE);
	CHECK_EQ(at[1], 2);
	CHECK_EQ(os_for_each_wiped(0, note_page, at), 0);
	CHECK_EQ(at[1], 3);
}

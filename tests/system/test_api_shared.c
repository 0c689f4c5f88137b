/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page maps of which fork() does not copy the memory: pages are counted.
 */
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uhmm/migrate.h"
#include "uhmm/range.h"

#define NR 64u

/* The device, in memory that parent and child share. */
struct device {
	unsigned freed[NR]; /* how often */
	char page[NR][PAGE];
};

static const char owner[] = "shared device";
static struct device *device;
static struct uhmm_space *space;
static struct uhmm_pagemap *map;

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	const struct device *d = ctx;

	memcpy(buf, d->page[page], PAGE);
	return 0;
}

static void page_free(void *ctx, uint64_t page)
{
	struct device *d = ctx;

	memset(d->page[page], 0xdb, PAGE);
	__atomic_fetch_add(&d->freed[page], 1, __ATOMIC_RELAXED);
}

static const struct uhmm_pagemap_ops ops = {
	.size = sizeof(ops),
	.copy_to_ram = copy_to_ram,
	.page_free = page_free,
};

static struct uhmm_pagemap_config config = {
	.size = sizeof(config),
	.nr_pages = NR,
	.owner = owner,
	.ops = &ops,
	.flags = UHMM_PAGEMAP_SHARED,
};

static unsigned freed(void)
{
	unsigned i, n = 0;

	for (i = 0; i < NR; i++) {
		unsigned times = __atomic_load_n(&device->freed[i], __ATOMIC_RELAXED);

		CHECK(times <= 1);
		n += times;
	}
	return n;
}

/* The same, and those that have ended are noticed: pages of theirs are wanted. */
static unsigned freed_at_last(void)
{
	uhmm_pfn_t pfn;
	unsigned i;

	for (i = 0; i < 16; i++)
		if (!__atomic_load_n(&device->freed[i], __ATOMIC_RELAXED))
			uhmm_page_get(map, i, &pfn);
	return freed();
}

/* A space with nr pages of p on the device; page i there is page i of the device. */
static char *on_device(uint32_t delivery, size_t nr)
{
	const char *why = api_fork_stops_threads();
	uhmm_pfn_t src[NR], dst[NR];
	struct uhmm_migrate m = {
		.size = sizeof(m), .src = src, .dst = dst, .flags = UHMM_SELECT_SYSTEM
	};
	char *p = api_map(nr);
	size_t i;

	if (why)
		SKIP("%s", why);
	device = mmap(NULL, sizeof(*device), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(device != MAP_FAILED);
	space = api_space(delivery, 0);
	config.ctx = device;
	CHECK_EQ(uhmm_pagemap_register(space, &config, &map), 0);
	api_fill(p, nr, 1);
	m.start = (uintptr_t)p;
	m.end = m.start + nr * PAGE;
	CHECK_EQ(uhmm_migrate_setup(space, &m), 0);
	CHECK_EQ(m.cpages, nr);
	for (i = 0; i < nr; i++) {
		CHECK_EQ(uhmm_page_get(map, i, &dst[i]), 0);
		memcpy(device->page[i], uhmm_pfn_bytes(space, src[i]), PAGE);
	}
	CHECK_EQ(uhmm_migrate_pages(space, &m), 0);
	CHECK_EQ(uhmm_migrate_finalize(space, &m), 0);
	CHECK_EQ(api_resident(p, nr), 0);
	return p;
}

static void expect_end(pid_t pid, int expected)
{
	int status;

	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, expected);
}

API_TEST(a_page_is_freed_by_who_gives_it_up_last)
{
	char *p = on_device(delivery, 16);
	pid_t pid = fork();

	if (!pid) {
		api_check(p, 16, 1);
		CHECK_EQ(api_resident(p, 16), 16);
		CHECK_EQ(freed(), 0);
		_exit(0);
	}
	expect_end(pid, 0);
	CHECK_EQ(api_resident(p, 16), 0);
	api_check(p, 16, 1);
	CHECK_SOON(freed_at_last() == 16);
	api_destroy(space);
}

API_TEST(each_has_its_own_copy_once_it_writes)
{
	char *p = on_device(delivery, 16);
	pid_t pid = fork();

	if (!pid) {
		api_fill(p, 8, 100);
		api_check(p, 8, 100);
		api_check(p + 8 * PAGE, 8, 9);
		_exit(0);
	}
	api_fill(p + 8 * PAGE, 8, 200);
	expect_end(pid, 0);
	api_check(p, 8, 1);
	api_check(p + 8 * PAGE, 8, 200);
	CHECK_SOON(freed_at_last() == 16);
	api_destroy(space);
}

static void let_go(struct uhmm_notifier *notifier, void *ctx,
		   const struct uhmm_invalidation *what, uint64_t seq)
{
	(void)ctx;
	(void)what;
	uhmm_notifier_set_seq(notifier, seq);
}

/* What the device may do with the page at p. */
static uint64_t ask(struct uhmm_notifier *notifier, char *p, uint64_t wanted)
{
	uint64_t pfn = 0;
	struct uhmm_range range = {
		.size = sizeof(range),
		.notifier = notifier,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGE,
		.pfns = &pfn,
		.default_flags = wanted,
		.dev_private_owner = owner,
	};
	int r;

	do {
		pfn = 0;
		range.notifier_seq = uhmm_notifier_read_begin(notifier);
		r = uhmm_range_fault(&range);
	} while (r == -EBUSY);
	CHECK_EQ(r, 0);
	return pfn;
}

/* The device would write to the child's memory as well. */
API_TEST(the_device_reads_what_two_have_and_writes_what_one_has)
{
	static const struct uhmm_notifier_ops notifier_ops = {
		.size = sizeof(notifier_ops), .invalidate = let_go
	};
	char *p = on_device(delivery, 16);
	struct uhmm_notifier *notifier;
	uint64_t pfn, page;
	int fd[2];
	pid_t pid;
	char c;

	CHECK_EQ(uhmm_notifier_insert(space, (uintptr_t)p, 16 * PAGE, &notifier_ops, NULL,
				      &notifier),
		 0);
	pfn = ask(notifier, p, 0);
	CHECK(pfn & UHMM_RANGE_WRITE);
	CHECK(uhmm_range_pagemap(space, pfn, &page) == map);
	CHECK_EQ(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		close(fd[1]);
		while (read(fd[0], &c, 1) > 0)
			;
		api_check(p, 16, 1);
		_exit(0);
	}
	pfn = ask(notifier, p, UHMM_RANGE_REQ_FAULT);
	CHECK(pfn & UHMM_RANGE_VALID);
	CHECK(!(pfn & UHMM_RANGE_WRITE));
	CHECK(uhmm_range_pagemap(space, pfn, &page) == map);
	/* A copy of its own is what it may write to. */
	pfn = ask(notifier, p, UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE);
	CHECK(pfn & UHMM_RANGE_WRITE);
	CHECK(!uhmm_range_pagemap(space, pfn, &page));
	close(fd[1]);
	expect_end(pid, 0);
	api_check(p, 16, 1);
	uhmm_notifier_remove(notifier);
	api_destroy(space);
}

/* A child that ends without having given anything back, in this way. */
static void end_without_a_word(uint32_t delivery, void (*end)(void))
{
	char *p = on_device(delivery, 16);
	uhmm_pfn_t pfn;
	int fd[2];
	pid_t pid;
	char c;

	CHECK_EQ(pipe2(fd, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		/* It has its own thread of the page map only a moment after the fork. */
		usleep(50000);
		CHECK_EQ(write(fd[1], "x", 1), 1);
		end();
		pause();
	}
	CHECK_EQ(read(fd[0], &c, 1), 1);
	api_check(p, 16, 1);
	/* The child has them still, or had them when it ended. */
	CHECK_EQ(uhmm_page_get(map, 20, &pfn), 0);
	kill(pid, SIGKILL);
	expect_end(pid, SIGKILL);
	/* Who wants the page finds that nobody has it. */
	CHECK_SOON(freed_at_last() == 16);
	api_destroy(space);
}

static void nothing(void)
{
}

static void become_another(void)
{
	execlp("sleep", "sleep", "100", (char *)NULL);
}

API_TEST(what_a_killed_child_had_is_freed)
{
	end_without_a_word(delivery, nothing);
}

API_TEST(what_a_child_had_that_became_another_program_is_freed)
{
	end_without_a_word(delivery, become_another);
}

API_TEST(what_a_living_child_has_is_not_to_be_had)
{
	char *p = on_device(delivery, 16);
	uhmm_pfn_t pfn;
	int fd[2];
	pid_t pid;
	char c;

	CHECK_EQ(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		close(fd[1]);
		CHECK_EQ(read(fd[0], &c, 1), 0);
		api_check(p, 16, 1);
		_exit(0);
	}
	api_check(p, 16, 1);
	CHECK_EQ(freed(), 0);
	CHECK_EQ(uhmm_page_get(map, 3, &pfn), -EBUSY);
	close(fd[1]);
	close(fd[0]);
	expect_end(pid, 0);
	CHECK_SOON(freed_at_last() == 16);
	CHECK_EQ(uhmm_page_get(map, 20, &pfn), 0);
	api_destroy(space);
}

API_TEST(a_grandchild_outlives_them)
{
	char *p = on_device(delivery, 16);
	int fd[2], status;
	pid_t pid;
	char c;

	CHECK_EQ(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		pid = fork();
		if (!pid) {
			usleep(100000);
			api_check(p, 16, 1);
			CHECK_EQ(write(fd[1], "x", 1), 1);
		}
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	api_destroy(space);
	close(fd[1]);
	CHECK_EQ(read(fd[0], &c, 1), 1);
}

API_TEST(a_child_ends_its_space)
{
	char *p = on_device(delivery, 16);
	pid_t pid = fork();

	if (!pid) {
		api_destroy(space);
		api_check(p, 16, 1);
		_exit(0);
	}
	expect_end(pid, 0);
	CHECK_EQ(freed(), 0);
	CHECK_EQ(api_resident(p, 16), 0);
	CHECK_EQ(uhmm_pagemap_unregister(map), 0);
	CHECK_EQ(freed(), 16);
	api_check(p, 16, 1);
	api_destroy(space);
}

API_TEST(a_raw_child_has_all_its_memory)
{
	char *p = on_device(delivery, 16);
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		api_check(p, 16, 1);
		_exit(0);
	}
	expect_end(pid, 0);
	CHECK_EQ(freed(), 0);
	api_check(p, 16, 1);
	CHECK_SOON(freed_at_last() == 16);
	api_destroy(space);
}

TEST(a_coherent_one_cannot_be_shared)
{
	struct uhmm_pagemap_config bad = config;

	space = api_space(UHMM_DELIVERY_THREAD, 0);
	bad.type = UHMM_PAGEMAP_COHERENT;
	CHECK_EQ(uhmm_pagemap_register(space, &bad, &map), -EINVAL);
	bad.type = 3;
	bad.flags = 0;
	CHECK_EQ(uhmm_pagemap_register(space, &bad, &map), -EINVAL);
	bad.type = 0;
	bad.flags = 2;
	CHECK_EQ(uhmm_pagemap_register(space, &bad, &map), -EINVAL);
	api_destroy(space);
}

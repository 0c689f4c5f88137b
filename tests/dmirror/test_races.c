/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads: devices migrate, read and write while the program does, unmaps, protects,
 * moves and forks.
 */
#include "dm.h"

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#define NR 64u
#define RUN_MS 600

struct race {
	unsigned number;
	int fd, other; /* of two devices */
	char *p;
	bool stop;
};

static bool over(const struct race *r)
{
	return __atomic_load_n(&r->stop, __ATOMIC_RELAXED);
}

static void run(struct race *r, void *(*const *fn)(void *), unsigned nr)
{
	pthread_t thread[8];
	unsigned i;

	for (i = 0; i < nr; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, fn[i], r), 0);
	usleep(RUN_MS * 1000);
	__atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

static struct race start(unsigned number)
{
	return (struct race){ .number = number,
			      .fd = dm_open(number),
			      .other = dm_open(number + 1),
			      .p = dm_map(NR) };
}

/* ---- nothing is lost --------------------------------------------------------------- */

static void *to_dev(void *arg)
{
	struct race *r = arg;
	char *q = dm_map(NR);
	int result;

	while (!over(r)) {
		result = dm_call(r->fd, DMIRROR_MIGRATE_TO_DEV, r->p, q, NR, NULL);
		CHECK(result == 0 || result == -ENOENT || result == -EINVAL ||
			      result == -EBUSY,
		      "%d", result);
	}
	return NULL;
}

static void *to_other(void *arg)
{
	struct race *r = arg, other = *r;
	char *q = dm_map(NR);

	while (!over(r))
		dm_call(other.other, DMIRROR_MIGRATE_TO_DEV, r->p, q, NR, NULL);
	return NULL;
}

static void *to_sys(void *arg)
{
	struct race *r = arg;

	while (!over(r)) {
		dm_call(r->fd, DMIRROR_MIGRATE_TO_SYS, r->p, NULL, NR, NULL);
		dm_call(r->other, DMIRROR_MIGRATE_TO_SYS, r->p, NULL, NR / 2, NULL);
	}
	return NULL;
}

static void *cpu_reads(void *arg)
{
	struct race *r = arg;

	while (!over(r)) {
		dm_check(r->p, NR, 1);
		usleep(100);
	}
	return NULL;
}

static void *device_reads(void *arg)
{
	struct race *r = arg;
	char *q = dm_map(NR);
	int result;

	while (!over(r)) {
		result = dm_call(r->fd, DMIRROR_READ, r->p, q, NR, NULL);
		CHECK(result == 0 || result == -EBUSY, "%d", result);
		if (result == 0)
			dm_check(q, NR, 1);
	}
	return NULL;
}

static void *releases(void *arg)
{
	struct race *r = arg;

	while (!over(r)) {
		CHECK_EQ(dm_call(r->fd, DMIRROR_RELEASE, r->p, NULL, 1, NULL), 0);
		usleep(2000);
	}
	return NULL;
}

DM_TEST(nothing_is_lost_on_the_way, .timeout_s = 60)
{
	static void *(*const threads[])(void *) = { to_dev,    to_other,     to_sys,
						    cpu_reads, device_reads, releases };
	struct race r = start(number);

	dm_fill(r.p, NR, 1);
	run(&r, threads, 6);
	dm_check(r.p, NR, 1);
}

/* ---- every write counts ------------------------------------------------------------ */

/* The first word of each page is counted by the program, with atomic additions. */
static void *cpu_counts(void *arg)
{
	struct race *r = arg;
	uint64_t done = 0;
	size_t i;

	for (; !over(r); done++)
		for (i = 0; i < NR; i++)
			__atomic_fetch_add((uint64_t *)(void *)(r->p + i * PAGE), 1,
					   __ATOMIC_RELAXED);
	return (void *)(uintptr_t)done;
}

static void *makes_exclusive(void *arg)
{
	struct race *r = arg;
	char *q = dm_map(NR);

	while (!over(r))
		dm_call(r->fd, DMIRROR_EXCLUSIVE, r->p, q, NR, NULL);
	return NULL;
}

DM_TEST(every_write_of_the_program_counts, .timeout_s = 60)
{
	struct race r = start(number);
	pthread_t count[2], move[3];
	void *done;
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < 2; i++)
		pthread_create(&count[i], NULL, cpu_counts, &r);
	pthread_create(&move[0], NULL, to_dev, &r);
	pthread_create(&move[1], NULL, to_sys, &r);
	pthread_create(&move[2], NULL, makes_exclusive, &r);
	usleep(RUN_MS * 1000);
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++) {
		pthread_join(count[i], &done);
		sum += (uintptr_t)done;
	}
	for (i = 0; i < 3; i++)
		pthread_join(move[i], NULL);
	for (i = 0; i < NR; i++)
		CHECK_EQ(*(uint64_t *)(void *)(r.p + i * PAGE), sum);
}

/* One device writes, page by page, and nobody else does: what it wrote last is there. */
static void *device_writes(void *arg)
{
	struct race *r = arg;
	char *q = dm_map(NR), *back = dm_map(NR);
	uint64_t key;

	for (key = 1; !over(r); key++) {
		dm_fill(q, NR, key);
		CHECK_EQ(dm_call(r->fd, DMIRROR_WRITE, r->p, q, NR, NULL), 0);
		CHECK_EQ(dm_call(r->other, DMIRROR_READ, r->p, back, NR, NULL), 0);
		dm_check(back, NR, key);
		dm_check(r->p, NR, key);
	}
	return NULL;
}

DM_TEST(every_write_of_a_device_counts, .timeout_s = 60)
{
	static void *(*const threads[])(void *) = { device_writes, to_dev, to_sys,
						    to_other };
	struct race r = start(number);

	run(&r, threads, 4);
}

/* ---- the mapping goes -------------------------------------------------------------- */

struct teardown {
	char *p;
	pthread_barrier_t barrier;
};

static void *tear_down(void *arg)
{
	struct teardown *t = arg;

	pthread_barrier_wait(&t->barrier);
	munmap(t->p + NR / 2 * PAGE, NR / 2 * PAGE);
	return NULL;
}

DM_TEST(memory_goes_while_the_device_is_at_it, .timeout_s = 60)
{
	int fd = dm_open(number), i, result;
	struct teardown t;
	struct dmirror_cmd cmd;
	pthread_t thread;
	char *q = dm_map(NR);

	for (i = 0; i < 200; i++) {
		t.p = dm_map(NR);
		dm_fill(t.p, NR, 1);
		if (i % 4 == 3)
			dm_call(fd, DMIRROR_MIGRATE_TO_DEV, t.p, q, NR, NULL);
		pthread_barrier_init(&t.barrier, NULL, 2);
		CHECK_EQ(pthread_create(&thread, NULL, tear_down, &t), 0);
		pthread_barrier_wait(&t.barrier);
		result = dm_call(fd, i % 2 ? DMIRROR_READ : DMIRROR_MIGRATE_TO_DEV, t.p,
				 q, NR, &cmd);
		if (result == 0)
			dm_check(q, NR, 1);
		else
			CHECK(result == -EFAULT || result == -ENOENT || result == -EINVAL,
			      "%d", result);
		pthread_join(thread, NULL);
		dm_check(t.p, NR / 2, 1);
		munmap(t.p, NR / 2 * PAGE);
		pthread_barrier_destroy(&t.barrier);
	}
}

/* Another mapping of the same place: old bytes must not come up in it. */
static void *remaps(void *arg)
{
	struct race *r = arg;
	char *p = r->p + NR / 2 * PAGE;

	while (!over(r)) {
		CHECK(mmap(p, NR / 4 * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
		dm_check(p, 1, 0);
		dm_fill(p, 1, 3);
		dm_check(p, 1, 3);
		CHECK_EQ(madvise(p, PAGE, MADV_DONTNEED), 0);
		dm_check(p, 1, 0);
	}
	return NULL;
}

static void *protects(void *arg)
{
	struct race *r = arg;
	char *p = r->p + NR / 4 * PAGE, *q = dm_map(1);

	dm_fill(q, 1, 77);
	while (!over(r)) {
		CHECK_EQ(mprotect(p, NR / 8 * PAGE, PROT_READ), 0);
		CHECK_EQ(dm_call(r->other, DMIRROR_WRITE, p, q, 1, NULL), -EPERM);
		CHECK_EQ(mprotect(p, NR / 8 * PAGE, PROT_READ | PROT_WRITE), 0);
		dm_fill(p, 1, 5);
		dm_check(p, 1, 5);
	}
	return NULL;
}

DM_TEST(mappings_change_while_devices_are_at_them, .timeout_s = 60)
{
	static void *(*const threads[])(void *) = { to_dev, to_sys, remaps, protects };
	struct race r = start(number);

	dm_fill(r.p, NR / 4, 1);
	run(&r, threads, 4);
	dm_check(r.p, NR / 4, 1);
}

/* ---- forks ------------------------------------------------------------------------- */

DM_TEST(forks_while_devices_are_at_it, .timeout_s = 120)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) ||                     \
	HAS_FEATURE(thread_sanitizer)
	(void)number;
	SKIP("a sanitizer's locks stay taken in a child of fork()");
#else
	struct race r = start(number);
	pthread_t thread[3];
	int i, status;
	pid_t pid;

	dm_fill(r.p, NR, 1);
	pthread_create(&thread[0], NULL, to_dev, &r);
	pthread_create(&thread[1], NULL, to_sys, &r);
	pthread_create(&thread[2], NULL, device_reads, &r);
	for (i = 0; i < 20; i++) {
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			dm_check(r.p, NR, 1);
			dm_fill(r.p, NR, 100);
			dm_to_dev(dm_open(number), r.p, NR, 100);
			dm_check(r.p, NR, 100);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	dm_check(r.p, NR, 1);
#endif
}

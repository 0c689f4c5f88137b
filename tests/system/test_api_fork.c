/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() of a process with spaces: parent and child each have all pages, and spaces that
 * work and end independently of each other.
 */
#include "api.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NR 512u

/*
 * AddressSanitizer's runtime (gcc 12) does not let go of its locks in a forked child:
 * where another thread begins, or allocates, at the time of the fork, none of the child
 * ever starts.
 */
static const char *fork_beside_busy_threads(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return "AddressSanitizer's locks stay taken in a child of fork()";
#else
	return api_fork_stops_threads();
#endif
}

#define NEEDS_FORK(what_)                                                                \
	do {                                                                             \
		const char *why_ = what_();                                              \
		if (why_)                                                                \
			SKIP("%s", why_);                                                \
	} while (0)

struct both {
	struct uhmm_space *space;
	struct uhmm_device *ram, *lz4;
	char *p; /* a third on ram, a third on lz4, a third in memory */
};

static struct both make(uint32_t delivery, uint64_t key)
{
	struct both b;

	NEEDS_FORK(api_fork_stops_threads);
	b = (struct both){ .space = api_space(delivery, 0), .p = api_map(NR) };
	b.ram = api_device(b.space, "ram");
	b.lz4 = api_device(b.space, "lz4");
	api_fill(b.p, NR, key);
	api_move(b.space, b.p, NR / 3, b.ram, UHMM_MOVED);
	api_move(b.space, b.p + NR / 3 * PAGE, NR / 3, b.lz4, UHMM_MOVED);
	return b;
}

static void wait_for(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}

/* Parent and child at the same time; ends the test. */
static void each_writes_its_own(struct both *b, pid_t pid, bool child_has_space)
{
	if (pid == 0) {
		api_check(b->p, NR, 1);
		api_fill(b->p, NR, 9000);
		if (child_has_space)
			api_destroy(b->space);
		api_check(b->p, NR, 9000);
		_exit(0);
	}
	api_check(b->p, NR, 1);
	api_fill(b->p, NR, 5000);
	wait_for(pid);
	api_check(b->p, NR, 5000);
	api_destroy(b->space);
}

API_TEST(a_child_reads_everything_and_ends_its_space, .timeout_s = 60)
{
	struct both b = make(delivery, 1);

	each_writes_its_own(&b, fork(), true);
}

API_TEST(a_child_has_what_can_be_executed, .timeout_s = 60)
{
	struct both b = make(delivery, 1);

	/* A third on a device, a third in frames, a third in its place. */
	if (mprotect(b.p, NR * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
		SKIP("mprotect: %s", strerror(errno));
	api_check(b.p, NR, 1);
	CHECK_SOON(api_stats(b.space).now_device == 0);
	api_move(b.space, b.p, NR / 3, b.ram, UHMM_MOVED);
	CHECK_EQ(uhmm_advise(b.space, b.p + NR / 3 * PAGE, NR / 3 * PAGE,
			     UHMM_ADVISE_COLD),
		 0);
	each_writes_its_own(&b, fork(), true);
}

API_TEST(a_child_ends_its_space_without_having_read, .timeout_s = 60)
{
	struct both b = make(delivery, 1);
	pid_t pid = fork();

	if (pid == 0) {
		api_destroy(b.space);
		api_check(b.p, NR, 1);
		_exit(0);
	}
	wait_for(pid);
	CHECK_EQ(api_stats(b.space).now_device, NR / 3 * 2);
	api_check(b.p, NR, 1);
	api_destroy(b.space);
}

API_TEST(a_child_migrates_with_its_own_space, .timeout_s = 60)
{
	struct both b = make(delivery, 1);
	struct uhmm_device *more;
	pid_t pid = fork();

	if (pid == 0) {
		/* What parent and child share is made the child's own first. */
		CHECK_EQ(uhmm_advise(b.space, b.p, NR * PAGE, UHMM_ADVISE_COLD), 0);
		CHECK_EQ(api_resident(b.p, NR), 0);
		api_check(b.p, NR, 1);
		api_fill(b.p, NR, 2000);
		more = api_device(b.space, "lz4");
		api_move(b.space, b.p, NR, more, UHMM_MOVED);
		CHECK_EQ(uhmm_device_close(b.space, b.ram), 0);
		CHECK_EQ(madvise(b.p, 8 * PAGE, MADV_DONTNEED), 0);
		CHECK_EQ(b.p[0], 0);
		api_check(b.p + 8 * PAGE, NR - 8, 2008);
		api_destroy(b.space);
		_exit(0);
	}
	wait_for(pid);
	api_check(b.p, NR, 1);
	api_move(b.space, b.p, NR, b.ram, UHMM_MOVED);
	api_check(b.p, NR, 1);
	api_destroy(b.space);
}

/* Not by libc, so no handler runs: the parent fills the child, which has no space. */
API_TEST(a_raw_clone_reads_everything, .timeout_s = 60)
{
	struct both b = { .space = api_space(delivery, 0), .p = api_map(NR) };

	b.ram = api_device(b.space, "ram");
	api_fill(b.p, NR, 1);
	api_move(b.space, b.p, NR / 2, b.ram, UHMM_MOVED);
	each_writes_its_own(&b, (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0),
			    false);
}

static void *fork_again_and_again(void *arg)
{
	const uint32_t *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		wait_for(pid);
	}
	return NULL;
}

/* One that comes while another thread is forking is not that thread's child. */
API_TEST(a_raw_clone_beside_a_fork, .timeout_s = 60)
{
	struct both b;
	uint32_t stop = 0;
	pthread_t forker;
	int clones = test_instrument() ? 20 : 200;

	NEEDS_FORK(fork_beside_busy_threads);
	b = make(delivery, 1);
	CHECK_EQ(pthread_create(&forker, NULL, fork_again_and_again, &stop), 0);
	while (clones--) {
		pid_t pid;

		CHECK_EQ(uhmm_migrate(b.space, b.p, 32 * PAGE, b.ram, NULL, NULL), 0);
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
		if (pid == 0) {
			api_check(b.p, 32, 1);
			_exit(0);
		}
		wait_for(pid);
		api_check(b.p, 16, 1);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(forker, NULL);
	api_destroy(b.space);
}

#define STAY 40

struct staying {
	int until[2]; /* closed: they end */
	pid_t pid[STAY];
	uint32_t made;
};

/* Children that have a copy of whatever descriptors were open, and keep it. */
static void *make_some_that_stay(void *arg)
{
	struct staying *s = arg;
	char byte;
	int i;

	for (i = 0; i < STAY; i++) {
		s->pid[i] = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
		if (s->pid[i] == 0) {
			close(s->until[1]);
			_exit(read(s->until[0], &byte, 1) != 0);
		}
	}
	__atomic_store_n(&s->made, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* What the library had open of a child while it was filled another child may have too. */
API_TEST(a_raw_clone_beside_others_that_stay, .timeout_s = 60)
{
	struct both b = { .space = api_space(delivery, 0), .p = api_map(NR) };
	struct staying s = { .made = 0 };
	pthread_t thread;
	int i;

	b.ram = api_device(b.space, "ram");
	api_fill(b.p, NR / 2, 1);
	CHECK_EQ(pipe(s.until), 0);
	api_move(b.space, b.p, NR / 2, b.ram, UHMM_MOVED);
	CHECK_EQ(pthread_create(&thread, NULL, make_some_that_stay, &s), 0);
	while (!__atomic_load_n(&s.made, __ATOMIC_ACQUIRE)) {
		pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);

		if (pid == 0) {
			api_check(b.p, NR / 2, 1);
			api_fill(b.p + NR / 2 * PAGE, NR / 2, 7); /* never touched */
			_exit(0);
		}
		wait_for(pid);
	}
	pthread_join(thread, NULL);
	close(s.until[1]);
	for (i = 0; i < STAY; i++)
		wait_for(s.pid[i]);
	api_check(b.p, NR / 2, 1);
	api_destroy(b.space);
}

#define WIPED 64u

struct toggled {
	char *p;
	uint32_t stop;
	uint64_t rounds;
};

static void *wipe_and_keep(void *arg)
{
	struct toggled *t = arg;

	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		CHECK_EQ(madvise(t->p, WIPED * PAGE, MADV_WIPEONFORK), 0);
		CHECK_EQ(madvise(t->p, WIPED * PAGE, MADV_KEEPONFORK), 0);
		__atomic_fetch_add(&t->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void check_empty(const char *p, unsigned nr)
{
	static const char zeros[PAGE];
	unsigned i;

	for (i = 0; i < nr; i++)
		CHECK(memcmp(p + i * PAGE, zeros, PAGE) == 0, "page %u", i);
}

/* The first page has never migrated: what the kernel did with it it did with all. */
static void check_wiped_or_kept(const char *p)
{
	static const char zeros[PAGE];

	if (memcmp(p, zeros, PAGE) != 0)
		api_check(p, WIPED, 1);
	else
		check_empty(p + PAGE, WIPED - 1);
}

/* MADV_WIPEONFORK by another thread comes before the copy, or after it. */
API_TEST(a_raw_clone_is_wiped_or_not, .timeout_s = 60)
{
	struct both b = { .space = api_space(delivery, 0), .p = api_map(WIPED) };
	struct toggled t = { .p = b.p };
	int clones = test_instrument() ? 50 : 500;
	pthread_t thread;

	b.ram = api_device(b.space, "ram");
	api_fill(b.p, WIPED, 1);
	CHECK_EQ(pthread_create(&thread, NULL, wipe_and_keep, &t), 0);
	CHECK_SOON(__atomic_load_n(&t.rounds, __ATOMIC_RELAXED));
	while (clones--) {
		pid_t pid;

		CHECK_EQ(uhmm_migrate(b.space, b.p + PAGE, (WIPED - 1) * PAGE, b.ram,
				      NULL, NULL),
			 0);
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
		if (pid == 0) {
			check_wiped_or_kept(b.p);
			_exit(0);
		}
		wait_for(pid);
	}
	__atomic_store_n(&t.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	api_check(b.p, WIPED, 1);
	api_destroy(b.space);
}

/*
 * Where a mapping has shrunk and grown again is nothing. Of that the kernel tells nobody;
 * and by the time that we look at the child it has gone.
 */
API_TEST(a_raw_clone_has_nothing_where_a_mapping_grew_again_and_went, .timeout_s = 60)
{
	struct both b = { .space = api_space(delivery, 0) };
	int clones = test_instrument() ? 20 : 100;
	pid_t pid;

	b.ram = api_device(b.space, "ram");
	while (clones--) {
		b.p = api_map(WIPED);
		api_fill(b.p, WIPED, 1);
		CHECK_EQ(uhmm_migrate(b.space, b.p, WIPED * PAGE, b.ram, NULL, NULL), 0);
		CHECK(mremap(b.p, WIPED * PAGE, PAGE, 0) == b.p);
		CHECK(mremap(b.p, PAGE, WIPED * PAGE, 0) == b.p);
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
		if (pid != 0)
			CHECK_EQ(munmap(b.p, WIPED * PAGE), 0);
		else {
			api_check(b.p, 1, 1);
			check_empty(b.p + PAGE, WIPED - 1);
			_exit(0);
		}
		wait_for(pid);
	}
	api_destroy(b.space);
}

/*
 * A child of the child has what that has wiped, and nothing else, empty. That the child
 * has wiped it itself shows in the page of it that has not migrated.
 */
API_TEST(children_of_a_raw_clone_are_wiped, .timeout_s = 60)
{
	struct both b = { .space = api_space(delivery, 0), .p = api_map(NR) };
	int rounds = test_instrument() ? 5 : 50;

	b.ram = api_device(b.space, "ram");
	api_fill(b.p, NR, 1);
	while (rounds--) {
		pid_t pid, second;

		CHECK_EQ(uhmm_migrate(b.space, b.p + PAGE, (NR - 1) * PAGE, b.ram, NULL,
				      NULL),
			 0);
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
		if (pid == 0) {
			CHECK_EQ(madvise(b.p, WIPED * PAGE, MADV_WIPEONFORK), 0);
			second = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
			if (second == 0) {
				CHECK_EQ(b.p[0], 0);
				check_wiped_or_kept(b.p);
				api_check(b.p + WIPED * PAGE, NR - WIPED, 1 + WIPED);
				_exit(0);
			}
			api_check(b.p, NR, 1);
			wait_for(second);
			_exit(0);
		}
		wait_for(pid);
	}
	api_check(b.p, NR, 1);
	api_destroy(b.space);
}

/* What is no memory of ours is nothing to wait for. */
API_TEST(a_bus_error_of_a_raw_clone_is_its_own)
{
	struct both b = { .p = api_map(NR) };
	int fd = memfd_create("cut", MFD_CLOEXEC), status;
	char *file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	pid_t pid;

	CHECK(file != MAP_FAILED);
	signal(SIGBUS, SIG_DFL); /* not a sanitizer's, before the library's comes */
	b.space = api_space(delivery, 0);
	b.ram = api_device(b.space, "ram");
	api_fill(b.p, NR, 1);
	api_move(b.space, b.p, NR, b.ram, UHMM_MOVED);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
	CHECK(pid >= 0);
	if (!pid) {
		api_check(b.p, NR, 1);
		_exit(*(volatile char *)file);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "status %#x", status);
	api_check(b.p, NR, 1);
	api_destroy(b.space);
}

API_TEST(children_of_children, .timeout_s = 60)
{
	struct both b = make(delivery, 1);
	int depth, top = 1;
	pid_t pid;

	for (depth = 0; depth < 16; depth++) {
		pid = fork();
		if (pid) {
			api_check(b.p, NR, 1);
			wait_for(pid);
			break;
		}
		top = 0;
		api_check(b.p + depth * PAGE, NR / 2, 1 + (uint64_t)depth);
		CHECK_EQ(uhmm_advise(b.space, b.p, 8 * PAGE, UHMM_ADVISE_COLD), 0);
		CHECK_EQ(api_resident(b.p, 8), 0);
	}
	api_check(b.p, NR, 1);
	api_destroy(b.space);
	if (!top)
		_exit(0);
}

API_TEST(fork_with_several_spaces, .timeout_s = 60)
{
	struct both b[3];
	pid_t pid;
	int i;

	for (i = 0; i < 3; i++)
		b[i] = make(delivery, 1000 * (i + 1));
	pid = fork();
	for (i = 2; i >= 0; i--) {
		api_check(b[i].p, NR, 1000 * (i + 1));
		api_fill(b[i].p, NR, 7000 * (i + 1));
		api_move(b[i].space, b[i].p, NR, b[i].lz4, UHMM_MOVED);
	}
	for (i = 0; i < 3; i++) {
		api_check(b[i].p, NR, 7000 * (i + 1));
		api_destroy(b[i].space);
		api_check(b[i].p, NR, 7000 * (i + 1));
	}
	if (pid == 0)
		_exit(0);
	wait_for(pid);
}

/* What libc itself touches in fork() may be migrated. */
API_TEST(fork_with_a_migrated_heap, .timeout_s = 60)
{
	struct both b;
	char *first, *last, *mine[64];
	pid_t pid;
	int i;

	if (test_instrument())
		SKIP("a sanitizer's allocator keeps what its runtime needs among it");
	b = make(delivery, 1);
	first = malloc(100);
	for (i = 0; i < 64; i++) {
		mine[i] = malloc(20000);
		memset(mine[i], i, 20000);
	}
	last = malloc(100);
	CHECK_EQ(uhmm_migrate(b.space, first, (size_t)(last - first), b.ram, NULL, NULL),
		 0);
	pid = fork();
	for (i = 0; i < 64; i++) {
		CHECK_EQ(mine[i][0], i);
		CHECK_EQ(mine[i][19999], i);
		free(mine[i]);
	}
	free(first);
	free(last);
	api_destroy(b.space);
	if (pid == 0)
		_exit(0);
	wait_for(pid);
}

/* ---- while others are at work ------------------------------------------------------ */

struct other {
	pthread_t thread;
	struct both *b;
	uint32_t *stop;
	uint64_t rounds;
	unsigned seed;
};

static void *read_and_migrate(void *arg)
{
	struct other *o = arg;
	struct rng rng = { o->seed };

	while (!__atomic_load_n(o->stop, __ATOMIC_RELAXED)) {
		size_t i = rng_below(&rng, NR), n = rng_below(&rng, NR - i) + 1;

		switch (rng_below(&rng, 4)) {
		case 0:
			uhmm_migrate(o->b->space, o->b->p + i * PAGE, n * PAGE,
				     rng_next(&rng) & 1 ? o->b->ram : o->b->lz4, NULL,
				     NULL);
			break;
		case 1:
			uhmm_migrate(o->b->space, o->b->p + i * PAGE, n * PAGE, NULL,
				     NULL, NULL);
			break;
		default:
			api_check(o->b->p + i * PAGE, n % 16, 1 + i);
			break;
		}
		__atomic_fetch_add(&o->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

API_TEST(fork_while_threads_migrate_and_read, .timeout_s = 60)
{
	struct both b = make(delivery, 1);
	struct other o[2];
	uint32_t stop = 0;
	int i, forks = test_instrument() ? 5 : 25;

	for (i = 0; i < 2; i++) {
		o[i] = (struct other){ .b = &b, .stop = &stop, .seed = (unsigned)i + 1 };
		CHECK_EQ(pthread_create(&o[i].thread, NULL, read_and_migrate, &o[i]), 0);
	}
	/* See fork_beside_busy_threads(). */
	for (i = 0; i < 2; i++)
		CHECK_SOON(__atomic_load_n(&o[i].rounds, __ATOMIC_RELAXED));
	while (forks--) {
		pid_t pid = fork();

		if (pid == 0) {
			api_check(b.p, NR, 1);
			CHECK_EQ(uhmm_space_destroy(b.space), 0);
			api_check(b.p, NR, 1);
			_exit(0);
		}
		wait_for(pid);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++) {
		pthread_join(o[i].thread, NULL);
		CHECK(o[i].rounds);
	}
	api_check(b.p, NR, 1);
	api_destroy(b.space);
}

static void *come_and_go(void *arg)
{
	struct other *o = arg;
	char *p = api_map(32);

	while (!__atomic_load_n(o->stop, __ATOMIC_RELAXED)) {
		struct uhmm_space *space = api_space(o->seed, 0);
		struct uhmm_device *ram = api_device(space, "ram");

		api_fill(p, 32, o->rounds);
		CHECK_EQ(uhmm_migrate(space, p, 32 * PAGE, ram, NULL, NULL), 0);
		api_check(p, 16, o->rounds);
		api_destroy(space);
		api_check(p, 32, o->rounds);
		__atomic_store_n(&o->rounds, o->rounds + 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

API_TEST(fork_while_spaces_come_and_go, .timeout_s = 60)
{
	struct both b;
	uint32_t stop = 0;
	struct other o = { .b = &b, .stop = &stop, .seed = delivery };
	int forks = test_instrument() ? 5 : 25;

	NEEDS_FORK(fork_beside_busy_threads);
	b = make(delivery, 1);
	CHECK_EQ(pthread_create(&o.thread, NULL, come_and_go, &o), 0);
	/* As many, and until both have been at it. */
	while (forks-- > 0 || !__atomic_load_n(&o.rounds, __ATOMIC_RELAXED)) {
		pid_t pid = fork();

		if (pid == 0) {
			api_check(b.p, NR, 1);
			api_destroy(b.space);
			_exit(0);
		}
		wait_for(pid);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(o.thread, NULL);
	api_check(b.p, NR, 1);
	api_destroy(b.space);
}

/* ---- locks of libc that fork() takes ---------------------------------------------- */

#define CHUNKS 4096
#define CHUNK_BYTES 1000

static struct {
	char *chunk[CHUNKS];
	int stop;
} heap;

/* Holds the allocator's lock while it touches what lies beside the chunks. */
static void *free_and_allocate(void *arg)
{
	uint64_t n = 1;

	(void)arg;
	while (!__atomic_load_n(&heap.stop, __ATOMIC_RELAXED)) {
		size_t i = (n = n * 6364136223846793005u + 1) >> 33 & (CHUNKS - 1);

		free(heap.chunk[i]);
		heap.chunk[i] = malloc(CHUNK_BYTES + (i & 7) * 16);
	}
	return NULL;
}

API_TEST(fork_while_another_thread_faults_with_a_lock_of_libc, .timeout_s = 60)
{
	uintptr_t low = UINTPTR_MAX, high = 0;
	struct uhmm_space *space;
	struct uhmm_device *dev;
	pthread_t thread;
	int i;

	NEEDS_FORK(fork_beside_busy_threads);
	space = api_space(delivery, 0);
	for (i = 0; i < CHUNKS; i++) {
		heap.chunk[i] = malloc(CHUNK_BYTES);
		if ((uintptr_t)heap.chunk[i] < low)
			low = (uintptr_t)heap.chunk[i];
		if ((uintptr_t)heap.chunk[i] > high)
			high = (uintptr_t)heap.chunk[i];
	}
	low = (low + PAGE - 1) & ~(PAGE - 1);
	high &= ~(PAGE - 1);
	dev = api_device(space, "ram");
	CHECK_EQ(pthread_create(&thread, NULL, free_and_allocate, NULL), 0);
	for (i = 0; i < 100; i++) {
		pid_t pid;

		CHECK(uhmm_migrate(space, (void *)low, high - low, dev, NULL, NULL) >= 0);
		pid = fork();
		if (pid == 0)
			_exit(0);
		wait_for(pid);
	}
	__atomic_store_n(&heap.stop, 1, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	api_destroy(space);
}

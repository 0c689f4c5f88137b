/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of spaces and devices: made and ended many times, what is refused and how,
 * what lies around them.
 */
#include "api.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define NR_PAGES 256u

/* ---- again and again --------------------------------------------------------------- */

static void one_life(uint32_t delivery, char *p, uint64_t key)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	struct uhmm_device *lz4 = api_device(space, "lz4");

	api_fill(p, NR_PAGES, key);
	api_move(space, p, NR_PAGES / 2, ram, UHMM_MOVED);
	api_move(space, p + NR_PAGES / 2 * PAGE, NR_PAGES / 2, lz4, UHMM_MOVED);
	CHECK_EQ(api_resident(p, NR_PAGES), 0);
	/* Some come back by being touched, the others when the space ends. */
	api_check(p, NR_PAGES / 4, key);
	api_destroy(space);
	CHECK_EQ(api_resident(p, NR_PAGES), NR_PAGES);
	api_check(p, NR_PAGES, key);
}

API_TEST(spaces_come_and_go_and_nothing_is_left, .timeout_s = 60)
{
	char *p = api_map(NR_PAGES);
	int fds, mappings, i;

	/* What the library and libc make once is there after this. */
	for (i = 0; i < 3; i++)
		one_life(delivery, p, 1 + 1000u * i);
	fds = api_nr_fds();
	mappings = api_nr_mappings();
	for (i = 0; i < 40; i++)
		one_life(delivery, p, 7 + 1000u * i);
	CHECK_EQ(api_nr_fds(), fds);
	CHECK_LE(api_nr_mappings(), mappings + 2);
	api_unmap(p, NR_PAGES);
}

API_TEST(eight_spaces_at_once_and_not_one_more)
{
	struct uhmm_space_config config = { .size = sizeof(config),
					    .delivery = delivery };
	struct uhmm_space *space[8], *more = (void *)1;
	struct uhmm_device *dev[8];
	char *p[8];
	int i, j;

	for (i = 0; i < 8; i++) {
		space[i] = api_space(delivery, 0);
		dev[i] = api_device(space[i], i % 2 ? "ram" : "lz4");
		p[i] = api_map(NR_PAGES);
		api_fill(p[i], NR_PAGES, 1000u * (i + 1));
		api_move(space[i], p[i], NR_PAGES, dev[i], UHMM_MOVED);
	}
	CHECK_EQ(uhmm_space_create(&config, &more), -EMFILE);
	CHECK_EQ(more, (void *)1);
	/* Pages belong to the space that migrated them first. */
	CHECK_EQ(uhmm_migrate(space[1], p[0], NR_PAGES * PAGE, dev[0], NULL, NULL),
		 -EINVAL);
	for (i = 0; i < 8; i += 2)
		api_destroy(space[i]);
	for (j = 0; j < 8; j++)
		api_check(p[j], NR_PAGES, 1000u * (j + 1));
	for (i = 1; i < 8; i += 2)
		api_destroy(space[i]);
	for (j = 0; j < 8; j++)
		api_check(p[j], NR_PAGES, 1000u * (j + 1));
}

API_TEST(a_page_belongs_to_one_space)
{
	struct uhmm_space *a = api_space(delivery, 0), *b = api_space(delivery, 0);
	struct uhmm_device *in_a = api_device(a, "ram"), *in_b = api_device(b, "ram");
	char *p = api_map(NR_PAGES);

	api_fill(p, NR_PAGES, 5);
	api_move(a, p, NR_PAGES, in_a, UHMM_MOVED);
	api_move(b, p, NR_PAGES, in_b, UHMM_UNMOVABLE);
	api_check(p, NR_PAGES, 5);
	api_move(b, p, NR_PAGES, in_b, UHMM_UNMOVABLE);
	api_destroy(a);
	api_move(b, p, NR_PAGES, in_b, UHMM_MOVED);
	api_check(p, NR_PAGES, 5);
	api_destroy(b);
}

/*
 * Threads that touch memory while spaces on it begin and end: pages that are stored,
 * pages never written. The same memory every time.
 */
struct toucher {
	pthread_t thread;
	char *p;
	uint32_t stop, rounds;
	unsigned seed;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;
	struct rng rng = { t->seed };

	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		char *page = t->p + rng_below(&rng, NR_PAGES) * PAGE;

		if (rng_next(&rng) & 1)
			madvise(page, PAGE, MADV_DONTNEED);
		/* One word a thread: what it reads is its own last word, or zero. */
		volatile uint64_t *word = (volatile uint64_t *)page + t->seed;
		uint64_t seen = *word;

		CHECK(seen == 0 || seen >> 32 == t->seed, "%jx", (uintmax_t)seen);
		*word = (uint64_t)t->seed << 32 | t->rounds;
		__atomic_fetch_add(&t->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

API_TEST(a_space_ends_under_threads_that_use_the_memory, .timeout_s = 60)
{
	struct toucher t[2];
	char *p = api_map(NR_PAGES);
	int i, lives = test_instrument() ? 15 : 60;

	for (i = 0; i < 2; i++) {
		t[i] = (struct toucher){ .p = p, .seed = (unsigned)i + 1 };
		CHECK_EQ(pthread_create(&t[i].thread, NULL, touch, &t[i]), 0);
	}
	while (lives--) {
		struct uhmm_space *space = api_space(delivery, 0);
		struct uhmm_device *ram = api_device(space, "ram");

		for (i = 0; i < 10; i++)
			CHECK_EQ(uhmm_migrate(space, p, NR_PAGES * PAGE, ram, NULL, NULL),
				 0);
		api_destroy(space);
	}
	for (i = 0; i < 2; i++) {
		while (!__atomic_load_n(&t[i].rounds, __ATOMIC_RELAXED))
			usleep(1000);
		__atomic_store_n(&t[i].stop, 1, __ATOMIC_RELAXED);
		pthread_join(t[i].thread, NULL);
	}
}

struct discarder {
	pthread_t thread;
	char *p;
	uint32_t *stop;
	uint32_t rounds;
};

static void *discard(void *arg)
{
	struct discarder *d = arg;

	while (!__atomic_load_n(d->stop, __ATOMIC_RELAXED)) {
		madvise(d->p + d->rounds % NR_PAGES * PAGE, PAGE, MADV_DONTNEED);
		__atomic_fetch_add(&d->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* An event is unread at nearly any time: pages come back in between. */
API_TEST(a_space_ends_while_other_memory_is_discarded_without_end, .timeout_s = 60)
{
	long nr = sysconf(_SC_NPROCESSORS_ONLN) + 1, i;
	struct discarder *d = calloc((size_t)nr, sizeof(*d));
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(NR_PAGES), *other = api_map(NR_PAGES);
	uint32_t stop = 0;

	CHECK(d);
	api_fill(p, NR_PAGES, 1);
	api_fill(other, NR_PAGES, 2);
	api_move(space, p, NR_PAGES, ram, UHMM_MOVED);
	api_move(space, other, NR_PAGES, ram, UHMM_MOVED);
	for (i = 0; i < nr; i++) {
		d[i] = (struct discarder){ .p = other, .stop = &stop };
		CHECK_EQ(pthread_create(&d[i].thread, NULL, discard, &d[i]), 0);
	}
	for (i = 0; i < nr; i++)
		while (!__atomic_load_n(&d[i].rounds, __ATOMIC_RELAXED))
			usleep(1000);
	api_destroy(space);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++)
		pthread_join(d[i].thread, NULL);
	api_check(p, NR_PAGES, 1);
	free(d);
}

/* ---- our threads ------------------------------------------------------------------- */

/* Where the thread's stack is: it sleeps in a system call, and the kernel tells. */
static uintptr_t stack_of(int task)
{
	unsigned long sp = 0;
	char path[64], line[256];
	char *at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", task);
	while (!sp) {
		f = fopen(path, "re");
		if (!f || !fgets(line, sizeof(line), f))
			SKIP("the kernel does not tell where threads sleep");
		fclose(f);
		/* "nr args... sp pc", or "running" */
		at = strrchr(line, ' ');
		if (at) {
			*at = 0;
			at = strrchr(line, ' ');
			sp = at ? strtoul(at, NULL, 16) : 0;
		}
		usleep(1000);
	}
	return sp;
}

/* A thread by its name; 0: there is none. */
static int find_task(const char *name)
{
	char path[64], got[32];
	int task;
	FILE *f;

	for (task = getpid(); task < getpid() + 1000; task++) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/comm", task);
		f = fopen(path, "re");
		if (!f)
			continue;
		got[0] = 0;
		if (!fgets(got, sizeof(got), f))
			got[0] = 0;
		fclose(f);
		got[strcspn(got, "\n")] = 0;
		if (!strcmp(got, name))
			return task;
	}
	return 0;
}

/* Is what lies right above the mapping with p closed to everybody? */
static bool closed_above(uintptr_t p)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long start, end, here = 0;
	bool closed = false;
	char line[512], perms[5];

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		CHECK_EQ(sscanf(line, "%lx-%lx %4s", &start, &end, perms), 3);
		if (here && start == here)
			closed = !strcmp(perms, "---p");
		here = p >= start && p < end ? end : 0;
	}
	fclose(f);
	return closed;
}

/*
 * What is mapped beside a thread's stack may become one mapping with it, which is then
 * registered as a whole: the thread that resolves faults would wait for itself.
 */
TEST(no_memory_can_lie_above_the_stacks_of_the_librarys_threads)
{
	static const char *const names[] = { "uhmm-reader", "uhmm-worker" };
	const size_t stack = 256 << 10;
	struct uhmm_space *space;
	char *plug = NULL, *next;
	pthread_attr_t attr;
	int task, i, row = 0;

	if (test_instrument())
		SKIP("a sanitizer makes stacks larger");
	CHECK_EQ(pthread_attr_init(&attr), 0);
	CHECK_EQ(pthread_attr_setstacksize(&attr, stack), 0);
	CHECK_EQ(pthread_setattr_default_np(&attr), 0);
	/* No holes left: the next stack is mapped right below the last plug. */
	for (i = 0; i < 1000 && row < 20; i++, plug = next) {
		next = mmap(NULL, stack + PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(next != MAP_FAILED);
		row = next + stack + PAGE == plug ? row + 1 : 0;
	}
	space = api_space(UHMM_DELIVERY_THREAD, 0);
	for (i = 0; i < 2; i++) {
		while (!(task = find_task(names[i])))
			usleep(1000);
		CHECK(closed_above(stack_of(task)), "%s", names[i]);
	}
	api_destroy(space);
}

/* ---- what is refused --------------------------------------------------------------- */

TEST(a_config_that_makes_no_sense_is_refused)
{
	struct uhmm_space_config config = { .size = sizeof(config) };
	struct uhmm_space *space = NULL;

	config.size = sizeof(config) - 1;
	CHECK_EQ(uhmm_space_create(&config, &space), -EINVAL);
	config.size = 0;
	CHECK_EQ(uhmm_space_create(&config, &space), -EINVAL);
	config.size = sizeof(config);
	config.delivery = UHMM_DELIVERY_INLINE + 1;
	CHECK_EQ(uhmm_space_create(&config, &space), -EINVAL);
	config.delivery = UHMM_DELIVERY_THREAD;
	config.flags = 1;
	CHECK_EQ(uhmm_space_create(&config, &space), -EINVAL);
	CHECK(!space);
	CHECK_EQ(uhmm_space_destroy(NULL), 0);
	CHECK_STR(uhmm_version(), "0.1.0");
}

TEST(without_memory_there_is_no_space)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0), *more = NULL;
	struct rlimit limit;

	if (test_instrument())
		SKIP("a sanitizer's own memory is above any limit");
	getrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = 1 << 20;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	CHECK_EQ(uhmm_space_create(NULL, &more), -ENOMEM);
	limit.rlim_cur = limit.rlim_max;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	api_destroy(space);
}

TEST(without_permission_there_is_no_space)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	char text[8] = "";
	int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);

	api_destroy(space);
	if (getuid() || fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 || text[0] != '0')
		SKIP("any user may use userfaultfd here, or this is not root");
	close(fd);
	/* This thread alone: libc would ask all, and a sanitizer's does not answer. */
	CHECK_EQ(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
	if (open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) >= 0)
		SKIP("/dev/userfaultfd is open to everybody here");
	space = NULL;
	CHECK_EQ(uhmm_space_create(NULL, &space), -EPERM);
	CHECK(!space);
	/* Faults of the program alone are anybody's to resolve. */
	prctl(PR_SET_DUMPABLE, 1);
	space = api_space(UHMM_DELIVERY_INLINE, 0);
	api_destroy(space);
}

/* From now on this system call fails with error, with this second argument or any. */
static void refuse(int nr, bool second, uint32_t value, int error)
{
	const uint32_t at_nr = offsetof(struct seccomp_data, nr);
	const uint32_t at_arg = offsetof(struct seccomp_data, args[1]);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at_nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at_arg),
		BPF_JUMP(BPF_JMP | (second ? BPF_JEQ : BPF_JGE) | BPF_K,
			 second ? value : 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		SKIP("no seccomp here");
}

TEST(a_kernel_without_userfaultfd_is_told)
{
	struct uhmm_space *space = NULL;

	api_destroy(api_space(UHMM_DELIVERY_THREAD, 0));
	/* Through /dev/userfaultfd neither. */
	refuse(SYS_userfaultfd, false, 0, ENOSYS);
	refuse(SYS_ioctl, true, (uint32_t)USERFAULTFD_IOC_NEW, ENOSYS);
	CHECK_EQ(uhmm_space_create(NULL, &space), -ENOSYS);
	CHECK(!space);
}

TEST(a_kernel_that_cannot_move_pages_is_told)
{
	struct uhmm_space *space = NULL;

	api_destroy(api_space(UHMM_DELIVERY_THREAD, 0));
	/* What a kernel says to a feature it does not know. */
	refuse(SYS_ioctl, true, (uint32_t)UFFDIO_API, EINVAL);
	CHECK_EQ(uhmm_space_create(NULL, &space), -ENOSYS);
	CHECK(!space);
}

/* ---- devices ----------------------------------------------------------------------- */

TEST(a_spec_that_is_wrong_is_refused_and_said)
{
	static const struct {
		const char *spec, *says;
		int error;
	} bad[] = {
		{ "nosuch", "nosuch", -ENODEV },
		{ "", "name", -EINVAL },
		{ "lz4:nosuch=1", "nosuch", -EINVAL },
		{ "ram:size=banana", "banana", -EINVAL },
		{ "ram:size=1", "size", -EINVAL },
		{ "ram+ram", "ram", -EINVAL },
	};
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	struct uhmm_device *dev = (void *)1;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(uhmm_device_open(space, bad[i].spec, &dev) == bad[i].error, "%s",
		      bad[i].spec);
		CHECK(strstr(uhmm_strerror_spec(), bad[i].says), "%s: %s", bad[i].spec,
		      uhmm_strerror_spec());
		CHECK(!strchr(uhmm_strerror_spec(), '\n'));
	}
	CHECK_EQ(uhmm_device_open(space, NULL, &dev), -EINVAL);
	CHECK_EQ(dev, (void *)1);
	api_destroy(space);
}

TEST(fifteen_devices_and_closed_ones_make_room)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	struct uhmm_device *dev[15], *more = NULL;
	char *p = api_map(NR_PAGES);
	int i;

	for (i = 0; i < 15; i++)
		dev[i] = api_device(space, i % 2 ? "ram" : "lz4");
	CHECK_EQ(uhmm_device_open(space, "ram", &more), -ENOSPC);
	CHECK(strstr(uhmm_strerror_spec(), "15"), "%s", uhmm_strerror_spec());
	api_fill(p, NR_PAGES, 9);
	for (i = 0; i < 40; i++) {
		api_move(space, p, NR_PAGES, dev[i % 15], UHMM_MOVED);
		CHECK_EQ(uhmm_device_close(space, dev[i % 15]), 0);
		CHECK_EQ(api_resident(p, NR_PAGES), NR_PAGES);
		/* Closed: it is nobody's now. */
		CHECK_EQ(uhmm_device_close(space, dev[i % 15]), -EINVAL);
		dev[i % 15] = api_device(space, i % 3 ? "ram" : "lz4");
	}
	api_check(p, NR_PAGES, 9);
	/* Cold pages go to the one that has been open longest: dev[10] since i = 10. */
	CHECK_EQ(uhmm_advise(space, p, NR_PAGES * PAGE, UHMM_ADVISE_COLD), 0);
	api_move(space, p, NR_PAGES, dev[10], UHMM_ALREADY);
	CHECK_EQ(uhmm_device_close(space, (struct uhmm_device *)p), -EINVAL);
	CHECK_EQ(uhmm_device_close(space, NULL), -EINVAL);
	api_destroy(space);
}

struct opener {
	pthread_t thread;
	struct uhmm_space *space;
};

static void *open_and_close(void *arg)
{
	struct opener *o = arg;
	char *p = api_map(32);
	int i;

	for (i = 0; i < 40; i++) {
		struct uhmm_device *dev = api_device(o->space, i % 2 ? "ram" : "lz4");

		api_fill(p, 32, (uintptr_t)p + i);
		api_move(o->space, p, 32, dev, UHMM_MOVED);
		api_stats(o->space);
		CHECK_EQ(uhmm_device_close(o->space, dev), 0);
		CHECK_EQ(api_resident(p, 32), 32);
		api_check(p, 32, (uintptr_t)p + i);
	}
	return NULL;
}

TEST(devices_are_opened_and_closed_by_several_threads, .timeout_s = 60)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	struct opener o[4];
	int i;

	for (i = 0; i < 4; i++) {
		o[i].space = space;
		CHECK_EQ(pthread_create(&o[i].thread, NULL, open_and_close, &o[i]), 0);
	}
	for (i = 0; i < 4; i++)
		pthread_join(o[i].thread, NULL);
	CHECK_SOON(api_stats(space).now_device == 0);
	api_destroy(space);
}

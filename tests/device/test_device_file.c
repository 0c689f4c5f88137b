/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device `file`: what it says to bad paths, what comes of a file that is changed, cut
 * off, or has no room, that room comes back, and what forked processes have of it.
 */
#define _GNU_SOURCE
#include "tests/device/subject.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "lib/host.h"
#include "lib/os/os.h"
#include "tests/device/folder.h"
#include "tests/system/os/refuse.h"

/* On a disk, which /tmp need not be. */
#define WHERE "/var/tmp"
#define MIB (UINT64_C(1) << 20)
#define BUFFER_PAGES ((uint32_t)(2 * MIB / PAGE))

/* The file that has no name: the newest of ours. */
static int backing(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	char path[300], name[256];
	int fd = -1;
	ssize_t n;

	CHECK(dir != NULL);
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		n = readlink(path, name, sizeof(name) - 1);
		name[n > 0 ? n : 0] = 0;
		if (!strncmp(name, WHERE "/", strlen(WHERE "/")) &&
		    strstr(name, " (deleted)") && atoi(entry->d_name) > fd)
			fd = atoi(entry->d_name);
	}
	closedir(dir);
	CHECK_GE(fd, 0);
	return fd;
}

static uint64_t bytes_on_disk(int fd)
{
	struct stat st;

	CHECK_EQ(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* What a test has until its process ends, which is soon. */
static void *keep(void *memory)
{
	static void *kept[256];
	static uint32_t nr;

	return kept[__atomic_fetch_add(&nr, 1, __ATOMIC_RELAXED)] = memory;
}

static void make_buffers(struct buffers *b)
{
	buffers_init(b);
	keep(b->data);
}

/* Pages that cannot be made smaller. */
static struct page *random_pages(uint32_t nr, uint64_t seed)
{
	struct page *pages = keep(pages_of_all_kinds(nr, seed));
	uint32_t i;

	for (i = 0; i < nr; i++)
		pages[i].kind = CONTENT_RANDOM;
	return pages;
}

/* How many of them are stored; the others, and only they, were refused with that. */
static uint32_t store_those_that_can(struct uhmm_device *dev, struct buffers *b,
				     struct page *pages, uint32_t nr, int refusal)
{
	uint32_t i, stored = 0;

	for (i = 0; i < nr; i++) {
		struct uhmm_io io = { .buf = b->data[0], .len = PAGE };

		content_fill(b->data[0], pages[i].kind, pages[i].seed);
		device_run(dev, UHMM_OP_STORE, &io, 1);
		CHECK(!io.result || io.result == refusal, "%d", io.result);
		pages[i].number = io.page;
		pages[i].stored = !io.result;
		stored += pages[i].stored;
	}
	return stored;
}

static int load_one(struct uhmm_device *dev, struct buffers *b, const struct page *page)
{
	struct uhmm_io io = { .page = page->number, .buf = b->data[0], .len = PAGE };

	device_run(dev, UHMM_OP_LOAD, &io, 1);
	if (!io.result) {
		content_fill(b->expected, page->kind, page->seed);
		check_page(b->data[0], b->expected);
	}
	return io.result;
}

/* ---- opening -------------------------------------------------------------------- */

static void refused(const char *spec, int error, const char *says)
{
	char why[DEVICE_ERROR_MAX] = "";
	struct uhmm_device *dev = NULL;
	int r = device_open(spec, &dev, why, sizeof(why));

	CHECK_EQ(r, -error);
	CHECK(strstr(why, says), "%s says: %s", spec, why);
	CHECK(!strchr(why, '\n'), "%s", why);
}

TEST(bad_paths_are_told)
{
	char spec[256], path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/full", folder());
	file = fopen(path, "w");
	CHECK(file && fputs("somebody's", file) >= 0 && fclose(file) == 0);
	snprintf(spec, sizeof(spec), "file:%s", path);
	refused(spec, EEXIST, "not empty");
	refused("file:/nowhere/at/all", ENOENT, "no such directory");
	refused("file:/dev/null", EINVAL, "neither a directory");
	refused("file:" WHERE ",direct=maybe", EINVAL, "on, off or auto");
	refused("file:" WHERE ",size=1M", EINVAL, "out of range");
	refused("file:" WHERE ",queue=0", EINVAL, "out of range");
	/* Nothing was made of what was there. */
	CHECK((file = fopen(path, "r")) && fgetc(file) == 's' && fclose(file) == 0);
}

TEST(what_is_kept_in_memory_is_no_disk)
{
	struct statfs fs;

	if (statfs("/dev/shm", &fs) || fs.f_type != 0x01021994)
		SKIP("/dev/shm is no tmpfs");
	refused("file:/dev/shm", EINVAL, "keeps files in memory");
}

TEST(a_place_that_may_not_be_written)
{
	if (geteuid() == 0 && seteuid(65534))
		SKIP("no other user to be");
	refused("file:/etc", EACCES, "name another place");
	/* The sanitizers look at the process in the end. */
	CHECK(getuid() || seteuid(0) == 0);
}

TEST(no_descriptors_are_left)
{
	struct rlimit limit, none;

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 3;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
	refused("file:" WHERE, EMFILE, "no descriptors");
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* An empty file that is named is locked, and has its name. */
TEST(a_named_file_is_one_users)
{
	char spec[256], path[128];
	struct uhmm_device *dev;
	FILE *file;

	snprintf(path, sizeof(path), WHERE "/uhmm-test-named.%d", (int)getpid());
	CHECK((file = fopen(path, "w")) && fclose(file) == 0);
	snprintf(spec, sizeof(spec), "file:%s", path);
	dev = open_spec(spec);
	refused(spec, EBUSY, "another process has it");
	device_close(dev);
	device_close(open_spec(spec));
	CHECK_EQ(unlink(path), 0);
}

TEST(a_name_that_does_not_exist_is_not_used)
{
	char spec[256], path[128];
	struct uhmm_device *dev, *other;

	snprintf(path, sizeof(path), WHERE "/uhmm-test-none.%d", (int)getpid());
	snprintf(spec, sizeof(spec), "file:%s", path);
	dev = open_spec(spec);
	other = open_spec(spec);
	CHECK(access(path, F_OK) && errno == ENOENT);
	device_close(other);
	device_close(dev);
}

/* ---- a file that is changed ----------------------------------------------------- */

TEST(what_was_overwritten_is_an_error)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = 4 * BUFFER_PAGES;
	struct page *pages = random_pages(nr, 1);
	static uint8_t garbage[PAGE] __attribute__((aligned(4096)));
	static uint8_t a[PAGE] __attribute__((aligned(4096)));
	static uint8_t z[PAGE] __attribute__((aligned(4096)));
	struct buffers b;
	int fd = backing();
	uint32_t i;

	make_buffers(&b);
	memset(garbage, 7, sizeof(garbage));
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	/* The first ones are in the file in the order in which they came. */
	CHECK_EQ(pwrite(fd, garbage, PAGE, 3 * PAGE), (ssize_t)PAGE);
	CHECK_EQ(pread(fd, a, PAGE, 10 * PAGE), (ssize_t)PAGE);
	CHECK_EQ(pread(fd, z, PAGE, 20 * PAGE), (ssize_t)PAGE);
	CHECK_EQ(pwrite(fd, z, PAGE, 10 * PAGE), (ssize_t)PAGE);
	CHECK_EQ(pwrite(fd, a, PAGE, 20 * PAGE), (ssize_t)PAGE);
	for (i = 0; i < nr; i++)
		CHECK_EQ(load_one(dev, &b, &pages[i]),
			 i == 3 || i == 10 || i == 20 ? -EIO : 0);
	CHECK_EQ(stat_of(dev).load_failures, 3);
	device_close(dev);
}

/* All that is not there any more, and nothing else; also where many are asked for. */
TEST(what_was_cut_off_is_an_error)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = 4 * BUFFER_PAGES, left = 100;
	struct page *pages = random_pages(nr, 2);
	struct uhmm_io io[UHMM_BATCH_MAX];
	struct buffers b;
	uint32_t i, lost = 0;

	make_buffers(&b);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	CHECK_EQ(ftruncate(backing(), left * PAGE), 0);
	for (i = 0; i < UHMM_BATCH_MAX; i++)
		io[i] = (struct uhmm_io){ .page = pages[left - 32 + i].number,
					  .buf = b.data[i],
					  .len = PAGE };
	CHECK_EQ(device_run(dev, UHMM_OP_LOAD, io, UHMM_BATCH_MAX), 32);
	for (i = 0; i < UHMM_BATCH_MAX; i++)
		CHECK_EQ(io[i].result, i < 32 ? 0 : -EIO);
	for (i = 0; i < nr; i++)
		lost += load_one(dev, &b, &pages[i]) != 0;
	/* What is still in the buffer was not cut off. */
	CHECK_LE(lost, nr - left);
	CHECK_GT(lost, nr - left - 2 * BUFFER_PAGES);
	/* It goes on. */
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, forget_all);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	each_batch(dev, &b, pages, nr, 7, UHMM_BATCH_MAX, load);
	device_close(dev);
}

/* ---- no room -------------------------------------------------------------------- */

/*
 * The disk is full in the middle: pages are refused, none is lost, and when there is room
 * it goes on. (A limit for files stands for the disk; who asks for more is sent SIGXFSZ,
 * which would end the test.)
 */
TEST(a_full_disk_refuses_and_loses_nothing)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = 16 * BUFFER_PAGES;
	struct page *pages = random_pages(nr, 3);
	struct rlimit limit, small;
	struct buffers b;
	uint32_t i, stored;

	make_buffers(&b);
	CHECK_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 3 * MIB;
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	stored = store_those_that_can(dev, &b, pages, nr, -ENOSPC);
	for (i = 0; i < nr; i++)
		if (pages[i].stored)
			CHECK_EQ(load_one(dev, &b, &pages[i]), 0);
	CHECK_GE(stored, 3 * MIB / PAGE);
	CHECK_LT(stored, nr);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (i = 0; i < nr; i++) {
		struct page *page = &pages[i];

		if (!page->stored)
			CHECK_EQ(store(dev, &b, &page, 1), 0);
	}
	each_batch(dev, &b, pages, nr, 11, 8, load);
	device_close(dev);
}

/* The disk fails for good: what is in the buffer stays there. */
TEST(a_broken_disk_loses_nothing_that_was_stored)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = 2 * BUFFER_PAGES;
	struct page *pages = random_pages(nr, 4);
	struct buffers b;
	uint32_t i, stored;

	make_buffers(&b);
	refuse(SYS_pwritev, REFUSE_ANY, 0, EIO);
	stored = store_those_that_can(dev, &b, pages, nr, -EIO);
	CHECK_GT(stored, BUFFER_PAGES / 2);
	CHECK_LE(stored, BUFFER_PAGES);
	for (i = 0; i < nr; i++)
		if (pages[i].stored)
			CHECK_EQ(load_one(dev, &b, &pages[i]), 0);
	device_close(dev);
}

/* ---- room comes back ------------------------------------------------------------ */

TEST(the_disk_gets_its_room_back)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = (uint32_t)(32 * MIB / PAGE);
	struct page *pages = random_pages(nr, 5);
	struct buffers b;
	int fd = backing();

	make_buffers(&b);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	CHECK_GE(bytes_on_disk(fd), 30 * MIB); /* a buffer less */
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, forget_all);
	CHECK_LE(bytes_on_disk(fd), 2 * MIB);
	device_close(dev);
}

/* Of each eight pages one stays, and new ones come: their segments must be collected. */
static void scatter(struct uhmm_device *dev, struct buffers *b, struct page *pages,
		    uint32_t nr, uint32_t round)
{
	struct page *batch[1];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		batch[0] = &pages[i];
		if (i % 8 == round % 8)
			continue;
		forget(dev, batch, 1);
		pages[i].seed = content_mix(pages[i].seed + round);
		CHECK_EQ(store(dev, b, batch, 1), 0);
	}
}

TEST(segments_are_collected)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = (uint32_t)(24 * MIB / PAGE);
	struct page *pages = random_pages(nr, 6);
	struct buffers b;
	uint32_t round;
	int fd = backing();

	make_buffers(&b);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	for (round = 0; round < 6; round++) {
		scatter(dev, &b, pages, nr, round);
		/* Half as much again, and some segments. */
		CHECK_LE(bytes_on_disk(fd), (24 + 12 + 8 + 6) * MIB);
	}
	each_batch(dev, &b, pages, nr, 13, UHMM_BATCH_MAX, load);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, forget_all);
	CHECK_EQ(stat_of(dev).bytes_stored, 0);
	CHECK_LE(bytes_on_disk(fd), 4 * MIB);
	device_close(dev);
}

/* Where there is no more room than for what is used, and a little. */
TEST(a_small_file_is_collected)
{
	struct uhmm_device *dev = open_spec("file:" WHERE ",size=32M");
	const uint32_t nr = (uint32_t)(20 * MIB / PAGE);
	struct page *pages = random_pages(nr, 7);
	struct buffers b;
	uint32_t round;

	make_buffers(&b);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	for (round = 0; round < 6; round++)
		scatter(dev, &b, pages, nr, round);
	each_batch(dev, &b, pages, nr, 13, UHMM_BATCH_MAX, load);
	CHECK_LE(bytes_on_disk(backing()), 32 * MIB);
	device_close(dev);
}

struct worker {
	pthread_t thread;
	struct uhmm_device *dev;
	uint32_t seed;
};

#define WORKER_PAGES ((uint32_t)(6 * MIB / PAGE))

static void *churn(void *arg)
{
	struct worker *w = arg;
	struct page *pages = random_pages(WORKER_PAGES, w->seed);
	struct buffers b;
	uint32_t round;

	make_buffers(&b);
	each_batch(w->dev, &b, pages, WORKER_PAGES, 1, 16, store_all);
	for (round = 0; round < 4; round++) {
		scatter(w->dev, &b, pages, WORKER_PAGES, w->seed + round);
		each_batch(w->dev, &b, pages, WORKER_PAGES, 101, 16, load);
	}
	each_batch(w->dev, &b, pages, WORKER_PAGES, 1, 16, forget_all);
	return NULL;
}

/* What one thread loads and frees another one is moving. */
TEST(threads_while_segments_are_collected)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	struct worker worker[4];
	uint32_t i;

	for (i = 0; i < 4; i++) {
		worker[i] = (struct worker){ .dev = dev, .seed = 100 + i };
		CHECK_EQ(pthread_create(&worker[i].thread, NULL, churn, &worker[i]), 0);
	}
	for (i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(worker[i].thread, NULL), 0);
	CHECK_EQ(stat_of(dev).load_failures, 0);
	CHECK_EQ(stat_of(dev).bytes_stored, 0);
	device_close(dev);
}

/* ---- forked processes ----------------------------------------------------------- */

static pid_t fork_with(struct uhmm_device *dev)
{
	pid_t pid;

	device_before_fork(dev);
	host_fork_prepare();
	pid = fork();
	host_fork_done();
	CHECK_GE(pid, 0);
	if (pid == 0)
		CHECK_EQ(device_after_fork(dev), 0);
	return pid;
}

static void ends_well(pid_t pid)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/* A grandchild reads what its grandparent has forgotten; then the disk gets it back. */
TEST(what_processes_share_goes_with_the_last)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = (uint32_t)(16 * MIB / PAGE);
	struct page *pages = random_pages(nr, 8), *more = random_pages(nr, 9);
	struct buffers b;
	int go[2], fd = backing();
	pid_t child, grandchild;
	char c;

	make_buffers(&b);
	CHECK_EQ(pipe(go), 0);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	child = fork_with(dev);
	if (child == 0) {
		grandchild = fork_with(dev);
		if (grandchild == 0) {
			CHECK_EQ(read(go[0], &c, 1), 1);
			each_batch(dev, &b, pages, nr, 7, 16, load);
			_exit(0); /* with all that it has */
		}
		each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, forget_all);
		ends_well(grandchild);
		_exit(0);
	}
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, forget_all);
	each_batch(dev, &b, more, nr, 1, UHMM_BATCH_MAX, store_all);
	each_batch(dev, &b, more, nr, 3, UHMM_BATCH_MAX, load);
	CHECK_EQ(write(go[1], "g", 1), 1);
	ends_well(child);
	/* Who stores next finds out that they are over. */
	each_batch(dev, &b, more, nr, 1, UHMM_BATCH_MAX, forget_all);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, forget_all);
	CHECK_LE(bytes_on_disk(fd), 2 * MIB);
	device_close(dev);
}

/* One that did not become: its parent gives back what was kept for it. */
TEST(a_child_that_never_was_keeps_nothing)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = (uint32_t)(8 * MIB / PAGE);
	struct page *pages = random_pages(nr, 10);
	struct buffers b;
	uint32_t i;

	make_buffers(&b);
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
	for (i = 0; i < 1000; i++) {
		device_before_fork(dev);
		device_fork_failed(dev);
	}
	each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, forget_all);
	CHECK_LE(bytes_on_disk(backing()), 2 * MIB);
	device_close(dev);
}

/* More than there are places for: the child says so before it reads anything. */
TEST(a_family_that_is_too_large)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	pid_t pid[300];
	int status, refused_nr = 0, go[2];
	uint32_t i;
	char c;

	CHECK_EQ(pipe(go), 0);
	for (i = 0; i < 300; i++) {
		device_before_fork(dev);
		host_fork_prepare();
		pid[i] = fork();
		host_fork_done();
		CHECK_GE(pid[i], 0);
		if (pid[i] == 0) {
			close(go[1]);
			if (device_after_fork(dev))
				_exit(1);
			_exit(read(go[0], &c, 1) == 0 ? 0 : 2);
		}
	}
	close(go[1]);
	for (i = 0; i < 300; i++) {
		CHECK_EQ(waitpid(pid[i], &status, 0), pid[i]);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) < 2);
		refused_nr += WEXITSTATUS(status);
	}
	CHECK_EQ(refused_nr, 300 - 255);
	device_close(dev);
}

/* ---- the kernel ----------------------------------------------------------------- */

TEST(without_io_uring)
{
	struct uhmm_device *dev;
	struct page *pages = random_pages(NR_PAGES, 11);
	struct buffers b;

	refuse(SYS_io_uring_setup, REFUSE_ANY, 0, EPERM);
	dev = open_spec("file:" WHERE);
	make_buffers(&b);
	each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, store_all);
	each_batch(dev, &b, pages, NR_PAGES, 17, UHMM_BATCH_MAX, load);
	device_close(dev);
}

/* A ring that fails is not used any more, and what was asked of it is read otherwise. */
TEST(io_uring_that_fails_later)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	struct page *pages = random_pages(NR_PAGES, 12);
	struct buffers b;

	make_buffers(&b);
	each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, store_all);
	each_batch(dev, &b, pages, NR_PAGES, 17, UHMM_BATCH_MAX, load);
	refuse(SYS_io_uring_enter, REFUSE_ANY, 0, EBADF);
	each_batch(dev, &b, pages, NR_PAGES, 19, UHMM_BATCH_MAX, load);
	device_close(dev);
}

/* A descriptor that the program has closed, and whose number is another file's now. */
TEST(another_files_descriptor_is_not_written_to)
{
	struct uhmm_device *dev = open_spec("file:" WHERE);
	const uint32_t nr = 4 * BUFFER_PAGES;
	struct page *pages = random_pages(nr, 13);
	char path[128];
	struct buffers b;
	struct stat st;
	int fd = backing(), other;

	make_buffers(&b);
	snprintf(path, sizeof(path), "%s/other", folder());
	other = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK_GE(other, 0);
	CHECK_EQ(dup2(other, fd), fd);
	CHECK_LT(store_those_that_can(dev, &b, pages, nr, -EIO), nr);
	CHECK_EQ(fstat(other, &st), 0);
	CHECK_EQ(st.st_size, 0);
	device_close(dev);
}

/* ---- secrets -------------------------------------------------------------------- */

static const char marker[] = "a secret that is looked for everywhere";

static bool is_in_file(int fd)
{
	struct stat st;
	char *bytes;
	bool found;

	CHECK_EQ(fstat(fd, &st), 0);
	bytes = aligned_alloc(PAGE, (size_t)st.st_size); /* it is read past the cache */
	CHECK(bytes != NULL);
	CHECK_EQ(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	found = memmem(bytes, (size_t)st.st_size, marker, strlen(marker)) != NULL;
	free(bytes);
	return found;
}

static void look(void *ctx, void *addr, size_t size)
{
	*(bool *)ctx |= memmem(addr, size, marker, strlen(marker)) != NULL;
}

/* All memory that devices have, and have had. */
static bool is_in_memory(void)
{
	bool found = false;

	host_for_each(look, &found);
	return found;
}

/* What a device keeps of pages with the marker: while it is open, and after that. */
struct seen {
	bool in_file, in_memory, in_memory_then;
};

static struct seen marker_seen(const char *spec)
{
	struct uhmm_device *dev = open_spec(spec);
	struct uhmm_io io[UHMM_BATCH_MAX];
	struct buffers b;
	struct seen seen;
	uint32_t i, n;

	make_buffers(&b);
	for (n = 0; n < 16; n++) {
		for (i = 0; i < UHMM_BATCH_MAX; i++) {
			content_fill(b.data[i], CONTENT_RANDOM, n * 64 + i);
			memcpy(b.data[i] + 64, marker, sizeof(marker));
			io[i] = (struct uhmm_io){ .buf = b.data[i], .len = PAGE };
		}
		CHECK_EQ(device_run(dev, UHMM_OP_STORE, io, UHMM_BATCH_MAX), 0);
		CHECK_EQ(device_run(dev, UHMM_OP_LOAD, io, UHMM_BATCH_MAX), 0);
	}
	seen.in_file = is_in_file(backing());
	seen.in_memory = is_in_memory();
	device_close(dev);
	seen.in_memory_then = is_in_memory();
	return seen;
}

TEST(what_is_encrypted_is_nowhere_to_be_found)
{
	struct seen plain = marker_seen("file:" WHERE), crypted;

	CHECK(plain.in_file && plain.in_memory && !plain.in_memory_then);
	crypted = marker_seen("crypt+file:" WHERE);
	CHECK(!crypted.in_file && !crypted.in_memory && !crypted.in_memory_then);
	/* What was compressed is in working memory until the device is closed. */
	crypted = marker_seen("lz4+crypt+file:" WHERE);
	CHECK(!crypted.in_file && !crypted.in_memory_then);
}

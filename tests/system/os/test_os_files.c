/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/os/os_linux_uffd.c and os_linux_handover.c: descriptors, where the kernel does not
 * give them, and what passes between processes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "lib/os/os.h"
#include "lib/os/uapi.h"
#include "tests/system/os/refuse.h"

#define PAGE 4096ul

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	CHECK(dir != NULL);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int uffd_or_skip(unsigned flags)
{
	int fd = os_uffd_open(flags);

	if (fd < 0)
		SKIP("userfaultfd: %s", strerror(-fd));
	return fd;
}

static char *map(size_t pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* ---- userfaultfd ------------------------------------------------------------------ */

TEST(where_the_call_is_forbidden_the_device_serves)
{
	char *p = map(1);
	int fd;

	refuse(SYS_userfaultfd, REFUSE_ANY, 0, EPERM);
	if (access("/dev/userfaultfd", R_OK | W_OK))
		SKIP("/dev/userfaultfd: %s", strerror(errno));
	fd = os_uffd_open(0);
	CHECK(fd >= 0, "%d", fd);
	CHECK_EQ(os_uffd_register(fd, (uintptr_t)p, PAGE), 0);
	CHECK_EQ(os_uffd_zero(fd, (uintptr_t)p, PAGE), (int64_t)PAGE);
	CHECK_EQ(*p, 0);
	os_uffd_close(fd);
}

TEST(without_the_device_the_call_says_why)
{
	int files = open_files();

	refuse(SYS_userfaultfd, REFUSE_ANY, 0, ENOSYS);
	refuse(SYS_openat, 2, O_RDWR | O_CLOEXEC, ENOENT);
	CHECK_EQ(os_uffd_open(OS_UFFD_EVENTS), -ENOSYS);
	CHECK_EQ(os_uffd_open(OS_UFFD_USER_ONLY), -ENOSYS);
	CHECK_EQ(open_files(), files);
}

TEST(a_kernel_without_a_feature_is_told_and_nothing_is_left)
{
	int files = open_files();

	os_uffd_close(uffd_or_skip(OS_UFFD_EVENTS));
	refuse(SYS_ioctl, 1, (uint32_t)UFFDIO_API, EINVAL);
	CHECK_EQ(os_uffd_open(0), -EINVAL);
	CHECK_EQ(open_files(), files);
}

TEST(a_registration_is_made_and_taken_back)
{
	char *p = map(4);
	uintptr_t at = (uintptr_t)p;
	int fd = uffd_or_skip(OS_UFFD_SIGBUS), other = uffd_or_skip(OS_UFFD_SIGBUS);
	int fds[2];

	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(os_uffd_probe(fd, at, PAGE), -ENOENT);
	CHECK_EQ(os_uffd_register(fd, at, 2 * PAGE), 0);
	CHECK_EQ(os_uffd_register(other, at, PAGE), -EBUSY);
	CHECK_EQ(os_uffd_probe(fd, at, PAGE), 0);
	CHECK_EQ(os_uffd_probe(fd, at, 4 * PAGE), -ENOENT);
	CHECK_EQ(os_uffd_probe(fds[0], at, PAGE), -ENOTTY);
	CHECK_EQ(os_uffd_probe(-1, at, PAGE), -EBADF);
	CHECK_EQ(os_uffd_zero(fd, at, PAGE), (int64_t)PAGE);
	CHECK_EQ(os_uffd_zero(fd, at, PAGE), -EEXIST);
	/* As far as it came. */
	CHECK_EQ(os_uffd_copy(fd, at + PAGE, p, PAGE), (int64_t)PAGE);
	CHECK_EQ(os_uffd_unregister(fd, at, 2 * PAGE), 0);
	CHECK_EQ(os_uffd_probe(fd, at, PAGE), -ENOENT);
	CHECK_EQ(madvise(p, PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(*p, 0);
}

struct touched {
	char *p;
	uint64_t nr;
	uint32_t stop;
};

#define TOUCHED 4096u

static void *touch_again_and_again(void *arg)
{
	struct touched *t = arg;

	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		size_t i = __atomic_fetch_add(&t->nr, 1, __ATOMIC_RELAXED) % TOUCHED;

		if (i == 0)
			CHECK_EQ(madvise(t->p, TOUCHED * PAGE, MADV_DONTNEED), 0);
		*(volatile char *)(t->p + i * PAGE) = 1;
	}
	return NULL;
}

/* Has it touched two pages more? Ten seconds are for ever. */
static bool goes_on(struct touched *t)
{
	uint64_t was = __atomic_load_n(&t->nr, __ATOMIC_RELAXED);
	uint64_t start = os_now_ns();

	while (__atomic_load_n(&t->nr, __ATOMIC_RELAXED) < was + 2) {
		if (os_now_ns() - start > UINT64_C(10000000000))
			return false;
		os_yield();
	}
	return true;
}

/* Linux 6.18 alone forgets some. */
TEST(nobody_waits_where_nothing_is_registered_any_more)
{
	struct touched t = { .p = map(TOUCHED) };
	uintptr_t at = (uintptr_t)t.p;
	int fd = uffd_or_skip(OS_UFFD_USER_ONLY);
	uint64_t end = os_now_ns() + UINT64_C(2000000000);
	uint32_t seed = 1, pause;
	pthread_t thread;

	CHECK_EQ(madvise(t.p, TOUCHED * PAGE, MADV_NOHUGEPAGE), 0);
	CHECK_EQ(pthread_create(&thread, NULL, touch_again_and_again, &t), 0);
	while (os_now_ns() < end) {
		CHECK_EQ(os_uffd_register(fd, at, TOUCHED * PAGE), 0);
		seed = seed * 1664525 + 1013904223;
		for (pause = seed >> 24; pause; pause--)
			__asm__ volatile("");
		CHECK_EQ(os_uffd_unregister(fd, at, TOUCHED * PAGE), 0);
		CHECK(goes_on(&t), "page %llu", (unsigned long long)(t.nr - 1) % TOUCHED);
	}
	__atomic_store_n(&t.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	os_uffd_close(fd);
}

TEST(a_copy_ends_at_what_is_there)
{
	char *p = map(4), *from = map(4);
	uintptr_t at = (uintptr_t)p;
	int fd = uffd_or_skip(OS_UFFD_SIGBUS);

	memset(from, 3, 4 * PAGE);
	p[2 * PAGE] = 9;
	CHECK_EQ(os_uffd_register(fd, at, 4 * PAGE), 0);
	CHECK_EQ(os_uffd_copy(fd, at, from, 4 * PAGE), (int64_t)(2 * PAGE));
	CHECK_EQ(os_uffd_copy(fd, at + 2 * PAGE, from, 2 * PAGE), -EEXIST);
	CHECK(p[0] == 3 && p[2 * PAGE - 1] == 3 && p[2 * PAGE] == 9);
}

TEST(a_move_ends_at_what_is_there)
{
	char *dst = map(4), *src = map(4);
	uintptr_t to = (uintptr_t)dst, from = (uintptr_t)src;
	int fd = uffd_or_skip(OS_UFFD_SIGBUS);

	CHECK_EQ(os_attach(), 0);
	CHECK_EQ(madvise(src, 4 * PAGE, MADV_NOHUGEPAGE), 0);
	memset(src, 3, 4 * PAGE);
	dst[2 * PAGE] = 9;
	CHECK_EQ(os_uffd_register(fd, to, 4 * PAGE), 0);
	CHECK_EQ(os_uffd_move(fd, to, from, 4 * PAGE, 0), (int64_t)(2 * PAGE));
	CHECK_EQ(os_uffd_move(fd, to + 2 * PAGE, from + 2 * PAGE, PAGE, OS_MOVE_NOWAKE),
		 -EEXIST);
	CHECK(dst[0] == 3 && dst[2 * PAGE - 1] == 3 && dst[2 * PAGE] == 9);
	CHECK(src[2 * PAGE] == 3);
	CHECK_EQ(os_uffd_move(fd, to + 3 * PAGE, from, PAGE, 0), -ENOENT);
}

TEST(what_is_no_userfaultfd_has_no_messages)
{
	struct os_event events[64];
	int fd = open("/dev/null", O_RDONLY), fds[2];

	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(os_uffd_read(fd, events, 64), -EBADF);
	CHECK_EQ(os_uffd_read(-1, events, 1), -EBADF);
	CHECK_EQ(os_uffd_read(uffd_or_skip(0), events, 64), 0);
}

TEST(waiting_for_descriptors)
{
	int fds[9] = { -1 }, kicker = os_kicker_open();

	CHECK(kicker >= 0);
	CHECK_EQ(os_wait_fds(fds, 9, 0), -EINVAL);
	CHECK_EQ(os_wait_fds(&kicker, 1, 1000), 0);
	os_kick(kicker);
	fds[1] = kicker;
	CHECK_EQ(os_wait_fds(fds, 2, -1), 2);
	os_kick_clear(kicker);
	CHECK_EQ(os_wait_fds(&kicker, 1, 0), 0);
	os_close(kicker);
	refuse(SYS_ppoll, REFUSE_ANY, 0, ENOMEM);
	CHECK_EQ(os_wait_fds(fds, 1, -1), -ENOMEM);
}

/* ---- from process to process ------------------------------------------------------ */

/* Several at a time, in their order. */
TEST(descriptors_are_handed_over)
{
	struct os_handover_name name;
	int listener = os_handover_listen(&name), fds[2], got[2], sent[2], status;
	char byte = 'x';
	pid_t pid;

	CHECK(listener >= 0);
	CHECK_EQ(os_lifeline(fds), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		close(fds[1]);
		_exit(os_handover_receive(&name, got, 2) == 0 &&
				      read(got[0], &byte, 1) == -1 &&
				      write(got[1], &byte, 1) == 1 ?
			      0 :
			      1);
	}
	sent[0] = os_kicker_open();
	sent[1] = fds[1];
	CHECK_EQ(os_handover_send(listener, sent, 2), 0);
	close(fds[1]);
	CHECK_EQ(read(fds[0], &byte, 1), 1);
	CHECK_EQ(byte, 'x');
	/* The last copy was the child's. */
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(read(fds[0], &byte, 1), 0);
}

TEST(who_asks_nobody_receives_nothing)
{
	struct os_handover_name name;
	int fd, files = open_files(), listener = os_handover_listen(&name);

	CHECK(listener >= 0);
	os_close(listener);
	CHECK_EQ(os_handover_receive(&name, &fd, 1), -ECONNREFUSED);
	CHECK_EQ(open_files(), files);
}

/* Somebody else's socket of that name sends something, or hangs up. */
static void answer(int listener, const void *bytes, size_t len)
{
	int fd = accept(listener, NULL, NULL);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

TEST(an_answer_without_a_descriptor_is_none)
{
	struct os_handover_name name;
	int listener = os_handover_listen(&name), status, i, got;
	pid_t pid;

	CHECK(listener >= 0);
	for (i = 0; i < 2; i++) {
		pid = fork();
		if (pid == 0)
			_exit(os_handover_receive(&name, &got, 1) == -EPROTO ? 0 : 1);
		answer(listener, "u", (size_t)i);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}

TEST(a_socket_that_is_not_to_be_had)
{
	struct os_handover_name name = { .len = 6 };
	int files = open_files(), fds[2], none = -1;

	refuse(SYS_accept4, REFUSE_ANY, 0, ECONNABORTED);
	CHECK_EQ(os_handover_send(-1, &none, 1), -ECONNABORTED);
	refuse(SYS_getsockname, REFUSE_ANY, 0, ENOBUFS);
	CHECK_EQ(os_handover_listen(&name), -ENOBUFS);
	refuse(SYS_bind, REFUSE_ANY, 0, EADDRINUSE);
	CHECK_EQ(os_handover_listen(&name), -EADDRINUSE);
	CHECK_EQ(open_files(), files);
	refuse(SYS_socket, REFUSE_ANY, 0, EMFILE);
	CHECK_EQ(os_handover_listen(&name), -EMFILE);
	CHECK_EQ(os_handover_receive(&name, &none, 1), -EMFILE);
	CHECK_EQ(name.len, 6);
	refuse(SYS_pipe2, REFUSE_ANY, 0, ENFILE);
	CHECK_EQ(os_lifeline(fds), -ENFILE);
}

TEST(a_life_ends_with_who_has_it)
{
	struct os_life *life = os_map_shared(PAGE);
	int fds[2], status;
	char byte;
	pid_t pid;

	CHECK(life != NULL);
	CHECK_EQ(pipe(fds), 0);
	os_life_init(life);
	CHECK(os_life_try(life));
	os_life_end(life);
	pid = fork();
	if (pid == 0) {
		os_life_begin(life);
		CHECK_EQ(write(fds[1], "x", 1), 1);
		CHECK_EQ(kill(getpid(), SIGSTOP), 0);
		_exit(0);
	}
	CHECK_EQ(read(fds[0], &byte, 1), 1);
	CHECK(!os_life_try(life));
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(os_life_try(life));
	os_life_end(life);
	/* Who waits is served when it is left. */
	os_life_begin(life);
	os_life_end(life);
}

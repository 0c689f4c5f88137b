/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os_uffd_move() says what it moved, also of pages that are touched all the while: the
 * kernel may move a page at a second attempt and report that its place was taken (Linux
 * 6.18; lib/os/os_linux_uffd.c). A page that is not counted is a page that is lost.
 */
#include "test.h"

#include <pthread.h>
#include <sys/mman.h>

#include "lib/os/os.h"

#define PAGE 4096u
#define NR 64u
#define SECONDS 5

static char *memory, *frames;
static uint32_t round_asked, round_done;

/* Each page is touched first when it is the zero page still, or moved, or neither. */
static void *touch(void *arg __attribute__((unused)))
{
	uint32_t round = 0, asked;
	unsigned i;

	for (;;) {
		while ((asked = __atomic_load_n(&round_asked, __ATOMIC_ACQUIRE)) == round)
			;
		round = asked;
		if (!round)
			return NULL;
		for (i = 0; i < NR; i++) {
			volatile uint64_t *word = (uint64_t *)(memory + i * PAGE);

			CHECK_EQ(*word, 0);
			*word = round;
		}
		__atomic_store_n(&round_done, round, __ATOMIC_RELEASE);
	}
}

static char *map(void)
{
	char *p = mmap(NULL, (size_t)NR * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static void skip_under_valgrind(const char *why)
{
	if (test_instrument() && !strcmp(test_instrument(), "valgrind"))
		SKIP("%s", why);
}

static int open_uffd(void)
{
	int uffd = os_uffd_open(0);

	if (uffd == -EPERM || uffd == -ENOSYS)
		SKIP("no userfaultfd for us here (%s)", strerror(-uffd));
	CHECK(uffd >= 0);
	CHECK_EQ(os_attach(), 0);
	return uffd;
}

static void register_both(int uffd)
{
	size_t len = (size_t)NR * PAGE;

	CHECK_EQ(os_uffd_register(uffd, (uintptr_t)memory, len), 0);
	CHECK_EQ(os_uffd_register(uffd, (uintptr_t)frames, len), 0);
}

static void move_all(int uffd, char *dst, char *src)
{
	unsigned done = 0;
	int64_t r;

	while (done < NR) {
		r = os_uffd_move(uffd, (uintptr_t)dst + done * PAGE,
				 (uintptr_t)src + done * PAGE, (NR - done) * PAGE, 0);
		CHECK(r > 0 || r == -EAGAIN, "page %u: %d", done, (int)r);
		done += r > 0 ? (unsigned)(r / PAGE) : 0;
	}
}

TEST(pages_that_are_touched_are_all_counted)
{
	size_t len = (size_t)NR * PAGE;
	uint64_t end = os_now_ns() + SECONDS * UINT64_C(1000000000);
	int uffd;
	uint32_t round;
	pthread_t thread;
	unsigned i;

	skip_under_valgrind("valgrind runs one thread at a time");
	uffd = open_uffd();
	memory = map();
	frames = map();
	register_both(uffd);
	CHECK_EQ(pthread_create(&thread, NULL, touch, NULL), 0);
	for (round = 1; os_now_ns() < end; round++) {
		CHECK_EQ(madvise(memory, len, MADV_DONTNEED), 0);
		CHECK_EQ(os_uffd_zero(uffd, (uintptr_t)memory, len), (int64_t)len);
		__atomic_store_n(&round_asked, round, __ATOMIC_RELEASE);
		do {
			move_all(uffd, frames, memory);
			move_all(uffd, memory, frames);
		} while (__atomic_load_n(&round_done, __ATOMIC_ACQUIRE) != round);
		for (i = 0; i < NR; i++)
			CHECK_EQ(*(uint64_t *)(memory + (size_t)i * PAGE), round);
	}
	__atomic_store_n(&round_asked, 0, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	os_uffd_close(uffd);
}

/* Somebody has looked into frames that were empty; behind the first there is a gap. */
TEST(what_lies_behind_a_gap_is_not_counted)
{
	size_t len = (size_t)NR * PAGE;
	int uffd;
	int64_t r;

	skip_under_valgrind("valgrind does not know what PAGEMAP_SCAN writes");
	uffd = open_uffd();
	memory = map();
	frames = map();
	memset(memory, 1, 4 * (size_t)PAGE);
	memset(frames + 4 * PAGE, 0, 2 * (size_t)PAGE);
	memset(frames + 9 * PAGE, 0, PAGE);
	register_both(uffd);
	r = os_uffd_move(uffd, (uintptr_t)frames, (uintptr_t)memory, len, 0);
	CHECK_GE(r, 4 * (int64_t)PAGE);
	CHECK_LE(r, 6 * (int64_t)PAGE);
	CHECK_EQ(os_uffd_move(uffd, (uintptr_t)frames + 6 * PAGE,
			      (uintptr_t)memory + 6 * PAGE, PAGE, 0),
		 -ENOENT);
	os_uffd_close(uffd);
}

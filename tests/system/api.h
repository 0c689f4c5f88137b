/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of <uhmm/uhmm.h> on the real kernel: what they share.
 *
 * They link libuhmm.so and see public headers only. Pages hold stamps (stress/stamp.h):
 * page i of a buffer is written with key + i, so a wrong page is recognised, and by
 * whose it is. Every function fails the test itself if something cannot be done, and
 * skips it where userfaultfd is not permitted. Any thread, but for api_space().
 */
#ifndef TESTS_API_H
#define TESTS_API_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "stress/stamp.h"
#include "test.h"
#include "uhmm/uhmm.h"

#define FOLIO ((size_t)2 << 20)
#define FOLIO_PAGES (FOLIO / PAGE)

/* A test that is made twice, once for each delivery. */
#define API_TEST(name_, ...)                                                             \
	static void name_(uint32_t delivery);                                            \
	TEST(name_##_thread, __VA_ARGS__)                                                \
	{                                                                                \
		name_(UHMM_DELIVERY_THREAD);                                             \
	}                                                                                \
	TEST(name_##_inline, __VA_ARGS__)                                                \
	{                                                                                \
		name_(UHMM_DELIVERY_INLINE);                                             \
	}                                                                                \
	static void name_(uint32_t delivery)

/*
 * What a thread of the library may come to after it has woken the one that asks. What
 * was true once is not asked again: it may be true for a moment only.
 */
#define CHECK_SOON(expr_)                                                                \
	do {                                                                             \
		int tries_ = 5000;                                                       \
		while (!(expr_) && --tries_)                                             \
			usleep(1000);                                                    \
		CHECK(tries_, "not so for 5 s: %s", #expr_);                             \
	} while (0)

struct uhmm_space *api_space(uint32_t delivery, uint64_t budget_bytes);
struct uhmm_device *api_device(struct uhmm_space *space, const char *spec);
/* Destroys the space and expects no error. */
void api_destroy(struct uhmm_space *space);
struct uhmm_stats api_stats(struct uhmm_space *space);

/*
 * Private anonymous memory, never written, in a mapping of its own: pages that cannot be
 * read lie around it, so the kernel merges it with nothing. Aligned to 2 MiB.
 */
char *api_map(size_t nr_pages);
void api_unmap(void *p, size_t nr_pages);

/* Pages p[0..nr) hold key, key + 1, ... */
void api_fill(void *p, size_t nr, uint64_t key);
void api_check(const void *p, size_t nr, uint64_t key);

/* How many of nr results are this one. */
size_t api_count(const uint8_t *results, size_t nr, enum uhmm_result result);
/* Migrates all of it, expects the same result for each page. dev NULL: back. */
void api_move(struct uhmm_space *space, void *p, size_t nr, struct uhmm_device *dev,
	      enum uhmm_result expected);

/* A number of /proc/self/smaps in KiB, of the mapping that holds p: "AnonHugePages:" */
long api_smaps_kib(const void *p, const char *field);
/* Pages of [p, p + nr) that take memory. */
size_t api_resident(const void *p, size_t nr);
/* Huge pages for p if there are any; else the test is skipped. Fills it. */
void api_fill_huge(void *p, size_t nr, uint64_t key);
/*
 * ThreadSanitizer takes locks of its own in a handler of pthread_atfork() and holds them
 * until fork() returns: every other thread stops at its next atomic operation, also the
 * reader, for which the kernel waits in fork(). NULL, or why a test cannot run.
 */
const char *api_fork_stops_threads(void);
int api_nr_fds(void);
int api_nr_mappings(void);
/* Resident anonymous memory of this process. */
int64_t api_rss_bytes(void);

#endif

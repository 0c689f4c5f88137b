/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the device that compat/dmirror makes. They are linked with it, so that it
 * stands before libc for them as it does for a program that it is loaded into; and open a
 * private device or a coherent one by its name, as such a program does.
 *
 * Pages hold stamps (stress/stamp.h): page i of a range that was filled with a key holds
 * key + i.
 */
#ifndef TESTS_DM_H
#define TESTS_DM_H

#include "compat/dmirror/abi.h"
#include "stress/stamp.h"
#include "test.h"

#include <sys/mman.h>

#define FOLIO ((size_t)2 << 20)

#if defined(__has_feature)
#define HAS_FEATURE(feature_) __has_feature(feature_)
#else
#define HAS_FEATURE(feature_) 0
#endif

#define PRIVATE 0u
#define COHERENT 2u

/* A test for a device of each kind: number is the first, number + 1 another. */
#define DM_TEST(name_, ...)                                                              \
	static void name_(unsigned number);                                              \
	TEST(name_##_private, __VA_ARGS__)                                               \
	{                                                                                \
		name_(PRIVATE);                                                          \
	}                                                                                \
	TEST(name_##_coherent, __VA_ARGS__)                                              \
	{                                                                                \
		name_(COHERENT);                                                         \
	}                                                                                \
	static void name_(unsigned number)

/* A descriptor; a machine that does not permit userfaultfd skips the test. */
int dm_open(unsigned number);

/* Calls the device: what ioctl() says, or -errno. out may be NULL. */
int dm_call(int fd, enum dmirror_call call, const void *addr, void *ptr, size_t nr,
	    struct dmirror_cmd *out);
/* Expects success for all pages, and so many faults. */
void dm_read(int fd, const void *addr, void *ptr, size_t nr, unsigned faults);
void dm_write(int fd, void *addr, void *ptr, size_t nr, unsigned faults);
/* Expects all pages on the device, with these stamps. */
void dm_to_dev(int fd, void *addr, size_t nr, uint64_t key);
/* Expects so many to come back. */
void dm_to_sys(int fd, void *addr, size_t nr, size_t moved);
/* Expects the same of each page, in a huge one or not. */
void dm_snapshot(int fd, const void *addr, size_t nr, unsigned prot);
/* What a page on the first device of a kind, which can be written, is. */
unsigned dm_local(unsigned number);

/* Private anonymous memory in a mapping of its own, aligned to 2 MiB. */
char *dm_map(size_t nr);
void dm_fill(void *p, size_t nr, uint64_t key);
void dm_check(const void *p, size_t nr, uint64_t key);
/* A mapping that holds p has that many KiB of a field in smaps: "AnonHugePages:" */
long dm_smaps_kib(const void *p, const char *field);

#endif

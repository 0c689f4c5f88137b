/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of devices share: a subject, which is a spec to open, and pages whose
 * contents follow from a kind and a seed, so that they need not be kept to be compared.
 *
 * DEVICE_TEST(name) { ... } is run once for every subject. Subjects are found by
 * themselves: each driver alone if it can be, and on top of ram, of lz4 and of file if
 * it is a layer; one that writes a file is given a place for it; and some tiers. All
 * functions end the test if something is not as it should be.
 */
#ifndef TESTS_SUBJECT_H
#define TESTS_SUBJECT_H

#include "tests/test.h"

#include "lib/device.h"
#include "tests/device/content.h"

#define PAGE UHMM_PAGE_SIZE

struct subject {
	const struct uhmm_driver *driver; /* the one on top */
	char spec[256];
};

/* The subject of the running test. */
const struct subject *subject(void);
/* The driver on top by itself, with an option. */
void subject_spec(const char *option, char *spec, size_t size);
struct uhmm_device *open_spec(const char *spec);

struct device_case {
	const char *name;
	void (*fn)(void);
	struct device_case *next;
};
void device_case_add(struct device_case *c);

/* Before subjects are made, which is after all constructors that have a priority. */
#define DEVICE_TEST(name_)                                                               \
	static void name_(void);                                                         \
	__attribute__((constructor(1000))) static void name_##_add(void)                 \
	{                                                                                \
		static struct device_case c_ = { .name = #name_, .fn = name_ };          \
		device_case_add(&c_);                                                    \
	}                                                                                \
	static void name_(void)

/* ---- pages --------------------------------------------------------------------- */

struct page {
	uint64_t number, seed;
	unsigned kind;
	bool stored;
};

/* Prime, so that every stride visits all of them. */
#define NR_PAGES 2003u

struct page *pages_of_all_kinds(uint32_t nr, uint64_t seed);

/* Buffers of a batch; a thread has its own. */
struct buffers {
	uint8_t (*data)[PAGE];
	uint8_t expected[PAGE];
};

void buffers_init(struct buffers *b);
void buffers_fini(struct buffers *b);

/* As CHECK_MEM, and quick when nothing is wrong. */
void check_page(const void *page, const void *expected);

/* A batch of pages. store() returns how many were refused for want of space. */
uint32_t store(struct uhmm_device *dev, struct buffers *b, struct page **pages,
	       uint32_t nr);
void load(struct uhmm_device *dev, struct buffers *b, struct page **pages, uint32_t nr);
void forget(struct uhmm_device *dev, struct page **pages, uint32_t nr);

/* The same, for each_batch(); none may be refused. */
typedef void (*batch_fn)(struct uhmm_device *, struct buffers *, struct page **,
			 uint32_t);
void store_all(struct uhmm_device *dev, struct buffers *b, struct page **p, uint32_t nr);
void forget_all(struct uhmm_device *dev, struct buffers *b, struct page **p, uint32_t nr);

/* Calls fn for batches of `size`, in the order 0, stride, 2 * stride... modulo nr. */
void each_batch(struct uhmm_device *dev, struct buffers *b, struct page *pages,
		uint32_t nr, uint32_t stride, uint32_t size, batch_fn fn);

struct uhmm_device_stat stat_of(struct uhmm_device *dev);

#endif

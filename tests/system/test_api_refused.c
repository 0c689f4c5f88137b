/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments that make no sense, of <uhmm/migrate.h> and <uhmm/range.h>: each is refused
 * for itself, and nothing is changed by it.
 */
#include "board.h"
#include "uhmm/range.h"

/* ---- page maps -------------------------------------------------------------------- */

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	(void)ctx;
	(void)page;
	memset(buf, 0, PAGE);
	return 0;
}

static const struct uhmm_pagemap_ops ops = { .size = sizeof(ops),
					     .copy_to_ram = copy_to_ram };
static const struct uhmm_pagemap_ops none = { .size = sizeof(none) };
static const struct uhmm_pagemap_ops larger = { .size = sizeof(larger) + 8,
						.copy_to_ram = copy_to_ram };

static const struct uhmm_pagemap_config good = { .size = sizeof(good),
						 .nr_pages = 600,
						 .owner = board_owner,
						 .ops = &ops };

static void check_config(struct uhmm_space *space, struct uhmm_pagemap_config config)
{
	struct uhmm_pagemap *map = (void *)&good;

	CHECK_EQ(uhmm_pagemap_register(space, &config, &map), -EINVAL);
	CHECK(map == (void *)&good);
}

#define BAD(field_, value_)                                                              \
	do {                                                                             \
		struct uhmm_pagemap_config config_ = good;                               \
		config_.field_ = (value_);                                               \
		check_config(space, config_);                                            \
	} while (0)

API_TEST(page_maps_that_cannot_be)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_pagemap_config coherent = good;
	struct uhmm_pagemap *map = NULL;

	CHECK_EQ(uhmm_pagemap_register(space, NULL, &map), -EINVAL);
	BAD(size, sizeof(good) - 1);
	BAD(nr_pages, 0);
	BAD(nr_pages, UINT64_C(1) << 44);
	BAD(owner, NULL);
	BAD(ops, NULL);
	BAD(ops, &none);
	BAD(ops, &larger);
	BAD(type, UHMM_PAGEMAP_COHERENT + 1);
	BAD(flags, UHMM_PAGEMAP_SHARED << 1);
	coherent.type = UHMM_PAGEMAP_COHERENT;
	coherent.flags = UHMM_PAGEMAP_SHARED;
	check_config(space, coherent);
	coherent.flags = 0;
	coherent.ops = &none;
	CHECK_EQ(uhmm_pagemap_register(space, &coherent, &map), 0);
	CHECK_EQ(uhmm_pagemap_unregister(map), 0);
	api_destroy(space);
}

API_TEST(pages_that_a_device_does_not_have)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_pagemap *map = NULL;
	uhmm_pfn_t pfn = 7, folio;
	uint64_t page = 7;

	CHECK_EQ(uhmm_pagemap_register(space, &good, &map), 0);
	CHECK_EQ(uhmm_page_get(map, 600, &pfn), -EINVAL);
	CHECK_EQ(uhmm_folio_get(map, 512, &pfn), -EINVAL);
	CHECK_EQ(uhmm_folio_get(map, 1, &pfn), -EINVAL);
	CHECK_EQ(uhmm_folio_get(map, 1024, &pfn), -EINVAL);
	CHECK_EQ(pfn, 7);
	CHECK_EQ(uhmm_page_get(map, 599, &pfn), 0);
	CHECK_EQ(uhmm_page_get(map, 599, &pfn), -EBUSY);
	CHECK_EQ(uhmm_page_get(map, 5, &folio), 0);
	CHECK_EQ(uhmm_folio_get(map, 0, &folio), -EBUSY);
	CHECK(uhmm_pfn_pagemap(space, pfn, &page) == map && page == 599);
	CHECK(!uhmm_pfn_pagemap(space, 0, &page));
	CHECK(!uhmm_pagemap_memory(map));
	CHECK(!uhmm_pfn_bytes(space, pfn));
	uhmm_page_put(map, 5);
	uhmm_page_put(map, 599);
	/* What nobody has got is nobody's to give back. */
	uhmm_page_put(map, 599);
	uhmm_page_put(map, 601);
	CHECK_EQ(uhmm_folio_get(map, 0, &folio), 0);
	CHECK_EQ(uhmm_page_get(map, 3, &pfn), -EBUSY);
	uhmm_page_put(map, 0);
	CHECK_EQ(uhmm_pagemap_unregister(map), 0);
	api_destroy(space);
}

/* ---- migrations ------------------------------------------------------------------- */

static uhmm_pfn_t src[NR], dst[NR];
static char *range;

static struct uhmm_migrate whole(void)
{
	return (struct uhmm_migrate){ .size = sizeof(struct uhmm_migrate),
				      .start = (uintptr_t)range,
				      .end = (uintptr_t)range + NR * PAGE,
				      .src = src,
				      .dst = dst,
				      .owner = board_owner,
				      .flags = UHMM_SELECT_SYSTEM };
}

#define BAD_RANGE(field_, value_)                                                        \
	do {                                                                             \
		struct uhmm_migrate m_ = whole();                                        \
		m_.field_ = (value_);                                                    \
		CHECK_EQ(uhmm_migrate_setup(b->space, &m_), -EINVAL);                    \
		CHECK(!m_.migration || m_.migration == (void *)&m_);                     \
	} while (0)

API_TEST(migrations_that_cannot_be)
{
	struct board *b = board_open(delivery);
	struct uhmm_migrate m;
	static char other;

	range = api_map(NR);
	api_fill(range, NR, 1);
	CHECK_EQ(uhmm_migrate_setup(b->space, NULL), -EINVAL);
	BAD_RANGE(size, sizeof(m) - 1);
	BAD_RANGE(start, (uintptr_t)range + 1);
	BAD_RANGE(end, (uintptr_t)range + 1);
	BAD_RANGE(end, (uintptr_t)range);
	BAD_RANGE(src, NULL);
	BAD_RANGE(dst, NULL);
	BAD_RANGE(flags, 0);
	BAD_RANGE(flags, UINT32_MAX);
	BAD_RANGE(reserved, 1);
	m = whole();
	m.flags = UHMM_SELECT_DEVICE_PRIVATE;
	m.owner = NULL;
	CHECK_EQ(uhmm_migrate_setup(b->space, &m), -EINVAL);
	m = whole();
	m.migration = (void *)&other;
	CHECK_EQ(uhmm_migrate_setup(b->space, &m), -EINVAL);
	/* Neither begun nor ended. */
	m = whole();
	CHECK_EQ(uhmm_migrate_pages(b->space, &m), -EINVAL);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &m), -EINVAL);
	CHECK_EQ(uhmm_migrate_pages(b->space, NULL), -EINVAL);
	CHECK_EQ(uhmm_migrate_finalize(b->space, NULL), -EINVAL);
	api_check(range, NR, 1);
	board_close(b);
}

#define BAD_DEVICE(field_, value_)                                                       \
	do {                                                                             \
		struct uhmm_migrate m_ = whole();                                        \
		m_.field_ = (value_);                                                    \
		CHECK_EQ(uhmm_migrate_device_range(b->map, 0, NR, &m_), -EINVAL);        \
	} while (0)

API_TEST(pages_of_a_device_that_cannot_be_migrated)
{
	struct board *b = board_open(delivery);
	struct uhmm_migrate m;
	uhmm_pfn_t pfns[NR];
	unsigned i;

	range = api_map(NR);
	api_fill(range, NR, 1);
	board_take(b, range, NR);
	BAD_DEVICE(size, sizeof(m) - 1);
	BAD_DEVICE(src, NULL);
	BAD_DEVICE(dst, NULL);
	BAD_DEVICE(reserved, 1);
	m = whole();
	CHECK_EQ(uhmm_migrate_device_range(b->map, 0, NR, NULL), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_range(b->map, 0, 0, &m), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_range(b->map, DEVICE_PAGES, 1, &m), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_range(b->map, DEVICE_PAGES - 1, 2, &m), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_range(b->map, 0, (size_t)1 << 45, &m), -EINVAL);
	for (i = 0; i < NR; i++)
		pfns[i] = UHMM_PFN_ERROR;
	CHECK_EQ(uhmm_migrate_device_pfns(b->space, NULL, NR, &m), -EINVAL);
	CHECK_EQ(uhmm_migrate_device_pfns(b->space, pfns, 0, &m), -EINVAL);
	/* No pages of the device's: none of them migrates, and that is no error. */
	CHECK_EQ(uhmm_migrate_device_pfns(b->space, pfns, NR, &m), 0);
	for (i = 0; i < NR; i++)
		CHECK(!(src[i] & UHMM_PFN_MIGRATE));
	CHECK_EQ(uhmm_migrate_pages(b->space, &m), 0);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &m), 0);
	api_check(range, NR, 1);
	board_close(b);
}

API_TEST(memory_for_a_migration_that_cannot_be)
{
	struct uhmm_space *space = api_space(delivery, 0);
	uhmm_pfn_t pfn = 7, page, folio;

	CHECK_EQ(uhmm_page_alloc(space, NULL, 1), -EINVAL);
	CHECK_EQ(uhmm_page_alloc(space, &pfn, 0), -EINVAL);
	CHECK_EQ(uhmm_page_alloc_on_node(space, -1, &pfn, 1), -EINVAL);
	CHECK_EQ(uhmm_page_alloc_on_node(space, 1024, &pfn, 1), -EINVAL);
	CHECK_EQ(uhmm_folio_alloc(space, NULL), -EINVAL);
	CHECK_EQ(pfn, 7);
	CHECK_EQ(uhmm_page_alloc(space, &page, 1), 1);
	CHECK_EQ(uhmm_folio_alloc(space, &folio), 0);
	CHECK(uhmm_pfn_bytes(space, page) && uhmm_pfn_bytes(space, folio));
	memset(uhmm_pfn_bytes(space, folio), 1, FOLIO);
	/* Of no frame at all. */
	CHECK(!uhmm_pfn_bytes(space, UINT64_C(1) << 40));
	uhmm_page_free(space, UINT64_C(1) << 40);
	uhmm_page_free(space, page);
	uhmm_page_free(space, folio);
	api_destroy(space);
}

/* ---- mirrors ---------------------------------------------------------------------- */

static void invalidate(struct uhmm_notifier *n, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	(void)ctx;
	(void)what;
	uhmm_notifier_set_seq(n, seq);
}

static const struct uhmm_notifier_ops told = { .size = sizeof(told),
					       .invalidate = invalidate };

API_TEST(ranges_that_a_mirror_cannot_have)
{
	struct uhmm_space *space = api_space(delivery, 0);
	uintptr_t at = (uintptr_t)api_map(NR);
	struct uhmm_notifier *n = NULL;
	uint64_t pfns[NR] = { 0 };
	struct uhmm_range r = {
		.size = sizeof(r), .start = at, .end = at + PAGE, .pfns = pfns
	};

	CHECK_EQ(uhmm_notifier_insert(space, at, NR * PAGE, &told, NULL, &n), 0);
	r.notifier = n;
	r.notifier_seq = uhmm_notifier_read_begin(n);
	CHECK_EQ(uhmm_range_fault(NULL), -EINVAL);
	r.size--;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r.size++;
	r.pfns = NULL;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r.pfns = pfns;
	r.end = at;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r.end = at + 1;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r.end = at + NR * PAGE + PAGE;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r.end = at + PAGE;
	r.start = at - PAGE;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r.start = at;
	CHECK_EQ(uhmm_range_fault(&r), 0);
	CHECK(!(pfns[0] & UHMM_RANGE_VALID));
	/* The mapping goes, and the device wants it. */
	r.default_flags = UHMM_RANGE_REQ_FAULT;
	api_unmap((void *)at, NR);
	r.notifier_seq = uhmm_notifier_read_begin(n);
	CHECK_EQ(uhmm_range_fault(&r), -EFAULT);
	uhmm_notifier_remove(n);
	uhmm_notifier_remove(NULL);
	api_destroy(space);
}

API_TEST(pages_that_cannot_be_exclusive)
{
	struct uhmm_space *space = api_space(delivery, 0);
	char *p = api_map(NR);
	uintptr_t at = (uintptr_t)p;
	uhmm_pfn_t pfn = 7;
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	api_fill(p, NR, 1);
	CHECK(shared != MAP_FAILED);
	CHECK_EQ(uhmm_make_exclusive(space, at, board_owner, NULL), -EINVAL);
	CHECK_EQ(uhmm_make_exclusive(space, at + 8, board_owner, &pfn), -EINVAL);
	CHECK_EQ(uhmm_make_exclusive(space, (uintptr_t)shared, board_owner, &pfn),
		 -EOPNOTSUPP);
	CHECK_EQ(mprotect(p, PAGE, PROT_READ), 0);
	CHECK_EQ(uhmm_make_exclusive(space, at, board_owner, &pfn), -EPERM);
	CHECK_EQ(munmap(p + PAGE, PAGE), 0);
	CHECK_EQ(uhmm_make_exclusive(space, at + PAGE, board_owner, &pfn), -EFAULT);
	CHECK_EQ(uhmm_make_exclusive(space, UINTPTR_MAX << 12, board_owner, &pfn),
		 -EFAULT);
	CHECK_EQ(pfn, 7);
	api_check(p, 1, 1);
	api_check(p + 2 * PAGE, NR - 2, 3);
	api_destroy(space);
}

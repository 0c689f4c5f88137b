/* SPDX-License-Identifier: Apache-2.0 */
/* See mirror.h. */
#include "mirror.h"

/* ---- what the library calls -------------------------------------------------------- */

static bool is_own(const struct mirror *m, const struct uhmm_invalidation *what)
{
	return m->own && what->owner == m->own && what->event == UHMM_EVENT_MIGRATE;
}

static void drop(struct mirror *m, const struct uhmm_invalidation *what)
{
	uintptr_t base = (uintptr_t)m->p;
	size_t i;

	for (i = 0; i < m->nr; i++)
		if (base + (i + 1) * PAGE > what->start && base + i * PAGE < what->end)
			m->table[i] = m->exclusive[i] = 0;
}

static void invalidate(struct uhmm_notifier *n, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	struct mirror *m = ctx;

	uhmm_lock(&m->lock);
	__atomic_store_n(&m->inside, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(&m->entered, true, __ATOMIC_SEQ_CST);
	if (m->slow_ms)
		usleep(m->slow_ms * 1000);
	CHECK(seq & 1);
	if (!is_own(m, what)) {
		uhmm_notifier_set_seq(n, seq);
		drop(m, what);
	}
	m->last_seq = seq;
	m->log[m->nr_log++ % MIRROR_LOG] = *what;
	__atomic_store_n(&m->inside, false, __ATOMIC_SEQ_CST);
	uhmm_unlock(&m->lock);
}

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	struct mirror *m = ctx;

	uhmm_lock(&m->lock);
	m->told_at = m->nr_log;
	uhmm_unlock(&m->lock);
	__atomic_store_n(&m->loading, true, __ATOMIC_SEQ_CST);
	usleep(__atomic_load_n(&m->load_ms, __ATOMIC_RELAXED) * 1000);
	memcpy(buf, m->page[page], PAGE);
	__atomic_store_n(&m->loading, false, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&m->broken, __ATOMIC_RELAXED) ? -EIO : 0;
}

static void page_free(void *ctx, uint64_t page)
{
	struct mirror *m = ctx;

	memset(m->page[page], 0xdb, PAGE);
	__atomic_fetch_add(&m->freed, 1, __ATOMIC_RELAXED);
}

static const struct uhmm_notifier_ops notifier_ops = {
	.size = sizeof(notifier_ops),
	.invalidate = invalidate,
};

static const struct uhmm_pagemap_ops pagemap_ops = {
	.size = sizeof(pagemap_ops),
	.copy_to_ram = copy_to_ram,
	.page_free = page_free,
};

/* ---- life -------------------------------------------------------------------------- */

void mirror_insert(struct mirror *m)
{
	CHECK_EQ(uhmm_notifier_insert(m->space, (uintptr_t)m->p, m->nr * PAGE,
				      &notifier_ops, m, &m->notifier),
		 0);
}

void mirror_remove(struct mirror *m)
{
	uhmm_notifier_remove(m->notifier);
	m->notifier = NULL;
}

struct mirror *mirror_join(struct uhmm_space *space, char *p, size_t nr)
{
	struct mirror *m = uhmm_host_map(sizeof(*m));
	struct uhmm_pagemap_config config = { .size = sizeof(config),
					      .nr_pages = MIRROR_DEVICE_PAGES,
					      .owner = m,
					      .ops = &pagemap_ops,
					      .ctx = m };

	CHECK(m);
	CHECK_LE(nr, MIRROR_PAGES);
	m->space = space;
	m->p = p;
	m->nr = nr;
	m->page = uhmm_host_map(MIRROR_DEVICE_PAGES * PAGE);
	CHECK(m->page);
	CHECK_EQ(uhmm_pagemap_register(space, &config, &m->map), 0);
	mirror_insert(m);
	return m;
}

struct mirror *mirror_open(uint32_t delivery, char *p, size_t nr)
{
	return mirror_join(api_space(delivery, 0), p, nr);
}

static void release(struct mirror *m)
{
	uhmm_host_unmap(m->page, MIRROR_DEVICE_PAGES * PAGE);
	uhmm_host_unmap(m, sizeof(*m));
}

void mirror_close(struct mirror *m)
{
	api_destroy(m->space);
	uhmm_notifier_remove(m->notifier);
	release(m);
}

void mirror_leave(struct mirror *m)
{
	uhmm_notifier_remove(m->notifier);
	CHECK_EQ(uhmm_pagemap_unregister(m->map), 0);
	release(m);
}

/* ---- what was told ----------------------------------------------------------------- */

static void sync_with_program(struct mirror *m)
{
	uhmm_notifier_read_begin(m->notifier);
}

void mirror_clear(struct mirror *m)
{
	sync_with_program(m);
	uhmm_lock(&m->lock);
	m->nr_log = 0;
	uhmm_unlock(&m->lock);
}

static bool is_covered(const struct mirror *m, enum uhmm_event event, uintptr_t page,
		       const void *owner)
{
	unsigned i;

	for (i = 0; i < m->nr_log; i++)
		if (m->log[i].event == event && m->log[i].owner == owner &&
		    m->log[i].start <= page && page + PAGE <= m->log[i].end)
			return true;
	return false;
}

bool mirror_heard(struct mirror *m, enum uhmm_event event, const char *p, size_t nr,
		  const void *owner)
{
	bool all = true;
	size_t i;

	sync_with_program(m);
	uhmm_lock(&m->lock);
	CHECK_LT(m->nr_log, MIRROR_LOG);
	for (i = 0; i < nr; i++)
		all = all && is_covered(m, event, (uintptr_t)p + i * PAGE, owner);
	uhmm_unlock(&m->lock);
	return all;
}

void mirror_told(struct mirror *m, enum uhmm_event event, const char *p, size_t nr,
		 const void *owner)
{
	unsigned i;

	CHECK(mirror_heard(m, event, p, nr, owner), "%u events", m->nr_log);
	uhmm_lock(&m->lock);
	for (i = 0; i < m->nr_log; i++) {
		CHECK_EQ(m->log[i].event, event);
		CHECK_EQ(m->log[i].owner, owner);
		CHECK_GE(m->log[i].start, (uintptr_t)p);
		CHECK_LE(m->log[i].end, (uintptr_t)p + nr * PAGE);
	}
	uhmm_unlock(&m->lock);
	mirror_clear(m);
}

void mirror_told_nothing(struct mirror *m)
{
	sync_with_program(m);
	uhmm_lock(&m->lock);
	CHECK(m->nr_log == 0, "event %u, %zx to %zx", m->log[0].event, m->log[0].start,
	      m->log[0].end);
	uhmm_unlock(&m->lock);
}

/* ---- the page table ---------------------------------------------------------------- */

static int look(struct mirror *m, const char *p, size_t nr, uint64_t flags,
		uint64_t *pfns, uint64_t *seq)
{
	struct uhmm_range range = { .size = sizeof(range),
				    .notifier = m->notifier,
				    .start = (uintptr_t)p,
				    .end = (uintptr_t)p + nr * PAGE,
				    .pfns = pfns,
				    .default_flags = flags,
				    .dev_private_owner = m };

	range.notifier_seq = *seq = uhmm_notifier_read_begin(m->notifier);
	return uhmm_range_fault(&range);
}

int mirror_look(struct mirror *m, const char *p, size_t nr, uint64_t flags)
{
	uint64_t seq;

	return look(m, p, nr, flags, &m->pfns[(p - m->p) / (ssize_t)PAGE], &seq);
}

int mirror_map(struct mirror *m, const char *p, size_t nr, uint64_t flags)
{
	size_t first = (size_t)(p - m->p) / PAGE;
	uint64_t seq, pfns[MIRROR_PAGES];
	int r;

	for (;;) {
		memset(pfns, 0, nr * sizeof(*pfns));
		r = look(m, p, nr, flags, pfns, &seq);
		if (r == -EBUSY)
			continue;
		if (r)
			return r;
		uhmm_lock(&m->lock);
		if (!uhmm_notifier_read_retry(m->notifier, seq))
			break;
		uhmm_unlock(&m->lock);
	}
	memcpy(&m->table[first], pfns, nr * sizeof(*pfns));
	memcpy(&m->pfns[first], pfns, nr * sizeof(*pfns));
	uhmm_unlock(&m->lock);
	return 0;
}

uint64_t mirror_at(struct mirror *m, size_t page)
{
	uint64_t pfn;

	uhmm_lock(&m->lock);
	pfn = m->table[page];
	uhmm_unlock(&m->lock);
	return pfn;
}

void *mirror_bytes(struct mirror *m, uint64_t pfn)
{
	uint64_t page;

	if (!(pfn & UHMM_RANGE_VALID))
		return NULL;
	if (uhmm_range_pagemap(m->space, pfn, &page) == m->map)
		return m->page[page];
	return (void *)(uintptr_t)((pfn & ((UINT64_C(1) << 44) - 1)) * PAGE);
}

int mirror_make_exclusive(struct mirror *m, size_t page)
{
	uhmm_pfn_t pfn;
	uint64_t seq;
	int r;

	for (;;) {
		seq = uhmm_notifier_read_begin(m->notifier);
		r = uhmm_make_exclusive(m->space, (uintptr_t)m->p + page * PAGE, m, &pfn);
		if (r)
			return r;
		uhmm_lock(&m->lock);
		if (!uhmm_notifier_read_retry(m->notifier, seq))
			break;
		uhmm_unlock(&m->lock);
	}
	CHECK(uhmm_pfn_bytes(m->space, pfn));
	m->exclusive[page] = pfn;
	m->table[page] = 0;
	uhmm_unlock(&m->lock);
	return 0;
}

/* ---- migrations -------------------------------------------------------------------- */

uhmm_pfn_t mirror_page(struct mirror *m)
{
	unsigned next;
	uhmm_pfn_t pfn;

	do
		next = __atomic_fetch_add(&m->next, 1, __ATOMIC_RELAXED);
	while (uhmm_page_get(m->map, next % MIRROR_DEVICE_PAGES, &pfn));
	return pfn;
}

void mirror_setup(struct mirror *m, char *p, size_t nr, struct uhmm_migrate *migrate)
{
	uhmm_pfn_t *src = migrate->src, *dst = migrate->dst;
	uint64_t page;
	size_t i;

	*migrate = (struct uhmm_migrate){ .size = sizeof(*migrate),
					  .start = (uintptr_t)p,
					  .end = (uintptr_t)p + nr * PAGE,
					  .src = src,
					  .dst = dst,
					  .owner = m,
					  .flags = UHMM_SELECT_SYSTEM };
	CHECK_EQ(uhmm_migrate_setup(m->space, migrate), 0);
	for (i = 0; i < nr; i++) {
		if (!(src[i] & UHMM_PFN_MIGRATE))
			continue;
		dst[i] = mirror_page(m);
		CHECK(uhmm_pfn_pagemap(m->space, dst[i], &page) == m->map);
		if (uhmm_pfn_is_valid(src[i]))
			memcpy(m->page[page], uhmm_pfn_bytes(m->space, src[i]), PAGE);
		else
			memset(m->page[page], 0, PAGE);
	}
	CHECK_EQ(uhmm_migrate_pages(m->space, migrate), 0);
}

void mirror_migrate(struct mirror *m, char *p, size_t nr)
{
	uhmm_pfn_t *src = uhmm_host_map(nr * sizeof(*src));
	uhmm_pfn_t *dst = uhmm_host_map(nr * sizeof(*dst));
	struct uhmm_migrate migrate = { .src = src, .dst = dst };
	size_t i;

	CHECK(src && dst);
	mirror_setup(m, p, nr, &migrate);
	for (i = 0; i < nr; i++)
		CHECK(src[i] & UHMM_PFN_MIGRATE, "page %zu", i);
	CHECK_EQ(uhmm_migrate_finalize(m->space, &migrate), 0);
	uhmm_host_unmap(src, nr * sizeof(*src));
	uhmm_host_unmap(dst, nr * sizeof(*dst));
}

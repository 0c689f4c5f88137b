/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See host_pages.h. That which came last goes first: it may be in the caches still. Which
 * pages there are is not noted in them, for the others are not.
 */
#include "lib/host_pages.h"

#include <stdbool.h>
#include <string.h>

static struct {
	struct uhmm_lock lock;
	bool none;
	uint32_t nr, least; /* least: of nr, since the last trim */
	void **page;        /* room for HOST_PAGES_MAX, or NULL */
} kept;

/* Under the lock; NULL: there is none. */
static void *pop(void)
{
	void *page;

	if (!kept.nr)
		return NULL;
	page = kept.page[kept.nr - 1];
	__atomic_store_n(&kept.nr, kept.nr - 1, __ATOMIC_RELAXED);
	if (kept.nr < kept.least)
		kept.least = kept.nr;
	return page;
}

/* Gives so many pages back to the kernel, as far as they are there; the lock is free. */
static void drop(uint32_t nr)
{
	void *page;

	for (; nr; nr--) {
		uhmm_lock(&kept.lock);
		page = pop();
		uhmm_unlock(&kept.lock);
		if (!page)
			return;
		uhmm_host_unmap(page, UHMM_PAGE_SIZE);
	}
}

uint32_t uhmm_host_pages_get(void **page, uint32_t nr)
{
	uint32_t done = 0;

	if (__atomic_load_n(&kept.nr, __ATOMIC_RELAXED)) {
		uhmm_lock(&kept.lock);
		while (done < nr && (page[done] = pop()))
			done++;
		uhmm_unlock(&kept.lock);
	}
	while (done < nr && (page[done] = uhmm_host_map(UHMM_PAGE_SIZE)))
		done++;
	return done;
}

/* As many of them as there is room for: how many. */
static uint32_t keep(void *const *page, uint32_t nr)
{
	uint32_t done = 0;

	/* Where there is a budget nobody takes the lock. */
	if (__atomic_load_n(&kept.none, __ATOMIC_RELAXED))
		return 0;
	uhmm_lock(&kept.lock);
	if (!kept.none && !kept.page)
		kept.page = uhmm_host_map(HOST_PAGES_MAX * sizeof(*kept.page));
	if (!kept.none && kept.page)
		for (; done < nr && kept.nr < HOST_PAGES_MAX; done++) {
			kept.page[kept.nr] = page[done];
			__atomic_store_n(&kept.nr, kept.nr + 1, __ATOMIC_RELAXED);
		}
	uhmm_unlock(&kept.lock);
	return done;
}

void uhmm_host_pages_put(void *const *page, uint32_t nr)
{
	uint32_t done = keep(page, nr);

	for (; done < nr; done++)
		uhmm_host_unmap(page[done], UHMM_PAGE_SIZE);
}

void host_pages_drop(void)
{
	void **page;

	drop(UINT32_MAX);
	uhmm_lock(&kept.lock);
	page = kept.nr ? NULL : kept.page;
	if (page)
		kept.page = NULL;
	uhmm_unlock(&kept.lock);
	uhmm_host_unmap(page, HOST_PAGES_MAX * sizeof(*page));
}

void host_pages_keep_none(void)
{
	uhmm_lock(&kept.lock);
	__atomic_store_n(&kept.none, true, __ATOMIC_RELAXED);
	uhmm_unlock(&kept.lock);
	host_pages_drop();
}

void host_pages_trim(void)
{
	uint32_t idle;

	if (!__atomic_load_n(&kept.nr, __ATOMIC_RELAXED))
		return;
	uhmm_lock(&kept.lock);
	idle = kept.least;
	kept.least = kept.nr - idle; /* as many as will be left */
	uhmm_unlock(&kept.lock);
	drop(idle);
}

void host_pages_fork_prepare(void)
{
	host_pages_drop();
	uhmm_lock(&kept.lock);
}

void host_pages_fork_done(void)
{
	uhmm_unlock(&kept.lock);
}

void host_pages_forget(void)
{
	memset(&kept, 0, sizeof(kept));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of runs. See recent.h. */
#include "lib/recent.h"

#include "lib/policy.h"

static struct recent_run *nth(struct recent *r, uint32_t n)
{
	return &r->run[(r->first + n) % RECENT_MAX];
}

/* r->lock held: the count is read without it. */
static void set_pages(struct recent *r, uint64_t nr)
{
	__atomic_store_n(&r->nr_pages, nr, __ATOMIC_RELAXED);
}

static void drop_oldest(struct recent *r)
{
	set_pages(r, r->nr_pages - nth(r, 0)->nr_pages);
	r->first = (r->first + 1) % RECENT_MAX;
	r->nr--;
}

/* A stream's next window makes its run longer, as long as a group has room for it. */
static bool goes_on(struct recent *r, uintptr_t addr, unsigned nr)
{
	struct recent_run *last = r->nr ? nth(r, r->nr - 1) : NULL;

	if (!last || last->start + last->nr_pages * PAGE_SIZE != addr ||
	    last->nr_pages + nr > GROUP_PAGES)
		return false;
	last->nr_pages += nr;
	return true;
}

void recent_add(struct uhmm_space *sp, uintptr_t addr, unsigned nr)
{
	struct recent *r = &sp->recent;

	if (nr < POLICY_RECENT_RUN)
		return;
	uhmm_lock(&r->lock);
	if (!goes_on(r, addr, nr)) {
		if (r->nr == RECENT_MAX)
			drop_oldest(r);
		*nth(r, r->nr++) = (struct recent_run){ addr, nr };
	}
	set_pages(r, r->nr_pages + nr);
	uhmm_unlock(&r->lock);
}

bool recent_take(struct uhmm_space *sp, struct range *run)
{
	struct recent *r = &sp->recent;
	bool any;

	uhmm_lock(&r->lock);
	any = r->nr;
	if (any) {
		const struct recent_run *oldest = nth(r, 0);

		*run = (struct range){ oldest->start,
				       oldest->start + oldest->nr_pages * PAGE_SIZE };
		drop_oldest(r);
	}
	uhmm_unlock(&r->lock);
	return any;
}

void recent_trim(struct uhmm_space *sp, uint64_t max_pages)
{
	struct recent *r = &sp->recent;

	if (recent_pages(sp) <= max_pages)
		return;
	uhmm_lock(&r->lock);
	while (r->nr_pages > max_pages)
		drop_oldest(r);
	uhmm_unlock(&r->lock);
}

uint64_t recent_pages(const struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->recent.nr_pages, __ATOMIC_RELAXED);
}

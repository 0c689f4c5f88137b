/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See huge.h. A bitmap of used places; who finds none does without. Any thread, also
 * inside the gate but for huge_get(), which takes as long as it takes to clear 2 MiB.
 */
#include "lib/huge.h"

#include <errno.h>

#include "lib/frame.h"
#include "lib/migrate.h"

/* As many as a word has bits: more than threads that fault on folios at once. */
#define PLACES 64u
#define AREA_SIZE (PLACES * CHUNK_SIZE)

/* Made when it is first wanted: addresses may be few. NULL: there are none. */
static char *area(struct huge *h)
{
	char *mine, *theirs = __atomic_load_n(&h->area, __ATOMIC_ACQUIRE);

	if (theirs)
		return theirs;
	mine = os_reserve(AREA_SIZE);
	if (!mine)
		return NULL;
	if (!os_commit(mine, AREA_SIZE)) {
		os_prefer_huge(mine, AREA_SIZE); /* or place by place, huge_get() */
		if (__atomic_compare_exchange_n(&h->area, &theirs, mine, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return mine;
	}
	os_release(mine, AREA_SIZE);
	return theirs;
}

void huge_after_fork(struct uhmm_space *sp)
{
	struct huge *h = &sp->huge;

	if (h->used)
		os_discard(h->area, AREA_SIZE);
	h->used = 0;
}

void huge_fini(struct uhmm_space *sp)
{
	if (sp->huge.area)
		os_release(sp->huge.area, AREA_SIZE);
	sp->huge.area = NULL;
}

/* A place, or NULL. */
static char *place_take(struct huge *h)
{
	uint64_t used = __atomic_load_n(&h->used, __ATOMIC_ACQUIRE);
	char *base = area(h);
	unsigned i;

	while (base && ~used) {
		i = (unsigned)__builtin_ctzll(~used);
		if (__atomic_compare_exchange_n(&h->used, &used, used | UINT64_C(1) << i,
						false, __ATOMIC_ACQUIRE,
						__ATOMIC_ACQUIRE))
			return base + i * CHUNK_SIZE;
	}
	return NULL;
}

static void place_give(struct huge *h, const char *bytes)
{
	size_t i = (size_t)(bytes - h->area) / CHUNK_SIZE;

	__atomic_fetch_and(&h->used, ~(UINT64_C(1) << i), __ATOMIC_RELEASE);
}

static bool touch(char *bytes)
{
	os_keep(bytes);
	return is_huge((uintptr_t)bytes);
}

/* A block of spare frames, if it still holds a huge page. */
static char *spare_take(struct uhmm_space *sp)
{
	uint32_t g;
	char *bytes;

	while ((g = frame_spare_take_folio(sp)) != GROUP_NIL) {
		bytes = frame_bytes(sp, (uint64_t)g * GROUP_PAGES);
		if (is_huge((uintptr_t)bytes))
			return bytes;
		frame_folio_empty(sp, g);
	}
	return NULL;
}

char *huge_get(struct uhmm_space *sp)
{
	char *bytes = spare_take(sp);

	if (bytes)
		return bytes;
	bytes = place_take(&sp->huge);

	if (!bytes)
		return NULL;
	if (touch(bytes))
		return bytes;
	/* There was something smaller here before, perhaps. */
	if (!os_prefer_huge(bytes, CHUNK_SIZE) && touch(bytes))
		return bytes;
	huge_put(sp, bytes);
	return NULL;
}

void huge_put(struct uhmm_space *sp, char *bytes)
{
	bool empty = os_empty((uintptr_t)bytes, CHUNK_SIZE) == CHUNK_SIZE;

	if (frame_contains(sp, (uintptr_t)bytes)) {
		uint32_t group = frame_group_at(sp, bytes);

		if (empty)
			frame_folio_release(sp, group);
		else
			frame_folio_drop(sp, group);
		return;
	}
	if (!empty)
		os_discard(bytes, CHUNK_SIZE);
	place_give(&sp->huge, bytes);
}

size_t huge_move(struct uhmm_space *sp, uintptr_t dst, const char *bytes, size_t done,
		 int64_t *why)
{
	bool shared = false;

	*why = 0;
	while (done < CHUNK_SIZE) {
		uintptr_t src = (uintptr_t)bytes + done;
		int64_t r = os_uffd_move(sp->uffd, dst + done, src, CHUNK_SIZE - done, 0);

		if (r > 0) {
			done += (size_t)r;
			continue;
		}
		if (r != -EBUSY || shared) {
			*why = r;
			break;
		}
		/* A process was cloned meanwhile: what it has a copy of is ours again. */
		os_make_exclusive(src, CHUNK_SIZE - done);
		shared = true;
	}
	return done;
}

size_t huge_fill(struct uhmm_space *sp, uintptr_t dst, const char *bytes, int64_t *why)
{
	size_t done = 0;

	for (;;) {
		done = huge_move(sp, dst, bytes, done, why);
		if (*why != -EEXIST)
			return done;
		os_uffd_wake(sp->uffd, dst + done, PAGE_SIZE);
		done += PAGE_SIZE;
	}
}

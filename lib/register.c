/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registering mappings of the program.
 *
 * A mapping can go between our look for unread events and our registering it, and another
 * can come to its place. Two things may be wrong then:
 *
 * - The other one is registered, late, and its move is told, perhaps sooner than what
 *   took the first one away. Nothing tells which of the two has moved, and whose pages
 *   are those that are elsewhere. So where pages are elsewhere nothing is registered: it
 *   is already, or it is not what we take it for.
 * - The other one came too late to be registered, and what was there before never was, so
 *   that no event told. Its pages would leave it, and read as zeros. So we ask, when all
 *   is done, whether what is to be moved is of one registered mapping: if it is, each
 *   change of it from then on is told before anything can be moved.
 *
 * (Two threads that both register a mapping for the first time: one isolates, and then
 * the mapping is replaced while the other has looked and not registered yet. That is
 * noted, sp->late, and goes wrong only if the events are out of order as well.)
 */
#include <errno.h>

#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/range.h"

/*
 * How far around what is to be moved we look for pages that are elsewhere. Farther off
 * there may be some, for which the first of the two orders goes wrong; but a walk through
 * all of a large mapping, each time, costs more than the move.
 */
#define NEAR ((uintptr_t)16 << 20)

static bool has_pages_elsewhere(struct uhmm_space *sp, const struct range *vma,
				uintptr_t start, uintptr_t end)
{
	uintptr_t found;

	if (start - vma->start > NEAR)
		start -= NEAR;
	else
		start = vma->start;
	end = vma->end - end > NEAR ? end + NEAR : vma->end;
	return page_first(sp, start, end, &found);
}

bool event_unread(struct uhmm_space *sp)
{
	return os_uffd_copy(sp->uffd, (uintptr_t)sp->reader_buf, sp->reader_buf,
			    PAGE_SIZE) == -EAGAIN;
}

int register_run(struct uhmm_space *sp, const struct range *run)
{
	int r;

	if (event_unread(sp))
		return -EAGAIN;
	r = os_uffd_register(sp->uffd, run->start, run->end - run->start);
	/* It may have changed between the two: then those were other mappings. */
	if (event_unread(sp)) {
		range_add_or_all(&sp->late, run->start, run->end);
		return -EAGAIN;
	}
	return r && r != -ENOMEM ? -EINVAL : r;
}

int register_mapping(struct uhmm_space *sp, const struct range *vma, uintptr_t start,
		     uintptr_t end)
{
	int r = os_uffd_probe(sp->uffd, start, end - start);

	/*
	 * Whose the mapping is that is registered the kernel does not say; who has pages
	 * elsewhere is ours.
	 */
	if (r != -EAGAIN && !has_pages_elsewhere(sp, vma, start, end)) {
		r = register_run(sp, vma);
		if (r)
			return r;
		r = os_uffd_probe(sp->uffd, start, end - start);
	}
	return r == -ENOENT ? -EAGAIN : r;
}

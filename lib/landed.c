/* SPDX-License-Identifier: Apache-2.0 */
/* Where something was moved, looked at mapping by mapping. */
#include "lib/landed.h"

#include <errno.h>

#include "lib/range.h"

/* Where there is no room for it nothing is known of it: it is as before. */
void landed_add(struct range_set *landed, uintptr_t start, uintptr_t end)
{
	(void)range_add(landed, start, end);
}

/* The first hole of [start, end). */
static bool find_hole(uintptr_t start, uintptr_t end, struct range *hole)
{
	struct os_vma vma;
	int r = 0;

	while (start < end) {
		while ((r = os_vma_next(start, false, &vma)) == -EAGAIN)
			os_yield();
		if (r || vma.start > start)
			break;
		start = vma.end;
	}
	*hole = (struct range){ start, end };
	if (r == 0 && start < end && vma.start < end)
		hole->end = vma.start;
	return start < end && (r == 0 || r == -ENOENT);
}

static void look(struct range_set *landed,
		 void (*gone)(void *ctx, uintptr_t start, uintptr_t end), void *ctx)
{
	struct range piece, hole;
	uintptr_t at = 0;

	while (landed->nr && range_clip(landed, true, at, UINTPTR_MAX, &piece)) {
		at = piece.end;
		if (!find_hole(piece.start, piece.end, &hole) ||
		    range_remove(landed, hole.start, hole.end))
			continue;
		gone(ctx, hole.start, hole.end);
		at = hole.end;
	}
}

int landed_read(struct range_set *landed, int uffd, struct os_event *ev, int nr,
		void (*gone)(void *ctx, uintptr_t start, uintptr_t end), void *ctx)
{
	int n, r;

	if (!landed->nr)
		return os_uffd_read(uffd, ev, nr);
	for (n = 0; n < nr && os_wait_fds(&uffd, 1, 0) > 0; n++) {
		look(landed, gone, ctx);
		r = os_uffd_read(uffd, &ev[n], 1);
		if (r <= 0)
			return n ? n : r;
		if (ev[n].kind != OS_EVENT_FAULT)
			return n + 1;
	}
	return n;
}

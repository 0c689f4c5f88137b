/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child that nobody follows by events, and that cannot have what a space needs (it may
 * not look at itself in /proc after setuid(), say), brings all of its pages back itself,
 * and goes on without a space. For that it needs one userfaultfd, for a moment.
 *
 * On the forking thread, the only one; nothing but that has run since the copy was made.
 */
#include <errno.h>

#include "lib/fork.h"
#include "lib/frozen.h"
#include "lib/page.h"

struct registering {
	struct uhmm_space *sp;
	uintptr_t end; /* of what was registered last */
};

/* A chunk as a whole if that is possible: a part of a mapping would split it. */
static int register_chunk(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
			  bool folio)
{
	struct registering *reg = ctx;
	uintptr_t start = addr & ~(CHUNK_SIZE - 1);

	(void)chunk;
	(void)entry;
	if (addr < reg->end)
		return 0;
	if (os_uffd_register(reg->sp->uffd, start, CHUNK_SIZE) == 0)
		reg->end = start + CHUNK_SIZE;
	else
		os_uffd_register(reg->sp->uffd, addr, folio ? CHUNK_SIZE : PAGE_SIZE);
	return 0;
}

static int bring(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		 bool folio)
{
	struct uhmm_space *sp = ctx;
	uintptr_t end = addr + (folio ? CHUNK_SIZE : PAGE_SIZE);
	unsigned tries = 0;
	int r;

	(void)chunk;
	(void)entry;
	for (; addr < end; addr += PAGE_SIZE) {
		do
			r = frozen_copy(sp, sp->uffd, addr, addr, sp->fork.frozen_page,
					true);
		while (frozen_may_try_again(r, &tries));
		/* There by now, or lost and poisoned; else better no process. */
		if (r < 0 && r != -EEXIST && r != -EIO && r != -ENOENT)
			os_die("a forked child could not bring its memory back");
	}
	return 0;
}

void fork_fill_self(struct uhmm_space *sp)
{
	struct registering reg = { .sp = sp };

	sp->uffd = os_uffd_open(OS_UFFD_USER_ONLY);
	if (sp->uffd < 0)
		os_die("a forked child has no descriptor left to bring its memory back");
	frozen_apply(sp, sp->fork.log, NULL);
	frozen_apply(sp, &sp->fork.shared->child, NULL);
	page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, register_chunk, &reg);
	page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, bring, sp);
	os_uffd_close(sp->uffd);
	sp->uffd = -1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: what a child that is filled in tells of itself: by its events, and by what /proc
 * says of it; and how it is let go.
 */
#include <errno.h>

#include "lib/fork_fill.h"
#include "lib/frozen.h"
#include "lib/range.h"
#include "lib/wipe.h"

/* How often a child that goes on moving memory is asked what was wiped. */
#define WIPED_TRIES 16u
/* So often one is that cannot be asked for a moment: descriptors may be short. */
#define LOOK_TRIES 64u
/* A mapping that it moves or splits just now is met the next time. */
#define LET_GO_ROUNDS 8u

void fill_note_event(struct fill *fill, const struct os_event *ev)
{
	struct frozen_record *r = &fill->event[fill->nr_events];

	if (ev->kind == OS_EVENT_FAULT)
		return; /* woken when the page is filled, or when its uffd is closed */
	if (ev->kind == OS_EVENT_FORK) {
		if (fill->nr_waiting == FILL_CHILDREN)
			os_die("a child has more children than can be followed");
		fill->waiting[fill->nr_waiting++] =
			(struct descendant){ ev->child, fill->nr_events, fill->who };
		return;
	}
	if (fill->nr_events == FILL_EVENTS)
		os_die("a child changes its memory faster than it can be followed");
	*r = (struct frozen_record){ .from = ev->from, .len = ev->end - ev->from };
	r->kind = ev->kind == OS_EVENT_REMOVE ? FROZEN_REMOVE : FROZEN_UNMAP;
	if (ev->kind == OS_EVENT_REMAP)
		*r = (struct frozen_record){ FROZEN_REMAP, 0, ev->from, ev->to, ev->len };
	fill->nr_events++;
}

void fill_read_events(struct fill *fill)
{
	struct os_event ev[32];
	int n = os_uffd_read(fill->uffd, ev, 32), i;

	if (n <= 0)
		os_yield();
	for (i = 0; i < n; i++)
		fill_note_event(fill, &ev[i]);
}

static void read_events(void *ctx)
{
	fill_read_events(ctx);
}

/* Those that it makes meanwhile are its children too. */
static void name_it(struct fill *fill, const struct fork_name *maker)
{
	uint32_t i, nr = fill->nr_waiting;

	fill->who = fork_name_child(fill->sp, fill->uffd, maker, read_events, fill);
	for (i = nr; i < fill->nr_waiting; i++)
		fill->waiting[i].maker = fill->who;
}

static void read_all_of(struct fill *fill)
{
	while (os_uffd_probe(fill->uffd, fill->sp->fork.names, PAGE_SIZE) == -EAGAIN)
		fill_read_events(fill);
}

/* What the child had moved by then, with the first nr events, was elsewhere before. */
static void trace_back(struct fill *fill, uint32_t nr)
{
	struct range_set *wiped = &fill->wiped;
	struct range piece;

	while (nr-- > 0) {
		const struct frozen_record *r = &fill->event[nr];
		uintptr_t at = r->to, end = r->to + r->len;

		for (;
		     r->kind == FROZEN_REMAP && range_clip(wiped, true, at, end, &piece);
		     at = piece.end)
			if (range_add(wiped, piece.start - r->to + r->from,
				      piece.end - r->to + r->from))
				os_die(TOO_FAST);
	}
}

/* What the child has empty, where it has that after so many of its events. */
static int look(struct fill *fill, struct range_set *wiped, uint32_t *nr)
{
	unsigned tries = 0;
	int r = -ESRCH;

	/* Again if it has moved something meanwhile: before the look, or after it? */
	do {
		read_all_of(fill);
		*nr = fill->nr_events;
		if (fill->who.pid)
			r = wipe_list(fill->who.pid, wiped);
		read_all_of(fill);
	} while (r == 0 && *nr != fill->nr_events && ++tries < WIPED_TRIES);
	return r;
}

/*
 * The child itself knows which of its mappings were wiped. We do not: the program may
 * have changed ours since. Where the child cannot be found out, or looked at, that is
 * what remains.
 */
void fill_look_at_wiped(struct fill *fill)
{
	uint32_t nr;

	fill->wiped_later.nr = 0;
	fill->unlisted = false;
	name_it(fill, NULL);
	if (look(fill, &fill->wiped, &nr) == 0)
		trace_back(fill, nr);
	else
		wipe_list_own(&fill->wiped);
}

void fill_look_at_wiped_later(struct fill *fill, const struct descendant *next)
{
	unsigned tries = 0;

	fill->uffd = next->uffd;
	fill->wiped_later.nr = 0;
	name_it(fill, &next->maker);
	fill->unlisted = fill->who.pid;
	while (fill->unlisted && tries++ < LOOK_TRIES) {
		fill->unlisted = look(fill, &fill->wiped_later, &fill->listed_after) != 0;
		/* Of one that has ended nothing need be known. */
		if (fill->unlisted &&
		    os_uffd_probe(fill->uffd, fill->sp->fork.names, PAGE_SIZE) == -ESRCH)
			return;
		if (fill->unlisted)
			os_yield();
	}
	if (!fill->who.pid)
		fill->listed_after = fill->nr_events;
}

static void let_go_of(void *ctx, uintptr_t start, uintptr_t end)
{
	struct fill *fill = ctx;
	uintptr_t names = fill->sp->fork.names;

	if (start <= names && names < end && !fill->names_too)
		return;
	/* Refused for what is another userfaultfd's; changes nothing where it is ours. */
	if (os_uffd_register(fill->uffd, start, end - start) == 0) {
		os_uffd_unregister(fill->uffd, start, end - start);
		fill->nr_let_go++;
	}
}

/*
 * Closing its userfaultfd ends what is registered in the child, unless another child has
 * it open: one that a raw clone made while we had it, with a copy of our descriptors. So
 * what is registered there is given up first, and read what it still says. Last of all
 * where its name is written: it may have a child meanwhile, and of that all that is still
 * to be filled has to be found out.
 */
void fill_let_go(struct fill *fill)
{
	unsigned rounds = 0;

	if (fill->sp->private_files)
		return; /* no child has copies of those */
	fill->names_too = false;
	do {
		fill->nr_let_go = 0;
		os_for_each_registered(fill->who.pid, let_go_of, fill);
		read_all_of(fill);
	} while (fill->nr_let_go && ++rounds < LET_GO_ROUNDS);
	fill->names_too = true;
	let_go_of(fill, fill->sp->fork.names, fill->sp->fork.names + FORK_NAMES_SIZE);
	read_all_of(fill);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of children: a name is written, then looked for until the kernel lists the child.
 */
#include "lib/fork_name.h"

#include <errno.h>

#include "lib/host.h"

/*
 * How long we wait for a child that is being made: for as long as the thread that makes
 * it has no processor, which was seen to be more than a second. Where the last child was
 * found that is a long time; where none was looked for before, a second; and where we may
 * not look, or have waited for nothing (the child is not in our /proc, or hidden), not
 * for long. While the whole machine stands still time goes on: so many looks are taken at
 * least.
 */
#define WAIT_NS UINT64_C(1000000000)
#define WAIT_NAMED_NS (30 * WAIT_NS)
#define WAIT_LESS_NS UINT64_C(5000000)
#define TRIES_AT_ONCE 16u
#define TRIES_LEAST 32u
/* Between two looks; longer by an eighth each time. */
#define PAUSE_NS INT64_C(100000)
#define PAUSE_MAX_NS (100 * PAUSE_NS)

#define NAME_BITS (OS_NAME_PAGES / 2)

_Static_assert(OS_NAME_PAGES == 64, "a bit for each page");

int fork_name_init(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	if (!sp->fork_events)
		return 0;
	/* Nobody can touch it, nor mlockall() fill it: it is never made readable. */
	fs->names = (uintptr_t)os_reserve(FORK_NAMES_SIZE);
	if (!fs->names)
		return -ENOMEM;
	return os_uffd_register(sp->uffd, fs->names, FORK_NAMES_SIZE);
}

void fork_name_fini(struct uhmm_space *sp)
{
	if (sp->fork.names)
		os_release((void *)sp->fork.names, FORK_NAMES_SIZE);
}

/* Page 2i is there for a bit i that is 0, page 2i + 1 for one that is 1. */
static uint64_t name_of(uint32_t number)
{
	uint64_t name = 0;
	unsigned i;

	for (i = 0; i < NAME_BITS; i++)
		name |= UINT64_C(1) << (2 * i + (number >> i & 1));
	return name;
}

/* False: its memory is gone, or nothing can be written there. */
static bool write_name(uintptr_t names, int uffd, uint64_t name,
		       void (*read_events)(void *ctx), void *ctx)
{
	int64_t r;

	for (; name; name &= name - 1) {
		uintptr_t at = names + (unsigned)__builtin_ctzll(name) * PAGE_SIZE;

		while ((r = os_uffd_zero(uffd, at, PAGE_SIZE)) == -EAGAIN)
			read_events(ctx);
		if (r < 0 && r != -EEXIST)
			return false;
	}
	return true;
}

/* As os_find_child(). One made with CLONE_PARENT is our parent's. */
static int64_t find(const struct fork_state *fs, const struct fork_name *maker,
		    uint64_t name)
{
	int64_t r, r2;

	if (maker)
		return os_find_child(maker->pid, fs->names, name, maker->written);
	r = os_find_child(0, fs->names, name, 0);
	if (r)
		return r;
	r2 = os_find_child(os_parent_pid(), fs->names, name, 0);
	return r2 > 0 ? r2 : 0;
}

/* r: what the last look has said. */
static uint64_t patience(const struct fork_state *fs, int64_t r)
{
	if (r < 0)
		return WAIT_LESS_NS;
	if (fs->named == NAMED_LAST)
		return WAIT_NAMED_NS;
	return fs->named == NAMED_NOT ? WAIT_LESS_NS : WAIT_NS;
}

static uint32_t wait_for(struct uhmm_space *sp, int uffd, const struct fork_name *maker,
			 uint64_t name)
{
	struct fork_state *fs = &sp->fork;
	uint64_t start = os_now_ns();
	int64_t pause = PAUSE_NS;
	uint32_t nothing = 0;
	unsigned tries;
	int64_t r;

	for (tries = 0;; tries++) {
		r = find(fs, maker, name);
		if (r > 0) {
			fs->named = NAMED_LAST;
			return (uint32_t)r;
		}
		/* It could not be made after all, or has ended. */
		if (os_uffd_probe(uffd, fs->names, PAGE_SIZE) == -ESRCH)
			return 0;
		if (tries > TRIES_LEAST && os_now_ns() - start > patience(fs, r))
			break;
		if (tries < TRIES_AT_ONCE) {
			os_yield();
			continue;
		}
		os_wait(&nothing, 0, pause);
		pause += pause < PAUSE_MAX_NS ? pause / 8 : 0;
	}
	fs->named = NAMED_NOT;
	return 0;
}

struct fork_name fork_name_child(struct uhmm_space *sp, int uffd,
				 const struct fork_name *maker,
				 void (*read_events)(void *ctx), void *ctx)
{
	struct fork_name child = { .written = name_of(++sp->fork.nr_named) };

	if (maker && !maker->pid)
		return (struct fork_name){ 0 };
	if (write_name(sp->fork.names, uffd, child.written, read_events, ctx))
		child.pid = wait_for(sp, uffd, maker, child.written);
	if (maker)
		child.written |= maker->written;
	return child;
}

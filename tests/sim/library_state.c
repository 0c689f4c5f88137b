/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's own host.c, host_file.c, host_pages.c and registry.c, with a way to their
 * state: a forked child has its own copy of it, at the same address. They take the places
 * of the archive's.
 *
 * What registry.c gives to pthread_atfork() is what sim_fork_libc() runs: the lock that
 * is held around fork() is part of what is tried.
 */
#include <pthread.h>

#include "tests/sim/program.h"

static void (*at_prepare)(void), (*at_parent)(void), (*at_child)(void);

/* Not libc's: this process forks too, between worlds, and has no space then. */
static int at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	at_prepare = prepare;
	at_parent = parent;
	at_child = child;
	return 0;
}

#define pthread_atfork at_fork
#include "lib/host.c"
#include "lib/host_file.c"
#include "lib/host_pages.c"
#include "lib/registry.c"

const struct own_state *sim_library_state(void)
{
	static const struct own_state state[] = {
		{ &host, sizeof(host) },
		{ &files, sizeof(files) },
		{ &kept, sizeof(kept) },
		{ spaces, sizeof(spaces) },
		{ &lock, sizeof(lock) },
		{ &nr_created, sizeof(nr_created) },
		{ NULL, 0 },
	};

	return state;
}

static void run_prepare(void *ctx)
{
	(void)ctx;
	at_prepare();
}

static void run_parent(void *ctx)
{
	(void)ctx;
	at_parent();
}

static void run_child(void *ctx)
{
	(void)ctx;
	before_child_handler();
	at_child();
}

const struct sim_atfork library_atfork = { run_prepare, run_parent, run_child, NULL };

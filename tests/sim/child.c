/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() of libc, around which lib/registry.c's handlers run, and the life of a child.
 * The child has the library, and does with it and its memory what its parent does, with
 * some threads and children of its own; at the end it has read everything.
 */
#include <errno.h>
#include <string.h>

#include "lib/types.h"
#include "tests/sim/program.h"
#include "uhmm/uhmm.h"

static void thread_main(void *arg)
{
	operations_run(arg);
}

static void child_main(void *arg)
{
	static struct program programs[8]; /* of each process */
	struct program *p = &programs[sim_process()];
	uint32_t tid[2];
	unsigned i;
	int r;

	*p = *(struct program *)arg;
	memset(p->changing, 0, sizeof(p->changing));
	memset(p->unpinning, 0, sizeof(p->unpinning));
	p->forks = sim_below(2);
	p->nr_operations = 1 + sim_below(12);
	p->nr_threads = sim_below(3);
	p->no_library = p->space->unusable;
	p->late_mirror = false;
	p->forking = 0;
	if (p->no_library)
		p->mirror = NULL;
	if (p->mirror)
		mirror_start_in_child(p);
	/* With a budget that is too small everything crawls. */
	if (sim_below(3) == 0 && p->nr_pages < 120)
		read_all(p);
	for (i = 0; i < p->nr_threads; i++)
		tid[i] = sim_spawn("childs", thread_main, p);
	operations_run(p);
	for (i = 0; i < p->nr_threads; i++)
		sim_join(tid[i]);
	if (!p->no_library)
		uhmm_budget_set(p->space, 0);
	read_all(p);
	/* Who ends before the children of its raw clones are filled leaves them empty. */
	sim_apart_begin();
	while (!sim_children_filled())
		sim_sleep(20000);
	sim_apart_end();
	if (p->no_library || sim_below(3))
		return; /* as most children end: without a word */
	r = uhmm_space_destroy(p->space);
	if (r)
		sim_fail("uhmm_space_destroy in a child: %d (%s)", r, strerror(-r));
	read_all(p);
}

/*
 * The library's handler is the first of those that the program knows of, but libc itself
 * runs before it, and what was there when the library came. Until then the child's faults
 * and events are the parent's to answer.
 */
void before_child_handler(void)
{
	unsigned n = sim_below(3) ? 0 : sim_below(8);
	char byte = 'e';

	while (n--) {
		unsigned page = sim_below(sim_below(2) ? 24 : 120);
		uintptr_t addr = ARENA_BASE + page * SIM_PAGE;
		int r = 0;

		switch (sim_below(8)) {
		case 0:
			r = sim_dontneed(addr, (1 + sim_below(4)) * SIM_PAGE);
			break;
		case 1:
		case 2:
		case 3:
			r = sim_write(addr, &byte, 1);
			break;
		default:
			r = sim_read(addr, &byte, 1);
		}
		if (r && r != -EFAULT && r != -EBUSY && r != -ENOMEM)
			sim_fail("a child before its handler: %d (%s)", r, strerror(-r));
	}
}

void fork_libc(struct program *p)
{
	/* The child gets to it when its parent has long gone on. */
	static struct program as_forked[64];
	static unsigned next;
	struct program *copy = &as_forked[next++ % 64];
	int r;

	if (p->mirror_starting)
		return;
	p->forking++;
	*copy = *p;
	r = sim_fork_libc(&library_atfork, child_main, copy);
	p->forking--;
	if (r && r != -EAGAIN)
		sim_fail("fork: %d (%s)", r, strerror(-r));
}

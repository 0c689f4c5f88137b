/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of children: pages that are registered where nothing can be touched, and are
 * there or not. The rest of the library's memory a raw clone's child does not have here.
 */
#include <errno.h>

#include "tests/sim/world.h"

#define NAMES_SIZE (OS_NAME_PAGES * SIM_PAGE)

static struct names *names_of(struct mm *mm, uintptr_t addr)
{
	unsigned i;

	for (i = 0; i < MAX_NAMES; i++)
		if (mm->names[i].start && addr - mm->names[i].start < NAMES_SIZE)
			return &mm->names[i];
	return NULL;
}

void names_register(struct mm *mm, uintptr_t start)
{
	unsigned i;

	for (i = 0; i < MAX_NAMES && mm->names[i].start; i++)
		;
	if (i == MAX_NAMES)
		sim_fail("more than %d places for names", MAX_NAMES);
	mm->names[i] = (struct names){ .start = start };
}

void names_release(struct mm *mm, uintptr_t start)
{
	struct names *names = names_of(mm, start);

	if (names)
		*names = (struct names){ 0 };
}

int names_fill(struct mm *mm, uintptr_t addr, bool zero)
{
	struct names *names = names_of(mm, addr);
	uint64_t bit;

	if (!names)
		return 0;
	bit = UINT64_C(1) << (addr - names->start) / SIM_PAGE;
	if (zero && names->present & bit)
		return -EEXIST;
	if (zero)
		names->present |= bit;
	return 1;
}

static uint64_t unlisted_until;

void sim_list_no_children(uint64_t ns)
{
	unlisted_until = ns ? sim_now() + ns : 0;
}

/* Nobody else lists a process before its event has been read, nor after its end. */
int64_t os_find_child(uint32_t maker, uintptr_t addr, uint64_t name, uint64_t inherited)
{
	uint32_t last = 0, pid = maker ? maker : here()->pid;
	struct mm *mm;
	unsigned i;

	sim_point();
	if (world_fails())
		return -EMFILE;
	if (sim_now() < unlisted_until)
		return 0;
	for (i = 0; (mm = mm_at(i)); i++) {
		const struct names *names = names_of(mm, addr);

		if (mm->used && !mm->dead && !mm->parent && mm->maker_pid == pid &&
		    names && (names->present & name) == name &&
		    !(names->present & ~(name | inherited)) && mm->pid > last)
			last = mm->pid;
	}
	sim_trace("find child", pid, 0, 0, last);
	return last;
}

/* ---- what is registered in it ----------------------------------------------------- */

int os_for_each_registered(uint32_t pid,
			   void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
			   void *ctx)
{
	uintptr_t at = 0;
	struct mm *mm;
	unsigned i;

	sim_point();
	if (pid && world_fails())
		return -EMFILE;
	for (i = 0; (mm = mm_at(i)); i++) {
		const struct vma *vma;

		if (mm->dead || !mm->used || (pid ? mm->pid != pid : mm != here()))
			continue;
		while ((vma = vma_next(mm, at))) {
			uintptr_t start = vma->start;

			at = vma->end;
			if (vma->uffd)
				fn(ctx, start, at);
		}
	}
	return 0;
}

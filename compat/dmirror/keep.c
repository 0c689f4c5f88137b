/* SPDX-License-Identifier: Apache-2.0 */
/* See keep.h. */
#include "compat/dmirror/keep.h"

#include <link.h>
#include <stddef.h>

#include "compat/dmirror/table.h"

/* What the functions below us may need of the stack, and those above have of it. */
#define STACK_BELOW (16 * PAGE)
#define STACK_ABOVE (4 * PAGE)
/* Variables of a thread lie below the thread pointer or above it. */
#define THREAD_AROUND (2 * PAGE)

struct span {
	uintptr_t start, end;
};

static struct span object[KEEP_OBJECTS_MAX];
static unsigned nr_objects;

static struct span span_of(const struct dl_phdr_info *info)
{
	struct span s = { UINTPTR_MAX, 0 };
	uintptr_t from, to;
	unsigned i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		to = from + info->dlpi_phdr[i].p_memsz;
		s.start = from < s.start ? from & ~(PAGE - 1) : s.start;
		s.end = to > s.end ? (to + PAGE - 1) & ~(PAGE - 1) : s.end;
	}
	return s;
}

static int add(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct span s = span_of(info);
	uintptr_t here = (uintptr_t)&nr_objects;

	(void)size;
	(void)arg;
	/* The program itself has no name; it may be linked with us. */
	if (nr_objects < KEEP_OBJECTS_MAX &&
	    (info->dlpi_name[0] || (here >= s.start && here < s.end)))
		object[nr_objects++] = s;
	return 0;
}

void keep_init(void)
{
	dl_iterate_phdr(add, NULL);
}

void keep_begin(struct keep *k)
{
	k->stack = (uintptr_t)__builtin_frame_address(0) & ~(PAGE - 1);
	k->thread = (uintptr_t)__builtin_thread_pointer() & ~(PAGE - 1);
}

static bool clip(struct span s, uintptr_t addr, uintptr_t *end)
{
	if (addr >= s.end || *end <= s.start)
		return true;
	if (addr < s.start) {
		*end = s.start;
		return true;
	}
	*end = *end < s.end ? *end : s.end;
	return false;
}

bool keep_clip(const struct keep *k, uintptr_t addr, uintptr_t *end)
{
	struct span stack = { k->stack - STACK_BELOW, k->stack + STACK_ABOVE };
	struct span thread = { k->thread - THREAD_AROUND, k->thread + THREAD_AROUND };
	unsigned i;

	if (!clip(stack, addr, end) || !clip(thread, addr, end))
		return false;
	for (i = 0; i < nr_objects; i++)
		if (!clip(object[i], addr, end))
			return false;
	return true;
}

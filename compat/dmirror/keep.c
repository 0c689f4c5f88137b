/* SPDX-License-Identifier: Apache-2.0 */
/* See keep.h. */
#include "compat/dmirror/keep.h"

#include <link.h>
#include <stddef.h>

#include "compat/dmirror/table.h"

/* What the functions below us may need of the stack, and those above have of it. */
#define STACK_BELOW (16 * PAGE)
#define STACK_ABOVE (4 * PAGE)
/*
 * What libc keeps of a thread, from the thread pointer on or up to it, is less than this.
 * (That of glibc 2.41 is 2.3 KiB.) Not more: the page next to it may be the program's.
 */
#define THREAD_SIZE PAGE
#if defined(__x86_64__)
#define THREAD_BELOW 0
#define THREAD_ABOVE THREAD_SIZE
#else
#define THREAD_BELOW THREAD_SIZE
#define THREAD_ABOVE 0
#endif

/* Further from the thread pointer than all variables of threads together. */
#define TLS_MAX ((intptr_t)1 << 20)

struct span {
	uintptr_t start, end;
};

static struct span object[KEEP_OBJECTS_MAX];
static unsigned nr_objects;
/* Where a thread's variables are, from its thread pointer on: of each thread the same. */
static intptr_t tls_start = -(intptr_t)THREAD_BELOW, tls_end = THREAD_ABOVE;

/* Since glibc 2.35: what the kernel writes to whenever a thread was preempted. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static uintptr_t thread_pointer(void)
{
	return (uintptr_t)__builtin_thread_pointer();
}

static void add_tls(intptr_t start, size_t size)
{
	/* Not one of those that are all in one place. */
	if (start > TLS_MAX || start < -TLS_MAX)
		return;
	tls_start = start < tls_start ? start : tls_start;
	tls_end = start + (intptr_t)size > tls_end ? start + (intptr_t)size : tls_end;
}

/*
 * Of objects that are there when a program starts; what comes later has variables of
 * threads elsewhere, which nobody touches below us.
 */
static void add_tls_of(const struct dl_phdr_info *info, size_t size)
{
	unsigned i;

	if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) +
			    sizeof(info->dlpi_tls_data) ||
	    !info->dlpi_tls_data)
		return;
	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_TLS)
			add_tls((intptr_t)((uintptr_t)info->dlpi_tls_data -
					   thread_pointer()),
				info->dlpi_phdr[i].p_memsz);
}

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

	(void)arg;
	add_tls_of(info, size);
	/* The program itself has no name; it may be linked with us. */
	if (nr_objects < KEEP_OBJECTS_MAX &&
	    (info->dlpi_name[0] || (here >= s.start && here < s.end)))
		object[nr_objects++] = s;
	return 0;
}

void keep_init(void)
{
	dl_iterate_phdr(add, NULL);
	if (&__rseq_offset && &__rseq_size)
		add_tls(__rseq_offset, __rseq_size);
}

void keep_begin(struct keep *k)
{
	k->stack = (uintptr_t)__builtin_frame_address(0) & ~(PAGE - 1);
	k->thread = thread_pointer();
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
	struct span thread = {
		(k->thread + (uintptr_t)tls_start) & ~(PAGE - 1),
		(k->thread + (uintptr_t)tls_end + PAGE - 1) & ~(PAGE - 1),
	};
	unsigned i;

	if (!clip(stack, addr, end) || !clip(thread, addr, end))
		return false;
	for (i = 0; i < nr_objects; i++)
		if (!clip(object[i], addr, end))
			return false;
	return true;
}

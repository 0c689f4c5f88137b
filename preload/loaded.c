/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is loaded when the process begins: the program, the libraries, this one.
 *
 * Our threads use of it what they need to resolve a fault, so none of it is migrated,
 * with the data that belongs to it. Found once, by the constructor; a space that is
 * created later takes it over. Most programs need no memory for that but this file's
 * data.
 */
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "lib/host.h"
#include "lib/range.h"
#include "lib/types.h"
#include "preload/preload.h"

/* Loaded objects remembered without a page of memory for them. */
#define EXCLUDE_MAX 64

static struct {
	struct range exclude[EXCLUDE_MAX];
	unsigned nr_exclude;
	struct range_set *excluded;
	uintptr_t data_start, data_end; /* our own data */
	const char *path;               /* our own file */
} loaded __attribute__((section(".data")));

static void exclude(uintptr_t start, uintptr_t end)
{
	unsigned i, nr = loaded.nr_exclude;
	struct range *last = &loaded.exclude[nr ? nr - 1 : 0];

	if (loaded.excluded) {
		range_add(loaded.excluded, start, end);
	} else if (nr && start >= last->start && start <= last->end) {
		last->end = end > last->end ? end : last->end;
	} else if (nr < EXCLUDE_MAX) {
		loaded.exclude[loaded.nr_exclude++] = (struct range){ start, end };
	} else if ((loaded.excluded = uhmm_host_map(sizeof(*loaded.excluded)))) {
		for (i = 0; i < nr; i++)
			range_add(loaded.excluded, loaded.exclude[i].start,
				  loaded.exclude[i].end);
		loaded.nr_exclude = 0;
		range_add(loaded.excluded, start, end);
	}
}

/*
 * What is loaded now, with its data, but for the zero-initialised data of the program
 * itself (the first object): that may be large, and nothing of ours uses it.
 */
static int exclude_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *name = strrchr(info->dlpi_name, '/');
	uintptr_t first = UINTPTR_MAX, last = 0;
	bool ours = false;
	int *nr = arg, i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + ph->p_vaddr;
		uintptr_t end = start + (*nr ? ph->p_memsz : ph->p_filesz);

		if (ph->p_type != PT_LOAD)
			continue;
		if (start <= (uintptr_t)&loaded && (uintptr_t)&loaded < end) {
			loaded.data_start = start;
			loaded.data_end = end;
			loaded.path = info->dlpi_name;
			ours = true;
		}
		start &= ~(PAGE_SIZE - 1);
		end = (end + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
		exclude(start, end);
		first = start < first ? start : first;
		last = end > last ? end : last;
	}
	if (ours)
		preload_seal((void *)first, last - first);
	if (name && !strcmp(name, "/libc.so.6"))
		libc_found(info->dlpi_addr, last);
	++*nr;
	return 0;
}

void loaded_find(void)
{
	int nr_objects = 0;

	dl_iterate_phdr(exclude_object, &nr_objects);
}

void loaded_exclude(struct uhmm_space *sp)
{
	unsigned i;

	if (loaded.excluded)
		memcpy(&sp->excluded, loaded.excluded, sizeof(sp->excluded));
	for (i = 0; i < loaded.nr_exclude; i++)
		range_add(&sp->excluded, loaded.exclude[i].start, loaded.exclude[i].end);
}

/*
 * Our own data must be there before a mapping that the kernel merged with it is
 * registered: a fault on it would wait for the reader, which may be who has it.
 */
void loaded_touch(void)
{
	uintptr_t at;

	for (at = loaded.data_start; at < loaded.data_end; at += PAGE_SIZE)
		(void)*(volatile char *)at;
}

bool preload_has_company(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded &&
	       strlen(preloaded) > (loaded.path ? strlen(loaded.path) : 0) + 1;
}

const char *preload_path(void)
{
	return loaded.path;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* See convert.h. */
#include "compat/dmirror/convert.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"
#include "compat/dmirror/process.h"
#include "compat/dmirror/real.h"

/* ---- threads ---------------------------------------------------------------------- */

/* The library's have names, and block all signals. */
static bool is_librarys(const char *tid)
{
	unsigned long long blocked = 0;
	char path[64], text[4096], *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/status", tid);
	fd = real.open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : real.read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		real.close(fd);
	text[n > 0 ? n : 0] = 0;
	at = strstr(text, "SigBlk:");
	if (at)
		sscanf(at, "SigBlk: %llx", &blocked);
	return !strncmp(text, "Name:\tuhmm-", 11) && (blocked & 0x5fff) == 0x5eff;
}

static bool count_threads(unsigned *librarys, unsigned *others)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;

	*librarys = *others = 0;
	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (is_librarys(entry->d_name))
			++*librarys;
		else
			++*others;
	}
	closedir(dir);
	return true;
}

/* A space has as many threads, which give themselves their names when they first run. */
#define LIBRARYS 2

static bool has_one_thread(void)
{
	int64_t until = now_ms() + TRY_MS;
	unsigned librarys, others;

	while (count_threads(&librarys, &others)) {
		if (librarys >= LIBRARYS || now_ms() >= until)
			return others == 1;
		usleep(1000);
	}
	return false;
}

/* ---- pages ------------------------------------------------------------------------ */

#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_SWAP (UINT64_C(1) << 62)
#define PM_FILE (UINT64_C(1) << 61)

/* Pages from addr on that were written, or if there are none, that were not. */
static uintptr_t run(int pagemap, uintptr_t addr, uintptr_t end, bool *written)
{
	uint64_t bits[64];
	uintptr_t at = addr;
	size_t nr, i;
	bool is;

	while (at < end) {
		nr = (end - at) / PAGE < 64 ? (end - at) / PAGE : 64;
		if (real.pread(pagemap, bits, nr * sizeof(bits[0]),
			       (off_t)(at / PAGE * sizeof(bits[0]))) !=
		    (ssize_t)(nr * sizeof(bits[0])))
			break;
		for (i = 0; i < nr; i++, at += PAGE) {
			is = bits[i] & (PM_PRESENT | PM_SWAP) && !(bits[i] & PM_FILE);
			if (at == addr)
				*written = is;
			else if (is != *written)
				return at;
		}
	}
	return at;
}

/* The program has one thread, which is this one: nobody writes there. */
static void convert(const struct vma *vma, uintptr_t addr, uintptr_t end)
{
	int prot = PROT_READ | (vma->write ? PROT_WRITE : 0) |
		   (vma->exec ? PROT_EXEC : 0);
	size_t len = end - addr;
	void *new = real.mmap(NULL, len, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (new == MAP_FAILED)
		return;
	memcpy(new, (const void *)addr, len);
	if (real.mprotect(new, len, prot) ||
	    real.mremap(new, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)addr) ==
		    MAP_FAILED)
		real.munmap(new, len);
	else
		process_mappings_changed(addr, len);
}

static void convert_vma(const struct vma *vma, struct work *w, int pagemap,
			uintptr_t addr, uintptr_t end)
{
	uintptr_t next;
	bool written = false;

	for (; addr < end; addr = next) {
		next = end;
		if (!keep_clip(&w->keep, addr, &next))
			continue;
		next = run(pagemap, addr, next, &written);
		if (next == addr)
			return; /* it cannot be looked at */
		if (written)
			convert(vma, addr, next);
	}
}

static void convert_locked(struct work *w, uintptr_t addr, uintptr_t end, int pagemap)
{
	struct vma vma;
	uintptr_t next;

	vma_begin(&w->cursor);
	while (addr < end && vma_find(&w->cursor, addr, &vma)) {
		next = vma.end < end ? vma.end : end;
		if (vma.kind == VMA_FILE && vma.read)
			convert_vma(&vma, w, pagemap, addr, next);
		addr = next;
	}
	vma_end(&w->cursor);
}

static bool has_file(struct work *w, uintptr_t addr, uintptr_t end)
{
	struct vma vma = { .kind = VMA_ANON };
	bool found = false;

	vma_begin(&w->cursor);
	while (!found && addr < end && vma_find(&w->cursor, addr, &vma)) {
		found = vma.kind == VMA_FILE;
		addr = vma.end;
	}
	vma_end(&w->cursor);
	return found;
}

void convert_range(struct work *w, uintptr_t start, uintptr_t end)
{
	sigset_t signals;
	int pagemap;

	if (!has_file(w, start, end) || !has_one_thread())
		return;
	pagemap = real.open("/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return;
	maps_lock_write(&signals);
	convert_locked(w, start, end, pagemap);
	maps_unlock(&signals);
	real.close(pagemap);
}

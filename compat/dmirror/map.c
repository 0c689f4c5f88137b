/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is loaded into a program, second part: its mappings. Whoever changes them holds
 * the lock of the mappings, and mirrors are told, since of memory that userfaultfd does
 * not know (files, for one) and of protection the library hears nothing.
 *
 * What libc maps and unmaps inside of itself (malloc(), stacks) is not seen: there the
 * library's events are all.
 */
#undef _FILE_OFFSET_BITS /* which makes one of mmap() and mmap64() */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compat/dmirror/files.h"
#include "compat/dmirror/lock.h"
#include "compat/dmirror/process.h"
#include "compat/dmirror/real.h"

/* Before there are mirrors nobody minds. */
static bool begin(sigset_t *signals)
{
	real_bind();
	if (!process_space() || !process_is_ours())
		return false;
	maps_lock_write(signals);
	return true;
}

/* errno is what the change left. */
static void end(bool locked, const sigset_t *signals, const void *addr, size_t len)
{
	int error = errno;

	if (!locked)
		return;
	process_mappings_changed((uintptr_t)addr, len);
	maps_unlock(signals);
	errno = error;
}

/* ---- mmap ------------------------------------------------------------------------- */

/* What a device maps: zeros of its own each time, there before they are touched. */
static void *map_device(void *addr, size_t len, int prot, int flags)
{
	int fd = memfd_create(FILES_MEMORY_NAME, MFD_CLOEXEC), error;
	void *p = MAP_FAILED;

	if (fd < 0)
		return p;
	if (ftruncate(fd, (off_t)len) == 0)
		p = real.mmap(addr, len, prot, flags & ~MAP_ANONYMOUS, fd, 0);
	error = errno;
	/* By reading, so that a private mapping has the file's pages until it writes. */
	if (p != MAP_FAILED && prot & PROT_READ)
		real.madvise(p, len, MADV_POPULATE_READ);
	real.close(fd);
	errno = error;
	return p;
}

static void *map(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	struct mirror *m;
	sigset_t signals;
	bool locked = begin(&signals);
	void *p;

	m = flags & MAP_ANONYMOUS ? NULL : files_get(fd);
	p = m ? map_device(addr, len, prot, flags) :
		real.mmap(addr, len, prot, flags, fd, offset);
	/* It may have replaced something. */
	end(locked, &signals, p, p == MAP_FAILED ? 0 : len);
	files_put(m);
	return p;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}

/* ---- changes ---------------------------------------------------------------------- */

EXPORT int munmap(void *addr, size_t len)
{
	sigset_t signals;
	bool locked = begin(&signals);
	int r = real.munmap(addr, len);

	end(locked, &signals, addr, len);
	return r;
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
	sigset_t signals;
	bool locked = begin(&signals);
	int r = real.mprotect(addr, len, prot);

	/* Also if it failed: a part may have changed. */
	end(locked, &signals, addr, len);
	return r;
}

EXPORT int pkey_mprotect(void *addr, size_t len, int prot, int pkey)
{
	sigset_t signals;
	bool locked = begin(&signals);
	int r = real.pkey_mprotect(addr, len, prot, pkey);

	end(locked, &signals, addr, len);
	return r;
}

EXPORT void *mremap(void *addr, size_t len, size_t new_len, int flags, ...)
{
	sigset_t signals;
	bool locked;
	va_list ap;
	void *to, *p;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	locked = begin(&signals);
	p = real.mremap(addr, len, new_len, flags, to);
	if (locked && p != MAP_FAILED && p != addr)
		process_mappings_changed((uintptr_t)p, new_len);
	end(locked, &signals, addr, len > new_len ? len : new_len);
	return p;
}

/* Filling changes no mapping, and may wait for what a migration has. */
static bool only_touches(int advice)
{
	return advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE ||
	       advice == MADV_WILLNEED || advice == MADV_NORMAL ||
	       advice == MADV_RANDOM || advice == MADV_SEQUENTIAL;
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	sigset_t signals;
	bool locked;
	int r;

	real_bind();
	if (only_touches(advice))
		return real.madvise(addr, len, advice);
	locked = begin(&signals);
	r = real.madvise(addr, len, advice);
	end(locked, &signals, addr, len);
	return r;
}

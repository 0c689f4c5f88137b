/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a driver that encrypts needs of the machine: bytes that nobody can guess, and
 * memory for keys that is never written to swap, nor to a core dump (no reservation is),
 * and is wiped when it is given back.
 */
#include <string.h>

#include "lib/os/os.h"
#include "uhmm/device.h"

static size_t whole_pages(size_t size)
{
	return (size + UHMM_PAGE_SIZE - 1) & ~(size_t)(UHMM_PAGE_SIZE - 1);
}

int uhmm_host_random(void *buf, size_t len)
{
	return os_random_bytes(buf, len);
}

void *uhmm_host_secret_map(size_t size_bytes)
{
	size_t size = whole_pages(size_bytes);
	void *addr = os_reserve(size);

	if (!addr)
		return NULL;
	if (os_commit(addr, size) || os_lock(addr, size)) {
		os_release(addr, size);
		return NULL;
	}
	return addr;
}

void uhmm_host_secret_unmap(void *addr, size_t size_bytes)
{
	if (!addr)
		return;
	memset(addr, 0, size_bytes);
	/* The compiler may not know better: it is read, as far as it can tell. */
	__asm__ volatile("" : : "r"(addr) : "memory");
	os_release(addr, whole_pages(size_bytes));
}

int uhmm_host_secret_lock(void *addr, size_t size_bytes)
{
	return os_lock(addr, whole_pages(size_bytes));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of our own on Linux.
 *
 * A reservation is PROT_NONE with a 2 MiB margin on both sides, so that no mapping of
 * the program is ever adjacent to readable memory of ours: the kernel would merge the
 * two, and what is done to the program's mapping (registration!) would be done to ours.
 */
#include "lib/os/os.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

#define MARGIN ((size_t)2 << 20)

/*
 * What is reserved now. Reservations are few and large (arenas grow geometrically), so a
 * table that is searched from its start will do. A start of 0 is a free place; len is
 * written before start is published, and readers need no lock.
 */
#define RESERVATIONS 1024

static struct {
	uintptr_t start;
	size_t len;
	bool locked; /* atomic: by os_lock() */
} reserved[RESERVATIONS];
static unsigned nr_reserved;

static bool remember(uintptr_t start, size_t len)
{
	unsigned i;

	for (i = 0; i < RESERVATIONS; i++) {
		uintptr_t expected = 0;

		if (!__atomic_compare_exchange_n(&reserved[i].start, &expected, 1, false,
						 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		reserved[i].len = len;
		__atomic_store_n(&reserved[i].locked, false, __ATOMIC_RELAXED);
		__atomic_store_n(&reserved[i].start, start, __ATOMIC_RELEASE);
		while (1) {
			unsigned n = __atomic_load_n(&nr_reserved, __ATOMIC_RELAXED);

			if (n > i || __atomic_compare_exchange_n(&nr_reserved, &n, i + 1,
								 false, __ATOMIC_RELEASE,
								 __ATOMIC_RELAXED))
				return true;
		}
	}
	return false;
}

static void forget(uintptr_t start)
{
	unsigned i, n = __atomic_load_n(&nr_reserved, __ATOMIC_ACQUIRE);

	for (i = 0; i < n; i++)
		if (__atomic_load_n(&reserved[i].start, __ATOMIC_RELAXED) == start)
			__atomic_store_n(&reserved[i].start, 0, __ATOMIC_RELEASE);
}

bool os_is_reserved(uintptr_t addr)
{
	unsigned i, n = __atomic_load_n(&nr_reserved, __ATOMIC_ACQUIRE);

	for (i = 0; i < n; i++) {
		uintptr_t start = __atomic_load_n(&reserved[i].start, __ATOMIC_ACQUIRE);

		if (start > 1 && addr - start < reserved[i].len)
			return true;
	}
	return false;
}

static size_t reservation_len(size_t size_bytes)
{
	return ((size_bytes + MARGIN - 1) & ~(MARGIN - 1)) + 3 * MARGIN;
}

/*
 * The start of the mapping is kept nowhere: the aligned address is at least one margin
 * above it, and the excess is given back at once, so that it is exactly one margin.
 */
void *os_reserve(size_t size_bytes)
{
	size_t len = reservation_len(size_bytes);
	size_t used = len - MARGIN;
	long ret = sys6(SYS_mmap, 0, (long)len, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t base, start;

	if (ret < 0 && ret > -4096)
		return NULL;
	base = (uintptr_t)ret;
	start = (base + 2 * MARGIN - 1) & ~(MARGIN - 1);
	if (start - MARGIN > base)
		sys2(SYS_munmap, base, start - MARGIN - base);
	if (base + len > start - MARGIN + used)
		sys2(SYS_munmap, start - MARGIN + used,
		     base + len - (start - MARGIN + used));
	sys3(SYS_madvise, start - MARGIN, used, MADV_DONTDUMP);
	/*
	 * Where huge pages are given to everybody, the first touch of a page would take
	 * memory for 512 of them, which no account of ours would know about.
	 */
	sys3(SYS_madvise, start - MARGIN, used, MADV_NOHUGEPAGE);
	/* After mlockall(MCL_FUTURE) it would be filled when it is committed. */
	sys2(SYS_munlock, start - MARGIN, used);
	if (!remember(start, size_bytes)) {
		sys2(SYS_munmap, start - MARGIN, used);
		return NULL;
	}
	return (void *)start;
}

void os_release(void *addr, size_t size_bytes)
{
	forget((uintptr_t)addr);
	sys2(SYS_munmap, (uintptr_t)addr - MARGIN, reservation_len(size_bytes) - MARGIN);
}

void os_unlock(void *addr, size_t size_bytes)
{
	sys2(SYS_munlock, addr, size_bytes);
}

int os_lock(void *addr, size_t size_bytes)
{
	unsigned i, n = __atomic_load_n(&nr_reserved, __ATOMIC_ACQUIRE);
	int r = (int)sys2(SYS_mlock, addr, size_bytes);

	for (i = 0; !r && i < n; i++)
		if (__atomic_load_n(&reserved[i].start, __ATOMIC_RELAXED) ==
		    (uintptr_t)addr)
			__atomic_store_n(&reserved[i].locked, true, __ATOMIC_RELAXED);
	return r;
}

void os_linux_unlock_all(void)
{
	unsigned i, n = __atomic_load_n(&nr_reserved, __ATOMIC_ACQUIRE);

	for (i = 0; i < n; i++) {
		uintptr_t start = __atomic_load_n(&reserved[i].start, __ATOMIC_ACQUIRE);

		if (start > 1 && !__atomic_load_n(&reserved[i].locked, __ATOMIC_RELAXED))
			sys2(SYS_munlock, start - MARGIN,
			     reservation_len(reserved[i].len) - MARGIN);
	}
}

int os_commit(void *addr, size_t size_bytes)
{
	return (int)sys3(SYS_mprotect, addr, size_bytes, PROT_READ | PROT_WRITE);
}

int os_set_executable(void *addr, size_t size_bytes, bool executable)
{
	int prot = PROT_READ | PROT_WRITE | (executable ? PROT_EXEC : 0);

	return (int)sys3(SYS_mprotect, addr, size_bytes, prot);
}

int os_discard(void *addr, size_t size_bytes)
{
	int r = (int)sys3(SYS_madvise, addr, size_bytes, MADV_DONTNEED);

	if (r != -EINVAL)
		return r;
	os_unlock(addr, size_bytes);
	return (int)sys3(SYS_madvise, addr, size_bytes, MADV_DONTNEED);
}

/*
 * An exchange is a write even where what is written is what was there. Others may read
 * the page meanwhile, which ThreadSanitizer cannot know to be harmless.
 */
#if defined(__has_attribute)
#if __has_attribute(disable_sanitizer_instrumentation)
__attribute__((noinline, disable_sanitizer_instrumentation))
#endif
#endif
void os_keep(void *addr)
{
	unsigned char byte = __atomic_load_n((unsigned char *)addr, __ATOMIC_RELAXED);

	__atomic_compare_exchange_n((unsigned char *)addr, &byte, byte, false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/*
 * FUTEX_WAKE_OP that adds 0 to a word, for the sake of the addition. The kernel makes it
 * where a fault is not let wait for a userfaultfd (Linux 6.18: fixup_user_fault() without
 * retrying). Nobody ever waits at either word.
 */
int os_keep_now(void *addr)
{
	long r = sys6(SYS_futex, (long)addr, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0,
		      (long)addr, FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0));

	return r < 0 ? (int)r : 0;
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/*
 * mprotect() holds the address space's lock for writing while it visits each entry of a
 * page table: so there must be some. UFFDIO_COPY and UFFDIO_MOVE are content with the
 * lock of the mapping they fill (Linux 6.9). Guards take no memory (6.13). A page takes
 * longer to visit, so there are fewer of them; and not all kernels have a page of zeros
 * for everybody: where they have not it is memory.
 */
void os_hold_prepare(void *addr, size_t size_bytes)
{
	if (sys3(SYS_madvise, addr, size_bytes, MADV_GUARD_INSTALL) != 0)
		sys3(SYS_madvise, addr, size_bytes / 4, MADV_POPULATE_READ);
}

void os_hold_mappings(void *addr, size_t size_bytes)
{
	sys3(SYS_mprotect, addr, size_bytes, PROT_READ);
	sys3(SYS_mprotect, addr, size_bytes, PROT_READ | PROT_WRITE);
}

/* Mapped anew, and that frees the page tables. */
int os_prefer_huge(void *addr, size_t size_bytes)
{
	long ret = sys6(SYS_mmap, (long)addr, (long)size_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	if (ret < 0 && ret > -4096)
		return (int)ret;
	sys3(SYS_madvise, addr, size_bytes, MADV_DONTDUMP);
	sys3(SYS_madvise, addr, size_bytes, MADV_HUGEPAGE);
	/* After mlockall(MCL_FUTURE) it was filled. */
	sys2(SYS_munlock, addr, size_bytes);
	return 0;
}

void os_wipe_on_fork(void *addr, size_t size_bytes)
{
	sys3(SYS_madvise, addr, size_bytes, MADV_WIPEONFORK);
}

void *os_map_shared(size_t size_bytes)
{
	long ret = sys6(SYS_mmap, 0, (long)size_bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return ret < 0 && ret > -4096 ? NULL : (void *)ret;
}

void os_unmap_shared(void *addr, size_t size_bytes)
{
	sys2(SYS_munmap, addr, size_bytes);
}

/* ---- nodes ------------------------------------------------------------------------ */

/* As the kernel counts: one more than there are bits. */
#define MAX_NODE (OS_NODES + 1)
#define NODE_BITS (8 * sizeof(unsigned long))

int os_node_set(int node, struct os_node_policy *saved)
{
	struct os_node_policy policy = { .mode = MPOL_BIND };
	long r;

	if (node < 0 || node >= OS_NODES)
		return -EINVAL;
	*saved = (struct os_node_policy){ 0 };
	r = sys5(SYS_get_mempolicy, &saved->mode, saved->nodes, MAX_NODE, 0, 0);
	if (r)
		return (int)r;
	policy.nodes[(unsigned)node / NODE_BITS] = 1ul << (unsigned)node % NODE_BITS;
	return (int)sys3(SYS_set_mempolicy, policy.mode, policy.nodes, MAX_NODE);
}

void os_node_restore(const struct os_node_policy *saved)
{
	bool none = saved->mode == MPOL_DEFAULT || saved->mode == MPOL_LOCAL;

	sys3(SYS_set_mempolicy, saved->mode, none ? NULL : saved->nodes,
	     none ? 0 : MAX_NODE);
}

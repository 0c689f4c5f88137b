/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mostly it is the kernel that touches them (MADV_POPULATE_READ or _WRITE), and whoever
 * serves the program's faults serves those. Faults that are delivered inline, or that the
 * kernel's own accesses do not raise, have nobody who serves them: such a page is filled
 * here, one by one, as the handler of SIGBUS would.
 */
#include "lib/populate.h"

#include <errno.h>

#include "lib/fault.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/reclaim.h"

/*
 * How often a page is tried while its mapping or whoever has it is in the way. A page
 * that a driver has is waited for, for as long as that takes.
 */
#define TRIES 64
#define PAUSE_NS INT64_C(2000000)

int populate_owns(struct uhmm_space *sp, uintptr_t addr)
{
	unsigned shard = gate_enter(&sp->gate);
	struct os_vma vma;
	int r = -EINVAL;

	if (os_vma_next(addr, false, &vma) == 0 && vma.start <= addr &&
	    (vma.kind == OS_VMA_ANON || vma.kind == OS_VMA_HEAP))
		r = register_mapping(sp, &(struct range){ vma.start, vma.end }, addr,
				     addr + PAGE_SIZE);
	gate_leave(&sp->gate, shard);
	return r;
}

/* As of fault_resolve(). *migrating: a driver has the page. */
static int fill(struct uhmm_space *sp, uintptr_t addr, bool write, bool *migrating)
{
	struct gate_visit visit;
	struct fault_buf buf;
	int r = 0;

	gate_visit(&sp->world, &visit);
	if (!page_is_known(sp, addr))
		r = populate_owns(sp, addr);
	if (r == 0) {
		fault_buf_get(sp, &buf);
		r = fault_resolve(sp, addr, write, &buf);
		fault_buf_put(sp, &buf);
	}
	*migrating = r == -EINPROGRESS || (r == -EBUSY && fault_wait(sp, addr));
	gate_end_visit(&sp->world, &visit);
	return r;
}

static int populate_page(struct uhmm_space *sp, uintptr_t addr, bool write)
{
	unsigned tries = 0;
	bool migrating;
	int r;

	while (tries < TRIES) {
		uint32_t done = __atomic_load_n(&sp->migration_done, __ATOMIC_ACQUIRE);

		if (os_populate(addr, PAGE_SIZE, write) == 0)
			return 0;
		r = fill(sp, addr, write, &migrating);
		if (migrating) {
			os_wait(&sp->migration_done, done, PAUSE_NS);
			continue;
		}
		tries++;
		if (r == -EINVAL)
			break; /* none of ours: it is as the kernel says */
		if (r == -ENOSPC) {
			reclaim_wait_for_room(sp);
		} else if (r) {
			os_yield();
		}
	}
	return -EFAULT;
}

int populate(struct uhmm_space *sp, uintptr_t start, uintptr_t end, bool write)
{
	int r = os_populate(start, end - start, write) ? -EFAULT : 0;

	if (!r || (sp->delivery == UHMM_DELIVERY_THREAD && !sp->user_only))
		return r;
	for (r = 0; start < end && !r; start += PAGE_SIZE)
		r = populate_page(sp, start, write);
	return r;
}

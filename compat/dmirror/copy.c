/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device reads and writes.
 *
 * Memory is where the program has it, and the program may unmap it at any time: so it is
 * copied by process_vm_readv() and _writev(), which come up short where a load would
 * crash. They obey the protection of mappings, so where a mapping has become read-only
 * since the table was filled nothing is written. What is not there (any more) is taken
 * out of the table: the device faults again, and learns what there is now.
 *
 * Pages of a private device, and exclusive ones, are copied under the mirror's lock: they
 * stay what they are until the notifier has had that.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"

/* Threads of the library wait for the lock meanwhile. */
#define LOCKED_PAGES 64u

/* How many bytes were copied, of memory of this process to or from memory of ours. */
static size_t transfer(void *ours, uint64_t addr, size_t size, bool write)
{
	struct iovec local = { ours, size }, remote = { (void *)(uintptr_t)addr, size };
	ssize_t n;

	if (write)
		n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	else
		n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	return n < 0 ? 0 : (size_t)n;
}

/* What is at most 2 GiB at once for the kernel need not be for us. */
static int transfer_all(char *ours, uint64_t addr, size_t size, bool write)
{
	size_t n = 1;

	for (; size && n; size -= n, ours += n, addr += n)
		n = transfer(ours, addr, size, write);
	return size ? -EFAULT : 0;
}

int copy_from_program(void *to, uint64_t from, size_t size)
{
	return transfer_all(to, from, size, false);
}

int copy_to_program(uint64_t to, const void *from, size_t size)
{
	return transfer_all((void *)(uintptr_t)from, to, size, true);
}

int bounce_map(struct work *w, uint64_t npages)
{
	w->bounce_size = npages * PAGE;
	w->bounce = uhmm_host_map(w->bounce_size);
	w->done = 0;
	return w->bounce ? 0 : -ENOMEM;
}

/* ---- runs of pages that are alike ------------------------------------------------- */

static bool permits(entry_t e, bool write)
{
	return e && (!write || e & ENTRY_WRITE);
}

static void *bytes_of(const struct mirror *m, entry_t e)
{
	if (e & ENTRY_EXCLUSIVE)
		return (void *)(uintptr_t)(e & ~(PAGE - 1));
	return device_bytes(m->device, entry_payload(e));
}

/* Pages from addr on that are copied under the lock. */
static size_t copy_locked(struct mirror *m, uintptr_t addr, size_t nr, char *ours,
			  bool write)
{
	size_t i;
	entry_t e;

	/* Another file of the device may be at the same page. */
	uhmm_lock(&m->device->bytes);
	for (i = 0; i < nr && i < LOCKED_PAGES; i++) {
		e = table_get(&m->table, addr + i * PAGE);
		if (!permits(e, write) || e & ENTRY_MEMORY)
			break;
		if (write)
			memcpy(bytes_of(m, e), ours + i * PAGE, PAGE);
		else
			memcpy(ours + i * PAGE, bytes_of(m, e), PAGE);
	}
	uhmm_unlock(&m->device->bytes);
	return i;
}

/* How many from addr on are in memory. */
static size_t run_of_memory(const struct mirror *m, uintptr_t addr, size_t nr, bool write)
{
	size_t i;

	for (i = 0; i < nr && i < WINDOW_PAGES; i++) {
		entry_t e = table_get(&m->table, addr + i * PAGE);

		if (!permits(e, write) || !(e & ENTRY_MEMORY))
			break;
	}
	return i;
}

/*
 * Pages from addr on, as many as are alike. 0: the table does not have the first, or not
 * any more. With the lock of the mappings.
 */
static size_t copy_run(struct mirror *m, uintptr_t addr, size_t nr, char *ours,
		       bool write)
{
	size_t n, memory = 0, copied;

	uhmm_lock(&m->lock);
	n = copy_locked(m, addr, nr, ours, write);
	if (!n)
		memory = run_of_memory(m, addr, nr, write);
	uhmm_unlock(&m->lock);
	if (!memory)
		return n;
	copied = transfer(ours, addr, memory * PAGE, write) / PAGE;
	if (copied)
		return copied;
	uhmm_lock(&m->lock);
	if (table_get(&m->table, addr) & ENTRY_MEMORY)
		table_erase(&m->table, addr, addr + PAGE);
	uhmm_unlock(&m->lock);
	return 0;
}

static int copy_all(struct work *w, uintptr_t addr, uintptr_t end, bool write)
{
	size_t nr = (end - addr) / PAGE, n;
	sigset_t signals;

	while (w->done < nr) {
		maps_lock_read(&signals);
		n = copy_run(w->mirror, addr + w->done * PAGE, nr - w->done,
			     w->bounce + w->done * PAGE, write);
		maps_unlock(&signals);
		if (!n)
			return -ENOENT;
		w->done += n;
	}
	return 0;
}

int bounce_read(struct work *w, uintptr_t addr, uintptr_t end)
{
	return copy_all(w, addr, end, false);
}

int bounce_write(struct work *w, uintptr_t addr, uintptr_t end)
{
	return copy_all(w, addr, end, true);
}

/* ---- calls ------------------------------------------------------------------------ */

/*
 * Copies, faults what the table does not have, and goes on. A page that can be faulted
 * and never be copied would keep us for ever, as one would that others always take away.
 */
static int copy_and_fault(struct work *w, struct dmirror_cmd *cmd, bool write)
{
	uintptr_t start = cmd->addr, end = start + cmd->npages * PAGE;
	int64_t until = now_ms() + TRY_MS;
	size_t before = 0;
	int r;

	while ((r = copy_all(w, start, end, write)) == -ENOENT) {
		if (w->done != before)
			until = now_ms() + TRY_MS;
		else if (now_ms() >= until)
			return -EBUSY;
		before = w->done;
		r = mirror_fault(w, start + w->done * PAGE, end, write);
		if (r)
			return r;
		cmd->faults++;
	}
	return r;
}

int call_read(struct work *w, struct dmirror_cmd *cmd)
{
	int r = bounce_map(w, cmd->npages);

	if (!r)
		r = copy_and_fault(w, cmd, false);
	if (!r)
		r = copy_to_program(cmd->ptr, w->bounce, w->bounce_size);
	cmd->cpages = w->done;
	return r;
}

int call_write(struct work *w, struct dmirror_cmd *cmd)
{
	int r = bounce_map(w, cmd->npages);

	if (!r)
		r = copy_from_program(w->bounce, cmd->ptr, w->bounce_size);
	if (!r)
		r = copy_and_fault(w, cmd, true);
	cmd->cpages = w->done;
	return r;
}

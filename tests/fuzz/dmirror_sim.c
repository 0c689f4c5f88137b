/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See dmirror_sim.h. The files of compat/dmirror that ask the system are left out, and
 * what the others call of it is renamed by the build (meson.build): here it is.
 *
 * One thread of the program, so the lock of the mappings is never waited for. That it is
 * not taken twice is checked.
 */
#include "tests/fuzz/dmirror_sim.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "compat/dmirror/convert.h"
#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"
#include "compat/dmirror/process.h"
#include "compat/dmirror/trace.h"
#include "lib/os/os.h"
#include "tests/sim/program.h"

ssize_t sim_vm_readv(pid_t pid, const struct iovec *local, unsigned long nr_local,
		     const struct iovec *remote, unsigned long nr_remote,
		     unsigned long flags);
ssize_t sim_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
		      const struct iovec *remote, unsigned long nr_remote,
		      unsigned long flags);
int sim_clock_gettime(clockid_t clock, struct timespec *to);
int sim_sched_yield(void);

struct dmirror_cmd dmirror_sim_last;

static struct {
	struct uhmm_space *space;
	struct device device[DMIRROR_DEVICES];
	bool there[DMIRROR_DEVICES];
	unsigned generation;
	bool locked;
} process;

/* Nobody forks here. */
void before_child_handler(void)
{
}

/* ---- memory ----------------------------------------------------------------------- */

typedef int access_fn(uintptr_t addr, void *buf, size_t len);

static int read_some(uintptr_t addr, void *buf, size_t len)
{
	return sim_read(addr, buf, len);
}

static int write_some(uintptr_t addr, void *buf, size_t len)
{
	return sim_write(addr, buf, len);
}

static bool in_arena(uintptr_t addr)
{
	return addr - ARENA_BASE < ARENA_PAGES * SIM_PAGE;
}

/* Page by page, as the kernel does it: how many bytes. */
static size_t transfer(uintptr_t addr, char *buf, size_t len, access_fn *access)
{
	size_t done = 0, n;

	for (; done < len; done += n) {
		n = SIM_PAGE - (addr + done) % SIM_PAGE;
		n = n < len - done ? n : len - done;
		if (!in_arena(addr + done) || access(addr + done, buf + done, n))
			break;
	}
	return done;
}

ssize_t sim_vm_readv(pid_t pid, const struct iovec *local, unsigned long nr_local,
		     const struct iovec *remote, unsigned long nr_remote,
		     unsigned long flags)
{
	size_t n = transfer((uintptr_t)remote->iov_base, local->iov_base, local->iov_len,
			    read_some);

	if (pid != getpid() || nr_local != 1 || nr_remote != 1 || flags)
		sim_fail("process_vm_readv() is not called as it was");
	errno = n ? 0 : EFAULT;
	return n ? (ssize_t)n : -1;
}

ssize_t sim_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
		      const struct iovec *remote, unsigned long nr_remote,
		      unsigned long flags)
{
	size_t n = transfer((uintptr_t)remote->iov_base, local->iov_base, local->iov_len,
			    write_some);

	if (pid != getpid() || nr_local != 1 || nr_remote != 1 || flags)
		sim_fail("process_vm_writev() is not called as it was");
	errno = n ? 0 : EFAULT;
	return n ? (ssize_t)n : -1;
}

int dmirror_sim_read(void *to, uintptr_t addr, size_t len)
{
	return transfer(addr, to, len, read_some) == len ? 0 : -EFAULT;
}

int dmirror_sim_write(uintptr_t addr, const void *from, size_t len)
{
	char *buf = (char *)(uintptr_t)from; /* is only read */

	return transfer(addr, buf, len, write_some) == len ? 0 : -EFAULT;
}

/* ---- time ------------------------------------------------------------------------- */

int sim_clock_gettime(clockid_t clock, struct timespec *to)
{
	uint64_t now = os_now_ns();

	(void)clock;
	*to = (struct timespec){ .tv_sec = (time_t)(now / 1000000000),
				 .tv_nsec = (long)(now % 1000000000) };
	return 0;
}

int sim_sched_yield(void)
{
	os_yield();
	return 0;
}

/* ---- the lock of the mappings ----------------------------------------------------- */

void maps_lock_read(sigset_t *signals)
{
	(void)signals;
	if (process.locked)
		sim_fail("the lock of the mappings is taken twice");
	process.locked = true;
}

void maps_lock_write(sigset_t *signals)
{
	maps_lock_read(signals);
}

void maps_unlock(const sigset_t *signals)
{
	(void)signals;
	if (!process.locked)
		sim_fail("the lock of the mappings is not held");
	process.locked = false;
}

/* ---- mappings --------------------------------------------------------------------- */

void vma_begin(struct vma_cursor *c)
{
	(void)c;
}

void vma_end(struct vma_cursor *c)
{
	(void)c;
}

bool vma_find(struct vma_cursor *c, uintptr_t addr, struct vma *vma)
{
	uintptr_t start = addr & ~(SIM_PAGE - 1), end = start;
	unsigned prot;

	(void)c;
	if (!in_arena(addr) || !sim_mapped(addr))
		return false;
	prot = sim_prot(addr);
	while (in_arena(end) && sim_mapped(end) && sim_prot(end) == prot)
		end += SIM_PAGE;
	*vma = (struct vma){ .start = start,
			     .end = end,
			     .read = prot & SIM_READ,
			     .write = prot & SIM_WRITE,
			     .exec = prot & SIM_EXEC,
			     .kind = VMA_ANON };
	return true;
}

/* There are no files here, and the arena has nobody's stack. */
void convert_range(struct work *w, uintptr_t start, uintptr_t end)
{
	(void)w;
	(void)start;
	(void)end;
}

void keep_begin(struct keep *k)
{
	(void)k;
}

bool keep_clip(const struct keep *k, uintptr_t addr, uintptr_t *end)
{
	(void)k;
	(void)addr;
	(void)end;
	return true;
}

/* ---- the process ------------------------------------------------------------------ */

void dmirror_sim_begin(struct uhmm_space *space)
{
	memset(&process, 0, sizeof(process));
	process.space = space;
}

void dmirror_sim_forked(void)
{
	process.generation++;
}

void dmirror_sim_end(void)
{
	unsigned i;
	int r;

	for (i = 0; i < DMIRROR_DEVICES; i++) {
		if (!process.there[i])
			continue;
		r = device_evict(&process.device[i]);
		if (!r)
			r = uhmm_pagemap_unregister(process.device[i].pagemap);
		if (r)
			sim_fail("device %u cannot be taken away: %d", i, r);
	}
}

int process_device(unsigned number, struct device **device)
{
	int r = 0;

	if (!process.there[number])
		r = device_init(&process.device[number], process.space, number);
	process.there[number] |= r == 0;
	*device = &process.device[number];
	return r;
}

unsigned process_generation(void)
{
	return process.generation;
}

bool process_is_current(unsigned generation)
{
	return generation == process.generation;
}

void process_mappings_changed(uintptr_t addr, size_t len)
{
	uhmm_protection_changed(process.space, addr, addr + len);
}

void trace_call(unsigned number, unsigned call, const struct dmirror_cmd *cmd, int result)
{
	dmirror_sim_last = *cmd;
	sim_trace("call", number, call, (int64_t)cmd->cpages, result);
}

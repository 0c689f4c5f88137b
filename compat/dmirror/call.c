/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of a device: what is the same for all of them. */
#include <errno.h>

#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"
#include "compat/dmirror/process.h"
#include "compat/dmirror/trace.h"

typedef int call_fn(struct work *w, struct dmirror_cmd *cmd);

static int call_release(struct work *w, struct dmirror_cmd *cmd)
{
	sigset_t signals;
	int r;

	(void)cmd;
	maps_lock_write(&signals);
	r = device_evict(w->mirror->device);
	maps_unlock(&signals);
	return r;
}

static int call_flags(struct work *w, struct dmirror_cmd *cmd)
{
	__atomic_store_n(&w->mirror->flags, (uint32_t)cmd->npages, __ATOMIC_RELEASE);
	return 0;
}

static const struct {
	call_fn *fn;
	int gone; /* where what is mirrored is another process's, or over */
} calls[DMIRROR_NR_CALLS] = {
	[DMIRROR_READ] = { call_read, -EFAULT },
	[DMIRROR_WRITE] = { call_write, -EFAULT },
	[DMIRROR_MIGRATE_TO_DEV] = { call_migrate_to_dev, -EINVAL },
	[DMIRROR_MIGRATE_TO_SYS] = { call_migrate_to_sys, -EINVAL },
	[DMIRROR_SNAPSHOT] = { call_snapshot, -EINVAL },
	[DMIRROR_EXCLUSIVE] = { call_exclusive, -EINVAL },
	[DMIRROR_CHECK_EXCLUSIVE] = { call_check_exclusive, 0 },
	[DMIRROR_RELEASE] = { call_release, 0 },
	[DMIRROR_FLAGS] = { call_flags, 0 },
};

/* What cmd is to be, or -errno. */
static int mirror_call(struct mirror *m, unsigned call, struct dmirror_cmd *cmd)
{
	uint64_t end = cmd->addr + (cmd->npages << PAGE_SHIFT);
	struct work *w;
	int r;

	cmd->cpages = cmd->faults = 0;
	if (cmd->addr & (PAGE - 1) || cmd->addr >= end || call >= DMIRROR_NR_CALLS)
		return -EINVAL;
	if (!process_is_current(m->generation))
		return calls[call].gone;
	w = uhmm_host_map(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->mirror = m;
	/* What the program did before has been told then. */
	uhmm_notifier_read_begin(m->notifier);
	keep_begin(&w->keep);
	r = calls[call].fn(w, cmd);
	if (w->bounce)
		uhmm_host_unmap(w->bounce, w->bounce_size);
	uhmm_host_unmap(w, sizeof(*w));
	return r;
}

int mirror_ioctl(struct mirror *m, unsigned request, uint64_t arg)
{
	unsigned number = m->device->number, nr = _IOC_NR(request);
	struct dmirror_cmd cmd = { 0 };
	int r = copy_from_program(&cmd, arg, sizeof(cmd));

	if (!r)
		r = mirror_call(m, request == DMIRROR_CALL(nr) ? nr : DMIRROR_NR_CALLS,
				&cmd);
	if (!r)
		r = copy_to_program(arg, &cmd, sizeof(cmd));
	trace_call(number, nr, &cmd, r);
	return r;
}

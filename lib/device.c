/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open devices. A stack of layers is one array, the top first, in memory of our own; a
 * layer's driver gets the struct of the layer below to submit to. Tiers are stacks by
 * themselves, driven by one more device: see tier.h.
 *
 * Invariant: a layer is opened after and closed before the one below it. A driver built
 * against an older header has a smaller struct: members beyond its size are not looked
 * at.
 *
 * Threads: SERIALIZE drivers are entered under their layer's lock, one submit at a time.
 * Failure to open closes what was open and leaves a line that says why.
 */
#include "lib/device.h"

#include <errno.h>
#include <string.h>

#include "lib/assert.h"
#include "lib/host_pages.h"
#include "lib/os/os.h"
#include "lib/tier.h"

struct uhmm_device {
	const struct uhmm_driver *driver;
	void *impl;
	struct uhmm_device *next; /* the layer below */
	struct uhmm_lock serial;
};

#define STACK_SIZE (SPEC_LAYERS_MAX * sizeof(struct uhmm_device))

/* Does the driver's struct have this member, and is it set? */
#define DRIVER_HAS(driver_, member_)                                                     \
	((driver_)->size >= offsetof(struct uhmm_driver, member_) + sizeof(void *) &&    \
	 (driver_)->member_)

const struct uhmm_driver *device_driver_next(const struct uhmm_driver *prev)
{
	const struct uhmm_driver *const *d = device_drivers;

	if (!prev)
		return *d;
	while (*d && *d != prev)
		d++;
	return *d ? d[1] : NULL;
}

/* ---- open, close --------------------------------------------------------------- */

static int layer_open(const struct spec_layer *layer, struct uhmm_device *dev,
		      struct uhmm_device *next, const char *text, char *error,
		      size_t error_size)
{
	struct uhmm_device_args args = { .size = sizeof(args),
					 .values = layer->value,
					 .next = next };
	const char *why = NULL;
	int r = layer->driver->open(&args, &dev->impl, &why);

	if (r) {
		spec_error(text, error, error_size, layer->driver->name, ": ",
			   why ? why : "cannot be opened", NULL);
		return r;
	}
	dev->driver = layer->driver;
	dev->next = next;
	return 0;
}

static int stack_open(const struct spec_tier *tier, struct uhmm_device **out,
		      const char *text, char *error, size_t error_size)
{
	struct uhmm_device *stack = uhmm_host_map(STACK_SIZE), *next = NULL;
	uint32_t i;
	int r = 0;

	if (!stack) {
		spec_error(text, error, error_size, "not enough memory", NULL);
		return -ENOMEM;
	}
	for (i = tier->nr_layers; i-- > 0; next = &stack[i]) {
		r = layer_open(&tier->layer[i], &stack[i], next, text, error, error_size);
		if (r)
			break;
	}
	if (r) {
		for (; next; next = next->next)
			next->driver->close(next->impl);
		uhmm_host_unmap(stack, STACK_SIZE);
		return r;
	}
	*out = stack;
	return 0;
}

static int tiers_open(const struct spec *spec, struct uhmm_device **out, const char *text,
		      char *error, size_t error_size)
{
	struct uhmm_device *tier[SPEC_TIERS_MAX];
	uint32_t nr = 0;
	int r = 0;

	for (; nr < spec->nr_tiers && !r; nr += !r)
		r = stack_open(&spec->tier[nr], &tier[nr], text, error, error_size);
	if (!r && nr == 1) {
		*out = tier[0];
	} else if (!r) {
		r = tier_create(tier, nr, out);
		if (r)
			spec_error(text, error, error_size, "not enough memory", NULL);
	}
	while (r && nr-- > 0)
		device_close(tier[nr]);
	return r;
}

int device_open_from(const struct uhmm_driver *const *drivers, const char *text,
		     struct uhmm_device **out, char *error, size_t error_size)
{
	struct spec *spec = uhmm_host_map(sizeof(*spec));
	int r;

	if (!spec) {
		spec_error(text, error, error_size, "not enough memory", NULL);
		return -ENOMEM;
	}
	r = spec_parse(drivers, text, spec, error, error_size);
	if (!r)
		r = tiers_open(spec, out, text, error, error_size);
	uhmm_host_unmap(spec, sizeof(*spec));
	return r;
}

int device_open(const char *spec, struct uhmm_device **dev, char *error,
		size_t error_size)
{
	return device_open_from(device_drivers, spec, dev, error, error_size);
}

int device_wrap(const struct uhmm_driver *driver, void *impl, struct uhmm_device **dev)
{
	struct uhmm_device *stack = uhmm_host_map(STACK_SIZE);

	if (!stack)
		return -ENOMEM;
	stack->driver = driver;
	stack->impl = impl;
	*dev = stack;
	return 0;
}

void device_close(struct uhmm_device *dev)
{
	struct uhmm_device *layer;

	if (!dev)
		return;
	for (layer = dev; layer; layer = layer->next)
		layer->driver->close(layer->impl);
	host_pages_drop();
	uhmm_host_unmap(dev, STACK_SIZE);
}

/* ---- what a stack is ----------------------------------------------------------- */

uint32_t device_flags(const struct uhmm_device *dev)
{
	uint32_t flags = dev->driver->flags;

	for (; dev->next; dev = dev->next) {
		flags &= ~UHMM_DRIVER_RECLAIM_SAFE | dev->next->driver->flags;
		flags |= dev->next->driver->flags & UHMM_DRIVER_SECRET;
	}
	/* Who is at the bottom keeps the pages. */
	flags &= ~UHMM_DRIVER_MEMORY;
	return flags | (dev->driver->flags & UHMM_DRIVER_MEMORY);
}

uint32_t device_batch_hint(const struct uhmm_device *dev)
{
	uint32_t hint = UHMM_BATCH_MAX;

	for (; dev; dev = dev->next)
		if (dev->driver->batch && dev->driver->batch < hint)
			hint = dev->driver->batch;
	return hint;
}

const struct uhmm_driver *device_driver(const struct uhmm_device *dev)
{
	return dev->driver;
}

struct uhmm_device *device_tier(struct uhmm_device *dev, uint32_t i)
{
	if (tier_is_driver(dev->driver))
		return tier_at(dev->impl, i);
	return i ? NULL : dev;
}

/* ---- batches ------------------------------------------------------------------- */

int uhmm_device_submit(struct uhmm_device *dev, struct uhmm_batch *batch)
{
	int r;

	assert_always(batch->nr >= 1 && batch->nr <= UHMM_BATCH_MAX);
	if (dev->driver->thread_model == UHMM_THREAD_PARALLEL ||
	    batch->flags & UHMM_BATCH_FROZEN)
		return dev->driver->submit(dev->impl, batch);
	uhmm_lock(&dev->serial);
	r = dev->driver->submit(dev->impl, batch);
	uhmm_unlock(&dev->serial);
	return r;
}

/* cookie: 0 in flight, 1 complete, 2 in flight and its submitter sleeps. */
static void run_complete(struct uhmm_batch *batch)
{
	uint32_t *state = batch->cookie;

	/*
	 * Release: with the acquire of the submitter, who may be gone right after. A
	 * wake of an address that nobody waits on any more does no harm.
	 */
	if (__atomic_exchange_n(state, 1, __ATOMIC_RELEASE) == 2)
		os_wake(state, 1);
}

static void peek_complete(struct uhmm_batch *batch)
{
	(void)batch; /* inside submit(), as the flag says */
}

int device_peek(struct uhmm_device *dev, struct uhmm_io *io)
{
	struct uhmm_batch batch = {
		.op = UHMM_OP_LOAD,
		.nr = 1,
		.io = io,
		.complete = peek_complete,
		.flags = UHMM_BATCH_FROZEN,
	};

	uhmm_device_submit(dev, &batch);
	return io->result;
}

uint32_t device_run(struct uhmm_device *dev, enum uhmm_op op, struct uhmm_io *io,
		    uint32_t nr)
{
	uint32_t state = 0, failed = 0, i;
	struct uhmm_batch batch = {
		.op = op, .nr = nr, .io = io, .complete = run_complete, .cookie = &state
	};

	uhmm_device_submit(dev, &batch);
	while (__atomic_load_n(&state, __ATOMIC_ACQUIRE) != 1) {
		uint32_t expected = 0;

		__atomic_compare_exchange_n(&state, &expected, 2, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
		os_wait(&state, 2, -1);
	}
	for (i = 0; i < nr; i++)
		failed += io[i].result != 0;
	return failed;
}

/* ---- the rest ------------------------------------------------------------------ */

int device_flush(struct uhmm_device *dev)
{
	int r = 0;

	for (; dev && !r; dev = dev->next)
		if (DRIVER_HAS(dev->driver, flush))
			r = dev->driver->flush(dev->impl);
	return r;
}

bool device_is_shared(const struct uhmm_device *dev)
{
	while (dev && !DRIVER_HAS(dev->driver, before_fork))
		dev = dev->next;
	return dev;
}

void device_before_fork(struct uhmm_device *dev)
{
	for (; dev; dev = dev->next)
		if (DRIVER_HAS(dev->driver, before_fork))
			dev->driver->before_fork(dev->impl);
}

void device_fork_failed(struct uhmm_device *dev)
{
	for (; dev; dev = dev->next)
		if (DRIVER_HAS(dev->driver, fork_failed))
			dev->driver->fork_failed(dev->impl);
}

/* The lowest layer first: those above may use it. */
int device_after_fork(struct uhmm_device *dev)
{
	int r = dev->next ? device_after_fork(dev->next) : 0;

	dev->serial.word = 0;
	if (!r && DRIVER_HAS(dev->driver, after_fork))
		r = dev->driver->after_fork(dev->impl);
	return r;
}

/* Of a layer alone. */
static void layer_stat(struct uhmm_device *dev, struct uhmm_device_stat *stat)
{
	*stat = (struct uhmm_device_stat){ .size = sizeof(*stat) };
	if (DRIVER_HAS(dev->driver, stat))
		dev->driver->stat(dev->impl, stat);
}

void device_stat(struct uhmm_device *dev, struct uhmm_device_stat *out)
{
	struct uhmm_device_stat stat, below;
	size_t size = out->size < sizeof(stat) ? out->size : sizeof(stat);
	uint64_t resident, metadata;

	layer_stat(dev, &stat);
	for (dev = dev->next; dev; dev = dev->next) {
		layer_stat(dev, &below);
		resident = stat.bytes_resident + below.bytes_resident;
		metadata = stat.bytes_metadata + below.bytes_metadata;
		if (!stat.stores && !stat.pages)
			stat = below; /* what is above passes pages through */
		stat.bytes_stored = below.bytes_stored;
		stat.bytes_resident = resident;
		stat.bytes_metadata = metadata;
	}
	stat.size = out->size;
	memcpy(out, &stat, size);
}

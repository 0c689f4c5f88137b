/* SPDX-License-Identifier: Apache-2.0 */
/* Batches that a layer sees when they are complete: see watch.h. */
#include "devices/watch.h"

#include "devices/below.h"
#include "lib/os/sys.h"

static void begin(const struct watch *watch, struct watch_times *times)
{
	times->tid = watch->wants_tid ? (uint32_t)sys0(SYS_gettid) : 0;
	times->start_ns = uhmm_host_now_ns();
}

static void end(struct watch_times *times)
{
	times->end_ns = uhmm_host_now_ns();
}

static struct watch_flight *take_flight(struct watch *watch)
{
	uint32_t cpu = uhmm_host_cpu(), i;

	for (i = 0; i < WATCH_FLIGHTS; i++) {
		struct watch_flight *f = &watch->flight[(cpu + i) % WATCH_FLIGHTS];

		/* Acquire: with who gave it back. */
		if (!__atomic_load_n(&f->taken, __ATOMIC_RELAXED) &&
		    !__atomic_exchange_n(&f->taken, 1, __ATOMIC_ACQUIRE))
			return f;
	}
	return NULL;
}

/* The submitter may end with its batch: the flight is given back before. */
static void landed(struct uhmm_batch *batch)
{
	struct watch_flight *f = batch->cookie;

	end(&f->times);
	batch->complete = f->complete;
	batch->cookie = f->cookie;
	f->watch->seen(f->watch, batch, &f->times);
	__atomic_store_n(&f->taken, 0, __ATOMIC_RELEASE);
	batch->complete(batch);
}

/* Its pages in a batch of our own. */
static int wait_for(struct watch *watch, struct uhmm_batch *batch)
{
	struct uhmm_batch mine = {
		.op = batch->op, .nr = batch->nr, .io = batch->io, .flags = batch->flags
	};
	struct watch_times times;

	begin(watch, &times);
	below_run(watch->next, &mine);
	end(&times);
	watch->seen(watch, &mine, &times);
	batch->complete(batch);
	return 0;
}

int watch_submit(struct watch *watch, struct uhmm_batch *batch)
{
	struct watch_flight *f;

	if (batch->flags & UHMM_BATCH_FROZEN)
		return uhmm_device_submit(watch->next, batch);
	f = take_flight(watch);
	if (!f)
		return wait_for(watch, batch);
	f->watch = watch;
	f->complete = batch->complete;
	f->cookie = batch->cookie;
	batch->complete = landed;
	batch->cookie = f;
	begin(watch, &f->times);
	return uhmm_device_submit(watch->next, batch);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots: the device of docs/write-a-device.md. As many pages as fit into its size, each
 * in a slot of its own, whose number is the device page number.
 */
#include <errno.h>

#include "uhmm/device.h"

struct slot {
	uint64_t check;
	uint32_t len;
	uint32_t next; /* free: 1 + the next one that is, or 0 */
};

struct slots {
	uint64_t size;            /* bytes of data */
	uint32_t nr, used, free;  /* used: ever; free: 1 + the first, or 0 */
	uint64_t bytes, count[5]; /* now; by enum counted. Read by slots_stat() */
	char (*data)[UHMM_PAGE_SIZE];
	struct slot slot[]; /* nr of them */
};

enum counted { STORED, LOADED, FREED, REFUSED, LOST };

#define ADD(counter_, n_) __atomic_fetch_add(&(counter_), (n_), __ATOMIC_RELAXED)
#define GET(counter_) __atomic_load_n(&(counter_), __ATOMIC_RELAXED)

static const struct uhmm_option slots_options[] = {
	{ .name = "size",
	  .type = UHMM_OPTION_SIZE,
	  .fallback = "64M",
	  .min = 1u << 20,
	  .max = UINT64_C(1) << 40,
	  .help = "bytes of pages that it can hold (default: 64M)" },
	{ .name = NULL },
};

static size_t table_size(const struct slots *s)
{
	return sizeof(*s) + s->nr * sizeof(s->slot[0]);
}

static int slots_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct slots head = { .size = args->values[0].number }, *s;

	head.nr = (uint32_t)(head.size / UHMM_PAGE_SIZE);
	s = uhmm_host_map(table_size(&head));
	head.data = s ? uhmm_host_map(head.size) : NULL;
	if (!head.data) {
		if (s)
			uhmm_host_unmap(s, table_size(&head));
		*error = "not enough memory; ask for less by size=";
		return -ENOMEM;
	}
	*s = head;
	*dev = s;
	return 0;
}

static void slots_close(void *dev)
{
	struct slots *s = dev;

	uhmm_host_unmap(s->data, s->size);
	uhmm_host_unmap(s, table_size(s));
}

/* Of the bytes, and of where they are: another slot's are not taken for these. */
static uint64_t check_of(const struct uhmm_io *io)
{
	return uhmm_checksum(io->buf, io->len) ^ io->page * UINT64_C(0x9e3779b97f4a7c15);
}

static int store(struct slots *s, struct uhmm_io *io)
{
	struct slot *slot;

	if (!s->free && s->used == s->nr)
		return -ENOSPC;
	io->page = s->free ? s->free - 1 : s->used;
	slot = &s->slot[io->page];
	if (s->free)
		s->free = slot->next;
	else
		ADD(s->used, 1);
	slot->check = check_of(io);
	slot->len = io->len;
	__builtin_memcpy(s->data[io->page], io->buf, io->len);
	ADD(s->bytes, io->len);
	return 0;
}

static int load(const struct slots *s, struct uhmm_io *io)
{
	const struct slot *slot = &s->slot[io->page];

	if (slot->len != io->len)
		return -EIO;
	__builtin_memcpy(io->buf, s->data[io->page], io->len);
	/* What was copied is looked at: the original might change in between. */
	return check_of(io) == slot->check ? 0 : -EIO;
}

static void forget(struct slots *s, const struct uhmm_io *io)
{
	struct slot *slot = &s->slot[io->page];

	ADD(s->bytes, -(uint64_t)slot->len);
	uhmm_host_discard(s->data[io->page], UHMM_PAGE_SIZE);
	slot->next = s->free;
	s->free = (uint32_t)io->page + 1;
}

static int slots_submit(void *dev, struct uhmm_batch *batch)
{
	static const enum counted well[] = { STORED, LOADED, FREED };
	static const enum counted badly[] = { REFUSED, LOST, FREED };
	struct slots *s = dev;
	struct uhmm_io *io;

	for (io = batch->io; io < batch->io + batch->nr; io++) {
		io->result = 0;
		if (batch->op == UHMM_OP_STORE)
			io->result = store(s, io);
		else if (batch->op == UHMM_OP_LOAD)
			io->result = load(s, io);
		else
			forget(s, io);
		ADD(s->count[io->result ? badly[batch->op] : well[batch->op]], 1);
	}
	/* Last: whoever submitted the batch may reuse it from now on. */
	batch->complete(batch);
	return 0;
}

static void slots_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct slots *s = dev;

	stat->stores = GET(s->count[STORED]);
	stat->loads = GET(s->count[LOADED]);
	stat->frees = GET(s->count[FREED]);
	stat->store_failures = GET(s->count[REFUSED]);
	stat->load_failures = GET(s->count[LOST]);
	stat->pages = stat->pages_raw = stat->stores - stat->frees;
	stat->bytes_in = stat->bytes_stored = GET(s->bytes);
	stat->bytes_metadata = sizeof(*s) + GET(s->used) * sizeof(s->slot[0]);
	stat->bytes_resident = stat->pages * UHMM_PAGE_SIZE + stat->bytes_metadata;
}

const struct uhmm_driver uhmm_driver_slots = {
	.size = sizeof(struct uhmm_driver),
	.name = "slots",
	.summary = "memory, a fixed number of pages",
	.options = slots_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_SERIALIZE, /* so it needs no lock */
	.batch = 16,
	.open = slots_open,
	.close = slots_close,
	.submit = slots_submit,
	.stat = slots_stat,
};

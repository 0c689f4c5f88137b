/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram: pages copied to memory of this process, as they are. The driver to read first: it
 * shows what a driver must do. Of use to tests, and to measure what migrating costs
 * without a device: so it works by the batch, and copies as fast as that can be done.
 *
 * Each stored page has memory of its own and an entry in a table; the entry's index is
 * the device page number. An entry belongs to whoever stores, loads or frees its page:
 * the core does one of these at a time to one page. Free entries, and the number of
 * entries that were ever used, belong to the lock.
 *
 * A checksum of each page and its number is kept in its entry and compared on load:
 * memory that was overwritten, or is another page's, is -EIO, not data. To read a page
 * for its checksum and then to copy it takes no longer than to copy it.
 */
#include <errno.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "uhmm/device.h"

/* Storing 16 pages takes about as long as bringing one of them back would. */
#define BATCH 16u

/* 2^30 entries are 4 TiB of pages; the table takes memory as it is used. */
#define PAGES_MAX (UINT64_C(1) << 30)
/* The table grows by parts: 2^12 of 2^18 entries, 1 GiB of pages each. */
#define PART_ENTRIES (UINT64_C(1) << 18)
#define PARTS (PAGES_MAX / PART_ENTRIES)

struct entry {
	void *data; /* NULL: free */
	uint64_t check;
	uint32_t len;
	uint32_t next; /* free: 1 + the next free entry, or 0 */
};

struct ram {
	uint64_t max_pages;
	struct uhmm_lock lock;
	uint32_t free;       /* 1 + the first free entry, or 0 */
	uint64_t nr_entries; /* ever used: the table takes memory up to here */
	/* relaxed atomics */
	uint64_t pages, bytes_in, stores, loads, frees, store_failures, load_failures;
	struct entry *part[PARTS];
};

static void add(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE;
}

/* Memory that nr entries and the way to them take. */
static uint64_t table_bytes(uint64_t nr)
{
	uint64_t parts = (nr + PART_ENTRIES - 1) / PART_ENTRIES;
	uint64_t pages = whole_pages(offsetof(struct ram, part[parts]));

	/* Parts are whole pages but for the last one. */
	return (pages + whole_pages(nr * sizeof(struct entry))) * UHMM_PAGE_SIZE;
}

/* ---- open, close --------------------------------------------------------------- */

static const struct uhmm_option ram_options[] = {
	{ .name = "size",
	  .type = UHMM_OPTION_SIZE,
	  .min = 1u << 20,
	  .help = "memory it may take, tables included (default: no limit)" },
	{ .name = NULL },
};

/* Pages that fit into size bytes together with the table; size is not small. */
static uint64_t max_pages(uint64_t size)
{
	uint64_t pages = size / UHMM_PAGE_SIZE, over;

	if (!size || pages > PAGES_MAX)
		return PAGES_MAX;
	/* Each time the table of fewer pages is smaller: this ends after a few. */
	while (pages * UHMM_PAGE_SIZE + table_bytes(pages) > size) {
		over = pages * UHMM_PAGE_SIZE + table_bytes(pages) - size;
		pages -= whole_pages(over);
	}
	return pages;
}

static int ram_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	struct ram *ram = uhmm_host_map(sizeof(*ram));

	if (!ram) {
		*error = "not enough memory";
		return -ENOMEM;
	}
	ram->max_pages = max_pages(args->values[0].number);
	*dev = ram;
	return 0;
}

static void ram_close(void *dev)
{
	struct ram *ram = dev;
	uint64_t i;

	for (i = 0; i < ram->nr_entries; i++) {
		struct entry *entry = &ram->part[i / PART_ENTRIES][i % PART_ENTRIES];

		if (entry->data)
			uhmm_host_pages_put(&entry->data, 1);
	}
	for (i = 0; i < PARTS && ram->part[i]; i++)
		uhmm_host_unmap(ram->part[i], PART_ENTRIES * sizeof(struct entry));
	uhmm_host_unmap(ram, sizeof(*ram));
}

/* ---- entries ------------------------------------------------------------------- */

static struct entry *entry_at(struct ram *ram, uint64_t page)
{
	return &ram->part[page / PART_ENTRIES][page % PART_ENTRIES];
}

/* Under the lock: the next entry that was never used. */
static int entry_new(struct ram *ram, uint64_t *page)
{
	uint64_t i = ram->nr_entries, part = i / PART_ENTRIES;

	if (i == ram->max_pages)
		return -ENOSPC;
	if (!ram->part[part])
		ram->part[part] = uhmm_host_map(PART_ENTRIES * sizeof(struct entry));
	if (!ram->part[part])
		return -ENOMEM;
	ram->nr_entries++;
	*page = i;
	return 0;
}

/* An entry for each page of a batch, from the first on: how many; *why no more. */
static uint32_t entries_take(struct ram *ram, struct uhmm_batch *batch, int *why)
{
	uint32_t i;

	*why = 0;
	uhmm_lock(&ram->lock);
	for (i = 0; i < batch->nr && !*why; i++) {
		uint64_t *page = &batch->io[i].page;

		if (ram->free) {
			*page = ram->free - 1;
			ram->free = entry_at(ram, *page)->next;
		} else {
			*why = entry_new(ram, page);
		}
	}
	uhmm_unlock(&ram->lock);
	return *why ? i - 1 : i;
}

static void entries_give(struct ram *ram, const struct uhmm_io *io, uint32_t nr)
{
	uint32_t i;

	uhmm_lock(&ram->lock);
	for (i = 0; i < nr; i++) {
		entry_at(ram, io[i].page)->next = ram->free;
		ram->free = (uint32_t)(io[i].page + 1);
	}
	uhmm_unlock(&ram->lock);
}

/* ---- pages --------------------------------------------------------------------- */

/*
 * Past the caches, where that can be said: what is stored is not read soon. Both are
 * aligned to pages. Others see it after copies_done().
 */
static void copy_page(void *to, const void *from)
{
#ifdef __SSE2__
	const __m128i *src = from;
	__m128i *dst = to;
	size_t i;

	for (i = 0; i < UHMM_PAGE_SIZE / sizeof(*dst); i++)
		_mm_stream_si128(dst + i, _mm_load_si128(src + i));
#else
	memcpy(to, from, UHMM_PAGE_SIZE);
#endif
}

static void copies_done(void)
{
#ifdef __SSE2__
	_mm_sfence();
#endif
}

/* Of the bytes and of whose they are: another page's are not taken for these. */
static uint64_t check_of(const struct uhmm_io *io)
{
	return uhmm_checksum(io->buf, io->len) ^ io->page * UINT64_C(0x9e3779b97f4a7c15);
}

/* Each of these returns how many pages it failed at. */

static uint32_t store(struct ram *ram, struct uhmm_batch *batch)
{
	void *data[UHMM_BATCH_MAX];
	int why;
	uint32_t nr = entries_take(ram, batch, &why), got, i;
	uint64_t bytes = 0;

	got = uhmm_host_pages_get(data, nr);
	if (got < nr) {
		entries_give(ram, batch->io + got, nr - got);
		why = -ENOMEM;
	}
	for (i = 0; i < got; i++) {
		struct uhmm_io *io = &batch->io[i];
		struct entry *entry = entry_at(ram, io->page);

		entry->check = check_of(io);
		entry->data = data[i];
		entry->len = io->len;
		if (io->len == UHMM_PAGE_SIZE)
			copy_page(data[i], io->buf);
		else
			memcpy(data[i], io->buf, io->len);
		io->result = 0;
		bytes += io->len;
	}
	copies_done();
	for (; i < batch->nr; i++)
		batch->io[i].result = why;
	add(&ram->pages, got);
	add(&ram->bytes_in, bytes);
	return batch->nr - got;
}

/* What was copied is checked, not what lies in the device: it might change in between. */
static int load_page(struct ram *ram, struct uhmm_io *io)
{
	struct entry *entry = entry_at(ram, io->page);

	if (io->len != entry->len)
		return -EIO;
	memcpy(io->buf, entry->data, io->len);
	return check_of(io) == entry->check ? 0 : -EIO;
}

/* The processor guesses what is read next, but not beyond a page. */
static void announce(const struct entry *entry)
{
	const char *data = entry->data;
	size_t at;

	for (at = 0; at < UHMM_PAGE_SIZE / 2; at += 64)
		__builtin_prefetch(data + at);
}

static uint32_t load(struct ram *ram, struct uhmm_batch *batch)
{
	uint32_t i, failed = 0;

	for (i = 0; i < batch->nr; i++) {
		if (i + 1 < batch->nr)
			announce(entry_at(ram, batch->io[i + 1].page));
		batch->io[i].result = load_page(ram, &batch->io[i]);
		failed += batch->io[i].result != 0;
	}
	return failed;
}

static uint32_t free_pages(struct ram *ram, struct uhmm_batch *batch)
{
	void *data[UHMM_BATCH_MAX];
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < batch->nr; i++) {
		struct entry *entry = entry_at(ram, batch->io[i].page);

		data[i] = entry->data;
		entry->data = NULL;
		bytes += entry->len;
		batch->io[i].result = 0;
	}
	entries_give(ram, batch->io, batch->nr);
	uhmm_host_pages_put(data, batch->nr);
	add(&ram->pages, -(uint64_t)batch->nr);
	add(&ram->bytes_in, -bytes);
	return 0;
}

static int ram_submit(void *dev, struct uhmm_batch *batch)
{
	static uint32_t (*const run[])(struct ram *, struct uhmm_batch *) = {
		[UHMM_OP_STORE] = store,
		[UHMM_OP_LOAD] = load,
		[UHMM_OP_FREE] = free_pages,
	};
	struct ram *ram = dev;
	uint64_t *done[] = { &ram->stores, &ram->loads, &ram->frees };
	uint64_t *failures[] = { &ram->store_failures, &ram->load_failures, NULL };
	uint32_t failed = run[batch->op](ram, batch);

	add(done[batch->op], batch->nr - failed);
	if (failed)
		add(failures[batch->op], failed);
	/* Last: whoever submitted the batch may reuse it from now on. */
	batch->complete(batch);
	return 0;
}

/* ---- statistics ---------------------------------------------------------------- */

static uint64_t get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void ram_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct ram *ram = dev;
	uint64_t entries;

	uhmm_lock(&ram->lock);
	entries = ram->nr_entries;
	uhmm_unlock(&ram->lock);
	stat->pages = get(&ram->pages);
	stat->pages_raw = stat->pages;
	stat->bytes_in = get(&ram->bytes_in);
	stat->bytes_stored = stat->bytes_in;
	stat->bytes_metadata = table_bytes(entries);
	stat->bytes_resident = stat->pages * UHMM_PAGE_SIZE + stat->bytes_metadata;
	stat->stores = get(&ram->stores);
	stat->loads = get(&ram->loads);
	stat->frees = get(&ram->frees);
	stat->store_failures = get(&ram->store_failures);
	stat->load_failures = get(&ram->load_failures);
}

const struct uhmm_driver uhmm_driver_ram = {
	.size = sizeof(struct uhmm_driver),
	.name = "ram",
	.summary = "memory, pages as they are",
	.options = ram_options,
	.flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MEMORY,
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = BATCH,
	.open = ram_open,
	.close = ram_close,
	.submit = ram_submit,
	.stat = ram_stat,
};

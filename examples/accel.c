/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver, to be read in one sitting: an accelerator with memory and a page table of its
 * own works on the program's memory, at the program's addresses, while the program uses
 * it too. The device is a thread here; its driver has what that of a real one has
 * (nouveau's SVM in the kernel). In the order of this file: a notifier, by which entries
 * of the page table go when the program's mappings change; migration to the device, and
 * back when that is full; and the device's faults.
 *
 * The program has two engines of the device compute y = 3y + 1, on four times the memory
 * that the device has. The first word of each page is the program's own: it counts there
 * meanwhile, and nothing that either writes is lost. Then it unmaps what one works on.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <uhmm/device.h>
#include <uhmm/migrate.h>
#include <uhmm/range.h>
#include <uhmm/uhmm.h>

#define PAGE ((size_t)UHMM_PAGE_SIZE)
#define WORDS (PAGE / sizeof(uint32_t))

/* Pages of the program that move together; a chunk of the device has room for them. */
#define PIECE 64u
#define NR_CHUNKS 8u
#define DEVICE_PAGES (NR_CHUNKS * PIECE)
#define NR_PAGES (4 * DEVICE_PAGES)
#define HALF (NR_PAGES / 2) /* what an engine works on */

/* A piece that the program has used stays in memory for so many device faults. */
#define PATIENCE 16u

/* An entry of the device's page table; 0: a fault. Flags as of a uhmm_pfn_t. */
#define PTE_VALID UHMM_PFN_VALID
#define PTE_WRITE UHMM_PFN_WRITE
#define PTE_DEVICE UINT64_C(0x2) /* this page; else memory, at the program's address */
#define PTE_PAGE 4
#define PTE_OF(page) ((page) << PTE_PAGE | PTE_DEVICE | PTE_VALID)

struct accel {
	struct uhmm_space *space;
	struct uhmm_pagemap *map;
	struct uhmm_notifier *notifier;
	char *program;        /* NR_PAGES that the device may use */
	char (*memory)[PAGE]; /* the device's */
	size_t migrated, faults, evictions;

	/*
	 * Of who maps or moves pages: where map_page() has seen one, it is until that is
	 * mapped, or else invalidate() was called; which passes over our own migrations.
	 */
	pthread_mutex_t mover;
	size_t piece[NR_CHUNKS]; /* whose pages are there, plus 1; 0: nobody's */
	uint32_t hand;           /* of the clock that says what is evicted */

	/* invalidate() takes it: who has it touches no memory of the program's. */
	struct uhmm_lock lock;
	uint64_t pte[NR_PAGES];
	bool used[NR_CHUNKS]; /* since the hand came by */
	uint8_t patience[NR_PAGES / PIECE];
};

/* ---- what the library calls ------------------------------------------------------- */

static void invalidate(struct uhmm_notifier *notifier, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	struct accel *a = ctx;
	uintptr_t base = (uintptr_t)a->program, last = base + NR_PAGES * PAGE - 1;
	size_t i = what->start > base ? (what->start - base) / PAGE : 0;
	size_t to = ((what->end - 1 < last ? what->end - 1 : last) - base) / PAGE;

	/* Our own: migrate_in() and migrate_out() know which pages of it really move. */
	if (what->event == UHMM_EVENT_MIGRATE && what->owner == a)
		return;
	uhmm_lock(&a->lock);
	uhmm_notifier_set_seq(notifier, seq);
	for (; i <= to; i++) {
		if (what->event == UHMM_EVENT_MIGRATE && a->pte[i] & PTE_DEVICE)
			a->patience[i / PIECE] = PATIENCE;
		a->pte[i] = 0;
	}
	uhmm_unlock(&a->lock);
}

/* The program has touched a page; invalidate() was called, so nobody writes there. */
static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	memcpy(buf, (char *)ctx + page * PAGE, PAGE);
	return 0;
}

/* ---- moving and mapping pages; one at a time -------------------------------------- */

/* What a chunk has goes back to memory, wherever the program has it by now. */
static void migrate_out(struct accel *a, uint32_t chunk)
{
	uhmm_pfn_t src[PIECE], dst[PIECE];
	struct uhmm_migrate m = { .size = sizeof(m), .src = src, .dst = dst };
	const char *from = a->memory[chunk * PIECE];
	size_t i;

	uhmm_lock(&a->lock);
	for (i = 0; i < NR_PAGES; i++)
		if (a->pte[i] & PTE_DEVICE && (a->pte[i] >> PTE_PAGE) / PIECE == chunk)
			a->pte[i] = 0;
	uhmm_unlock(&a->lock);
	if (uhmm_migrate_device_range(a->map, chunk * PIECE, PIECE, &m))
		return;
	for (i = 0; i < PIECE; i++)
		if (src[i] && uhmm_page_alloc(a->space, &dst[i], 1) == 1)
			memcpy(uhmm_pfn_bytes(a->space, dst[i]), from + i * PAGE, PAGE);
	uhmm_migrate_pages(a->space, &m);
	uhmm_migrate_finalize(a->space, &m);
	a->evictions += m.cpages > 0;
}

/* The chunk that a piece has, or the first that was not used since the hand came by. */
static uint32_t chunk_for(struct accel *a, size_t piece)
{
	uint32_t chunk;

	for (chunk = 0; chunk < NR_CHUNKS; chunk++)
		if (a->piece[chunk] == piece + 1)
			return chunk;
	uhmm_lock(&a->lock);
	while (a->used[chunk = a->hand++ % NR_CHUNKS])
		a->used[chunk] = false;
	uhmm_unlock(&a->lock);
	migrate_out(a, chunk);
	a->piece[chunk] = piece + 1;
	return chunk;
}

/*
 * Of a piece, what can move to the device does, and is mapped there, with the permission
 * that the program has, before the program may have it again.
 */
static void migrate_in(struct accel *a, size_t piece)
{
	uhmm_pfn_t src[PIECE], dst[PIECE];
	struct uhmm_migrate m = { .size = sizeof(m), .src = src, .dst = dst };
	uint64_t page = chunk_for(a, piece) * PIECE, *pte = &a->pte[piece * PIECE], seq;
	void *bytes;
	size_t i;

	m.start = (uintptr_t)a->program + piece * PIECE * PAGE;
	m.end = m.start + PIECE * PAGE;
	m.flags = UHMM_SELECT_SYSTEM;
	m.owner = a;
	if (uhmm_migrate_setup(a->space, &m))
		return; /* it is not, or not all, private memory of one mapping */
	/* The program cannot get at these pages now; nor must the device, as memory. */
	uhmm_lock(&a->lock);
	for (i = 0; i < PIECE; i++)
		if (src[i])
			pte[i] = 0;
	uhmm_unlock(&a->lock);
	for (i = 0; i < PIECE; i++) {
		if (!src[i] || uhmm_page_get(a->map, page + i, &dst[i]))
			continue;
		bytes = uhmm_pfn_bytes(a->space, src[i]);
		memset(a->memory[page + i], 0, PAGE);
		if (bytes)
			memcpy(a->memory[page + i], bytes, PAGE);
	}
	seq = uhmm_notifier_read_begin(a->notifier);
	uhmm_migrate_pages(a->space, &m);
	uhmm_lock(&a->lock);
	/* If something happened to the piece since, its pages are left to be faulted. */
	if (!uhmm_notifier_read_retry(a->notifier, seq))
		for (i = 0; i < PIECE; i++)
			if (src[i] & UHMM_PFN_MIGRATE)
				pte[i] = PTE_OF(page + i) | (src[i] & PTE_WRITE);
	uhmm_unlock(&a->lock);
	for (i = 0; i < PIECE; i++)
		a->migrated += (src[i] & UHMM_PFN_MIGRATE) != 0;
	uhmm_migrate_finalize(a->space, &m);
}

/* Maps a page where it is: on the device, or in memory, at the program's address. */
static int map_page(struct accel *a, size_t i, bool write)
{
	uint64_t pfn = 0, page, pte = 0;
	struct uhmm_range range = { .size = sizeof(range), .notifier = a->notifier };
	bool stale = true;
	int error;

	range.start = (uintptr_t)a->program + i * PAGE;
	range.end = range.start + PAGE;
	range.pfns = &pfn;
	range.default_flags = UHMM_RANGE_REQ_FAULT | (write ? UHMM_RANGE_REQ_WRITE : 0);
	range.dev_private_owner = a;
	while (stale) {
		range.notifier_seq = uhmm_notifier_read_begin(a->notifier);
		error = uhmm_range_fault(&range);
		if (error == -EBUSY)
			continue;
		if (error)
			return error;
		pte = pfn & UHMM_RANGE_WRITE ? PTE_WRITE : 0;
		pte |= uhmm_range_pagemap(a->space, pfn, &page) == a->map ? PTE_OF(page) :
									    PTE_VALID;
		uhmm_lock(&a->lock);
		stale = uhmm_notifier_read_retry(a->notifier, range.notifier_seq);
		if (!stale)
			a->pte[i] = pte;
		uhmm_unlock(&a->lock);
	}
	/* What is on the device is reported also if it may not be written. */
	return write && !(pte & PTE_WRITE) ? -EPERM : 0;
}

/*
 * A piece moves as soon as the device needs one of its pages, but not for a while after
 * the program has taken pages of it back: both use it, and it would go to and fro.
 */
static int device_fault(struct accel *a, size_t page, bool write)
{
	uint8_t *patience = &a->patience[page / PIECE];
	bool move;
	int error;

	pthread_mutex_lock(&a->mover);
	a->faults++;
	uhmm_lock(&a->lock);
	move = *patience == 0;
	*patience -= !move;
	uhmm_unlock(&a->lock);
	if (move)
		migrate_in(a, page / PIECE);
	error = map_page(a, page, write);
	pthread_mutex_unlock(&a->mover);
	return error;
}

/* ---- the device ------------------------------------------------------------------- */

/*
 * Loads or stores, within a page. Memory is used at the program's address, as by threads
 * of the program, and not under the lock: the page may have gone elsewhere by now, and
 * who brings it back may need the lock. If it was unmapped a load would crash; this copy
 * fails, and that is a device fault like any other.
 */
static int access_page(struct accel *a, void *at, void *buf, size_t len, bool write)
{
	size_t page = (size_t)((char *)at - a->program) / PAGE;
	uint64_t need = PTE_VALID | (write ? PTE_WRITE : 0), pte;
	struct iovec here = { buf, len }, there = { at, len };
	__typeof__(process_vm_readv) *copy = write ? process_vm_writev : process_vm_readv;
	int error = 0;
	char *bytes;

	while (!error) {
		uhmm_lock(&a->lock);
		pte = (a->pte[page] & need) == need ? a->pte[page] : 0;
		if (pte & PTE_DEVICE) {
			bytes = a->memory[pte >> PTE_PAGE] + (uintptr_t)at % PAGE;
			memcpy(write ? bytes : buf, write ? buf : bytes, len);
			a->used[(pte >> PTE_PAGE) / PIECE] = true;
		}
		uhmm_unlock(&a->lock);
		if (pte & PTE_DEVICE)
			break;
		if (pte && copy(getpid(), &here, 1, &there, 1, 0) == (ssize_t)len)
			break;
		error = pte && errno != EFAULT ? -errno : device_fault(a, page, write);
	}
	return error;
}

/* y = 3y + 1, but for the first word of each page. */
struct kernel {
	struct accel *accel;
	uint32_t *y;
	size_t pages, done; /* of HALF, over and over */
	int error;          /* why not all were done */
	pthread_t engine;
};

static void *run(void *arg)
{
	struct kernel *k = arg;
	uint32_t y[WORDS - 1], *at;
	size_t i;

	/* What the program did before it started us is known after this. */
	uhmm_notifier_read_begin(k->accel->notifier);
	for (k->done = 0; k->done < k->pages; k->done++) {
		at = k->y + k->done % HALF * WORDS + 1;
		if ((k->error = access_page(k->accel, at, y, sizeof(y), false)))
			break;
		for (i = 0; i < WORDS - 1; i++)
			y[i] = 3 * y[i] + 1;
		if ((k->error = access_page(k->accel, at, y, sizeof(y), true)))
			break;
	}
	return NULL;
}

/* ---- the program ------------------------------------------------------------------ */

static void check(bool good, const char *what)
{
	if (!good)
		errx(1, "%s", what);
}

static void open_device(struct accel *a)
{
	struct uhmm_notifier_ops notifier_ops = { sizeof(notifier_ops), invalidate };
	struct uhmm_pagemap_ops ops = { .size = sizeof(ops), .copy_to_ram = copy_to_ram };
	struct uhmm_pagemap_config config = { .size = sizeof(config), .ops = &ops };

	config.nr_pages = DEVICE_PAGES;
	a->memory = uhmm_host_map(DEVICE_PAGES * PAGE);
	config.nr_pages = DEVICE_PAGES;
	config.owner = a;
	config.ctx = a->memory;
	check(a->memory && !uhmm_pagemap_register(a->space, &config, &a->map) &&
		      !uhmm_notifier_insert(a->space, (uintptr_t)a->program,
					    NR_PAGES * PAGE, &notifier_ops, a,
					    &a->notifier),
	      "no device");
}

/* The same on the CPU. */
static void compute(uint32_t *y, size_t pages, size_t rounds)
{
	size_t i;

	for (; rounds; rounds--)
		for (i = 0; i < pages * WORDS; i++)
			if (i % WORDS)
				y[i] = 3 * y[i] + 1;
}

int main(void)
{
	static struct accel a = { .mover = PTHREAD_MUTEX_INITIALIZER };
	static uint32_t own[NR_PAGES * WORDS];
	struct kernel k[2];
	uint32_t *y;
	size_t i;

	if (uhmm_space_create(NULL, &a.space))
		errx(77, "cannot create a space, see uhmm doctor");
	a.program = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(a.program != MAP_FAILED, "no memory");
	y = (uint32_t *)a.program;
	for (i = 0; i < NR_PAGES * WORDS; i++)
		y[i] = own[i] = (uint32_t)i;
	open_device(&a);
	for (i = 0; i < NR_CHUNKS; i++)
		migrate_in(&a, i); /* what there is room for, ahead of its use */
	for (i = 0; i < 2; i++) {
		k[i] = (struct kernel){ &a, y + i * HALF * WORDS, .pages = 8 * HALF };
		check(!pthread_create(&k[i].engine, NULL, run, &k[i]), "no thread");
	}
	for (i = 0; pthread_tryjoin_np(k[0].engine, NULL); i = (i + 389) % NR_PAGES) {
		y[i * WORDS]++;
		own[i * WORDS]++;
		usleep(20); /* works elsewhere */
	}
	pthread_join(k[1].engine, NULL);
	printf("%.0f ms of CPU time: %zu pages migrated, %zu device faults, "
	       "%zu evictions\n",
	       (double)clock() * 1e3 / CLOCKS_PER_SEC, a.migrated, a.faults, a.evictions);
	compute(own, NR_PAGES, 8);
	check(!k[0].error && !k[1].error && !memcmp(own, y, sizeof(own)), "y is wrong");

	/* Half of that goes, while the engine works on it: a fault that nobody mends. */
	k[1].pages = SIZE_MAX;
	check(!pthread_create(&k[1].engine, NULL, run, &k[1]), "no thread");
	usleep(10000);
	munmap(k[1].y + HALF / 2 * WORDS, HALF / 2 * PAGE);
	pthread_join(k[1].engine, NULL);
	printf("unmapped; after %zu pages: %s\n", k[1].done, strerror(-k[1].error));
	check(k[1].error == -EFAULT && k[1].done % HALF >= HALF / 2, "no device fault");
	compute(own + HALF * WORDS, HALF / 2, k[1].done / HALF + 1);
	check(!memcmp(own, y, sizeof(own) / 4 * 3), "y is wrong in the end");

	check(!uhmm_pagemap_unregister(a.map), "pages are left");
	uhmm_notifier_remove(a.notifier);
	return uhmm_space_destroy(a.space) ? 1 : 0;
}

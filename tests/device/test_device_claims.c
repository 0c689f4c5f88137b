/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is what a device says about itself true? Its memory, its statistics, its flags, and
 * that it notices when what it keeps was changed.
 */
#define _GNU_SOURCE
#include "tests/device/subject.h"

#include "lib/host.h"

DEVICE_TEST(does_not_grow)
{
	struct uhmm_device *dev = open_spec(subject()->spec);
	const uint32_t nr = 6007; /* prime */
	bool keeps = device_flags(dev) & UHMM_DRIVER_MEMORY;
	struct page *pages = pages_of_all_kinds(nr, 5);
	struct uhmm_device_stat first = { 0 }, full, empty;
	struct buffers b;
	uint32_t round;

	buffers_init(&b);
	for (round = 0; round < 8; round++) {
		each_batch(dev, &b, pages, nr, 1, UHMM_BATCH_MAX, store_all);
		full = stat_of(dev);
		if (round == 0)
			first = full;
		CHECK_EQ(full.pages, nr);
		CHECK_EQ(full.bytes_stored, first.bytes_stored);
		/* A few pages more for other CPUs than the first time. */
		CHECK_LE(full.bytes_resident,
			 first.bytes_resident + (UINT64_C(256) << 10));
		each_batch(dev, &b, pages, nr, 1999 - round, 9, forget_all);
		empty = stat_of(dev);
		CHECK_EQ(empty.pages, 0);
		CHECK_EQ(empty.bytes_stored, 0);
		CHECK_EQ(empty.bytes_in, 0);
		CHECK_EQ(empty.pages_same + empty.pages_raw, 0);
		/* Memory comes back, tables may stay: of what is elsewhere it is all. */
		CHECK_LT(empty.bytes_resident,
			 (keeps ? first.bytes_resident : nr * (uint64_t)PAGE) / 8);
	}
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

DEVICE_TEST(closing_gives_everything_back)
{
	struct host_stat before, after;
	uint32_t round;

	host_stat(&before);
	for (round = 0; round < 4; round++) {
		struct uhmm_device *dev = open_spec(subject()->spec);
		struct page *pages = pages_of_all_kinds(NR_PAGES, round);
		struct buffers b;

		buffers_init(&b);
		each_batch(dev, &b, pages, NR_PAGES, 1, UHMM_BATCH_MAX, store_all);
		device_close(dev);
		free(pages);
		buffers_fini(&b);
		host_stat(&after);
		CHECK_EQ(after.bytes_mapped, before.bytes_mapped);
		CHECK_EQ(after.runs, before.runs);
		CHECK(host_is_valid());
	}
}

/* ---- corruption ---------------------------------------------------------------- */

#define NEEDLE 64
#define COPIES_MAX 16

struct search {
	uint8_t needle[NEEDLE];
	uint8_t *copy[COPIES_MAX];
	unsigned nr;
};

static void look(void *ctx, void *addr, size_t size_bytes)
{
	struct search *s = ctx;
	uint8_t *at = addr, *end = at + size_bytes;

	while ((at = memmem(at, (size_t)(end - at), s->needle, NEEDLE))) {
		CHECK_LT(s->nr, COPIES_MAX);
		s->copy[s->nr++] = at++;
	}
}

static void flip(const struct search *s, unsigned bit)
{
	unsigned i;

	for (i = 0; i < s->nr; i++)
		s->copy[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
}

/*
 * Stores a page of text but for random bytes, which it must have somewhere as they are.
 * Flips bits in every copy of them: one is the page's, others are left from compressing.
 */
static void corrupted_page(struct uhmm_device *dev, uint32_t random_at,
			   uint32_t random_len)
{
	static uint8_t buf[PAGE] __attribute__((aligned(4096)));
	static uint8_t back[PAGE] __attribute__((aligned(4096)));
	uint64_t failures = stat_of(dev).load_failures;
	struct search s = { .nr = 0 };
	struct uhmm_io io = { .buf = buf, .len = PAGE };
	unsigned bit;

	content_fill(back, CONTENT_RANDOM, random_at + 77);
	content_fill(buf, CONTENT_TEXT, 1);
	memcpy(buf + random_at, back, random_len);
	memcpy(s.needle, back + random_len / 2 - NEEDLE / 2, NEEDLE);
	CHECK_EQ(device_run(dev, UHMM_OP_STORE, &io, 1), 0);
	host_for_each(look, &s);
	if (device_flags(dev) & UHMM_DRIVER_SECRET) {
		CHECK_EQ(s.nr, 0);
		CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io, 1), 0);
		return;
	}
	CHECK_GE(s.nr, 1);
	io.buf = back;
	for (bit = 0; bit < NEEDLE * 8; bit += 37) {
		flip(&s, bit);
		CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io, 1), 1);
		CHECK_EQ(io.result, -EIO);
		failures++;
		flip(&s, bit);
		CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io, 1), 0);
		CHECK_MEM(back, buf, PAGE);
	}
	CHECK_EQ(stat_of(dev).load_failures, failures);
	/* A lost page can still be forgotten. */
	flip(&s, 0);
	CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io, 1), 0);
}

DEVICE_TEST(corruption_is_noticed)
{
	const char *layer = strchr(subject()->spec, '+');
	struct uhmm_device *dev;

	/* What two layers make of a page does not look like it any more. */
	if (layer && strchr(layer + 1, '+'))
		SKIP("each of its layers is asked alone");
	dev = open_spec(subject()->spec);
	if (!(device_flags(dev) & UHMM_DRIVER_MEMORY))
		SKIP("it keeps no pages in memory");
	corrupted_page(dev, 0, PAGE);    /* kept as it is by most */
	corrupted_page(dev, 1000, 1024); /* kept compressed by some */
	CHECK_EQ(stat_of(dev).pages, 0);
	device_close(dev);
}

/* ---- statistics, reclaim safety ------------------------------------------------ */

DEVICE_TEST(statistics_add_up)
{
	struct uhmm_device *dev = open_spec(subject()->spec);
	struct page *pages = pages_of_all_kinds(NR_PAGES, 9), *batch[1];
	struct uhmm_device_stat s = stat_of(dev),
				small = { .size = 2 * sizeof(uint64_t) };
	struct buffers b;
	uint32_t i;

	buffers_init(&b);
	CHECK_EQ(s.pages + s.pages_same + s.pages_raw + s.bytes_in + s.bytes_stored, 0);
	CHECK_EQ(s.stores + s.loads + s.frees + s.store_failures + s.load_failures, 0);
	each_batch(dev, &b, pages, NR_PAGES, 1, 8, store_all);
	each_batch(dev, &b, pages, NR_PAGES, 1, 5, load);
	each_batch(dev, &b, pages, NR_PAGES, 1, 64, load);
	for (i = 0; i < NR_PAGES; i += 2) {
		batch[0] = &pages[i];
		forget(dev, batch, 1);
	}
	s = stat_of(dev);
	CHECK_EQ(s.stores, NR_PAGES);
	CHECK_EQ(s.loads, 2 * NR_PAGES);
	CHECK_EQ(s.frees, (NR_PAGES + 1) / 2);
	CHECK_EQ(s.pages, s.stores - s.frees);
	CHECK_EQ(s.bytes_in, s.pages * PAGE);
	CHECK_LE(s.pages_same + s.pages_raw, s.pages);
	CHECK_LE(s.bytes_stored, s.bytes_in + s.pages * 64);
	CHECK_LE(s.bytes_metadata, s.bytes_resident);
	if (device_flags(dev) & UHMM_DRIVER_MEMORY)
		CHECK_GE(s.bytes_resident, s.bytes_stored);
	CHECK_EQ(s.store_failures + s.load_failures, 0);
	/* A caller with an older, smaller struct gets what fits. */
	small.pages_same = 12345;
	device_stat(dev, &small);
	CHECK_EQ(small.pages, s.pages);
	CHECK_EQ(small.pages_same, 12345);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

DEVICE_TEST(declares_itself)
{
	const struct uhmm_driver *driver = subject()->driver, *d = NULL;
	const char *c;
	bool listed = false;

	while ((d = device_driver_next(d)))
		listed |= d == driver;
	CHECK(listed);
	CHECK(driver->name[0] >= 'a' && driver->name[0] <= 'z');
	for (c = driver->name; *c; c++)
		CHECK((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9'));
	CHECK(driver->summary && !strchr(driver->summary, '\n'));
	CHECK(driver->batch >= 1 && driver->batch <= UHMM_BATCH_MAX);
	CHECK_LE(driver->thread_model, UHMM_THREAD_PARALLEL);
	CHECK(driver->open && driver->close && driver->submit);
}

/* malloc and free of this program; device functions must not come here. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define WATCH_MALLOC
#endif
#else
#define WATCH_MALLOC
#endif
#endif

#ifdef WATCH_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static bool watching;
static unsigned mallocs;

static void seen(void)
{
	if (__atomic_load_n(&watching, __ATOMIC_RELAXED))
		__atomic_fetch_add(&mallocs, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
	seen();
	return __libc_malloc(size);
}

void *calloc(size_t nr, size_t size)
{
	seen();
	return __libc_calloc(nr, size);
}

void *realloc(void *p, size_t size)
{
	seen();
	return __libc_realloc(p, size);
}

void free(void *p)
{
	seen();
	__libc_free(p);
}
#endif

DEVICE_TEST(is_reclaim_safe)
{
#ifdef WATCH_MALLOC
	struct uhmm_device *dev = open_spec(subject()->spec);
	struct page *pages = pages_of_all_kinds(NR_PAGES, 11);
	void *volatile one; /* or the compiler leaves it out */
	struct buffers b;

	if (!(device_flags(dev) & UHMM_DRIVER_RECLAIM_SAFE))
		SKIP("it does not claim to be");
	buffers_init(&b);
	/* The watch itself works. */
	watching = true;
	one = malloc(1);
	free(one);
	CHECK_EQ(mallocs, 2);
	mallocs = 0;
	each_batch(dev, &b, pages, NR_PAGES, 1, 8, store_all);
	each_batch(dev, &b, pages, NR_PAGES, 997, 64, load);
	each_batch(dev, &b, pages, NR_PAGES, 13, 3, forget_all);
	stat_of(dev);
	watching = false;
	CHECK_EQ(mallocs, 0);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
#else
	SKIP("malloc belongs to the sanitizer here");
#endif
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subjects, and batches of pages for them: see subject.h.
 */
#define _GNU_SOURCE
#include "tests/device/subject.h"

#include "tests/device/folder.h"

/* Drivers times what they are put on; a layer has two subjects. */
#define SUBJECTS_MAX 64

const struct subject *subject(void)
{
	return test_arg();
}

struct uhmm_device *open_spec(const char *spec)
{
	char error[DEVICE_ERROR_MAX] = "";
	struct uhmm_device *dev = NULL;

	CHECK(device_open(spec, &dev, error, sizeof(error)) == 0, "%.400s", error);
	return dev;
}

/* ---- pages --------------------------------------------------------------------- */

void buffers_init(struct buffers *b)
{
	b->data = aligned_alloc(PAGE, UHMM_BATCH_MAX * PAGE);
	CHECK(b->data != NULL);
}

void buffers_fini(struct buffers *b)
{
	free(b->data);
}

uint32_t store(struct uhmm_device *dev, struct buffers *b, struct page **pages,
	       uint32_t nr)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	uint32_t i, failed;

	for (i = 0; i < nr; i++) {
		content_fill(b->data[i], pages[i]->kind, pages[i]->seed);
		io[i] = (struct uhmm_io){
			.page = UINT64_MAX, .buf = b->data[i], .len = PAGE, .result = 99
		};
	}
	failed = device_run(dev, UHMM_OP_STORE, io, nr);
	for (i = 0; i < nr; i++) {
		content_fill(b->expected, pages[i]->kind, pages[i]->seed);
		check_page(b->data[i], b->expected); /* only read */
		CHECK(io[i].result == 0 || io[i].result == -ENOSPC, "%d", io[i].result);
		CHECK(io[i].result || io[i].page < UHMM_DEVICE_PAGE_LIMIT);
		pages[i]->stored = io[i].result == 0;
		pages[i]->number = io[i].page;
	}
	return failed;
}

void load(struct uhmm_device *dev, struct buffers *b, struct page **pages, uint32_t nr)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		memset(b->data[i], 0xcc, PAGE);
		io[i] = (struct uhmm_io){ .page = pages[i]->number,
					  .buf = b->data[i],
					  .len = PAGE,
					  .result = 99 };
	}
	CHECK_EQ(device_run(dev, UHMM_OP_LOAD, io, nr), 0);
	for (i = 0; i < nr; i++) {
		content_fill(b->expected, pages[i]->kind, pages[i]->seed);
		check_page(b->data[i], b->expected);
	}
}

void forget(struct uhmm_device *dev, struct page **pages, uint32_t nr)
{
	struct uhmm_io io[UHMM_BATCH_MAX];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		io[i] = (struct uhmm_io){ .page = pages[i]->number, .result = 99 };
		pages[i]->stored = false;
	}
	CHECK_EQ(device_run(dev, UHMM_OP_FREE, io, nr), 0);
}

void store_all(struct uhmm_device *dev, struct buffers *b, struct page **p, uint32_t nr)
{
	CHECK_EQ(store(dev, b, p, nr), 0);
}

void forget_all(struct uhmm_device *dev, struct buffers *b, struct page **p, uint32_t nr)
{
	(void)b;
	forget(dev, p, nr);
}

void each_batch(struct uhmm_device *dev, struct buffers *b, struct page *pages,
		uint32_t nr, uint32_t stride, uint32_t size, batch_fn fn)
{
	struct page *batch[UHMM_BATCH_MAX];
	uint32_t i, n = 0;

	for (i = 0; i < nr; i++) {
		batch[n++] = &pages[(uint64_t)i * stride % nr];
		if (n == size || i + 1 == nr) {
			fn(dev, b, batch, n);
			n = 0;
		}
	}
}

struct uhmm_device_stat stat_of(struct uhmm_device *dev)
{
	struct uhmm_device_stat stat = { .size = sizeof(stat) };

	device_stat(dev, &stat);
	CHECK_EQ(stat.size, sizeof(stat));
	return stat;
}

struct page *pages_of_all_kinds(uint32_t nr, uint64_t seed)
{
	struct page *pages = calloc(nr, sizeof(*pages));
	uint32_t i;

	CHECK(pages != NULL);
	for (i = 0; i < nr; i++)
		pages[i] = (struct page){ .kind = i, .seed = content_mix(seed + i) };
	return pages;
}

void check_page(const void *page, const void *expected)
{
	if (memcmp(page, expected, PAGE))
		CHECK_MEM(page, expected, PAGE);
}

/* ---- registration -------------------------------------------------------------- */

static struct device_case *cases, **last_case = &cases;

void device_case_add(struct device_case *c)
{
	*last_case = c;
	last_case = &c->next;
}

/* With what it cannot do without: where to, for one that writes a file. */
static void spec_add(char *spec, size_t size, const struct uhmm_driver *driver)
{
	const struct uhmm_option *o;
	size_t len = strlen(spec);

	len += (size_t)snprintf(spec + len, size - len, "%s%s", len ? "+" : "",
				driver->name);
	for (o = driver->options; o && o->name; o++)
		if (!strcmp(o->name, "to") && !o->fallback)
			snprintf(spec + len, size - len, ":to=%s/%s", folder(),
				 driver->name);
		else if (!strcmp(o->name, "path")) /* on a disk, which /tmp need not be */
			snprintf(spec + len, size - len, ":path=/var/tmp");
}

void subject_spec(const char *option, char *spec, size_t size)
{
	*spec = 0;
	spec_add(spec, size, subject()->driver);
	snprintf(spec + strlen(spec), size - strlen(spec), "%c%s",
		 strchr(spec, ':') ? ',' : ':', option);
}

/* below: a layer that it is put on, or NULL. */
static void subject_add(const struct uhmm_driver *driver, const struct uhmm_driver *below,
			const char *bottom)
{
	static struct subject subjects[SUBJECTS_MAX];
	static unsigned nr;
	struct subject *s = &subjects[nr++];
	struct device_case *c;

	if (nr == SUBJECTS_MAX)
		abort();
	s->driver = driver;
	spec_add(s->spec, sizeof(s->spec), driver);
	if (below)
		spec_add(s->spec, sizeof(s->spec), below);
	strcat(s->spec, bottom);
	for (c = cases; c; c = c->next) {
		struct test *test = calloc(1, sizeof(*test));
		char *name = NULL;

		if (!test ||
		    asprintf(&name, "%s%s%s%s: %s", driver->name, below ? "+" : "",
			     below ? below->name : "", bottom, c->name) < 0)
			abort();
		*test = (struct test){
			.name = name, .fn = c->fn, .arg = s, .timeout_s = 60
		};
		test_register(test);
	}
}

static bool can_be_above(const struct uhmm_driver *driver)
{
	return driver->flags & (UHMM_DRIVER_LAYER | UHMM_DRIVER_MAY_LAYER);
}

/* The next one that stands on another; behind the last one is the first. */
static const struct uhmm_driver *next_layer(const struct uhmm_driver *driver)
{
	do
		driver = device_driver_next(driver);
	while (!driver || !can_be_above(driver));
	return driver;
}

/*
 * Those whose tiers begin with this driver. Each needs as many bytes for a page in one
 * tier as in another: so what it needs for all does not depend on which is where.
 */
static void add_tiers(const struct uhmm_driver *driver)
{
	static const struct {
		const char *first, *rest;
	} tiers[] = {
		{ "crypt", "+ram:size=1M,crypt+ram" },
		{ "lz4", ":size=2M,lz4:size=8M,lz4" },
		{ "ram", ":size=1M,ram" },
		{ "ram", ":size=1M,file:/var/tmp" },
	};
	size_t i;

	for (i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++)
		if (!strcmp(driver->name, tiers[i].first))
			subject_add(driver, NULL, tiers[i].rest);
}

/* Alone, if it can be, and on others: one that keeps pages, and a layer. */
__attribute__((constructor)) static void find_drivers(void)
{
	const struct uhmm_driver *driver = NULL;

	while ((driver = device_driver_next(driver))) {
		if (!(driver->flags & UHMM_DRIVER_LAYER))
			subject_add(driver, NULL, "");
		add_tiers(driver);
		if (!can_be_above(driver))
			continue;
		subject_add(driver, NULL, "+ram");
		subject_add(driver, NULL, "+lz4");
		subject_add(driver, NULL, "+file:/var/tmp");
		subject_add(driver, next_layer(driver), "+ram");
	}
}

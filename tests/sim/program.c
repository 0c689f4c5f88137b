/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One seed of the random program: its shape, its start, its end. See program.h.
 *
 * The end looks at everything: every page is read, migrated as a whole and read again;
 * the space is destroyed, after which no page may depend on it; what the library counted
 * must add up and nothing of it may be left.
 */
#include <string.h>

#include "lib/device.h"
#include "lib/fault_internal.h"
#include "lib/host.h"
#include "lib/page.h"
#include "lib/pagemap.h"
#include "tests/sim/program.h"
#include "uhmm/uhmm.h"

static struct program program;

static void thread_main(void *arg)
{
	operations_run(arg);
}

static void check(const char *what, int r)
{
	if (r)
		sim_fail("%s: %d (%s)", what, r, strerror(-r));
}

static void make_shape(struct program *p)
{
	memset(p, 0, sizeof(*p));
	p->huge = sim_below(6) == 0;
	p->nr_pages = p->huge ? 512 + sim_below(600) :
				16 + sim_below(sim_below(4) ? 80 : 500);
	p->nr_threads = 1 + sim_below(4);
	p->nr_operations = 10 + sim_below(60) / p->nr_threads;
	p->forks = sim_below(3) ? 0 : 1 + sim_below(3);
	p->manage = sim_below(3);
	p->storm = sim_below(3) == 0;
	if (p->storm)
		p->forks = 2 + sim_below(6);
	p->calm = p->huge && !p->storm && sim_below(4);
	/* Much memory takes long where processes take turns. */
	if (p->calm && p->forks)
		p->forks = sim_below(3) == 0;
	p->nr_devices = 1 + sim_below(PROGRAM_DEVICES);
}

/* As many operations as were chosen, on a few pages. */
static void make_small_shape(struct program *p)
{
	memset(p, 0, sizeof(*p));
	p->nr_pages = 4 + sim_below(28);
	p->nr_threads = 1 + sim_below(3);
	p->nr_operations = UINT32_MAX;
	p->forks = sim_below(3);
	p->manage = sim_below(3);
	p->nr_devices = 1 + sim_below(PROGRAM_DEVICES);
}

static void start_library(struct program *p)
{
	static const char *const specs[] = { "ram",
					     "lz4",
					     "ram",
					     "lz4",
					     "delay+lz4",
					     "error+ram",
					     "error+lz4",
					     "delay+ram",
					     "error+delay+lz4",
					     "zstd",
					     "lz4+crypt+delay+lz4",
					     "file:/,size=8M",
					     "lz4+delay+file:/,size=16M",
					     "delay+file:/,size=4M",
					     "crypt+error+ram",
					     "error+ram,lz4",
					     "error+lz4,error+delay+ram,zstd" };
	const unsigned nr_specs = sizeof(specs) / sizeof(specs[0]);
	struct uhmm_stats stats = { .size = sizeof(stats) };
	unsigned i, first = sim_below(nr_specs);
	bool slow = false;
	uint64_t pages;

	check("uhmm_space_create", uhmm_space_create(NULL, &p->space));
	for (i = 0; i < p->nr_devices; i++) {
		const char *spec = specs[(first + i) % nr_specs];

		check("uhmm_device_open",
		      uhmm_device_open(p->space, spec, &p->device[i]));
		/*
		 * It is the only one: from one device to another pages go by way of
		 * memory, from where reclaim takes them back to the first one while the
		 * second one has not got them. That ends, but after a great many tries.
		 */
		slow |= !!strstr(spec, "delay");
		if (slow)
			p->nr_devices = i + 1;
	}
	if (p->calm || sim_below(2))
		driver_start(p);
	p->late_mirror = sim_below(3) == 0;
	if (!p->late_mirror && sim_below(3))
		mirror_start(p);
	check("uhmm_stats_get", uhmm_stats_get(p->space, &stats));
	p->base_bytes = stats.rss_anon_bytes;
	if (p->manage)
		check("uhmm_manage",
		      uhmm_manage(p->space, (void *)ARENA_BASE, p->nr_pages * SIM_PAGE));
	pages = p->nr_pages / 4;
	/*
	 * Below what the library itself takes it cannot be held: then everything crawls,
	 * and does not end where the device is slow too.
	 */
	if (p->storm || slow || sim_below(4))
		pages += BUDGET_OWN_PAGES;
	if (p->storm || sim_below(2))
		check("uhmm_budget_set",
		      uhmm_budget_set(p->space, p->base_bytes + pages * SIM_PAGE));
}

void read_all(struct program *p)
{
	static char buf[SIM_PAGE];
	unsigned i;

	sim_apart_begin();
	for (i = 0; i < p->nr_pages; i++)
		if (sim_prot(ARENA_BASE + i * SIM_PAGE) & SIM_READ)
			check("read", sim_read(ARENA_BASE + i * SIM_PAGE, buf, SIM_PAGE));
	sim_apart_end();
}

/* Is the page at addr on a device that things are stored on? */
static bool is_stored(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk *chunk;
	bool folio;
	entry_t *entry = find_entry(sp, addr, &chunk, &folio);
	entry_t e = entry ? entry_load(entry) : 0;

	return entry_state(e) == PAGE_DEVICE && !pagemap_at(sp, entry_device(e));
}

/* Each page that a device keeps is one that the table names. */
static void check_devices(struct uhmm_space *sp)
{
	struct uhmm_device_stat d;
	uint64_t named = 0, kept = 0;
	uintptr_t at = 0;
	unsigned i;

	for (; page_first(sp, at, UINT64_C(1) << ADDRESS_BITS, &at); at += SIM_PAGE)
		named += is_stored(sp, at);
	for (i = 1; i < SPACE_DEVICES; i++) {
		if (sp->device[i] && !pagemap_at(sp, i)) {
			d = (struct uhmm_device_stat){ .size = sizeof(d) };
			device_stat(sp->device[i], &d);
			kept += d.pages;
		}
	}
	if (named != kept)
		sim_fail("devices keep %lu pages, of which %lu are the program's", kept,
			 named);
}

static void check_stats(struct program *p)
{
	struct uhmm_stats s = { .size = sizeof(s) };

	/* Copies of pages that came back are freed after who waited for them went on. */
	sim_sleep(50000000);
	check_devices(p->space);
	check("uhmm_stats_get", uhmm_stats_get(p->space, &s));
	if (s.load_failed)
		sim_fail("%lu loads failed", s.load_failed);
	if (s.now_device > p->nr_pages || s.now_probation > p->nr_pages)
		sim_fail("%lu pages on devices and %lu in frames, of %u", s.now_device,
			 s.now_probation, p->nr_pages);
	if (s.device_bytes_in != s.now_device * SIM_PAGE)
		sim_fail("devices hold %lu bytes for %lu pages", s.device_bytes_in,
			 s.now_device);
}

static void end_library(struct program *p)
{
	struct host_stat host;
	size_t moved;

	check("uhmm_budget_set", uhmm_budget_set(p->space, 0));
	sim_sleep(2000000000); /* for the worker to come to rest */
	check_stats(p);
	read_all(p);
	check("uhmm_migrate",
	      uhmm_migrate(p->space, (void *)ARENA_BASE, p->nr_pages * SIM_PAGE,
			   p->device[0], NULL, &moved));
	check_stats(p);
	if (sim_below(2))
		read_all(p);
	if (sim_below(2))
		check("uhmm_device_close", uhmm_device_close(p->space, p->device[0]));
	if (p->driver)
		driver_end(p, sim_below(2));
	if (p->mirror)
		mirror_use(p, 0, p->nr_pages);
	if (p->mirror && sim_below(2))
		mirror_end(p, false);
	check("uhmm_space_destroy", uhmm_space_destroy(p->space));
	if (p->mirror)
		mirror_end(p, true);
	if (p->driver)
		driver_free(p);
	read_all(p);
	host_stat(&host);
	if (host.runs)
		sim_fail("%lu runs of %lu bytes were not returned", host.runs,
			 host.bytes_mapped);
	if (!host_is_valid())
		sim_fail("the library's memory is not in order");
	host_reset();
}

/* What is written to before the library has registered it is huge. */
static void make_huge(const struct program *p)
{
	char byte = 'h';
	unsigned i;

	for (i = 0; i + 512 <= p->nr_pages; i += 512)
		if (sim_below(3)) /* or a hole */
			check("write", sim_write(ARENA_BASE + i * SIM_PAGE, &byte, 1));
}

static void program_main(void *arg)
{
	struct program *p = arg;
	uint32_t tid[8];
	unsigned i;

	if (p->small)
		make_small_shape(p);
	else
		make_shape(p);
	check("mmap",
	      sim_mmap(ARENA_BASE, p->nr_pages * SIM_PAGE,
		       SIM_RW | (p->huge ? SIM_THP : 0) | (sim_below(6) ? 0 : SIM_EXEC)));
	if (p->calm)
		make_huge(p);
	start_library(p);
	/* The order of what a single thread does the library knows. */
	if (p->nr_threads == 1)
		thread_main(p);
	for (i = 0; p->nr_threads > 1 && i < p->nr_threads; i++)
		tid[i] = sim_spawn("app", thread_main, p);
	for (i = 0; p->nr_threads > 1 && i < p->nr_threads; i++)
		sim_join(tid[i]);
	end_library(p);
}

void program_run(const struct sim_config *config)
{
	program.small = config->small;
	sim_run(config, program_main, &program);
}

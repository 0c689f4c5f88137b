/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the threads of the random program do. Each function is one operation on a random
 * range; none of them knows what the others do meanwhile, so a range may be gone or
 * protected when it is touched (-EFAULT), or be in another thread's hands (-EBUSY). A
 * lost page (-EIO) is never right: no device fails here.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/program.h"
#include "uhmm/range.h"
#include "uhmm/uhmm.h"

static uintptr_t page_addr(unsigned page)
{
	return ARENA_BASE + page * SIM_PAGE;
}

struct run {
	unsigned page, nr;
	uintptr_t addr;
	size_t len;
};

/* Mostly some pages, sometimes many, sometimes all. */
static struct run random_run(const struct program *p)
{
	unsigned max = sim_below(8) ? 12 : p->nr_pages;
	struct run r = { .page = sim_below(p->nr_pages) };

	r.nr = 1 + sim_below(max);
	if (r.nr > p->nr_pages - r.page)
		r.nr = p->nr_pages - r.page;
	if (sim_below(40) == 0) {
		r.page = 0;
		r.nr = p->nr_pages;
	}
	r.addr = page_addr(r.page);
	r.len = r.nr * SIM_PAGE;
	return r;
}

/*
 * Threads do not change one another's mappings: what one has begun to change only it
 * touches until it is done. But addresses that were given up in the course of it are
 * free: anybody may map there, as the kernel would choose them for anybody.
 */
static bool free_to_change(const struct program *p, unsigned page, unsigned nr)
{
	for (; nr--; page++)
		if (p->changing[page])
			return false;
	return true;
}

static bool free_to_map(const struct program *p, unsigned page, unsigned nr)
{
	for (; nr--; page++)
		if (p->changing[page] && sim_mapped(page_addr(page)))
			return false;
	return true;
}

static void change_begin(struct program *p, unsigned page, unsigned nr)
{
	for (; nr--; page++) {
		p->generation[page]++;
		p->changing[page]++;
	}
}

static void change_end(struct program *p, unsigned page, unsigned nr)
{
	while (nr--)
		p->changing[page++]--;
}

static void expect(const char *what, int r, int a, int b)
{
	if (r != 0 && r != a && r != b)
		sim_fail("%s: %d (%s)", what, r, strerror(-r));
}

/* ---- touching -------------------------------------------------------------------- */

static void op_read(struct program *p)
{
	static char buf[SIM_PAGE];
	struct run r = random_run(p);
	bool whole = sim_below(4) == 0;
	unsigned i;

	for (i = 0; i < r.nr && i < 32; i++) {
		size_t at = whole ? 0 : sim_below(SIM_PAGE - 8);

		expect("read",
		       sim_read(r.addr + i * SIM_PAGE + at, buf, whole ? SIM_PAGE : 8),
		       -EFAULT, 0);
	}
}

/* Pages of all kinds that devices tell apart: noise, one value, text. */
static size_t make_bytes(char *buf)
{
	size_t i, len = SIM_PAGE;
	uint64_t value;

	switch (sim_below(6)) {
	case 0:
		for (i = 0; i < len; i += 8) {
			value = sim_random();
			memcpy(buf + i, &value, 8);
		}
		return len;
	case 1:
		memset(buf, (int)sim_below(256), len);
		return len;
	case 2:
		memset(buf, 0, len);
		return len;
	default:
		len = 8 + sim_below(64);
		for (i = 0; i < len; i++)
			buf[i] = (char)('a' + sim_below(4));
		return len;
	}
}

static void op_write(struct program *p)
{
	char buf[SIM_PAGE];
	struct run r = random_run(p);
	unsigned i;

	for (i = 0; i < r.nr && i < 32; i++) {
		size_t len = make_bytes(buf);
		size_t at = len < SIM_PAGE ? sim_below((uint32_t)(SIM_PAGE - len)) : 0;

		expect("write", sim_write(r.addr + i * SIM_PAGE + at, buf, len), -EFAULT,
		       -EBUSY);
	}
}

/* A transfer of a device into a page that the kernel holds on to meanwhile. */
static void op_dma(struct program *p)
{
	uintptr_t addr = page_addr(sim_below(p->nr_pages));
	uint64_t value = sim_random();
	int r = sim_pin(addr);

	expect("pin", r, -EFAULT, -EBUSY);
	if (r)
		return;
	sim_sleep(sim_below(200000));
	sim_dma(addr + 8 * sim_below(511), &value, sizeof(value));
	sim_sleep(sim_below(20000));
	sim_unpin(addr);
}

/* ---- mappings -------------------------------------------------------------------- */

static void map_run(struct program *p, struct run r)
{
	unsigned prot = SIM_RW | (p->huge && sim_below(2) ? SIM_THP : 0) |
			(sim_below(6) ? 0 : SIM_EXEC);

	if (!free_to_map(p, r.page, r.nr))
		return;
	change_begin(p, r.page, r.nr);
	expect("mmap", sim_mmap(r.addr, r.len, prot), -EBUSY, 0);
	change_end(p, r.page, r.nr);
}

static void op_unmap(struct program *p)
{
	struct run r = random_run(p);

	if (!free_to_change(p, r.page, r.nr))
		return;
	change_begin(p, r.page, r.nr);
	expect("munmap", sim_munmap(r.addr, r.len), -EBUSY, 0);
	change_end(p, r.page, r.nr);
	if (sim_below(4))
		map_run(p, r);
}

static void op_map(struct program *p)
{
	map_run(p, random_run(p));
}

/* Gives up the end of a mapping, and has it again: of the second nobody is told. */
static void regrow(struct program *p, unsigned page, unsigned nr)
{
	uintptr_t addr = page_addr(page);
	size_t less = (1 + sim_below(nr)) * SIM_PAGE;

	if (!free_to_change(p, page, nr))
		return;
	change_begin(p, page, nr);
	if (sim_mremap(addr, nr * SIM_PAGE, addr, less, false) == 0)
		sim_mremap(addr, less, addr, nr * SIM_PAGE, false);
	change_end(p, page, nr);
}

static void op_remap(struct program *p)
{
	struct run from = random_run(p), to = random_run(p);
	size_t new_len = sim_below(3) ? from.len : (1 + sim_below(from.nr)) * SIM_PAGE;
	unsigned nr = (unsigned)(new_len / SIM_PAGE);
	bool keep = new_len == from.len && sim_below(4) == 0;
	int r;

	if (sim_below(5) == 0) {
		to = from;
		new_len = (1 + sim_below(2 * from.nr)) * SIM_PAGE;
		nr = (unsigned)(new_len / SIM_PAGE);
	}
	if (to.page + nr > p->nr_pages || !free_to_change(p, from.page, from.nr) ||
	    !free_to_change(p, to.page, nr))
		return;
	change_begin(p, from.page, from.nr);
	change_begin(p, to.page, nr);
	r = sim_mremap(from.addr, from.len, to.addr, new_len, keep);
	expect("mremap", r, r == -EFAULT || r == -EINVAL || r == -ENOMEM ? r : 0, -EBUSY);
	change_end(p, from.page, from.nr);
	change_end(p, to.page, nr);
	if (sim_below(4) == 0)
		regrow(p, to.page, nr);
}

static void op_discard(struct program *p)
{
	struct run r = random_run(p);

	if (!free_to_change(p, r.page, r.nr))
		return;
	change_begin(p, r.page, r.nr);
	expect("dontneed", sim_dontneed(r.addr, r.len), -EBUSY, -ENOMEM);
	change_end(p, r.page, r.nr);
}

static void protect(struct program *p, const struct run *r, unsigned prot)
{
	expect("mprotect", sim_mprotect(r->addr, r->len, prot), 0, 0);
	if (p->mirror)
		uhmm_protection_changed(p->space, r->addr, r->addr + r->len);
}

static void op_protect(struct program *p)
{
	static const unsigned prots[] = { SIM_READ, SIM_READ, 0 };
	struct run r = random_run(p);

	protect(p, &r, prots[sim_below(3)]);
	sim_sleep(sim_below(100000));
	if (sim_below(2))
		op_read(p);
	protect(p, &r, SIM_RW | (sim_below(4) ? 0 : SIM_EXEC));
}

/* ---- fork ------------------------------------------------------------------------ */

/* The child has its memory to itself, and changes it while it is still being filled. */
static void child(void *arg)
{
	struct program *p = arg;
	unsigned n = 1 + sim_below(10);

	while (n--) {
		struct run r = random_run(p), to = random_run(p);

		switch (sim_below(8)) {
		case 0:
			expect("dontneed", sim_dontneed(r.addr, r.len), -ENOMEM, -EBUSY);
			break;
		case 1:
			expect("munmap", sim_munmap(r.addr, r.len), -EBUSY, 0);
			break;
		case 2:
			if (to.page + r.nr <= p->nr_pages)
				sim_mremap(r.addr, r.len, to.addr, r.len, false);
			break;
		case 3:
		case 4:
			op_write(p);
			break;
		default:
			op_read(p);
		}
	}
	read_all(p);
}

/* By a raw clone. */
static void op_fork(struct program *p)
{
	if (!p->forks)
		return;
	p->forks--;
	expect("fork", sim_fork(child, p), -EAGAIN, 0);
}

static void op_fork_libc(struct program *p)
{
	if (!p->forks)
		return;
	p->forks--;
	fork_libc(p);
}

/* ---- the library ----------------------------------------------------------------- */

static struct uhmm_device *any_device(const struct program *p)
{
	return p->device[sim_below(p->nr_devices)];
}

/* A huge page's worth, or two. */
static struct run huge_run(const struct program *p)
{
	unsigned nr = p->nr_pages / 512 * 512, page = sim_below(nr / 512) * 512;

	nr = sim_below(2) ? 512 : nr - page;
	return (struct run){ page, nr, page_addr(page), nr * SIM_PAGE };
}

static void migrate_run(struct program *p, struct run r, struct uhmm_device *to)
{
	uint8_t results[ARENA_PAGES];
	size_t moved = 0, i, n = 0;
	int ret;

	memset(results, 0xff, sizeof(results));
	sim_trace("> migrate", (int64_t)r.addr, (int64_t)(r.addr + r.len), to != NULL, 0);
	ret = uhmm_migrate(p->space, (void *)r.addr, r.len, to, results, &moved);
	sim_trace("< migrate", (int64_t)r.addr, (int64_t)(r.addr + r.len), to != NULL,
		  ret);
	expect("uhmm_migrate", ret, 0, 0);
	for (i = 0; i < r.nr; i++) {
		if (results[i] > UHMM_FULL)
			sim_fail("uhmm_migrate: page %u: result %u", r.page + (unsigned)i,
				 results[i]);
		n += results[i] == UHMM_MOVED;
	}
	if (n != moved)
		sim_fail("uhmm_migrate: %zu pages moved, %zu results say so", moved, n);
}

static void op_migrate(struct program *p)
{
	struct run r = p->huge && sim_below(2) ? huge_run(p) : random_run(p);

	migrate_run(p, r, sim_below(3) ? any_device(p) : NULL);
}

/* A new huge page is stored and comes back, some times. */
static void op_folio(struct program *p)
{
	struct run r;
	char byte = 'f';

	if (!p->huge)
		return;
	r = huge_run(p);
	if (!free_to_change(p, r.page, r.nr))
		return;
	change_begin(p, r.page, r.nr);
	expect("munmap", sim_munmap(r.addr, r.len), -EBUSY, 0);
	if (free_to_map(p, r.page, r.nr))
		expect("mmap", sim_mmap(r.addr, r.len, SIM_RW | SIM_THP), -EBUSY, 0);
	change_end(p, r.page, r.nr);
	expect("write", sim_write(r.addr, &byte, 1), -EFAULT, -EBUSY);
	do
		migrate_run(p, r, sim_below(2) ? any_device(p) : NULL);
	while (sim_below(6));
}

static void op_driver(struct program *p)
{
	struct run r = p->huge && sim_below(4) ? huge_run(p) : random_run(p);

	/* There and back: what it has just moved it may want to move again. */
	while (p->driver && sim_below(4))
		driver_migrate(p, r.addr, r.nr);
	if (p->driver && sim_below(6) == 0)
		driver_evict(p);
}

/* Some of it is the device's, some is memory; and the program goes on with it. */
static void op_mirror(struct program *p)
{
	struct run r = random_run(p);
	unsigned i, nr = 1 + sim_below(4);
	char byte;

	if (p->late_mirror && !p->forking) {
		p->late_mirror = false;
		p->mirror_starting++;
		mirror_start(p);
		p->mirror_starting--;
	}
	if (p->mirror && p->driver && sim_below(2))
		driver_migrate(p, r.addr, r.nr);
	for (i = 0; p->mirror && i < nr; i++) {
		if (sim_below(3))
			mirror_map(p, r.page, r.nr);
		else
			mirror_exclusive(p, r.page);
		if (sim_below(2))
			sim_read(r.addr + sim_below(r.nr) * SIM_PAGE, &byte, 1);
		if (sim_below(3) == 0)
			sim_sleep(sim_below(50000));
		mirror_use(p, r.page, r.nr);
	}
}

static int advise(struct program *p, const struct run *r, enum uhmm_advice advice)
{
	int ret;

	sim_trace("> advise", (int64_t)r->addr, (int64_t)(r->addr + r->len), advice, 0);
	ret = uhmm_advise(p->space, (void *)r->addr, r->len, advice);
	sim_trace("< advise", (int64_t)r->addr, (int64_t)(r->addr + r->len), advice, ret);
	return ret;
}

static void op_advise(struct program *p)
{
	struct run r = random_run(p);
	bool cold = sim_below(2);

	expect("uhmm_advise",
	       advise(p, &r, cold ? UHMM_ADVISE_COLD : UHMM_ADVISE_WILLNEED), 0, 0);
}

static bool all_zeros(const char *bytes)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, SIM_PAGE - 1);
}

/*
 * A pinned page stays, as long as nobody changes its mapping. Where somebody did, the
 * pin may be gone or have moved along: it is not undone, because that might be
 * another's.
 */
static void op_pin(struct program *p)
{
	struct run r = random_run(p), one = { .nr = 1, .len = SIM_PAGE };
	uint32_t before[ARENA_PAGES], late[ARENA_PAGES];
	bool taken;
	unsigned i;
	int ret;

	for (i = r.page; i < r.page + r.nr; i++) {
		before[i] = p->generation[i] - (p->changing[i] != 0);
		late[i] = p->unpinned_late[i];
	}
	ret = advise(p, &r, UHMM_ADVISE_PIN);
	expect("uhmm_advise(PIN)", ret, p->driver ? -EBUSY : 0, 0);
	if (ret)
		return; /* a migration has one of them */
	sim_sleep(sim_below(400000));
	for (i = r.page; i < r.page + r.nr; i++) {
		one.addr = page_addr(i);
		if (before[i] != p->generation[i])
			continue;
		/* One under way may be of a mapping that has gone, and take ours. */
		taken = late[i] != p->unpinned_late[i] || p->unpinning[i];
		if (!taken && !sim_present(one.addr) && !sim_unsettled(one.addr) &&
		    !all_zeros(sim_shadow(one.addr)))
			sim_fail("page %u is pinned and not there", i);
		p->unpinning[i]++;
		ret = advise(p, &one, UHMM_ADVISE_UNPIN);
		p->unpinning[i]--;
		if (before[i] == p->generation[i])
			expect("uhmm_advise(UNPIN)", ret, taken ? -EINVAL : 0, 0);
		else
			p->unpinned_late[i]++;
	}
}

static void op_budget(struct program *p)
{
	uint64_t pages = BUDGET_OWN_PAGES + p->nr_pages / 8 + sim_below(p->nr_pages);

	if (sim_below(4) == 0)
		expect("uhmm_budget_set", uhmm_budget_set(p->space, 0), 0, 0);
	else
		expect("uhmm_budget_set",
		       uhmm_budget_set(p->space, p->base_bytes + pages * SIM_PAGE), 0, 0);
}

static void op_stats(struct program *p)
{
	struct uhmm_stats stats = { .size = sizeof(stats) };

	expect("uhmm_stats_get", uhmm_stats_get(p->space, &stats), 0, 0);
}

static void op_sleep(struct program *p)
{
	(void)p;
	sim_sleep(sim_below(3000000));
}

/* ---- choosing -------------------------------------------------------------------- */

#define APART 7     /* the first so many do not use the library */
#define UNKNOWING 6 /* and are what a program without one does */

static const struct {
	const char *name;
	void (*fn)(struct program *p);
	unsigned weight, storm, calm;
} operations[] = {
	{ "read", op_read, 26, 15, 26 },     { "write", op_write, 26, 15, 26 },
	{ "dma", op_dma, 3, 1, 1 },          { "unmap", op_unmap, 4, 10, 1 },
	{ "map", op_map, 2, 5, 0 },          { "remap", op_remap, 5, 15, 1 },
	{ "discard", op_discard, 6, 8, 2 },  { "protect", op_protect, 3, 1, 0 },
	{ "fork", op_fork, 1, 5, 1 },        { "migrate", op_migrate, 12, 12, 3 },
	{ "advise", op_advise, 4, 4, 1 },    { "pin", op_pin, 3, 1, 1 },
	{ "budget", op_budget, 2, 1, 1 },    { "stats", op_stats, 1, 0, 1 },
	{ "sleep", op_sleep, 2, 2, 2 },      { "fork_libc", op_fork_libc, 1, 6, 1 },
	{ "driver", op_driver, 10, 10, 30 }, { "mirror", op_mirror, 10, 8, 15 },
	{ "folio", op_folio, 6, 6, 15 },
};

static unsigned weight_of(const struct program *p, unsigned i)
{
	if (p->calm)
		return operations[i].calm;
	return p->storm ? operations[i].storm : operations[i].weight;
}

static unsigned choose(const struct program *p)
{
	unsigned i, total = 0, at, nr = sizeof(operations) / sizeof(operations[0]);

	if (p->no_library)
		nr = UNKNOWING;
	for (i = 0; i < nr; i++)
		total += weight_of(p, i);
	at = sim_below(total);
	for (i = 0;; i++) {
		unsigned weight = weight_of(p, i);

		if (at < weight)
			return i;
		at -= weight;
	}
}

static void operation(struct program *p, unsigned op)
{
	if (op < APART) {
		operations[op].fn(p);
		return;
	}
	sim_apart_end();
	operations[op].fn(p);
	sim_apart_begin();
}

void operations_run(struct program *p)
{
	uint64_t salt = sim_random();
	unsigned i, op;

	sim_apart_begin();
	for (i = 0; i < p->nr_operations; i++) {
		if (!sim_operation(salt + i))
			break;
		salt = sim_random();
		op = choose(p);
		if (!shrink_wants((uint32_t)(salt >> 32), operations[op].name))
			continue;
		sim_trace(operations[op].name, 0, 0, 0, 0);
		operation(p, op);
	}
	sim_apart_end();
	sim_stream(salt);
}

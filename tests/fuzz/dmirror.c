/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of /dev/hmm_dmirror, with any command and any argument, by a program on the
 * simulated machine that changes its memory in between. See dmirror_sim.c.
 *
 * Whatever a pointer is, the answer is an error or what was asked for. What a device says
 * that it has read is compared with what the program has there; what it says that it has
 * written, the program has to find.
 *
 * First what sim.h says of the world; then a byte for each operation, and what it asks
 * for.
 */
#include <errno.h>
#include <string.h>

#include "compat/dmirror/mirror.h"
#include "compat/dmirror/process.h"
#include "lib/host.h"
#include "tests/fuzz/dmirror_sim.h"
#include "tests/fuzz/sim.h"
#include "uhmm/uhmm.h"

/* Of the arena, without and with huge pages; the last ones stay as they are. */
#define PAGES 40u
#define PAGES_HUGE 1064u
#define PAGES_OWN 8u
#define FILES 4u
#define OPERATIONS_MAX 128u
#define STEPS_MAX 4000000u

static struct {
	struct fuzz_bytes in;
	bool huge;
	unsigned nr_pages;
	struct uhmm_space *space;
	struct uhmm_device *ram;
	struct mirror *file[FILES];
} model;

uint64_t (*const fuzz_digest)(void) = sim_digest;

/* ---- choices ---------------------------------------------------------------------- */

static uint8_t byte(void)
{
	return fuzz_byte(&model.in);
}

static uintptr_t page_addr(unsigned page)
{
	return ARENA_BASE + page * SIM_PAGE;
}

static uintptr_t any_page(void)
{
	unsigned at = model.huge ? (unsigned)fuzz_number(&model.in, 2) : byte();

	return page_addr(at % model.nr_pages);
}

struct run {
	uintptr_t addr;
	size_t len;
};

/* Of the part that changes, which is not where arguments are. */
static struct run any_run(void)
{
	unsigned nr_pages = model.nr_pages - PAGES_OWN, page, nr = byte();

	page = (unsigned)((any_page() - ARENA_BASE) / SIM_PAGE) % nr_pages;
	nr = nr == 0xff ? nr_pages : 1 + nr % 12;
	nr = nr < nr_pages - page ? nr : nr_pages - page;
	return (struct run){ page_addr(page), nr * SIM_PAGE };
}

/* ---- what the program does -------------------------------------------------------- */

static void touch(bool write)
{
	uintptr_t addr = any_page() + fuzz_number(&model.in, 2) % (SIM_PAGE - 8);
	uint64_t value = fuzz_number(&model.in, write ? 2 : 0);
	int r = write ? sim_write(addr, &value, 8) : sim_read(addr, &value, 8);

	if (r && r != -EFAULT)
		sim_fail("touched: %d (%s)", r, strerror(-r));
}

static void change(unsigned how)
{
	static const unsigned prots[] = { 0, SIM_READ, SIM_RW, SIM_RW };
	struct run a = any_run(), b = any_run();
	int r;

	switch (how) {
	case 0:
		r = sim_mmap(a.addr, a.len, SIM_RW | (model.huge ? SIM_THP : 0));
		break;
	case 1:
		r = sim_munmap(a.addr, a.len);
		break;
	case 2:
		r = sim_mprotect(a.addr, a.len, prots[byte() % 4]);
		break;
	case 3:
		r = sim_dontneed(a.addr, a.len);
		break;
	default:
		b.len = b.len < a.len ? b.len : a.len;
		r = sim_mremap(a.addr, a.len, b.addr, b.len, false);
		process_mappings_changed(b.addr, b.len);
	}
	process_mappings_changed(a.addr, a.len);
	if (r && r != -EBUSY && r != -ENOMEM && r != -EFAULT && r != -EINVAL)
		sim_fail("changed: %d (%s)", r, strerror(-r));
}

static void migrate(bool back)
{
	struct run a = any_run();
	size_t moved;
	int r = uhmm_migrate(model.space, (void *)a.addr, a.len, back ? NULL : model.ram,
			     NULL, &moved);

	if (r)
		sim_fail("uhmm_migrate: %d (%s)", r, strerror(-r));
}

static void open_file(unsigned i, unsigned number)
{
	int r;

	if (model.file[i])
		return;
	r = mirror_open(number % DMIRROR_DEVICES, &model.file[i]);
	if (r)
		sim_fail("device %u is not opened: %d", number % DMIRROR_DEVICES, r);
}

static void close_file(unsigned i)
{
	if (model.file[i])
		mirror_release(model.file[i]);
	model.file[i] = NULL;
}

/* ---- calls ------------------------------------------------------------------------ */

struct call {
	unsigned request;
	uintptr_t arg;
	struct dmirror_cmd cmd;
	bool readable; /* arg */
	/* What the program has at cmd.ptr, as much as it is asked for; or NULL. */
	char *source;
};

enum {
	ANY_REQUEST = 1,
	ANY_ADDR = 2,
	ANY_NPAGES = 4,
	ANY_PTR = 8,
	ANY_ARG = 16,
	ARG_IN_ARENA = 32, /* where its page may be anything */
};

static bool may(uintptr_t addr, size_t len, unsigned prot)
{
	uintptr_t page = addr & ~(SIM_PAGE - 1);

	/* What ends behind the last address is nowhere. */
	if (addr + len < addr)
		return false;
	for (; page < addr + len; page += SIM_PAGE)
		if (page - ARENA_BASE >= ARENA_PAGES * SIM_PAGE ||
		    (sim_prot(page) & prot) != prot)
			return false;
	return true;
}

/* Where a program's own variables may be. */
static uintptr_t any_pointer(bool whatever)
{
	if (whatever)
		return fuzz_number(&model.in, 8);
	return any_page() + 16 * byte() % SIM_PAGE;
}

static struct call any_call(void)
{
	unsigned any = byte();
	struct call c = { .request = DMIRROR_CALL(byte() % DMIRROR_NR_CALLS) };

	if (any & ANY_REQUEST)
		c.request = (unsigned)fuzz_number(&model.in, 4);
	c.cmd.addr = any & ANY_ADDR ? fuzz_number(&model.in, 8) : any_page();
	c.cmd.npages = any & ANY_NPAGES ? fuzz_number(&model.in, 8) : 1u + byte() % 16u;
	if (model.huge && !(any & ANY_NPAGES) && c.cmd.npages == 16)
		c.cmd.npages = 512;
	c.cmd.ptr = any_pointer(any & ANY_PTR);
	if (any & (ANY_ARG | ARG_IN_ARENA))
		c.arg = any_pointer(any & ANY_ARG);
	else
		c.arg = page_addr(model.nr_pages - 1) + 16 * (byte() % 250);
	if (!(any & ANY_ARG) || byte() % 2)
		dmirror_sim_write(c.arg, &c.cmd, sizeof(c.cmd));
	c.readable = may(c.arg, sizeof(c.cmd), SIM_READ);
	/* As it is there: it need not have been written. */
	if (!c.readable || dmirror_sim_read(&c.cmd, c.arg, sizeof(c.cmd)))
		c.cmd = (struct dmirror_cmd){ 0 };
	/* What more there is of it is of bytes that nobody can count. */
	c.cmd.npages &= UINT64_MAX >> PAGE_SHIFT;
	return c;
}

/* Of the arena, as the oracle has it; NULL: not all of it is in the arena. */
static const char *shadow(uintptr_t addr, uint64_t npages)
{
	size_t at = addr - ARENA_BASE, size = ARENA_PAGES * SIM_PAGE;

	if (at >= size || npages > ARENA_PAGES || npages * SIM_PAGE > size - at)
		return NULL;
	return (const char *)sim_shadow(addr & ~(SIM_PAGE - 1)) + addr % SIM_PAGE;
}

static bool overlap(uintptr_t a, size_t a_len, uintptr_t b, size_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* What the device has read is at ptr now. */
static void check_read(const struct call *c)
{
	size_t len = c->cmd.npages * SIM_PAGE;
	const char *from = shadow(c->cmd.addr, c->cmd.npages);
	const char *to = shadow(c->cmd.ptr, c->cmd.npages);

	if (!from || !to)
		sim_fail("there is no such memory, and the device has read it");
	if (overlap(c->cmd.addr, len, c->cmd.ptr, len) ||
	    overlap(c->arg, sizeof(c->cmd), c->cmd.addr, len) ||
	    overlap(c->arg, sizeof(c->cmd), c->cmd.ptr, len))
		return;
	if (memcmp(from, to, len))
		sim_fail("the device has read something else");
}

/* Those pages of a private device that it has written only the device knows of. */
static void note_written(const struct call *c)
{
	uint64_t i, nr = dmirror_sim_last.cpages;
	char bytes[SIM_PAGE]; /* of the device, which has them already */

	if (nr > c->cmd.npages || (nr && (!shadow(c->cmd.addr, nr) || !c->source)))
		sim_fail("%lu pages are said to have been written", nr);
	for (i = 0; i < nr; i++) {
		uintptr_t addr = c->cmd.addr + i * SIM_PAGE;

		/* The answer has been written since. */
		if (overlap(addr, SIM_PAGE, c->arg, sizeof(c->cmd)))
			continue;
		sim_device_write(addr, bytes, 0, c->source + i * SIM_PAGE, SIM_PAGE);
	}
}

static void check_answer(const struct call *c, int r)
{
	bool known = c->request == DMIRROR_CALL(_IOC_NR(c->request)) &&
		     _IOC_NR(c->request) < DMIRROR_NR_CALLS;

	if (!c->readable && r != -EFAULT)
		sim_fail("an argument that cannot be read: %d", r);
	if (c->readable && !known && r != -EINVAL)
		sim_fail("request 0x%x: %d", c->request, r);
	if (!r && !may(c->arg, sizeof(c->cmd), SIM_WRITE))
		sim_fail("an answer that cannot be written: %d", r);
	if (r && r != -EINVAL && r != -EFAULT && r != -EBUSY && r != -ENOMEM &&
	    r != -EPERM && r != -ENOENT && r != -EAGAIN && r != -EOPNOTSUPP)
		sim_fail("a call: %d (%s)", r, strerror(-r));
}

static void call(unsigned i)
{
	struct call c = any_call();
	const char *source = shadow(c.cmd.ptr, c.cmd.npages);
	int r;

	if (!model.file[i])
		return;
	if (c.request == DMIRROR_CALL(DMIRROR_WRITE) && source) {
		c.source = malloc(c.cmd.npages * SIM_PAGE + 1);
		memcpy(c.source, source, c.cmd.npages * SIM_PAGE);
	}
	dmirror_sim_last = (struct dmirror_cmd){ 0 };
	r = mirror_ioctl(model.file[i], c.request, c.arg);
	check_answer(&c, r);
	if (c.request == DMIRROR_CALL(DMIRROR_WRITE))
		note_written(&c);
	if (!r && (c.request == DMIRROR_CALL(DMIRROR_READ) ||
		   c.request == DMIRROR_CALL(DMIRROR_EXCLUSIVE) ||
		   c.request == DMIRROR_CALL(DMIRROR_MIGRATE_TO_DEV)))
		check_read(&c);
	free(c.source);
}

/* ---- an input --------------------------------------------------------------------- */

static void operation(void)
{
	unsigned op = byte();

	switch (op % 16) {
	case 0:
	case 1:
		touch(op % 16);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
		change(op % 16 - 2);
		break;
	case 7:
		migrate(op & 0x80);
		break;
	case 8:
		open_file(op / 16 % FILES, op / 64);
		break;
	case 9:
		if (op & 0x80)
			close_file(op / 16 % FILES);
		else if (op & 0x40)
			dmirror_sim_forked();
		break;
	default:
		call(op / 16 % FILES);
	}
}

static void begin(void)
{
	int r = uhmm_space_create(NULL, &model.space);

	if (!r)
		r = uhmm_device_open(model.space, "ram", &model.ram);
	if (r)
		sim_fail("there is no space: %d", r);
	dmirror_sim_begin(model.space);
	open_file(0, byte());
	r = sim_mmap(ARENA_BASE, model.nr_pages * SIM_PAGE,
		     SIM_RW | (model.huge ? SIM_THP : 0));
	if (r)
		sim_fail("mmap: %d", r);
}

static void end(void)
{
	struct host_stat host;
	char buf[8];
	unsigned i;
	int r;

	for (i = 0; i < FILES; i++)
		close_file(i);
	/* Pages that came back are freed after who waited for them went on. */
	sim_sleep(50000000);
	dmirror_sim_end();
	r = uhmm_space_destroy(model.space);
	if (r)
		sim_fail("uhmm_space_destroy: %d", r);
	for (i = 0; i < model.nr_pages; i++)
		if (sim_prot(page_addr(i)) & SIM_READ && sim_read(page_addr(i), buf, 8))
			sim_fail("page %u cannot be read any more", i);
	host_stat(&host);
	if (host.runs || !host_is_valid())
		sim_fail("%lu runs of %lu bytes were not returned", host.runs,
			 host.bytes_mapped);
	host_reset();
}

static void program(void *arg)
{
	unsigned nr = 0;

	(void)arg;
	begin();
	while (model.in.at < model.in.end && nr++ < OPERATIONS_MAX)
		operation();
	end();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sim_config config;

	if (size < FUZZ_WORLD_BYTES)
		return -1;
	memset(&model, 0, sizeof(model));
	model.in = (struct fuzz_bytes){ data, data + size };
	model.huge = fuzz_world(&model.in, &config) & WORLD_HUGE;
	model.nr_pages = model.huge ? PAGES_HUGE : PAGES;
	config.max_steps = STEPS_MAX;
	sim_run(&config, program, NULL);
	return 0;
}

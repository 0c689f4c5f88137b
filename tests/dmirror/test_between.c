/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens between two steps of a call. A device looks at the program's mappings, or
 * migrates pages, and fills its table from that; whatever comes in between must not leave
 * in the table what is no longer so. A race hits that rarely and sees it more rarely
 * still, so here each step is the linker's (--wrap), and what comes after it the test's.
 */
#include "dm.h"

#include <sys/syscall.h>

#include "uhmm/range.h"

#define NR 16u

/* ---- steps ------------------------------------------------------------------------ */

static struct {
	int fd, other; /* files of one device */
	char *p, *elsewhere, *q;
	/* What comes once after the step of that name. */
	void (*after_range_fault)(void);
	void (*after_make_exclusive)(void);
	void (*after_migrate_pages)(void);
} now;

static void come(void (**what)(void))
{
	void (*fn)(void) = *what;

	*what = NULL;
	if (fn)
		fn();
}

int __real_uhmm_range_fault(struct uhmm_range *range);
int __wrap_uhmm_range_fault(struct uhmm_range *range);
int __real_uhmm_make_exclusive(struct uhmm_space *space, uintptr_t addr,
			       const void *owner, uhmm_pfn_t *pfn);
int __wrap_uhmm_make_exclusive(struct uhmm_space *space, uintptr_t addr,
			       const void *owner, uhmm_pfn_t *pfn);
int __real_uhmm_migrate_pages(struct uhmm_space *space, struct uhmm_migrate *migrate);
int __wrap_uhmm_migrate_pages(struct uhmm_space *space, struct uhmm_migrate *migrate);

int __wrap_uhmm_range_fault(struct uhmm_range *range)
{
	int r = __real_uhmm_range_fault(range);

	come(&now.after_range_fault);
	return r;
}

int __wrap_uhmm_make_exclusive(struct uhmm_space *space, uintptr_t addr,
			       const void *owner, uhmm_pfn_t *pfn)
{
	int r = __real_uhmm_make_exclusive(space, addr, owner, pfn);

	come(&now.after_make_exclusive);
	return r;
}

int __wrap_uhmm_migrate_pages(struct uhmm_space *space, struct uhmm_migrate *migrate)
{
	int r = __real_uhmm_migrate_pages(space, migrate);

	come(&now.after_migrate_pages);
	return r;
}

static void begin(unsigned number)
{
	now.fd = dm_open(number);
	now.other = dm_open(number);
	now.p = dm_map(NR);
	now.elsewhere = dm_map(NR);
	now.q = dm_map(NR);
	dm_fill(now.p, NR, 1);
	dm_fill(now.elsewhere, NR, 100);
	memset(now.q, 0, NR * PAGE);
}

/* ---- what comes ------------------------------------------------------------------- */

/*
 * What goes to the device by the same file is told to nobody: whoever migrates fills the
 * table. No mapping is made here: the step has the lock of the mappings.
 */
static void migrate_all(void)
{
	CHECK_EQ(dm_call(now.fd, DMIRROR_MIGRATE_TO_DEV, now.p, now.q, NR, NULL), 0);
	dm_check(now.q, NR, 1);
}

static void migrate_elsewhere(void)
{
	CHECK_EQ(dm_call(now.other, DMIRROR_MIGRATE_TO_DEV, now.elsewhere, now.q, NR,
			 NULL),
		 0);
	dm_check(now.q, NR, 100);
}

/* Not by libc, which would wait for the lock. At its end the device has been told. */
static void discard_two(void)
{
	unsigned char prot;

	CHECK_EQ(syscall(SYS_madvise, now.p + PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(dm_call(now.other, DMIRROR_SNAPSHOT, now.elsewhere, &prot, 1, NULL), 0);
}

/* ---- tests ------------------------------------------------------------------------ */

/* What is in the table as memory the device would bring back by using it. */
TEST(a_fault_does_not_undo_a_migration)
{
	begin(PRIVATE);
	now.after_range_fault = migrate_all;
	CHECK_EQ(dm_call(now.fd, DMIRROR_READ, now.p, now.q, NR, NULL), 0);
	CHECK(!now.after_range_fault);
	dm_check(now.q, NR, 1);
	dm_snapshot(now.fd, now.p, NR, dm_local(PRIVATE));
	dm_check(now.p, NR, 1);
}

/* The frame that was got has no page any more. */
DM_TEST(what_was_migrated_is_not_exclusive)
{
	struct dmirror_cmd cmd;

	begin(number);
	now.after_make_exclusive = migrate_all;
	CHECK_EQ(dm_call(now.fd, DMIRROR_EXCLUSIVE, now.p, now.q, NR, &cmd), 0);
	CHECK(!now.after_make_exclusive);
	CHECK_EQ(cmd.cpages, NR);
	dm_check(now.q, NR, 1);
	CHECK_EQ(dm_call(now.fd, DMIRROR_CHECK_EXCLUSIVE, now.p, NULL, 1, NULL), -EPERM);
	dm_check(now.p, NR, 1);
}

DM_TEST(what_is_discarded_during_a_migration_is_not_on_the_device)
{
	size_t i;

	begin(number);
	now.after_migrate_pages = discard_two;
	/* Two pages of those that were asked for are not there. */
	CHECK_EQ(dm_call(now.fd, DMIRROR_MIGRATE_TO_DEV, now.p, now.q, NR, NULL),
		 -ENOENT);
	CHECK(!now.after_migrate_pages);
	dm_snapshot(now.fd, now.p + 3 * PAGE, NR - 3, dm_local(number));
	CHECK_EQ(dm_call(now.fd, DMIRROR_READ, now.p, now.q, NR, NULL), 0);
	for (i = 0; i < NR; i++)
		dm_check(now.q + i * PAGE, 1, i == 1 || i == 2 ? 0 : 1 + i);
}

DM_TEST(what_happens_elsewhere_does_not_fail_a_migration)
{
	struct dmirror_cmd cmd;

	begin(number);
	now.after_migrate_pages = migrate_elsewhere;
	CHECK_EQ(dm_call(now.fd, DMIRROR_MIGRATE_TO_DEV, now.p, now.q, NR, &cmd), 0);
	CHECK(!now.after_migrate_pages);
	CHECK_EQ(cmd.cpages, NR);
	dm_check(now.q, NR, 1);
	dm_read(now.fd, now.p, now.q, NR, 0);
	dm_snapshot(now.fd, now.p, NR, dm_local(number));
}

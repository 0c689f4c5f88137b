/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that pages are kept in, on the simulated machine: bytes that no process has, and
 * all processes of a family share. What was never written, or given back, is garbage. A
 * write comes block by block, and other threads run in between; so does a read.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/sim/world.h"
#include "uhmm/device.h"

#define STORAGE_SIZE (UINT64_C(1) << 28)
#define MAX_STORAGES 4

static struct storage {
	char *bytes;
	uint64_t end; /* of what was ever written */
	bool used;
} storages[MAX_STORAGES];

void storage_reset(void)
{
	unsigned i;

	for (i = 0; i < MAX_STORAGES; i++) {
		if (storages[i].end)
			madvise(storages[i].bytes, STORAGE_SIZE, MADV_DONTNEED);
		storages[i].end = 0;
		storages[i].used = false;
	}
}

static struct storage *storage_new(unsigned *which)
{
	unsigned i = 0;

	while (i < MAX_STORAGES && storages[i].used)
		i++;
	if (i == MAX_STORAGES)
		sim_fail("more than %d files", MAX_STORAGES);
	if (!storages[i].bytes)
		storages[i].bytes = mmap(NULL, STORAGE_SIZE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
					 0);
	if (storages[i].bytes == MAP_FAILED)
		sim_fail("the host has no memory for a file");
	storages[i].used = true;
	*which = i;
	return &storages[i];
}

static struct storage *storage_of(const struct os_file *file, uint64_t offset, size_t len)
{
	const struct file *open = file_get(file->fd, F_STORAGE);

	if (offset + len > STORAGE_SIZE || (offset | len) % UHMM_FILE_BLOCK)
		sim_fail("%zu bytes of a file at %lu", len, (unsigned long)offset);
	return &storages[open->flags];
}

int os_file_open(const char *path, int direct, struct os_file *file, const char **why)
{
	unsigned which;
	struct file *open;

	(void)path;
	(void)direct;
	sim_point();
	*why = "the world has none";
	if (world_fails())
		return -EMFILE;
	storage_new(&which);
	open = file_open(F_STORAGE);
	open->flags = which;
	*file = (struct os_file){ .fd = file_fd(open),
				  .direct = true,
				  .end = STORAGE_SIZE };
	return 0;
}

void os_file_close(struct os_file *file)
{
	if (file->fd >= 0)
		os_close(file->fd);
	file->fd = -1;
}

int os_file_write(const struct os_file *file, const struct uhmm_file_part *part,
		  unsigned nr, uint64_t offset)
{
	size_t at;

	for (; nr; nr--, part++)
		for (at = 0; at < part->len; at += UHMM_FILE_BLOCK) {
			struct storage *s = storage_of(file, offset, UHMM_FILE_BLOCK);

			sim_point();
			if (world_fails())
				return sim_below(2) ? -ENOSPC : -EIO;
			memcpy(s->bytes + offset, (char *)part->buf + at,
			       UHMM_FILE_BLOCK);
			offset += UHMM_FILE_BLOCK;
			s->end = offset > s->end ? offset : s->end;
		}
	sim_point();
	return 0;
}

static void read_one(const struct os_file *file, struct uhmm_file_read *read)
{
	uint64_t offset = read->offset;
	unsigned i;
	size_t at;

	for (i = 0; i < read->nr; i++)
		for (at = 0; at < read->part[i].len; at += UHMM_FILE_BLOCK) {
			const struct storage *s = storage_of(file, offset,
							     UHMM_FILE_BLOCK);

			sim_point();
			memcpy((char *)read->part[i].buf + at, s->bytes + offset,
			       UHMM_FILE_BLOCK);
			offset += UHMM_FILE_BLOCK;
		}
	read->result = offset <= storage_of(file, 0, 0)->end ? 0 : -EIO;
}

/* Those of which several are asked for at a time, in any order. */
void os_file_read(const struct os_file *file, struct uhmm_file_read *read, unsigned nr,
		  unsigned depth)
{
	unsigned first = depth ? sim_below(nr) : 0, i;

	for (i = 0; i < nr; i++)
		read_one(file, &read[(first + i) % nr]);
	sim_point();
}

void os_file_punch(const struct os_file *file, uint64_t offset, uint64_t len)
{
	struct storage *s = storage_of(file, offset, len);

	sim_point();
	if (offset < s->end)
		memset(s->bytes + offset, GARBAGE,
		       s->end - offset < len ? s->end - offset : len);
}

void os_files_after_fork(bool inherited)
{
	(void)inherited;
}

void os_files_forget(bool inherited)
{
	(void)inherited;
}

bool os_is_over(uint32_t pid)
{
	const struct thread *t;
	unsigned i;

	sim_point();
	for (i = 0; (t = sim_thread_at(i)); i++)
		if (t->mm->pid == pid && !t->mm->dead)
			return false;
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of devices. A descriptor may have another number in a forked child, so drivers
 * know a file by its place here.
 *
 * Opening and closing is for ordinary threads, and fork has the world to itself: so the
 * lock is for two who open at the same time.
 */
#include "lib/host_file.h"

#include <errno.h>

#include "uhmm/device.h"

struct uhmm_file {
	bool open;
	struct os_file os;
};

static struct {
	struct uhmm_lock lock;
	struct uhmm_file file[OS_FILES_MAX];
} files __attribute__((section(".data")));

static struct uhmm_file *place(void)
{
	struct uhmm_file *file = NULL;
	unsigned i;

	uhmm_lock(&files.lock);
	for (i = 0; i < OS_FILES_MAX && !file; i++)
		if (!files.file[i].open)
			file = &files.file[i];
	if (file)
		*file = (struct uhmm_file){ .open = true, .os = { .fd = -1 } };
	uhmm_unlock(&files.lock);
	return file;
}

int uhmm_host_file_open(const char *path, enum uhmm_file_direct direct,
			struct uhmm_file **out, const char **error)
{
	struct uhmm_file *file = place();
	int r;

	*error = "a process has eight files of devices, and no more";
	if (!file)
		return -EMFILE;
	r = os_file_open(path, (int)direct, &file->os, error);
	if (r)
		file->open = false;
	else
		*out = file;
	return r;
}

void uhmm_host_file_close(struct uhmm_file *file)
{
	os_file_close(&file->os);
	file->open = false;
}

void uhmm_host_file_bounds(const struct uhmm_file *file, uint64_t *start, uint64_t *end)
{
	*start = file->os.start;
	*end = file->os.end;
}

int uhmm_host_file_write(struct uhmm_file *file, const struct uhmm_file_part *part,
			 uint32_t nr, uint64_t offset)
{
	return os_file_write(&file->os, part, nr, offset);
}

void uhmm_host_file_read(struct uhmm_file *file, struct uhmm_file_read *read, uint32_t nr,
			 uint32_t depth)
{
	uint32_t n;

	for (; nr; nr -= n, read += n) {
		n = nr < OS_READS_MAX ? nr : OS_READS_MAX;
		os_file_read(&file->os, read, n, depth);
	}
}

void uhmm_host_file_punch(struct uhmm_file *file, uint64_t offset, uint64_t len)
{
	os_file_punch(&file->os, offset, len);
}

/* ---- fork ------------------------------------------------------------------------ */

unsigned host_files(int *fds)
{
	unsigned i, nr = 0;

	for (i = 0; i < OS_FILES_MAX; i++)
		if (files.file[i].open)
			fds[nr++] = files.file[i].os.fd;
	return nr;
}

void host_files_replace(const int *fds)
{
	unsigned i;

	for (i = 0; i < OS_FILES_MAX; i++)
		if (files.file[i].open)
			files.file[i].os.fd = *fds++;
}

void host_files_forget(bool inherited)
{
	unsigned i;

	for (i = 0; i < OS_FILES_MAX; i++) {
		if (files.file[i].open && inherited)
			os_file_close(&files.file[i].os);
		files.file[i].open = false;
	}
	os_files_forget(inherited);
}

/* ---- what processes share -------------------------------------------------------- */

void *uhmm_host_shared_map(size_t size_bytes)
{
	return os_map_shared(size_bytes);
}

void uhmm_host_shared_unmap(void *addr, size_t size_bytes)
{
	os_unmap_shared(addr, size_bytes);
}

uint32_t uhmm_host_process(void)
{
	return os_pid();
}

int uhmm_host_process_is_over(uint32_t process)
{
	return os_is_over(process);
}

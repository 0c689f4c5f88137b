/* SPDX-License-Identifier: Apache-2.0 */
/* A folder for what devices write: see folder.h. */
#define _GNU_SOURCE
#include "tests/device/folder.h"

#include "tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static char path[64];
static pid_t maker;

const char *folder(void)
{
	const char *tmp = getenv("TMPDIR");

	if (maker)
		return path;
	if (!tmp || strlen(tmp) > 32)
		tmp = "/tmp";
	snprintf(path, sizeof(path), "%s/uhmm-device-XXXXXX", tmp);
	if (!mkdtemp(path))
		abort();
	maker = getpid();
	return path;
}

const char *folder_file(const char *name, pid_t pid)
{
	static char file[128];

	snprintf(file, sizeof(file), "%s/%s.%d", folder(), name, (int)pid);
	return file;
}

char *folder_read(const char *name, pid_t pid, size_t *len)
{
	int fd = open(folder_file(name, pid), O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;

	CHECK_GE(fd, 0);
	CHECK_EQ(fstat(fd, &st), 0);
	text = calloc(1, (size_t)st.st_size + 1);
	CHECK(text != NULL);
	CHECK_EQ(read(fd, text, (size_t)st.st_size), st.st_size);
	close(fd);
	*len = (size_t)st.st_size;
	return text;
}

static void __attribute__((destructor)) remove_folder(void)
{
	DIR *dir = maker == getpid() ? opendir(path) : NULL;
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(path);
}

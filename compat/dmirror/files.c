/* SPDX-License-Identifier: Apache-2.0 */
/* See files.h. */
#include "compat/dmirror/files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "compat/dmirror/mirror.h"
#include "compat/dmirror/process.h"
#include "compat/dmirror/real.h"

/* As many descriptors as most processes may have; what is above is no device's. */
#define FILES_MAX 65536

#define PATH "/dev/hmm_dmirror"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mirror *files[FILES_MAX]; /* each with a reference; atomic to look at */
static int top;                         /* no descriptor above is of a device */

int files_number(const char *path)
{
	size_t len = strlen(PATH);

	if (!path || strncmp(path, PATH, len) || path[len] < '0' ||
	    path[len] >= '0' + DMIRROR_DEVICES || path[len + 1])
		return -1;
	return path[len] - '0';
}

static bool may_be(int fd)
{
	return fd >= 0 && fd < FILES_MAX && __atomic_load_n(&files[fd], __ATOMIC_ACQUIRE);
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

/* Under the lock: what is said to be behind a descriptor becomes m; what was before? */
static struct mirror *change(int fd, struct mirror *m)
{
	struct mirror *before = files[fd];

	__atomic_store_n(&files[fd], m, __ATOMIC_RELEASE);
	top = m && fd > top ? fd : top;
	return before;
}

int files_open(unsigned number, int flags)
{
	struct mirror *m, *stale;
	int r = mirror_open(number, &m), fd;

	if (r)
		return r;
	fd = memfd_create(FILES_MEMORY_NAME, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
	if (fd < 0 || fd >= FILES_MAX) {
		r = fd < 0 ? -errno : -EMFILE;
		if (fd >= 0)
			real.close(fd);
		files_put(m);
		return r;
	}
	m->inode = inode_of(fd);
	pthread_mutex_lock(&lock);
	stale = change(fd, m);
	pthread_mutex_unlock(&lock);
	files_put(stale);
	return fd;
}

struct mirror *files_get(int fd)
{
	struct mirror *m;

	if (!may_be(fd))
		return NULL;
	pthread_mutex_lock(&lock);
	m = files[fd];
	if (m && m->inode != inode_of(fd))
		m = NULL;
	if (m)
		m->refs++;
	pthread_mutex_unlock(&lock);
	return m;
}

struct mirror *files_any(unsigned number)
{
	struct mirror *m = NULL;
	int fd;

	pthread_mutex_lock(&lock);
	for (fd = 0; !m && fd <= top; fd++)
		if (files[fd] && files[fd]->device->number == number &&
		    process_is_current(files[fd]->generation))
			m = files[fd];
	if (m)
		m->refs++;
	pthread_mutex_unlock(&lock);
	return m;
}

void files_put(struct mirror *m)
{
	bool last;

	if (!m)
		return;
	pthread_mutex_lock(&lock);
	last = --m->refs == 0;
	pthread_mutex_unlock(&lock);
	if (last)
		mirror_release(m);
}

struct mirror *files_copy(int from, int to)
{
	struct mirror *m = files_get(from), *stale = NULL;

	if (from == to || to < 0 || to >= FILES_MAX || (!m && !may_be(to)))
		return m;
	pthread_mutex_lock(&lock);
	stale = change(to, m);
	pthread_mutex_unlock(&lock);
	return stale;
}

struct mirror *files_forget(int fd)
{
	struct mirror *m;

	if (!may_be(fd) || !process_is_ours())
		return NULL;
	pthread_mutex_lock(&lock);
	m = change(fd, NULL);
	pthread_mutex_unlock(&lock);
	return m;
}

void files_each(unsigned first, unsigned last, void (*fn)(int fd))
{
	unsigned fd;

	for (fd = first; fd <= last && fd < FILES_MAX; fd++)
		if (may_be((int)fd))
			fn((int)fd);
}

/* ---- fork ------------------------------------------------------------------------- */

void files_fork_prepare(void)
{
	pthread_mutex_lock(&lock);
}

void files_fork_parent(void)
{
	pthread_mutex_unlock(&lock);
}

void files_fork_child(void)
{
	pthread_mutex_unlock(&lock);
}

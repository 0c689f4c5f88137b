/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program would notice of our threads.
 *
 * They are threads of its process, though libc does not know them. A process of their own
 * that shares its memory would not be noticed here, but counted twice by who adds up what
 * processes use. So:
 *
 * - Some system calls want a process of one thread: unshare() and setns() for user and
 *   time namespaces. What is refused is tried again after the keeper has ended; then a
 *   new one is started. Once it has a space it cannot end.
 * - /proc/self/stat and status say how many threads there are. Who reads them through
 *   stdio (Python does at fork(), C++ streams do) is told how many are its own.
 * - So says the directory of the threads: see task.c.
 * - LeakSanitizer stops all threads and reads all memory, and would wait for pages that
 *   nobody brings. A program that has it is not migrated unless it is off. Where it
 *   cannot be seen (gcc's, linked statically) it asks before it looks, and is refused
 *   once memory is migrated. Either way the user is told.
 *
 * - valgrind ends a program that makes a thread by a clone() as ours is, and knows no
 *   userfaultfd. What runs in it (it preloads libraries of its own) is left alone; for
 *   the supervisor it is a process that has not loaded uhmm.
 *
 * A program that calls the kernel by itself, or lists /proc/self/task, sees them.
 */
#undef _FILE_OFFSET_BITS /* which makes one of fopen() and fopen64() */

#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- namespaces -------------------------------------------------------------------- */

static int alone(long nr, long a, long b)
{
	int r = (int)syscall(nr, a, b), saved = errno;

	if (r == 0 || (saved != EINVAL && saved != EUSERS))
		return r;
	if (preload_rest()) {
		r = (int)syscall(nr, a, b);
		saved = errno;
		preload_go_on();
	}
	errno = saved;
	return r;
}

/* Children may be in another pid namespace now, where pids mean something else. */
static int moved(int r)
{
	int saved = errno;

	if (r == 0)
		preload_look_at_pids();
	errno = saved;
	return r;
}

EXPORT int unshare(int flags)
{
	return moved(alone(SYS_unshare, flags, 0));
}

EXPORT int setns(int fd, int nstype)
{
	return moved(alone(SYS_setns, fd, nstype));
}

/* ---- LeakSanitizer ---------------------------------------------------------------- */

/* <sanitizer/lsan_interface.h>; there if the program, or its library, exports it. */
void __lsan_do_leak_check(void) __attribute__((weak));
int __lsan_is_turned_off(void);

static bool leaks_ignored(const char *variable)
{
	const char *options = getenv(variable);

	return options && (strstr(options, "detect_leaks=0") ||
			   strstr(options, "detect_leaks=false") ||
			   strstr(options, "detect_leaks=no"));
}

bool preload_looks_for_leaks(void)
{
	return __lsan_do_leak_check && !leaks_ignored("ASAN_OPTIONS") &&
	       !leaks_ignored("LSAN_OPTIONS");
}

bool preload_is_emulated(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded && strstr(preloaded, "/vgpreload_");
}

/* A hook of LeakSanitizer's, for programs to define: called before each check. */
EXPORT int __lsan_is_turned_off(void)
{
	if (!preload_space())
		return 0;
	preload_say("memory that is migrated cannot be searched for leaks: LeakSanitizer "
		    "was turned off");
	return 1;
}

/* ---- how many threads there are ---------------------------------------------------- */

/* More than these files have, but for a user in thousands of groups. */
#define TEXT_MAX 8192

/* Where the number of threads is in the text of /proc/self/stat (proc(5): field 20). */
static char *in_stat(char *text)
{
	char *at = strrchr(text, ')'); /* the name may contain anything */
	int field;

	for (field = 2; at && field < 20; field++)
		at = strchr(at + 1, ' ');
	return at ? at + 1 : NULL;
}

static char *in_status(char *text)
{
	static const char key[] = "\nThreads:\t";
	char *at = strstr(text, key);

	return at ? at + sizeof(key) - 1 : NULL;
}

typedef char *find_fn(char *text);

/* For files that show the number of this process's threads; NULL: another file. */
static find_fn *finder(const char *path)
{
	char *end;

	if (strncmp(path, "/proc/", 6))
		return NULL;
	path += 6;
	if (!strncmp(path, "self/", 5))
		path += 5;
	else if (strtol(path, &end, 10) == getpid() && *end == '/')
		path = end + 1;
	else
		return NULL;
	return !strcmp(path, "stat")   ? in_stat :
	       !strcmp(path, "status") ? in_status :
					 NULL;
}

/* The length of the file's text, -1 if it is not all there. */
static ssize_t read_text(const char *path, char text[TEXT_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = 0, n = -1;

	if (fd < 0)
		return -1;
	while (len < TEXT_MAX - 1 && (n = read(fd, text + len, TEXT_MAX - 1 - len)) > 0)
		len += n;
	close(fd);
	text[len] = 0;
	return n == 0 ? len : -1;
}

/* A file with that text, its one number replaced; -1: it cannot be made. */
static int corrected(const char *text, const char *number, long ours, unsigned flags)
{
	char own[24], *after;
	long all = strtol(number, &after, 10);
	int fd, len = snprintf(own, sizeof(own), "%ld", all - ours);

	if (all <= ours)
		return -1;
	fd = memfd_create("stat", flags);
	if (fd < 0)
		return -1;
	if (write(fd, text, (size_t)(number - text)) == number - text &&
	    write(fd, own, (size_t)len) == len &&
	    write(fd, after, strlen(after)) == (ssize_t)strlen(after) &&
	    lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	close(fd);
	return -1;
}

/* NULL: the file is to be opened as it is. Its own function: others need less stack. */
static __attribute__((noinline)) FILE *open_corrected(find_fn *find, const char *path,
						      const char *mode)
{
	long ours = (long)preload_threads();
	char text[TEXT_MAX], *number;
	FILE *file;
	int fd;

	if (!ours || read_text(path, text) < 0)
		return NULL;
	number = find(text);
	if (!number)
		return NULL;
	fd = corrected(text, number, ours, strchr(mode, 'e') ? MFD_CLOEXEC : 0);
	if (fd < 0)
		return NULL;
	file = fdopen(fd, mode);
	if (!file)
		close(fd);
	return file;
}

typedef FILE *open_fn(const char *path, const char *mode);

/* The next one, looked up once: libc's, or that of a library that the user preloads. */
static open_fn *next_fopen __attribute__((section(".data")));
static open_fn *next_fopen64 __attribute__((section(".data")));

static FILE *open_with(open_fn **next, const char *name, const char *path,
		       const char *mode)
{
	open_fn *libc = __atomic_load_n(next, __ATOMIC_RELAXED);
	find_fn *find = finder(path);
	int saved = errno;
	FILE *file = NULL;

	if (find && mode[0] == 'r' && !strchr(mode, '+'))
		file = open_corrected(find, path, mode);
	errno = saved;
	if (file)
		return file;
	if (!libc) {
		libc = (open_fn *)dlsym(RTLD_NEXT, name);
		__atomic_store_n(next, libc, __ATOMIC_RELAXED);
	}
	return libc(path, mode);
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	return open_with(&next_fopen, "fopen", path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	return open_with(&next_fopen64, "fopen64", path, mode);
}

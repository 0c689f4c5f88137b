/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes, command lines and programs' files, as cmd/ reads them. See spec.h.
 *
 * The command is linked whole. What it would do to the machine is done here instead (the
 * linker wraps these functions): nothing is started, probed, written or created. What it
 * says on stderr is looked at: whoever is refused gets one line, and nobody else any.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <regex.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/probe.h"
#include "cmd/supervise.h"
#include "lib/device.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/spec.h"

#define ARGUMENTS_MAX 40
/* What supervise() says here: so far everything was all right. */
#define STATUS_STARTED 250
#define MEMORY_MIN_PAGES 4096u

int uhmm_main(int argc, char **argv); /* cmd/main.c */

static struct {
	bool running, permitted;
	unsigned lines;     /* complaints */
	bool created, left; /* a tree; and it is gone */
} state;

/* ---- sizes ------------------------------------------------------------------------ */

static bool is_size(const char *text)
{
	static regex_t regex;
	static bool compiled;

	if (!compiled)
		compiled = !regcomp(&regex,
				    "^([0-9]+[KMGTkmgt%]?|"
				    "[0-9]*\\.[0-9]+[KMGTkmgt%]|"
				    "([0-9]+|[0-9]*\\.[0-9]+)[KMGTkmgt](i?B))$",
				    REG_EXTENDED | REG_NOSUB);
	FUZZ_CHECK(compiled, "the expression is wrong");
	return !regexec(&regex, text, 0, NULL, 0);
}

/* The same again, in floating point. */
static long double size_of(const char *text, uint64_t ram)
{
	static const char letters[] = "KMGT";
	char *end;
	long double value = strtold(text, &end);
	const char *letter = *end ? strchr(letters, *end & ~0x20) : NULL;

	if (*end == '%')
		return value / 100 * (long double)ram;
	return letter ? ldexpl(value, 10 * (int)(letter - letters + 1)) : value;
}

void spec_size(const char *text)
{
	static const uint64_t ram[] = { 1, UINT64_C(8) << 30, UINT64_C(24) << 40 };
	char again[32], shown[32];
	uint64_t bytes, same;
	long double exact;
	unsigned i;
	int r;

	for (i = 0; i < 3; i++) {
		r = parse_size(text, ram[i], &bytes);
		FUZZ_CHECK(!r || r == -EINVAL || r == -ERANGE, "%d", r);
		FUZZ_CHECK(r != -EINVAL || !is_size(text), "%s", text);
		if (r)
			continue;
		FUZZ_CHECK(is_size(text), "%s", text);
		FUZZ_CHECK(bytes <= INT64_MAX, "%" PRIu64, bytes);
		exact = size_of(text, ram[i]);
		/* Nine digits after the point are read. */
		FUZZ_CHECK(fabsl(exact - (long double)bytes) <=
				   1 + exact / 1e8L + ldexpl(1, 40) / 1e9L +
					   (long double)ram[i] / 1e11L,
			   "%s: %" PRIu64 " and not %Lf", text, bytes, exact);
		snprintf(again, sizeof(again), "%" PRIu64, bytes);
		FUZZ_CHECK(!parse_size(again, ram[i], &same) && same == bytes, "%s",
			   again);
		format_size(shown, sizeof(shown), bytes);
		FUZZ_CHECK(strlen(shown) < 20, "%s", shown);
	}
}

/* ---- what the command does, and says ---------------------------------------------- */

ssize_t __real_write(int fd, const void *buf, size_t len);
int __real_open64(const char *path, int flags, ...);
FILE *__real_fopen64(const char *path, const char *how);
int __real_unlink(const char *path);
int __real_setenv(const char *name, const char *value, int overwrite);

ssize_t __wrap_write(int fd, const void *buf, size_t len);
int __wrap_open64(const char *path, int flags, ...);
FILE *__wrap_fopen64(const char *path, const char *how);
int __wrap_unlink(const char *path);
int __wrap_setenv(const char *name, const char *value, int overwrite);
void __wrap_probe_machine(struct probe *probe);
int __wrap_preload_check(const char *name, const char **path);
void __wrap_program_execute(const char *path, char **program);
int __wrap_tree_create(struct tree *tree, uint64_t pages, const char *device,
		       enum ctl_faults faults);
void __wrap_tree_remove(struct tree *tree);
int __wrap_supervise(struct tree *tree, const struct launch *launch,
		     struct ending *ending);

static void check_line(const char *line, size_t len)
{
	size_t i;

	FUZZ_CHECK(len > 7 && !memcmp(line, "uhmm: ", 6), "%.*s", (int)len, line);
	FUZZ_CHECK(line[len - 1] == '\n', "%.*s", (int)len, line);
	for (i = 0; i + 1 < len; i++)
		FUZZ_CHECK((unsigned char)line[i] >= ' ' && line[i] != 127, "0x%02x",
			   line[i]);
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
	if (!state.running || fd != STDERR_FILENO)
		return __real_write(fd, buf, len);
	check_line(buf, len);
	state.lines++;
	return (ssize_t)len;
}

/*
 * Meson has all files be opened by these names. Programs are read; whatever else it is,
 * there is nothing in it.
 */
static bool may_be_read(const char *path, int flags)
{
	return (flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT) &&
	       (!strncmp(path, "/usr/bin/", 9) || !strncmp(path, "/proc/self/", 11));
}

int __wrap_open64(const char *path, int flags, ...)
{
	if (state.running && !may_be_read(path, flags))
		return __real_open64("/dev/null",
				     (flags & O_ACCMODE) | (flags & O_CLOEXEC));
	return __real_open64(path, flags, 0600);
}

FILE *__wrap_fopen64(const char *path, const char *how)
{
	return __real_fopen64(state.running ? "/dev/null" : path, how);
}

int __wrap_unlink(const char *path)
{
	return state.running ? 0 : __real_unlink(path);
}

int __wrap_setenv(const char *name, const char *value, int overwrite)
{
	if (!state.running)
		return __real_setenv(name, value, overwrite);
	FUZZ_CHECK(*name && value && overwrite, "%s", name);
	return 0;
}

void __wrap_probe_machine(struct probe *probe)
{
	unsigned i;

	*probe = (struct probe){ .has_sysctl = true, .has_cap = true, .bounded = true };
	for (i = 0; state.permitted && probe_features[i].bit; i++)
		probe->features |= probe_features[i].bit;
	if (state.permitted)
		return;
	probe->syscall = probe->dev = probe->needed = probe->move = EPERM;
	probe->has_cap = probe->bounded = false;
}

int __wrap_preload_check(const char *name, const char **path)
{
	*path = name;
	return 0;
}

void __wrap_program_execute(const char *path, char **program)
{
	FUZZ_CHECK(path && *path && program[0] && state.permitted, "%s", path);
	errno = EACCES;
}

int __wrap_tree_create(struct tree *tree, uint64_t pages, const char *device,
		       enum ctl_faults faults)
{
	struct uhmm_device *dev = NULL;
	char error[DEVICE_ERROR_MAX];

	(void)tree;
	FUZZ_CHECK(faults == CTL_FAULTS_THREAD || faults == CTL_FAULTS_INLINE, "%d",
		   (int)faults);
	FUZZ_CHECK(pages >= MEMORY_MIN_PAGES && pages <= INT64_MAX / UHMM_PAGE_SIZE,
		   "%" PRIu64 " pages", pages);
	FUZZ_CHECK(!device_open(device, &dev, error, sizeof(error)), "%s", error);
	device_close(dev);
	state.created = true;
	return 0;
}

void __wrap_tree_remove(struct tree *tree)
{
	(void)tree;
	state.left = true;
}

int __wrap_supervise(struct tree *tree, const struct launch *launch,
		     struct ending *ending)
{
	(void)tree;
	(void)ending;
	FUZZ_CHECK(state.created && state.permitted && *launch->path && launch->argv[0],
		   "%s", launch->path);
	if (launch->keep_fd >= 0)
		close(launch->keep_fd);
	return STATUS_STARTED;
}

/* ---- command lines ---------------------------------------------------------------- */

/* An argument that was looked at letter by letter is not to be gone on with. */
static void forget_options(void)
{
	static char name[] = "uhmm", *const argv[] = { name, NULL };

	optind = 0;
	getopt(1, argv, "");
	optind = 1;
}

static void check_status(int status)
{
	switch (status) {
	case STATUS_OK:
	case STATUS_NO:
		FUZZ_CHECK(!state.lines, "status %d, %u lines", status, state.lines);
		break;
	case STATUS_STARTED:
		FUZZ_CHECK(!state.lines && state.created && state.left, "%u lines",
			   state.lines);
		break;
	default:
		FUZZ_CHECK(status == STATUS_REFUSED || status == STATUS_CANNOT_RUN ||
				   status == STATUS_NOT_FOUND,
			   "status %d", status);
		FUZZ_CHECK(state.lines == 1, "status %d, %u lines", status, state.lines);
	}
}

static void start(bool permitted)
{
	static bool silent;

	if (!silent)
		silent = freopen("/dev/null", "w", stdout) != NULL;
	memset(&state, 0, sizeof(state));
	state.permitted = permitted;
	state.running = true;
}

void spec_command(const char *text, bool permitted)
{
	static char name[] = "uhmm";
	char *argv[ARGUMENTS_MAX + 2] = { name }, *copy = strdup(text), *at = copy;
	int argc = 1, status;

	FUZZ_CHECK(copy, "no memory");
	while (at && argc <= ARGUMENTS_MAX)
		argv[argc++] = strsep(&at, "\n");
	forget_options();
	start(permitted);
	status = uhmm_main(argc, argv);
	state.running = false;
	check_status(status);
	free(copy);
}

void spec_program(const void *bytes, size_t size)
{
	int fd = memfd_create("program", MFD_CLOEXEC), status;
	char path[32];

	FUZZ_CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size, "memfd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	start(true);
	status = program_check(path);
	state.running = false;
	FUZZ_CHECK(!status || status == STATUS_CANNOT_RUN, "status %d", status);
	FUZZ_CHECK(state.lines == (status != 0), "%u lines", state.lines);
	close(fd);
}

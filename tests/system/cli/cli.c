/* SPDX-License-Identifier: Apache-2.0 */
/* Calling the uhmm command; see cli.h. */
#include "cli.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* Silence for so long is a failure; the harness's own timeout would not say of what. */
#define PATIENCE_MS 15000
#define ARGS_MAX 32

static char scratch[64];

static const char *in_build(char *buf, const char *name)
{
	const char *build = getenv("UHMM_BUILD");

	CHECK(build, "UHMM_BUILD names the build directory");
	snprintf(buf, PATH_MAX, "%s/tests/system/cli/%s", build, name);
	return buf;
}

const char *cli_uhmm(void)
{
	static char path[PATH_MAX];

	return in_build(path, getenv("UHMM_CLI_REAL") ? "../../../uhmm" : "uhmm");
}

const char *cli_prog(void)
{
	static char path[PATH_MAX];

	return in_build(path, "cli_prog");
}

const char *cli_static(void)
{
	static char path[PATH_MAX];

	return in_build(path, "cli_static");
}

void cli_permit_preload(void)
{
	const char *old = getenv("ASAN_OPTIONS");
	char options[1024];

	snprintf(options, sizeof(options), "%s:verify_asan_link_order=0", old ? old : "");
	setenv("ASAN_OPTIONS", options, 1);
}

void cli_sleep_ms(int ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&left, &left))
		;
}

/* ---- a run ------------------------------------------------------------------------- */

void cli_start(struct cli *cli, cli_prepare *prepare, const char *const *argv)
{
	int in[2], out[2], err[2];

	memset(cli, 0, sizeof(*cli));
	CHECK(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC));
	cli->pid = fork();
	CHECK(cli->pid >= 0);
	if (cli->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		if (prepare)
			prepare();
		execv(argv[0], (char **)(uintptr_t)argv);
		dprintf(2, "cannot execute %s: %s\n", argv[0], strerror(errno));
		_exit(200);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	cli->in = in[1];
	cli->out = out[0];
	cli->err = err[0];
}

/* Reads from one pipe into its text; closes it at its end. */
static void take(int *fd, char *text, size_t *len, size_t size)
{
	ssize_t n = read(*fd, text + *len, size - 1 - *len);

	CHECK(n >= 0);
	CHECK(*len + (size_t)n < size - 1, "it wrote too much");
	*len += (size_t)n;
	text[*len] = 0;
	if (n > 0)
		return;
	close(*fd);
	*fd = -1;
}

/* Reads what comes first. false: there is nothing more to come. */
static bool take_any(struct cli *cli)
{
	struct pollfd fds[2] = { { cli->out, POLLIN, 0 }, { cli->err, POLLIN, 0 } };

	if (cli->out < 0 && cli->err < 0)
		return false;
	CHECK(poll(fds, 2, PATIENCE_MS * test_stretch()) > 0,
	      "nothing came; stdout: %.200s stderr: %.200s", cli->out_text,
	      cli->err_text);
	if (fds[0].revents)
		take(&cli->out, cli->out_text, &cli->out_len, sizeof(cli->out_text));
	if (fds[1].revents)
		take(&cli->err, cli->err_text, &cli->err_len, sizeof(cli->err_text));
	return true;
}

void cli_finish(struct cli *cli)
{
	if (cli->in >= 0)
		close(cli->in);
	cli->in = -1;
	while (take_any(cli))
		;
	CHECK_EQ(waitpid(cli->pid, &cli->status, 0), cli->pid);
}

void cli_expect_out(struct cli *cli, const char *text)
{
	while (!strstr(cli->out_text, text))
		CHECK(take_any(cli), "no '%s' on stdout: %.200s; stderr: %.200s", text,
		      cli->out_text, cli->err_text);
}

void cli_expect_err(struct cli *cli, const char *text)
{
	while (!strstr(cli->err_text, text))
		CHECK(take_any(cli), "no '%s' on stderr: %.200s", text, cli->err_text);
}

void cli_run(struct cli *cli, cli_prepare *prepare, const char *file, ...)
{
	const char *argv[ARGS_MAX] = { file };
	va_list args;
	int nr = 1;

	va_start(args, file);
	do
		CHECK_LT(nr, ARGS_MAX);
	while ((argv[nr++] = va_arg(args, const char *)));
	va_end(args);
	cli_start(cli, prepare, argv);
	cli_finish(cli);
}

int cli_exit_status(const struct cli *cli)
{
	CHECK(WIFEXITED(cli->status), "ended by signal %d; stderr: %.300s",
	      WTERMSIG(cli->status), cli->err_text);
	return WEXITSTATUS(cli->status);
}

void cli_check_refused(const struct cli *cli, int status, const char *text)
{
	const char *newline = strchr(cli->err_text, '\n');

	CHECK(cli_exit_status(cli) == status, "%d, not %d; stderr: %.300s",
	      cli_exit_status(cli), status, cli->err_text);
	CHECK(!strncmp(cli->err_text, "uhmm: ", 6), "stderr: %.300s", cli->err_text);
	CHECK(newline && !newline[1], "one line: %.300s", cli->err_text);
	CHECK(strstr(cli->err_text, text), "'%s' is not in: %.300s", text, cli->err_text);
	CHECK_STR(cli->out_text, "");
}

/* ---- files ------------------------------------------------------------------------- */

const char *cli_scratch(void)
{
	if (!scratch[0]) {
		strcpy(scratch, "/tmp/uhmm-test-XXXXXX");
		CHECK(mkdtemp(scratch));
		CHECK_EQ(chmod(scratch, 0755), 0);
	}
	return scratch;
}

bool cli_private_shm(const char *options)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("tmpfs", "/dev/shm", "tmpfs", 0, options);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void cli_scratch_remove(void)
{
	if (scratch[0])
		CHECK_EQ(nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	scratch[0] = 0;
}

char *cli_write(const char *name, const void *data, size_t len, mode_t mode)
{
	char *path;
	int fd;

	CHECK(asprintf(&path, "%s/%s", cli_scratch(), name) > 0);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CHECK(fd >= 0, "%s", path);
	CHECK_EQ(write(fd, data, len), (ssize_t)len);
	CHECK_EQ(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

char *cli_copy(const char *from, const char *name, mode_t mode)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *data, *path;

	CHECK(fd >= 0, "%s", from);
	CHECK_EQ(fstat(fd, &st), 0);
	data = malloc((size_t)st.st_size);
	CHECK(data);
	CHECK_EQ(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	path = cli_write(name, data, (size_t)st.st_size, mode);
	free(data);
	return path;
}

/* ---- summaries ----------------------------------------------------------------- */

cJSON *cli_json(const char *path)
{
	static char text[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	cJSON *json;

	CHECK(n > 0, "%s", path);
	close(fd);
	text[n] = 0;
	json = cJSON_Parse(text);
	CHECK(json, "%.300s", text);
	return json;
}

double cli_number(const cJSON *json, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

	CHECK(cJSON_IsNumber(item), "%s", key);
	return item->valuedouble;
}

char *cli_public_uhmm(void)
{
	char from[PATH_MAX];
	char *uhmm = cli_copy(cli_uhmm(), "uhmm", 0755);

	snprintf(from, sizeof(from), "%.*s/libuhmm-preload.so",
		 (int)(strrchr(cli_uhmm(), '/') - cli_uhmm()), cli_uhmm());
	free(cli_copy(from, "libuhmm-preload.so", 0644));
	return uhmm;
}

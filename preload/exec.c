/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that the program executes is migrated too.
 *
 * It is because LD_PRELOAD names this library in the environment that it is started with.
 * A program may set that variable for another library, as `env LD_PRELOAD=...` does, and
 * would leave the tree's budget without a word. So what executes a program is wrapped,
 * and puts this library before what the variable names. Only where the environment still
 * has the name of the control segment: an empty one is meant to be empty.
 *
 * All of these may be called where a thread of a process that has many forked, or in a
 * child of vfork(): nothing is allocated, no lock is taken. A program that calls the
 * kernel by itself is not seen, nor are system() and popen(), which pass on the
 * environment as it is.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "preload/guard.h"

#define VARIABLE "LD_PRELOAD="

static struct {
	__typeof__(execve) *execve;
	__typeof__(execveat) *execveat;
	__typeof__(execvpe) *execvpe;
	__typeof__(fexecve) *fexecve;
	__typeof__(posix_spawn) *posix_spawn, *posix_spawnp;
} real __attribute__((section(".data")));

struct call {
	int (*fn)(const struct call *call, char *const *envp);
	int fd, flags;
	const char *file;
	char *const *argv;
	pid_t *pid;
	const posix_spawn_file_actions_t *actions;
	const posix_spawnattr_t *attr;
};

void exec_bind(void)
{
	if (IS_BOUND(execve))
		return;
	BIND(execveat);
	BIND(execvpe);
	BIND(fexecve);
	BIND(posix_spawn);
	BIND(posix_spawnp);
	BIND_LAST(execve);
}

/* What an environment lacks. */
struct lack {
	size_t nr;   /* of its variables */
	size_t at;   /* which one is LD_PRELOAD; nr: none */
	size_t size; /* of the variable as it has to be, in bytes */
};

/* The list of libraries has this one. */
static bool has(const char *list, const char *library)
{
	size_t len = strlen(library);
	const char *at = list;

	while ((at = strstr(at, library))) {
		if ((at == list || at[-1] == ':' || at[-1] == ' ') &&
		    (!at[len] || at[len] == ':' || at[len] == ' '))
			return true;
		at += len;
	}
	return false;
}

static const char *theirs(char *const *envp, const struct lack *lack)
{
	return lack->at < lack->nr ? envp[lack->at] + sizeof(VARIABLE) - 1 : "";
}

static bool lacks(char *const *envp, struct lack *lack)
{
	const char *us = preload_path();
	bool ours = false, found = false;
	size_t n;

	*lack = (struct lack){ 0 };
	if (!us || !envp)
		return false;
	for (n = 0; envp[n]; n++) {
		if (!strncmp(envp[n], CTL_ENV "=", sizeof(CTL_ENV)))
			ours = true;
		if (!found && !strncmp(envp[n], VARIABLE, sizeof(VARIABLE) - 1)) {
			found = true;
			lack->at = n;
		}
	}
	lack->nr = n;
	if (!found)
		lack->at = n;
	lack->size = sizeof(VARIABLE) + strlen(us) + 1 + strlen(theirs(envp, lack));
	return ours && !has(theirs(envp, lack), us);
}

static char *put(char *to, const char *from)
{
	size_t len = strlen(from);

	memcpy(to, from, len + 1);
	return to + len;
}

static int execute(const struct call *call, char *const *envp)
{
	struct lack lack;

	if (!lacks(envp, &lack))
		return call->fn(call, envp);

	char *variable[lack.nr + 2], text[lack.size], *at;

	memcpy(variable, envp, (lack.nr + 1) * sizeof(*envp));
	if (lack.at == lack.nr)
		variable[lack.nr + 1] = NULL;
	variable[lack.at] = text;
	at = put(put(text, VARIABLE), preload_path());
	if (*theirs(envp, &lack))
		put(put(at, ":"), theirs(envp, &lack));
	return call->fn(call, variable);
}

/* ---- execve() and its family ------------------------------------------------------- */

/* true: after_exec() is needed, if there is an after. */
static bool before_exec(void)
{
	exec_bind();
	preload_leave();
	return preload_before_exec();
}

static int after_exec(bool needed, int r)
{
	int saved = errno;

	if (needed)
		guard_exec_failed();
	errno = saved;
	return r;
}

static int do_execve(const struct call *call, char *const *envp)
{
	bool needed = before_exec();

	return after_exec(needed, real.execve(call->file, call->argv, envp));
}

static int do_execveat(const struct call *call, char *const *envp)
{
	bool needed = before_exec();
	int r = -1;

	if (real.execveat)
		r = real.execveat(call->fd, call->file, call->argv, envp, call->flags);
	else
		errno = ENOSYS; /* before glibc 2.34 */
	return after_exec(needed, r);
}

static int do_fexecve(const struct call *call, char *const *envp)
{
	bool needed = before_exec();

	return after_exec(needed, real.fexecve(call->fd, call->argv, envp));
}

static int do_execvpe(const struct call *call, char *const *envp)
{
	bool needed = before_exec();

	return after_exec(needed, real.execvpe(call->file, call->argv, envp));
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	return execute(&(struct call){ do_execve, .file = path, .argv = argv }, envp);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	return execute(&(struct call){ do_execvpe, .file = file, .argv = argv }, envp);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int execveat(int fd, const char *path, char *const argv[], char *const envp[],
		    int flags)
{
	return execute(&(struct call){ do_execveat, fd, flags, path, argv, NULL, NULL,
				       NULL },
		       envp);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	return execute(&(struct call){ do_fexecve, .fd = fd, .argv = argv }, envp);
}

/* The arguments up to a NULL; how many they are, without it. */
static size_t count(const char *arg, va_list ap)
{
	size_t n;

	for (n = 0; arg; n++)
		arg = va_arg(ap, const char *);
	return n;
}

static void gather(char **argv, const char *arg, va_list ap)
{
	while ((*argv++ = (char *)(uintptr_t)arg))
		arg = va_arg(ap, const char *);
}

/* Both are read from ap, one after the other; a va_list is good for one reading. */
#define GATHER(argv, arg, ap)                                                            \
	va_start(ap, arg);                                                               \
	size_t nr = count(arg, ap);                                                      \
	va_end(ap);                                                                      \
	char *argv[nr + 1];                                                              \
	va_start(ap, arg);                                                               \
	gather(argv, arg, ap)

EXPORT int execl(const char *path, const char *arg, ...)
{
	va_list ap;

	GATHER(argv, arg, ap);
	va_end(ap);
	return execv(path, argv);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	va_list ap;

	GATHER(argv, arg, ap);
	va_end(ap);
	return execvp(file, argv);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	char *const *envp;
	va_list ap;

	GATHER(argv, arg, ap);
	envp = va_arg(ap, char *const *);
	va_end(ap);
	return execve(path, argv, envp);
}

/* ---- posix_spawn() --------------------------------------------------------------- */

static int do_spawn(const struct call *call, char *const *envp)
{
	exec_bind();
	return real.posix_spawn(call->pid, call->file, call->actions, call->attr,
				call->argv, envp);
}

static int do_spawnp(const struct call *call, char *const *envp)
{
	exec_bind();
	return real.posix_spawnp(call->pid, call->file, call->actions, call->attr,
				 call->argv, envp);
}

EXPORT int posix_spawn(pid_t *pid, const char *path,
		       const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[],
		       char *const envp[])
{
	return execute(&(struct call){ do_spawn, 0, 0, path, argv, pid, actions, attr },
		       envp);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file,
			const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[],
			char *const envp[])
{
	return execute(&(struct call){ do_spawnp, 0, 0, file, argv, pid, actions, attr },
		       envp);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can this program be run under uhmm? Answered before anything is started.
 *
 * uhmm lives in a library that the dynamic linker loads (LD_PRELOAD). So the program
 * must be dynamically linked, for this machine, against the C library that uhmm is
 * linked against, and must not change user, group or capabilities when it starts: the
 * dynamic linker ignores LD_PRELOAD then. A script is judged by its interpreter.
 * Between this check and exec the file may change: then the program runs without being
 * migrated, as any static program that it starts does.
 *
 * Called once, before the fork. Every refusal is one line that names the file.
 */
#include "cmd.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Interpreters of interpreters: the kernel follows as many. */
#define SCRIPT_DEPTH_MAX 5
/* The kernel reads no more of a script's first line. */
#define SCRIPT_LINE_MAX 256
/* Program headers of a sane ELF file; one has about 13. */
#define PHDRS_MAX 512

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#define OUR_MACHINE_NAME "x86-64"
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#define OUR_MACHINE_NAME "AArch64"
#else
#error "name this machine's ELF number here, and test the preload on it"
#endif

/* 0 if execve could run path, else -errno. */
static int runnable(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS))
		return -EACCES;
	return 0;
}

static int not_runnable(const char *path, int err)
{
	if (err == -ENOENT || err == -ENOTDIR) {
		complain("%s: no such program", path);
		return STATUS_NOT_FOUND;
	}
	if (err == -EISDIR)
		complain("%s: is a directory, not a program", path);
	else if (err == -EACCES)
		complain("%s: is not executable, or may not be executed by you", path);
	else
		complain("%s: cannot be executed: %s", path, strerror(-err));
	return STATUS_CANNOT_RUN;
}

int program_find(const char *name, char **path)
{
	static const char fallback[] = "/bin:/usr/bin";
	const char *dir = getenv("PATH");
	char *refused = NULL;
	int refused_err = 0, err;

	if (!*name) {
		complain("run: the program's name is empty");
		return STATUS_NOT_FOUND;
	}
	if (strchr(name, '/')) {
		err = runnable(name);
		if (err)
			return not_runnable(name, err);
		*path = strdup(name);
		return *path ? 0 : not_runnable(name, -ENOMEM);
	}
	if (!dir)
		dir = fallback;
	for (;; dir++) {
		size_t len = strcspn(dir, ":");
		char *candidate;

		/* An empty part of PATH is the current directory. */
		if (asprintf(&candidate, "%.*s%s%s", (int)len, dir, len ? "/" : "./",
			     name) < 0)
			return not_runnable(name, -ENOMEM);
		err = runnable(candidate);
		if (!err) {
			free(refused);
			*path = candidate;
			return 0;
		}
		/* As execvp: one that may not be run is the answer if no other can. */
		if (err != -ENOENT && err != -ENOTDIR && err != -EISDIR && !refused) {
			refused = candidate;
			refused_err = err;
		} else {
			free(candidate);
		}
		dir += len;
		if (!*dir)
			break;
	}
	if (refused) {
		err = not_runnable(refused, refused_err);
		free(refused);
		return err;
	}
	complain("%s: no such program in PATH", name);
	return STATUS_NOT_FOUND;
}

/* Whether the dynamic linker will run path in secure mode, where it preloads nothing. */
static const char *changes_privileges(int fd, const struct stat *st)
{
	uid_t euid = geteuid();
	gid_t egid = getegid();
	struct statvfs vfs;

	if (fstatvfs(fd, &vfs) == 0 && !(vfs.f_flag & ST_NOSUID) &&
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
		if (st->st_mode & S_ISUID)
			euid = st->st_uid;
		if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
			egid = st->st_gid;
		/* The real user root has all capabilities anyway. */
		if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
			return "has file capabilities";
	}
	if (euid != getuid())
		return "is setuid";
	if (egid != getgid())
		return "is setgid";
	return NULL;
}

/*
 * Reads the ELF file's dynamic linker into interp. 1, 0 if it names none, -errno if its
 * headers make no sense.
 */
static int elf_interpreter(int fd, const Elf64_Ehdr *ehdr, char interp[PATH_MAX])
{
	Elf64_Phdr phdr;

	if (ehdr->e_phentsize != sizeof(phdr) || ehdr->e_phnum > PHDRS_MAX)
		return -ENOEXEC;
	for (unsigned i = 0; i < ehdr->e_phnum; i++) {
		if (pread(fd, &phdr, sizeof(phdr),
			  (off_t)(ehdr->e_phoff + i * sizeof(phdr))) != sizeof(phdr))
			return -ENOEXEC;
		if (phdr.p_type != PT_INTERP)
			continue;
		if (phdr.p_filesz < 2 || phdr.p_filesz > PATH_MAX ||
		    pread(fd, interp, phdr.p_filesz, (off_t)phdr.p_offset) !=
			    (ssize_t)phdr.p_filesz)
			return -ENOEXEC;
		interp[phdr.p_filesz - 1] = 0;
		return 1;
	}
	return 0;
}

/* The dynamic linker of this very program. */
static int our_interpreter(char interp[PATH_MAX])
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), ret = -ENOEXEC;
	Elf64_Ehdr ehdr;

	if (fd < 0)
		return -errno;
	if (pread(fd, &ehdr, sizeof(ehdr), 0) == sizeof(ehdr))
		ret = elf_interpreter(fd, &ehdr, interp);
	close(fd);
	return ret;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int cannot(const char *path, const char *why)
{
	complain("%s: %s", path, why);
	return STATUS_CANNOT_RUN;
}

static int check_elf(const char *path, int fd, const struct stat *st,
		     const Elf64_Ehdr *ehdr)
{
	char interp[PATH_MAX], ours[PATH_MAX], real[PATH_MAX], real_ours[PATH_MAX];
	const char *why;
	int ret;

	/* e_machine lies at the same offset in both classes. */
	if (ehdr->e_ident[EI_CLASS] == ELFCLASS32)
		return cannot(path,
			      "is a 32-bit program: uhmm runs 64-bit programs only");
	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64 || ehdr->e_machine != OUR_MACHINE)
		return cannot(path,
			      "is built for another machine than " OUR_MACHINE_NAME);
	if (ehdr->e_type != ET_EXEC && ehdr->e_type != ET_DYN)
		return cannot(path, "is an object file or a core dump, not a program");
	why = changes_privileges(fd, st);
	if (why) {
		complain("%s: %s: the dynamic linker preloads nothing into such a "
			 "program, so "
			 "uhmm cannot migrate it: run uhmm as the user it changes to",
			 path, why);
		return STATUS_CANNOT_RUN;
	}
	ret = elf_interpreter(fd, ehdr, interp);
	if (ret < 0)
		return cannot(path, "has damaged ELF headers");
	if (our_interpreter(ours) != 1 || !realpath(ours, real_ours))
		return cannot(
			path,
			"cannot be compared with uhmm, which has no dynamic linker");
	if (ret == 0) {
		/* The dynamic linker itself, as in `ld.so ./program`, does preload. */
		if (ehdr->e_type == ET_DYN && realpath(path, real) &&
		    !strcmp(real, real_ours))
			return 0;
		return cannot(path,
			      "is statically linked: uhmm needs a dynamically linked "
			      "program to load itself into");
	}
	if (access(interp, X_OK)) {
		complain("%s: its dynamic linker %s cannot be run: %s", path, interp,
			 strerror(errno));
		return STATUS_CANNOT_RUN;
	}
	if (strcmp(last_part(interp), last_part(ours))) {
		complain("%s: uses another C library (%s) than uhmm (%s)", path, interp,
			 ours);
		return STATUS_CANNOT_RUN;
	}
	return 0;
}

/* The interpreter that a script's first line names; NULL if it names none. */
static char *script_interpreter(char *line)
{
	char *end;

	line += 2 + strspn(line + 2, " \t");
	end = line + strcspn(line, " \t\n");
	*end = 0;
	return *line ? line : NULL;
}

int program_check(const char *path)
{
	char line[SCRIPT_LINE_MAX + 1], current[PATH_MAX];
	Elf64_Ehdr ehdr;
	struct stat st;

	snprintf(current, sizeof(current), "%s", path);
	for (int depth = 0; depth <= SCRIPT_DEPTH_MAX; depth++) {
		int fd = open(current, O_RDONLY | O_CLOEXEC), err, ret;
		const char *next = "/bin/sh";
		ssize_t n;

		if (fd < 0) {
			complain("%s: cannot be read, so uhmm cannot tell whether it can "
				 "be "
				 "migrated: %s",
				 current, strerror(errno));
			return STATUS_CANNOT_RUN;
		}
		memset(&ehdr, 0, sizeof(ehdr));
		n = pread(fd, line, sizeof(line) - 1, 0);
		line[n > 0 ? n : 0] = 0;
		if (n >= (ssize_t)sizeof(ehdr))
			memcpy(&ehdr, line, sizeof(ehdr));
		if (!memcmp(ehdr.e_ident, ELFMAG, SELFMAG) && !fstat(fd, &st)) {
			ret = check_elf(current, fd, &st, &ehdr);
			close(fd);
			return ret;
		}
		close(fd);
		/* A file without a magic number is a shell script to execvp, as to us. */
		if (!strncmp(line, "#!", 2))
			next = script_interpreter(line);
		if (!next) {
			complain("%s: its first line names no interpreter", current);
			return STATUS_CANNOT_RUN;
		}
		err = runnable(next);
		if (err) {
			complain("%s: its interpreter %s cannot be run: %s", current,
				 next, strerror(-err));
			return STATUS_CANNOT_RUN;
		}
		snprintf(current, sizeof(current), "%s", next);
	}
	complain("%s: its interpreters are scripts of scripts, too many of them", path);
	return STATUS_CANNOT_RUN;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `uhmm` refuses: every bad input gets one line that names it and says what is
 * accepted, its exit status, and leaves nothing started and no file behind.
 */
#include "cli.h"

#include <cJSON.h>
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

#define NOBODY 65534

struct refusal {
	const char *args[8];
	int status;
	const char *says;
};

static const struct refusal refusals[] = {
	{ { "rnu" }, 125, "'rnu' is not a verb: did you mean 'uhmm run'?" },
	{ { "doctr", "--json" }, 125, "did you mean 'uhmm doctor'?" },
	{ { "zzz" },
	  125,
	  "'zzz' is not a verb: use run, doctor, devices, dmirror, help or version" },
	{ { "" }, 125, "'' is not a verb" },
	{ { "help", "me" }, 125, "'me' is not a verb" },
	{ { "--memory", "1G" }, 125, "a verb comes first" },
	{ { "doctor", "now" }, 125, "doctor: 'now': takes no arguments" },
	{ { "doctor", "--jsn" },
	  125,
	  "doctor: unknown option '--jsn': did you mean '--json'?" },
	{ { "devices", "lz4" }, 125, "devices: 'lz4': takes no arguments" },
	{ { "devices", "-x" },
	  125,
	  "devices: unknown option '-x': see 'uhmm devices --help'" },

	{ { "dmirror" }, 125, "dmirror: no program given: uhmm dmirror -- PROGRAM" },
	{ { "dmirror", "--" }, 125, "dmirror: no program given" },
	{ { "dmirror", "--trace" }, 125, "--trace: needs a value" },
	{ { "dmirror", "--tarce", "true" }, 125, "did you mean '--trace'?" },
	{ { "dmirror", "--help=me" }, 125, "--help: takes no value" },
	{ { "dmirror", "--trace", "/nowhere/x", "true" },
	  125,
	  "--trace: cannot write '/nowhere/x': No such file or directory" },
	{ { "dmirror", "no-such-program-anywhere" },
	  127,
	  "no-such-program-anywhere: no such program in PATH" },
	{ { "dmirror", "/" }, 126, "/: is a directory, not a program" },

	{ { "run", "true" }, 125, "--memory is missing: say how much" },
	{ { "run", "--memory", "64M" }, 125, "no program given" },
	{ { "run", "--memory", "64M", "--" }, 125, "no program given" },
	{ { "run", "--memory" }, 125, "--memory: needs a value" },
	{ { "run", "--device" }, 125, "--device: needs a value" },
	{ { "run", "--memroy", "64M", "true" }, 125, "did you mean '--memory'?" },
	{ { "run", "--frobnicate", "true" }, 125, "unknown option '--frobnicate': see" },
	{ { "run", "-m", "true" }, 125, "run: unknown option '-m'" },
	{ { "run", "--help=me" }, 125, "--help: takes no value" },
	{ { "run", "--\033[31m" }, 125, "unknown option '--?[31m'" },

	{ { "run", "--memory", "12Q", "true" },
	  125,
	  "--memory: '12Q' is not a size: use a number with K, M, G or T, as in 512M" },
	{ { "run", "--memory", "", "true" }, 125, "'' is not a size" },
	{ { "run", "--memory", "M", "true" }, 125, "'M' is not a size" },
	{ { "run", "--memory", "-1G", "true" }, 125, "'-1G' is not a size" },
	{ { "run", "--memory", "1e9", "true" }, 125, "'1e9' is not a size" },
	{ { "run", "--memory", "0x10000000", "true" }, 125, "is not a size" },
	{ { "run", "--memory", "1.2.3G", "true" }, 125, "is not a size" },
	{ { "run", "--memory", "1.G", "true" }, 125, "is not a size" },
	{ { "run", "--memory", "512M ", "true" }, 125, "is not a size" },
	{ { "run", "--memory", "512MM", "true" }, 125, "is not a size" },
	{ { "run", "--memory", "100000000.5", "true" }, 125, "is not a size" },
	{ { "run", "--memory", "50%%", "true" }, 125, "is not a size" },
	{ { "run", "--memory", "0", "true" }, 125, "'0' is less than 16M" },
	{ { "run", "--memory", "512", "true" }, 125, "'512' is less than 16M" },
	{ { "run", "--memory", "16777215", "true" }, 125, "is less than 16M" },
	{ { "run", "--memory", "15.999M", "true" }, 125, "is less than 16M" },
	{ { "run", "--memory", "0%", "true" }, 125, "is less than 16M" },
	{ { "run", "--memory", "99999999999999999999", "true" },
	  125,
	  "more than any machine" },
	{ { "run", "--memory", "18446744073709551616", "true" },
	  125,
	  "more than any machine" },
	{ { "run", "--memory", "17179869184G", "true" }, 125, "more than any machine" },
	{ { "run", "--memory", "99999999999T", "true" }, 125, "more than any machine" },
	{ { "run", "--memory", "9999999999999999%", "true" },
	  125,
	  "more than any machine" },

	{ { "run", "--memory", "64M", "--device", "floppy", "true" },
	  125,
	  "--device \"floppy\": there is no device \"floppy\"; there are: " },
	{ { "run", "--memory", "64M", "--device", "", "true" }, 125, "--device \"\": " },
	{ { "run", "--memory", "64M", "--device", "lz4:size=big", "true" },
	  125,
	  "size=big is not a size" },
	{ { "run", "--memory", "64M", "--device", "lz4:colour=red", "true" },
	  125,
	  "lz4 has no option \"colour\"" },
	{ { "run", "--memory", "64M", "--device", "lz4+", "true" },
	  125,
	  "--device \"lz4+\": " },

	{ { "run", "--memory", "64M", "--stats=xml", "true" },
	  125,
	  "--stats: 'xml' is not a form: use --stats or --stats=json:FILE" },
	{ { "run", "--memory", "64M", "--stats=json:", "true" }, 125, "is not a form" },
	{ { "run", "--memory", "64M", "--stats=json:/nowhere/x", "true" },
	  125,
	  "--stats: cannot write '/nowhere/x': No such file or directory" },
	{ { "run", "--memory", "64M", "--stats=json:/dev", "true" },
	  125,
	  "'/dev': Is a directory" },

	{ { "run", "--memory", "64M", "no-such-program-anywhere" },
	  127,
	  "no-such-program-anywhere: no such program in PATH" },
	{ { "run", "--memory", "64M", "./no-such-program" },
	  127,
	  "./no-such-program: no such program" },
	{ { "run", "--memory", "64M", "/etc/passwd/program" }, 127, "no such program" },
	{ { "run", "--memory", "64M", "" }, 127, "the program's name is empty" },
	{ { "run", "--memory", "64M", "/etc/passwd" },
	  126,
	  "/etc/passwd: is not executable" },
	{ { "run", "--memory", "64M", "/dev/null" },
	  126,
	  "/dev/null: is not executable" },
	{ { "run", "--memory", "64M", "/usr" }, 126, "/usr: is a directory" },
};

static void refused(struct cli *cli, int status, const char *says,
		    const char *const args[8])
{
	const char *argv[10] = { cli_uhmm() };

	for (int i = 0; i < 8 && args[i]; i++)
		argv[i + 1] = args[i];
	cli_start(cli, NULL, argv);
	cli_finish(cli);
	cli_check_refused(cli, status, says);
}

TEST(bad_input_is_refused_in_one_line, .timeout_s = 60)
{
	static struct cli cli;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		refused(&cli, refusals[i].status, refusals[i].says, refusals[i].args);
}

static void check_program(const char *path, int status, const char *says)
{
	static struct cli cli;
	const char *args[8] = { "run", "--memory", "64M", "--", path };

	refused(&cli, status, says, args);
	CHECK(strstr(cli.err_text, path), "it names the file: %.300s", cli.err_text);
}

TEST(a_static_program_is_refused)
{
	char *script, line[PATH_MAX];

	check_program(cli_static(), 126, "is statically linked");
	/* As the interpreter of a script, too. */
	snprintf(line, sizeof(line), "#! %s -x\n", cli_static());
	script = cli_write("script", line, strlen(line), 0755);
	{
		static struct cli cli;
		const char *args[8] = { "run", "--memory", "64M", script };

		refused(&cli, 126, "cli_static: is statically linked", args);
	}
	free(script);
	cli_scratch_remove();
}

TEST(a_program_of_another_machine_is_refused)
{
	Elf64_Ehdr ehdr = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					 ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_DYN,
			    .e_machine = EM_RISCV,
			    .e_phentsize = sizeof(Elf64_Phdr) };
	Elf32_Ehdr ehdr32 = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32,
					   ELFDATA2LSB, EV_CURRENT },
			      .e_type = ET_DYN,
			      .e_machine = EM_386 };
	char padded[128] = { 0 }, *path;

	path = cli_write("riscv", &ehdr, sizeof(ehdr), 0755);
	check_program(path, 126, "is built for another machine");
	free(path);
	memcpy(padded, &ehdr32, sizeof(ehdr32));
	path = cli_write("i386", padded, sizeof(padded), 0755);
	check_program(path, 126, "is a 32-bit program");
	free(path);
	/* Headers that promise what the file does not have. */
#if defined(__x86_64__)
	ehdr.e_machine = EM_X86_64;
#else
	ehdr.e_machine = EM_AARCH64;
#endif
	ehdr.e_phnum = 5;
	ehdr.e_phoff = 1 << 20;
	path = cli_write("short", &ehdr, sizeof(ehdr), 0755);
	check_program(path, 126, "has damaged ELF headers");
	free(path);
	ehdr.e_type = ET_REL;
	path = cli_write("object", &ehdr, sizeof(ehdr), 0755);
	check_program(path, 126, "is an object file");
	free(path);
	cli_scratch_remove();
}

TEST(scripts_without_a_usable_interpreter_are_refused)
{
	static const char gone[] = "#!/no/such/interpreter\n", none[] = "#! \n";
	char *path, loop[PATH_MAX];

	path = cli_write("gone", gone, strlen(gone), 0755);
	check_program(path, 126, "its interpreter /no/such/interpreter cannot be run");
	free(path);
	path = cli_write("none", none, strlen(none), 0755);
	check_program(path, 126, "its first line names no interpreter");
	free(path);
	snprintf(loop, sizeof(loop), "#!%s/loop\n", cli_scratch());
	path = cli_write("loop", loop, strlen(loop), 0755);
	check_program(path, 126, "its interpreters are scripts of scripts");
	free(path);
	path = cli_write("mode", "#!/bin/sh\n", 10, 0644);
	check_program(path, 126, "is not executable");
	free(path);
	cli_scratch_remove();
}

/* ---- privileges -------------------------------------------------------------------- */

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
		_exit(201);
}

static void need_root(void)
{
	if (geteuid())
		SKIP("needs root");
}

TEST(setuid_programs_are_refused)
{
	static struct cli cli;
	char *setuid_path, *setgid_path, *own;

	need_root();
	setuid_path = cli_copy(cli_prog(), "setuid", 0755);
	CHECK_EQ(chown(setuid_path, NOBODY, 0), 0);
	CHECK_EQ(chmod(setuid_path, 04755), 0);
	check_program(setuid_path, 126, "is setuid");
	setgid_path = cli_copy(cli_prog(), "setgid", 0755);
	CHECK_EQ(chown(setgid_path, 0, NOBODY), 0);
	CHECK_EQ(chmod(setgid_path, 02755), 0);
	check_program(setgid_path, 126, "is setgid");
	/* To the one who calls it nothing changes: then the library is loaded. */
	own = cli_copy(cli_prog(), "own", 04755);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", own, "exit", "9", NULL);
	CHECK_EQ(cli_exit_status(&cli), 9);
	free(setuid_path);
	free(setgid_path);
	free(own);
	cli_scratch_remove();
}

TEST(programs_with_capabilities_are_refused)
{
	struct vfs_cap_data caps = {
		.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
		.data = { { .permitted = 1u << CAP_NET_BIND_SERVICE } },
	};
	static struct cli cli;
	char *path, *uhmm;

	need_root();
	path = cli_copy(cli_prog(), "capable", 0755);
	uhmm = cli_public_uhmm();
	if (setxattr(path, "security.capability", &caps, sizeof(caps), 0)) {
		cli_scratch_remove();
		SKIP("no file capabilities here: %s", strerror(errno));
	}
	cli_run(&cli, become_nobody, uhmm, "run", "--memory", "64M", path, NULL);
	cli_check_refused(&cli, 126, "has file capabilities");
	free(path);
	free(uhmm);
	cli_scratch_remove();
}

TEST(an_unreadable_program_is_refused)
{
	static struct cli cli;
	char *path, *uhmm;

	need_root();
	path = cli_copy(cli_prog(), "unreadable", 0711);
	uhmm = cli_public_uhmm();
	cli_run(&cli, become_nobody, uhmm, "run", "--memory", "64M", path, NULL);
	cli_check_refused(&cli, 126, "cannot be read");
	free(path);
	free(uhmm);
	cli_scratch_remove();
}

/* Where it cannot be otherwise: the guard is for x86-64. */
static bool is_done_inline(void)
{
	struct utsname uts;

	return !uname(&uts) && !strcmp(uts.machine, "x86_64");
}

static void check_delivery(const char *stats, const char *want)
{
	cJSON *json = cli_json(stats);

	CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(json, "delivery")), want);
	cJSON_Delete(json);
}

TEST(without_permission_it_is_done_inline)
{
	static struct cli cli;
	char option[128], *uhmm;

	need_root();
	if (!is_done_inline())
		SKIP("x86-64 only");
	uhmm = cli_public_uhmm();
	snprintf(option, sizeof(option), "--stats=json:%s/stats", cli_scratch());
	CHECK_EQ(chmod(cli_scratch(), 0777), 0);
	cli_run(&cli, become_nobody, uhmm, "run", "--memory", "64M", option, "true",
		NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	check_delivery(strchr(option, ':') + 1, "inline");
	cli_run(&cli, become_nobody, uhmm, "doctor", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	CHECK(strstr(cli.out_text, "faults are resolved by the thread that has them"));
	cli_run(&cli, become_nobody, uhmm, "run", "--memory", "64M", "--faults=either",
		option, "true", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	check_delivery(strchr(option, ':') + 1, "inline");
	/* Who has it keeps what he has. */
	cli_run(&cli, NULL, uhmm, "run", "--memory", "64M", option, "true", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	check_delivery(strchr(option, ':') + 1, "thread");
	cli_run(&cli, NULL, uhmm, "run", "--memory", "64M", "--faults=either", option,
		"true", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	check_delivery(strchr(option, ':') + 1, "inline");
	free(uhmm);
	cli_scratch_remove();
}

TEST(without_permission_the_fix_is_named)
{
	static struct cli cli;
	char *uhmm;

	need_root();
	uhmm = cli_public_uhmm();
	cli_run(&cli, become_nobody, uhmm, "run", "--memory", "64M", "--faults=thread",
		"true", NULL);
	cli_check_refused(
		&cli, 125,
		"sudo setpriv --reuid 65534 --regid 65534 --init-groups --inh-caps "
		"+sys_ptrace --ambient-caps +sys_ptrace uhmm run");
	cli_run(&cli, become_nobody, uhmm, "doctor", NULL);
	CHECK_EQ(cli_exit_status(&cli), is_done_inline() ? 0 : 1);
	CHECK(strstr(cli.out_text, "mend: sudo setpriv"), "%.500s", cli.out_text);
	free(uhmm);
	cli_scratch_remove();
}

static void lose_the_capability(void)
{
	if (prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0))
		_exit(201);
}

TEST(a_capability_taken_away_is_named)
{
	static struct cli cli;

	need_root();
	cli_run(&cli, lose_the_capability, cli_uhmm(), "run", "--memory", "64M",
		"--faults=thread", "true", NULL);
	cli_check_refused(&cli, 125, "--cap-add SYS_PTRACE");
}

static void install_filter(unsigned action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
		/* /dev/userfaultfd would be the way around the filter. */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xaa00, 0, 2),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	/* userfaultfd itself goes to the action, the ioctl is refused. */
	code[1].jt = 4;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(201);
}

static void forbid_userfaultfd(void)
{
	install_filter(SECCOMP_RET_ERRNO | EPERM);
}

static void hide_userfaultfd(void)
{
	install_filter(SECCOMP_RET_ERRNO | ENOSYS);
}

static void kill_for_userfaultfd(void)
{
	install_filter(SECCOMP_RET_KILL_PROCESS);
}

TEST(a_seccomp_filter_is_recognized)
{
	static struct cli cli;
	static const struct {
		cli_prepare *prepare;
		const char *says;
	} filters[] = {
		{ forbid_userfaultfd, "a seccomp filter forbids userfaultfd: allow the" },
		{ hide_userfaultfd, "a seccomp filter hides userfaultfd: allow the" },
		{ kill_for_userfaultfd, "a seccomp filter kills who calls userfaultfd" },
	};

	need_root();
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		cli_run(&cli, filters[i].prepare, cli_uhmm(), "run", "--memory", "64M",
			"true", NULL);
		cli_check_refused(&cli, 125, filters[i].says);
		cli_run(&cli, filters[i].prepare, cli_uhmm(), "doctor", NULL);
		CHECK_EQ(cli_exit_status(&cli), 1);
	}
}

TEST(without_the_preload_nothing_starts)
{
	static struct cli cli;
	char *uhmm = cli_copy(cli_uhmm(), "uhmm", 0755);

	if (!access(UHMM_PRELOAD_INSTALLED, R_OK)) {
		cli_scratch_remove();
		SKIP("%s is installed", UHMM_PRELOAD_INSTALLED);
	}
	cli_run(&cli, NULL, uhmm, "run", "--memory", "64M", "true", NULL);
	cli_check_refused(&cli, 125, "install uhmm again");
	cli_run(&cli, NULL, uhmm, "doctor", NULL);
	CHECK_EQ(cli_exit_status(&cli), 1);
	free(uhmm);
	cli_scratch_remove();
}

TEST(a_path_that_cannot_be_preloaded_is_refused)
{
	static struct cli cli;
	char from[PATH_MAX], dir[PATH_MAX];
	char *uhmm, *preload;

	snprintf(dir, sizeof(dir), "%s/with space", cli_scratch());
	CHECK_EQ(mkdir(dir, 0755), 0);
	snprintf(from, sizeof(from), "%.*s/libuhmm-preload.so",
		 (int)(strrchr(cli_uhmm(), '/') - cli_uhmm()), cli_uhmm());
	preload = cli_copy(from, "with space/libuhmm-preload.so", 0644);
	uhmm = cli_copy(cli_uhmm(), "with space/uhmm", 0755);
	cli_run(&cli, NULL, uhmm, "run", "--memory", "64M", "true", NULL);
	cli_check_refused(&cli, 125, "cannot be preloaded");
	free(uhmm);
	free(preload);
	cli_scratch_remove();
}

/* ---- nothing is left behind -------------------------------------------------------- */

static void private_shm(const char *options)
{
	if (!cli_private_shm(options))
		SKIP("no /dev/shm of our own: %s", strerror(errno));
}

static int files_in(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int nr = 0;

	CHECK(dir);
	while ((entry = readdir(dir)))
		nr += entry->d_name[0] != '.';
	closedir(dir);
	return nr;
}

TEST(a_refusal_leaves_no_file, .timeout_s = 60)
{
	static struct cli cli;

	private_shm(NULL);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		refused(&cli, refusals[i].status, refusals[i].says, refusals[i].args);
	CHECK_EQ(files_in("/dev/shm"), 0);
}

/* A program that looks right and that execve() refuses: its dynamic linker is none. */
static char *unloadable(void)
{
	struct {
		Elf64_Ehdr ehdr;
		Elf64_Phdr phdr;
		char interp[256];
	} elf = { 0 };
	int fd = open(cli_prog(), O_RDONLY | O_CLOEXEC);
	char *linker;

	CHECK_EQ(read(fd, &elf.ehdr, sizeof(elf.ehdr)), (ssize_t)sizeof(elf.ehdr));
	do
		CHECK_EQ(pread(fd, &elf.phdr, sizeof(elf.phdr), (off_t)elf.ehdr.e_phoff),
			 (ssize_t)sizeof(elf.phdr));
	while (elf.ehdr.e_phoff += sizeof(elf.phdr), elf.phdr.p_type != PT_INTERP);
	CHECK_LT(elf.phdr.p_filesz, sizeof(elf.interp));
	CHECK_EQ(pread(fd, elf.interp, elf.phdr.p_filesz, (off_t)elf.phdr.p_offset),
		 (ssize_t)elf.phdr.p_filesz);
	close(fd);
	/* Of the right name: that is what uhmm looks at. */
	linker = cli_write(strrchr(elf.interp, '/') + 1, elf.interp, sizeof(elf.interp),
			   0755);
	snprintf(elf.interp, sizeof(elf.interp), "%s", linker);
	free(linker);
	elf.phdr.p_filesz = strlen(elf.interp) + 1;
	elf.phdr.p_offset = (size_t)(elf.interp - (char *)&elf);
	elf.ehdr.e_phoff = (size_t)((char *)&elf.phdr - (char *)&elf);
	elf.ehdr.e_phnum = 1;
	return cli_write("unloadable", &elf, sizeof(elf), 0755);
}

/* The last thing that can go wrong: everything is there, and exec fails. */
TEST(a_failing_exec_leaves_no_file)
{
	static struct cli cli;
	char *path = unloadable(), *old = cli_write("old", "precious", 8, 0644), *option;
	char text[16] = "";
	int fd;

	private_shm(NULL);
	CHECK(asprintf(&option, "--stats=json:%s/new", cli_scratch()) > 0);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", option, path, NULL);
	cli_check_refused(&cli, 126, "cannot be executed: ");
	CHECK_EQ(files_in("/dev/shm"), 0);
	CHECK(access(strchr(option, ':') + 1, F_OK) && errno == ENOENT);
	free(option);
	/* What was there before stays as it was. */
	CHECK(asprintf(&option, "--stats=json:%s", old) > 0);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", option, path, NULL);
	cli_check_refused(&cli, 126, "cannot be executed: ");
	fd = open(old, O_RDONLY | O_CLOEXEC);
	CHECK_EQ(read(fd, text, sizeof(text) - 1), 8);
	CHECK_STR(text, "precious");
	close(fd);
	free(option);
	free(path);
	free(old);
	cli_scratch_remove();
}

TEST(a_full_dev_shm_is_passed_over)
{
	static struct cli cli;
	char want[PATH_MAX];

	/* The segment is 4 MiB. */
	private_shm("size=1m");
	setenv("XDG_RUNTIME_DIR", cli_scratch(), 1);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", cli_prog(), "env",
		NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	snprintf(want, sizeof(want), "UHMM_CTL=%s/", cli_scratch());
	CHECK(strstr(cli.out_text, want), "%.400s", cli.out_text);
	CHECK_EQ(files_in("/dev/shm"), 0);
	CHECK_EQ(files_in(cli_scratch()), 0);
	cli_scratch_remove();
}

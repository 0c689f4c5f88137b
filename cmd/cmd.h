/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The uhmm command: one program, a file per verb.
 *
 * A verb is called with its own name as argv[0] and returns the exit status. It parses
 * its options with getopt_long and opterr off, and hands what getopt refuses to
 * option_error(), so that every refusal looks alike. Nothing here runs on more than one
 * thread, and nothing outlives main() except what supervise.c and tree.c fork.
 *
 * Statuses are those of env(1), nice(1) and timeout(1), because `uhmm run` is used in
 * their place: 125 uhmm refused, 126 the program cannot be run, 127 there is none.
 */
#ifndef UHMM_CMD_H
#define UHMM_CMD_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STATUS_OK = 0,
	STATUS_NO = 1,        /* doctor: `uhmm run` would not work here */
	STATUS_REFUSED = 125, /* bad usage, or this machine does not permit it */
	STATUS_CANNOT_RUN = 126,
	STATUS_NOT_FOUND = 127,
};

struct verb {
	const char *name;
	const char *summary; /* for `uhmm --help` */
	const char *help;    /* the verb's own page, one screen */
	int (*main)(int argc, char **argv);
};

extern const struct verb verb_run, verb_doctor, verb_devices, verb_dmirror;

/* ---- text.c ------------------------------------------------------------------------ */

/* One line on stderr, "uhmm: " in front, in a single write; control characters as '?'. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The name in names (ended by NULL) that word was probably meant to be, or NULL. */
const char *nearest(const char *word, const char *const *names);

/*
 * Complains about the argument at which getopt_long returned c ('?' or ':'), with the
 * name that was meant if one is near. Always STATUS_REFUSED.
 */
int option_error(const char *verb, int c, char **argv, const struct option *options);

/*
 * A number of bytes: 512M, 1.5GiB, 4096, or a part of ram_bytes: 50%.
 * 0; -EINVAL: not a size; -ERANGE: does not fit.
 */
int parse_size(const char *text, uint64_t ram_bytes, uint64_t *bytes);

/* "1.5 GiB". Returns buf. */
const char *format_size(char *buf, size_t len, uint64_t bytes);

/* Flushes stdout. status, or STATUS_REFUSED with a complaint if it cannot be written. */
int finish_output(int status);

/* ---- devices.c --------------------------------------------------------------------- */

/*
 * Whether `uhmm run` can migrate to the device that is given; spec, of CTL_SPEC_MAX
 * bytes, is then the same from any directory. 0, or STATUS_REFUSED with a complaint.
 */
int check_device(const char *given, char *spec);

/* ---- program.c --------------------------------------------------------------------- */

/* Finds the file that execvp(name) would run. 0 and *path to be freed; or a status. */
int program_find(const char *name, char **path);

/*
 * Whether the preload would be loaded into path, following scripts to their
 * interpreters. 0, or STATUS_CANNOT_RUN after saying why not.
 */
int program_check(const char *path);

/* ---- launch.c ---------------------------------------------------------------------- */

#define PRELOAD_RUN "libuhmm-preload.so"
#define PRELOAD_DMIRROR "libuhmm-dmirror.so"

/*
 * A library that is loaded into programs: beside this program in a build tree, else where
 * it was installed. 0; -EINVAL: LD_PRELOAD cannot name it; -errno: it cannot be read.
 * *path, static, is where it is, or where it should be.
 */
int preload_find(const char *name, const char **path);
/* The same; 0, or STATUS_REFUSED with a complaint. */
int preload_check(const char *name, const char **path);
/* Puts it before what LD_PRELOAD names. */
void preload_set(const char *library);
/* Becomes the program, as execvp() would. Returns only if it cannot be executed. */
void program_execute(const char *path, char **program);

#endif

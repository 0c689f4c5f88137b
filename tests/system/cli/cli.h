/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls the uhmm command and looks at what it did.
 *
 * The command under test is a copy that lies beside an empty preload library, so that
 * these tests are about the command alone: where a program has to play the preload's
 * part, cli_prog does, through preload/ctl.h. With UHMM_CLI_REAL in the environment it is
 * the command itself, with the real preload: for tests that do not meddle with its slots.
 * Single-threaded; every function fails the test itself if something cannot be done.
 */
#ifndef TESTS_CLI_H
#define TESTS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "test.h"

/* A uhmm that runs. */
struct cli {
	pid_t pid;
	int in, out, err; /* our ends of its pipes; -1 when closed */
	char out_text[65536], err_text[65536];
	size_t out_len, err_len;
	int status; /* after cli_finish(): as from wait() */
};

/* What to do in the child before exec; NULL: nothing. */
typedef void cli_prepare(void);

/* argv[0] is the file to execute: cli_uhmm(), or anything else. */
void cli_start(struct cli *cli, cli_prepare *prepare, const char *const *argv);
/* Closes its stdin, reads what it writes until the end, waits for it. */
void cli_finish(struct cli *cli);
/* Reads on until what it wrote (to stdout or stderr) contains text. */
void cli_expect_out(struct cli *cli, const char *text);
void cli_expect_err(struct cli *cli, const char *text);

/* cli_start and cli_finish with arguments up to a NULL. */
void cli_run(struct cli *cli, cli_prepare *prepare, const char *file, ...)
	__attribute__((sentinel));

/* The exit status; the test fails if a signal ended it. */
int cli_exit_status(const struct cli *cli);
/* Checks that it refused: status, and one line on stderr that contains text. */
void cli_check_refused(const struct cli *cli, int status, const char *text);

/* Absolute paths. */
const char *cli_uhmm(void);
const char *cli_prog(void);
const char *cli_static(void);

/* A directory for the running test, open to other users, and its end. */
const char *cli_scratch(void);
void cli_scratch_remove(void);
/* Copies a file into the scratch directory under a name. The path, to be freed. */
char *cli_copy(const char *from, const char *name, mode_t mode);
/* The command and its library there, where nobody can reach them; to be freed. */
char *cli_public_uhmm(void);
char *cli_write(const char *name, const void *data, size_t len, mode_t mode);

/* A /dev/shm that only this test sees. false: not permitted. */
bool cli_private_shm(const char *options);

void cli_sleep_ms(int ms);

/* A sanitizer that is to be the first library does not mind that it is not. */
void cli_permit_preload(void);

/* A summary that was written to a file; to be deleted. And a number in it. */
struct cJSON *cli_json(const char *path);
double cli_number(const struct cJSON *json, const char *key);

#endif

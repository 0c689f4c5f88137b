/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder for what devices write: made when it is first asked for, and removed with all
 * that is in it when the process ends that has made it.
 */
#ifndef TESTS_FOLDER_H
#define TESTS_FOLDER_H

#include <stddef.h>
#include <sys/types.h>

const char *folder(void);
/* NAME.PID in it. */
const char *folder_file(const char *name, pid_t pid);
/* What is in that file, which must be there, in memory of malloc(); ends with a 0. */
char *folder_read(const char *name, pid_t pid, size_t *len);

#endif

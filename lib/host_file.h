/* SPDX-License-Identifier: Apache-2.0 */
/* Files of devices, for fork: see <uhmm/device.h>. */
#ifndef UHMM_HOST_FILE_H
#define UHMM_HOST_FILE_H

#include <stdbool.h>

#include "lib/os/os.h"

/* The descriptors of those that are open, fds[OS_FILES_MAX]; how many. */
unsigned host_files(int *fds);
/* In a child that was handed them, in the same order, as many. */
void host_files_replace(const int *fds);
/* In a child that has no use for them; inherited: they are open there. */
void host_files_forget(bool inherited);

#endif

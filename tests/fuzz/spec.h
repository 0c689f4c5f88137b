/* SPDX-License-Identifier: Apache-2.0 */
/* What users write, by kind: spec.c hands each to one of these. text ends with a NUL. */
#ifndef FUZZ_SPEC_H
#define FUZZ_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A device spec. real: of the drivers there are, which are opened; else of one that has
 * options of each type. */
void spec_device(const char *text, bool real);
/* A size, as of `uhmm run --memory`. */
void spec_size(const char *text);
/* The arguments of uhmm, a line each. permitted: the machine has a userfaultfd. */
void spec_command(const char *text, bool permitted);
/* A file that uhmm is to run. */
void spec_program(const void *bytes, size_t size);

#endif

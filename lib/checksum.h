/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksum of stored pages: XXH3, 64 bits, seed 0, which is the same on every
 * processor. It is compiled for what every processor of a machine's kind has, and for
 * AVX2, which is what makes it cheap beside a copy of the page.
 */
#ifndef UHMM_CHECKSUM_H
#define UHMM_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/device.h"

uint64_t checksum_any(const void *buf, size_t len);
#ifdef __x86_64__
uint64_t checksum_avx2(const void *buf, size_t len);
#endif

#endif

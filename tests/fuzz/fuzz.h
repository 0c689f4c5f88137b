/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fuzz targets share. A target is a file with one function, which is given bytes,
 * does with them what they say, and ends the process if anything is wrong. It is linked
 * twice: with libFuzzer, which makes the bytes up (scripts/fuzz.sh), and with replay.c,
 * which runs files: the corpus, and what has been found before.
 *
 * A target does the same each time it is given the same bytes, and leaves nothing behind.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* What an input did, for those targets that can say: the same each time. Else NULL. */
extern uint64_t (*const fuzz_digest)(void);

#define FUZZ_CHECK(expr_, ...)                                                           \
	do {                                                                             \
		if (!(expr_)) {                                                          \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #expr_);      \
			fprintf(stderr, __VA_ARGS__);                                    \
			fputc('\n', stderr);                                             \
			abort();                                                         \
		}                                                                        \
	} while (0)

/* Bytes of an input, one after the other; 0 behind the last. */
struct fuzz_bytes {
	const uint8_t *at, *end;
};

static inline uint8_t fuzz_byte(struct fuzz_bytes *b)
{
	return b->at < b->end ? *b->at++ : 0;
}

/* The least significant byte first. */
static inline uint64_t fuzz_number(struct fuzz_bytes *b, unsigned nr_bytes)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < nr_bytes; i++)
		n |= (uint64_t)fuzz_byte(b) << 8 * i;
	return n;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users write: device specs, sizes, command lines, files of programs. Inputs are
 * text; the first character says what kind, and the rest is it. What is refused is
 * refused with one line; what is accepted is within its limits, and means the same once
 * it has been printed.
 */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/spec.h"

uint64_t (*const fuzz_digest)(void) = NULL;

/* false: it is of no kind. */
static bool hand_over(char kind, const char *text, size_t size)
{
	switch (kind) {
	case 'd':
	case 'o':
		spec_device(text, kind == 'd');
		return true;
	case 's':
		spec_size(text);
		return true;
	case 'c':
	case 'C':
		spec_command(text, kind == 'c');
		return true;
	case 'p':
		spec_program(text, size);
		return true;
	default:
		return false;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool good;
	char *text;

	if (!size)
		return -1;
	/* Of its own length, so that a sanitizer knows where it ends. */
	text = malloc(size);
	if (!text)
		return -1;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	good = hand_over((char)data[0], text, size - 1);
	free(text);
	return good ? 0 : -1;
}

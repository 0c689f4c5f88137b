/* SPDX-License-Identifier: Apache-2.0 */
/* Text in columns, as layers write it that tell of what they saw: no stdio there. */
#ifndef UHMM_DEVICES_TEXT_H
#define UHMM_DEVICES_TEXT_H

#include <stdint.h>
#include <string.h>

/* Right-aligned in width bytes behind what fills them; what is too long is all nines. */
static inline void text_number(char *at, uint32_t width, uint64_t n, char fill)
{
	uint32_t left = width;

	do
		at[--left] = (char)('0' + n % 10);
	while ((n /= 10) && left);
	memset(at, n ? '9' : fill, n ? width : left);
}

static inline void text_hex(char *at, uint32_t width, uint64_t n)
{
	uint32_t left = width;

	do
		at[--left] = "0123456789abcdef"[n % 16];
	while ((n /= 16) && left);
	memset(at, n ? 'f' : ' ', n ? width : left);
}

/* Left-aligned, cut if it is too long. */
static inline void text_word(char *at, uint32_t width, const char *word)
{
	size_t len = strlen(word);

	memset(at, ' ', width);
	memcpy(at, word, len < width ? len : width);
}

#endif

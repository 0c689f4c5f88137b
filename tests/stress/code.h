/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machine code that is made at run time: functions that return a number of 16 bits. So a
 * page of code can be checked by running it. CODE_NR is 0 where nobody has written down
 * the instructions.
 *
 * Header only, any thread.
 */
#ifndef STRESS_CODE_H
#define STRESS_CODE_H

#include <stdint.h>
#include <string.h>

#define CODE_SIZE 8u

#if defined(__x86_64__) || defined(__aarch64__)
#define CODE_NR (4096u / CODE_SIZE) /* of a page */
#else
#define CODE_NR 0u
#endif

/* At p, CODE_SIZE bytes that can be written to. */
static inline void code_make(void *p, uint16_t value)
{
#if defined(__x86_64__)
	/* mov $value, %eax; ret */
	const unsigned char code[CODE_SIZE] = {
		0xb8, (unsigned char)value, (unsigned char)(value >> 8), 0, 0, 0xc3
	};
#elif defined(__aarch64__)
	/* movz w0, #value; ret */
	const uint32_t code[2] = { 0x52800000u | (uint32_t)value << 5, 0xd65f03c0u };
#else
	const unsigned char code[CODE_SIZE] = { (unsigned char)value };
#endif
	memcpy(p, code, CODE_SIZE);
	__builtin___clear_cache((char *)p, (char *)p + CODE_SIZE);
}

static inline uint16_t code_run(const void *p)
{
	uint32_t (*fn)(void);

	memcpy(&fn, &p, sizeof(fn));
	return (uint16_t)fn();
}

#endif

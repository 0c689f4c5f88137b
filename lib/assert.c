/* SPDX-License-Identifier: Apache-2.0 */
/* Ending the process with a number in the message; any thread, nothing of libc. */
#include "lib/assert.h"

void die_of_result(const char *where, int64_t result)
{
	char text[256];
	uint64_t v = result < 0 ? (uint64_t)-result : (uint64_t)result;
	char digits[24];
	size_t n = 0, d = 0;

	while (where[n] && n < sizeof(text) - 32) {
		text[n] = where[n];
		n++;
	}
	text[n++] = ' ';
	text[n++] = result < 0 ? '-' : '+';
	do
		digits[d++] = (char)('0' + v % 10);
	while ((v /= 10));
	while (d)
		text[n++] = digits[--d];
	text[n] = 0;
	os_die(text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines MIB: prints log lines in no order, the same for the same MIB.
 *
 * They look like a web server's: much of a line is like its neighbours', the rest is
 * random, so that they compress about as well as real logs do.
 */
#include <stdio.h>
#include <stdlib.h>

#include "stamp.h"

int main(int argc, char **argv)
{
	static const char *const verb[] = {
		"GET", "GET", "GET", "POST", "PUT", "DELETE"
	};
	static const char *const what[] = { "items", "users", "orders", "images/thumbs" };
	size_t bytes = argc > 1 ? strtoull(argv[1], NULL, 10) * MIB : 0, done = 0;
	struct rng rng = { 7 };

	if (!bytes) {
		fputs("usage: lines MIB\n", stderr);
		return 2;
	}
	while (done < bytes) {
		uint64_t a = rng_next(&rng), b = rng_next(&rng);
		int len = printf(
			"host-%02u.example.net - - [12/Mar/2024:%02u:%02u:%02u +0000] "
			"\"%s /api/v1/%s/%u HTTP/1.1\" %u %u \"-\" "
			"\"Mozilla/5.0 (X11; Linux x86_64) Client/1.%u\"\n",
			(unsigned)(a % 40), (unsigned)(a >> 8) % 24,
			(unsigned)(a >> 16) % 60, (unsigned)(a >> 24) % 60,
			verb[(a >> 32) % 6], what[(a >> 40) % 4], (unsigned)(b % 1000000),
			a >> 62 ? 200u : 404u, (unsigned)(b >> 40) % 20000,
			(unsigned)(b >> 60));

		if (len < 0)
			return 1;
		done += (size_t)len;
	}
	return 0;
}

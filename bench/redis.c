/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of redis: what programs.py runs beside a server that is short of memory.
 *
 * It writes NR values, asks for them and writes some anew in a seeded order, several
 * commands at a time, and at the end reads all of them. It knows what each key has, and
 * compares each byte that comes back; where one differs it says so, and exits with 3.
 *
 * Prints a line as each phase begins (bench/phases.py), with the processor time that the
 * client itself has taken until then, which is not the server's; and a checksum of all
 * that it read. The server is told to end when that is done.
 */
#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bench/access.h"

#define KEY_BYTES 12u
#define VALUE_MAX 8192u
/* Commands that are sent before the first reply is waited for. */
#define PIPELINE 16u
/* What a command has besides its value. */
#define COMMAND_MAX (VALUE_MAX + 128u)
#define EXIT_WRONG 3

static struct options {
	const char *path;
	size_t nr_keys, nr_requests, value_bytes;
	unsigned set_percent;
	enum order order;
	uint64_t seed;
} opt = {
	.nr_keys = 100000,
	.nr_requests = 100000,
	.value_bytes = 1000,
	.set_percent = 25,
	.order = ORDER_UNIFORM,
	.seed = 1,
};

static int sock;
static uint32_t *versions; /* of each key */
static uint64_t checksum;

/* ---- what a key has ---------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

#define NR_WORDS 64u
static char words[NR_WORDS][9];

static void make_words(void)
{
	unsigned i;

	for (i = 0; i < NR_WORDS; i++)
		snprintf(words[i], sizeof(words[i]), "%08x", i * 0x9e3779b1u);
}

/* Words out of 64, with which LZ4 makes about two of one: as text, not as noise. */
static void make_value(char *value, size_t key, uint32_t version)
{
	uint64_t state = (key + 1) * UINT64_C(0x9e3779b97f4a7c15) ^
			 (version + opt.seed) * UINT64_C(0xbf58476d1ce4e5b9);
	size_t at, nr;

	state |= 1;
	for (at = 0; at < opt.value_bytes; at += nr) {
		nr = opt.value_bytes - at < 8 ? opt.value_bytes - at : 8;
		memcpy(value + at, words[next_random(&state) >> 58], nr);
	}
}

/* ---- the protocol ------------------------------------------------------------------ */

static struct {
	char bytes[PIPELINE * COMMAND_MAX];
	size_t used;
} out;

static struct {
	char bytes[1 << 16];
	size_t at, used;
} in;

static void flush_out(void)
{
	size_t done = 0;

	while (done < out.used) {
		ssize_t nr = write(sock, out.bytes + done, out.used - done);

		if (nr <= 0)
			err(2, "the server does not take a command");
		done += (size_t)nr;
	}
	out.used = 0;
}

static void put_bytes(const void *bytes, size_t nr)
{
	memcpy(out.bytes + out.used, bytes, nr);
	out.used += nr;
}

static void put_key(const char *verb, unsigned nr_words, size_t key)
{
	char text[64];
	int nr = snprintf(text, sizeof(text), "*%u\r\n$3\r\n%s\r\n$%u\r\nkey:%08zu\r\n",
			  nr_words, verb, KEY_BYTES, key);

	put_bytes(text, (size_t)nr);
}

static void put_get(size_t key)
{
	put_key("GET", 2, key);
}

static void put_set(size_t key)
{
	char value[VALUE_MAX], text[32];
	int nr = snprintf(text, sizeof(text), "$%zu\r\n", opt.value_bytes);

	put_key("SET", 3, key);
	make_value(value, key, ++versions[key]);
	put_bytes(text, (size_t)nr);
	put_bytes(value, opt.value_bytes);
	put_bytes("\r\n", 2);
}

static void take_bytes(char *to, size_t nr)
{
	size_t part;

	for (; nr > 0; nr -= part, to += part, in.at += part) {
		if (in.at == in.used) {
			ssize_t got = read(sock, in.bytes, sizeof(in.bytes));

			if (got <= 0)
				errx(2, "the server has gone");
			in.at = 0;
			in.used = (size_t)got;
		}
		part = in.used - in.at < nr ? in.used - in.at : nr;
		memcpy(to, in.bytes + in.at, part);
	}
}

/* A line of a reply without its end. */
static void take_line(char *line, size_t size)
{
	size_t nr = 0;
	char c;

	for (take_bytes(&c, 1); c != '\r'; take_bytes(&c, 1))
		if (nr + 1 < size)
			line[nr++] = c;
	line[nr] = '\0';
	take_bytes(&c, 1);
}

static void take_ok(size_t key)
{
	char line[128];

	take_line(line, sizeof(line));
	if (strcmp(line, "+OK") != 0)
		errx(2, "key %zu was not set: %s", key, line);
}

static void take_value(size_t key, uint32_t version)
{
	char line[128], want[VALUE_MAX], got[VALUE_MAX + 2];
	size_t i;

	take_line(line, sizeof(line));
	if (line[0] != '$' || strtoull(line + 1, NULL, 10) != opt.value_bytes) {
		warnx("key %zu: its value is %s bytes", key, line);
		exit(EXIT_WRONG);
	}
	take_bytes(got, opt.value_bytes + 2);
	make_value(want, key, version);
	if (memcmp(want, got, opt.value_bytes) != 0) {
		warnx("key %zu: wrong bytes", key);
		exit(EXIT_WRONG);
	}
	for (i = 0; i + sizeof(uint64_t) <= opt.value_bytes; i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, got + i, sizeof(word));
		checksum = (checksum ^ word) * UINT64_C(0x100000001b3);
	}
}

/* ---- what is asked for ------------------------------------------------------------- */

struct request {
	size_t key;
	bool set;
	uint32_t version; /* that it must have, where it is read */
};

/* Sends several, then takes what they bring. */
static void exchange(struct request *requests, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		requests[i].version = versions[requests[i].key];
		if (requests[i].set)
			put_set(requests[i].key);
		else
			put_get(requests[i].key);
	}
	flush_out();
	for (i = 0; i < nr; i++)
		if (requests[i].set)
			take_ok(requests[i].key);
		else
			take_value(requests[i].key, requests[i].version);
}

/* Keys in an order; of a hundred requests set_percent write. */
static void ask(enum order order, size_t nr, unsigned set_percent)
{
	uint64_t state = opt.seed * 2 + 1;
	struct request requests[PIPELINE];
	struct walk walk;
	size_t i, used = 0;

	walk_begin(&walk, order, 0, opt.nr_keys, opt.seed);
	for (i = 0; i < nr; i++) {
		requests[used].key = walk_next(&walk);
		requests[used].set = next_random(&state) >> 32 <
				     (set_percent * (UINT64_C(1) << 32)) / 100;
		if (++used == PIPELINE || i + 1 == nr) {
			exchange(requests, used);
			used = 0;
		}
	}
}

static void phase(const char *name)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	printf("phase %s %.6f\n", name, (double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
}

/* ---- what it is told --------------------------------------------------------------- */

/* A server that has just been started may not listen yet. */
static void connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	int i;

	if (strlen(path) >= sizeof(address.sun_path))
		errx(2, "%s: too long", path);
	strcpy(address.sun_path, path);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		err(2, "no socket");
	for (i = 0; i < 1000; i++) {
		if (connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0)
			return;
		nanosleep(&pause, NULL);
	}
	err(2, "%s", path);
}

static size_t number(const char *text, size_t most)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end != '\0' || n == 0 || n > most)
		errx(2, "'%s': 1 to %zu", text, most);
	return (size_t)n;
}

static int usage(FILE *to)
{
	fputs("usage: bench-redis [--keys=N] [--requests=N] [--value=BYTES]\n"
	      "           [--set-percent=N] [--order=uniform|zipf] [--seed=N] SOCKET\n",
	      to);
	return to == stdout ? 0 : 2;
}

static enum order order_of(const char *name)
{
	if (strcmp(name, "uniform") == 0)
		return ORDER_UNIFORM;
	if (strcmp(name, "zipf") == 0)
		return ORDER_ZIPF;
	errx(2, "--order=%s: uniform or zipf", name);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "keys", required_argument, NULL, 'k' },
		{ "requests", required_argument, NULL, 'r' },
		{ "value", required_argument, NULL, 'v' },
		{ "set-percent", required_argument, NULL, 'p' },
		{ "order", required_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'k')
			opt.nr_keys = number(optarg, 99999999);
		else if (c == 'r')
			opt.nr_requests = number(optarg, SIZE_MAX >> 1);
		else if (c == 'v')
			opt.value_bytes = number(optarg, VALUE_MAX);
		else if (c == 'p')
			opt.set_percent = (unsigned)number(optarg, 100);
		else if (c == 'o')
			opt.order = order_of(optarg);
		else if (c == 's')
			opt.seed = number(optarg, UINT32_MAX);
		else
			exit(usage(c == 'h' ? stdout : stderr));
	}
	if (optind + 1 != argc)
		exit(usage(stderr));
	opt.path = argv[optind];
}

int main(int argc, char **argv)
{
	static const char goodbye[] = "*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n";

	parse(argc, argv);
	make_words();
	setvbuf(stdout, NULL, _IOLBF, 0);
	versions = calloc(opt.nr_keys, sizeof(*versions));
	if (!versions)
		err(2, "no memory for %zu keys", opt.nr_keys);
	connect_to(opt.path);
	phase("fill");
	ask(ORDER_SEQUENTIAL, opt.nr_keys, 100);
	phase("run");
	ask(opt.order, opt.nr_requests, opt.set_percent);
	phase("verify");
	ask(ORDER_SEQUENTIAL, opt.nr_keys, 0);
	phase("end");
	printf("checksum %016llx\n", (unsigned long long)checksum);
	put_bytes(goodbye, sizeof(goodbye) - 1);
	flush_out();
	free(versions);
	return 0;
}

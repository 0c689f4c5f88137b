/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verbs say and how they read what they are told: complaints, suggestions,
 * sizes. Pure, apart from the writes to stderr and stdout.
 */
#include "cmd.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Longer lines are cut: a path may be 4096 bytes, and some messages name two. */
#define COMPLAINT_MAX 10000

void complain(const char *format, ...)
{
	char line[COMPLAINT_MAX] = "uhmm: ";
	size_t len = strlen(line);
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line + len, sizeof(line) - len - 1, format, args);
	va_end(args);
	if (n > 0)
		len += (size_t)n < sizeof(line) - len - 2 ? (size_t)n :
							    sizeof(line) - len - 2;
	/* Names come from anywhere; they must not steer the terminal. */
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)line[i]))
			line[i] = '?';
	line[len++] = '\n';
	/* Whoever closed stderr does not want to know. */
	(void)!write(STDERR_FILENO, line, len);
}

/* Words up to 31 characters; longer ones are not near anything. */
#define WORD_MAX 32

static unsigned distance(const char *a, const char *b)
{
	unsigned row[WORD_MAX];
	size_t nr_a = strlen(a), nr_b = strlen(b);

	if (nr_a >= WORD_MAX || nr_b >= WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= nr_b; j++)
		row[j] = j;
	for (size_t i = 1; i <= nr_a; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= nr_b; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[nr_b];
}

const char *nearest(const char *word, const char *const *names)
{
	const char *best = NULL;
	unsigned best_distance = 1 + strlen(word) / 3;

	if (!*word)
		return NULL;
	for (; *names; names++) {
		unsigned d = distance(word, *names);

		/* The start of a name is near it, however short. */
		if (!strncmp(word, *names, strlen(word)))
			d = d ? 1 : 0;
		if (d <= best_distance) {
			best = *names;
			best_distance = d - (d > 0);
		}
	}
	return best;
}

int option_error(const char *verb, int c, char **argv, const struct option *options)
{
	const char *word, *meant, *names[32] = { NULL };
	char name[WORD_MAX];
	int len;

	/* optopt: a known option's value, an unknown letter, 0 for an unknown word. */
	for (size_t i = 0; i < 31 && options[i].name; i++) {
		names[i] = options[i].name;
		if (options[i].val != optopt)
			continue;
		complain(c == ':' ? "--%s: needs a value: see 'uhmm %s --help'" :
				    "--%s: takes no value: see 'uhmm %s --help'",
			 names[i], verb);
		return STATUS_REFUSED;
	}
	if (optopt) {
		complain("%s: unknown option '-%c': see 'uhmm %s --help'", verb, optopt,
			 verb);
		return STATUS_REFUSED;
	}
	word = argv[optind - 1] + strspn(argv[optind - 1], "-");
	len = (int)strcspn(word, "=");
	snprintf(name, sizeof(name), "%.*s", len, word);
	meant = nearest(name, names);
	if (meant)
		complain("%s: unknown option '--%.*s': did you mean '--%s'?", verb, len,
			 word, meant);
	else
		complain("%s: unknown option '--%.*s': see 'uhmm %s --help'", verb, len,
			 word, verb);
	return STATUS_REFUSED;
}

/* The power of 1024 that a suffix stands for, or -1. "", K, KB, KiB and so on. */
static int suffix_power(const char *suffix)
{
	static const char letters[] = "KMGT";
	const char *letter;

	if (!*suffix)
		return 0;
	letter = strchr(letters, toupper((unsigned char)*suffix));
	if (!letter || !*letter)
		return -1;
	suffix++;
	if (*suffix == 'i' && suffix[1] == 'B')
		suffix++;
	if (*suffix == 'B')
		suffix++;
	return *suffix ? -1 : (int)(letter - letters) + 1;
}

int parse_size(const char *text, uint64_t ram_bytes, uint64_t *bytes)
{
	/* What is behind the ninth digit after the point is dropped: value fits 2^94. */
	static const unsigned fraction_digits = 9;
	unsigned __int128 value = 0, scale = 1, limit = INT64_MAX;
	unsigned digits = 0, after_point = 0;
	bool point = false;
	int power;

	for (; isdigit((unsigned char)*text) || (*text == '.' && !point); text++) {
		if (*text == '.') {
			point = true;
			continue;
		}
		digits++;
		if (point && ++after_point > fraction_digits)
			continue;
		value = value * 10 + (unsigned)(*text - '0');
		if (point)
			scale *= 10;
		if (value / scale > limit)
			return -ERANGE;
	}
	if (!digits || (point && !after_point))
		return -EINVAL;
	if (!strcmp(text, "%")) {
		scale *= 100;
		/* More than this many times the memory is a slip, and would overflow. */
		if (value / scale > 1024)
			return -ERANGE;
		value *= ram_bytes;
	} else {
		power = suffix_power(text);
		/* Half a byte is not a size. */
		if (power < 0 || (point && power == 0))
			return -EINVAL;
		if (value / scale > limit >> (10 * power))
			return -ERANGE;
		value <<= 10 * power;
	}
	if (value / scale > limit)
		return -ERANGE;
	*bytes = value / scale;
	return 0;
}

const char *format_size(char *buf, size_t len, uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB",
					     "TiB",   "PiB", "EiB" };
	unsigned unit = 0;
	double value = bytes;

	for (; value >= 1023.95 && unit < 6; unit++)
		value /= 1024;
	snprintf(buf, len, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return buf;
}

int finish_output(int status)
{
	if (fflush(stdout) || ferror(stdout)) {
		complain("standard output: %s", strerror(errno));
		return STATUS_REFUSED;
	}
	return status;
}

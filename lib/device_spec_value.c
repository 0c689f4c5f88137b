/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of options in a device spec: numbers, sizes, words, and what is said of those
 * that are none. See device_spec.h.
 */
#include <errno.h>
#include <string.h>

#include "lib/device_spec.h"

/* The position of a size's suffix in this is its power of 1024. */
static const char suffixes[] = " KMGT";

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Decimal digits and, for sizes, one of K M G T. */
static bool parse_number(const char *s, bool size, uint64_t *number)
{
	uint64_t n = 0;
	const char *suffix;
	unsigned shift;

	if (!is_digit(*s))
		return false;
	for (; is_digit(*s); s++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*s - '0'), &n))
			return false;
	if (*s) {
		/* Letters differ from capitals by one bit; a blank becomes a 0. */
		suffix = strchr(suffixes + 1, *s & ~0x20);
		if (!size || !suffix || !*suffix || s[1])
			return false;
		shift = 10 * (unsigned)(suffix - suffixes);
		if (n >> (64 - shift))
			return false;
		n <<= shift;
	}
	*number = n;
	return true;
}

#define NUMBER_MAX 24u

/* "512M" rather than "536870912". */
static const char *print_number(uint64_t n, bool size, char *buf)
{
	char *at = buf + NUMBER_MAX;
	unsigned power = 0;

	while (size && power < 4 && n && n % 1024 == 0) {
		n /= 1024;
		power++;
	}
	*--at = 0;
	if (power)
		*--at = suffixes[power];
	do {
		*--at = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	return at;
}

static int out_of_range(struct parser *p, const struct uhmm_option *option, char *value)
{
	bool size = option->type == UHMM_OPTION_SIZE;
	char min_buf[NUMBER_MAX], max_buf[NUMBER_MAX];
	const char *min = print_number(option->min, size, min_buf);
	const char *max = print_number(option->max, size, max_buf);

	if (!option->max)
		return FAIL(p, EINVAL, option->name, "=", spec_quote(value),
			    " is out of range: at least ", min);
	return FAIL(p, EINVAL, option->name, "=", spec_quote(value),
		    " is out of range: ", min, " to ", max);
}

static int parse_bool(const char *s, uint64_t *number)
{
	static const char *const words[] = { "off", "on", "false", "true", "0", "1" };
	unsigned i;

	for (i = 0; i < 6; i++)
		if (!strcmp(s, words[i])) {
			*number = i % 2;
			return 0;
		}
	return -EINVAL;
}

int spec_value_parse(struct parser *p, const struct uhmm_option *option, char *text,
		     struct uhmm_option_value *value)
{
	const char *name = option->name;
	uint64_t number = 0;

	switch (option->type) {
	case UHMM_OPTION_SIZE:
		if (!parse_number(text, true, &number))
			return FAIL(p, EINVAL, name, "=", spec_quote(text),
				    " is not a size; write bytes, or a number with K, M, "
				    "G or T, as in ",
				    name, "=512M");
		break;
	case UHMM_OPTION_UINT:
		if (!parse_number(text, false, &number))
			return FAIL(p, EINVAL, name, "=", spec_quote(text),
				    " is not a number; write decimal digits");
		break;
	case UHMM_OPTION_BOOL:
		if (parse_bool(text, &number))
			return FAIL(p, EINVAL, name, "=", spec_quote(text),
				    " is neither on nor off");
		break;
	case UHMM_OPTION_STRING:
	case UHMM_OPTION_PATH:
		if (!*text)
			return FAIL(p, EINVAL, name, "= has no value");
		break;
	}
	if (option->type == UHMM_OPTION_SIZE || option->type == UHMM_OPTION_UINT)
		if (number < option->min || (option->max && number > option->max))
			return out_of_range(p, option, text);
	value->number = number;
	value->string = text;
	return 0;
}

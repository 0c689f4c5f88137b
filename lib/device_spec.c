/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device specs: NAME[:OPTION=VALUE[,OPTION=VALUE]...][+SPEC below].
 *
 * A refused spec leaves one line that names the argument, what was wrong with it and
 * what is accepted. Values cannot contain ',' or '+'.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "lib/device.h"

#define STR2(x_) #x_
#define STR(x_) STR2(x_)

/* What is quoted of a user's words. */
#define QUOTE_MAX 100u

struct parser {
	const struct uhmm_driver *const *drivers;
	const char *text;
	struct spec *spec;
	char *error;
	size_t error_size;
};

/* ---- messages ------------------------------------------------------------------ */

struct line {
	char *to;
	size_t left; /* with the terminator */
};

/* At most max characters, and none that would end the line. */
static void line_add(struct line *line, const char *text, size_t max)
{
	for (; *text && max && line->left > 1; text++, max--, line->left--)
		*line->to++ = (unsigned char)*text < ' ' || *text == 127 ? '?' : *text;
	*line->to = 0;
}

void spec_error(const char *spec, char *error, size_t error_size, ...)
{
	struct line line = { error, error_size };
	const char *part;
	va_list ap;

	if (!error_size)
		return;
	line_add(&line, "device \"", SIZE_MAX);
	line_add(&line, spec, QUOTE_MAX);
	line_add(&line, "\": ", SIZE_MAX);
	va_start(ap, error_size);
	while ((part = va_arg(ap, const char *)))
		line_add(&line, part, SIZE_MAX);
	va_end(ap);
}

#define FAIL(p_, errno_, ...)                                                            \
	(spec_error((p_)->text, (p_)->error, (p_)->error_size, __VA_ARGS__, NULL),       \
	 -(errno_))

/* Cuts a user's word so that the rest of the message has room. */
static const char *quote(char *text)
{
	if (strlen(text) > QUOTE_MAX)
		text[QUOTE_MAX] = 0;
	return text;
}

/* "a, b, c": names of drivers or options. */
#define NAMES_MAX 256u

static void names_add(char *names, const char *name)
{
	size_t len = strlen(names);
	struct line line = { names + len, NAMES_MAX - len };

	if (len)
		line_add(&line, ", ", SIZE_MAX);
	line_add(&line, name, SIZE_MAX);
}

static const char *driver_names(const struct uhmm_driver *const *drivers, char *names)
{
	*names = 0;
	for (; *drivers; drivers++)
		names_add(names, (*drivers)->name);
	return names;
}

static const char *option_names(const struct uhmm_driver *driver, char *names)
{
	const struct uhmm_option *o;

	*names = 0;
	for (o = driver->options; o && o->name; o++)
		names_add(names, o->name);
	return *names ? names : "none";
}

/* ---- values -------------------------------------------------------------------- */

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
		return FAIL(p, EINVAL, option->name, "=", quote(value),
			    " is out of range: at least ", min);
	return FAIL(p, EINVAL, option->name, "=", quote(value), " is out of range: ", min,
		    " to ", max);
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

static int parse_value(struct parser *p, const struct uhmm_option *option, char *text,
		       struct uhmm_option_value *value)
{
	const char *name = option->name;
	uint64_t number = 0;

	switch (option->type) {
	case UHMM_OPTION_SIZE:
		if (!parse_number(text, true, &number))
			return FAIL(p, EINVAL, name, "=", quote(text),
				    " is not a size; write bytes, or a number with K, M, "
				    "G or T, as in ",
				    name, "=512M");
		break;
	case UHMM_OPTION_UINT:
		if (!parse_number(text, false, &number))
			return FAIL(p, EINVAL, name, "=", quote(text),
				    " is not a number; write decimal digits");
		break;
	case UHMM_OPTION_BOOL:
		if (parse_bool(text, &number))
			return FAIL(p, EINVAL, name, "=", quote(text),
				    " is neither on nor off");
		break;
	case UHMM_OPTION_STRING:
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

/* ---- the parts of a spec ------------------------------------------------------- */

static int parse_option(struct parser *p, struct spec_layer *layer, char *text)
{
	const struct uhmm_driver *driver = layer->driver;
	char *value = strchr(text, '='), names[NAMES_MAX];
	uint32_t i;

	if (!*text)
		return FAIL(p, EINVAL, "an option is missing after ", driver->name,
			    "; its options: ", option_names(driver, names));
	if (!value)
		return FAIL(p, EINVAL, "\"", quote(text),
			    "\" is not OPTION=VALUE; options of ", driver->name, ": ",
			    option_names(driver, names));
	*value++ = 0;
	for (i = 0; driver->options && driver->options[i].name; i++)
		if (!strcmp(driver->options[i].name, text)) {
			if (layer->value[i].string)
				return FAIL(p, EINVAL, "option ", text,
					    " is given twice");
			return parse_value(p, &driver->options[i], value,
					   &layer->value[i]);
		}
	return FAIL(p, EINVAL, driver->name, " has no option \"", quote(text),
		    "\"; its options: ", option_names(driver, names));
}

/* Values of options that were left out; the driver's own are right. */
static int parse_fallbacks(struct parser *p, struct spec_layer *layer)
{
	const struct uhmm_option *o = layer->driver->options;
	char *text;
	uint32_t i;
	int r = 0;

	for (i = 0; o && o[i].name && !r; i++) {
		if (layer->value[i].string || !o[i].fallback)
			continue;
		/* Not written to, because it is not refused. */
		text = (char *)(uintptr_t)o[i].fallback;
		r = parse_value(p, &o[i], text, &layer->value[i]);
	}
	return r;
}

static int parse_layer(struct parser *p, struct spec_layer *layer, char *text)
{
	char *options = strchr(text, ':'), *next, names[NAMES_MAX];
	const struct uhmm_driver *const *d = p->drivers;
	int r;

	if (options)
		*options++ = 0;
	while (*d && strcmp((*d)->name, text))
		d++;
	if (!*text)
		return FAIL(p, EINVAL, "a device's name is missing; there are: ",
			    driver_names(p->drivers, names));
	if (!*d)
		return FAIL(p, ENODEV, "there is no device \"", quote(text),
			    "\"; there are: ", driver_names(p->drivers, names));
	layer->driver = *d;
	for (; options; options = next) {
		next = strchr(options, ',');
		if (next)
			*next++ = 0;
		r = parse_option(p, layer, options);
		if (r)
			return r;
	}
	return parse_fallbacks(p, layer);
}

/* May this layer be where it is? */
static int check_place(struct parser *p, uint32_t i)
{
	const struct uhmm_driver *driver = p->spec->layer[i].driver;
	bool last = i + 1 == p->spec->nr_layers;

	if (last && driver->flags & UHMM_DRIVER_LAYER)
		return FAIL(p, EINVAL, driver->name, " needs a device below it, as in ",
			    driver->name, "+ram");
	if (!last && !(driver->flags & (UHMM_DRIVER_LAYER | UHMM_DRIVER_MAY_LAYER)))
		return FAIL(p, EINVAL, driver->name,
			    " keeps pages itself: nothing can be below it");
	return 0;
}

int spec_parse(const struct uhmm_driver *const *drivers, const char *text,
	       struct spec *spec, char *error, size_t error_size)
{
	struct parser p = { drivers, text, spec, error, error_size };
	size_t len = strlen(text);
	char *layer, *next;
	uint32_t i;
	int r = 0;

	memset(spec, 0, sizeof(*spec));
	if (len > SPEC_MAX)
		return FAIL(&p, EINVAL, "it is longer than ", STR(SPEC_MAX),
			    " characters");
	memcpy(spec->text, text, len + 1);
	for (layer = spec->text; layer; layer = next) {
		next = strchr(layer, '+');
		if (next)
			*next++ = 0;
		if (spec->nr_layers == SPEC_LAYERS_MAX)
			return FAIL(&p, EINVAL, "there are more than ",
				    STR(SPEC_LAYERS_MAX), " devices on each other");
		r = parse_layer(&p, &spec->layer[spec->nr_layers++], layer);
		if (r)
			return r;
	}
	for (i = 0; i < spec->nr_layers && !r; i++)
		r = check_place(&p, i);
	return r;
}

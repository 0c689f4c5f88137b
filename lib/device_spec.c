/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device specs: NAME[:OPTION=VALUE[,OPTION=VALUE]...][+SPEC below].
 *
 * A refused spec leaves one line that names the argument, what was wrong with it and
 * what is accepted. Values cannot contain ',' or '+'. Ordinary threads only.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/device.h"

/* What is quoted of a user's words. */
#define QUOTE_MAX 100

struct parser {
	const struct uhmm_driver *const *drivers;
	const char *text;
	struct spec *spec;
	char *error;
	size_t error_size;
};

static void no_control_characters(char *s)
{
	for (; *s; s++)
		if (iscntrl((unsigned char)*s))
			*s = '?';
}

void spec_error(const char *text, char *error, size_t error_size, const char *format, ...)
{
	char message[DEVICE_ERROR_MAX];
	va_list ap;

	if (!error_size)
		return;
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	snprintf(error, error_size, "device \"%.*s\": %s", QUOTE_MAX, text, message);
	no_control_characters(error);
}

#define FAIL(p_, errno_, ...)                                                     \
	(spec_error((p_)->text, (p_)->error, (p_)->error_size, __VA_ARGS__), -(errno_))

/* "a, b, c" of the names of drivers or options. */
static void append_name(char *list, size_t size, const char *name)
{
	size_t len = strlen(list);

	snprintf(list + len, size - len, "%s%s", len ? ", " : "", name);
}

static const char *driver_names(const struct uhmm_driver *const *drivers, char *list,
				size_t size)
{
	*list = 0;
	for (; *drivers; drivers++)
		append_name(list, size, (*drivers)->name);
	return list;
}

static const char *option_names(const struct uhmm_driver *driver, char *list, size_t size)
{
	const struct uhmm_option *o;

	*list = 0;
	for (o = driver->options; o && o->name; o++)
		append_name(list, size, o->name);
	return *list ? list : "none";
}

/* ---- values ------------------------------------------------------------------------- */

/* Decimal digits and, for sizes, one of K M G T. */
static bool parse_number(const char *s, bool size, uint64_t *number)
{
	static const char suffixes[] = "KMGT";
	uint64_t n = 0;
	const char *suffix;
	unsigned shift;

	if (!isdigit((unsigned char)*s))
		return false;
	for (; isdigit((unsigned char)*s); s++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*s - '0'), &n))
			return false;
	if (*s) {
		suffix = strchr(suffixes, toupper((unsigned char)*s));
		if (!size || !suffix || s[1])
			return false;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		if (n >> (64 - shift))
			return false;
		n <<= shift;
	}
	*number = n;
	return true;
}

/* "512M" rather than "536870912". */
static const char *print_number(uint64_t n, bool size, char *buf, size_t buf_size)
{
	static const char suffixes[] = "KMGT";
	int i = -1;

	while (size && i < 3 && n && n % 1024 == 0) {
		n /= 1024;
		i++;
	}
	snprintf(buf, buf_size, "%llu%.1s", (unsigned long long)n, i >= 0 ? &suffixes[i] : "");
	return buf;
}

static int parse_range(struct parser *p, const struct uhmm_option *option, const char *value)
{
	char min[32], max[32];
	bool size = option->type == UHMM_OPTION_SIZE;

	print_number(option->min, size, min, sizeof(min));
	if (!option->max)
		return FAIL(p, EINVAL, "%s=%.*s is out of range: at least %s", option->name,
			    QUOTE_MAX, value, min);
	print_number(option->max, size, max, sizeof(max));
	return FAIL(p, EINVAL, "%s=%.*s is out of range: %s to %s", option->name, QUOTE_MAX,
		    value, min, max);
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

static int parse_value(struct parser *p, const struct uhmm_option *option, const char *text,
		       struct uhmm_option_value *value)
{
	uint64_t number = 0;

	switch (option->type) {
	case UHMM_OPTION_SIZE:
		if (!parse_number(text, true, &number))
			return FAIL(p, EINVAL,
				    "%s=%.*s is not a size; write bytes, or a number with K, M, "
				    "G or T, as in %s=512M",
				    option->name, QUOTE_MAX, text, option->name);
		break;
	case UHMM_OPTION_UINT:
		if (!parse_number(text, false, &number))
			return FAIL(p, EINVAL, "%s=%.*s is not a number; write decimal digits",
				    option->name, QUOTE_MAX, text);
		break;
	case UHMM_OPTION_BOOL:
		if (parse_bool(text, &number))
			return FAIL(p, EINVAL, "%s=%.*s is neither on nor off", option->name,
				    QUOTE_MAX, text);
		break;
	case UHMM_OPTION_STRING:
		if (!*text)
			return FAIL(p, EINVAL, "%s= has no value", option->name);
		break;
	}
	if (option->type == UHMM_OPTION_SIZE || option->type == UHMM_OPTION_UINT)
		if (number < option->min || (option->max && number > option->max))
			return parse_range(p, option, text);
	value->number = number;
	value->string = text;
	return 0;
}

/* ---- the parts of a spec ---------------------------------------------------------------- */

static int parse_option(struct parser *p, struct spec_layer *layer, char *text)
{
	const struct uhmm_driver *driver = layer->driver;
	char *value = strchr(text, '='), names[256];
	uint32_t i;

	if (!*text)
		return FAIL(p, EINVAL, "an option is missing after %s; its options: %s",
			    driver->name, option_names(driver, names, sizeof(names)));
	if (!value)
		return FAIL(p, EINVAL, "\"%.*s\" is not OPTION=VALUE; options of %s: %s",
			    QUOTE_MAX, text, driver->name,
			    option_names(driver, names, sizeof(names)));
	*value++ = 0;
	for (i = 0; driver->options && driver->options[i].name; i++)
		if (!strcmp(driver->options[i].name, text)) {
			if (layer->value[i].string)
				return FAIL(p, EINVAL, "option %s is given twice", text);
			return parse_value(p, &driver->options[i], value, &layer->value[i]);
		}
	return FAIL(p, EINVAL, "%s has no option \"%.*s\"; its options: %s", driver->name,
		    QUOTE_MAX, text, option_names(driver, names, sizeof(names)));
}

static int parse_fallbacks(struct parser *p, struct spec_layer *layer)
{
	const struct uhmm_option *o = layer->driver->options;
	uint32_t i;
	int r = 0;

	for (i = 0; o && o[i].name && !r; i++)
		if (!layer->value[i].string && o[i].fallback)
			r = parse_value(p, &o[i], o[i].fallback, &layer->value[i]);
	return r;
}

static int parse_layer(struct parser *p, struct spec_layer *layer, char *text)
{
	char *options = strchr(text, ':'), *next, names[256];
	const struct uhmm_driver *const *d = p->drivers;
	int r;

	if (options)
		*options++ = 0;
	while (*d && strcmp((*d)->name, text))
		d++;
	if (!*text)
		return FAIL(p, EINVAL, "a device's name is missing; there are: %s",
			    driver_names(p->drivers, names, sizeof(names)));
	if (!*d)
		return FAIL(p, ENODEV, "there is no device \"%.*s\"; there are: %s", QUOTE_MAX,
			    text, driver_names(p->drivers, names, sizeof(names)));
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
		return FAIL(p, EINVAL, "%s needs a device below it, as in %s+ram", driver->name,
			    driver->name);
	if (!last && !(driver->flags & (UHMM_DRIVER_LAYER | UHMM_DRIVER_MAY_LAYER)))
		return FAIL(p, EINVAL, "%s keeps pages itself: nothing can be below it",
			    driver->name);
	return 0;
}

int spec_parse(const struct uhmm_driver *const *drivers, const char *text, struct spec *spec,
	       char *error, size_t error_size)
{
	struct parser p = { drivers, text, spec, error, error_size };
	char *layer, *next;
	uint32_t i;
	int r = 0;

	memset(spec, 0, sizeof(*spec));
	if (strlen(text) >= SPEC_MAX)
		return FAIL(&p, EINVAL, "longer than %u characters", SPEC_MAX - 1);
	strcpy(spec->text, text);
	for (layer = spec->text; layer; layer = next) {
		next = strchr(layer, '+');
		if (next)
			*next++ = 0;
		if (spec->nr_layers == SPEC_LAYERS_MAX)
			return FAIL(&p, EINVAL, "more than %u devices on each other",
				    SPEC_LAYERS_MAX);
		r = parse_layer(&p, &spec->layer[spec->nr_layers++], layer);
		if (r)
			return r;
	}
	for (i = 0; i < spec->nr_layers && !r; i++)
		r = check_place(&p, i);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device specs: tiers with ',' between them; each is a stack of layers with '+' between
 * them; a layer is NAME[:OPTION=VALUE[,OPTION=VALUE]...]. If a driver's first option is
 * a path, its value may stand behind the colon without its name.
 *
 * The ',' of tiers and that of options are told apart by what follows: a driver's name,
 * and then ':', '+', ',' or nothing, begins a tier. An option's name has '=' there.
 *
 * A refused spec leaves one line that names the argument, what was wrong with it and
 * what is accepted. Values cannot contain ',' or '+'.
 */
#include "lib/device_spec.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

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

char *spec_quote(char *text)
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

/* Behind what is no device and no option: it may be the rest of a path. */
static const char *path_hint(const struct uhmm_option *last)
{
	return last && last->type == UHMM_OPTION_PATH ?
		       "; a path cannot contain ',' or '+'" :
		       "";
}

static int no_device(struct parser *p, char *name)
{
	char names[NAMES_MAX];

	return FAIL(p, ENODEV, "there is no device \"", spec_quote(name),
		    "\"; there are: ", driver_names(p->drivers, names),
		    path_hint(p->last));
}

/* ---- where a part ends --------------------------------------------------------- */

/* The driver with that name, which is the first len characters. */
static const struct uhmm_driver *driver_named(const struct parser *p, const char *name,
					      size_t len)
{
	const struct uhmm_driver *const *d = p->drivers;

	while (*d && (strncmp((*d)->name, name, len) || (*d)->name[len]))
		d++;
	return *d;
}

static bool begins_tier(const struct parser *p, const char *text)
{
	size_t len = spec_span(text, ":+,=");

	return text[len] != '=' && driver_named(p, text, len);
}

/* At the '+' or ',' that ends a layer, or at the end. */
static char *layer_end(const struct parser *p, char *text)
{
	for (; *text && *text != '+'; text++)
		if (*text == ',' && begins_tier(p, text + 1))
			break;
	return text;
}

/* Does an option begin here, known or not? */
static bool is_option(const char *text)
{
	const char *c = text;

	while ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_')
		c++;
	return *c == '=' && c > text;
}

/* ---- options ------------------------------------------------------------------- */

/* The index of the option with that name; -1: there is none. */
static int option_named(const struct uhmm_driver *driver, const char *name)
{
	int i;

	for (i = 0; driver->options && driver->options[i].name; i++)
		if (!strcmp(driver->options[i].name, name))
			return i;
	return -1;
}

/* No '=', or a ':' before it. */
static int not_an_option(struct parser *p, const struct uhmm_driver *driver, char *text)
{
	char *colon = strchr(text, ':'), names[NAMES_MAX], devices[NAMES_MAX];

	if (colon && !path_hint(p->last)[0]) {
		*colon = 0;
		return no_device(p, text);
	}
	if (option_named(driver, text) >= 0)
		return FAIL(p, EINVAL, "\"", spec_quote(text),
			    "\" is not OPTION=VALUE; options of ", driver->name, ": ",
			    option_names(driver, names));
	return FAIL(p, EINVAL, "\"", spec_quote(text),
		    "\" is neither OPTION=VALUE nor a device", path_hint(p->last),
		    "; options of ", driver->name, ": ", option_names(driver, names),
		    "; devices: ", driver_names(p->drivers, devices));
}

static int set_option(struct parser *p, struct spec_layer *layer, int i, char *value)
{
	const struct uhmm_option *option = &layer->driver->options[i];

	if (layer->value[i].string)
		return FAIL(p, EINVAL, "option ", option->name, " is given twice");
	p->last = option;
	return spec_value_parse(p, option, value, &layer->value[i]);
}

static int parse_option(struct parser *p, struct spec_layer *layer, char *text)
{
	const struct uhmm_driver *driver = layer->driver;
	size_t len = spec_span(text, "=:");
	char names[NAMES_MAX];
	int i;

	if (!*text)
		return FAIL(p, EINVAL, "an option is missing after ", driver->name,
			    "; its options: ", option_names(driver, names));
	if (text[len] != '=')
		return not_an_option(p, driver, text);
	text[len] = 0;
	i = option_named(driver, text);
	if (i < 0)
		return FAIL(p, EINVAL, driver->name, " has no option \"",
			    spec_quote(text),
			    "\"; its options: ", option_names(driver, names));
	return set_option(p, layer, i, text + len + 1);
}

/* Each of them; the first may be a path without its name. */
static int parse_options(struct parser *p, struct spec_layer *layer, char *text)
{
	bool path = spec_wants_path(layer->driver) && !is_option(text);
	char *next;
	int r = 0;

	for (; text && !r; text = next) {
		next = strchr(text, ',');
		if (next)
			*next++ = 0;
		if (!path)
			r = parse_option(p, layer, text);
		else if (*text) /* or it is told below that it is missing */
			r = set_option(p, layer, 0, text);
		path = false;
	}
	return r;
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
		r = spec_value_parse(p, &o[i], text, &layer->value[i]);
	}
	return r;
}

/* ---- layers -------------------------------------------------------------------- */

/* A ',' behind a device that has no ':', and no device behind that. */
static int after_name(struct parser *p, const struct uhmm_driver *driver, char *text)
{
	char names[NAMES_MAX];

	if (!*text)
		return FAIL(p, EINVAL, "a device's name is missing after \"",
			    driver->name,
			    ",\"; there are: ", driver_names(p->drivers, names));
	if (is_option(text))
		return FAIL(p, EINVAL, "options of ", driver->name,
			    " come behind a colon: ", driver->name, ":",
			    spec_quote(text));
	text[spec_span(text, ":,")] = 0;
	return no_device(p, text);
}

static int parse_layer(struct parser *p, struct spec_layer *layer, char *text)
{
	size_t len = spec_span(text, ":,");
	char end = text[len], names[NAMES_MAX];
	const struct uhmm_driver *driver;
	int r = 0;

	text[len] = 0;
	driver = driver_named(p, text, len);
	if (!len)
		return FAIL(p, EINVAL, "a device's name is missing; there are: ",
			    driver_names(p->drivers, names));
	if (!driver)
		return no_device(p, text);
	p->last = NULL;
	layer->driver = driver;
	if (end == ',')
		return after_name(p, driver, text + len + 1);
	if (end == ':')
		r = parse_options(p, layer, text + len + 1);
	if (!r && spec_wants_path(driver) && !layer->value[0].string)
		return FAIL(p, EINVAL, driver->name, " needs a ", driver->options[0].name,
			    ", as in ", driver->name, ":/var/tmp/uhmm");
	return r ? r : parse_fallbacks(p, layer);
}

/* May this layer be where it is? */
static int check_place(struct parser *p, const struct spec_tier *tier, uint32_t i)
{
	const struct uhmm_driver *driver = tier->layer[i].driver;
	bool last = i + 1 == tier->nr_layers;

	if (last && driver->flags & UHMM_DRIVER_LAYER)
		return FAIL(p, EINVAL, driver->name, " needs a device below it, as in ",
			    driver->name, "+ram");
	if (!last && !(driver->flags & (UHMM_DRIVER_LAYER | UHMM_DRIVER_MAY_LAYER)))
		return FAIL(p, EINVAL, driver->name,
			    " keeps pages itself: nothing can be below it",
			    path_hint(spec_wants_path(driver) ? driver->options : NULL));
	return 0;
}

/* ---- the whole ----------------------------------------------------------------- */

/* The layer behind the last one, of the last tier or of a new one. */
static int next_layer(struct parser *p, struct spec *spec, bool new_tier,
		      struct spec_layer **layer)
{
	struct spec_tier *tier;

	if (new_tier && spec->nr_tiers == SPEC_TIERS_MAX)
		return FAIL(p, EINVAL, "there are more than ", SPEC_STR(SPEC_TIERS_MAX),
			    " tiers");
	spec->nr_tiers += new_tier;
	tier = &spec->tier[spec->nr_tiers - 1];
	if (tier->nr_layers == SPEC_LAYERS_MAX)
		return FAIL(p, EINVAL, "there are more than ", SPEC_STR(SPEC_LAYERS_MAX),
			    " devices on each other");
	*layer = &tier->layer[tier->nr_layers++];
	return 0;
}

static int parse_layers(struct parser *p, struct spec *spec)
{
	char *text = spec->text, *end, separator = ',';
	struct spec_layer *layer;
	int r;

	do {
		r = next_layer(p, spec, separator == ',', &layer);
		if (r)
			return r;
		end = layer_end(p, text);
		separator = *end;
		*end = 0;
		r = parse_layer(p, layer, text);
		text = end + 1;
	} while (!r && separator);
	return r;
}

int spec_parse(const struct uhmm_driver *const *drivers, const char *text,
	       struct spec *spec, char *error, size_t error_size)
{
	struct parser p = { drivers, text, error, error_size, NULL };
	size_t len = strlen(text);
	uint32_t t, i;
	int r;

	memset(spec, 0, sizeof(*spec));
	if (len > SPEC_MAX)
		return FAIL(&p, EINVAL, "it is longer than ", SPEC_STR(SPEC_MAX),
			    " characters");
	memcpy(spec->text, text, len + 1);
	r = parse_layers(&p, spec);
	for (t = 0; t < spec->nr_tiers && !r; t++)
		for (i = 0; i < spec->tier[t].nr_layers && !r; i++)
			r = check_place(&p, &spec->tier[t], i);
	return r;
}

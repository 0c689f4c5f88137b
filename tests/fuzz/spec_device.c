/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device specs. See spec.h. What is accepted is checked against its grammar, written down
 * once more as an expression, and against the drivers' limits; and it is printed, and
 * means the same again.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <regex.h>
#include <string.h>

#include "lib/device.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/spec.h"

#define OPTION "[^=,+:]+=[^,+]*"
#define BARE "[^,+]+" /* a path without a name */
#define LAYER "[a-z][a-z0-9]*(:(" OPTION "|" BARE ")(," OPTION ")*)?"
#define STACK LAYER "(\\+" LAYER ")*"

/* Options of all types, with and without limits and fallbacks; layers, and a path. */
static const struct uhmm_option options[] = {
	{ .name = "size", .type = UHMM_OPTION_SIZE, .min = 1 << 20, .max = 1ull << 40 },
	{ .name = "any", .type = UHMM_OPTION_SIZE },
	{ .name = "level",
	  .type = UHMM_OPTION_UINT,
	  .fallback = "3",
	  .min = 1,
	  .max = 22 },
	{ .name = "fast", .type = UHMM_OPTION_BOOL, .fallback = "off" },
	{ .name = "path", .type = UHMM_OPTION_STRING },
	{ .name = NULL },
};
static const struct uhmm_driver all = { .size = sizeof(all),
					.name = "all",
					.options = options };
static const struct uhmm_driver layer = {
	.size = sizeof(layer),
	.name = "layer",
	.options = options + 2,
	.flags = UHMM_DRIVER_LAYER,
};
static const struct uhmm_driver maybe = { .size = sizeof(maybe),
					  .name = "maybe",
					  .flags = UHMM_DRIVER_MAY_LAYER };
static const struct uhmm_option file_options[] = {
	{ .name = "path", .type = UHMM_OPTION_PATH },
	{ .name = "size", .type = UHMM_OPTION_SIZE },
	{ .name = NULL },
};
static const struct uhmm_driver file = { .size = sizeof(file),
					 .name = "file",
					 .options = file_options };
static const struct uhmm_driver *const made_up[] = { &all, &file, &layer, &maybe, NULL };

/* ---- what is refused -------------------------------------------------------------- */

static void check_error(const char *error, size_t size)
{
	size_t i, len = strlen(error);

	FUZZ_CHECK(len > 0 && len < size, "%zu", len);
	FUZZ_CHECK(!strncmp(error, "device \"", 8), "%s", error);
	for (i = 0; i < len; i++)
		FUZZ_CHECK((unsigned char)error[i] >= ' ' && error[i] != 127, "0x%02x",
			   error[i]);
}

/* Into a buffer of any size, whose end a sanitizer knows: the same, as far as it fits. */
static void check_short_error(const struct uhmm_driver *const *drivers, const char *text,
			      const char *whole)
{
	static struct spec spec;
	size_t size = strlen(text) % 80;
	char *error = malloc(size ? size : 1);

	FUZZ_CHECK(error, "no memory");
	spec_parse(drivers, text, &spec, error, size);
	FUZZ_CHECK(!size || !strncmp(error, whole, size - 1), "%s", whole);
	FUZZ_CHECK(!size || strlen(error) < size, "%zu", size);
	free(error);
}

/* ---- what is accepted ------------------------------------------------------------- */

static bool is_of_grammar(const char *text)
{
	static regex_t regex;
	static bool compiled;

	if (!compiled)
		compiled = !regcomp(&regex, "^" STACK "(," STACK ")*$",
				    REG_EXTENDED | REG_NOSUB);
	FUZZ_CHECK(compiled, "the expression is wrong");
	return !regexec(&regex, text, 0, NULL, 0);
}

static bool is_number(const struct uhmm_option *o)
{
	return o->type == UHMM_OPTION_SIZE || o->type == UHMM_OPTION_UINT;
}

static bool is_text(const struct uhmm_option *o)
{
	return o->type == UHMM_OPTION_STRING || o->type == UHMM_OPTION_PATH;
}

/* What a number means, once more: in floating point, that of 64 bits at least. */
static bool is_meant(const char *text, uint64_t number)
{
	static const char letters[] = "KMGT";
	char *end;
	long double value = strtold(text, &end);
	const char *letter = *end ? strchr(letters, *end & ~0x20) : NULL;

	if (letter)
		value = ldexpl(value, 10 * (int)(letter - letters + 1));
	return value == (long double)number;
}

static void check_value(const struct uhmm_option *o, const struct uhmm_option_value *v)
{
	if (!v->string) {
		FUZZ_CHECK(o->type != UHMM_OPTION_PATH, "%s", o->name);
		FUZZ_CHECK(!o->fallback && !v->number, "%s", o->name);
		return;
	}
	FUZZ_CHECK(!is_number(o) || is_meant(v->string, v->number), "%s: %" PRIu64,
		   v->string, v->number);
	FUZZ_CHECK(!is_number(o) || v->number >= o->min, "%s: %" PRIu64, o->name,
		   v->number);
	FUZZ_CHECK(!is_number(o) || !o->max || v->number <= o->max, "%s: %" PRIu64,
		   o->name, v->number);
	FUZZ_CHECK(o->type != UHMM_OPTION_BOOL || v->number <= 1, "%s: %" PRIu64, o->name,
		   v->number);
	FUZZ_CHECK(!is_text(o) || *v->string, "%s", o->name);
}

static void check_layers(const struct spec_tier *tier)
{
	uint32_t i, j;

	FUZZ_CHECK(tier->nr_layers && tier->nr_layers <= SPEC_LAYERS_MAX, "%u",
		   tier->nr_layers);
	for (i = 0; i < tier->nr_layers; i++) {
		const struct spec_layer *l = &tier->layer[i];
		bool last = i + 1 == tier->nr_layers;
		uint32_t flags = l->driver->flags;

		FUZZ_CHECK(last ? !(flags & UHMM_DRIVER_LAYER) :
				  flags & (UHMM_DRIVER_LAYER | UHMM_DRIVER_MAY_LAYER),
			   "%s", l->driver->name);
		for (j = 0; l->driver->options && l->driver->options[j].name; j++)
			check_value(&l->driver->options[j], &l->value[j]);
	}
}

static void check_tiers(const struct spec *spec)
{
	uint32_t t;

	FUZZ_CHECK(spec->nr_tiers && spec->nr_tiers <= SPEC_TIERS_MAX, "%u",
		   spec->nr_tiers);
	for (t = 0; t < spec->nr_tiers; t++)
		check_layers(&spec->tier[t]);
}

static void print_layer(const struct spec_layer *l, FILE *to)
{
	const struct uhmm_option *o = l->driver->options;
	char before = ':';
	uint32_t i;

	fputs(l->driver->name, to);
	for (i = 0; o && o[i].name; i++) {
		if (!l->value[i].string)
			continue;
		fprintf(to, "%c%s=", before, o[i].name);
		if (is_text(&o[i]))
			fputs(l->value[i].string, to);
		else
			fprintf(to, "%" PRIu64, l->value[i].number);
		before = ',';
	}
}

static void print(const struct spec *spec, char *to, size_t size)
{
	FILE *f = fmemopen(to, size, "w");
	uint32_t t, i;

	FUZZ_CHECK(f, "no memory");
	for (t = 0; t < spec->nr_tiers; t++)
		for (i = 0; i < spec->tier[t].nr_layers; i++) {
			if (t || i)
				fputc(i ? '+' : ',', f);
			print_layer(&spec->tier[t].layer[i], f);
		}
	fclose(f);
}

static bool same_value(const struct uhmm_option_value *a,
		       const struct uhmm_option_value *b, const struct uhmm_option *o)
{
	if (!a->string || !b->string)
		return a->string == b->string;
	return is_text(o) ? !strcmp(a->string, b->string) : a->number == b->number;
}

static void check_same(const struct spec_tier *a, const struct spec_tier *b)
{
	uint32_t i, j;

	FUZZ_CHECK(a->nr_layers == b->nr_layers, "%u and %u", a->nr_layers, b->nr_layers);
	for (i = 0; i < a->nr_layers; i++) {
		const struct uhmm_driver *d = a->layer[i].driver;

		FUZZ_CHECK(d == b->layer[i].driver, "%s", d->name);
		for (j = 0; d->options && d->options[j].name; j++)
			FUZZ_CHECK(same_value(&a->layer[i].value[j],
					      &b->layer[i].value[j], &d->options[j]),
				   "%s", d->options[j].name);
	}
}

/* With values that were left out it may have become too long. */
static void check_again(const struct uhmm_driver *const *drivers, const struct spec *spec)
{
	static struct spec again;
	char text[4 * SPEC_MAX], error[DEVICE_ERROR_MAX] = "";
	uint32_t t;
	int r;

	print(spec, text, sizeof(text));
	if (strlen(text) > SPEC_MAX)
		return;
	r = spec_parse(drivers, text, &again, error, sizeof(error));
	FUZZ_CHECK(!r, "%s: %s", text, error);
	FUZZ_CHECK(spec->nr_tiers == again.nr_tiers, "%u and %u", spec->nr_tiers,
		   again.nr_tiers);
	for (t = 0; t < spec->nr_tiers; t++)
		check_same(&spec->tier[t], &again.tier[t]);
}

static void check_open(const char *text)
{
	char error[DEVICE_ERROR_MAX] = "";
	struct uhmm_device *dev = NULL;
	int r = device_open(text, &dev, error, sizeof(error));

	if (r)
		check_error(error, sizeof(error));
	FUZZ_CHECK(!r == (dev != NULL), "%d", r);
	device_close(dev);
}

void spec_device(const char *text, bool real)
{
	static struct spec spec;
	const struct uhmm_driver *const *drivers = real ? device_drivers : made_up;
	char error[DEVICE_ERROR_MAX] = "";
	int r = spec_parse(drivers, text, &spec, error, sizeof(error));

	FUZZ_CHECK(!r || r == -EINVAL || r == -ENODEV, "%d", r);
	if (r) {
		check_error(error, sizeof(error));
		check_short_error(drivers, text, error);
		return;
	}
	FUZZ_CHECK(!*error, "%s", error);
	FUZZ_CHECK(is_of_grammar(text), "%s", text);
	check_tiers(&spec);
	check_again(drivers, &spec);
	if (real)
		check_open(text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths in a device spec, made absolute: who opens the device may be in another directory
 * by then.
 */
#include <errno.h>
#include <string.h>

#include "lib/device_spec.h"

/* Does the value of an option that is a relative path begin at this character? */
static bool layer_has_path_at(const struct spec_layer *layer, const char *at)
{
	const struct uhmm_option *o = layer->driver->options;
	uint32_t i;

	for (i = 0; o && o[i].name; i++)
		if (o[i].type == UHMM_OPTION_PATH && layer->value[i].string == at)
			return *at != '/';
	return false;
}

static bool is_relative_at(const struct spec *spec, const char *at)
{
	uint32_t t, i;

	for (t = 0; t < spec->nr_tiers; t++)
		for (i = 0; i < spec->tier[t].nr_layers; i++)
			if (layer_has_path_at(&spec->tier[t].layer[i], at))
				return true;
	return false;
}

/* What comes before a path. */
static int check_directory(struct parser *p, const char *directory)
{
	if (!directory || *directory != '/')
		return FAIL(p, EINVAL,
			    "the current directory is not known: a path has to "
			    "begin with '/'");
	if (directory[spec_span(directory, ",+")])
		return FAIL(p, EINVAL,
			    "the current directory has ',' or '+' in its name, "
			    "which a path here cannot contain");
	return 0;
}

static int absolute(struct parser *p, const struct spec *spec, const char *directory,
		    char *out, size_t size)
{
	size_t at, n = 0, len = strlen(p->text);
	size_t before = directory ? strlen(directory) : 0;
	int r;

	for (at = 0; at <= len; at++) {
		if (is_relative_at(spec, spec->text + at)) {
			r = check_directory(p, directory);
			if (r)
				return r;
			if (n + before + 2 > size)
				break;
			memcpy(out + n, directory, before);
			n += before;
			/* The root ends with one. */
			if (out[n - 1] != '/')
				out[n++] = '/';
		}
		if (n == size)
			break;
		out[n++] = p->text[at];
	}
	if (at > len && n <= SPEC_MAX + 1)
		return 0;
	return FAIL(p, EINVAL,
		    "it is too long where its paths begin with the current "
		    "directory's");
}

int spec_absolute(const struct uhmm_driver *const *drivers, const char *text,
		  const char *directory, char *out, size_t size, char *error,
		  size_t error_size)
{
	struct parser p = { drivers, text, error, error_size, NULL };
	struct spec *spec = uhmm_host_map(sizeof(*spec));
	int r;

	if (!spec)
		return FAIL(&p, ENOMEM, "not enough memory");
	r = spec_parse(drivers, text, spec, error, error_size);
	if (!r)
		r = absolute(&p, spec, directory, out, size);
	uhmm_host_unmap(spec, sizeof(*spec));
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that read a device spec share; lib/device.h has what they do. Text is
 * cut into pieces where it lies, in a copy.
 */
#ifndef UHMM_DEVICE_SPEC_H
#define UHMM_DEVICE_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/device.h"

#define SPEC_STR2(x_) #x_
#define SPEC_STR(x_) SPEC_STR2(x_)

/* What is quoted of a user's words. */
#define QUOTE_MAX 100u

struct parser {
	const struct uhmm_driver *const *drivers;
	const char *text;
	char *error;
	size_t error_size;
	const struct uhmm_option *last; /* whose value was read last, in this layer */
};

/* Says why, and is -errno. */
#define FAIL(p_, errno_, ...)                                                            \
	(spec_error((p_)->text, (p_)->error, (p_)->error_size, __VA_ARGS__, NULL),       \
	 -(errno_))

/*
 * Characters up to one of stops, or to the end. As strcspn(), which is not among what is
 * called on our threads in a program that may have its own.
 */
static inline size_t spec_span(const char *text, const char *stops)
{
	size_t n = 0;

	while (text[n] && !strchr(stops, text[n]))
		n++;
	return n;
}

/* Cuts a user's word so that the rest of the message has room. */
char *spec_quote(char *text);

/* What an option is given. 0, or -EINVAL and a message. */
int spec_value_parse(struct parser *p, const struct uhmm_option *option, char *text,
		     struct uhmm_option_value *value);

/* Is a path a driver's first option? Then it needs no name. */
static inline bool spec_wants_path(const struct uhmm_driver *driver)
{
	return driver->options && driver->options[0].name &&
	       driver->options[0].type == UHMM_OPTION_PATH;
}

#endif

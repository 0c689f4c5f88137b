/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm devices: the drivers this uhmm was built with, from their own tables; and the
 * check of `uhmm run --device`, which opens the device for a moment: a driver may find
 * more wrong with a spec than its grammar.
 *
 * Bash completion reads the list: a driver's name begins a line, and an option's is
 * indented by two and followed by '='.
 */
#include "cmd.h"

#include "lib/device.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/ctl.h"

static const char help[] = "Usage: uhmm devices [--json]\n"
			   "\n"
			   "Lists the devices that memory can be migrated to, and their "
			   "options. A device is\n"
			   "named by its name and options behind a colon: lz4:size=1G\n"
			   "\n"
			   "  --json      the same for programs\n"
			   "  -h, --help  this text\n";

enum { OPTION_JSON = 256 };

static const struct option options[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* The processes of the tree are in other directories when they open it. */
static int make_absolute(const char *spec, char *absolute)
{
	char error[DEVICE_ERROR_MAX] = "";
	char *directory = getcwd(NULL, 0);
	int r = spec_absolute(device_drivers, spec, directory, absolute, CTL_SPEC_MAX,
			      error, sizeof(error));

	free(directory);
	if (!r)
		return 0;
	/* It begins with: device "SPEC": */
	complain("--%s", error);
	return STATUS_REFUSED;
}

int check_device(const char *given, char *spec)
{
	char error[DEVICE_ERROR_MAX] = "";
	struct uhmm_device *dev;
	uint32_t flags;

	if (make_absolute(given, spec))
		return STATUS_REFUSED;
	if (device_open(spec, &dev, error, sizeof(error))) {
		complain("--%s", error);
		return STATUS_REFUSED;
	}
	flags = device_flags(dev);
	device_close(dev);
	if (flags & UHMM_DRIVER_RECLAIM_SAFE)
		return 0;
	complain("--device \"%s\": is for the library only: it cannot be used while a "
		 "fault of "
		 "the same process is resolved; 'uhmm devices' lists those that can",
		 given);
	return STATUS_REFUSED;
}

/* ---- for people -------------------------------------------------------------------- */

static const char *const type_name[] = {
	[UHMM_OPTION_SIZE] = "size", [UHMM_OPTION_UINT] = "uint",
	[UHMM_OPTION_BOOL] = "bool", [UHMM_OPTION_STRING] = "string",
	[UHMM_OPTION_PATH] = "path",
};

static const char *const type_shown[] = {
	[UHMM_OPTION_SIZE] = "SIZE",   [UHMM_OPTION_UINT] = "NUMBER",
	[UHMM_OPTION_BOOL] = "on|off", [UHMM_OPTION_STRING] = "TEXT",
	[UHMM_OPTION_PATH] = "FILE",
};

/* A size as it may be given: 1M. */
static void print_limit(const struct uhmm_option *option, const char *word,
			uint64_t limit)
{
	static const char *const suffixes[] = { "", "K", "M", "G", "T" };
	unsigned i = 0;

	for (; option->type == UHMM_OPTION_SIZE && i < 4 && limit && limit % 1024 == 0;
	     i++)
		limit /= 1024;
	printf("%s%" PRIu64 "%s", word, limit, suffixes[i]);
}

static void print_option(const struct uhmm_option *option)
{
	char name[64];
	bool number = option->type == UHMM_OPTION_SIZE ||
		      option->type == UHMM_OPTION_UINT;

	snprintf(name, sizeof(name), "%s=%s", option->name, type_shown[option->type]);
	printf("  %-20s  %s", name, option->help);
	if (number && option->min)
		print_limit(option, "; at least ", option->min);
	if (number && option->max)
		print_limit(option, "; at most ", option->max);
	if (option->fallback)
		printf("; default %s", option->fallback);
	puts("");
}

static void print(void)
{
	const struct uhmm_driver *driver = NULL;

	while ((driver = device_driver_next(driver))) {
		printf("%-20s    %s\n", driver->name, driver->summary);
		if (driver->flags & UHMM_DRIVER_LAYER)
			printf("  (a layer: %s+DEVICE)\n", driver->name);
		else if (driver->flags & UHMM_DRIVER_MAY_LAYER)
			printf("  (alone, or as a layer: %s+DEVICE)\n", driver->name);
		if (!(driver->flags & UHMM_DRIVER_RECLAIM_SAFE))
			puts("  (for the library only, not for 'uhmm run')");
		for (const struct uhmm_option *o = driver->options; o && o->name; o++)
			print_option(o);
	}
}

/* ---- for programs ------------------------------------------------------------------ */

static void add_limit(cJSON *to, const char *key, uint64_t limit)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, limit);
	cJSON_AddRawToObject(to, key, text);
}

static cJSON *option_json(const struct uhmm_option *option)
{
	cJSON *item = cJSON_CreateObject();

	cJSON_AddStringToObject(item, "name", option->name);
	cJSON_AddStringToObject(item, "type", type_name[option->type]);
	if (option->fallback)
		cJSON_AddStringToObject(item, "default", option->fallback);
	else
		cJSON_AddNullToObject(item, "default");
	cJSON_AddStringToObject(item, "help", option->help);
	if (option->type == UHMM_OPTION_SIZE || option->type == UHMM_OPTION_UINT) {
		add_limit(item, "min", option->min);
		if (option->max)
			add_limit(item, "max", option->max);
	}
	return item;
}

static void print_json(void)
{
	const struct uhmm_driver *driver = NULL;
	cJSON *root = cJSON_CreateArray(), *item, *list;
	char *text;

	while ((driver = device_driver_next(driver))) {
		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "name", driver->name);
		cJSON_AddStringToObject(item, "summary", driver->summary);
		cJSON_AddBoolToObject(item, "run",
				      (driver->flags & UHMM_DRIVER_RECLAIM_SAFE) != 0);
		cJSON_AddBoolToObject(item, "memory",
				      (driver->flags & UHMM_DRIVER_MEMORY) != 0);
		cJSON_AddStringToObject(item, "layer",
					driver->flags & UHMM_DRIVER_LAYER     ? "must" :
					driver->flags & UHMM_DRIVER_MAY_LAYER ? "may" :
										"no");
		list = cJSON_AddArrayToObject(item, "options");
		for (const struct uhmm_option *o = driver->options; o && o->name; o++)
			cJSON_AddItemToArray(list, option_json(o));
		cJSON_AddItemToArray(root, item);
	}
	text = cJSON_Print(root);
	if (text)
		puts(text);
	free(text);
	cJSON_Delete(root);
}

static int devices_main(int argc, char **argv)
{
	bool json = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (c) {
		case OPTION_JSON:
			json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return finish_output(STATUS_OK);
		default:
			return option_error("devices", c, argv, options);
		}
	}
	if (optind < argc) {
		complain("devices: '%s': takes no arguments", argv[optind]);
		return STATUS_REFUSED;
	}
	if (json)
		print_json();
	else
		print();
	return finish_output(STATUS_OK);
}

const struct verb verb_devices = {
	.name = "devices",
	.summary = "list the devices and their options",
	.help = help,
	.main = devices_main,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device specs with tiers and with paths: how they are cut into parts, what is said of
 * those that are wrong, and relative paths made absolute. With drivers that are never
 * opened.
 */
#define _GNU_SOURCE
#include "tests/test.h"

#include "lib/device.h"

static const struct uhmm_option store_options[] = {
	{ .name = "size", .type = UHMM_OPTION_SIZE },
	{ .name = "ram", .type = UHMM_OPTION_BOOL }, /* as a device is called */
	{ .name = "note", .type = UHMM_OPTION_STRING },
	{ .name = NULL },
};
static const struct uhmm_option file_options[] = {
	{ .name = "path", .type = UHMM_OPTION_PATH },
	{ .name = "size", .type = UHMM_OPTION_SIZE },
	{ .name = "journal", .type = UHMM_OPTION_PATH, .fallback = "none" },
	{ .name = NULL },
};
static const struct uhmm_driver file = { .size = sizeof(file),
					 .name = "file",
					 .options = file_options };
static const struct uhmm_driver pack = { .size = sizeof(pack),
					 .name = "pack",
					 .options = store_options,
					 .flags = UHMM_DRIVER_MAY_LAYER };
static const struct uhmm_driver ram = { .size = sizeof(ram),
					.name = "ram",
					.options = store_options };
static const struct uhmm_driver veil = { .size = sizeof(veil),
					 .name = "veil",
					 .flags = UHMM_DRIVER_LAYER };
static const struct uhmm_driver *const drivers[] = { &file, &pack, &ram, &veil, NULL };

static struct spec spec;
static char error[DEVICE_ERROR_MAX];

static int parse(const char *text)
{
	error[0] = 0;
	return spec_parse(drivers, text, &spec, error, sizeof(error));
}

/* What was understood, in full: "pack(size=4096)+ram / file(path=/x)". */
static const char *understood(void)
{
	static char out[2048];
	FILE *f = fmemopen(out, sizeof(out), "w");
	uint32_t t, i;

	CHECK(f != NULL);
	for (t = 0; t < spec.nr_tiers; t++)
		for (i = 0; i < spec.tier[t].nr_layers; i++) {
			const struct spec_layer *l = &spec.tier[t].layer[i];
			const struct uhmm_option *o = l->driver->options;
			const struct uhmm_option_value *v = l->value;

			fprintf(f, "%s%s", i ? "+" : t ? " / " : "", l->driver->name);
			for (; o && o->name; o++, v++)
				if (v->string && strcmp(v->string, "none"))
					fprintf(f, "(%s=%s)", o->name, v->string);
		}
	fclose(f);
	return out;
}

static void means(const char *text, const char *meaning)
{
	CHECK(parse(text) == 0, "%.400s", error);
	CHECK_STR(understood(), meaning);
}

static void refused(const char *text, int r, const char *message)
{
	char want[DEVICE_ERROR_MAX + 200];

	CHECK_EQ(parse(text), r);
	snprintf(want, sizeof(want), "device \"%s\": %s", text, message);
	CHECK_STR(error, want);
}

/* ---- tiers ------------------------------------------------------------------------ */

TEST(a_devices_name_begins_a_tier)
{
	means("pack,ram", "pack / ram");
	means("pack:size=1M,ram", "pack(size=1M) / ram");
	means("pack:size=1M,ram:size=2M,ram=on,pack", "pack(size=1M) / "
						      "ram(size=2M)(ram=on) / pack");
	means("pack,veil+pack+file:/x,veil+ram", "pack / veil+pack+file(path=/x) / "
						 "veil+ram");
	means("veil+pack:size=1M,pack+ram:size=3,file:/y", "veil+pack(size=1M) / "
							   "pack+ram(size=3) / "
							   "file(path=/y)");
	/* Only a whole name is one, and the colon's first word is none. */
	means("pack:note=ram,size=2", "pack(size=2)(note=ram)");
	means("file:ram,ram", "file(path=ram) / ram");
	means("ram,ram,ram,ram,ram,ram,ram,ram",
	      "ram / ram / ram / ram / ram / ram / ram / ram");
}

TEST(what_is_no_tier_and_no_option)
{
	refused("ram,ram,ram,ram,ram,ram,ram,ram,ram", -EINVAL,
		"there are more than 8 tiers");
	refused("pack,", -EINVAL,
		"a device's name is missing after \"pack,\"; there are: file, pack, ram, "
		"veil");
	refused(",pack", -EINVAL,
		"a device's name is missing; there are: file, pack, ram, veil");
	refused("pack,rma", -ENODEV,
		"there is no device \"rma\"; there are: file, pack, ram, veil");
	refused("pack,rma:size=1M", -ENODEV,
		"there is no device \"rma\"; there are: file, pack, ram, veil");
	refused("pack:size=1M,rma:size=1M", -ENODEV,
		"there is no device \"rma\"; there are: file, pack, ram, veil");
	refused("pack:size=1M,sise=2M", -EINVAL,
		"pack has no option \"sise\"; its options: size, ram, note");
	refused("pack:size=1M,rma", -EINVAL,
		"\"rma\" is neither OPTION=VALUE nor a device; options of pack: size, "
		"ram, note; devices: file, pack, ram, veil");
	refused("pack:size=1M,size", -EINVAL,
		"\"size\" is not OPTION=VALUE; options of pack: size, ram, note");
	refused("pack,size=1M", -EINVAL,
		"options of pack come behind a colon: pack:size=1M");
	refused("pack,veil", -EINVAL, "veil needs a device below it, as in veil+ram");
	refused("veil,pack", -EINVAL, "veil needs a device below it, as in veil+ram");
	refused("pack:,ram", -EINVAL,
		"an option is missing after pack; its options: size, ram, note");
	refused("pack+,ram", -EINVAL,
		"a device's name is missing; there are: file, pack, ram, veil");
}

/* ---- paths ------------------------------------------------------------------------ */

TEST(a_path_needs_no_name)
{
	means("file:/swap/uhmm", "file(path=/swap/uhmm)");
	means("file:/swap/uhmm,size=4G", "file(path=/swap/uhmm)(size=4G)");
	means("file:size=4G,path=/x", "file(path=/x)(size=4G)");
	means("file:path=/x,journal=/y", "file(path=/x)(journal=/y)");
	means("file:./size=4G", "file(path=./size=4G)");
	means("file:/a:b=c", "file(path=/a:b=c)");
	means("file:swap", "file(path=swap)");
}

TEST(a_path_is_needed)
{
	refused("file", -EINVAL, "file needs a path, as in file:/var/tmp/uhmm");
	refused("file:", -EINVAL, "file needs a path, as in file:/var/tmp/uhmm");
	refused("file:size=4G", -EINVAL, "file needs a path, as in file:/var/tmp/uhmm");
	refused("file:,size=4G", -EINVAL, "file needs a path, as in file:/var/tmp/uhmm");
	refused("pack,veil+file", -EINVAL, "file needs a path, as in file:/var/tmp/uhmm");
	refused("file:path=", -EINVAL, "path= has no value");
	refused("file:/a,path=/b", -EINVAL, "option path is given twice");
	refused("file:pth=/b", -EINVAL,
		"file has no option \"pth\"; its options: path, size, journal");
}

TEST(what_a_path_cannot_contain)
{
	refused("file:/a,b", -EINVAL,
		"\"b\" is neither OPTION=VALUE nor a device; a path cannot contain ',' "
		"or '+'; options of file: path, size, journal; devices: file, pack, ram, "
		"veil");
	refused("file:/a,b:c", -EINVAL,
		"\"b:c\" is neither OPTION=VALUE nor a device; a path cannot contain ',' "
		"or '+'; options of file: path, size, journal; devices: file, pack, ram, "
		"veil");
	refused("file:/a+b", -ENODEV,
		"there is no device \"b\"; there are: file, pack, ram, veil; a path "
		"cannot contain ',' or '+'");
	refused("file:/a+ram", -EINVAL,
		"file keeps pages itself: nothing can be below it; a path cannot contain "
		"',' or '+'");
}

/* ---- absolute paths --------------------------------------------------------------- */

static char out[SPEC_MAX + 1];

static int absolute(const char *text, const char *directory, size_t size)
{
	error[0] = 0;
	memset(out, 'x', sizeof(out));
	return spec_absolute(drivers, text, directory, out, size, error, sizeof(error));
}

static void becomes(const char *text, const char *directory, const char *want)
{
	CHECK(absolute(text, directory, sizeof(out)) == 0, "%.400s", error);
	CHECK_STR(out, want);
	/* With exactly as much room as it takes, and with less. */
	CHECK_EQ(absolute(text, directory, strlen(want) + 1), 0);
	CHECK_STR(out, want);
	CHECK_EQ(absolute(text, directory, strlen(want)), -EINVAL);
	CHECK(strstr(error, "it is too long where its paths begin with the current "
			    "directory's"),
	      "%.400s", error);
	CHECK_EQ(out[strlen(want)], 'x');
}

TEST(relative_paths_become_absolute)
{
	becomes("pack:size=1M,ram", "/home", "pack:size=1M,ram");
	becomes("file:/x", "/home", "file:/x");
	becomes("file:x", "/srv/me", "file:/srv/me/x");
	becomes("file:x", "/", "file:/x");
	becomes("file:../x,size=4G", "/srv/me", "file:/srv/me/../x,size=4G");
	becomes("pack,veil+file:size=2,path=x,journal=y,file:z", "/d",
		"pack,veil+file:size=2,path=/d/x,journal=/d/y,file:/d/z");
	/* No path, whatever it looks like. */
	becomes("pack:note=./x", "/d", "pack:note=./x");
}

TEST(paths_that_cannot_be_made_absolute)
{
	char text[SPEC_MAX + 1] = "file:";

	CHECK_EQ(absolute("file", "/d", sizeof(out)), -EINVAL);
	CHECK(strstr(error, "file needs a path"));
	CHECK_EQ(absolute("file:x", NULL, sizeof(out)), -EINVAL);
	CHECK(strstr(error, "the current directory is not known: a path has to begin "
			    "with '/'"));
	CHECK_EQ(absolute("file:x", "(unreachable)/d", sizeof(out)), -EINVAL);
	CHECK_EQ(absolute("file:/x", NULL, sizeof(out)), 0);
	CHECK_EQ(absolute("file:x", "/a,b", sizeof(out)), -EINVAL);
	CHECK(strstr(error, "the current directory has ',' or '+' in its name"));
	CHECK_EQ(absolute("file:x", "/a+b", sizeof(out)), -EINVAL);
	memset(text + 5, 'x', SPEC_MAX - 5);
	CHECK_EQ(absolute(text, "/d", sizeof(out)), -EINVAL);
	CHECK(strstr(error, "it is too long"));
}

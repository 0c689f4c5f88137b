/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device specs: what is accepted, and what each refusal says. With a driver made for this
 * test, which keeps what it was given. Stacks of layers are in test_stack.c.
 */
#define _GNU_SOURCE
#include "tests/test.h"

#include "lib/device.h"
#include "lib/host.h"

static struct uhmm_option_value seen[5];
static char seen_string[64];
static unsigned opened;

/* What plain_open() returns and says. */
static int refuse;
static const char *reason;

static const struct uhmm_option plain_options[] = {
	{ .name = "size",
	  .type = UHMM_OPTION_SIZE,
	  .min = 1u << 20,
	  .max = UINT64_C(1) << 40 },
	{ .name = "level",
	  .type = UHMM_OPTION_UINT,
	  .fallback = "3",
	  .min = 1,
	  .max = 22 },
	{ .name = "fast", .type = UHMM_OPTION_BOOL, .fallback = "off" },
	{ .name = "path", .type = UHMM_OPTION_STRING },
	{ .name = "any", .type = UHMM_OPTION_SIZE, .min = 5 },
	{ .name = NULL },
};

static int plain_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	CHECK_EQ(args->size, sizeof(*args));
	memcpy(seen, args->values, sizeof(seen));
	snprintf(seen_string, sizeof(seen_string), "%s",
		 seen[3].string ? seen[3].string : "(unset)");
	opened++;
	*error = reason;
	*dev = seen;
	return refuse;
}

static void plain_close(void *dev)
{
	CHECK(dev == seen);
}

static int plain_submit(void *dev, struct uhmm_batch *batch)
{
	(void)dev;
	batch->complete(batch);
	return 0;
}

static const struct uhmm_driver plain = {
	.size = sizeof(plain),
	.name = "plain",
	.options = plain_options,
	.open = plain_open,
	.close = plain_close,
	.submit = plain_submit,
};

static const struct uhmm_driver layer = {
	.size = sizeof(layer),
	.name = "layer",
	.flags = UHMM_DRIVER_LAYER,
	.open = plain_open,
	.close = plain_close,
	.submit = plain_submit,
};

static const struct uhmm_driver *const drivers[] = { &layer, &plain, NULL };

static char error[DEVICE_ERROR_MAX];

static int try_open(const char *spec, struct uhmm_device **dev)
{
	error[0] = 0;
	return device_open_from(drivers, spec, dev, error, sizeof(error));
}

static void accepted(const char *spec)
{
	struct uhmm_device *dev = NULL;

	CHECK(try_open(spec, &dev) == 0, "%.400s", error);
	CHECK_STR(error, "");
	device_close(dev);
}

/* ---- what is accepted ---------------------------------------------------------- */

static void number_is(const char *spec, int option, uint64_t number)
{
	accepted(spec);
	CHECK_EQ(seen[option].number, number);
}

TEST(values_of_options)
{
	number_is("plain:size=1M", 0, UINT64_C(1) << 20);
	number_is("plain:size=1048576", 0, UINT64_C(1) << 20);
	number_is("plain:size=3g", 0, UINT64_C(3) << 30);
	number_is("plain:size=2048K", 0, UINT64_C(2) << 20);
	number_is("plain:size=1T", 0, UINT64_C(1) << 40);
	number_is("plain:any=16777215T", 4, UINT64_C(16777215) << 40);
	number_is("plain:any=18446744073709551615", 4, UINT64_MAX);
	number_is("plain:any=5", 4, 5);
	number_is("plain:level=22", 1, 22);
	number_is("plain:level=1", 1, 1);
	number_is("plain:fast=on", 2, 1);
	number_is("plain:fast=true", 2, 1);
	number_is("plain:fast=1", 2, 1);
	number_is("plain:fast=false,level=4", 2, 0);
	number_is("plain:fast=off", 2, 0);
	number_is("plain:level=4,fast=0", 2, 0);
}

TEST(options_left_out)
{
	accepted("plain");
	CHECK_EQ(seen[0].number, 0);
	CHECK(seen[0].string == NULL);
	CHECK_EQ(seen[1].number, 3);
	CHECK_EQ(seen[2].number, 0);
	CHECK_STR(seen_string, "(unset)");
	accepted("plain:path=/a:b=c/d,level=5");
	CHECK_STR(seen_string, "/a:b=c/d");
	CHECK_EQ(seen[1].number, 5);
}

/* ---- what is refused ----------------------------------------------------------- */

static void refused(const char *spec, int r, const char *message)
{
	struct uhmm_device *dev = (struct uhmm_device *)error;

	CHECK_EQ(try_open(spec, &dev), r);
	CHECK_STR(error, message);
	CHECK(dev == (struct uhmm_device *)error);
	CHECK_EQ(opened, 0);
}

TEST(refusals_say_what_is_accepted)
{
	refused("", -EINVAL,
		"device \"\": a device's name is missing; there are: layer, plain");
	refused("plan", -ENODEV,
		"device \"plan\": there is no device \"plan\"; there are: layer, plain");
	refused("Plain", -ENODEV,
		"device \"Plain\": there is no device \"Plain\"; there are: layer, "
		"plain");
	refused("plain:", -EINVAL,
		"device \"plain:\": an option is missing after plain; its options: "
		"size, level, fast, path, any");
	refused("plain:level=2,", -EINVAL,
		"device \"plain:level=2,\": an option is missing after plain; its "
		"options: size, level, fast, path, any");
	refused("plain:size", -EINVAL,
		"device \"plain:size\": \"size\" is not OPTION=VALUE; options of plain: "
		"size, level, fast, path, any");
	refused("plain:sise=1G", -EINVAL,
		"device \"plain:sise=1G\": plain has no option \"sise\"; its options: "
		"size, level, fast, path, any");
	refused("layer:x=1+plain", -EINVAL,
		"device \"layer:x=1+plain\": layer has no option \"x\"; its options: "
		"none");
	refused("plain:level=2,level=3", -EINVAL,
		"device \"plain:level=2,level=3\": option level is given twice");
	refused("plain:path=", -EINVAL, "device \"plain:path=\": path= has no value");
	refused("plain:fast=yes", -EINVAL,
		"device \"plain:fast=yes\": fast=yes is neither on nor off");
}

TEST(refused_numbers)
{
	static const char *const sizes[] = { "",
					     "1X",
					     "1GB",
					     "1.5G",
					     "-1M",
					     "G",
					     " 1M",
					     "0x10",
					     "1M ",
					     "1 ",
					     "16777216T",
					     "18446744073709551616",
					     "99999999999999999999G" };
	static const char *const numbers[] = { "", "1K", "a", "-1", "1 " };
	char spec[128], message[256];
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(spec, sizeof(spec), "plain:size=%s", sizes[i]);
		snprintf(message, sizeof(message),
			 "device \"%s\": size=%s is not a size; write bytes, or a number "
			 "with K, M, G or T, as in size=512M",
			 spec, sizes[i]);
		refused(spec, -EINVAL, message);
	}
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		snprintf(spec, sizeof(spec), "plain:level=%s", numbers[i]);
		snprintf(message, sizeof(message),
			 "device \"%s\": level=%s is not a number; write decimal digits",
			 spec, numbers[i]);
		refused(spec, -EINVAL, message);
	}
	refused("plain:size=1023K", -EINVAL,
		"device \"plain:size=1023K\": size=1023K is out of range: 1M to 1T");
	refused("plain:size=0", -EINVAL,
		"device \"plain:size=0\": size=0 is out of range: 1M to 1T");
	refused("plain:level=23", -EINVAL,
		"device \"plain:level=23\": level=23 is out of range: 1 to 22");
	refused("plain:any=4", -EINVAL,
		"device \"plain:any=4\": any=4 is out of range: at least 5");
}

TEST(refused_stacks)
{
	struct uhmm_device *dev;
	char spec[SPEC_MAX + 11];

	refused("layer", -EINVAL,
		"device \"layer\": layer needs a device below it, as in layer+ram");
	refused("plain+plain", -EINVAL,
		"device \"plain+plain\": plain keeps pages itself: nothing can be "
		"below it");
	refused("layer+", -EINVAL,
		"device \"layer+\": a device's name is missing; there are: layer, plain");
	refused("+plain", -EINVAL,
		"device \"+plain\": a device's name is missing; there are: layer, plain");
	refused("layer+layer+layer+layer+layer+layer+layer+layer+plain", -EINVAL,
		"device \"layer+layer+layer+layer+layer+layer+layer+layer+plain\": there "
		"are more than 8 devices on each other");
	memset(spec, 'x', sizeof(spec) - 1);
	spec[sizeof(spec) - 1] = 0;
	CHECK_EQ(try_open(spec, &dev), -EINVAL);
	CHECK(strstr(error, "it is longer than 1023 characters"), "%.400s", error);
}

/* Whatever a spec contains, the message is one line of bounded length. */
TEST(one_line_whatever_was_written)
{
	char spec[600], few[8] = "unused";
	struct uhmm_device *dev;
	size_t i;
	int c;

	for (c = 1; c < 127; c++) {
		memset(spec, c, sizeof(spec) - 1);
		spec[sizeof(spec) - 1] = 0;
		memcpy(spec, "plain:", c % 2 ? 6 : 0);
		CHECK_NE(try_open(spec, &dev), 0);
		CHECK_GT(strlen(error), 20);
		for (i = 0; error[i]; i++)
			CHECK_GE((unsigned char)error[i], ' ');
	}
	CHECK_EQ(device_open_from(drivers, "nothing", &dev, few, sizeof(few)), -ENODEV);
	CHECK_STR(few, "device ");
	CHECK_EQ(device_open_from(drivers, "nothing", &dev, NULL, 0), -ENODEV);
}

TEST(what_a_driver_refuses)
{
	struct uhmm_device *dev = NULL;
	struct host_stat before, after;

	host_stat(&before);
	refuse = -EACCES;
	CHECK_EQ(try_open("layer+plain:level=7", &dev), -EACCES);
	CHECK_STR(error, "device \"layer+plain:level=7\": plain: cannot be "
			 "opened");
	reason = "the path must be absolute";
	CHECK_EQ(try_open("plain", &dev), -EACCES);
	CHECK_STR(error, "device \"plain\": plain: the path must be absolute");
	CHECK_EQ(opened, 2);
	CHECK(dev == NULL);
	host_stat(&after);
	CHECK_EQ(after.bytes_mapped, before.bytes_mapped);
}

TEST(drivers_that_were_built)
{
	const struct uhmm_driver *driver = NULL, *last = NULL;
	unsigned nr = 0;

	while ((driver = device_driver_next(driver))) {
		CHECK(!last || strcmp(last->name, driver->name) < 0);
		last = driver;
		nr++;
	}
	CHECK_GE(nr, 2);
	CHECK(device_driver_next(&plain) == NULL);
}

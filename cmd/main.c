/* SPDX-License-Identifier: Apache-2.0 */
/* uhmm: finds the verb and hands over to it. */
#include "cmd.h"

#include "uhmm/uhmm.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct verb *const verbs[] = { &verb_run, &verb_doctor, &verb_devices,
					    &verb_dmirror };
#define NR_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static void print_usage(FILE *to)
{
	fputs("Usage: uhmm VERB [OPTION]...\n"
	      "\n"
	      "Runs programs in less memory than they need: what is cold is migrated to "
	      "a\n"
	      "device (compressed memory, for one) and comes back when it is used.\n"
	      "\n",
	      to);
	for (size_t i = 0; i < NR_VERBS; i++)
		fprintf(to, "  %-9s  %s\n", verbs[i]->name, verbs[i]->summary);
	fputs("  help       this text, or 'uhmm help VERB'\n"
	      "  version    the version\n"
	      "\n"
	      "  uhmm run --memory 512M -- ./program\n"
	      "\n"
	      "'uhmm VERB --help' tells more about one; so do the manual pages uhmm(1) "
	      "and\n"
	      "uhmm-run(1).\n",
	      to);
}

static int print_version(void)
{
	printf("uhmm %d.%d.%d\n", UHMM_VERSION_MAJOR, UHMM_VERSION_MINOR,
	       UHMM_VERSION_PATCH);
	return finish_output(STATUS_OK);
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < NR_VERBS; i++)
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

static int unknown_verb(const char *name)
{
	const char *names[NR_VERBS + 3] = { "help", "version" };
	const char *meant;

	for (size_t i = 0; i < NR_VERBS; i++)
		names[i + 2] = verbs[i]->name;
	meant = nearest(name, names);
	if (meant)
		complain("'%s' is not a verb: did you mean 'uhmm %s'?", name, meant);
	else
		complain("'%s' is not a verb: use run, doctor, devices, dmirror, help or "
			 "version",
			 name);
	return STATUS_REFUSED;
}

static int help(const char *name)
{
	const struct verb *verb = name ? find_verb(name) : NULL;

	if (name && !verb && strcmp(name, "help") && strcmp(name, "version"))
		return unknown_verb(name);
	if (verb)
		fputs(verb->help, stdout);
	else
		print_usage(stdout);
	return finish_output(STATUS_OK);
}

/*
 * What we open must not become 0, 1 or 2: a message would go into it. A program that
 * was to find them closed still does.
 */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct verb *verb;

	fill_standard_descriptors();
	if (argc < 2) {
		print_usage(stderr);
		return STATUS_REFUSED;
	}
	verb = find_verb(argv[1]);
	if (verb)
		return verb->main(argc - 1, argv + 1);
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") ||
	    !strcmp(argv[1], "-h"))
		return help(argc > 2 ? argv[2] : NULL);
	if (!strcmp(argv[1], "version") || !strcmp(argv[1], "--version") ||
	    !strcmp(argv[1], "-V"))
		return print_version();
	if (argv[1][0] == '-') {
		complain("unknown option '%s': a verb comes first, as in uhmm run %s",
			 argv[1], argv[1]);
		return STATUS_REFUSED;
	}
	return unknown_verb(argv[1]);
}

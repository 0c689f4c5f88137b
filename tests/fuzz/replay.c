/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs files through a fuzz target, each one a test: the corpus that fuzzing begins with,
 * what has been found (each was a bug once, and is none any more), and with FUZZ_INPUTS
 * in the environment what is in that directory. No libFuzzer is needed for it.
 *
 * Each input is run twice in one process: it does the same again, because nothing of the
 * first time is left.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "test.h"
#include "tests/fuzz/fuzz.h"

/* Fuzzers keep inputs small. */
#define INPUT_MAX (1u << 16)
/* As scripts/fuzz.sh has it; both runs. */
#define TIMEOUT_S 20

static void run_file(void)
{
	static uint8_t buf[INPUT_MAX];
	FILE *f = fopen(test_arg(), "rb");
	uint64_t digest;
	uint8_t *data;
	size_t size;

	CHECK(f, "%s", (const char *)test_arg());
	size = fread(buf, 1, sizeof(buf), f);
	CHECK(!ferror(f) && fgetc(f) == EOF, "it is longer than %u", INPUT_MAX);
	fclose(f);
	/* So that a sanitizer knows where it ends. */
	data = malloc(size ? size : 1);
	CHECK(data);
	memcpy(data, buf, size);
	LLVMFuzzerTestOneInput(data, size);
	digest = fuzz_digest ? fuzz_digest() : 0;
	LLVMFuzzerTestOneInput(data, size);
	if (fuzz_digest)
		CHECK_EQ(digest, fuzz_digest());
	free(data);
}

static void *never_null(void *p)
{
	if (!p) {
		perror("fuzz inputs");
		exit(1);
	}
	return p;
}

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Tests live as long as the program. */
static void add(const char *folder, const char *name)
{
	struct test *test = never_null(calloc(1, sizeof(*test)));
	char *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		never_null(NULL);
	*test = (struct test){
		.name = never_null(strdup(name)),
		.fn = run_file,
		.arg = path,
		.timeout_s = TIMEOUT_S,
	};
	test_register(test);
}

static void add_folder(const char *folder)
{
	struct dirent **entry;
	int i, nr = scandir(folder, &entry, is_file, alphasort);

	if (nr < 0)
		never_null(NULL);
	for (i = 0; i < nr; i++) {
		add(folder, entry[i]->d_name);
		free(entry[i]);
	}
	free(entry);
}

__attribute__((constructor)) static void add_all(void)
{
	const char *more = getenv("FUZZ_INPUTS");

	add_folder(FUZZ_CORPUS);
	add_folder(FUZZ_FOUND);
	if (more)
		add_folder(more);
}

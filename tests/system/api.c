/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See api.h. Looking at the process goes through /proc/self.
 */
#include "api.h"

#include <dirent.h>
#include <fcntl.h>

struct uhmm_space *api_space(uint32_t delivery, uint64_t budget_bytes)
{
	struct uhmm_space_config config = {
		.size = sizeof(config),
		.delivery = delivery,
		.budget_bytes = budget_bytes,
	};
	struct uhmm_space *space = NULL;
	int r = uhmm_space_create(&config, &space);

	if (r == -EPERM || r == -ENOSYS)
		SKIP("userfaultfd cannot be used here: %s", strerror(-r));
	CHECK_EQ(r, 0);
	CHECK(space);
	return space;
}

struct uhmm_device *api_device(struct uhmm_space *space, const char *spec)
{
	struct uhmm_device *dev = NULL;
	int r = uhmm_device_open(space, spec, &dev);

	CHECK(r == 0, "%d: %s", r, uhmm_strerror_spec());
	CHECK(dev);
	return dev;
}

void api_destroy(struct uhmm_space *space)
{
	CHECK_EQ(uhmm_space_destroy(space), 0);
}

struct uhmm_stats api_stats(struct uhmm_space *space)
{
	struct uhmm_stats stats = { .size = sizeof(stats) };

	CHECK_EQ(uhmm_stats_get(space, &stats), 0);
	return stats;
}

/* ---- memory ----------------------------------------------------------------------- */

char *api_map(size_t nr_pages)
{
	size_t len = nr_pages * PAGE, all = len + 3 * FOLIO;
	char *base = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p;

	CHECK(base != MAP_FAILED);
	p = (char *)(((uintptr_t)base + 2 * FOLIO - 1) & ~(FOLIO - 1));
	CHECK_EQ(mprotect(p, len, PROT_READ | PROT_WRITE), 0);
	return p;
}

void api_unmap(void *p, size_t nr_pages)
{
	CHECK_EQ(munmap(p, nr_pages * PAGE), 0);
}

void api_fill(void *p, size_t nr, uint64_t key)
{
	size_t i;

	for (i = 0; i < nr; i++)
		stamp_fill((char *)p + i * PAGE, key + i);
}

void api_check(const void *p, size_t nr, uint64_t key)
{
	const char *page = p;
	size_t i, word;

	for (i = 0; i < nr; i++, page += PAGE) {
		word = stamp_check(page, key + i);
		if (word == PAGE_WORDS)
			continue;
		test_fail("page %zu of %zu at %p, key %ju: word %zu is 0x%jx, not 0x%jx",
			  i, nr, (const void *)page, (uintmax_t)(key + i), word,
			  (uintmax_t)((const uint64_t *)page)[word],
			  (uintmax_t)stamp_word(key + i, word));
	}
}

size_t api_count(const uint8_t *results, size_t nr, enum uhmm_result result)
{
	size_t i, n = 0;

	for (i = 0; i < nr; i++)
		n += results[i] == result;
	return n;
}

void api_move(struct uhmm_space *space, void *p, size_t nr, struct uhmm_device *dev,
	      enum uhmm_result expected)
{
	uint8_t *results = malloc(nr);
	size_t moved = nr + 1, i;

	CHECK(results);
	memset(results, 0xff, nr);
	CHECK_EQ(uhmm_migrate(space, p, nr * PAGE, dev, results, &moved), 0);
	for (i = 0; i < nr; i++)
		CHECK(results[i] == expected, "page %zu of %zu is %u, not %u", i, nr,
		      results[i], expected);
	CHECK_EQ(moved, expected == UHMM_MOVED ? nr : 0);
	free(results);
}

/* ---- what the kernel says --------------------------------------------------------- */

static FILE *open_proc(const char *name)
{
	FILE *f = fopen(name, "re");

	CHECK(f, "%s", name);
	return f;
}

long api_smaps_kib(const void *p, const char *field)
{
	FILE *f = open_proc("/proc/self/smaps");
	unsigned long start, end;
	bool here = false;
	char line[512];
	long kib = -1;

	while (kib < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)p >= start && (uintptr_t)p < end;
		else if (here && !strncmp(line, field, strlen(field)))
			kib = atol(line + strlen(field));
	}
	fclose(f);
	CHECK(kib >= 0, "%s of %p", field, p);
	return kib;
}

size_t api_resident(const void *p, size_t nr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t i, n = 0;
	uint64_t bits;

	CHECK(fd >= 0);
	for (i = 0; i < nr; i++) {
		off_t at = (off_t)(((uintptr_t)p / PAGE + i) * sizeof(bits));

		CHECK_EQ(pread(fd, &bits, sizeof(bits), at), sizeof(bits));
		n += bits >> 63;
	}
	close(fd);
	return n;
}

void api_fill_huge(void *p, size_t nr, uint64_t key)
{
	madvise(p, nr * PAGE, MADV_HUGEPAGE);
	api_fill(p, nr, key);
	if (api_smaps_kib(p, "AnonHugePages:") != (long)(nr * PAGE / 1024))
		SKIP("the kernel has no huge pages to give now");
}

int api_nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	CHECK(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

int api_nr_mappings(void)
{
	FILE *f = open_proc("/proc/self/maps");
	char line[512];
	int n = 0;

	while (fgets(line, sizeof(line), f))
		n += strchr(line, '\n') != NULL;
	fclose(f);
	return n;
}

int64_t api_rss_bytes(void)
{
	FILE *f = open_proc("/proc/self/statm");
	long size, resident, shared;

	CHECK_EQ(fscanf(f, "%ld %ld %ld", &size, &resident, &shared), 3);
	fclose(f);
	return (int64_t)(resident - shared) * (int64_t)PAGE;
}

#if defined(__has_feature)
#define HAS_FEATURE(feature_) __has_feature(feature_)
#else
#define HAS_FEATURE(feature_) 0
#endif

const char *api_fork_stops_threads(void)
{
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
	return "ThreadSanitizer stops the library's threads during fork()";
#else
	return NULL;
#endif
}

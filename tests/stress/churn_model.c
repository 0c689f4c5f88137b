/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn: what each page must hold, and the comparison with what it holds.
 *
 * A region's page array is the truth; the memory is what is under test. Called by the
 * thread that owns the region, and by forked children on their copy. The commons and the
 * constants are shared by all threads: a page of the commons is used by one thread only,
 * but its neighbours by others; constants are written once and read by everybody, also in
 * signal handlers.
 *
 * fail() may run in a signal handler or a child of a raw clone: it uses no stdio.
 */
#include "churn.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CONSTANTS 2048 /* pages */
#define COMMONS 4096

static char *constants, *commons;
static struct page commons_page[COMMONS];

/* Unique among all threads, so that a page in the wrong place can be named. */
uint64_t page_key(const struct churn *c, uint32_t serial)
{
	return serial ? ((uint64_t)(c->index + 1) << 32 | serial) ^ options.seed << 40 :
			0;
}

static size_t patch_index(uint16_t patch)
{
	return patch % PAGE_WORDS;
}

static uint64_t patch_value(uint64_t key, uint16_t patch)
{
	return mix64(key ^ (uint64_t)patch << 20) | 1;
}

void fold(struct churn *c, uint64_t value)
{
	c->digest = mix64(c->digest ^ value);
}

void fail(const char *format, ...)
{
	char text[1024];
	va_list args;
	int len = 0;

	if (self)
		len = snprintf(text, sizeof(text),
			       "churn: thread %d op %llu (%s) pid %d: ", self->index,
			       (unsigned long long)self->op, self->op_name,
			       (int)getpid());
	va_start(args, format);
	len += vsnprintf(text + len, sizeof(text) - (size_t)len - 1, format, args);
	va_end(args);
	if (len > (int)sizeof(text) - 2)
		len = (int)sizeof(text) - 2;
	text[len++] = '\n';
	if (write(STDERR_FILENO, text, (size_t)len) < 0)
		_exit(2);
	_exit(1);
}

/* Which page's bytes these are, if any page of ours should hold them. */
static void name_owner(const uint64_t *words, char *text, size_t size)
{
	for (int t = 0; t < options.threads; t++) {
		const struct churn *c = &churns[t];

		for (uint32_t serial = 1; serial <= c->serial; serial++) {
			uint64_t key = page_key(c, serial);

			if (words[1] == stamp_word(key, 1) &&
			    words[2] == stamp_word(key, 2)) {
				snprintf(text, size, "thread %d serial %u", t, serial);
				return;
			}
		}
	}
	snprintf(text, size, "no stamp");
}

/* The mapping that has addr, and its flags: "um" is a userfaultfd's. */
void mapping_of(uintptr_t addr, char *text, size_t size)
{
	char line[512];
	FILE *maps = fopen("/proc/self/smaps", "re");
	bool here = false;

	text[0] = '\0';
	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long long start, end;
		size_t len = strlen(text);

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%llx-%llx", &start, &end) == 2) {
			here = addr >= start && addr < end;
			if (here)
				snprintf(text, size, "%.150s", line);
		} else if (here && !strncmp(line, "VmFlags:", 8)) {
			snprintf(text + len, size - len, ", %.100s", line);
		}
	}
	if (maps)
		fclose(maps);
}

static size_t nr_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	size_t nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr > 2 ? nr - 2 : 0;
}

uint64_t pagemap_of(uintptr_t addr)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && pread(fd, &entry, sizeof(entry), (off_t)(addr / PAGE * 8)) < 0)
		entry = 0;
	if (fd >= 0)
		close(fd);
	return entry;
}

static void fail_page(struct churn *c, const char *what, uint32_t id, const char *addr,
		      const struct page *p, size_t word) __attribute__((noreturn));

static void fail_page(struct churn *c, const char *what, uint32_t id, const char *addr,
		      const struct page *p, size_t word)
{
	uint64_t key = page_key(c, p->serial), words[PAGE_WORDS];
	size_t wrong = 0, zero = 0;
	char owner[64], mapping[256];

	memcpy(words, addr, PAGE);
	for (size_t i = 0; i < PAGE_WORDS; i++) {
		wrong += words[i] != stamp_word(key, i);
		zero += words[i] == 0;
	}
	name_owner(words, owner, sizeof(owner));
	mapping_of((uintptr_t)addr, mapping, sizeof(mapping));
	fail("wrong bytes in %s %u at %p: serial %u patch %u flags %u: word %zu "
	     "should be %016llx and is %016llx; on a second look %zu of %zu words "
	     "differ from the stamp, %zu are zero, contents are %s; mapping "
	     "%s; pagemap %016llx; %zu threads",
	     what, id, (const void *)addr, p->serial, p->patch, p->flags, word,
	     (unsigned long long)(p->patch && word == patch_index(p->patch) ?
					  patch_value(key, p->patch) :
					  stamp_word(key, word)),
	     (unsigned long long)words[word], wrong, (size_t)PAGE_WORDS, zero, owner,
	     mapping, (unsigned long long)pagemap_of((uintptr_t)addr), nr_threads());
}

/* choice % 4 == 0: the whole page; else the patched word and three others. */
void page_check_at(struct churn *c, const char *what, uint32_t id, const char *addr,
		   const struct page *p, uint64_t choice)
{
	const volatile uint64_t *words = (const volatile uint64_t *)addr;
	uint64_t key = page_key(c, p->serial);
	size_t patched = p->patch ? patch_index(p->patch) : PAGE_WORDS;
	bool all = choice % 4 == 0;

	for (size_t n = 0; n < (all ? PAGE_WORDS : 4); n++) {
		size_t i = all ? n : (choice >> (8 + 9 * n)) % PAGE_WORDS;
		uint64_t want, found;

		if (!all && n == 0 && p->patch)
			i = patched;
		want = i == patched ? patch_value(key, p->patch) : stamp_word(key, i);
		found = words[i];
		if (found != want && !(found == 0 && (p->flags & PAGE_MAYBE)))
			fail_page(c, what, id, addr, p, i);
		if (!(p->flags & PAGE_MAYBE) && (!all || n == choice >> 55))
			fold(c, found);
	}
}

void page_write_at(struct churn *c, char *addr, struct page *p, uint32_t choice)
{
	if (choice % 2 && !(p->flags & PAGE_MAYBE)) {
		uint64_t key = page_key(c, p->serial);
		volatile uint64_t *words = (volatile uint64_t *)addr;

		if (p->patch)
			words[patch_index(p->patch)] = stamp_word(key,
								  patch_index(p->patch));
		p->patch = (uint16_t)(choice >> 8 | 1);
		words[patch_index(p->patch)] = patch_value(key, p->patch);
		return;
	}
	p->serial = ++c->serial;
	p->patch = 0;
	p->flags &= (uint8_t)~PAGE_MAYBE;
	stamp_fill(addr, page_key(c, p->serial));
}

void page_write(struct churn *c, struct region *r, size_t i, uint32_t choice)
{
	if (r->page[i].flags & PAGE_W)
		page_write_at(c, r->base + i * PAGE, &r->page[i], choice);
}

void page_check(struct churn *c, struct region *r, size_t i, uint64_t choice)
{
	const char *what = r->flags & REGION_WIPE     ? "region that a child has empty" :
			   r->flags & REGION_DONTFORK ? "region that no child has" :
							"region";

	if (r->page[i].flags & PAGE_R)
		page_check_at(c, what, r->id, r->base + i * PAGE, &r->page[i], choice);
}

void pages_zero(struct region *r, size_t first, size_t nr)
{
	for (size_t i = first; i < first + nr; i++) {
		r->page[i].serial = 0;
		r->page[i].patch = 0;
		r->page[i].flags &= (uint8_t)~PAGE_MAYBE;
	}
}

struct region *region_new(struct churn *c, char *base, size_t nr)
{
	struct region *r = &c->region[c->nr_regions++];

	if (c->nr_regions > REGIONS_MAX)
		fail("more regions than planned for");
	*r = (struct region){ .base = base, .nr = nr, .id = c->next_id++ };
	r->page = malloc(nr * sizeof(struct page));
	if (!r->page)
		fail("malloc of %zu bytes", nr * sizeof(struct page));
	for (size_t i = 0; i < nr; i++)
		r->page[i] = (struct page){ .flags = PAGE_R | PAGE_W };
	c->pages += nr;
	return r;
}

/* The last region takes the place of the one that goes: pointers to it are stale. */
void region_forget(struct churn *c, struct region *r)
{
	c->pages -= r->nr;
	free(r->page);
	*r = c->region[--c->nr_regions];
}

/* Cuts r short: what was from page `at` on becomes a region of its own. */
static struct region *region_cut(struct churn *c, struct region *r, size_t at)
{
	struct region *rest = region_new(c, r->base + at * PAGE, r->nr - at);

	rest->flags = r->flags;
	memcpy(rest->page, r->page + at, rest->nr * sizeof(struct page));
	c->pages -= rest->nr;
	r->nr = at;
	return rest;
}

struct region *region_split(struct churn *c, struct region *r, size_t first, size_t nr)
{
	if (first + nr < r->nr)
		region_cut(c, r, first + nr);
	return first ? region_cut(c, r, first) : r;
}

static char *map_or_fail(size_t nr)
{
	void *addr = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		fail("mmap of %zu pages: %m", nr);
	return addr;
}

void constants_init(void)
{
	constants = map_or_fail(CONSTANTS);
	commons = map_or_fail(COMMONS);
	for (size_t i = 0; i < CONSTANTS; i++)
		stamp_fill(constants + i * PAGE, i + 1);
}

/* Also in signal handlers. */
void constants_check(uint64_t choice)
{
	size_t i = choice % CONSTANTS, word = (choice >> 16) % PAGE_WORDS;
	const volatile uint64_t *words =
		(const volatile uint64_t *)(constants + i * PAGE);
	uint64_t found = words[word];

	if (found != stamp_word(i + 1, word))
		fail("wrong bytes in constant page %zu at %p: word %zu should be %016llx "
		     "and is %016llx",
		     i, (const void *)words, word,
		     (unsigned long long)stamp_word(i + 1, word),
		     (unsigned long long)found);
}

/* Pages of ours that lie between pages of other threads. */
void commons_use(struct churn *c)
{
	size_t pages = COMMONS / (size_t)options.threads;

	if (moves_see) {
		moves_see(commons, COMMONS);
		moves_see(constants, CONSTANTS);
	}
	for (int n = 0; n < 16; n++) {
		uint64_t choice = rng_next(&c->rng), which = rng_next(&c->rng);
		size_t i = which % pages * (size_t)options.threads + (size_t)c->index;
		struct page *p = &commons_page[i];
		char *addr = commons + i * PAGE;

		page_check_at(c, "commons", (uint32_t)i, addr, p, choice);
		if (which >> 60 < 8) {
			page_write_at(c, addr, p, (uint32_t)(choice >> 32));
		} else if (which >> 60 == 15) {
			if (madvise(addr, PAGE, MADV_DONTNEED) != 0)
				fail("madvise(DONTNEED) in the commons: %m");
			*p = (struct page){ 0 };
		}
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* See vma.h. */
#include "compat/dmirror/vma.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "compat/dmirror/files.h"
#include "compat/dmirror/real.h"

#define MAPS "/proc/thread-self/maps"
#define SMAPS "/proc/thread-self/smaps"

static void text_close(struct vma_text *t)
{
	if (t->fd >= 0)
		real.close(t->fd);
	t->fd = -1;
}

static void text_open(struct vma_text *t, const char *path)
{
	text_close(t);
	t->fd = real.open(path, O_RDONLY | O_CLOEXEC);
	t->at = t->filled = 0;
}

/* The next line, without its end, or NULL. Valid until the next call. */
static char *next_line(struct vma_text *t)
{
	char *end = memchr(t->text + t->at, '\n', t->filled - t->at), *line;
	ssize_t n;

	while (!end) {
		memmove(t->text, t->text + t->at, t->filled - t->at);
		t->filled -= t->at;
		t->at = 0;
		n = t->fd < 0 ? 0 :
				real.read(t->fd, t->text + t->filled,
					  sizeof(t->text) - t->filled);
		if (n <= 0)
			return NULL;
		t->filled += (size_t)n;
		end = memchr(t->text, '\n', t->filled);
	}
	line = t->text + t->at;
	*end = 0;
	t->at = (size_t)(end + 1 - t->text);
	return line;
}

void vma_begin(struct vma_cursor *c)
{
	c->vma = (struct vma){ 0 };
	c->maps.fd = c->smaps.fd = -1;
	text_open(&c->maps, MAPS);
}

void vma_end(struct vma_cursor *c)
{
	text_close(&c->maps);
	text_close(&c->smaps);
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (begins(name, *names))
			return true;
	return false;
}

static enum vma_kind kind_of(const char *name, bool shared)
{
	/* Mappings of devices, and of the one that we are. */
	static const char *const special[] = { "/dev/", "/anon_hugepage",
					       "/memfd:" FILES_MEMORY_NAME, NULL };
	static const char *const plain[] = { "/dev/zero", "/dev/shm/", NULL };
	static const char *const anon[] = { "[heap]", "[anon:", NULL };

	if (name[0] == '/' && is_one_of(name, special) && !is_one_of(name, plain))
		return VMA_SPECIAL;
	if (shared)
		return VMA_SHARED;
	if (!name[0] || is_one_of(name, anon))
		return VMA_ANON;
	if (begins(name, "[stack"))
		return VMA_STACK;
	return name[0] == '[' ? VMA_SPECIAL : VMA_FILE;
}

static bool parse(const char *line, struct vma *vma)
{
	unsigned long start, end;
	char prot[5];
	int name = 0;

	if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %n", &start, &end, prot, &name) < 3)
		return false;
	*vma = (struct vma){ .start = start,
			     .end = end,
			     .read = prot[0] == 'r',
			     .write = prot[1] == 'w',
			     .exec = prot[2] == 'x',
			     .kind = kind_of(line + name, prot[3] == 's') };
	return true;
}

/* Does smaps have one of these flags for the mapping? */
static bool is_special(struct vma_cursor *c, uintptr_t start)
{
	static const char *const flags[] = { " ht", " io", " pf", " mm", " de" };
	bool special = false, here = false;
	const char *line;
	struct vma vma;
	size_t i;

	text_open(&c->smaps, SMAPS);
	while ((line = next_line(&c->smaps))) {
		if (parse(line, &vma))
			here = vma.start == start;
		if (!here || !begins(line, "VmFlags:"))
			continue;
		for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
			special |= strstr(line, flags[i]) != NULL;
		break;
	}
	text_close(&c->smaps);
	return special;
}

bool vma_find(struct vma_cursor *c, uintptr_t addr, struct vma *vma)
{
	const char *line;

	if (addr < c->vma.start) {
		c->vma = (struct vma){ 0 };
		text_open(&c->maps, MAPS);
	}
	while (c->vma.end <= addr && (line = next_line(&c->maps)))
		parse(line, &c->vma);
	if (addr < c->vma.start || addr >= c->vma.end)
		return false;
	/* A file may be of hugetlbfs, or of a driver, and does not say so. */
	if ((c->vma.kind == VMA_FILE || c->vma.kind == VMA_SHARED) &&
	    is_special(c, c->vma.start))
		c->vma.kind = VMA_SPECIAL;
	*vma = c->vma;
	return true;
}

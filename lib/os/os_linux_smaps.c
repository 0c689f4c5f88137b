/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/smaps: what the kernel tells of a mapping in no other place. Reading it
 * walks all resident pages of the mappings that are read.
 *
 * The line of a mapping, lines of numbers, "VmFlags: rd wr ... wf". Lines other than a
 * mapping's begin with a capital letter.
 */
#include <string.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

struct smaps {
	int fd, error; /* of reading */
	bool borrowed; /* the one that os_attach() has opened */
	long at;
	uintptr_t start, end; /* the mapping that the line is of */
	size_t from, len;
	char buf[4096 + 512];
};

/* pid 0: of this process. */
static int smaps_open(struct smaps *sm, uint32_t pid)
{
	struct os_path path;

	sm->fd = pid ? -1 : os_linux_borrow_smaps();
	sm->borrowed = sm->fd >= 0;
	if (!sm->borrowed) {
		os_linux_path_of(&path, pid, "smaps");
		sm->fd = os_linux_open_self(path.text, 0);
	}
	sm->at = 0;
	sm->error = 0;
	sm->start = sm->end = 0;
	sm->from = sm->len = 0;
	return sm->fd < 0 ? sm->fd : 0;
}

static void smaps_close(const struct smaps *sm)
{
	if (sm->borrowed)
		os_linux_return_smaps();
	else
		os_close(sm->fd);
}

/* Makes room behind what has been read and not been looked at, and fills it. */
static bool read_more(struct smaps *sm)
{
	long n;

	sm->len -= sm->from;
	memmove(sm->buf, sm->buf + sm->from, sm->len);
	sm->from = 0;
	if (sm->len == sizeof(sm->buf))
		sm->len = 0; /* no such line: paths end at 4095 */
	n = sys4(SYS_pread64, sm->fd, (long)(sm->buf + sm->len),
		 (long)(sizeof(sm->buf) - sm->len), sm->at);
	if (n > 0) {
		sm->len += (size_t)n;
		sm->at += n;
	} else if (n < 0) {
		sm->error = (int)n;
	}
	return n > 0;
}

/* The next line of numbers, terminated; NULL after the last. */
static char *smaps_next(struct smaps *sm)
{
	char *line, *nl;

	for (;;) {
		line = sm->buf + sm->from;
		nl = memchr(line, '\n', sm->len - sm->from);
		if (nl) {
			const char *s = line;

			*nl = 0;
			sm->from = (size_t)(nl + 1 - sm->buf);
			if (line[0] >= 'A' && line[0] <= 'Z')
				return line;
			sm->start = os_linux_hex(&s);
			s++;
			sm->end = os_linux_hex(&s);
		} else if (!read_more(sm)) {
			return NULL;
		}
	}
}

/* "      12 kB" */
static bool is_zero(const char *s)
{
	while (*s == ' ')
		s++;
	return *s == '0';
}

int os_for_each_wiped(uint32_t pid, void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
		      void *ctx)
{
	struct smaps sm;
	bool has_pages = false;
	char *line;
	int r = smaps_open(&sm, pid);

	if (r)
		return r;
	while ((line = smaps_next(&sm))) {
		if (!strncmp(line, "Rss:", 4))
			has_pages = !is_zero(line + 4);
		else if (!strncmp(line, "Swap:", 5))
			has_pages |= !is_zero(line + 5);
		else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " wf") &&
			 !(pid && has_pages))
			fn(ctx, sm.start, sm.end);
	}
	smaps_close(&sm);
	return sm.error;
}

int os_for_each_registered(uint32_t pid,
			   void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
			   void *ctx)
{
	struct smaps sm;
	char *line;
	int r = smaps_open(&sm, pid);

	if (r)
		return r;
	while ((line = smaps_next(&sm)))
		if (!strncmp(line, "VmFlags:", 8) && strstr(line, " um"))
			fn(ctx, sm.start, sm.end);
	smaps_close(&sm);
	return sm.error;
}

bool os_huge_allowed(uintptr_t addr)
{
	bool allowed = false;
	struct smaps sm;
	char *line;

	if (smaps_open(&sm, 0))
		return false;
	while ((line = smaps_next(&sm)) && sm.start <= addr) {
		if (addr >= sm.end || strncmp(line, "THPeligible:", 12))
			continue;
		allowed = strchr(line, '1');
		break;
	}
	smaps_close(&sm);
	return allowed;
}

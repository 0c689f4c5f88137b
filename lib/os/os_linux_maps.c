/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at the program's memory: /proc/self/{maps,pagemap,statm,task}.
 *
 * The descriptors belong to the process that opened them: a forked child attaches again.
 * Mappings are asked for one at a time by PROCMAP_QUERY (Linux 6.11); before that the
 * text of /proc/self/maps is read with a cursor that goes on where it stopped, so that
 * walking all mappings reads the file once. Walks are the worker's, one at a time.
 */
#include "lib/os/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "lib/os/os_linux.h"
#include "lib/os/sys.h"
#include "lib/os/uapi.h"

#define STATM "/proc/thread-self/statm"

/* What the kernel writes when a thread ends lies this close to its robust list head. */
#define THREAD_AREA 4096

static struct {
	int pid;
	/*
	 * 1 in the process that has attached. A page that whoever is copied from it finds
	 * empty, by a raw clone as well: it says for nothing what getpid() does for a
	 * system call.
	 */
	uint32_t *here;
	int maps, pagemap, statm, task, smaps;
	uint32_t smaps_lent;
	bool no_query;
} proc = { .maps = -1, .pagemap = -1, .statm = -1, .task = -1, .smaps = -1 };

int os_linux_open_self(const char *path, int flags)
{
	return (int)sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | flags, 0);
}

/* 0, or -errno, which *fd is then. */
static int reopen(int *fd, const char *path, int flags)
{
	/* Kept only by the process that opened it; a child's copy names the parent's. */
	if (*fd >= 0)
		os_close(*fd);
	*fd = os_linux_own(os_linux_open_self(path, flags));
	return *fd < 0 ? *fd : 0;
}

/* Fork or clone, a copy has not. Who shares our memory has: it looks at the same. */
static bool is_attached(void)
{
	const uint32_t *here = __atomic_load_n(&proc.here, __ATOMIC_ACQUIRE);

	return here && __atomic_load_n(here, __ATOMIC_ACQUIRE);
}

static int make_here(void)
{
	uint32_t *here;

	if (proc.here)
		return 0;
	here = os_reserve(OS_PAGE_SIZE);
	if (!here)
		return -ENOMEM;
	if (os_commit(here, OS_PAGE_SIZE)) {
		os_release(here, OS_PAGE_SIZE);
		return -ENOMEM;
	}
	os_wipe_on_fork(here, OS_PAGE_SIZE);
	__atomic_store_n(&proc.here, here, __ATOMIC_RELEASE);
	return 0;
}

uint32_t os_linux_pid(void)
{
	return is_attached() ? (uint32_t)__atomic_load_n(&proc.pid, __ATOMIC_RELAXED) :
			       os_pid();
}

void os_detach(void)
{
	if (proc.here)
		__atomic_store_n(proc.here, 0, __ATOMIC_RELEASE);
	proc.maps = proc.pagemap = proc.statm = proc.task = proc.smaps = -1;
	__atomic_store_n(&proc.pid, 0, __ATOMIC_RELEASE);
}

void os_close_attached(void)
{
	const int fd[] = { proc.maps, proc.pagemap, proc.statm, proc.task, proc.smaps };
	unsigned i;

	os_detach();
	for (i = 0; i < sizeof(fd) / sizeof(*fd); i++)
		if (fd[i] >= 0)
			os_close(fd[i]);
}

int os_attach(void)
{
	int pid = (int)os_pid(), r;

	if (__atomic_load_n(&proc.pid, __ATOMIC_ACQUIRE) == pid && is_attached())
		return 0;
	r = make_here();
	/* /proc/self is the first thread's, and that may have ended. */
	if (!r)
		r = reopen(&proc.maps, "/proc/thread-self/maps", 0);
	if (!r)
		r = reopen(&proc.pagemap, "/proc/thread-self/pagemap", 0);
	if (!r)
		r = reopen(&proc.statm, STATM, 0);
	if (!r)
		r = reopen(&proc.task, "/proc/self/task", O_DIRECTORY);
	if (!r)
		r = reopen(&proc.smaps, "/proc/thread-self/smaps", 0);
	if (r)
		return r;
	proc.smaps_lent = 0; /* who had borrowed it is not in a child */
	__atomic_store_n(&proc.pid, pid, __ATOMIC_RELEASE);
	__atomic_store_n(proc.here, 1, __ATOMIC_RELEASE);
	return 0;
}

/* Asked before reads: by a descriptor, as the path takes four times as long. */
bool os_is_single_threaded(void)
{
	struct stat st;

	/* The folder counts its entries as links to it, and two more. */
	return is_attached() && sys2(SYS_fstat, proc.task, &st) == 0 &&
	       st.st_nlink == 2 + os_linux_threads() + 1;
}

int os_linux_borrow_smaps(void)
{
	if (__atomic_load_n(&proc.pid, __ATOMIC_ACQUIRE) != (int)os_pid() ||
	    __atomic_exchange_n(&proc.smaps_lent, 1, __ATOMIC_ACQUIRE))
		return -1;
	return proc.smaps;
}

void os_linux_return_smaps(void)
{
	__atomic_store_n(&proc.smaps_lent, 0, __ATOMIC_RELEASE);
}

/* ---- mappings --------------------------------------------------------------------- */

static enum os_vma_kind kind_of(bool shared, bool has_inode, const char *name)
{
	if (has_inode)
		return shared ? OS_VMA_SHARED : OS_VMA_FILE;
	if (shared)
		return OS_VMA_SHARED;
	if (!name[0] || !strncmp(name, "[anon:", 6))
		return OS_VMA_ANON;
	if (!strncmp(name, "[heap]", 6))
		return OS_VMA_HEAP;
	if (!strncmp(name, "[stack", 6))
		return OS_VMA_STACK;
	return OS_VMA_SPECIAL;
}

static int query(uintptr_t addr, bool writable_only, struct procmap_query *q, char *name,
		 uint32_t name_size)
{
	memset(q, 0, sizeof(*q));
	q->size = sizeof(*q);
	q->query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA;
	if (writable_only)
		q->query_flags |= PROCMAP_QUERY_VMA_WRITABLE;
	q->query_addr = addr;
	q->vma_name_addr = (uintptr_t)name;
	q->vma_name_size = name_size;
	return (int)sys3(SYS_ioctl, proc.maps, PROCMAP_QUERY, q);
}

static int vma_by_query(uintptr_t addr, bool writable_only, struct os_vma *vma)
{
	struct procmap_query q;
	char name[128] = "";
	int r = query(addr, writable_only, &q, NULL, 0);

	if (r < 0)
		return r;
	/* Only a mapping without a file has a name short enough to ask for. */
	if (!q.inode && query(addr, writable_only, &q, name, sizeof(name)) < 0)
		return -EAGAIN;
	vma->start = q.vma_start;
	vma->end = q.vma_end;
	vma->readable = q.vma_flags & PROCMAP_QUERY_VMA_READABLE;
	vma->writable = q.vma_flags & PROCMAP_QUERY_VMA_WRITABLE;
	vma->executable = q.vma_flags & PROCMAP_QUERY_VMA_EXECUTABLE;
	vma->kind = kind_of(q.vma_flags & PROCMAP_QUERY_VMA_SHARED, q.inode != 0,
			    q.vma_name_size ? name : "");
	if (vma->kind == OS_VMA_ANON && q.vma_page_size != 4096)
		vma->kind = OS_VMA_SPECIAL;
	vma->page_shift = (unsigned)__builtin_ctzll(q.vma_page_size);
	return 0;
}

/* "start-end perms offset maj:min inode   name" */
static void parse_line(const char *s, struct os_vma *vma)
{
	bool shared, inode;
	int field;

	vma->start = os_linux_hex(&s);
	s++;
	vma->end = os_linux_hex(&s);
	s++;
	vma->readable = s[0] == 'r';
	vma->writable = s[1] == 'w';
	vma->executable = s[2] == 'x';
	shared = s[3] == 's';
	for (field = 0; field < 3; field++) {
		while (*s && *s != ' ')
			s++;
		while (*s == ' ')
			s++;
	}
	inode = *s != '0';
	while (*s && *s != ' ')
		s++;
	while (*s == ' ')
		s++;
	vma->kind = kind_of(shared, inode, s);
	vma->page_shift = 12;
}

static struct {
	uintptr_t next; /* the end of the last mapping given out */
	uint32_t at, len;
	char buf[4096 + 256];
} cursor;

/* The next line, terminated, or NULL. */
static char *next_line(void)
{
	for (;;) {
		char *line = cursor.buf + cursor.at;
		char *nl = memchr(line, '\n', cursor.len - cursor.at);
		long n;

		if (nl) {
			*nl = 0;
			cursor.at = (uint32_t)(nl + 1 - cursor.buf);
			return line;
		}
		if (cursor.at == 0 && cursor.len > 4096)
			return NULL; /* no line is that long: paths end at 4095 */
		memmove(cursor.buf, line, cursor.len - cursor.at);
		cursor.len -= cursor.at;
		cursor.at = 0;
		n = sys3(SYS_read, proc.maps, cursor.buf + cursor.len,
			 sizeof(cursor.buf) - cursor.len - 1);
		if (n <= 0)
			return NULL;
		cursor.len += (uint32_t)n;
	}
}

static int vma_by_text(uintptr_t addr, bool writable_only, struct os_vma *vma)
{
	char *line;

	if (addr < cursor.next || !cursor.next) {
		sys3(SYS_lseek, proc.maps, 0, 0);
		cursor.at = cursor.len = 0;
	}
	while ((line = next_line())) {
		parse_line(line, vma);
		if (vma->end > addr && (vma->writable || !writable_only)) {
			cursor.next = vma->end;
			return 0;
		}
	}
	cursor.next = 0;
	return -ENOENT;
}

int os_vma_next(uintptr_t addr, bool writable_only, struct os_vma *vma)
{
	int r = -ENOTTY;

	if (!proc.no_query) {
		r = vma_by_query(addr, writable_only, vma);
		if (r == -ENOTTY || r == -EINVAL)
			proc.no_query = true;
	}
	if (proc.no_query)
		r = vma_by_text(addr, writable_only, vma);
	if (r == 0 && os_is_reserved(vma->start))
		vma->kind = OS_VMA_SPECIAL;
	return r;
}

/* ---- present pages ---------------------------------------------------------------- */

int os_scan(uintptr_t start, uintptr_t end, enum os_scan_what what, uint32_t max_pages,
	    struct os_extent *extents, int nr, uintptr_t *walked)
{
	uint64_t unwanted = PAGE_IS_FILE | (what == OS_SCAN_MEMORY ? PAGE_IS_PFNZERO : 0);
	struct page_region region[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)region,
		.vec_len = (uint64_t)(nr < 64 ? nr : 64),
		.max_pages = max_pages,
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_FILE | PAGE_IS_PFNZERO,
		.category_inverted = unwanted,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
	};
	long ret;
	int i;

	do
		ret = sys3(SYS_ioctl, proc.pagemap, PAGEMAP_SCAN, &arg);
	while (ret == -EINTR);
	if (ret < 0)
		return (int)ret;
	for (i = 0; i < ret; i++) {
		extents[i].start = region[i].start;
		extents[i].nr_pages = (uint32_t)((region[i].end - region[i].start) >> 12);
		extents[i].huge = region[i].categories & PAGE_IS_HUGE;
	}
	*walked = arg.walk_end > start ? arg.walk_end : end;
	return (int)ret;
}

/* /proc/self/pagemap */
#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_FILE (UINT64_C(1) << 61)
#define PM_MMAP_EXCLUSIVE (UINT64_C(1) << 56)

/* What that does not tell: the zero page, and huge ones. */
static void note_region(const struct page_region *region, uintptr_t start, uint8_t *pages)
{
	uint8_t what = 0;
	uintptr_t at;

	if (region->categories & PAGE_IS_PFNZERO)
		what |= OS_PAGE_ZERO;
	if (region->categories & PAGE_IS_HUGE)
		what |= OS_PAGE_HUGE;
	for (at = region->start; at < region->end; at += OS_PAGE_SIZE)
		pages[(at - start) / OS_PAGE_SIZE] |= what;
}

static int look_closer(uintptr_t start, uintptr_t end, uint8_t *pages)
{
	struct page_region region[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)region,
		.vec_len = 64,
		.category_mask = PAGE_IS_PRESENT,
		.category_anyof_mask = PAGE_IS_PFNZERO | PAGE_IS_HUGE,
		.return_mask = PAGE_IS_PFNZERO | PAGE_IS_HUGE,
	};
	long ret, i;

	while (arg.start < end) {
		ret = sys3(SYS_ioctl, proc.pagemap, PAGEMAP_SCAN, &arg);
		if (ret == -EINTR)
			continue;
		if (ret < 0)
			return (int)ret;
		for (i = 0; i < ret; i++)
			note_region(&region[i], start, pages);
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 0;
}

int os_look(uintptr_t start, unsigned nr, uint8_t *pages)
{
	uint64_t entry[OS_LOOK_PAGES];
	long n = sys4(SYS_pread64, proc.pagemap, entry, nr * sizeof(*entry),
		      (long)(start / OS_PAGE_SIZE * sizeof(*entry)));
	long i;

	memset(pages, 0, nr);
	if (n < 0)
		return (int)n;
	for (i = 0; i < n / (long)sizeof(*entry); i++) {
		if (!(entry[i] & PM_PRESENT))
			continue;
		pages[i] = OS_PAGE_PRESENT;
		if (entry[i] & PM_FILE)
			pages[i] |= OS_PAGE_FILE;
		if (entry[i] & PM_MMAP_EXCLUSIVE)
			pages[i] |= OS_PAGE_EXCLUSIVE;
	}
	return look_closer(start, start + nr * OS_PAGE_SIZE, pages);
}

/* Swapped pages count too. Regions found, or 0. */
static int scan_filled(uintptr_t start, size_t len, struct page_region *region, int nr)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + len,
		.vec = (uintptr_t)region,
		.vec_len = (uint64_t)nr,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};
	long ret;

	do
		ret = sys3(SYS_ioctl, proc.pagemap, PAGEMAP_SCAN, &arg);
	while (ret == -EINTR);
	return ret < 0 ? -1 : (int)ret;
}

size_t os_empty(uintptr_t start, size_t len)
{
	struct page_region first;
	int nr;

	if (!is_attached())
		return 0;
	nr = scan_filled(start, len, &first, 1);
	return nr < 0 ? 0 : nr ? first.start - start : len;
}

/* Regions are of one kind; swapped pages and such as are not lie side by side. */
size_t os_linux_filled(uintptr_t start, size_t len)
{
	struct page_region region[32];
	int nr = len ? scan_filled(start, len, region, 32) : 0, i;
	uintptr_t end = start;

	for (i = 0; i < nr && region[i].start == end; i++)
		end = region[i].end;
	return end - start;
}

/*
 * statm: size resident shared ..., in pages; anonymous is resident less shared. All 0
 * where the thread that opened it has ended.
 */
static int read_statm(int64_t field[3], bool by_path)
{
	char buf[128];
	long n = by_path ? os_linux_read_text(STATM, buf, sizeof(buf)) :
			   sys4(SYS_pread64, proc.statm, buf, sizeof(buf) - 1, 0);
	int i = 0;
	char *s;

	if (n <= 0)
		return n < 0 ? (int)n : -EIO;
	buf[n] = 0;
	for (s = buf; *s && i < 3; s++) {
		if (*s == ' ')
			i++;
		else
			field[i] = field[i] * 10 + (*s - '0');
	}
	return 0;
}

int64_t os_rss_anon_pages(int64_t *mapped_pages)
{
	int64_t field[3] = { 0 };
	int r = read_statm(field, false);

	if (r || !field[0]) {
		/* One that is opened here is not in the tables of other threads. */
		bool parted = os_linux_files_are_parted();

		if (!parted)
			reopen(&proc.statm, STATM, 0);
		r = read_statm(field, parted);
	}
	if (r)
		return r;
	if (mapped_pages)
		*mapped_pages = field[0];
	return field[1] - field[2];
}

int64_t os_pss_anon_pages(void)
{
	char buf[2048], *s;
	int64_t kib = 0;
	long n = os_linux_read_text("/proc/thread-self/smaps_rollup", buf, sizeof(buf));

	if (n <= 0)
		return n < 0 ? n : -EIO;
	s = strstr(buf, "Pss_Anon:");
	if (!s)
		return -ENOENT;
	for (s += 9; *s == ' '; s++)
		;
	for (; *s >= '0' && *s <= '9'; s++)
		kib = kib * 10 + (*s - '0');
	return kib / 4;
}

uint64_t os_minor_faults(void)
{
	struct rusage usage = { 0 };

	sys2(SYS_getrusage, RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_minflt;
}

/*
 * UFFDIO_MOVE asks the *first* page of a large folio whether the folio is exclusive
 * (Linux 6.18). Of a huge page that was shared by fork and is not any more, pages are
 * reused in place when they are written to, but the first may be gone: then MOVE refuses
 * the others for ever. MADV_COLD of a part of a large folio that nobody else maps splits
 * it, and raises no event.
 */
int os_make_exclusive(uintptr_t start, size_t len)
{
	int r = (int)sys3(SYS_madvise, start, len, MADV_POPULATE_WRITE);

	sys3(SYS_madvise, start, len, MADV_COLD);
	return r;
}

int os_set_writable(uintptr_t start, size_t len, const struct os_vma *vma, bool writable)
{
	int prot = vma->executable ? PROT_EXEC : 0;

	if (writable)
		prot |= PROT_READ | PROT_WRITE;
	else
		prot |= (vma->readable ? PROT_READ : 0) |
			(vma->writable ? PROT_WRITE : 0);
	return (int)sys3(SYS_mprotect, start, len, prot);
}

int os_populate(uintptr_t start, size_t len, bool write)
{
	return (int)sys3(SYS_madvise, start, len,
			 write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

void os_mapped_once(uintptr_t start, unsigned nr, uint64_t *which)
{
	uint64_t entry[OS_MAPPED_ONCE_PAGES];
	long n = sys4(SYS_pread64, proc.pagemap, entry, nr * sizeof(*entry),
		      (long)(start / OS_PAGE_SIZE * sizeof(*entry)));
	long i;

	memset(which, 0, (nr + 63) / 64 * sizeof(*which));
	for (i = 0; i < n / (long)sizeof(*entry); i++)
		if (entry[i] >> 63 & 1 && entry[i] >> 56 & 1)
			which[i / 64] |= UINT64_C(1) << i % 64;
}

/* ---- thread areas ----------------------------------------------------------------- */

/*
 * When a thread ends the kernel clears its tid (what pthread_join() waits for) and walks
 * its robust list, both without being able to wait for a fault: a write to a migrated
 * page is silently lost. Every C library keeps the two in one struct, and the kernel
 * tells where the robust list's head is. Under `uhmm run` threads of libc are known
 * without it (preload/threads.c); the first one and those of a raw clone are not.
 */
static long thread_area(long tid, void (*fn)(void *ctx, uintptr_t addr, size_t len),
			void *ctx)
{
	uintptr_t head = 0;
	size_t len = 0;
	long r = sys3(SYS_get_robust_list, tid, &head, &len);

	if (r == 0 && head > THREAD_AREA)
		fn(ctx, head - THREAD_AREA, 2 * THREAD_AREA);
	return r;
}

/* Whether a thread that was listed has ended. */
static bool list_threads(void (*fn)(void *ctx, uintptr_t addr, size_t len), void *ctx)
{
	char buf[2048] __attribute__((aligned(8)));
	bool ended = false;
	long n, at;

	sys3(SYS_lseek, proc.task, 0, 0);
	while ((n = sys3(SYS_getdents64, proc.task, buf, sizeof(buf))) > 0) {
		for (at = 0; at < n;) {
			struct dirent_header *d = (void *)(buf + at);
			uint32_t tid = os_linux_number(d->name);

			if (tid && thread_area(tid, fn, ctx) == -ESRCH)
				ended = true;
			at += d->reclen;
		}
	}
	return ended;
}

/* Where a thread ends while it is listed the kernel stops, or passes another by. */
void os_for_each_thread_area(void (*fn)(void *ctx, uintptr_t addr, size_t len), void *ctx)
{
	int tries = 4;

	while (list_threads(fn, ctx) && --tries)
		;
}

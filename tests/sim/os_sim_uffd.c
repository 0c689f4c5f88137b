/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated userfaultfd.
 *
 * A thread that touches a missing page of a registered mapping sleeps in T_FAULT; it is
 * its own message, read or not. COPY, MOVE, ZERO, WAKE and unregistering wake who sleeps
 * in their range, whether the message was read or not. A thread that changes a mapping
 * sleeps in T_EVENT with its message on the list of events. A read gives out faults
 * first.
 *
 * While a mapping is changing (from the change until the thread that made it ran on after
 * its event was read) nothing can be filled or moved: -EAGAIN.
 *
 * What the library must not do ends the run: a closed descriptor, an unaligned range,
 * reading or writing a frame that is not there, filling a page with wrong bytes.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

static struct file files[MAX_FILES];
static unsigned nr_files;

/* ---- descriptors ----------------------------------------------------------------- */

void files_reset(void)
{
	memset(files, 0, sizeof(files));
	nr_files = 0;
	storage_reset();
}

void files_check_closed(void)
{
	unsigned i;

	for (i = 0; i < nr_files; i++)
		if (files[i].kind != F_CLOSED)
			sim_fail("descriptor %d was not closed%s", file_fd(&files[i]),
				 files[i].kind == F_UFFD ? " (a userfaultfd)" : "");
}

int file_fd(const struct file *file)
{
	return 100 + (int)(file - files);
}

struct file *file_at(int fd)
{
	return fd >= 100 && fd < 100 + (int)nr_files ? &files[fd - 100] : NULL;
}

struct file *file_get(int fd, enum file_kind kind)
{
	const struct file *file = file_at(fd);

	image_check_mapped(here());
	if (!file || file->kind != kind || !(file->open_in & 1u << here()->index))
		sim_fail("descriptor %d is closed, or of another kind", fd);
	return &files[fd - 100];
}

struct file *file_open(enum file_kind kind)
{
	if (nr_files == MAX_FILES)
		sim_fail("more than %d descriptors", MAX_FILES);
	files[nr_files] = (struct file){ .kind = kind,
					 .open_in = 1u << here()->index,
					 .receiver = -1 };
	return &files[nr_files++];
}

bool uffd_has(const struct file *uffd, unsigned flag)
{
	return uffd->kind == F_UFFD && uffd->flags & flag;
}

/* The thread whose fault is to be read next. */
static struct thread *oldest_fault(const struct file *uffd)
{
	struct thread *t, *oldest = NULL;
	unsigned i;

	for (i = 0; (t = sim_thread_at(i)); i++)
		if (t->state == T_FAULT && t->uffd == uffd && t->unread &&
		    (!oldest || t->seq < oldest->seq))
			oldest = t;
	return oldest;
}

bool file_readable(int fd)
{
	const struct file *file = file_at(fd);

	if (!file)
		return false; /* -1: not looked at */
	if (file->kind == F_UFFD)
		return file->events || oldest_fault(file);
	if (file->kind == F_PIPE)
		return file->peer->kind == F_CLOSED;
	return file->kind != F_CLOSED && file->readable;
}

/* fork() copies the table of descriptors. */
void files_fork(struct mm *parent, struct mm *child)
{
	unsigned i;

	for (i = 0; i < nr_files; i++)
		if (files[i].open_in & 1u << parent->index)
			files[i].open_in |= 1u << child->index;
}

bool sim_children_filled(void)
{
	unsigned i;

	if (fork_pending(here()))
		return false;
	for (i = 0; i < nr_files; i++)
		if (files[i].kind == F_UFFD && files[i].mm != here() &&
		    !files[i].mm->dead && files[i].open_in & 1u << here()->index)
			return false;
	return true;
}

bool files_name(const struct mm *mm)
{
	unsigned i;

	for (i = 0; i < nr_files; i++)
		if (files[i].kind == F_UFFD && files[i].mm == mm)
			return true;
	return false;
}

int os_wait_fds(const int *fds, int nr, int64_t timeout_ns)
{
	uint64_t deadline = timeout_ns < 0 ? NO_DEADLINE :
					     sim_now() + (uint64_t)timeout_ns;
	int i, mask = 0;

	sim_point();
	for (i = 0; i < nr; i++)
		if (fds[i] >= 0 && !(file_at(fds[i])->open_in & 1u << here()->index))
			sim_fail("waits for descriptor %d, which is closed", fds[i]);
	if (nr > MAX_WAIT_FDS)
		sim_fail("waits for %d descriptors", nr);
	memcpy(sim_current->fds, fds, (size_t)nr * sizeof(*fds));
	sim_current->nr_fds = nr;
	for (i = 0; i < nr && !file_readable(fds[i]); i++)
		;
	if (i == nr && timeout_ns)
		sim_block(T_FDS, deadline);
	for (i = 0; i < nr; i++)
		if (file_readable(sim_current->fds[i]))
			mask |= 1 << i;
	return mask;
}

int os_kicker_open(void)
{
	if (world_fails())
		return -EMFILE;
	return file_fd(file_open(F_KICKER));
}

void os_kick(int kicker)
{
	sim_point();
	file_get(kicker, F_KICKER)->readable = true;
}

void os_kick_clear(int kicker)
{
	file_get(kicker, F_KICKER)->readable = false;
	sim_point();
}

/* ---- waking and waiting ---------------------------------------------------------- */

void uffd_wake(const struct file *uffd, uintptr_t start, uintptr_t end)
{
	struct thread *t;
	unsigned i;

	for (i = 0; (t = sim_thread_at(i)); i++)
		if (t->state == T_FAULT && t->uffd == uffd && t->addr >= start &&
		    t->addr < end)
			sim_ready(t);
}

void uffd_fault(struct file *uffd, uintptr_t addr, bool write)
{
	struct thread *t = sim_current;

	sim_trace("fault", (int64_t)addr, write, 0, 0);
	if (uffd_has(uffd, OS_UFFD_SIGBUS))
		sim_fail("SIGBUS at page %lu", (addr - ARENA_BASE) / SIM_PAGE);
	t->uffd = uffd;
	t->addr = addr;
	t->write = write;
	t->unread = true;
	sim_block(T_FAULT, NO_DEADLINE);
}

void uffd_event(struct file *uffd, struct os_event msg, struct file *child)
{
	struct event event = { .msg = msg, .caller = sim_current, .child = child },
		     **tail = &uffd->events;

	while (*tail)
		tail = &(*tail)->next;
	if (uffd->kind == F_UFFD)
		*tail = &event;
	else
		event.read = true;
	while (!event.read)
		sim_block(T_EVENT, NO_DEADLINE);
	uffd->changing--;
}

static void event_done(struct file *uffd)
{
	struct event *event = uffd->events;

	uffd->events = event->next;
	event->read = true;
	sim_ready(event->caller);
}

static int read_one(struct file *uffd, struct os_event *event)
{
	struct thread *t = oldest_fault(uffd);

	if (t) {
		t->unread = false;
		*event = (struct os_event){ .kind = OS_EVENT_FAULT,
					    .addr = t->addr,
					    .write = t->write,
					    .tid = t->tid };
		sim_trace("read fault", (int64_t)t->addr, t->tid, t->write, 1);
		return 1;
	}
	if (!uffd->events)
		return 0;
	*event = uffd->events->msg;
	if (uffd->events->child) {
		uffd->events->child->open_in = 1u << here()->index;
		event->child = file_fd(uffd->events->child);
	}
	sim_trace("read event", event->kind, (int64_t)event->from,
		  (int64_t)(event->kind == OS_EVENT_REMAP ? event->to : event->end), 1);
	event_done(uffd);
	return 1;
}

int os_uffd_read(int uffd, struct os_event *events, int nr)
{
	int n = 0;

	sim_point();
	while (n < nr && read_one(file_get(uffd, F_UFFD), &events[n])) {
		/*
		 * Between getting an event, or a descriptor, and having it written down
		 * a reader that is interrupted can miss a whole fork, and its child what
		 * was written down later. The library cannot help that; it is not asked
		 * to.
		 */
		if (events[n++].kind == OS_EVENT_FAULT)
			sim_point();
	}
	return n;
}

/* ---- opening, registering -------------------------------------------------------- */

int os_uffd_open(unsigned flags)
{
	struct file *uffd;

	sim_point();
	if (world_fails())
		return -EMFILE;
	uffd = file_open(F_UFFD);
	uffd->flags = flags;
	uffd->mm = sim_current->mm;
	return file_fd(uffd);
}

struct file *uffd_fork(struct file *parent, struct mm *child)
{
	struct file *uffd = file_open(F_UFFD);

	uffd->flags = parent->flags;
	uffd->mm = child;
	uffd->open_in = 0; /* until the event is read */
	return uffd;
}

static void unregister(struct file *uffd, uintptr_t start, uintptr_t end)
{
	struct mm *mm = uffd->mm;
	unsigned i;

	for (i = 0; i < mm->nr; i++) {
		struct vma *vma = &mm->vma[i];

		if (vma->uffd != uffd || vma->start < start || vma->end > end)
			continue;
		vma->uffd = NULL;
	}
	vma_merge(mm);
	uffd_wake(uffd, start, end);
}

/* Nobody has it open any more. */
static void file_release(struct file *file)
{
	if (file->kind == F_UFFD) {
		/* Not the one of frames that are dropped: it fills nothing. */
		if (file->mm != main_mm && !file->mm->dead &&
		    uffd_has(file, OS_UFFD_EVENTS))
			mm_check(file->mm, "filled after fork");
		unregister(file, 0, UINTPTR_MAX);
		while (file->events) {
			if (file->events->child && !file->events->child->open_in)
				file_release(file->events->child);
			event_done(file);
		}
	}
	file->kind = F_CLOSED;
}

static void file_close(struct file *file, const struct mm *mm)
{
	file->open_in &= ~(1u << mm->index);
	if (!file->open_in)
		file_release(file);
}

/* What its threads wanted to say nobody hears any more. */
static void events_forget(struct file *uffd, const struct mm *mm)
{
	struct event **at = &uffd->events;

	while (*at) {
		if ((*at)->caller->mm == mm)
			*at = (*at)->next;
		else
			at = &(*at)->next;
	}
}

void files_exit(struct mm *mm)
{
	unsigned i;

	for (i = 0; i < nr_files; i++)
		events_forget(&files[i], mm);
	for (i = 0; i < nr_files; i++)
		if (files[i].open_in & 1u << mm->index)
			file_close(&files[i], mm);
}

/* A child that was filled, and not given its own: nobody answers its faults any more. */
static void check_let_go(const struct file *uffd)
{
	const struct mm *mm = uffd->mm;
	unsigned i, others = uffd->open_in & ~(1u << here()->index);

	if (mm == here() || mm->dead || !others || others & 1u << mm->index)
		return;
	for (i = 0; mm_at(i); i++)
		if (others & 1u << i && mm_at(i)->whole)
			return; /* who fills it has it open */
	for (i = 0; i < mm->nr; i++)
		if (mm->vma[i].uffd == uffd)
			sim_fail("%lx of a child stays registered: another child has its "
				 "userfaultfd open too",
				 mm->vma[i].start);
	if (uffd->events)
		sim_fail("a child's event is not read: another child has its userfaultfd "
			 "open too");
}

void os_uffd_close(int fd)
{
	struct file *uffd = file_get(fd, F_UFFD);

	sim_point();
	sim_trace("close uffd", fd, 0, 0, 0);
	check_let_go(uffd);
	file_close(uffd, here());
	sim_point();
}

void os_close(int fd)
{
	struct file *file = file_at(fd);

	if (!file || !(file->open_in & 1u << here()->index))
		sim_fail("closes descriptor %d, which is not open", fd);
	if (file->kind == F_UFFD)
		os_uffd_close(fd);
	else
		file_close(file, here());
}

struct file *uffd_range(int fd, uintptr_t start, size_t len)
{
	sim_point();
	if (!len || (start | len) % SIM_PAGE)
		sim_fail("a range that is not of whole pages: %lx, %zu", start, len);
	return file_get(fd, F_UFFD);
}

int os_uffd_register(int fd, uintptr_t start, size_t len)
{
	struct file *uffd = uffd_range(fd, start, len);
	struct mm *mm = uffd->mm;
	uintptr_t end = start + len;
	int r = -EINVAL;
	unsigned i;

	mm_wait(mm);
	if (world_fails())
		return -ENOMEM; /* no more mappings, where one is to be split */
	if (!in_arena(start) && !vma_at(mm, start) && mm == here()) {
		names_register(mm, start); /* reserved, and not to be used */
		return 0;
	}
	for (i = 0; i < mm->nr; i++)
		if (mm->vma[i].end > start && mm->vma[i].start < end && r != -EBUSY)
			r = mm->vma[i].uffd && mm->vma[i].uffd != uffd ? -EBUSY : 0;
	sim_trace("register", (int64_t)start, (int64_t)end, 0, r);
	if (r)
		return r;
	vma_split(mm, start);
	vma_split(mm, end);
	for (i = 0; i < mm->nr; i++)
		if (mm->vma[i].start >= start && mm->vma[i].end <= end)
			mm->vma[i].uffd = uffd;
	vma_merge(mm);
	sim_point();
	return 0;
}

int os_uffd_unregister(int fd, uintptr_t start, size_t len)
{
	struct file *uffd = uffd_range(fd, start, len);

	vma_split(uffd->mm, start);
	vma_split(uffd->mm, start + len);
	unregister(uffd, start, start + len);
	sim_trace("unregister", (int64_t)start, (int64_t)(start + len), 0, 0);
	sim_point();
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork and exit on the simulated machine, and what passes between parent and child.
 *
 * The kernel copies mapping by mapping, with the address space locked: whoever would
 * change a mapping, or touch a page of one that was copied, waits. From the first mapping
 * of a userfaultfd on nothing can be filled through it. The library's own memory is
 * copied last: what it writes until then the child sees. (Where the kernel copies some of
 * that earlier, the library's next write there waits for the end of the copy, so the
 * child finds a state in which the library once was all the same.) Then the event is
 * queued; the child runs after it was read.
 *
 * Where another thread is in the middle of mremap(MREMAP_DONTUNMAP) nothing is asked of
 * the child's memory: there is no way for the library to tell whether the child was made
 * before or after it. The same for a raw clone's child when another thread begins such a
 * mremap() or MADV_DONTNEED after the copy and before the event was read, except that
 * discarded pages must be zeros, or what they were. All other changes have come to the
 * child wholly or not at all.
 *
 * A child by fork() of libc has the handlers of the library run around it, and its own
 * library; one of a raw clone has neither.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

#define MAX_UFFDS 8

struct forking {
	struct mm *parent, *child;
	struct file *map[MAX_UFFDS][2];
	unsigned nr;
	bool runs; /* else the child is memory only, to be looked at */
};

static unsigned char unsettled(const struct mm *mm, size_t i)
{
	if (mm->keeping[i] || mm->inherited[i] == I_MOVE)
		return I_MOVE;
	return mm->flux[i] ? I_DISCARD : 0;
}

static void copy_pages(struct mm *from, struct mm *to, const struct vma *vma)
{
	uintptr_t addr;

	for (addr = vma->start; addr < vma->end; addr += SIM_PAGE) {
		struct page *page = page_at(from, addr);
		size_t at = addr - ARENA_BASE;

		if (page->flags & P_PRESENT && !(page->flags & P_ZERO) && !page->pins)
			page->flags |= P_SHARED;
		*page_at(to, addr) = *page;
		page_at(to, addr)->pins = 0;
		chunk_at(to, addr)->table |= chunk_at(from, addr)->table;
		memcpy(to->shadow + at, from->shadow + at, SIM_PAGE);
		to->inherited[at / SIM_PAGE] = unsettled(from, at / SIM_PAGE);
		to->flux[at / SIM_PAGE] = to->inherited[at / SIM_PAGE] != 0;
		to->dirty[at / SIM_PAGE] = true;
		if (page->flags & P_PRESENT)
			memcpy(to->bytes + at, from->bytes + at, SIM_PAGE);
	}
}

/* The child's userfaultfd for the parent's; made on first use. */
static struct file *child_uffd(struct forking *f, struct file *parent)
{
	unsigned i;

	if (!parent || !uffd_has(parent, OS_UFFD_FORK))
		return NULL;
	for (i = 0; i < f->nr; i++)
		if (f->map[i][0] == parent)
			return f->map[i][1];
	if (f->nr == MAX_UFFDS)
		sim_fail("fork with more than %d userfaultfds", MAX_UFFDS);
	parent->changing++;
	f->map[f->nr][0] = parent;
	f->map[f->nr][1] = uffd_fork(parent, f->child);
	return f->map[f->nr++][1];
}

static void copy_mappings(struct forking *f, bool with_library)
{
	struct mm *from = f->parent, *to = f->child;
	struct vma *next;
	uintptr_t at;

	for (at = 0; (next = vma_next(from, at)); at = next->end) {
		struct vma vma = *next;

		if (!in_arena(vma.start))
			break;
		vma.uffd = child_uffd(f, vma.uffd);
		vma_insert(to, vma);
		copy_pages(from, to, &vma);
		from->copied = vma.end;
		sim_point();
		next = vma_at(from, vma.start);
	}
	own_share(from);
	if (!with_library)
		return;
	for (; (next = vma_next(from, at)); at = next->end) {
		struct vma vma = *next;

		vma.uffd = child_uffd(f, vma.uffd);
		vma_insert(to, vma);
	}
	own_fork(from, to);
}

static int copy_process(struct forking *f, bool with_library)
{
	struct mm *mm = f->parent;
	unsigned i;

	mm_wait(mm);
	f->child = mm_create();
	if (!f->child)
		return -EAGAIN;
	f->child->whole = false;
	f->child->maker = sim_current->tid;
	f->child->maker_pid = mm->pid;
	memcpy(f->child->names, mm->names, sizeof(mm->names));
	f->nr = 0;
	sim_trace("fork", f->child->pid, with_library, 0, 0);
	mm->forking = true;
	mm->copied = 0;
	copy_mappings(f, with_library);
	if (f->runs)
		files_fork(mm, f->child);
	mm->forking = false;
	/* With the library in it a child can tell by what its copy of it knows. */
	f->child->parent = with_library ? NULL : mm;
	sim_point();
	for (i = 0; i < f->nr; i++)
		uffd_event(f->map[i][0], (struct os_event){ .kind = OS_EVENT_FORK },
			   f->map[i][1]);
	f->child->parent = NULL;
	sim_trace("fork end", f->child->pid, 0, 0, 0);
	return 0;
}

bool fork_pending(const struct mm *mm)
{
	const struct mm *child;
	unsigned i;

	for (i = 0; (child = mm_at(i)); i++)
		if (child->parent == mm)
			return true;
	return mm->forking;
}

uintptr_t os_thread_copied(void)
{
	return sim_current->copied;
}

/* A process begins with a copy of the thread that made it. */
static void lead(struct thread *t, uint64_t stream)
{
	t->stream = stream;
	t->leads = true;
	t->copied = sim_current->copied;
}

/* ---- raw clone ------------------------------------------------------------------- */

int sim_fork(void (*fn)(void *arg), void *arg)
{
	struct forking f = { .parent = here(), .runs = fn };
	uint64_t stream = sim_random();
	int r;

	sim_point();
	r = copy_process(&f, false);
	if (r)
		return r;
	if (!fn)
		return 0;
	lead(sim_thread_start("child", fn, arg, f.child, NULL), stream);
	return 0;
}

/* ---- fork() of libc -------------------------------------------------------------- */

struct newborn {
	const struct sim_atfork *handlers;
	void (*fn)(void *arg);
	void *arg;
};

static struct newborn newborn[MAX_MMS];

static void newborn_main(void *arg)
{
	struct newborn *n = arg;

	n->handlers->child(n->handlers->ctx);
	n->fn(n->arg);
}

int sim_fork_libc(const struct sim_atfork *handlers, void (*fn)(void *arg), void *arg)
{
	struct forking f = { .parent = here(), .runs = true };
	uint64_t stream = sim_random();
	struct newborn *n;
	int r;

	handlers->prepare(handlers->ctx);
	r = copy_process(&f, true);
	if (r == 0) {
		n = &newborn[f.child->index];
		*n = (struct newborn){ handlers, fn, arg };
		lead(sim_thread_start("child", newborn_main, n, f.child, NULL), stream);
	}
	handlers->parent(handlers->ctx);
	return r;
}

/*
 * The kernel lists, of each thread, the processes it has made, each by its first thread.
 * Who asks is in the maker's process.
 */
bool os_is_child_of(uint32_t maker, uint32_t child)
{
	struct thread *t;
	unsigned i;

	sim_point();
	for (i = 0; (t = sim_thread_at(i)); i++)
		if (t->tid == child)
			return t->leads && t->mm->maker == maker;
	return false;
}

/* Nobody locks memory here. */
int64_t os_thread_grows(uint32_t tid)
{
	(void)tid;
	sim_point();
	return 0;
}

/* ---- exit ------------------------------------------------------------------------ */

/* All threads of a process end at once, and what it held open is closed. */
void process_exit(struct mm *mm)
{
	sim_trace("exit", mm->pid, 0, 0, 0);
	mm->dead = true;
	threads_exit(mm);
	files_exit(mm);
	if (mm->whole)
		own_exit(mm);
}

/* ---- lib/os/os.h: parent and child ----------------------------------------------- */

int os_private_files(void)
{
	return 0;
}

int os_lifeline(int fds[2])
{
	struct file *ends[2];

	sim_point();
	if (world_fails())
		return -EMFILE;
	ends[0] = file_open(F_PIPE);
	ends[1] = file_open(F_PIPE);
	ends[0]->peer = ends[1];
	ends[1]->peer = ends[0];
	fds[0] = file_fd(ends[0]);
	fds[1] = file_fd(ends[1]);
	return 0;
}

void os_life_init(struct os_life *life)
{
	life->impl[0] = 0;
}

bool os_life_try(struct os_life *life)
{
	const struct thread *t;
	unsigned i;

	sim_point();
	for (i = 0; (t = sim_thread_at(i)); i++)
		if (1 + (uint64_t)t->mm->pid == life->impl[0] && !t->mm->dead)
			return false;
	life->impl[0] = 1 + (uint64_t)here()->pid;
	return true;
}

void os_life_begin(struct os_life *life)
{
	while (!os_life_try(life))
		os_yield();
}

void os_life_end(struct os_life *life)
{
	life->impl[0] = 0;
}

int os_handover_listen(struct os_handover_name *name)
{
	int fd;

	sim_point();
	if (world_fails())
		return -EMFILE;
	fd = file_fd(file_open(F_LISTENER));
	memcpy(name->bytes, &fd, sizeof(fd));
	name->len = sizeof(fd);
	return fd;
}

/* The others have the numbers here that they have there. */
int os_handover_send(int listener, const int *fds, unsigned nr)
{
	struct file *l = file_get(listener, F_LISTENER), *sent;
	int uffd = fds[0];

	sim_point();
	l->readable = false;
	if (l->receiver < 0)
		return -EPIPE;
	if (uffd < 0)
		return -EBADF;
	if (nr != 1)
		sim_fail("hands over what a child has inherited");
	sent = file_get(uffd, F_UFFD);
	sent->open_in |= 1u << l->receiver;
	l->answer = uffd;
	sim_trace("hand over", listener, uffd, 0, 0);
	sim_point();
	return 0;
}

int os_handover_receive(const struct os_handover_name *name, int *fds, unsigned nr)
{
	struct file *l;
	int fd;

	memcpy(&fd, name->bytes, sizeof(fd));
	sim_point();
	l = file_at(fd);
	if (!l || l->kind != F_LISTENER)
		return -ECONNREFUSED;
	l->receiver = (int)here()->index;
	l->answer = -1;
	l->readable = true;
	while (l->answer < 0 && l->readable && l->kind == F_LISTENER)
		sim_sleep(5000);
	fd = l->kind == F_LISTENER ? l->answer : -1;
	l->receiver = -1;
	fds[0] = fd;
	return fd < 0 || nr != 1 ? -EPROTO : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setup: pages of a range become a migration's. See migration.h.
 *
 * A page of memory is isolated like any other, and is the migration's when its entry went
 * from PROBATION to MIGRATING: who touched it in between has it back, and it stays. A
 * page of a page map becomes MIGRATING where it is. Holes stay holes: whether one still
 * is one is seen at commit.
 *
 * The caller's arrays are written outside of the world, for that may fault.
 */
#include "lib/migration.h"

#include <errno.h>
#include <string.h>

#include "lib/coherent.h"
#include "lib/fault.h"
#include "lib/frame.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/migrate_range.h"
#include "lib/migration_folio.h"
#include "lib/notifier.h"
#include "lib/page.h"
#include "lib/pagemap.h"

#define SELECT_DEVICE (UHMM_SELECT_DEVICE_PRIVATE | UHMM_SELECT_DEVICE_COHERENT)
#define SELECT_ALL                                                                       \
	(UHMM_SELECT_SYSTEM | SELECT_DEVICE | UHMM_SELECT_READONLY | UHMM_SELECT_COMPOUND)

/* ---- the space's list ------------------------------------------------------------- */

static size_t bytes_of(size_t nr)
{
	return sizeof(struct migration) + nr * sizeof(struct migration_item);
}

struct migration *migration_make(struct uhmm_space *sp, size_t nr)
{
	struct migration *mg = uhmm_host_map(bytes_of(nr));

	if (!mg)
		return NULL;
	mg->sp = sp;
	mg->nr = nr;
	uhmm_lock(&sp->migration_lock);
	mg->next = sp->migrations;
	sp->migrations = mg;
	uhmm_unlock(&sp->migration_lock);
	return mg;
}

void migration_free(struct migration *mg)
{
	struct uhmm_space *sp = mg->sp;
	struct migration **at = &sp->migrations;

	uhmm_lock(&sp->migration_lock);
	while (*at != mg)
		at = &(*at)->next;
	*at = mg->next;
	uhmm_unlock(&sp->migration_lock);
	uhmm_host_unmap(mg, bytes_of(mg->nr));
}

struct migration *migration_find(struct uhmm_space *sp, const struct uhmm_migrate *m)
{
	struct migration *mg;

	if (!m || m->size < sizeof(*m))
		return NULL;
	uhmm_lock(&sp->migration_lock);
	for (mg = sp->migrations; mg && mg != m->migration; mg = mg->next)
		;
	uhmm_unlock(&sp->migration_lock);
	return mg;
}

/* ---- owners ----------------------------------------------------------------------- */

static uintptr_t source_owner(struct uhmm_space *sp, uhmm_pfn_t src)
{
	if (!pfn_device(src))
		return frame_owner(sp, pfn_page(src));
	return pagemap_owner(pagemap_at(sp, pfn_device(src)), pfn_page(src));
}

void migration_follow(struct uhmm_space *sp, entry_t e, uintptr_t to)
{
	struct uhmm_pagemap *map = pagemap_at(sp, entry_device(e));

	if (entry_state(e) == PAGE_MIGRATING && e & ENTRY_FROM_FRAME)
		frame_set_owner(sp, entry_payload(e), to);
	else if (map)
		pagemap_set_owner(map, entry_payload(e), to);
}

static bool is_source(entry_t e, uhmm_pfn_t src)
{
	return entry_state(e) == PAGE_MIGRATING && entry_payload(e) == pfn_page(src) &&
	       entry_device(e) == pfn_device(src);
}

bool migration_mapping(uintptr_t start, uintptr_t end, struct os_vma *vma)
{
	return os_vma_next(start, false, vma) == 0 && vma->start <= start &&
	       end <= vma->end &&
	       (vma->kind == OS_VMA_ANON || vma->kind == OS_VMA_HEAP) &&
	       !((end - 1) >> ADDRESS_BITS);
}

bool migration_lift(const struct os_vma *vma, uintptr_t start, size_t len)
{
	return vma->writable || os_set_writable(start, len, vma, true) == 0;
}

void migration_lower(const struct os_vma *vma, uintptr_t start, size_t len)
{
	if (!vma->writable)
		os_set_writable(start, len, vma, false);
}

entry_t *migration_entry(struct uhmm_space *sp, uhmm_pfn_t src, uintptr_t *addr)
{
	entry_t *entry;

	*addr = source_owner(sp, src);
	if (!*addr)
		return NULL;
	entry = page_entry(page_chunk(sp, *addr), *addr);
	return entry && is_source(entry_load(entry), src) ? entry : NULL;
}

/* ---- setup ------------------------------------------------------------------------ */

struct window {
	struct migration *mg;
	struct migration_item *item; /* of the first page */
	uintptr_t addr;
	unsigned nr; /* at most GROUP_PAGES, all of one chunk */
	struct os_vma vma;
	uint32_t flags;
	const void *owner;
};

static bool overlap(const void *a, size_t a_size, const void *b, size_t b_size)
{
	uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;

	return x < y + b_size && y < x + a_size;
}

/* Whoever wrote there between setup and finalize would wait for himself. */
static bool in_range(const struct uhmm_migrate *m, const void *p, size_t size)
{
	return overlap(p, size, (const void *)m->start, m->end - m->start);
}

static bool is_valid(const struct uhmm_migrate *m)
{
	size_t bytes;

	if (!m || m->size < sizeof(*m) || m->migration || m->reserved)
		return false;
	bytes = (m->end - m->start) / PAGE_SIZE * sizeof(uhmm_pfn_t);
	return m->start < m->end && !((m->start | m->end) % PAGE_SIZE) && m->src &&
	       m->dst && m->flags & (UHMM_SELECT_SYSTEM | SELECT_DEVICE) &&
	       !(m->flags & ~SELECT_ALL) && (m->owner || !(m->flags & SELECT_DEVICE)) &&
	       !overlap(m->src, bytes, m->dst, bytes) && !in_range(m, m, sizeof(*m)) &&
	       !in_range(m, m->src, bytes) && !in_range(m, m->dst, bytes);
}

static uhmm_pfn_t write_flag(const struct window *w)
{
	return w->vma.writable ? UHMM_PFN_WRITE : 0;
}

/*
 * Makes a page the migration's, the gate entered, if it is on a page map of the owner
 * (PAGE_DEVICE), or in this group of frames (PAGE_PROBATION).
 */
static bool claim(struct window *w, unsigned i, enum page_state from, uint32_t group)
{
	struct uhmm_space *sp = w->mg->sp;
	uintptr_t addr = w->addr + i * PAGE_SIZE;
	entry_t *entry = page_entry(page_chunk(sp, addr), addr);
	entry_t e = entry ? entry_load(entry) : 0;
	unsigned device = from == PAGE_DEVICE ? entry_device(e) : 0;
	const struct uhmm_pagemap *map = pagemap_at(sp, device);
	entry_t to = entry_make(PAGE_MIGRATING, entry_payload(e), device);

	if (entry_state(e) != from)
		return false;
	if (from == PAGE_DEVICE && !pagemap_selected(map, w->flags, w->owner))
		return false;
	if (from == PAGE_PROBATION && entry_payload(e) / GROUP_PAGES != group)
		return false;
	if (from == PAGE_PROBATION)
		to |= ENTRY_FROM_FRAME;
	if (!page_change(sp, entry, addr, &e, to))
		return false;
	w->item[i].src = pfn_make(device, entry_payload(e)) | UHMM_PFN_MIGRATE |
			 write_flag(w);
	return true;
}

static void claim_all(struct window *w, enum page_state from, uint32_t group)
{
	unsigned shard = gate_enter(&w->mg->sp->gate), i;

	for (i = 0; i < w->nr; i++)
		if (!w->item[i].src)
			claim(w, i, from, group);
	gate_leave(&w->mg->sp->gate, shard);
}

/* Those of the window's pages whose entry, or that of their folio, is as asked for. */
static uint64_t pick(const struct window *w,
		     bool (*is)(struct uhmm_space *sp, entry_t e, bool folio))
{
	struct uhmm_space *sp = w->mg->sp;
	unsigned shard = gate_enter(&sp->gate), i;
	struct chunk *chunk = page_chunk(sp, w->addr);
	const entry_t *entry = page_entry(chunk, w->addr);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0;
	bool folio = entry_state(f) != PAGE_NONE;
	uint64_t which = 0;

	for (i = 0; i < w->nr; i++)
		if (is(sp, folio ? f : entry ? entry_load(&entry[i]) : 0, folio))
			which |= UINT64_C(1) << i;
	gate_leave(&sp->gate, shard);
	return which;
}

static bool is_known(struct uhmm_space *sp, entry_t e, bool folio)
{
	(void)sp;
	(void)folio;
	return entry_state(e) != PAGE_NONE;
}

static bool is_coherent(struct uhmm_space *sp, entry_t e, bool folio)
{
	(void)sp;
	(void)folio;
	return entry_state(e) == PAGE_COHERENT;
}

/* Is the page somewhere that it has to be brought back from first? */
static bool is_away(struct uhmm_space *sp, entry_t e, bool folio)
{
	return (folio && entry_busy(e)) || entry_state(e) == PAGE_PROBATION ||
	       entry_state(e) == PAGE_EXCLUSIVE ||
	       (entry_state(e) == PAGE_DEVICE && !pagemap_at(sp, entry_device(e)));
}

static void bring_back(struct window *w)
{
	uint64_t away = pick(w, is_away);

	for (; away; away &= away - 1) {
		uintptr_t addr = w->addr + (unsigned)__builtin_ctzll(away) * PAGE_SIZE;

		fault_range(w->mg->sp, addr, addr + PAGE_SIZE, NULL);
	}
}

/* Which of the window's pages are there, as memory or as the zero page. */
static uint64_t there(const struct window *w, enum os_scan_what what)
{
	uintptr_t at = w->addr, end = w->addr + w->nr * PAGE_SIZE;
	struct os_extent ext[16];
	uint64_t which = 0;
	unsigned from;
	int n, i;

	while (at < end) {
		n = os_scan(at, end, what, GROUP_PAGES, ext, 16, &at);
		if (n < 0)
			return ~UINT64_C(0);
		for (i = 0; i < n; i++) {
			from = (unsigned)((ext[i].start - w->addr) >> PAGE_SHIFT);
			which |= which_first(ext[i].nr_pages) << from;
		}
	}
	return which;
}

/*
 * Isolates those pages. -EAGAIN: the program is changing mappings, or a page is in
 * somebody's hands for a moment, as one is that was touched just now.
 */
static int isolate(struct window *w, uint64_t which)
{
	struct uhmm_space *sp = w->mg->sp;
	uint32_t group = frame_group_open(sp, w->vma.executable);
	struct range vma = { w->vma.start, w->vma.end };
	uint8_t results[GROUP_PAGES] = { 0 };
	int r;

	if (group == GROUP_NIL)
		return 0;
	r = isolate_pages(sp, &vma, w->addr, which, group, ISOLATE_HOT | ISOLATE_TOLD,
			  results);
	if (r > 0)
		claim_all(w, PAGE_PROBATION, group);
	frame_group_lend(sp, group);
	return r == -EAGAIN || memchr(results, UHMM_BUSY, w->nr) ? -EAGAIN : 0;
}

/* What may not be written may be, for as long as it takes. */
static int isolate_lifted(struct window *w, uint64_t which)
{
	unsigned from = (unsigned)__builtin_ctzll(which);
	unsigned to = GROUP_PAGES - (unsigned)__builtin_clzll(which);
	uintptr_t start = w->addr + from * PAGE_SIZE;
	size_t len = (to - from) * PAGE_SIZE;
	int r;

	if (!migration_lift(&w->vma, start, len))
		return 0;
	r = isolate(w, which);
	migration_lower(&w->vma, start, len);
	return r;
}

static int collect_system(struct window *w)
{
	uint64_t coherent = pick(w, is_coherent), memory;

	/* A page that a write after fork() has copied is memory. */
	for (; coherent; coherent &= coherent - 1)
		coherent_look(w->mg->sp,
			      w->addr + (unsigned)__builtin_ctzll(coherent) * PAGE_SIZE);
	bring_back(w);
	memory = there(w, OS_SCAN_MEMORY) & which_first(w->nr);
	return memory ? isolate_lifted(w, memory) : 0;
}

/* Pages of coherent page maps that the program has in its page table. */
static int collect_coherent(struct window *w)
{
	struct range vma = { w->vma.start, w->vma.end };
	uint64_t coherent = pick(w, is_coherent);
	unsigned i;
	int r = 0;

	for (i = 0; i < w->nr && r != -EAGAIN; i++) {
		uintptr_t addr = w->addr + i * PAGE_SIZE;
		uhmm_pfn_t pfn;

		if (!(coherent >> i & 1) || w->item[i].src ||
		    !coherent_look(w->mg->sp, addr) ||
		    !migration_lift(&w->vma, addr, PAGE_SIZE))
			continue;
		r = coherent_take(w->mg->sp, &vma, addr, w->owner, NULL, &pfn);
		migration_lower(&w->vma, addr, PAGE_SIZE);
		if (r == 0)
			w->item[i].src = pfn | UHMM_PFN_MIGRATE | write_flag(w);
	}
	return r == -EAGAIN ? r : 0;
}

/* What has no entry and no memory is a hole, or the zero page. */
static void collect_holes(struct window *w)
{
	uint64_t left = 0, present;
	unsigned i;

	for (i = 0; i < w->nr; i++)
		if (!w->item[i].src)
			left |= UINT64_C(1) << i;
	if (!left)
		return;
	present = there(w, OS_SCAN_MEMORY);
	if (!(w->flags & UHMM_SELECT_SYSTEM))
		present |= there(w, OS_SCAN_ZEROS);
	left &= ~present;
	if (left)
		left &= ~pick(w, is_known);
	for (i = 0; i < w->nr; i++)
		if (left >> i & 1)
			w->item[i].src = UHMM_PFN_MIGRATE | write_flag(w);
}

/* The mapping may have changed since setup began: then there is nothing to take. */
static int collect_once(struct window *w, bool last)
{
	int r = 0;

	if (!migration_mapping(w->addr, w->addr + w->nr * PAGE_SIZE, &w->vma))
		return 0;
	if (w->flags & SELECT_DEVICE)
		claim_all(w, PAGE_DEVICE, GROUP_NIL);
	if (!migration_permits(w->mg, &w->vma))
		return 0;
	if (w->flags & UHMM_SELECT_DEVICE_COHERENT)
		r = collect_coherent(w);
	if (r == 0 && w->flags & UHMM_SELECT_SYSTEM)
		r = collect_system(w);
	if (r == 0 || last)
		collect_holes(w);
	return r;
}

void migration_tell(struct migration *mg)
{
	if (!mg->told)
		mg->told = notifier_begin(mg->sp, mg->start,
					  mg->start + mg->nr * PAGE_SIZE,
					  UHMM_EVENT_MIGRATE, mg->owner);
}

static void collect(struct window *w)
{
	struct uhmm_space *sp = w->mg->sp;
	struct gate_visit visit;
	unsigned tries;
	int r = -EAGAIN;

	for (tries = 0; r == -EAGAIN && tries < MIGRATE_TRIES; tries++) {
		gate_visit(&sp->world, &visit);
		migration_tell(w->mg);
		r = collect_once(w, tries + 1 == MIGRATE_TRIES);
		gate_end_visit(&sp->world, &visit);
		if (r == -EAGAIN)
			migrate_pause(tries);
	}
}

/*
 * At the first page of a chunk: what there is in it as one. False: it goes page by page,
 * now if it did not before.
 */
static bool collect_whole(struct window *w, const struct uhmm_migrate *m)
{
	size_t at = (size_t)(w->item - w->mg->item);

	if (at && page_index(w->addr))
		return false;
	if (w->nr == CHUNK_PAGES && m->flags & UHMM_SELECT_COMPOUND &&
	    migration_collect_folio(w->mg, at, m))
		return true;
	if (m->flags & UHMM_SELECT_DEVICE_PRIVATE)
		migration_split_folio(w->mg, w->addr, m);
	return false;
}

/* What migrate_to_ram() was given, if anything. */
static bool fault_page_is_valid(struct uhmm_space *sp, uhmm_pfn_t pfn)
{
	const struct uhmm_pagemap *map;

	if (!pfn)
		return true;
	map = uhmm_pfn_is_valid(pfn) ? pagemap_at(sp, pfn_device(pfn)) : NULL;
	return map && !map->memory && pfn_page(pfn) < map->nr_pages;
}

int uhmm_migrate_setup(struct uhmm_space *sp, struct uhmm_migrate *m)
{
	struct migration *mg;
	struct os_vma vma;
	struct window w;
	size_t i, cpages = 0;

	if (!is_valid(m) || !fault_page_is_valid(sp, m->fault_page) ||
	    !migration_mapping(m->start, m->end, &vma))
		return -EINVAL;
	mg = migration_make(sp, (m->end - m->start) / PAGE_SIZE);
	if (!mg)
		return -ENOMEM;
	mg->start = m->start;
	mg->flags = m->flags;
	mg->owner = m->owner;
	w = (struct window){ .mg = mg, .flags = m->flags, .owner = m->owner };
	for (i = 0; i < mg->nr; i += w.nr) {
		unsigned left = CHUNK_PAGES - page_index(m->start + i * PAGE_SIZE);

		w.item = &mg->item[i];
		w.addr = m->start + i * PAGE_SIZE;
		w.nr = left < mg->nr - i ? left : (unsigned)(mg->nr - i);
		if (collect_whole(&w, m))
			continue;
		left = migration_window(mg, i);
		if (w.nr > left)
			w.nr = left;
		collect(&w);
	}
	notifier_end(sp, mg->told);
	for (i = 0; i < mg->nr; i++) {
		m->src[i] = mg->item[i].src;
		m->dst[i] = 0;
		cpages += m->src[i] != 0;
	}
	m->npages = mg->nr;
	m->cpages = cpages;
	m->migration = mg;
	return 0;
}

/* ---- fork ------------------------------------------------------------------------- */

static int give_back(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		     bool folio)
{
	struct uhmm_space *sp = ctx;
	entry_t e = entry_load(entry), to;

	(void)chunk;
	(void)folio;
	if (entry_state(e) != PAGE_MIGRATING)
		return 0;
	to = entry_make(e & ENTRY_FROM_FRAME ? PAGE_PROBATION : PAGE_DEVICE,
			entry_payload(e), entry_device(e));
	page_settle(sp, entry, addr, to);
	return 0;
}

void migration_forget_all(struct uhmm_space *sp)
{
	struct migration *mg;

	while ((mg = sp->migrations)) {
		sp->migrations = mg->next;
		uhmm_host_unmap(mg, bytes_of(mg->nr));
	}
}

/* Destinations that were committed are nobody's; those of holes have arrived. */
static void uncommit(const struct migration *mg)
{
	struct uhmm_space *sp = mg->sp;
	size_t i;

	for (i = 0; i < mg->nr; i++) {
		uhmm_pfn_t dst = mg->item[i].dst;

		if (!uhmm_pfn_is_valid(mg->item[i].src) || !uhmm_pfn_is_valid(dst))
			continue;
		if (pfn_device(dst))
			pagemap_set_owner(pagemap_at(sp, pfn_device(dst)), pfn_page(dst),
					  0);
		else
			frame_set_owner(sp, pfn_page(dst), OWNER_ALLOCATED);
	}
}

void migration_after_fork(struct uhmm_space *sp)
{
	const struct migration *mg;
	struct uhmm_pagemap *map;
	unsigned i;

	if (!sp->migrations)
		return;
	page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, give_back, sp);
	for (mg = sp->migrations; mg; mg = mg->next)
		uncommit(mg);
	migration_forget_all(sp);
	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (map)
			pagemap_put_spares(map);
	}
	/* What was handed out, and what the program has taken away from a migration. */
	frames_take_back(sp, OWNER_ALLOCATED);
}

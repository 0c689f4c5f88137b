/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting: what is left of a segment of which little is used goes to the end of
 * another, and the segment is free. By who stores, before it opens a segment, so faults
 * do not wait for it; one thread at a time.
 *
 * A page that is moved may be loaded, given up and stored anew at any moment. Who loads
 * it has its segment in use and reads it there; a page that was given up has another
 * place than the one that was read, and is not moved (append.c).
 */
#include <errno.h>

#include "devices/file/segment.h"

/* Segments that are looked at for the one of which the least is used. */
#define LOOK 256u
/* What is not used may be half of what is, and so much more. */
#define SLACK (4 * (uint64_t)SEGMENT_SIZE)
/* So much of what was written to a segment is not used, or it is not worth its moving. */
#define WORTH (SEGMENT_SIZE / 8)

static uint32_t state_of(const struct segment *s)
{
	return __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
}

/* Bytes that were written there and are not used; 0: it is not to be moved. */
static uint32_t unused(const struct file *f, uint32_t nr)
{
	const struct segment *s;
	uint32_t n;

	if (!__atomic_load_n(&f->chunk[nr / CHUNK_SEGMENTS], __ATOMIC_ACQUIRE))
		return 0;
	s = segment_at(f, nr);
	if (state_of(s) != SEGMENT_SEALED)
		return 0;
	n = __atomic_load_n(&s->ever, __ATOMIC_RELAXED) -
	    __atomic_load_n(&s->live, __ATOMIC_RELAXED);
	return n > WORTH ? n : 0;
}

/* The one of which the least is used, in use by the caller then. */
static uint32_t choose(struct file *f)
{
	uint32_t top = __atomic_load_n(&f->top, __ATOMIC_ACQUIRE), i, nr, n;
	uint32_t best = SHARE_NONE, most = 0;

	for (i = 0; i < LOOK && i < top; i++) {
		nr = f->cursor++ % top;
		n = unused(f, nr);
		if (n > most) {
			most = n;
			best = nr;
		}
	}
	if (best == SHARE_NONE || !segment_use(f, best))
		return SHARE_NONE;
	/* It may have become another since it was looked at. */
	if (state_of(segment_at(f, best)) == SEGMENT_SEALED)
		return best;
	segment_unuse(f, best, 1);
	return SHARE_NONE;
}

struct moving {
	struct uhmm_io io[PART];
	struct object object[PART];
	uint32_t nr;
};

/* The next entries of the list whose pages are still there. How far it came. */
static uint32_t gather(struct file *f, uint32_t nr, uint32_t at, struct moving *m,
		       char *pages)
{
	const struct segment *s = segment_at(f, nr);

	for (m->nr = 0; at < s->nr && m->nr < PART; at++) {
		uint64_t page = *segment_entry(s, at);
		const struct record *record = record_at(f, page);
		uint64_t place = __atomic_load_n(&record->place, __ATOMIC_ACQUIRE);

		if (!(place & PLACE_SET) || place_segment(place) != nr)
			continue;
		m->io[m->nr] = (struct uhmm_io){ .page = page,
						 .buf = pages + m->nr * (size_t)BLOCK,
						 .len = place_len(place) };
		m->object[m->nr++] = (struct object){
			.page = page,
			.from = place,
			.len = place_len(place),
		};
	}
	return at;
}

/* Those that could be read, and have not been given up, elsewhere. */
static int move_part(struct file *f, struct moving *m, bool *bad)
{
	uint32_t i, n = 0;

	load_part(f, m->io, m->nr, f->stage, false);
	for (i = 0; i < m->nr; i++) {
		if (m->io[i].result) {
			*bad = true;
			continue;
		}
		m->object[n] = m->object[i];
		m->object[n++].buf = m->io[i].buf;
	}
	return n ? append(f, &f->log[LOG_MOVED], m->object, n, 0) : 0;
}

/* True: nothing that could be moved is left there. */
static bool empty(struct file *f, uint32_t nr)
{
	struct segment *s = segment_at(f, nr);
	struct moving m;
	uint32_t at = 0;
	bool bad = false;
	int r = 0;

	while (at < s->nr && !r) {
		at = gather(f, nr, at, &m, f->stage + STAGE_SIZE);
		if (m.nr)
			r = move_part(f, &m, &bad);
	}
	if (bad)
		__atomic_store_n(&s->state, SEGMENT_BAD, __ATOMIC_RELEASE);
	return !r && !bad;
}

bool collect_one(struct file *f)
{
	bool done = false;
	uint32_t nr;

	uhmm_lock(&f->collecting);
	/* What a parent could not write is only read here, and written by nobody. */
	nr = f->log[LOG_MOVED].kept ? SHARE_NONE : choose(f);
	if (nr != SHARE_NONE) {
		done = empty(f, nr);
		segment_unuse(f, nr, 1);
	}
	uhmm_unlock(&f->collecting);
	return done;
}

static bool is_due(const struct file *f)
{
	uint64_t live = __atomic_load_n(&f->live, __ATOMIC_RELAXED);

	return __atomic_load_n(&f->ever, __ATOMIC_RELAXED) > live + live / 2 + SLACK;
}

/* Twice as much as is about to be written: so it catches up. */
void collect_some(struct file *f)
{
	uint32_t i;

	for (i = 0; i < 2 && is_due(f) && collect_one(f); i++)
		;
}

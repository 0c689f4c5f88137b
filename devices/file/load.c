/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: objects that lie one behind the other are one read, and all reads of a part
 * are under way at the same time. Pages go to where the caller wants them; of what is
 * smaller the blocks that it lies in are read, and it is copied.
 */
#include <errno.h>
#include <string.h>

#include "devices/file/segment.h"

/* Of a page that was in a buffer. */
#define NO_READ UINT8_MAX

struct loading {
	struct file *f;
	char *stage;
	uint32_t staged; /* bytes of stage that are in use */
	uint32_t nr_reads, nr_parts;
	uint64_t end[PART]; /* of each read, in the file */
	bool whole[PART];   /* of each read: of pages */
	struct uhmm_file_read read[PART];
	struct uhmm_file_part part[PART];
	uint64_t place[PART];   /* of each page; 0: it cannot be loaded */
	uint8_t of[PART];       /* its read, or NO_READ: it is there */
	const char *from[PART]; /* where it is then; NULL: where it is wanted */
};

/* The page's place, which stays one until unpin(). Moved meanwhile: it has another. */
static uint64_t pin(struct file *f, const struct record *record)
{
	uint64_t place;

	for (;;) {
		place = __atomic_load_n(&record->place, __ATOMIC_ACQUIRE);
		if (!(place & PLACE_SET))
			return 0;
		if (!segment_use(f, place_segment(place)))
			continue;
		if (__atomic_load_n(&record->place, __ATOMIC_ACQUIRE) == place)
			return place;
		segment_unuse(f, place_segment(place), 1);
	}
}

static uint64_t begin_of(const struct loading *l, uint64_t place)
{
	return l->f->start + (uint64_t)place_segment(place) * SEGMENT_SIZE +
	       place_offset(place);
}

/* The last read, if this one goes on where it ends. */
static struct uhmm_file_read *last_read(struct loading *l, uint64_t begin, bool whole)
{
	uint32_t last = l->nr_reads - 1;

	if (!l->nr_reads || l->whole[last] != whole)
		return NULL;
	if (whole ? begin != l->end[last] :
		    begin < l->read[last].offset || begin > l->end[last])
		return NULL;
	return &l->read[last];
}

static struct uhmm_file_read *new_read(struct loading *l, uint64_t begin, bool whole,
				       void *buf)
{
	struct uhmm_file_read *read = &l->read[l->nr_reads];

	l->whole[l->nr_reads] = whole;
	l->end[l->nr_reads++] = begin;
	*read = (struct uhmm_file_read){ .part = &l->part[l->nr_parts], .offset = begin };
	l->part[l->nr_parts] = (struct uhmm_file_part){ .buf = buf };
	return read;
}

static void ask_for_page(struct loading *l, struct uhmm_io *io, uint64_t begin)
{
	struct uhmm_file_read *read = last_read(l, begin, true);

	if (!read)
		read = new_read(l, begin, true, io->buf);
	l->part[l->nr_parts++] = (struct uhmm_file_part){ io->buf, BLOCK };
	read->nr++;
	l->end[l->nr_reads - 1] += BLOCK;
}

/* Its blocks; the read that is the last one ends where stage is used to. */
static const char *ask_for_blocks(struct loading *l, uint64_t begin, uint32_t len)
{
	uint64_t first = begin / BLOCK * BLOCK;
	uint64_t end = (begin + len + BLOCK - 1) / BLOCK * BLOCK;
	struct uhmm_file_read *read = last_read(l, first, false);
	uint32_t last;

	if (!read) {
		read = new_read(l, first, false, l->stage + l->staged);
		read->nr = 1;
		l->nr_parts++;
	}
	last = l->nr_reads - 1;
	if (end > l->end[last]) {
		l->staged += (uint32_t)(end - l->end[last]);
		l->end[last] = end;
		l->part[l->nr_parts - 1].len = end - read->offset;
	}
	return (const char *)l->part[l->nr_parts - 1].buf + (begin - read->offset);
}

/* Is it read to where it is wanted? Else by way of the blocks that it lies in. */
static bool is_direct(const struct uhmm_io *io, uint64_t begin)
{
	return io->len == BLOCK && begin % BLOCK == 0 && (uintptr_t)io->buf % BLOCK == 0;
}

static void ask_for(struct loading *l, struct uhmm_io *io, uint32_t i, bool frozen)
{
	const struct record *record = record_at(l->f, io->page);
	uint64_t begin;

	l->from[i] = NULL;
	l->place[i] = frozen ? __atomic_load_n(&record->place, __ATOMIC_RELAXED) :
			       pin(l->f, record);
	if (!l->place[i] || place_len(l->place[i]) != io->len)
		return;
	l->of[i] = NO_READ;
	if (append_peek(l->f, l->place[i], io->buf))
		return;
	begin = begin_of(l, l->place[i]);
	if (is_direct(io, begin))
		ask_for_page(l, io, begin);
	else
		l->from[i] = ask_for_blocks(l, begin, io->len);
	l->of[i] = (uint8_t)(l->nr_reads - 1);
}

static int verify(const struct loading *l, const struct uhmm_io *io)
{
	const struct record *record = record_at(l->f, io->page);

	return check_of(io->buf, io->len, io->page) ==
			       __atomic_load_n(&record->check, __ATOMIC_RELAXED) ?
		       0 :
		       -EIO;
}

/*
 * Where several were read together and that failed each is tried by itself; so is what
 * was in a buffer and did not verify.
 */
static int read_alone(struct loading *l, struct uhmm_io *io, uint32_t i)
{
	uint64_t begin = begin_of(l, l->place[i]), first = begin / BLOCK * BLOCK;
	bool direct = is_direct(io, begin);
	struct uhmm_file_part part = { direct ? io->buf : l->stage,
				       direct ? BLOCK : 2 * (size_t)BLOCK };
	struct uhmm_file_read read = { .part = &part, .nr = 1, .offset = first };

	if (!direct)
		part.len = (begin + io->len + BLOCK - 1) / BLOCK * BLOCK - first;
	uhmm_host_file_read(l->f->file, &read, 1, 0);
	if (!read.result && !direct)
		memcpy(io->buf, l->stage + (begin - first), io->len);
	return read.result ? -EIO : verify(l, io);
}

static void take(struct loading *l, struct uhmm_io *io, uint32_t i)
{
	if (!l->place[i] || place_len(l->place[i]) != io->len) {
		io->result = -EIO;
		return;
	}
	io->result = l->of[i] == NO_READ ? 0 : l->read[l->of[i]].result;
	if (io->result)
		return;
	if (l->from[i])
		memcpy(io->buf, l->from[i], io->len);
	io->result = verify(l, io);
}

void load_part(struct file *f, struct uhmm_io *io, uint32_t nr, char *stage, bool frozen)
{
	struct loading l; /* of which a fault uses little */
	uint32_t i;

	l.f = f;
	l.stage = stage;
	l.staged = l.nr_reads = l.nr_parts = 0;
	for (i = 0; i < nr; i++)
		ask_for(&l, &io[i], i, frozen);
	if (l.nr_reads)
		uhmm_host_file_read(f->file, l.read, l.nr_reads, frozen ? 0 : f->depth);
	for (i = 0; i < nr; i++)
		take(&l, &io[i], i);
	/* What was staged has been taken. */
	for (i = 0; i < nr; i++)
		if (io[i].result && l.place[i] && place_len(l.place[i]) == io[i].len)
			io[i].result = read_alone(&l, &io[i], i);
	for (i = 0; i < nr && !frozen; i++)
		if (l.place[i])
			segment_unuse(f, place_segment(l.place[i]), 1);
}

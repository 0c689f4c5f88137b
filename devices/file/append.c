/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing: a part of a batch is one write, at the end of what its segment has. Records say where an object is when the kernel has taken the write, not
 * before; so what has failed was never there.
 */
#include <errno.h>
#include <string.h>

#include "devices/file/segment.h"

/* What is written: as the caller has it, or put together. */
struct layout {
	struct uhmm_file_part part[PART];
	uint32_t nr;
	uint32_t at, len;      /* whole blocks of the segment */
	uint32_t end;          /* of what is in them */
	uint32_t offset[PART]; /* of each object in the segment */
};

static uint32_t whole(uint32_t n, uint32_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static bool are_pages(const struct object *object, uint32_t nr)
{
	uint32_t i = 0;

	while (i < nr && object[i].len == BLOCK && (uintptr_t)object[i].buf % BLOCK == 0)
		i++;
	return i == nr;
}

/* Bytes of a segment that they take, at most. */
static uint32_t room(const struct object *object, uint32_t nr)
{
	uint32_t bytes = BLOCK, i;

	for (i = 0; i < nr; i++)
		bytes += whole(object[i].len, UNIT);
	return bytes;
}

static void lay_out_pages(struct layout *l, const struct log *log,
			  const struct object *object, uint32_t nr)
{
	uint32_t i;

	l->at = l->end = whole(log->at, BLOCK);
	for (i = 0; i < nr; i++) {
		l->part[i] = (struct uhmm_file_part){ object[i].buf, BLOCK };
		l->offset[i] = l->end;
		l->end += BLOCK;
	}
	l->nr = nr;
	l->len = l->end - l->at;
}

/* Behind what is in the last block. */
static void lay_out_bytes(struct layout *l, const struct log *log,
			  const struct object *object, uint32_t nr, char *stage)
{
	uint32_t tail = log->at % BLOCK, n = tail, i;

	l->at = log->at - tail;
	memcpy(stage, log->tail, tail);
	for (i = 0; i < nr; i++) {
		l->offset[i] = l->at + n;
		memcpy(stage + n, object[i].buf, object[i].len);
		n += whole(object[i].len, UNIT);
	}
	l->end = l->at + n;
	l->len = whole(n, BLOCK);
	memset(stage + n, 0, l->len - n);
	l->part[0] = (struct uhmm_file_part){ stage, l->len };
	l->nr = 1;
}

static void lay_out(struct layout *l, const struct log *log, const struct object *object,
		    uint32_t nr, char *stage)
{
	if (are_pages(object, nr))
		lay_out_pages(l, log, object, nr);
	else
		lay_out_bytes(l, log, object, nr, stage);
}

/* What there is of a block that is not full, for the next time. */
static void keep_tail(struct log *log, const struct layout *l, const char *stage)
{
	uint32_t tail = l->end % BLOCK;

	log->at = l->end;
	if (tail)
		memcpy(log->tail, stage + l->len - BLOCK, tail);
}

void append_end(struct file *f, struct log *log)
{
	uint32_t nr = log->segment;

	if (nr == SHARE_NONE)
		return;
	__atomic_store_n(&segment_at(f, nr)->state, SEGMENT_SEALED, __ATOMIC_RELEASE);
	log->segment = SHARE_NONE;
	segment_unuse(f, nr, 1);
}

/* A segment with room for so much. */
static int make_room(struct file *f, struct log *log, uint32_t len, uint32_t nr,
		     uint32_t spare)
{
	int why;

	if (log->segment != SHARE_NONE &&
	    (log->at + len > SEGMENT_SIZE ||
	     segment_at(f, log->segment)->nr + nr > OBJECTS_MAX))
		append_end(f, log);
	if (log->segment == SHARE_NONE) {
		log->segment = segment_open(f, spare, &why);
		log->at = 0;
	}
	if (log->segment == SHARE_NONE)
		return why;
	return segment_list_grow(f, segment_at(f, log->segment), nr) ? 0 : -ENOMEM;
}

/* The page's owner may have given it up, or stored it anew, since it was read. */
static bool move(struct record *record, const struct object *object, uint64_t place)
{
	uint64_t from = object->from;

	return __atomic_compare_exchange_n(&record->place, &from, place, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* The old place of what was moved is not used any more, nor the new one of what was not. */
static void settle(struct file *f, const struct object *object, uint64_t place)
{
	struct record *record = record_at(f, object->page);
	uint64_t unused = object->from;

	if (!object->from) {
		__atomic_store_n(&record->check, object->check, __ATOMIC_RELAXED);
		__atomic_store_n(&record->place, place, __ATOMIC_RELEASE);
		return;
	}
	if (!move(record, object, place))
		unused = place;
	__atomic_fetch_sub(&segment_at(f, place_segment(unused))->live,
			   place_len(unused), __ATOMIC_RELAXED);
	__atomic_fetch_sub(&f->live, place_len(unused), __ATOMIC_RELAXED);
	segment_unuse(f, place_segment(unused), 1);
}

/* They are there. */
static void enter(struct file *f, const struct log *log, const struct layout *l,
		  const struct object *object, uint32_t nr)
{
	struct segment *s = segment_at(f, log->segment);
	uint32_t i, bytes = 0;

	for (i = 0; i < nr; i++) {
		*segment_entry(s, s->nr + i) = (uint32_t)object[i].page;
		bytes += object[i].len;
	}
	s->nr += nr;
	s->ever += bytes;
	__atomic_fetch_add(&f->ever, bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->live, bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&f->live, bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->uses, nr, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++)
		settle(f, &object[i],
		       place_make(log->segment, l->offset[i], object[i].len));
}

int append(struct file *f, struct log *log, const struct object *object, uint32_t nr,
	   char *stage, uint32_t spare)
{
	struct layout l;
	int r = make_room(f, log, room(object, nr), nr, spare);

	if (r)
		return r;
	lay_out(&l, log, object, nr, stage);
	r = uhmm_host_file_write(f->file, l.part, l.nr,
				 f->start + (uint64_t)log->segment * SEGMENT_SIZE + l.at);
	if (r) {
		/* Perhaps it is that place which cannot be written. */
		append_end(f, log);
		return r;
	}
	keep_tail(log, &l, stage);
	enter(f, log, &l, object, nr);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing: a part of a batch is one write, at the end of what its segment has, and begins
 * at a block. Records say where an object is when the kernel has taken the write, not
 * before; so what has failed was never there.
 */
#include <errno.h>
#include <string.h>

#include "devices/file/segment.h"

/* What is written: as the caller has it, or put together. */
struct layout {
	struct uhmm_file_part part[PART];
	uint32_t nr;
	uint32_t len; /* whole blocks */
	uint32_t offset[PART]; /* of each object, from where the write begins */
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

static void lay_out(struct layout *l, const struct object *object, uint32_t nr,
		    char *stage)
{
	bool pages = are_pages(object, nr);
	uint32_t i;

	l->len = 0;
	for (i = 0; i < nr; i++) {
		l->offset[i] = l->len;
		if (pages)
			l->part[i] = (struct uhmm_file_part){ object[i].buf, BLOCK };
		else
			memcpy(stage + l->len, object[i].buf, object[i].len);
		l->len += whole(object[i].len, UNIT);
	}
	l->nr = nr;
	if (pages)
		return;
	i = whole(l->len, BLOCK);
	memset(stage + l->len, 0, i - l->len);
	l->len = i;
	l->part[0] = (struct uhmm_file_part){ stage, l->len };
	l->nr = 1;
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

int append(struct file *f, struct log *log, const struct object *object, uint32_t nr,
	   char *stage, uint32_t spare)
{
	struct layout l;
	struct segment *s;
	uint32_t i, bytes = 0;
	int r;

	lay_out(&l, object, nr, stage);
	r = make_room(f, log, l.len, nr, spare);
	if (r)
		return r;
	s = segment_at(f, log->segment);
	r = uhmm_host_file_write(f->file, l.part, l.nr,
				 f->start + (uint64_t)log->segment * SEGMENT_SIZE +
					 log->at);
	if (r) {
		/* Perhaps it is that place which cannot be written. */
		append_end(f, log);
		return r;
	}
	for (i = 0; i < nr; i++) {
		*segment_entry(s, s->nr + i) = (uint32_t)object[i].page;
		bytes += object[i].len;
	}
	s->nr += nr;
	__atomic_fetch_add(&s->live, bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&f->live, bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->uses, nr, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++)
		settle(f, &object[i],
		       place_make(log->segment, log->at + l.offset[i], object[i].len));
	log->at += l.len;
	return 0;
}

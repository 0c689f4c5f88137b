/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing. Objects go into a buffer, one behind the other, and from there into the file
 * in one write of many. A buffer is used again when the kernel has taken what is in it,
 * not before: if it cannot (the disk is full, or broken), what was stored stays where it
 * is and is read from there, and nothing more is stored until it can.
 */
#include <errno.h>
#include <string.h>

#include "devices/file/segment.h"

static uint32_t whole(uint32_t n, uint32_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static uint32_t flushed_of(const struct log *log)
{
	return __atomic_load_n(&log->flushed, __ATOMIC_ACQUIRE);
}

/* ---- to the file ----------------------------------------------------------------- */

/* What does not fill a block is at the beginning of the buffer then. */
static void advance(struct log *log, uint32_t flushed)
{
	uhmm_lock(&log->reading);
	memmove(log->buf, log->buf + (flushed - log->flushed), log->at - flushed);
	__atomic_store_n(&log->flushed, flushed, __ATOMIC_RELEASE);
	uhmm_unlock(&log->reading);
}

int append_flush(struct file *f, struct log *log)
{
	uint32_t n, len;
	struct uhmm_file_part part;
	int r;

	if (log->segment == SHARE_NONE || log->at == log->flushed)
		return 0;
	n = log->at - log->flushed;
	len = whole(n, BLOCK);
	memset(log->buf + n, 0, len - n);
	part = (struct uhmm_file_part){ log->buf, len };
	r = uhmm_host_file_write(f->file, &part, 1,
				 f->start + (uint64_t)log->segment * SEGMENT_SIZE +
					 log->flushed);
	log->stuck = r;
	if (!r)
		advance(log, log->at / BLOCK * BLOCK);
	return r;
}

int append_fork(struct file *f, struct log *log)
{
	int r = append_flush(f, log);

	if (r || log->segment == SHARE_NONE)
		return r;
	uhmm_lock(&log->reading);
	log->at = whole(log->at, BLOCK);
	__atomic_store_n(&log->flushed, log->at, __ATOMIC_RELEASE);
	uhmm_unlock(&log->reading);
	return 0;
}

void append_end(struct file *f, struct log *log)
{
	uint32_t nr = log->segment;

	if (nr == SHARE_NONE)
		return;
	/* Nobody looks into the buffer: the file has the last block as well. */
	uhmm_lock(&log->reading);
	__atomic_store_n(&segment_at(f, nr)->state, SEGMENT_SEALED, __ATOMIC_RELEASE);
	log->segment = SHARE_NONE;
	log->at = 0;
	__atomic_store_n(&log->flushed, 0, __ATOMIC_RELEASE);
	uhmm_unlock(&log->reading);
	segment_unuse(f, nr, 1);
}

/* The log's lock is not asked for: who has it may be waiting for a disk. */
bool append_peek(struct file *f, uint64_t place, void *buf)
{
	struct segment *s = segment_at(f, place_segment(place));
	uint32_t offset = place_offset(place);
	struct log *log;
	bool found;

	if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) != SEGMENT_OPEN)
		return false;
	log = &f->log[__atomic_load_n(&s->log, __ATOMIC_RELAXED)];
	if (offset < flushed_of(log))
		return false;
	uhmm_lock(&log->reading);
	found = log->segment == place_segment(place) && offset >= log->flushed;
	if (found)
		memcpy(buf, log->buf + (offset - log->flushed), place_len(place));
	uhmm_unlock(&log->reading);
	return found;
}

/* ---- to the buffer --------------------------------------------------------------- */

/* Where the next object goes. Pages lie at blocks: so they can be read without a copy. */
static uint32_t next_offset(uint32_t at, const struct object *object)
{
	return whole(at, object->len == BLOCK ? BLOCK : UNIT);
}

static uint32_t end_of(uint32_t at, const struct object *object, uint32_t nr)
{
	for (; nr; nr--, object++)
		at = next_offset(at, object) + object->len;
	return at;
}

/* A segment, and one's number of it; its log has none. */
static int begin(struct file *f, struct log *log, uint32_t spare)
{
	uint32_t nr;
	int why;

	if (!log->buf) {
		log->buf = uhmm_host_map(BUFFER_SIZE);
		if (!log->buf)
			return -ENOMEM;
		__atomic_fetch_add(&f->buffers, 1, __ATOMIC_RELAXED);
	}
	nr = segment_open(f, spare, (uint32_t)(log - f->log), &why);
	if (nr == SHARE_NONE)
		return why;
	uhmm_lock(&log->reading);
	log->segment = nr;
	uhmm_unlock(&log->reading);
	return 0;
}

/* Room in a segment and in the buffer for all of them. */
static int make_room(struct file *f, struct log *log, const struct object *object,
		     uint32_t nr, uint32_t spare)
{
	uint32_t end = end_of(log->at, object, nr);
	int r = 0;

	if (log->segment != SHARE_NONE && end - log->flushed > BUFFER_SIZE)
		r = append_flush(f, log);
	if (!r && log->segment != SHARE_NONE &&
	    (end > SEGMENT_SIZE || segment_at(f, log->segment)->nr + nr > OBJECTS_MAX)) {
		r = append_flush(f, log);
		if (!r)
			append_end(f, log);
	}
	if (!r && log->segment == SHARE_NONE)
		r = begin(f, log, spare);
	if (r)
		return r;
	return segment_list_grow(f, segment_at(f, log->segment), nr) ? 0 : -ENOMEM;
}

/* The page's owner may have given it up, or stored it anew, since it was read. */
static bool move(struct record *record, const struct object *object, uint64_t place)
{
	uint64_t from = object->from;

	return __atomic_compare_exchange_n(&record->place, &from, place, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* What was moved does not use its old place any more, and what was not the new one. */
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
	__atomic_fetch_sub(&segment_at(f, place_segment(unused))->live, place_len(unused),
			   __ATOMIC_RELAXED);
	__atomic_fetch_sub(&f->live, place_len(unused), __ATOMIC_RELAXED);
	segment_unuse(f, place_segment(unused), 1);
}

static void count_in(struct file *f, struct segment *s, const struct object *object,
		     uint32_t nr)
{
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
}

int append(struct file *f, struct log *log, const struct object *object, uint32_t nr,
	   uint32_t spare)
{
	int r = make_room(f, log, object, nr, spare);
	uint32_t i, offset;
	char *to;

	if (r)
		return r;
	count_in(f, segment_at(f, log->segment), object, nr);
	for (i = 0; i < nr; i++) {
		offset = next_offset(log->at, &object[i]);
		to = log->buf + (log->at - log->flushed);
		memset(to, 0, offset - log->at);
		memcpy(to + (offset - log->at), object[i].buf, object[i].len);
		log->at = offset + object[i].len;
		settle(f, &object[i], place_make(log->segment, offset, object[i].len));
	}
	return 0;
}

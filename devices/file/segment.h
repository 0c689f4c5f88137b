/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the driver `file`, and what they share; see file.c.
 *
 * A file consists of segments. Each is written from its beginning to its end, once, and
 * is free again when nothing in it is used any more. An object is what a page has become:
 * up to a page of bytes, at a multiple of 16. Objects of a page lie at whole blocks, and
 * are read to where the caller wants them.
 *
 *	table      page number -> record: its object's place and checksum
 *	segment.c  how many use a segment, and which pages' objects were written there
 *	append.c   puts objects at the end of a segment, and writes them
 *	load.c     reads them
 *	collect.c  moves what is left of a segment elsewhere
 *	share.c    which segments the processes of a family have
 */
#ifndef UHMM_DEVICES_FILE_SEGMENT_H
#define UHMM_DEVICES_FILE_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/count.h"
#include "devices/file/share.h"
#include "devices/table.h"
#include "devices/work.h"
#include "uhmm/device.h"

#define BLOCK UHMM_FILE_BLOCK
/* What places are multiples of. */
#define UNIT 16u

/* Of a segment, and of what is written of it at once; pages that are read together. */
#ifdef UHMM_SMALL_LIMITS /* as in lib/limits.h: for tests that have few pages */
#define SEGMENT_SIZE (UINT32_C(1) << 16)
#define BUFFER_SIZE (UINT32_C(1) << 15)
#define PART 4u
#else
#define SEGMENT_SIZE (UINT32_C(1) << 21)
#define BUFFER_SIZE SEGMENT_SIZE
#define PART 32u
#endif
/* A set of working memory: two blocks for an object that is not whole ones, and pages. */
#define STAGE_SIZE (2 * PART * (size_t)BLOCK)
#define WORK_SIZE (STAGE_SIZE + PART * (size_t)BLOCK)

/* ---- places ---------------------------------------------------------------------- */

/*
 * Where an object is, in one word: 17 bits of its offset in units, 12 of its length less
 * one, 28 of its segment. 0: nowhere.
 */
#define PLACE_SET (UINT64_C(1) << 63)

static inline uint64_t place_make(uint32_t segment, uint32_t offset, uint32_t len)
{
	return PLACE_SET | (uint64_t)segment << 29 | (uint64_t)(len - 1) << 17 |
	       offset / UNIT;
}

static inline uint32_t place_segment(uint64_t place)
{
	return (uint32_t)(place >> 29) & ((UINT32_C(1) << 28) - 1);
}

static inline uint32_t place_len(uint64_t place)
{
	return ((uint32_t)(place >> 17) & 4095) + 1;
}

static inline uint32_t place_offset(uint64_t place)
{
	return ((uint32_t)place & ((UINT32_C(1) << 17) - 1)) * UNIT;
}

struct record {
	/* Atomic. Of a number that is free it is the table's, without the flag. */
	uint64_t place;
	uint64_t check; /* of the bytes and of the number; written before the place */
};

/* ---- segments -------------------------------------------------------------------- */

enum segment_state {
	SEGMENT_FREE = 0,
	SEGMENT_OPEN,   /* is written */
	SEGMENT_SEALED, /* is not */
	SEGMENT_BAD,    /* nor is anything moved out of it: that has failed */
};

/* Numbers of pages that were written to a segment: up to 16 pages of them. */
#define LIST_PAGES 16u
#define LIST_ENTRIES (UHMM_PAGE_SIZE / sizeof(uint32_t))
#define OBJECTS_MAX (LIST_PAGES * LIST_ENTRIES)

struct segment {
	uint32_t uses;  /* atomic: objects, who reads them, who writes. 0: it is free */
	uint32_t live;  /* atomic: bytes of objects that are used */
	uint32_t ever;  /* bytes of all that were written; read where it is sealed */
	uint32_t state; /* atomic */
	uint32_t log;   /* open: who writes it */
	uint32_t nr;    /* entries of the list */
	uint32_t *list[LIST_PAGES];
};

/* Segments are known by chunks of so many, which stay. */
#define CHUNK_SEGMENTS (UINT32_C(1) << 12)
#define CHUNKS (UINT32_C(1) << 10)
#define SEGMENTS_MAX (CHUNK_SEGMENTS * CHUNKS) /* 8 TiB */

/*
 * Who writes: one thread at a time. Objects are put together in a buffer, and stay there
 * until the kernel has taken them: the page is in one of the two, always. What does not
 * fill the last block is written again with what follows it.
 */
struct log {
	struct uhmm_lock lock;
	uint32_t segment; /* SHARE_NONE: none */
	uint32_t at;      /* its end */
	/*
	 * The file has the segment up to there, whole blocks, the buffer what follows.
	 * Changes, with the buffer's contents up to `at`, under `reading`; atomic.
	 */
	uint32_t flushed;
	struct uhmm_lock reading;
	char *buf;  /* BUFFER_SIZE bytes; NULL: it has none yet */
	bool stuck; /* the kernel did not take it */
	bool kept;  /* a parent's, that was stuck: it is only read */
} __attribute__((aligned(64)));

/* For who stores, and one for who moves. */
#define LOGS 8u
#define LOG_MOVED LOGS

struct file {
	struct uhmm_file *file;
	uint64_t start; /* of the first segment */
	uint32_t depth; /* reads at a time */
	uint32_t nr_logs;
	uint32_t spare; /* segments kept for who moves objects */
	struct share share;
	struct table table;
	struct work work;
	struct count count;
	struct uhmm_lock grow; /* chunks */
	struct segment **chunk;
	struct log log[LOGS + 1]; /* the last one: under collecting */
	struct uhmm_lock collecting;
	char *stage;     /* working memory of who collects; under collecting */
	uint32_t cursor; /* where it is looked next; under collecting */
	uint32_t top;    /* atomic: segments that were ever used are below */
	/* relaxed atomics: bytes of objects that are used, of all in segments; pages */
	uint64_t live, ever, lists;
	uint32_t buffers; /* atomic */
};

static inline struct segment *segment_at(const struct file *f, uint32_t nr)
{
	return __atomic_load_n(&f->chunk[nr / CHUNK_SEGMENTS], __ATOMIC_ACQUIRE) +
	       nr % CHUNK_SEGMENTS;
}

/* A new one, which a log writes: its number, or SHARE_NONE with *why. */
uint32_t segment_open(struct file *f, uint32_t spare, uint32_t log, int *why);
/* So many uses less. The last one frees it. */
void segment_unuse(struct file *f, uint32_t nr, uint32_t uses);
/* One use more, if it is not free. */
bool segment_use(struct file *f, uint32_t nr);
/* Room for so many more entries of its list. */
bool segment_list_grow(struct file *f, struct segment *s, uint32_t nr);
/* Of share.c: it is nobody's any more. */
void segment_freed(void *ctx, uint32_t nr);

static inline uint32_t *segment_entry(const struct segment *s, uint32_t i)
{
	return &s->list[i / LIST_ENTRIES][i % LIST_ENTRIES];
}

/* ---- objects --------------------------------------------------------------------- */

struct object {
	void *buf;
	uint64_t page; /* its number */
	uint64_t check;
	uint64_t from; /* where it was, if it is moved; else 0 */
	uint32_t len;
};

static inline struct record *record_at(const struct file *f, uint64_t page)
{
	return table_at(&f->table, page);
}

/* Of the bytes and of whose they are: another page's are not taken for these. */
static inline uint64_t check_of(const void *buf, uint32_t len, uint64_t page)
{
	return uhmm_checksum(buf, len) ^ page * UINT64_C(0x9e3779b97f4a7c15);
}

/*
 * Up to PART of them go to a log, whose lock is held. 0: their records say so; but who
 * was moved and is not there any more stays away. Else -errno, and none has.
 */
int append(struct file *f, struct log *log, const struct object *object, uint32_t nr,
	   uint32_t spare);
/* The kernel is to take what is in the buffer. 0, or -errno: then it stays there. */
int append_flush(struct file *f, struct log *log);
/*
 * The same before fork(), and nothing is in the buffer then: a child is copied with its
 * locks as they are, and so looks for nothing there.
 */
int append_fork(struct file *f, struct log *log);
/* The log's segment, which is flushed, is not written any more. */
void append_end(struct file *f, struct log *log);
/* An object that is in a buffer; false: it is not, and the file has it. */
bool append_peek(struct file *f, uint64_t place, void *buf);

/* Reads up to PART pages; each has its result. frozen: as the flag of a batch says. */
void load_part(struct file *f, struct uhmm_io *io, uint32_t nr, char *stage, bool frozen);

/* Where there is much in segments that nobody uses, some of it is made free. */
void collect_some(struct file *f);
/* Frees one segment if that is possible in any way. */
bool collect_one(struct file *f);

#endif

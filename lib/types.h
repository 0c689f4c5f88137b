/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structs of the core: read this first.
 *
 * A *space* migrates pages of one process. Each page that is not simply where the kernel
 * put it has an *entry*, one atomic word: its state and where its bytes are. A page is in
 * one of three places: in the program's page table (NONE: no entry is needed), in a
 * *frame* (PROBATION: moved out by UFFDIO_MOVE, bytes untouched), or on a *device*
 * (DEVICE).
 *
 * Who may change an entry
 * -----------------------
 * - From a stable state (NONE, PROBATION, DEVICE, POISONED, EXCLUSIVE): by
 *   compare-and-swap, with the gate entered. The winner that makes it busy is its
 *   *holder*.
 * - From a busy state (ISOLATING, STORING, LOADING): only its holder, by
 *   page_settle(). Others may set two flags on it: WANTED (a thread of the program sleeps
 *   in the kernel until this page is there: wake it when settling) and WAITERS (a thread
 *   of ours sleeps on the wait queue).
 * - From MIGRATING: its migration, with the gate entered, by page_settle(). It may be
 *   WANTED, and nothing of ours waits for it.
 * - The gate closed: whoever closed it may change every stable entry, and waits for the
 *   holders of busy ones.
 *
 * Locks, in the order they are taken; a test build checks it (lib/util/rank.h)
 * --------------------------------------------------------------------------
 * 1. world      entered by everyone who changes anything, except the reader; closed by
 * fork.
 *    the hand's, exclusives, unsharing: locks of who isolates
 * 2. gate       entered by who isolates or fills pages; closed by who reads and applies
 *               structural events. Nothing slow happens inside, nobody inside touches the
 *               program's memory.
 * 3. busy page  a holder never *waits* for the gate: it tries, and puts the page back if
 * it
 *               cannot. So whoever closed the gate may wait for holders.
 * 4. chunk.lock isolation against zero-fill within 2 MiB.
 * 5. leaf locks (frames, parked, fence, recent, device, notifiers): nothing is taken
 *               inside.
 * A driver's own lock, which its notifiers' callbacks take (lib/notifier.h), comes after
 * 1 to 3 and is never wanted by who has 4 or 5; inside it nothing of ours is taken.
 */
#ifndef UHMM_TYPES_H
#define UHMM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/counter.h"
#include "lib/limits.h"
#include "lib/os/os.h"
#include "uhmm/device.h"
#include "uhmm/uhmm.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE ((size_t)1 << PAGE_SHIFT)
#define CHUNK_SHIFT 21
#define CHUNK_SIZE ((size_t)1 << CHUNK_SHIFT)
#define CHUNK_PAGES 512u

/* ---- the gate (lib/gate.h) --------------------------------------------------------- */

/* Enters on this many cache lines: two threads rarely meet on one. */
#define GATE_SHARDS 16

struct gate {
	uint32_t closed; /* 0 open, 1 closed or closing, 2 the same and somebody sleeps */
	uint32_t kept_out; /* threads in gate_enter_first() that found it closed */
	struct {
		uint32_t inside;
	} __attribute__((aligned(64))) shard[GATE_SHARDS];
};

/* ---- entries (lib/page.h) --------------------------------------------------------- */

/* word = payload << 20 | device << 8 | flags | state */
typedef uint64_t entry_t;

enum page_state {
	PAGE_NONE = 0,      /* in the page table, or a hole: the kernel knows */
	PAGE_ISOLATING = 1, /* busy: being moved out */
	/* payload: frame. Out of the page table, bytes in the frame. */
	PAGE_PROBATION = 2,
	PAGE_STORING = 3,  /* busy; payload: frame. A device is reading the frame. */
	PAGE_DEVICE = 4,   /* payload: device page */
	PAGE_LOADING = 5,  /* busy; payload: frame or device page, see FROM_FRAME */
	PAGE_POISONED = 6, /* the bytes are lost; whoever touches it gets SIGBUS */
	/*
	 * A driver's, see lib/migration.h; payload: frame or device page, see FROM_FRAME.
	 * Who touches it sleeps; everybody else may take it away, the gate closed.
	 */
	PAGE_MIGRATING = 7,
	/*
	 * payload: frame, which a device uses, and nobody else; device: whose it is; see
	 * lib/exclusive.h
	 */
	PAGE_EXCLUSIVE = 8,
	/*
	 * payload: page of a coherent page map. In the program's page table all the same,
	 * see lib/coherent.h.
	 */
	PAGE_COHERENT = 9,
	PAGE_NR_STATES,
};

#define ENTRY_STATE UINT64_C(0xf)
#define ENTRY_WANTED (UINT64_C(1) << 4)
#define ENTRY_WAITERS (UINT64_C(1) << 5)
#define ENTRY_HOT_SHIFT 6
#define ENTRY_HOT (UINT64_C(3) << ENTRY_HOT_SHIFT)
#define ENTRY_DEV_SHIFT 8
#define ENTRY_DEV (UINT64_C(15) << ENTRY_DEV_SHIFT)
#define ENTRY_FROM_FRAME (UINT64_C(1) << 12)
/* COHERENT: it has been shared by fork. The same bit. */
#define ENTRY_FORKED ENTRY_FROM_FRAME
/*
 * NONE, of a chunk's folio: its pages were stored one by one, and none of them was
 * isolated since. The same bit.
 */
#define ENTRY_STORED ENTRY_FROM_FRAME
/*
 * DEVICE: the generation it was stored in, so that a fault can tell whether that was a
 * short time ago. Time is told by stores: a generation is as many as there are frames,
 * by GENERATIONS. Older ones than the bits can tell look young in one case of 25.
 */
#define ENTRY_GEN_SHIFT 13
#define ENTRY_GEN_MASK UINT64_C(127)
#define GENERATIONS 16
/*
 * A quarter of what may be isolated, which is the budget: had there been that much more
 * memory, the page would still have been in it.
 */
#define GENERATIONS_SHORT 4
#define ENTRY_PAYLOAD_SHIFT 20

/*
 * 2 MiB of addresses. Exists (as zeros) for every chunk of a 16 GiB piece in which a page
 * was ever migrated; entries are allocated when a page of the chunk is.
 * folio: an entry for all 512 pages at once while they are isolated as one huge page;
 * when it is not NONE the entries in page[] are all NONE, but for those being written by
 * the holder that stores the folio.
 */
struct chunk {
	uint32_t lock;
	uint32_t refaults; /* policy: device refaults since the hand last passed */
	entry_t folio;
	entry_t *page;  /* CHUNK_PAGES, or NULL; freed only with the gate closed */
	uint16_t *pins; /* CHUNK_PAGES counts, or NULL; under lock */
};

/* Addresses below 2^47 (x86-64 and arm64 programs that do not ask for more). */
#define ADDRESS_BITS 47
#define LEAF_BITS 13 /* chunks of a leaf: 16 GiB */
#define DIR_BITS (ADDRESS_BITS - CHUNK_SHIFT - LEAF_BITS)

struct page_table {
	struct chunk *leaf[1u << DIR_BITS]; /* published with release */
	uint64_t nr_leaves;
	uint64_t nr_arrays; /* entry arrays allocated: 4 KiB each */
	uint64_t nr_pins;
};

#define WAIT_BUCKETS 256

/* ---- frames (lib/frame.h) --------------------------------------------------------- */

/* Frames are handed out and aged in groups: as many pages as a word has bits. */
#define GROUP_PAGES 64u
#define GROUP_SIZE (GROUP_PAGES * PAGE_SIZE)
#define BLOCK_GROUPS (CHUNK_PAGES / GROUP_PAGES)
#define GROUP_NIL UINT32_MAX

enum group_kind {
	GROUP_FREE = 0,
	GROUP_OPEN,        /* being filled by its owner, on no list */
	GROUP_PROBATION,   /* on the probation list */
	GROUP_CLOSED,      /* taken off it by who stores its pages */
	GROUP_FOLIO,       /* first of the eight groups of a block that holds a folio */
	GROUP_LENT,        /* its pages are a driver's: on no list, freed with the last */
	GROUP_FOLIO_LENT,  /* as GROUP_FOLIO, but the folio is a driver's: on no list */
	GROUP_SPARE,       /* full of what nobody needs, on the list of such */
	GROUP_FOLIO_SPARE, /* so is a block: first of its groups, on a list of its own */
	GROUP_LEFT,        /* nobody's, some slots full: on the list of such */
};

struct frame_group {
	uint32_t prev, next; /* free or probation list */
	uint32_t kind;       /* enum group_kind; under frames.lock */
	uint32_t nr_used;    /* slots handed out, while OPEN */
	bool stale;          /* all slots hold what was dropped; lib/frame_spare.c */
	uint64_t present;    /* slots with a page in them; atomic */
	uint64_t left;       /* slots whose page was copied back; atomic */
	uintptr_t owner[GROUP_PAGES]; /* frame_owner() */
};

enum block_kind {
	BLOCK_FRESH = 0,
	BLOCK_WORN,       /* has a page table: a huge page moved here would be split */
	BLOCK_EXECUTABLE, /* so has this; for pages of mappings that can be executed */
	BLOCK_KINDS,
};

struct frame_block {
	uint32_t next;    /* list of wholly free blocks */
	uint32_t nr_free; /* groups of it that are free */
	uint32_t kind;    /* enum block_kind; changed by who took it off the list */
};

/* The most that is kept, as much as a quarter of all frames: 64 MiB. */
#define SPARE_PAGES_MAX 16384u

struct spare_list {
	uint32_t head;
	uint32_t nr;    /* atomic */
	uint32_t least; /* nr was no lower since the worker last looked */
};

struct frames {
	struct uhmm_lock lock;
	char *base; /* registered on the space's uffd */
	uint32_t nr_groups;
	struct frame_group *group;
	struct frame_block *block;
	uint32_t free_block[BLOCK_KINDS];        /* list heads */
	uint32_t free_group[2];                  /* the same, by executable */
	uint32_t probation_head, probation_tail; /* oldest first */
	uint32_t left_group;                     /* list head; atomic */
	bool leaves;                             /* there are other processors */
	uint64_t nr_probation;                   /* pages in PROBATION; atomic */
	struct spare_list spare[2];              /* groups, blocks */
	uint64_t spare_pages;                    /* in both; atomic */
	/* registered on trash_uffd: what is moved there is dropped */
	char *trash;
	/* groups moved there since the last drop, by executable; atomic */
	uint32_t trash_used[2];
	struct uhmm_lock trash_lock;
	int trash_uffd;
};

/* Huge pages of our own; lib/huge.h. */
struct huge {
	char *area;    /* registered nowhere; atomic, NULL until it is needed */
	uint64_t used; /* places of it; atomic bitmap */
};

/* Whether the program could have huge pages in the mapping that was asked for last. */
struct huge_allowed {
	struct uhmm_lock lock;
	uintptr_t start, end;
	uint64_t until_ns;
	bool allowed;
};

/* ---- reclaim ---------------------------------------------------------------------- */

/* Devices of a space: 4 bits of an entry; 0 means none. */
#define SPACE_DEVICES 16

/* Ranges given to uhmm_manage(), and ranges the preload excludes. */
#define SPACE_RANGES 1024

struct range {
	uintptr_t start, end;
};

struct range_set {
	struct uhmm_lock lock;
	uint32_t nr;
	struct range range[SPACE_RANGES]; /* sorted, disjoint */
};

struct parked {
	struct uhmm_lock lock;
	uint32_t nr;
	uintptr_t addr[PARKED_MAX];
};

/*
 * Sequential faults: each stream grows its window while it is followed. As many as a
 * merge has inputs.
 */
#define STREAMS 32
/* Windows of 2, 4, ... UHMM_BATCH_MAX pages. */
#define STREAM_SIZES 6u

struct stream {
	uintptr_t last; /* the fault it began with, or was last followed by */
	uintptr_t next; /* where the stream goes on if it is one */
	int64_t stride; /* bytes, whole pages */
	uint32_t stamp;
	uint8_t window;  /* pages; 1: it has not been followed */
	uint8_t to_come; /* of them, where they were not brought; else 0 */
	uint8_t brought; /* beside the page that was touched last */
	uint8_t loaded;  /* of these, from a device */
};

_Static_assert(UHMM_BATCH_MAX <= UINT8_MAX, "the most of each");
_Static_assert(sizeof(struct stream) == 32, "all are looked at, for each fault");

struct streams {
	struct uhmm_lock lock;
	uint32_t clock;
	struct stream stream[STREAMS];
	/*
	 * By strided, and the window's size: whether streams came through such windows of
	 * late. Below 0: they did not.
	 */
	int8_t trust[2][STREAM_SIZES];
};

/* Runs that streams brought, a ring; lib/recent.h. */
struct recent_run {
	uintptr_t start;
	uint32_t nr_pages;
};

struct recent {
	struct uhmm_lock lock;
	uint32_t first, nr; /* the oldest, and how many there are */
	uint64_t nr_pages;  /* of all; atomic */
	struct recent_run run[RECENT_MAX];
};

/* Load buffers: as many threads as that load at once, 64 KiB each; lib/fault_buf.c. */
#define FAULT_BUFS 64
#define FAULT_BUF_PAGES 16u

struct fault_bufs {
	uint64_t free;     /* atomic bitmap */
	uint32_t returned; /* futex */
	char *bytes;
};

/* Mappings registered ahead of their first touch; see lib/fence.c. */
#define FENCE_MAX 8192

struct fence {
	struct uhmm_lock lock;
	uint32_t nr;
	bool forgotten; /* since the walk that is under way began */
	/* FENCE_MAX, sorted by start; as many again for the next walk */
	struct range *known;
};

/* Pages that the reader is asked to bring back; see lib/recall.h. */
struct recall {
	struct uhmm_lock lock; /* of range */
	struct range range;
	uint32_t asked;
	uint32_t served; /* futex: counts the times it did */
	void *ballast;   /* for os_hold_mappings(); atomic, NULL until it is needed */
};

struct budget {
	int64_t limit_pages; /* 0: none; atomic */
	/*
	 * Pages that may still be filled before usage is looked at again; atomic. Below
	 * one, a fault that needs memory is parked until the worker has made room.
	 */
	int64_t room_pages;
	int64_t usage_pages;      /* of the process, last seen */
	int64_t total_pages;      /* of all who share the budget, last seen */
	int64_t ring_below_pages; /* room at which the worker is woken */
	uint32_t rung;            /* it has been, since it last looked */
	uint32_t stuck;           /* reclaim finds nothing more to take */
	bool lend; /* the reader's: what it resolves now cannot wait for room */
};

/* What the embedder (api.c, or the preload) adds; any member may be NULL. */
struct space_hooks {
	void *ctx;
	/* Publishes this process's usage; returns that of all who share the budget. */
	int64_t (*share)(void *ctx, struct uhmm_space *space, int64_t usage_pages);
	/* How many processes draw from the same budget's room. */
	int64_t (*sharers)(void *ctx);
	/* Whether pages may be shared with another process since a fork, or soon. */
	bool (*related)(void *ctx);
	/* Pages that the program has said it is about to fill at once. With fenced(). */
	int64_t (*expected)(void *ctx);
	/* The fence is up, if there is need for it, for what was expected. */
	void (*fenced)(void *ctx);
	/*
	 * Pages in [start, end) are about to be isolated: calls add with the memory of
	 * threads there, which must stay. A thread that begins there later waits until
	 * release_threads(), and then touches its memory.
	 */
	void (*hold_threads)(void *ctx, uintptr_t start, uintptr_t end,
			     void (*add)(void *to, uintptr_t addr, size_t len), void *to);
	void (*release_threads)(void *ctx);
	/* One line for the user. */
	void (*say)(void *ctx, const char *message);
};

/* ---- fork ------------------------------------------------------------------------- */

/* What happened while the space was frozen, in order; see lib/fork.c. */
enum frozen_kind {
	FROZEN_FILL,
	FROZEN_REMOVE,
	FROZEN_UNMAP,
	FROZEN_REMAP,
	FROZEN_VOID, /* a fill that did not come about */
	/*
	 * All events so far were read: what comes later also happened later. Between two
	 * of these the order in which events were read need not be that of what they say.
	 */
	FROZEN_QUIET,
	FROZEN_GONE, /* not mapped at that moment, where something had been moved */
};

struct frozen_record {
	uint32_t kind;
	uint32_t pad;
	uintptr_t from, to; /* FILL: from is the page */
	size_t len;
};

enum fork_phase {
	FORK_NONE = 0,
	FORK_CLOSING, /* the forking thread waits for everybody to leave the world */
	FORK_ASKED,   /* it wants the reader to serve frozen faults */
	FORK_FROZEN,  /* it does; nothing else of the space moves */
	FORK_SEEN,    /* the child's copy was taken: EVENT_FORK was read */
	FORK_OVER,    /* the child has its own space, or there is none: go on */
};

struct frozen_log {
	struct uhmm_lock lock; /* of who appends */
	uint32_t nr;           /* release */
	struct frozen_record record[FROZEN_MAX];
};

/* Children of raw clones beside the child of a fork(), within its milliseconds. */
#define FORK_LATER_MAX 1024u

/* What parent and child both see from the fork until the child has taken over. */
struct fork_shared {
	struct os_handover_name name;
	uint32_t outcome;        /* enum fork_outcome; futex */
	struct frozen_log child; /* what was done to the child's memory */
	/* structural events read meanwhile, in either's past */
	struct frozen_log suspect;
};

enum fork_outcome {
	FORK_PENDING = 0,
	FORK_TAKEN,  /* the child's reader is at work */
	FORK_UNABLE, /* the child could not take over: fill its memory in */
	FORK_FILLED, /* that was done */
};

struct fork_state {
	uint32_t phase;         /* enum fork_phase; futex */
	uint32_t forker;        /* tid of the forking thread */
	uint32_t returned;      /* its fork() has, in the parent; atomic */
	uintptr_t copied;       /* os_thread_copied() of it, and 0 where there is none */
	uint32_t ready;         /* child: its reader has taken over; futex */
	bool told;              /* notifiers, that it goes on */
	struct frozen_log *log; /* what was done to the parent's memory while frozen */
	/*
	 * Inline delivery: threads that fault while the space is frozen, one by one, and
	 * the reader while it reads and logs.
	 */
	struct uhmm_lock frozen_lock;
	char *frozen_page;       /* under frozen_lock */
	struct range_set landed; /* of the log, since it was quiet; under frozen_lock */
	bool changed; /* an event that changes memory was read; under frozen_lock */
	struct fork_shared *shared;
	struct fill *fill; /* the reader's, for children that are filled in */
	int result;        /* child: of taking over */
	int lifeline[2];
	uint64_t signals; /* the forking thread's mask: nothing of the program runs on it
			      * while it keeps the world closed */
	bool alone;        /* the child goes on without a space; see fork_child_alone() */
	bool shares_files; /* and its table of descriptors is the parent's */
	int early_uffd;   /* child, inline delivery: received before its time, or -1 */
	/* the reader's */
	int listener, child_uffd;
	uint32_t child_seen; /* records of log from before the child's copy */
	bool child_known;    /* a fault of it showed that the forking thread made it */
	unsigned nr_children;
	/* Children that are filled when all was read that they may have seen. */
	struct {
		int uffd;
		uint32_t seen; /* as child_seen */
	} later[FORK_LATER_MAX];
	uint32_t nr_later;
	/* Children that are filled in, by lib/fork_name.h: where, and how many. */
	uintptr_t names;
	uint32_t nr_named;
	enum { NAMED_NONE, NAMED_LAST, NAMED_NOT } named; /* could the last be found? */
};

/* ---- events (lib/event.c) --------------------------------------------------------- */

/* Applying an event may take reading others, and filling a child that is among them. */
enum event_progress {
	EVENT_READ,
	EVENT_APPLYING,
	EVENT_APPLIED,
};

/* What was read with the gate closed; the reader's. */
struct event_batch {
	uint32_t nr, nr_faults, nr_arrived;
	struct os_event event[EVENTS_MAX]; /* structural, in the order they were read */
	uint8_t applied[EVENTS_MAX];       /* enum event_progress */
	struct range arrived[EVENTS_MAX];  /* where this batch's REMAPs led */
	/* The same of what was read, and what of it was seen as a hole: lib/landed.h. */
	struct range_set landed, gone;
	struct os_event fault[EVENTS_MAX];
	/* Children of raw clones whose memory is to be filled in; a ring. */
	struct {
		int uffd;
		uint32_t after; /* events read before it */
	} child[EVENT_CHILDREN_MAX];
	uint32_t nr_children, nr_filled;
	bool applying;
	/* The program had one thread whenever we read: this is their order. */
	bool ordered;
	bool single;            /* it had before the last read */
	uint32_t reads_of_many; /* still to come before that is asked again */
};

/* ---- discards (lib/zap.h) --------------------------------------------------------- */

/* More than threads that discard at once and have not come to it. */
#define ZAPS_MAX 64u

struct zap {
	struct range range;
	uint64_t until_ns; /* then it has happened, or never will */
	bool widened;      /* covers more than was announced */
};

struct zaps {
	struct uhmm_lock lock;
	uint32_t nr; /* atomic */
	struct zap zap[ZAPS_MAX];
};

/* ---- mirrors (lib/notifier.h) ----------------------------------------------------- */

struct uhmm_notifier;

struct notifiers {
	struct uhmm_lock lock; /* of everything but nr, which is changed under it */
	uint32_t nr;           /* those inserted; atomic: 0, and nobody need be told */
	uint32_t active;       /* invalidations under way */
	uint32_t progress;     /* futex: one has ended, or a callback has returned */
	uint32_t waiters;      /* for that */
	uint64_t seq;          /* odd while what somebody mirrors is being invalidated */
	struct uhmm_notifier *root;
};

/* ---- exclusive pages (lib/exclusive.h) -------------------------------------------- */

struct exclusives {
	struct uhmm_lock lock; /* before the gate: of the rest, and of who makes one */
	uint32_t group[2];     /* one more than that of an open group, by executable */
	/* [1..]: whose pages may be; an entry has its index, or 0: there are too many */
	const void *owner[SPACE_DEVICES];
	bool any; /* there may be one; atomic */
};

/* ---- placement (lib/placement.h) -------------------------------------------------- */

struct placement {
	struct uhmm_lock lock; /* leaf: of at, while what it says is made true */
	uint32_t at;           /* one more than the CPU where the reader is; 0: it is not
				* lowered. Atomic */
	uint32_t beat;         /* the reader's: changes whenever it looks; atomic */
	bool asleep;           /* it waits for something to read; atomic */
	uint32_t reader, worker, warden_tid; /* tids; atomic */
	bool can;                            /* the reader's: there is a choice */
	bool wanted; /* a thread faults hard, and there is no warden; atomic */
	bool tried;  /* the worker's: to start it */
	bool able;   /* it runs, and may raise the reader; atomic */
	struct os_thread warden;
	uint32_t watch; /* futex, the warden's bell */
	struct os_place place;
	uint64_t since_ns;   /* the reader was lowered; under the lock */
	uint64_t rest_ns;    /* under the lock */
	uint64_t rest_until; /* not before that; atomic */
	/* The reader's: the thread that faults, and how often in a row since when. */
	uint32_t tid, run, others;
	uint64_t run_ns, looked_ns;
	uint64_t brought; /* pages that were, before they were asked for */
	/* And since it was followed; and what following has lost so far, in faults. */
	uint32_t stayed, loss;
};

/* ---- the space -------------------------------------------------------------------- */

/* Which of our threads are to end: uhmm_space.stop. */
enum space_stop {
	STOP_NONE = 0,
	STOP_WORKER,
	STOP_BOTH, /* the reader too */
};

struct uhmm_pagemap;
struct migration;

struct uhmm_space {
	/* Set at creation. */
	uint32_t delivery;  /* enum uhmm_delivery */
	bool whole;         /* every private anonymous mapping is managed */
	bool user_only;     /* userfaultfd does not serve the kernel's own accesses */
	bool fork_events;   /* EVENT_FORK is permitted */
	bool private_files; /* our threads have a file table of their own */
	bool may_refuse;    /* a fork() that cannot be followed is not made */
	uint64_t evict_ns;  /* see struct space_config */
	/* a child that could not take over: nothing is migrated */
	bool unusable;
	uint32_t retire_phase; /* futex; lib/retire.c */
	int retire_result;
	int uffd, kicker;
	/* whose space it is: differs in a child that is not ours */
	uint32_t pid;
	/* 1; 0 in a child that is not ours, whose memory the parent fills */
	uint32_t *here;
	struct space_hooks hooks;

	struct gate world, gate;
	struct page_table table;
	uint32_t wait_queue[WAIT_BUCKETS];
	unsigned gen_shift; /* a generation is 2^gen_shift stores */
	struct frames frames;
	struct huge huge;
	struct huge_allowed huge_allowed;
	/* [1..], acquire; set NULL with the world closed, numbers are used again */
	struct uhmm_device *device[SPACE_DEVICES];
	uint32_t nr_devices; /* those open are at most this */
	uint32_t retiring;   /* bits: being closed, nothing is stored on them */
	uint64_t device_age[SPACE_DEVICES], device_clock; /* when it was opened */
	/* Those devices that are page maps; lib/pagemap.h. */
	struct uhmm_pagemap *pagemap[SPACE_DEVICES];
	uint32_t nr_coherent; /* of these, ever; atomic */
	/* Migrations between setup and finalize; lib/migration.h. */
	struct uhmm_lock migration_lock;
	struct migration *migrations;
	uint32_t migration_done;      /* futex: counts pages given back */
	struct uhmm_lock device_lock; /* opening, and who closes */

	struct budget budget;
	struct range_set managed;  /* !whole */
	struct range_set excluded; /* whole */
	struct parked parked;
	struct streams streams;
	struct recent recent;
	struct fence fence;
	struct recall recall;
	struct placement placement;
	uint32_t serving; /* the reader's: odd while it works on what it read */
	bool filling;     /* atomic: and that was the FORK of a child to fill */
	struct os_thread reader, worker;
	uint32_t reading;        /* futex: the reader was started, and has not left */
	uint32_t stop;           /* enum space_stop */
	uint32_t work;           /* futex: the worker's bell */
	uint32_t inline_room;    /* futex: counts when there may be room again */
	uint32_t inline_waiters; /* for that; atomic */
	uint32_t nr_refused;     /* times that pages were found pinned or shared */
	uint32_t nr_unfilled;    /* the reader's, for lib/grown.h */
	/* Held while a thread of ours, not the reader, faults in the program's memory. */
	struct uhmm_lock unshare_lock;
	uint32_t unsharer;      /* its tid; atomic */
	struct range unsharing; /* what it touches; lib/unshare.h */
	struct fork_state fork;

	struct worker *w; /* the worker's own state; reclaim.c */
	char *reader_buf; /* UHMM_BATCH_MAX pages */
	/*
	 * UHMM_BATCH_MAX pages never written, for filling holes. Not in .bss: the kernel
	 * may make one mapping of that and the program's, which we would register.
	 */
	const char *zeros;
	struct fault_bufs bufs;
	struct event_batch *batch;
	/*
	 * Registered while an event was unread: perhaps not the mapping that was meant,
	 * but what is at its place since. Emptied with the gate closed.
	 */
	struct range_set late;
	struct zaps zaps;
	struct notifiers notifiers;
	struct exclusives exclusives;
	/* Under the registry's lock: uhmm_space_get(), and whether that is too late. */
	uint64_t serial; /* in the order of creation */
	uint32_t holds;
	bool ending;
	/* [COUNT_NR], relaxed atomics: own_counter, or shared with who watches us. */
	uint64_t *counter;
	uint64_t own_counter[COUNT_NR];
};

#endif

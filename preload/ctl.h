/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control segment: what the processes of one `uhmm run` share.
 *
 * `uhmm run` creates it as a file that only its user can open, names it in the
 * environment (UHMM_CTL), and every process that loads the preload maps it. It holds the
 * budget, a slot per process with what that process uses and has counted, and messages
 * that the supervisor prints. There is no lock in it: a process may be killed anywhere.
 * Each slot has one writer, the process that owns it; everybody reads.
 *
 * Fields are accessed with the __atomic builtins, relaxed unless said otherwise.
 *
 * Life of a slot. A process claims one (ctl_claim) when it starts, after fork in the
 * child and after exec, when it finds its old one by its pid. When it has ended, the
 * supervisor adds what it counted to ctl->ended and frees the slot (ctl_reap): at once if
 * it had seen the process, else at its next look, a tenth of a second later at most. It
 * does the same when the process runs another program, which shows by the thread that
 * writes the slot being gone: one without the preload claims no slot. Who changes
 * `claim` by compare-and-swap to CTL_PID_FOLDING owns the slot until it stores a pid or
 * 0 again, so a slot is folded once; the generation, which is part of the compared word,
 * keeps a supervisor that looked at a dead process from taking the slot of a new one
 * with the same pid. A slot whose folder is killed on the way is lost for the run.
 *
 * Who watches over the tree holds a lock (F_SETLK) on the file.
 *
 * A message is printed by the supervisor within a tenth of a second, in order.
 */
#ifndef UHMM_CTL_H
#define UHMM_CTL_H

#include <stddef.h>
#include <stdint.h>

#define CTL_ENV "UHMM_CTL"
#define CTL_MAGIC UINT64_C(0x31304c54436d6875) /* "uhmCTL01" */
#define CTL_VERSION 7u

/* Processes alive at the same time; more run without being migrated. 1 KiB each. */
#define CTL_SLOTS 4096u
#define CTL_SPEC_MAX 1024u /* as long as lib/device.h reads one */
#define CTL_PID_FOLDING UINT32_MAX
/* Messages kept until the supervisor prints them; later ones are dropped and counted. */
#define CTL_MESSAGES 64u
#define CTL_MESSAGE_MAX 256u

/* What every process counts. Order is the order of --stats=json. */
enum ctl_counter {
	CTL_FAULT_PROBATION, /* faults resolved by moving the frame back */
	CTL_FAULT_DEVICE,    /* faults resolved by loading */
	CTL_FAULT_ZERO,      /* faults on memory never written */
	CTL_FAULT_BUSY,      /* faults that met a page in transition */
	CTL_FAULT_PARKED,    /* faults that waited for memory to be freed */
	CTL_REFAULT,         /* pages that came back soon after they had been stored */
	CTL_PREFETCH,        /* pages loaded without being asked for */
	CTL_PREFETCH_VAIN,   /* of those, as many as may have been for nothing */
	CTL_ZERO_FILLED,     /* pages zero-filled */
	CTL_ISOLATED,        /* pages moved out of the page table */
	CTL_ISOLATED_FOLIO,  /* of those, as part of a 2 MiB folio */
	CTL_RESTORED,        /* pages moved back from probation */
	CTL_STORED,          /* pages stored on a device */
	CTL_LOADED,          /* pages loaded from a device */
	CTL_STORE_FAILED,    /* pages the device refused: they stayed in memory */
	CTL_LOAD_FAILED,     /* pages that were lost: poisoned */
	CTL_DROPPED,         /* migrated pages the program unmapped or discarded */
	CTL_SKIP_PINNED,     /* pages skipped because they were pinned */
	/* pages made exclusive after fork so that they could move */
	CTL_UNSHARED,
	CTL_EVENT_FORK,
	CTL_EVENT_REMAP,
	CTL_EVENT_REMOVE,
	CTL_EVENT_UNMAP,
	CTL_FORK_HANDOVER, /* forked children that took over their own pages */
	CTL_FORK_FILLED,   /* pages filled in for children that could not */
	/* pages isolated by who faulted, or read of it, where the program runs */
	CTL_ISOLATED_DIRECT,
	CTL_READER_LOWERED, /* times the reader went to the thread that faults */
	CTL_READER_HELD_UP, /* and was late for others there */
	CTL_CALL_UNKNOWN,   /* system calls that the guard knows nothing of */
	CTL_NR_COUNTERS,
};

/*
 * Where a process that has no keeper can be made to start one: in its own memory, at the
 * address that its slot says. The supervisor lets one of its threads clone() at entry
 * with this stack; see cmd/ring.c. It zeroes magic: a door is used once.
 */
#define CTL_DOOR_MAGIC UINT64_C(0x726f6f444d4d4855) /* "UHMMDoor" */

struct ctl_door {
	uint64_t magic, claim; /* the slot's, of the process that opened the door */
	uint64_t entry, stack;
};

struct ctl_slot {
	union {
		struct {
			uint32_t pid;        /* 0: free. */
			uint32_t generation; /* counts claims, exec included */
		};
		uint64_t claim; /* both, for compare-and-swap */
	};
	uint32_t managed; /* 1 once the process migrates; 2: it cannot, see messages */
	uint32_t writer;  /* tid of the thread that writes usage; 0: not known yet */
	uint32_t forks;   /* of it, and the one it came from: pages may be shared */
	/*
	 * Address of its ctl_door: it has no keeper, and the supervisor looks at what it
	 * uses. 0: it has one, and says so itself.
	 */
	uint64_t door;
	/* Resident anonymous pages, shared pages counted once in the tree: its part. */
	int64_t usage_pages;
	/* Now, of the process's device; see ctl_publish_device(). */
	uint64_t device_pages, device_bytes_in, device_bytes_stored,
		device_bytes_resident;
	/* The same bytes when device_bytes_in was largest. */
	uint64_t fullest_in, fullest_stored, fullest_resident;
	uint64_t metadata_bytes;  /* tables, frame owners, this process */
	uint64_t probation_pages; /* now */
	char name[16];            /* comm of the program */
	uint64_t counter[CTL_NR_COUNTERS];
} __attribute__((aligned(1024)));

#define CTL_EAGER_NOBODY 1u
#define CTL_EAGER_NEAR 2u

/* Who resolves a fault of the program. */
enum ctl_faults {
	CTL_FAULTS_THREAD, /* a thread of ours */
	CTL_FAULTS_INLINE, /* the thread that faults */
	CTL_FAULTS_EITHER, /* that, where system calls can be guarded; else the former */
};

struct ctl_message {
	uint32_t ready; /* its number + 1 after text was written, release */
	uint32_t pid;
	char text[CTL_MESSAGE_MAX - 8];
};

struct ctl {
	uint64_t magic; /* written last, release */
	uint32_t version;
	uint32_t size; /* sizeof(struct ctl) */
	/* set by the supervisor before any other process sees the segment */
	uint64_t budget_pages;
	uint32_t supervisor_pid;
	uint32_t debug;    /* UHMM_DEBUG level for messages */
	uint32_t evict_ms; /* UHMM_EVICT, see struct space_config; 0: as is needed */
	uint32_t faults;   /* enum ctl_faults */
	int32_t filters;   /* on the supervisor's system calls; 0: it is not known */
	/*
	 * Inode of the supervisor's /proc/self/ns/pid; 0: unknown. Pids of another
	 * namespace mean nothing here, so a process in one claims no slot and does not
	 * migrate.
	 */
	uint64_t pid_ns;
	char device[CTL_SPEC_MAX];
	/* shared */
	uint32_t pressure; /* counts; a futex that sleeping workers wait on */
	uint32_t nr_slots; /* slots ever used are below this */
	/*
	 * Forks whose child has not claimed its slot yet: a hint, that the tree lives on
	 * even if no slot is taken. Added to before fork, taken from by the child. A fork
	 * that failed, or whose child was killed before that, leaves it too high: then
	 * the file is removed half a minute later.
	 */
	uint32_t forking;
	/*
	 * Not 0: each process starts its keeper at once. CTL_EAGER_NOBODY: nobody can
	 * ring it; CTL_EAGER_NEAR: it might be too late by then.
	 */
	uint32_t eager;
	/* What processes without a keeper use: the supervisor's sum. */
	int64_t watched_pages;
	int64_t peak_pages; /* largest sum of usage_pages seen */
	/* Written by the supervisor, which looks a hundred times a second if need be: */
	uint64_t over_ns;   /* time the tree was above budget and tolerance */
	int64_t over_pages; /* by how much at most */
	/* counters and device totals of processes that have ended; see ctl_fold() */
	uint64_t ended[CTL_NR_COUNTERS];
	uint64_t ended_fullest_in, ended_fullest_stored, ended_fullest_resident;
	uint64_t ended_processes;
	uint64_t ended_managed, ended_unable; /* of those, managed was 1, 2 */
	uint64_t by_thread; /* processes that could not be guarded; CTL_FAULTS_EITHER */
	/*
	 * Message n is message[n % CTL_MESSAGES]; those below taken_message were printed.
	 */
	uint32_t next_message, taken_message;
	uint32_t dropped_messages;
	/* Raised when a process forks, executes or ends: shares change. */
	uint32_t kin;
	struct ctl_message message[CTL_MESSAGES];
	struct ctl_slot slot[CTL_SLOTS];
};

_Static_assert(sizeof(struct ctl_slot) == 1024, "a slot is 1 KiB");

/* Above --memory: 16 MiB, or 5% of it. */
static inline uint64_t ctl_tolerance_pages(uint64_t budget_pages)
{
	uint64_t share = budget_pages / 20;

	return share > 4096 ? share : 4096;
}

/* What the tree may hold: --memory, and the tolerance. */
static inline int64_t ctl_allowed_pages(const struct ctl *ctl)
{
	return (int64_t)(ctl->budget_pages + ctl_tolerance_pages(ctl->budget_pages));
}

/* ---- slots ------------------------------------------------------------------------ */

#define CTL_LOAD(p_) __atomic_load_n((p_), __ATOMIC_RELAXED)
#define CTL_STORE(p_, v_) __atomic_store_n((p_), (v_), __ATOMIC_RELAXED)

/* The two halves of ctl_slot.claim. */
union ctl_owner {
	struct {
		uint32_t pid, generation;
	};
	uint64_t claim;
};

/*
 * Adds what the slot counted to ctl->ended and zeroes everything but the claim. The
 * caller holds the slot as CTL_PID_FOLDING. Usage goes first: if the caller is killed
 * here, no memory stays on the tree's account for ever.
 */
static inline void ctl_fold(struct ctl *ctl, struct ctl_slot *slot)
{
	CTL_STORE(&slot->usage_pages, 0);
	CTL_STORE(&slot->door, 0);
	CTL_STORE(&slot->forks, 0);
	__atomic_fetch_add(&ctl->kin, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < CTL_NR_COUNTERS; i++) {
		uint64_t n = CTL_LOAD(&slot->counter[i]);

		if (n)
			__atomic_fetch_add(&ctl->ended[i], n, __ATOMIC_RELAXED);
		CTL_STORE(&slot->counter[i], 0);
	}
	__atomic_fetch_add(&ctl->ended_fullest_in, CTL_LOAD(&slot->fullest_in),
			   __ATOMIC_RELAXED);
	__atomic_fetch_add(&ctl->ended_fullest_stored, CTL_LOAD(&slot->fullest_stored),
			   __ATOMIC_RELAXED);
	__atomic_fetch_add(&ctl->ended_fullest_resident,
			   CTL_LOAD(&slot->fullest_resident), __ATOMIC_RELAXED);
	CTL_STORE(&slot->fullest_in, 0);
	CTL_STORE(&slot->fullest_stored, 0);
	CTL_STORE(&slot->fullest_resident, 0);
	CTL_STORE(&slot->device_pages, 0);
	CTL_STORE(&slot->device_bytes_in, 0);
	CTL_STORE(&slot->device_bytes_stored, 0);
	CTL_STORE(&slot->device_bytes_resident, 0);
	CTL_STORE(&slot->metadata_bytes, 0);
	CTL_STORE(&slot->probation_pages, 0);
	CTL_STORE(&slot->writer, 0);
	for (size_t i = 0; i < sizeof(slot->name); i++)
		CTL_STORE(&slot->name[i], 0);
}

/*
 * Takes the slot from the process that claim names, for folding. 0: it is not its any
 * more.
 */
static inline int ctl_take(struct ctl_slot *slot, uint64_t claim)
{
	union ctl_owner folder = { .claim = claim };

	folder.pid = CTL_PID_FOLDING;
	return __atomic_compare_exchange_n(&slot->claim, &claim, folder.claim, 0,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/*
 * Folds and frees the slot of a process that has ended. The caller has made sure that it
 * ended, or runs another program, after `claim` was read from the slot. 0: somebody else
 * did it.
 */
static inline int ctl_reap(struct ctl *ctl, struct ctl_slot *slot, uint64_t claim)
{
	union ctl_owner nobody = { .claim = claim };

	if (!ctl_take(slot, claim))
		return 0;
	__atomic_fetch_add(&ctl->ended_processes, 1, __ATOMIC_RELAXED);
	if (CTL_LOAD(&slot->managed) == 1)
		__atomic_fetch_add(&ctl->ended_managed, 1, __ATOMIC_RELAXED);
	if (CTL_LOAD(&slot->managed) == 2)
		__atomic_fetch_add(&ctl->ended_unable, 1, __ATOMIC_RELAXED);
	CTL_STORE(&slot->managed, 0);
	ctl_fold(ctl, slot);
	nobody.pid = 0;
	__atomic_store_n(&slot->claim, nobody.claim, __ATOMIC_RELEASE);
	return 1;
}

/*
 * A zeroed slot for process pid: the one it had before exec, with what that had counted
 * folded, or a free one. NULL when all are taken.
 */
static inline struct ctl_slot *ctl_claim(struct ctl *ctl, uint32_t pid)
{
	uint32_t nr = CTL_LOAD(&ctl->nr_slots);
	union ctl_owner was, mine;

	for (uint32_t i = 0; i < nr; i++) {
		struct ctl_slot *slot = &ctl->slot[i];

		was.claim = CTL_LOAD(&slot->claim);
		if (was.pid != pid || !ctl_take(slot, was.claim))
			continue;
		CTL_STORE(&slot->managed, 0);
		ctl_fold(ctl, slot);
		mine = (union ctl_owner){ .pid = pid, .generation = was.generation + 1 };
		__atomic_store_n(&slot->claim, mine.claim, __ATOMIC_RELEASE);
		return slot;
	}
	for (uint32_t i = 0; i < CTL_SLOTS; i++) {
		struct ctl_slot *slot = &ctl->slot[i];

		was.claim = CTL_LOAD(&slot->claim);
		mine = (union ctl_owner){ .pid = pid, .generation = was.generation + 1 };
		if (was.pid ||
		    !__atomic_compare_exchange_n(&slot->claim, &was.claim, mine.claim, 0,
						 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		while (nr <= i &&
		       !__atomic_compare_exchange_n(&ctl->nr_slots, &nr, i + 1, 0,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
		return slot;
	}
	return NULL;
}

/* By the owner of the slot: what its device holds now. */
static inline void ctl_publish_device(struct ctl_slot *slot, uint64_t pages,
				      uint64_t bytes_in, uint64_t bytes_stored,
				      uint64_t bytes_resident)
{
	CTL_STORE(&slot->device_pages, pages);
	CTL_STORE(&slot->device_bytes_in, bytes_in);
	CTL_STORE(&slot->device_bytes_stored, bytes_stored);
	CTL_STORE(&slot->device_bytes_resident, bytes_resident);
	if (bytes_in <= CTL_LOAD(&slot->fullest_in))
		return;
	CTL_STORE(&slot->fullest_in, bytes_in);
	CTL_STORE(&slot->fullest_stored, bytes_stored);
	CTL_STORE(&slot->fullest_resident, bytes_resident);
}

/*
 * What the tree holds. An account may be below 0 for a moment: a child takes its part of
 * its parent's off it, which may have become less in between.
 */
static inline int64_t ctl_usage_pages(const struct ctl *ctl)
{
	uint32_t nr = CTL_LOAD(&ctl->nr_slots);
	int64_t sum = CTL_LOAD(&ctl->watched_pages);

	for (uint32_t i = 0; i < nr; i++) {
		int64_t pages = CTL_LOAD(&ctl->slot[i].usage_pages);

		sum += pages > 0 ? pages : 0;
	}
	return sum;
}

/* Raises ctl->peak_pages to the sum of usage somebody has seen. */
static inline void ctl_note_peak(struct ctl *ctl, int64_t pages)
{
	int64_t peak = CTL_LOAD(&ctl->peak_pages);

	while (pages > peak &&
	       !__atomic_compare_exchange_n(&ctl->peak_pages, &peak, pages, 0,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/*
 * The same by who does not know which processes have ended since: that the tree holds
 * more than it may is for the supervisor to say.
 */
static inline void ctl_note_usage(struct ctl *ctl, int64_t pages)
{
	int64_t allowed = ctl_allowed_pages(ctl);

	ctl_note_peak(ctl, pages < allowed ? pages : allowed);
}

/* ---- messages --------------------------------------------------------------------- */

/* One line without "uhmm: " and newline; what is too long is cut. Any thread. */
static inline void ctl_message_put(struct ctl *ctl, uint32_t pid, const char *text)
{
	uint32_t n = CTL_LOAD(&ctl->next_message);
	struct ctl_message *message;
	size_t i;

	do {
		if (n - CTL_LOAD(&ctl->taken_message) >= CTL_MESSAGES) {
			__atomic_fetch_add(&ctl->dropped_messages, 1, __ATOMIC_RELAXED);
			return;
		}
	} while (!__atomic_compare_exchange_n(&ctl->next_message, &n, n + 1, 0,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	message = &ctl->message[n % CTL_MESSAGES];
	CTL_STORE(&message->pid, pid);
	for (i = 0; i < sizeof(message->text) - 1 && text[i]; i++)
		CTL_STORE(&message->text[i], text[i]);
	CTL_STORE(&message->text[i], 0);
	__atomic_store_n(&message->ready, n + 1, __ATOMIC_RELEASE);
}

/*
 * By the supervisor: copies the oldest message that is complete and gives its place
 * free. 1, or 0: there is none. One whose writer was killed before it was complete is
 * passed over when skip is set. text has room for sizeof(message->text).
 */
static inline int ctl_message_take(struct ctl *ctl, int skip, uint32_t *pid, char *text)
{
	uint32_t n = CTL_LOAD(&ctl->taken_message);
	struct ctl_message *message = &ctl->message[n % CTL_MESSAGES];
	size_t i;

	while (n != CTL_LOAD(&ctl->next_message) &&
	       __atomic_load_n(&message->ready, __ATOMIC_ACQUIRE) != n + 1) {
		if (!skip)
			return 0;
		CTL_STORE(&ctl->taken_message, ++n);
		message = &ctl->message[n % CTL_MESSAGES];
	}
	if (n == CTL_LOAD(&ctl->next_message))
		return 0;
	*pid = CTL_LOAD(&message->pid);
	for (i = 0; i < sizeof(message->text) - 1; i++)
		text[i] = CTL_LOAD(&message->text[i]);
	text[i] = 0;
	__atomic_store_n(&ctl->taken_message, n + 1, __ATOMIC_RELEASE);
	return 1;
}

#endif

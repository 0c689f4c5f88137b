/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only Linux's os has: how the library is set up in a process. Used by api.c's
 * start-up, the preload and os_linux*.c; not by the core.
 */
#ifndef UHMM_OS_LINUX_H
#define UHMM_OS_LINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * From now on threads are started without libc's knowledge: libc goes on believing that
 * the process is as single-threaded as the program made it (its locks stay cheap,
 * pthread_exit() of the last thread still ends the process, setuid() does not wait for
 * us). Such threads may use nothing of libc but memcpy and its like.
 */
void os_hide_threads(void);

bool os_linux_are_hidden(void);

/*
 * From now on descriptors of ours lie where os_linux_is_own() knows them: the table is
 * the program's. By its only thread, when the process begins: by exec or by fork.
 */
void os_linux_hide_files(void);
/* Takes fd, or an error, and returns where it is then. */
int os_linux_own(int fd);
bool os_linux_is_own(int fd);
/* Could so many be opened? Asked without opening one that the program might have. */
bool os_linux_files_left(unsigned nr);
/*
 * From now on threads that are started here have file tables of their own, in which is
 * only what is ours: a file that one of them opens is not, for a moment, where the
 * program may be about to open one, or to close it. When os_thread_start() returns it is
 * so.
 */
void os_linux_part_files(bool parts);
bool os_linux_files_are_parted(void);
/* As if nothing of this had been: the program's threads use nothing of ours any more. */
void os_linux_show_files(void);
/* The same for the calling thread, one of ours. What it has opened before stays. */
bool os_linux_leave_files(void);
/* One thread has none of those, and what it opens is nobody else's. */
void os_linux_stay_apart(bool apart);
/*
 * What is closed by a thread of ours is still open in the program's table. Those there
 * now; and closes them, by a thread of the program's.
 */
uint64_t os_linux_files_of_program(void);
void os_linux_drop_files(uint64_t files_of_program);
struct os_thread;
/* os_thread_start() of one that has the caller's files. */
int os_linux_thread_start(struct os_thread *thread, void (*fn)(void *arg), void *arg,
			  const char *name);

/* Where handlers have a thread pointer of their own: the program's. NULL: nowhere. */
extern uintptr_t (*os_linux_thread_pointer)(uintptr_t current);

/* Signals that os_block_signals() leaves as they are; SIGBUS, if nobody has set it. */
extern uint64_t os_linux_unblocked;
/*
 * Those which it unblocks: a fault that is delivered inline while SIGBUS is blocked ends
 * the process. Nobody's, where what the program blocks is not what the kernel is told.
 */
extern uint64_t os_linux_accepted;

/* Forgets what os_attach() opened, without closing it. */
void os_detach(void);
void os_close_attached(void);

/* This process's, which costs no system call once it has attached. */
uint32_t os_linux_pid(void);

/* By who is about to start one of ours; false: it has not been started. */
void os_linux_thread_starts(bool starts);
/* By a thread of ours: first of all, and last of all. */
void os_linux_thread_begins(void);
void os_linux_thread_ends(void);
/* Threads of ours; not those that are about to begin, or have not quite ended. */
uint32_t os_linux_threads(void);

/* Unlocks what mlockall() has locked of all reservations, not what os_lock() has. */
void os_linux_unlock_all(void);

/* Is addr inside something os_reserve() returned? */
bool os_is_reserved(uintptr_t addr);

#define OS_PAGE_SIZE ((size_t)1 << 12)

/* Bytes of [start, start + len) from start on that have pages, without a gap. */
size_t os_linux_filled(uintptr_t start, size_t len);

/* Called by os_die() with its message before the process ends. */
extern void (*os_on_die)(const char *message);

/* A file of this process's in /proc, for reading. */
int os_linux_open_self(const char *path, int flags);
/*
 * smaps of this process, which os_attach() opens; -1 before that, and while somebody has
 * it: of two who read it in turn the kernel would find neither's place again if mappings
 * change meanwhile.
 */
int os_linux_borrow_smaps(void);
void os_linux_return_smaps(void);
/* What getdents64() returns, as the kernel has it (include/linux/dirent.h). */
struct dirent_header {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};
/* What sched_setattr() takes (include/uapi/linux/sched/types.h), version 0. */
struct sched_attr_v0 {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};
/* "/proc/PID/name" of a process, 0: of this thread; and what is below that. */
struct os_path {
	char text[64];
	unsigned len;
};
void os_linux_path_of(struct os_path *path, uint32_t pid, const char *name);
void os_linux_path_add(struct os_path *path, const char *text);
void os_linux_path_add_number(struct os_path *path, uint32_t number);
/* Field n of what follows the name in /proc/PID/stat; the first is the state. */
long os_linux_stat_field(const char *at, int n);
/* The number that s begins with; 0: none. */
uint32_t os_linux_number(const char *s);
/* What a file of this process in /proc says, as text; its length, or -errno. */
long os_linux_read_text(const char *path, char *text, size_t size);
/*
 * Calls fn with each number that is a name in that folder of /proc, until it returns what
 * is not 0, which is returned; or -errno.
 */
int os_linux_for_each_number(const char *path, int (*fn)(void *ctx, uint32_t number),
			     void *ctx);
/*
 * How many filters there are on the system calls (seccomp) of a thread of this process,
 * 0: the caller's. Each has at least those that it began with, and none is ever taken
 * away. INT_MAX: it may do next to nothing. -1: it is not known.
 */
int os_linux_filters(uint32_t tid);
/* Who traces a thread of this process, 0: the caller; 0: nobody that we may know of. */
uint32_t os_linux_tracer(uint32_t tid);
/* The number that *s begins with, in hexadecimal; *s is what follows it. */
uintptr_t os_linux_hex(const char **s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of what the program does at once is kept. Far more than it does; but what
 * comes at the end of each has to be right too, so tests/sim also runs the library with
 * so little that it comes there (UHMM_SMALL_LIMITS).
 */
#ifndef UHMM_LIMITS_H
#define UHMM_LIMITS_H

#ifdef UHMM_SMALL_LIMITS
#define LIMIT(usual_, small_) small_
#else
#define LIMIT(usual_, small_) usual_
#endif

/* Faults that wait for memory: at least as many as threads that fault at once. */
#define PARKED_MAX LIMIT(4096, 2)
/* What is done to the memory of a space that fork() has frozen. */
#define FROZEN_MAX LIMIT(65536u, 256u)
/*
 * Events applied together, and faults read along: more than threads that raise them at
 * once.
 */
#define EVENTS_MAX LIMIT(8192u, 64u)
/* Children of raw clones that are read of before one is filled. */
#define EVENT_CHILDREN_MAX LIMIT(1024u, 8u)
/*
 * Runs that streams brought: with streams at their full pace, a twentieth of 5 GiB. Of
 * runs as short as they may be, of 320 MiB; the rest is the hand's.
 */
#define RECENT_MAX LIMIT(1024u, 4u)
/* Messages of one read. */
#define MESSAGE_BATCH LIMIT(32u, 2u)
/* Faults of one thread in a row, after which it is one that faults hard. */
#define HARD_FAULTS LIMIT(64u, 2u)
/* Pages that are moved down where a tier is full: see tier.h. */
#define TIER_MOVE_MAX LIMIT(64u, 3u)
/* Pages in a row, on average, that are worth as many interrupts as there are rows. */
#define TOGETHER LIMIT(8u, 512u)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folios in migrations: COMPOUND items. Such an item stands for CHUNK_PAGES of them, the
 * others are 0, as long as its source is one. When events of the program concern a part
 * of it that is split (lib/folio.h) without the migration's knowledge: so before it does
 * anything with a COMPOUND item it looks, and goes on page by page if it was.
 */
#ifndef UHMM_MIGRATION_FOLIO_H
#define UHMM_MIGRATION_FOLIO_H

#include "lib/migration.h"

/*
 * Setup, at the first item of a whole chunk: true if it is taken as one, or a hole that
 * could be one. m: what was asked for. The world is not entered.
 */
bool migration_collect_folio(struct migration *mg, size_t at,
			     const struct uhmm_migrate *m);
/* Setup, where chunks are not to be taken whole: what is on a page map becomes pages. */
void migration_split_folio(struct migration *mg, uintptr_t addr,
			   const struct uhmm_migrate *m);

/* What an item of a folio leaves over, to be seen to outside the gate. */
struct folio_rest {
	unsigned nr_drop;
	uhmm_pfn_t drop[2];
	uintptr_t back;   /* the folio to be moved back to the program; 0: none */
	uintptr_t wanted; /* whose sleepers must be woken; 0: nobody's */
};

/*
 * Commit of a COMPOUND item; dst is what the caller wants for it, any whether there is
 * something in dst[] for any of its pages. The world is entered. False: it is single
 * items now, which may have their destinations.
 */
bool migration_commit_folio(struct migration *mg, size_t at, uhmm_pfn_t dst, bool any,
			    struct folio_rest *rest);
/* Finalize, the gate entered. The same. */
bool migration_settle_folio(struct migration *mg, size_t at, struct folio_rest *rest);
/* The world is entered. */
void migration_folio_rest(struct uhmm_space *sp, const struct folio_rest *rest);

/* A folio that a migration may have as a destination: got or allocated, and not used. */
bool migration_folio_is_destination(struct uhmm_space *sp, uhmm_pfn_t dst);
/* Frees such a folio, or a source that is not needed any more. */
void migration_folio_drop(struct uhmm_space *sp, uhmm_pfn_t pfn);

#endif

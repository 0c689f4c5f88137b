/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mirror's page table: what a device may use of the program's pages, and where it is.
 * A tree of four levels, of which there is only what has an entry.
 *
 * Used under the lock of the mirror, on threads of the library too: nothing is allocated
 * there. Nodes come from a store of spare ones, which table_reserve() fills without the
 * lock.
 */
#ifndef COMPAT_DMIRROR_TABLE_H
#define COMPAT_DMIRROR_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE ((uintptr_t)4096)
#define PAGE_SHIFT 12

/* payload << 12 | flags; 0: none */
typedef uint64_t entry_t;

#define ENTRY_WRITE UINT64_C(0x1)     /* the device may write too */
#define ENTRY_MEMORY UINT64_C(0x2)    /* at the program's own address */
#define ENTRY_DEVICE UINT64_C(0x4)    /* payload: page of the mirror's private device */
#define ENTRY_EXCLUSIVE UINT64_C(0x8) /* payload: address of the bytes */

static inline uint64_t entry_payload(entry_t e)
{
	return e >> PAGE_SHIFT;
}

struct node;

struct table {
	struct node *root;
	struct node *spare;
	size_t nr_spare;
	struct slab *slab; /* where nodes come from */
};

entry_t table_get(const struct table *t, uintptr_t addr);
/* The first entry of [*addr, end), and where it is; 0: there is none. */
entry_t table_next(const struct table *t, uintptr_t *addr, uintptr_t end);
/* False: no node was left, and nothing has changed. */
bool table_set(struct table *t, uintptr_t addr, entry_t e);
/* Forgets the pages of [start, end), of which some may lie outside what can be mapped. */
void table_erase(struct table *t, uintptr_t start, uintptr_t end);

/* How many nodes nr_pages entries in a row may need. */
size_t table_nodes(size_t nr_pages);
/* Memory for nodes, or NULL; not under the lock. */
struct slab *table_slab(size_t nr_nodes);
/* Under the lock: they are spare ones now. */
void table_add(struct table *t, struct slab *slab);
/* Nobody else uses it any more. */
void table_fini(struct table *t);

#endif

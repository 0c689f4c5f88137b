/* SPDX-License-Identifier: Apache-2.0 */
/* See table.h. A node without entries is spare at once. */
#include "compat/dmirror/table.h"

#include <string.h>

#include "uhmm/device.h"

#define LEVELS 4
#define SLOT_BITS 9
#define SLOTS (1u << SLOT_BITS)
/* Addresses of programs end there. */
#define LAST_PAGE ((UINT64_C(1) << (LEVELS * SLOT_BITS)) - 1)

struct node {
	uint64_t slot[SLOTS]; /* a node below, or in the last level an entry */
	uint32_t used;        /* slots that are not 0 */
	struct node *next;    /* of the spare ones */
};

struct slab {
	struct slab *next;
	size_t size, nr;
	struct node node[];
};

static unsigned slot_of(uint64_t page, unsigned level)
{
	return page >> (level * SLOT_BITS) & (SLOTS - 1);
}

static struct node *below(const struct node *n, unsigned slot)
{
	return (struct node *)(uintptr_t)n->slot[slot];
}

/* ---- nodes ------------------------------------------------------------------------ */

static struct node *node_take(struct table *t)
{
	struct node *n = t->spare;

	t->spare = n->next;
	t->nr_spare--;
	memset(n, 0, sizeof(*n));
	return n;
}

static void node_give(struct table *t, struct node *n)
{
	n->next = t->spare;
	t->spare = n;
	t->nr_spare++;
}

size_t table_nodes(size_t nr_pages)
{
	/* A run may begin and end in the middle of a node of each level. */
	return nr_pages / SLOTS + nr_pages / SLOTS / SLOTS + 2 * LEVELS;
}

struct slab *table_slab(size_t nr_nodes)
{
	size_t size = sizeof(struct slab) + nr_nodes * sizeof(struct node);
	struct slab *slab = uhmm_host_map(size);

	if (slab) {
		slab->size = size;
		slab->nr = nr_nodes;
	}
	return slab;
}

void table_add(struct table *t, struct slab *slab)
{
	size_t i;

	slab->next = t->slab;
	t->slab = slab;
	for (i = 0; i < slab->nr; i++)
		node_give(t, &slab->node[i]);
}

void table_fini(struct table *t)
{
	struct slab *slab;

	while ((slab = t->slab)) {
		t->slab = slab->next;
		uhmm_host_unmap(slab, slab->size);
	}
	*t = (struct table){ 0 };
}

/* ---- entries ---------------------------------------------------------------------- */

entry_t table_get(const struct table *t, uintptr_t addr)
{
	uint64_t page = addr >> PAGE_SHIFT;
	const struct node *n = page <= LAST_PAGE ? t->root : NULL;
	unsigned level;

	for (level = LEVELS - 1; n && level; level--)
		n = below(n, slot_of(page, level));
	return n ? n->slot[slot_of(page, 0)] : 0;
}

/* Over what has no node at once: a range may be all there is. */
entry_t table_next(const struct table *t, uintptr_t *addr, uintptr_t end)
{
	uint64_t page = *addr >> PAGE_SHIFT, last = (end - 1) >> PAGE_SHIFT;
	const struct node *n;
	unsigned level;
	entry_t e;

	last = last < LAST_PAGE ? last : LAST_PAGE;
	while (t->root && page <= last) {
		n = t->root;
		for (level = LEVELS - 1; level && n->slot[slot_of(page, level)]; level--)
			n = below(n, slot_of(page, level));
		e = level ? 0 : n->slot[slot_of(page, 0)];
		if (e) {
			*addr = page << PAGE_SHIFT;
			return e;
		}
		page = ((page >> level * SLOT_BITS) + 1) << level * SLOT_BITS;
	}
	return 0;
}

bool table_set(struct table *t, uintptr_t addr, entry_t e)
{
	uint64_t page = addr >> PAGE_SHIFT, *slot;
	struct node *n;
	unsigned level;

	if (page > LAST_PAGE || t->nr_spare < LEVELS)
		return false;
	if (!t->root)
		t->root = node_take(t);
	n = t->root;
	for (level = LEVELS - 1; level; level--) {
		slot = &n->slot[slot_of(page, level)];
		if (!*slot) {
			*slot = (uintptr_t)node_take(t);
			n->used++;
		}
		n = (struct node *)(uintptr_t)*slot;
	}
	slot = &n->slot[slot_of(page, 0)];
	n->used += !*slot;
	*slot = e;
	return true;
}

/* Pages first to last of what lies below n, counted from n's own first page. */
static void erase(struct table *t, struct node *n, unsigned level, uint64_t first,
		  uint64_t last)
{
	unsigned shift = level * SLOT_BITS, slot;
	uint64_t whole = (UINT64_C(1) << shift) - 1, from, to;
	struct node *sub;

	for (slot = first >> shift; slot <= last >> shift && n->used; slot++) {
		if (!n->slot[slot])
			continue;
		if (level) {
			sub = below(n, slot);
			from = slot == first >> shift ? first & whole : 0;
			to = slot == last >> shift ? last & whole : whole;
			erase(t, sub, level - 1, from, to);
			if (sub->used)
				continue;
			node_give(t, sub);
		}
		n->slot[slot] = 0;
		n->used--;
	}
}

void table_erase(struct table *t, uintptr_t start, uintptr_t end)
{
	uint64_t first = start >> PAGE_SHIFT, last = (end - 1) >> PAGE_SHIFT;

	if (start >= end || !t->root || first > LAST_PAGE)
		return;
	erase(t, t->root, LEVELS - 1, first, last < LAST_PAGE ? last : LAST_PAGE);
	if (!t->root->used) {
		node_give(t, t->root);
		t->root = NULL;
	}
}

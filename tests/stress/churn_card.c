/* SPDX-License-Identifier: Apache-2.0 */
/* torture: a device with memory of its own. See churn_card.h. */
#include "churn_card.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "churn.h"
#include "uhmm/device.h"

#define FOLIO UHMM_FOLIO_PAGES

enum use { FREE = 0, SINGLE, HEAD, TAIL };

static const char owner[] = "torture";

/* ---- which page is what ----------------------------------------------------------- */

static uint8_t use_of(const struct card *card, uint64_t page)
{
	if (page >= CARD_PAGES)
		fail("the card has no page %llu", (unsigned long long)page);
	return __atomic_load_n(&card->use[page], __ATOMIC_ACQUIRE);
}

static void set_use(struct card *card, uint64_t page, unsigned nr, uint8_t use)
{
	while (nr--)
		__atomic_store_n(&card->use[page++], use, __ATOMIC_RELEASE);
}

static uhmm_pfn_t card_get(struct card *card, bool folio)
{
	unsigned nr = folio ? FOLIO : 1, i;
	uint64_t page;
	uhmm_pfn_t pfn;
	int r;

	/* Some of those that may be free: a full card refuses soon. */
	for (i = 0; i < (folio ? CARD_FOLIOS : 64); i++) {
		page = __atomic_fetch_add(&card->next, nr, __ATOMIC_RELAXED) / nr * nr %
		       CARD_PAGES;
		r = folio ? uhmm_folio_get(card->map, page, &pfn) :
			    uhmm_page_get(card->map, page, &pfn);
		if (r == -EBUSY || (folio && r == -EINVAL && !card->page))
			continue;
		if (r)
			fail("page %llu of the card: %d", (unsigned long long)page, r);
		if (use_of(card, page) != FREE)
			fail("page %llu of the card is not free",
			     (unsigned long long)page);
		set_use(card, page, nr, folio ? TAIL : SINGLE);
		set_use(card, page, 1, folio ? HEAD : SINGLE);
		return pfn;
	}
	return 0;
}

/* ---- what the library asks of it -------------------------------------------------- */

/*
 * In a child the parent's threads may have been anywhere between getting a page and
 * writing down what it is. No page of the card is got there.
 */
static void must_be(const struct card *card, uint64_t page, bool is, const char *what)
{
	if (!is && getpid() == card->pid)
		fail("page %llu of the card is %u, and is to be %s",
		     (unsigned long long)page, use_of(card, page), what);
}

static int copy_to_ram(void *ctx, uint64_t page, void *buf)
{
	struct card *card = ctx;

	must_be(card, page, use_of(card, page) != FREE, "fetched");
	memcpy(buf, card->page[page], PAGE);
	return 0;
}

static int copy_folio_to_ram(void *ctx, uint64_t head, void *buf)
{
	struct card *card = ctx;

	must_be(card, head, use_of(card, head) == HEAD, "fetched as a folio");
	memcpy(buf, card->page[head], FOLIO * PAGE);
	return 0;
}

static void page_free(void *ctx, uint64_t page)
{
	struct card *card = ctx;
	uint8_t use = use_of(card, page);
	unsigned nr = use == HEAD ? FOLIO : 1;

	must_be(card, page, use == HEAD || use == SINGLE, "freed");
	if (card->page)
		memset(card->page[page], 0xdb, nr * PAGE);
	set_use(card, page, nr, FREE);
}

static void folio_split(void *ctx, uint64_t head)
{
	struct card *card = ctx;

	must_be(card, head, use_of(card, head) == HEAD, "split");
	set_use(card, head, FOLIO, SINGLE);
}

struct card *card_open(struct uhmm_space *space, bool coherent)
{
	struct uhmm_pagemap_ops ops = {
		.size = sizeof(ops),
		.copy_to_ram = coherent ? NULL : copy_to_ram,
		.copy_folio_to_ram = coherent ? NULL : copy_folio_to_ram,
		.page_free = page_free,
		.folio_split = folio_split,
	};
	struct uhmm_pagemap_config config = {
		.size = sizeof(config),
		.nr_pages = CARD_PAGES,
		.owner = owner,
		.ops = &ops,
		.type = coherent ? UHMM_PAGEMAP_COHERENT : UHMM_PAGEMAP_PRIVATE,
	};
	struct card *card = uhmm_host_map(sizeof(*card));
	int r;

	if (!card)
		fail("no memory for a card");
	card->space = space;
	card->pid = getpid();
	config.ctx = card;
	if (!coherent && !(card->page = uhmm_host_map(CARD_PAGES * PAGE)))
		fail("no memory for a card");
	r = uhmm_pagemap_register(space, &config, &card->map);
	if (r)
		fail("uhmm_pagemap_register: %d", r);
	return card;
}

void card_close(struct card *card)
{
	uint64_t page, first = 0, nr = 0;

	for (page = CARD_PAGES; page-- > 0;)
		if (card->use[page] != FREE) {
			first = page;
			nr++;
		}
	if (nr)
		fail("%llu pages of the card were never freed, the first is %llu, a %u",
		     (unsigned long long)nr, (unsigned long long)first, card->use[first]);
	if (card->page)
		uhmm_host_unmap(card->page, CARD_PAGES * PAGE);
	uhmm_host_unmap(card, sizeof(*card));
}

/* ---- moving pages ----------------------------------------------------------------- */

static void *bytes_of(struct card *card, uhmm_pfn_t pfn)
{
	uint64_t page;

	if (card->page && uhmm_pfn_pagemap(card->space, pfn, &page) == card->map)
		return card->page[page];
	return uhmm_pfn_bytes(card->space, pfn);
}

static uhmm_pfn_t get(struct card *card, bool to_memory, bool folio)
{
	uhmm_pfn_t pfn = 0;

	if (!to_memory)
		return card_get(card, folio);
	if (folio)
		return uhmm_folio_alloc(card->space, &pfn) ? 0 : pfn;
	return uhmm_page_alloc(card->space, &pfn, 1) == 1 ? pfn : 0;
}

/* Pages of one element of src, from `at` of it on. */
static uhmm_pfn_t copy(struct card *card, uhmm_pfn_t src, size_t at, bool to_memory,
		       bool folio)
{
	uhmm_pfn_t dst = get(card, to_memory, folio);
	size_t len = folio ? FOLIO * PAGE : PAGE;

	if (dst && uhmm_pfn_is_valid(src))
		memcpy(bytes_of(card, dst), (char *)bytes_of(card, src) + at * PAGE, len);
	else if (dst)
		memset(bytes_of(card, dst), 0, len);
	return dst;
}

static void copy_one(struct card *card, struct card_move *cm, size_t i, bool to_memory)
{
	uhmm_pfn_t src = cm->src[i];
	size_t n;

	if (!(src & UHMM_PFN_COMPOUND)) {
		cm->dst[i] = copy(card, src, 0, to_memory, false);
		return;
	}
	cm->dst[i] = copy(card, src, 0, to_memory, true);
	for (n = 0; !(cm->dst[i] & UHMM_PFN_COMPOUND) && n < FOLIO; n++)
		cm->dst[i + n] = copy(card, src, n, to_memory, false);
}

/* One in eight is set up, copied, and given back as it was. */
static uint64_t move_end(struct card *card, struct card_move *cm, uint64_t how,
			 bool to_memory)
{
	uint64_t moved = 0;
	size_t i;
	int r;

	for (i = 0; i < cm->m.npages; i++)
		if (cm->src[i] & UHMM_PFN_MIGRATE && (how >> i % 8 & 7) != 7)
			copy_one(card, cm, i, to_memory);
	if ((how >> 40 & 7) != 0) {
		r = uhmm_migrate_pages(card->space, &cm->m);
		if (r)
			fail("uhmm_migrate_pages: %d", r);
		for (i = 0; i < cm->m.npages; i++)
			if (cm->src[i] & UHMM_PFN_MIGRATE)
				moved += cm->src[i] & UHMM_PFN_COMPOUND ? FOLIO : 1;
	} else {
		__atomic_fetch_add(&card->rollbacks, 1, __ATOMIC_RELAXED);
	}
	r = uhmm_migrate_finalize(card->space, &cm->m);
	if (r)
		fail("uhmm_migrate_finalize: %d", r);
	__atomic_fetch_add(&card->moves, moved, __ATOMIC_RELAXED);
	return moved;
}

uint64_t card_move(struct card *card, struct card_move *cm, uintptr_t start,
		   uintptr_t end, uint64_t how)
{
	bool to_memory = how >> 50 & 1;
	uint32_t from = card->page ? UHMM_SELECT_DEVICE_PRIVATE :
				     UHMM_SELECT_DEVICE_COHERENT;
	int r;

	if (end - start > CARD_MOVE_PAGES * PAGE)
		end = start + CARD_MOVE_PAGES * PAGE;
	cm->m = (struct uhmm_migrate){
		.size = sizeof(cm->m),
		.start = start,
		.end = end,
		.src = cm->src,
		.dst = cm->dst,
		.owner = owner,
		.flags = (to_memory ? from : UHMM_SELECT_SYSTEM) |
			 (how >> 51 & 1 ? UHMM_SELECT_COMPOUND : 0),
	};
	r = uhmm_migrate_setup(card->space, &cm->m);
	if (r == -EINVAL) /* by now it may not be one mapping */
		return 0;
	if (r)
		fail("uhmm_migrate_setup: %d", r);
	return move_end(card, cm, how, to_memory);
}

uint64_t card_take_back(struct card *card, struct card_move *cm, uint64_t how)
{
	size_t nr = 1 + how % CARD_MOVE_PAGES;
	int r;

	cm->m = (struct uhmm_migrate){
		.size = sizeof(cm->m),
		.src = cm->src,
		.dst = cm->dst,
		.flags = how >> 51 & 1 ? UHMM_SELECT_COMPOUND : 0,
	};
	r = uhmm_migrate_device_range(card->map, (how >> 16) % (CARD_PAGES - nr + 1), nr,
				      &cm->m);
	if (r)
		fail("uhmm_migrate_device_range: %d", r);
	__atomic_fetch_add(&card->evictions, 1, __ATOMIC_RELAXED);
	return move_end(card, cm, how, true);
}

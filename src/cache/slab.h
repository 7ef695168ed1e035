/* The memory of a shard's stored objects, up to an exact budget.
 *
 * Regions of SLAB_REGION_BYTES are mapped as they are needed and cut into pages of SLAB_PAGE_BYTES; a page is
 * SLAB_UNITS_PER_PAGE units of SLAB_UNIT_BYTES and one word that says which of them are taken. The addresses of all
 * regions are reserved at once, an eighth more than the budget, so that a piece's page record is found by arithmetic
 * and what is mapped is bounded however the free units lie:
 *
 *   region ─▶ | page | page | … |        page ─▶ |u|u|u|…|  64 units of 256 B
 *                                        taken:  0b…110111    an allocation is a run of ones
 *
 * There are no size classes, so that memory freed by one size serves every other: pages stand on lists by their longest
 * free run. An allocation asks for what it would like and for the least that is of use; a body takes what it can
 * get, piece by piece, and so never fails while units are free. What is charged is what is allocated: units, and the
 * bookkeeping of the pages mapped.
 *
 * Not thread-safe: one owner. A page that is read by others is protected by their epochs and pins (qsbr.h), of which
 * this knows nothing. */
#ifndef SLUICE_CACHE_SLAB_H
#define SLUICE_CACHE_SLAB_H

#include "base/list.h"
#include "base/result.h"
#include "cache/chunk.h"

enum {
    SLAB_REGION_BYTES = 1 << 20,
    SLAB_PAGE_BYTES = 16384,
    SLAB_UNIT_BYTES = 256,
    SLAB_UNITS_PER_PAGE = SLAB_PAGE_BYTES / SLAB_UNIT_BYTES,
    SLAB_PIECE_BYTES_MAX = SLAB_PAGE_BYTES - sizeof(struct chunk), /* what one piece can hold */
};

_Static_assert(SLAB_UNITS_PER_PAGE == 64, "a page's units are the bits of one word");

struct slab_region;

struct slab {
    size_t bytes_max;     /* the budget */
    size_t charged_bytes; /* allocated, and what the bookkeeping takes; never above bytes_max */
    size_t mapped_bytes;
    struct list_node pages[SLAB_UNITS_PER_PAGE + 1]; /* by longest free run */
    uint64_t runs;                                   /* bit n - 1: pages[n] is not empty */
    struct slab_region *regions;                     /* records, by place */
    char *base;                                      /* of the addresses reserved; NULL: not yet */
    size_t regions_max;                              /* that addresses are reserved for */
    size_t regions_begun;                            /* that have ever been mapped: the first ones */
    struct list_node empty;                          /* regions without a taken unit */
    struct list_node absent;                         /* regions given back to the system */
};

/* Starts empty; maps nothing yet. */
void slab_init(struct slab *slab, size_t bytes_max);

/* Unmaps everything. */
void slab_fini(struct slab *slab);

/* *Gives* a piece that can hold at least `bytes_min` and, if there is one, `bytes_wanted` (both at most
 * SLAB_PIECE_BYTES_MAX): chunk_capacity says how much it is. used_bytes is 0 and next NULL. NULL: it would go over the
 * budget, no page has a run as long as bytes_min, or the system has no memory. */
struct chunk *slab_alloc(struct slab *slab, size_t bytes_wanted, size_t bytes_min);

/* Frees one piece; a region that is empty for good goes back to the system with slab_trim. */
void slab_free(struct slab *slab, struct chunk *piece);

/* Gives at most `regions` empty regions back to the system, and never the last of them; true while there are more. */
bool slab_trim(struct slab *slab, unsigned regions);

/* What the bookkeeping of one region is charged. */
size_t slab_region_cost_bytes(void);

#endif

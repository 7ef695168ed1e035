#include "cache/slab.h"

#include <sys/mman.h>

#include "base/check.h"
#include "cache/poison.h"

enum { PAGES_PER_REGION = SLAB_REGION_BYTES / SLAB_PAGE_BYTES };

struct slab_page {
    struct list_node node; /* in the list of its longest free run */
    uint64_t taken;
};

struct slab_region {
    struct list_node node; /* in slab.empty or slab.absent */
    uint32_t taken_units;
    struct slab_page pages[PAGES_PER_REGION];
};

/* A run of free units within a page. */
struct run {
    unsigned at;
    unsigned units;
};

size_t slab_region_cost_bytes(void)
{
    return sizeof(struct slab_region);
}

static size_t regions_max(const struct slab *slab)
{
    size_t regions = slab->bytes_max / SLAB_REGION_BYTES;
    return regions + regions / 8 + 2;
}

void slab_init(struct slab *slab, size_t bytes_max)
{
    *slab = (struct slab){.bytes_max = bytes_max};
    slab->regions_max = regions_max(slab);
    for (size_t i = 0; i < ARRAY_COUNT(slab->pages); i++) {
        list_init(&slab->pages[i]);
    }
    list_init(&slab->empty);
    list_init(&slab->absent);
}

void slab_fini(struct slab *slab)
{
    if (slab->base != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(slab->base, slab->regions_begun * SLAB_REGION_BYTES);
        munmap(slab->base, slab->regions_max * SLAB_REGION_BYTES);
        munmap(slab->regions, slab->regions_max * sizeof(struct slab_region));
    }
    slab_init(slab, 0);
}

/* ---- runs of units */

/* The first run of a word's ones at or above bit `from`; false when there is none. */
static bool next_run(uint64_t ones, unsigned from, struct run *ret_run)
{
    uint64_t left = from < SLAB_UNITS_PER_PAGE ? ones & (UINT64_MAX << from) : 0;
    if (left == 0) {
        return false;
    }
    unsigned at = (unsigned)__builtin_ctzll(left);
    uint64_t zeros = ~(ones >> at);
    *ret_run = (struct run){at, zeros == 0 ? SLAB_UNITS_PER_PAGE : (unsigned)__builtin_ctzll(zeros)};
    return true;
}

static unsigned longest_run(uint64_t ones)
{
    unsigned longest = 0;
    struct run run = {0, 0};
    while (next_run(ones, run.at + run.units, &run)) {
        longest = run.units > longest ? run.units : longest;
    }
    return longest;
}

/* Where the shortest run of at least `units` begins; there is one. */
static unsigned best_run_at(uint64_t ones, unsigned units)
{
    struct run best = {0, SLAB_UNITS_PER_PAGE + 1};
    struct run run = {0, 0};
    while (next_run(ones, run.at + run.units, &run)) {
        if (run.units >= units && run.units < best.units) {
            best = run;
        }
    }
    CHECK(best.units <= SLAB_UNITS_PER_PAGE);
    return best.at;
}

static uint64_t mask_of(unsigned at, unsigned units)
{
    return (UINT64_MAX >> (SLAB_UNITS_PER_PAGE - units)) << at;
}

/* ---- pages on their lists */

static void page_file(struct slab *slab, struct slab_page *page)
{
    unsigned longest = longest_run(~page->taken);
    list_push_front(&slab->pages[longest], &page->node);
    if (longest > 0) {
        slab->runs |= UINT64_C(1) << (longest - 1);
    }
}

static void page_unfile(struct slab *slab, struct slab_page *page)
{
    unsigned longest = longest_run(~page->taken);
    list_remove(&page->node);
    if (longest > 0 && list_is_empty(&slab->pages[longest])) {
        slab->runs &= ~(UINT64_C(1) << (longest - 1));
    }
}

/* The page of the shortest run that holds *units; else that of the longest with at least `units_min`, and *units is
 * what it has. */
static struct slab_page *page_with_run(struct slab *slab, unsigned *units, unsigned units_min)
{
    uint64_t enough = slab->runs & (UINT64_MAX << (*units - 1));
    uint64_t of_use = slab->runs & (UINT64_MAX << (units_min - 1));
    if (of_use == 0) {
        return NULL;
    }
    unsigned run = SLAB_UNITS_PER_PAGE - (unsigned)__builtin_clzll(of_use);
    if (enough != 0) {
        run = (unsigned)__builtin_ctzll(enough) + 1;
    } else {
        *units = run;
    }
    return CONTAINER_OF(slab->pages[run].next, struct slab_page, node);
}

/* ---- regions */

static bool slab_reserve(struct slab *slab)
{
    size_t bytes = slab->regions_max * SLAB_REGION_BYTES;
    void *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return false;
    }
    void *records = mmap(NULL, slab->regions_max * sizeof(struct slab_region), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (records == MAP_FAILED) {
        munmap(base, bytes);
        return false;
    }
    slab->base = base;
    slab->regions = records;
    return true;
}

static char *region_memory(const struct slab *slab, const struct slab_region *region)
{
    return slab->base + (size_t)(region - slab->regions) * SLAB_REGION_BYTES;
}

/* A region that is not mapped: one given back, which only has to be touched, or the next. */
static struct slab_region *region_absent(struct slab *slab)
{
    struct list_node *node = list_pop_front(&slab->absent);
    if (node != NULL) {
        return CONTAINER_OF(node, struct slab_region, node);
    }
    if (slab->regions_begun == slab->regions_max) {
        return NULL;
    }
    struct slab_region *region = &slab->regions[slab->regions_begun];
    if (mprotect(region_memory(slab, region), SLAB_REGION_BYTES, PROT_READ | PROT_WRITE) != 0) {
        return NULL;
    }
    slab->regions_begun++;
    ASAN_POISON_MEMORY_REGION(region_memory(slab, region), SLAB_REGION_BYTES);
    return region;
}

static bool slab_grow(struct slab *slab)
{
    if (slab->base == NULL && !slab_reserve(slab)) {
        return false;
    }
    struct slab_region *region = region_absent(slab);
    if (region == NULL) {
        return false;
    }
    slab->mapped_bytes += SLAB_REGION_BYTES;
    slab->charged_bytes += sizeof(*region);
    region->taken_units = 0;
    list_init(&region->node);
    list_push_back(&slab->empty, &region->node);
    for (unsigned i = PAGES_PER_REGION; i > 0; i--) { /* so that the lowest is in front */
        region->pages[i - 1].taken = 0;
        page_file(slab, &region->pages[i - 1]);
    }
    return true;
}

bool slab_trim(struct slab *slab, unsigned regions)
{
    while (!list_is_empty(&slab->empty) && slab->empty.next->next != &slab->empty) {
        if (regions-- == 0) {
            return true;
        }
        struct slab_region *region = CONTAINER_OF(list_pop_front(&slab->empty), struct slab_region, node);
        for (unsigned i = 0; i < PAGES_PER_REGION; i++) {
            page_unfile(slab, &region->pages[i]);
        }
        /* It stays writable, so that regions that come and go do not cut the reservation into many mappings. */
        madvise(region_memory(slab, region), SLAB_REGION_BYTES, MADV_DONTNEED);
        list_push_front(&slab->absent, &region->node);
        slab->mapped_bytes -= SLAB_REGION_BYTES;
        slab->charged_bytes -= sizeof(*region);
    }
    return false;
}

/* ---- pieces */

static unsigned units_for(size_t bytes)
{
    return (unsigned)((sizeof(struct chunk) + bytes + SLAB_UNIT_BYTES - 1) / SLAB_UNIT_BYTES);
}

/* How many units the budget has left, up to a page's. */
static unsigned units_affordable(const struct slab *slab, size_t extra_bytes)
{
    if (slab->charged_bytes + extra_bytes >= slab->bytes_max) {
        return 0;
    }
    size_t units = (slab->bytes_max - slab->charged_bytes - extra_bytes) / SLAB_UNIT_BYTES;
    return units < SLAB_UNITS_PER_PAGE ? (unsigned)units : SLAB_UNITS_PER_PAGE;
}

static struct slab_region *region_of(const struct slab *slab, const struct slab_page *page)
{
    return &slab->regions[(size_t)((const char *)page - (const char *)slab->regions) / sizeof(struct slab_region)];
}

/* Takes the best run of `units` from a page that has one. */
static struct chunk *page_take(struct slab *slab, struct slab_page *page, unsigned units)
{
    struct slab_region *region = region_of(slab, page);
    unsigned at = best_run_at(~page->taken, units);
    page_unfile(slab, page);
    page->taken |= mask_of(at, units);
    page_file(slab, page);
    list_remove(&region->node); /* if it was empty */
    region->taken_units += units;
    slab->charged_bytes += (size_t)units * SLAB_UNIT_BYTES;
    char *memory = region_memory(slab, region) + (size_t)(page - region->pages) * SLAB_PAGE_BYTES;
    return (struct chunk *)(void *)(memory + (size_t)at * SLAB_UNIT_BYTES);
}

struct chunk *slab_alloc(struct slab *slab, size_t bytes_wanted, size_t bytes_min)
{
    CHECK(bytes_min <= bytes_wanted && bytes_wanted <= SLAB_PIECE_BYTES_MAX);
    unsigned units_min = units_for(bytes_min);
    unsigned units_wanted = units_for(bytes_wanted);
    unsigned affordable = units_affordable(slab, 0);
    if (affordable < units_min) {
        return NULL;
    }
    unsigned units = affordable < units_wanted ? affordable : units_wanted;
    struct slab_page *page = page_with_run(slab, &units, units_min);
    if (page == NULL) {
        affordable = units_affordable(slab, sizeof(struct slab_region));
        if (affordable < units_min || !slab_grow(slab)) {
            return NULL;
        }
        units = affordable < units_wanted ? affordable : units_wanted;
        page = page_with_run(slab, &units, units_min);
    }
    struct chunk *piece = page_take(slab, page, units);
    size_t bytes = (size_t)units * SLAB_UNIT_BYTES;
    ASAN_UNPOISON_MEMORY_REGION(piece, bytes);
    atomic_init(&piece->next, NULL);
    atomic_init(&piece->used_bytes, 0);
    piece->pool = NULL;
    piece->bytes = (uint32_t)bytes;
    piece->hold = (struct hold){0, HOLD_CHUNK};
    return piece;
}

void slab_free(struct slab *slab, struct chunk *piece)
{
    size_t offset = (size_t)((char *)piece - slab->base);
    CHECK(offset < slab->regions_begun * SLAB_REGION_BYTES && piece->pool == NULL);
    struct slab_region *region = &slab->regions[offset / SLAB_REGION_BYTES];
    struct slab_page *page = &region->pages[offset % SLAB_REGION_BYTES / SLAB_PAGE_BYTES];
    unsigned at = (unsigned)(offset % SLAB_PAGE_BYTES / SLAB_UNIT_BYTES);
    unsigned units = piece->bytes / SLAB_UNIT_BYTES;
    uint64_t mask = mask_of(at, units);
    CHECK((page->taken & mask) == mask); /* freed once */
    ASAN_POISON_MEMORY_REGION(piece, piece->bytes);
    page_unfile(slab, page);
    page->taken &= ~mask;
    page_file(slab, page);
    region->taken_units -= units;
    slab->charged_bytes -= (size_t)units * SLAB_UNIT_BYTES;
    if (region->taken_units == 0) {
        list_push_back(&slab->empty, &region->node);
    }
}

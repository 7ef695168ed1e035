/* Who may still be reading, told by one word per worker: the epoch it saw at its last quiescent state, 0 while offline.
 *
 * The epoch counts retirements. Objects of epoch r were unlinked before the counter went from r to r + 1, so a worker
 * that has seen r + 1 can no longer find them, and one that holds them has seen r at most: once every word that is not
 * 0 is above r, they are nobody's. The order this rests on, each pair by its letter in the code:
 *
 * A: retire's fetch_add (release), and quiescent's and online's load of the epoch (acquire). Who sees r + 1 sees what
 * was unlinked before it. The epoch carries the order, so a quiescent state needs no fence: a stale epoch only makes
 * the owner wait. The counter is changed by nothing but read-modify-write, so a later value carries the earlier ones.
 *
 * B: the stores of quiescent, offline and online (release), and passed's load (acquire). What the worker read before,
 * it read before the owner frees; what it pinned before, the owner finds in its table.
 *
 * C: online's fence and passed's fence, both seq_cst (Dekker). The worker stores its epoch, then reads the index; the
 * owner unlinks, then reads the word. One of them comes second: either the owner sees that the worker is back, or the
 * worker sees that the object is gone. So it is the one who unlinked that has to ask what has passed.
 *
 * D: unpin's and pin's store (release), and find_pinned's load (acquire). Who finds another value than the object in
 * the slot comes after the last look at it. A pin needs no fence: it was stored before the quiescent state that the
 * owner waited for (B), and an object is pinned only in the epoch in which it was found, never from another pin, so
 * that none appears behind the scan's back.
 *
 * A worker that comes online may store an epoch that is old by then: what qsbr_passed gives can go down, which is
 * late, not wrong. tests/model/cache_publish.pml is a model of all this.
 *
 * A hazard table is a directory of segments, each as large as all before it, which are never freed before the end, so
 * that a scan meets no memory that goes away:
 *
 *   segments ─▶ | 0..63 | 64..127 | 128..255 | … | 32768..65535 |     slot: pointer, or NULL
 *
 * Memory: 192 bytes a worker, and 12 bytes for each slot of the segments that were ever needed. */
#include "cache/qsbr.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum {
    LINE_BYTES = 64,
    FIRST_BITS = 6, /* of the first segment's number of slots */
    SEGMENTS_MAX = 11,
    SLOTS_MAX = 1 << (FIRST_BITS + SEGMENTS_MAX - 1),
    OFFLINE = 0,
    NO_SLOT = UINT32_MAX,
};

_Static_assert(SLOTS_MAX == 65536, "pins of one worker");

struct hazard_segment {
    uint32_t *next_free; /* the worker's alone: one for each slot, behind them */
    const void *_Atomic slots[];
};

struct qsbr_worker {
    /* written by the worker, read by owners */
    _Alignas(LINE_BYTES) _Atomic uint64_t seen;
    _Atomic uint32_t slots_used; /* slots from here on were never used */
    _Atomic uint32_t pins;
    struct hazard_segment *_Atomic segments[SEGMENTS_MAX];
    /* the worker's alone */
    uint32_t first_free; /* of the slots used before */
};

struct qsbr {
    _Alignas(LINE_BYTES) _Atomic uint64_t epoch;
    _Alignas(LINE_BYTES) unsigned count; /* away from what every retirement writes */
    struct qsbr_worker workers[];
};

struct qsbr *qsbr_create(unsigned count)
{
    size_t bytes = sizeof(struct qsbr) + count * sizeof(struct qsbr_worker);
    struct qsbr *qsbr = aligned_alloc(LINE_BYTES, bytes);
    if (qsbr == NULL) {
        return NULL;
    }
    memset(qsbr, 0, bytes);
    atomic_init(&qsbr->epoch, 1);
    qsbr->count = count;
    for (unsigned i = 0; i < count; i++) {
        atomic_init(&qsbr->workers[i].seen, OFFLINE);
        qsbr->workers[i].first_free = NO_SLOT;
    }
    return qsbr;
}

void qsbr_destroy(struct qsbr *qsbr)
{
    if (qsbr == NULL) {
        return;
    }
    for (unsigned i = 0; i < qsbr->count; i++) {
        for (unsigned segment = 0; segment < SEGMENTS_MAX; segment++) {
            free(atomic_load_explicit(&qsbr->workers[i].segments[segment], memory_order_relaxed));
        }
    }
    free(qsbr);
}

/* ---- epochs */

void qsbr_quiescent(struct qsbr *qsbr, unsigned worker)
{
    uint64_t epoch = atomic_load_explicit(&qsbr->epoch, memory_order_acquire); /* A */
    struct qsbr_worker *self = &qsbr->workers[worker];
    /* The same epoch once more tells nobody anything, and would take the line from the owners that look at it. */
    if (atomic_load_explicit(&self->seen, memory_order_relaxed) != epoch) {
        atomic_store_explicit(&self->seen, epoch, memory_order_release); /* B */
    }
}

void qsbr_offline(struct qsbr *qsbr, unsigned worker)
{
    atomic_store_explicit(&qsbr->workers[worker].seen, OFFLINE, memory_order_release); /* B */
}

void qsbr_online(struct qsbr *qsbr, unsigned worker)
{
    uint64_t epoch = atomic_load_explicit(&qsbr->epoch, memory_order_acquire);       /* A */
    atomic_store_explicit(&qsbr->workers[worker].seen, epoch, memory_order_release); /* B */
    atomic_thread_fence(memory_order_seq_cst);                                       /* C, pairs with qsbr_passed */
}

uint64_t qsbr_retire(struct qsbr *qsbr)
{
    return atomic_fetch_add_explicit(&qsbr->epoch, 1, memory_order_release); /* A */
}

uint64_t qsbr_passed(const struct qsbr *qsbr)
{
    uint64_t oldest = atomic_load_explicit(&qsbr->epoch, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* C, pairs with qsbr_online */
    for (unsigned i = 0; i < qsbr->count; i++) {
        uint64_t seen = atomic_load_explicit(&qsbr->workers[i].seen, memory_order_acquire); /* B */
        if (seen != OFFLINE && seen < oldest) {
            oldest = seen;
        }
    }
    return oldest - 1;
}

/* ---- pins */

static unsigned segment_of(uint32_t slot)
{
    return slot >> FIRST_BITS == 0 ? 0 : 32 - FIRST_BITS - (unsigned)__builtin_clz(slot);
}

static uint32_t segment_start(unsigned segment)
{
    return segment == 0 ? 0 : UINT32_C(1) << (FIRST_BITS + segment - 1);
}

static uint32_t segment_slots(unsigned segment)
{
    return segment == 0 ? UINT32_C(1) << FIRST_BITS : segment_start(segment);
}

static struct hazard_segment *segment_create(unsigned segment)
{
    uint32_t slots = segment_slots(segment);
    struct hazard_segment *made =
        calloc(1, sizeof(*made) + slots * (sizeof(made->slots[0]) + sizeof(made->next_free[0])));
    if (made != NULL) {
        made->next_free = (uint32_t *)(void *)&made->slots[slots];
    }
    return made;
}

/* Takes a slot that was never used. */
static enum result slot_take_new(struct qsbr_worker *self, uint32_t *ret_slot)
{
    uint32_t slot = atomic_load_explicit(&self->slots_used, memory_order_relaxed);
    if (slot == SLOTS_MAX) {
        return RESULT_LIMIT;
    }
    unsigned segment = segment_of(slot);
    if (atomic_load_explicit(&self->segments[segment], memory_order_relaxed) == NULL) {
        struct hazard_segment *made = segment_create(segment);
        if (made == NULL) {
            return RESULT_NO_MEMORY;
        }
        atomic_store_explicit(&self->segments[segment], made, memory_order_relaxed);
    }
    /* Release pairs with find_pinned's acquire: who counts the slot sees its segment. */
    atomic_store_explicit(&self->slots_used, slot + 1, memory_order_release);
    *ret_slot = slot;
    return RESULT_OK;
}

static struct hazard_segment *segment_at(const struct qsbr_worker *self, unsigned segment)
{
    return atomic_load_explicit(&((struct qsbr_worker *)(uintptr_t)self)->segments[segment], memory_order_relaxed);
}

enum result qsbr_pin(struct qsbr *qsbr, unsigned worker, const void *object, uint32_t *ret_slot)
{
    struct qsbr_worker *self = &qsbr->workers[worker];
    uint32_t slot = self->first_free;
    if (slot == NO_SLOT) {
        enum result result = slot_take_new(self, &slot);
        if (result != RESULT_OK) {
            return result;
        }
    } else {
        unsigned segment = segment_of(slot);
        self->first_free = segment_at(self, segment)->next_free[slot - segment_start(segment)];
    }
    unsigned segment = segment_of(slot);
    uint32_t pins = atomic_load_explicit(&self->pins, memory_order_relaxed);
    atomic_store_explicit(&self->pins, pins + 1, memory_order_release);
    atomic_store_explicit(&segment_at(self, segment)->slots[slot - segment_start(segment)], object,
                          memory_order_release); /* D */
    *ret_slot = slot;
    return RESULT_OK;
}

void qsbr_unpin(struct qsbr *qsbr, unsigned worker, uint32_t slot)
{
    struct qsbr_worker *self = &qsbr->workers[worker];
    unsigned segment = segment_of(slot);
    struct hazard_segment *at = segment_at(self, segment);
    uint32_t index = slot - segment_start(segment);
    CHECK(at != NULL && atomic_load_explicit(&at->slots[index], memory_order_relaxed) != NULL);
    atomic_store_explicit(&at->slots[index], NULL, memory_order_release); /* D */
    at->next_free[index] = self->first_free;
    self->first_free = slot;
    uint32_t pins = atomic_load_explicit(&self->pins, memory_order_relaxed);
    atomic_store_explicit(&self->pins, pins - 1, memory_order_release);
}

/* Marks `pinned` among the objects, if it is one of them. */
static void mark_pinned(const void *pinned, const void *const *objects, size_t count, bool *is_pinned)
{
    size_t low = 0;
    while (count > 0) {
        size_t half = count / 2;
        if ((uintptr_t)objects[low + half] < (uintptr_t)pinned) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    is_pinned[low] = is_pinned[low] || objects[low] == pinned;
}

static void scan_table(const struct qsbr_worker *worker, const void *const *objects, size_t count, bool *is_pinned)
{
    /* With the grace period over, 0 pins means that none of the objects has one: each was counted before (B). Any other
     * number says nothing about which they are. */
    if (atomic_load_explicit(&worker->pins, memory_order_acquire) == 0) {
        return;
    }
    uint32_t used = atomic_load_explicit(&worker->slots_used, memory_order_acquire);
    uintptr_t first = (uintptr_t)objects[0];
    uintptr_t last = (uintptr_t)objects[count - 1];
    for (unsigned segment = 0; segment < SEGMENTS_MAX && segment_start(segment) < used; segment++) {
        struct hazard_segment *at = segment_at(worker, segment);
        uint32_t slots = segment_slots(segment);
        uint32_t left = used - segment_start(segment);
        for (uint32_t i = 0; i < slots && i < left; i++) {
            const void *pinned = atomic_load_explicit(&at->slots[i], memory_order_acquire); /* D */
            if ((uintptr_t)pinned >= first && (uintptr_t)pinned <= last) {
                mark_pinned(pinned, objects, count, is_pinned);
            }
        }
    }
}

void qsbr_find_pinned(const struct qsbr *qsbr, const void *const *objects, size_t count, bool *is_pinned)
{
    if (count == 0) {
        return;
    }
    memset(is_pinned, 0, count * sizeof(is_pinned[0]));
    for (unsigned i = 0; i < qsbr->count; i++) {
        scan_table(&qsbr->workers[i], objects, count, is_pinned);
    }
}

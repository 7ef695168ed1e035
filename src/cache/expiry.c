#include "cache/expiry.h"

enum {
    SLOT_BITS = 6,
    REWIND_TICKS = 60, /* a clock that goes back by less only delays what is due by as much */
};

_Static_assert(EXPIRY_SLOTS == 1 << SLOT_BITS, "a level's slots are the bits of one word");

void expiry_init(struct expiry *expiry)
{
    expiry->now_tick = 0;
    list_init(&expiry->due);
    for (unsigned level = 0; level < EXPIRY_LEVELS; level++) {
        expiry->occupied[level] = 0;
        for (unsigned slot = 0; slot < EXPIRY_SLOTS; slot++) {
            list_init(&expiry->slots[level][slot]);
        }
    }
}

static uint64_t tick_floor(int64_t at_ms)
{
    return at_ms <= 0 ? 0 : (uint64_t)at_ms / EXPIRY_TICK_MS;
}

static uint64_t tick_ceil(int64_t at_ms)
{
    return at_ms <= 0 ? 0 : ((uint64_t)at_ms + EXPIRY_TICK_MS - 1) / EXPIRY_TICK_MS;
}

static void expiry_place(struct expiry *expiry, struct cache_object *object, uint64_t tick)
{
    uint64_t delta = tick - expiry->now_tick;
    unsigned level = 0;
    while (level < EXPIRY_LEVELS - 1 && delta >> (SLOT_BITS * (level + 1)) != 0) {
        level++;
    }
    /* Beyond the horizon it comes up before its time, and is dealt out again. */
    unsigned slot = (unsigned)(tick >> (SLOT_BITS * level) & (EXPIRY_SLOTS - 1));
    list_push_back(&expiry->slots[level][slot], &object->expiry);
    expiry->occupied[level] |= UINT64_C(1) << slot;
}

void expiry_add(struct expiry *expiry, struct cache_object *object)
{
    list_init(&object->expiry);
    if (object->remove_at_ms == INT64_MAX) {
        return;
    }
    uint64_t tick = tick_ceil(object->remove_at_ms);
    if (tick <= expiry->now_tick) {
        list_push_back(&expiry->due, &object->expiry);
    } else {
        expiry_place(expiry, object, tick);
    }
}

void expiry_remove(struct cache_object *object)
{
    /* The slot's bit may stay set over an empty slot: at worst one idle wake-up. */
    list_remove(&object->expiry);
}

/* Puts all of `from` behind `to`. */
static void list_splice(struct list_node *to, struct list_node *from)
{
    if (list_is_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* The next tick at which a slot of any level has to be looked at; UINT64_MAX when there is none. */
static uint64_t next_tick(const struct expiry *expiry)
{
    uint64_t next = UINT64_MAX;
    for (unsigned level = 0; level < EXPIRY_LEVELS; level++) {
        uint64_t occupied = expiry->occupied[level];
        if (occupied == 0) {
            continue;
        }
        uint64_t first = (expiry->now_tick >> (SLOT_BITS * level)) + 1;
        unsigned turn = (unsigned)(first & (EXPIRY_SLOTS - 1));
        uint64_t turned = occupied >> turn | occupied << ((EXPIRY_SLOTS - turn) & (EXPIRY_SLOTS - 1));
        uint64_t tick = (first + (unsigned)__builtin_ctzll(turned)) << (SLOT_BITS * level);
        next = tick < next ? tick : next;
    }
    return next;
}

/* Moves on to `tick`, which next_tick has named. */
static void expiry_advance(struct expiry *expiry, uint64_t tick)
{
    expiry->now_tick = tick;
    for (unsigned level = 0; level < EXPIRY_LEVELS; level++) {
        uint64_t below = (UINT64_C(1) << (SLOT_BITS * level)) - 1;
        if ((tick & below) != 0) {
            return;
        }
        unsigned slot = (unsigned)(tick >> (SLOT_BITS * level) & (EXPIRY_SLOTS - 1));
        list_splice(&expiry->due, &expiry->slots[level][slot]);
        expiry->occupied[level] &= ~(UINT64_C(1) << slot);
    }
}

/* The clock was set back: what waits in slots would wait too long, and is dealt out again. */
static void expiry_rewind(struct expiry *expiry, uint64_t tick)
{
    for (unsigned level = 0; level < EXPIRY_LEVELS; level++) {
        for (unsigned slot = 0; slot < EXPIRY_SLOTS; slot++) {
            list_splice(&expiry->due, &expiry->slots[level][slot]);
        }
        expiry->occupied[level] = 0;
    }
    expiry->now_tick = tick;
}

struct cache_object *expiry_take(struct expiry *expiry, int64_t now_ms, unsigned *looks)
{
    uint64_t target = tick_floor(now_ms);
    if (target + REWIND_TICKS < expiry->now_tick) {
        expiry_rewind(expiry, target);
    }
    for (;;) {
        while (!list_is_empty(&expiry->due)) {
            if (*looks == 0) {
                return NULL;
            }
            --*looks;
            struct cache_object *object = CONTAINER_OF(list_pop_front(&expiry->due), struct cache_object, expiry);
            if (object->remove_at_ms <= now_ms) {
                return object;
            }
            uint64_t tick = tick_ceil(object->remove_at_ms);
            expiry_place(expiry, object, tick > expiry->now_tick ? tick : expiry->now_tick + 1);
        }
        uint64_t next = next_tick(expiry);
        if (next > target) {
            expiry->now_tick = target > expiry->now_tick ? target : expiry->now_tick;
            return NULL;
        }
        expiry_advance(expiry, next);
    }
}

int64_t expiry_next_ms(const struct expiry *expiry)
{
    if (!list_is_empty(&expiry->due)) {
        return 0;
    }
    uint64_t tick = next_tick(expiry);
    return tick > INT64_MAX / EXPIRY_TICK_MS ? INT64_MAX : (int64_t)tick * EXPIRY_TICK_MS;
}

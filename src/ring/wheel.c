/* Timers: a hierarchical wheel (Varghese and Lauck, 1987), four levels of 64 slots, 1 ms a tick.
 *
 *   level 0: the next 64 ms, a slot a tick      level 2: up to 262 s, 4.1 s a slot
 *   level 1: up to 4.1 s, 64 ms a slot          level 3: up to 4.7 h, 262 s a slot (and beyond: again)
 *
 * Setting and cancelling are a list operation. A slot of a higher level is dealt out anew when the
 * clock reaches its beginning. A bit per slot says where timers are, so that neither an idle hour nor the
 * question for the next deadline walks empty slots. */
#include "ring/internal.h"

#include "base/check.h"

static uint64_t tick_floor(nanos t)
{
    return t / NANOS_PER_MS;
}

static uint64_t tick_ceil(nanos t)
{
    return t / NANOS_PER_MS + (t % NANOS_PER_MS != 0);
}

void wheel_init(struct wheel *wheel, nanos now_ns)
{
    wheel->now_tick = tick_floor(now_ns);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
}

static void wheel_place(struct wheel *wheel, struct ring_timer *timer, uint64_t tick)
{
    uint64_t delta = tick - wheel->now_tick;
    unsigned level = 0;
    while (level < WHEEL_LEVELS - 1 && delta >> (6 * (level + 1)) != 0) {
        level++;
    }
    uint64_t index = tick >> (6 * level);
    uint64_t index_now = wheel->now_tick >> (6 * level);
    if (index - index_now > WHEEL_SLOTS) {
        index = index_now + WHEEL_SLOTS; /* beyond the horizon: looked at again when it comes round */
    }
    unsigned slot = (unsigned)index & (WHEEL_SLOTS - 1);
    list_push_back(&wheel->slots[level][slot], &timer->node);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

void ring_timer_init(struct ring_timer *timer, void (*on_fire)(struct ring_timer *timer))
{
    list_init(&timer->node);
    timer->deadline_ns = NANOS_NEVER;
    timer->on_fire = on_fire;
}

void ring_timer_set(struct ring *ring, struct ring_timer *timer, nanos deadline_ns)
{
    list_remove(&timer->node);
    timer->deadline_ns = deadline_ns;
    if (deadline_ns == NANOS_NEVER) {
        return;
    }
    uint64_t tick = tick_ceil(deadline_ns);
    if (tick <= ring->wheel.now_tick) {
        tick = ring->wheel.now_tick + 1; /* never from inside this call, and not in the slot being fired */
    }
    wheel_place(&ring->wheel, timer, tick);
}

void ring_timer_cancel(struct ring *ring, struct ring_timer *timer)
{
    (void)ring;
    /* The slot's bit may stay set over an empty slot: at worst one idle wake-up. */
    list_remove(&timer->node);
    timer->deadline_ns = NANOS_NEVER;
}

/* The next tick at which a slot of any level has to be looked at; UINT64_MAX when there is none. */
static uint64_t wheel_next_tick(const struct wheel *wheel)
{
    uint64_t next = UINT64_MAX;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t bits = wheel->occupied[level];
        if (bits == 0) {
            continue;
        }
        uint64_t index = wheel->now_tick >> (6 * level);
        unsigned turn = (unsigned)(index + 1) & (WHEEL_SLOTS - 1);
        uint64_t rotated = turn == 0 ? bits : bits >> turn | bits << (WHEEL_SLOTS - turn);
        uint64_t distance = (uint64_t)__builtin_ctzll(rotated) + 1;
        uint64_t tick = (index + distance) << (6 * level);
        next = tick < next ? tick : next;
    }
    return next;
}

nanos wheel_next(const struct wheel *wheel)
{
    uint64_t tick = wheel_next_tick(wheel);
    return tick == UINT64_MAX ? NANOS_NEVER : tick * NANOS_PER_MS;
}

/* Deals the slots of the higher levels that begin at this tick out to the lower ones. */
static void wheel_cascade(struct wheel *wheel)
{
    for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
        uint64_t mask = (UINT64_C(1) << (6 * level)) - 1;
        if ((wheel->now_tick & mask) != 0) {
            continue;
        }
        unsigned slot = (unsigned)(wheel->now_tick >> (6 * level)) & (WHEEL_SLOTS - 1);
        struct list_node *head = &wheel->slots[level][slot];
        struct list_node dealt;
        list_init(&dealt);
        struct list_node *node;
        while ((node = list_pop_front(head)) != NULL) {
            list_push_back(&dealt, node);
        }
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        while ((node = list_pop_front(&dealt)) != NULL) {
            struct ring_timer *timer = CONTAINER_OF(node, struct ring_timer, node);
            uint64_t tick = tick_ceil(timer->deadline_ns);
            wheel_place(wheel, timer, tick < wheel->now_tick ? wheel->now_tick : tick);
        }
    }
}

void wheel_advance(struct ring *ring, nanos now_ns)
{
    struct wheel *wheel = &ring->wheel;
    uint64_t target = tick_floor(now_ns);
    while (wheel->now_tick < target) {
        uint64_t next = wheel_next_tick(wheel);
        if (next > target) {
            wheel->now_tick = target;
            return;
        }
        wheel->now_tick = next;
        wheel_cascade(wheel);
        unsigned slot = (unsigned)wheel->now_tick & (WHEEL_SLOTS - 1);
        struct list_node *head = &wheel->slots[0][slot];
        wheel->occupied[0] &= ~(UINT64_C(1) << slot);
        struct list_node *node;
        while ((node = list_pop_front(head)) != NULL) {
            struct ring_timer *timer = CONTAINER_OF(node, struct ring_timer, node);
            timer->deadline_ns = NANOS_NEVER;
            timer->on_fire(timer);
        }
    }
}

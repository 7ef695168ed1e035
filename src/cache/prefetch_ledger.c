#include "cache/prefetch_ledger.h"

#include <string.h>

#include "base/check.h"
#include "base/counter.h"

_Static_assert(PREFETCH_LEDGER_SLOTS - 1 <= UINT16_MAX, "a slot's number has its place in a ticket");

/*  63         32 31        16 15         0
 *  +------------+------------+-----------+
 *  | generation |    slot    |   owner   |   generation ≥ 1, so that no ticket is 0
 *  +------------+------------+-----------+ */

static struct prefetch_ledger_slot *slot_of(struct prefetch_ledger *ledger, uint64_t ticket)
{
    return &ledger->slots[(ticket >> 16 & UINT16_MAX) % PREFETCH_LEDGER_SLOTS];
}

void prefetch_ledger_init(struct prefetch_ledger *ledger, unsigned owner, unsigned floor_percent, nanos window_ns)
{
    CHECK(owner <= UINT16_MAX);
    memset(ledger, 0, sizeof(*ledger));
    ledger->owner = owner;
    ledger->floor_percent = floor_percent;
    ledger->window_ns = window_ns;
    ledger->state = PREFETCH_TRIAL;
    list_init(&ledger->open);
    list_init(&ledger->free);
    for (unsigned i = 0; i < PREFETCH_LEDGER_SLOTS; i++) {
        list_init(&ledger->slots[i].node);
        list_push_back(&ledger->free, &ledger->slots[i].node);
    }
}

static void forget_recent(struct prefetch_ledger *ledger)
{
    ledger->recent_judged = 0;
    ledger->recent_useful = 0;
}

static void stop(struct prefetch_ledger *ledger, nanos now)
{
    ledger->state = PREFETCH_STOPPED;
    ledger->stopped_until_ns = now + (ledger->window_ns * PREFETCH_LEDGER_PAUSE_WINDOWS << ledger->doublings);
    ledger->doublings += ledger->doublings < PREFETCH_LEDGER_PAUSE_DOUBLINGS_MAX;
    atomic_store_explicit(&ledger->is_stopped, 1, memory_order_relaxed);
    forget_recent(ledger);
}

static void judge(struct prefetch_ledger *ledger, struct prefetch_ledger_slot *slot, bool is_useful, nanos now)
{
    atomic_store_explicit(&slot->ticket, 0, memory_order_relaxed);
    list_remove(&slot->node);
    list_push_back(&ledger->free, &slot->node);
    ledger->out--;
    counter_add(is_useful ? &ledger->useful : &ledger->wasted, 1);
    if (ledger->state == PREFETCH_STOPPED) {
        return; /* begun before it was */
    }
    ledger->recent_judged++;
    ledger->recent_useful += is_useful;
    if (ledger->recent_judged < PREFETCH_LEDGER_TRIAL) {
        return;
    }
    if (ledger->recent_useful * 100U < ledger->floor_percent * ledger->recent_judged) {
        stop(ledger, now);
        return;
    }
    if (ledger->state == PREFETCH_TRIAL) {
        ledger->state = PREFETCH_GOING;
    }
    if (ledger->recent_judged >= PREFETCH_LEDGER_RECENT_MAX) {
        ledger->recent_judged /= 2;
        ledger->recent_useful /= 2;
        ledger->doublings = 0; /* it has gone well for long */
    }
}

/* In the order in which they began, up to the first that is neither used nor due. */
static void judge_what_is_due(struct prefetch_ledger *ledger, nanos now)
{
    while (!list_is_empty(&ledger->open)) {
        struct prefetch_ledger_slot *slot = CONTAINER_OF(ledger->open.next, struct prefetch_ledger_slot, node);
        uint64_t ticket = atomic_load_explicit(&slot->ticket, memory_order_relaxed);
        bool is_used = atomic_load_explicit(&slot->used, memory_order_relaxed) == ticket;
        if (!is_used && slot->due_ns > now) {
            return;
        }
        judge(ledger, slot, is_used, now);
    }
}

bool prefetch_ledger_may_begin(struct prefetch_ledger *ledger, nanos now)
{
    judge_what_is_due(ledger, now);
    if (ledger->state == PREFETCH_STOPPED) {
        if (now < ledger->stopped_until_ns) {
            return false;
        }
        ledger->state = PREFETCH_TRIAL;
        atomic_store_explicit(&ledger->is_stopped, 0, memory_order_relaxed);
    }
    if (ledger->state == PREFETCH_TRIAL && ledger->recent_judged + ledger->out >= PREFETCH_LEDGER_TRIAL) {
        return false;
    }
    return !list_is_empty(&ledger->free);
}

uint64_t prefetch_ledger_begin(struct prefetch_ledger *ledger, nanos now)
{
    if (!prefetch_ledger_may_begin(ledger, now)) {
        return 0;
    }
    struct prefetch_ledger_slot *slot = CONTAINER_OF(list_pop_front(&ledger->free), struct prefetch_ledger_slot, node);
    ledger->generation = ledger->generation == UINT32_MAX ? 1 : ledger->generation + 1;
    uint64_t index = (uint64_t)(slot - ledger->slots);
    uint64_t ticket = (uint64_t)ledger->generation << 32 | index << 16 | ledger->owner;
    list_push_back(&ledger->open, &slot->node);
    slot->due_ns = now + ledger->window_ns;
    atomic_store_explicit(&slot->ticket, ticket, memory_order_relaxed);
    ledger->out++;
    counter_add(&ledger->begun, 1);
    return ticket;
}

void prefetch_ledger_use(struct prefetch_ledger *ledger, uint64_t ticket, bool on_owner, nanos now)
{
    struct prefetch_ledger_slot *slot = slot_of(ledger, ticket);
    /* Relaxed: only the values count, and they stand for themselves. A hot answer finds its ticket judged, or its use
     * noted, and writes nothing. */
    if (atomic_load_explicit(&slot->ticket, memory_order_relaxed) != ticket) {
        return;
    }
    if (on_owner) {
        judge(ledger, slot, slot->due_ns > now || atomic_load_explicit(&slot->used, memory_order_relaxed) == ticket,
              now);
    } else if (atomic_load_explicit(&slot->used, memory_order_relaxed) != ticket) {
        atomic_store_explicit(&slot->used, ticket, memory_order_relaxed);
    }
}

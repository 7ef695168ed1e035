#include "sched/lease.h"

#define LEASE_RECALLED (UINT32_C(1) << 31)

void lease_init(struct lease *lease)
{
    lease->lent = 0;
    lease->taken_before = 0;
    atomic_init(&lease->word, 0);
    atomic_init(&lease->returned, 0);
    atomic_init(&lease->taken, 0);
    atomic_init(&lease->tail, 0);
    atomic_init(&lease->head, 0);
}

/* ---- slots ----
 *
 * A slot carries no memory with it, so its word needs no order but its own; what became of who held it goes by the
 * ring. That the owner finds a returned slot once it was told is the message's affair. */

void lease_lend(struct lease *lease, uint32_t slots)
{
    uint32_t word = atomic_load_explicit(&lease->word, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&lease->word, &word, (word & ~LEASE_RECALLED) + slots,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    lease->lent += slots;
}

uint32_t lease_recall(struct lease *lease)
{
    uint32_t word = atomic_exchange_explicit(&lease->word, LEASE_RECALLED, memory_order_relaxed);
    uint32_t slots = word & ~LEASE_RECALLED;
    lease->lent -= slots;
    return slots + lease_collect(lease);
}

uint32_t lease_collect(struct lease *lease)
{
    if (atomic_load_explicit(&lease->returned, memory_order_relaxed) == 0) {
        return 0;
    }
    uint32_t slots = atomic_exchange_explicit(&lease->returned, 0, memory_order_relaxed);
    lease->lent -= slots;
    return slots;
}

uint32_t lease_free(const struct lease *lease)
{
    return atomic_load_explicit(&lease->word, memory_order_relaxed) & ~LEASE_RECALLED;
}

bool lease_was_used(struct lease *lease)
{
    uint32_t taken = atomic_load_explicit(&lease->taken, memory_order_relaxed);
    bool was_used = taken != lease->taken_before;
    lease->taken_before = taken;
    return was_used;
}

bool lease_take(struct lease *lease)
{
    uint32_t word = atomic_load_explicit(&lease->word, memory_order_relaxed);
    while (word != 0 && (word & LEASE_RECALLED) == 0) {
        if (atomic_compare_exchange_weak_explicit(&lease->word, &word, word - 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            uint32_t taken = atomic_load_explicit(&lease->taken, memory_order_relaxed);
            atomic_store_explicit(&lease->taken, taken + 1, memory_order_relaxed);
            return true;
        }
    }
    return false;
}

bool lease_give_back(struct lease *lease)
{
    uint32_t word = atomic_load_explicit(&lease->word, memory_order_relaxed);
    while ((word & LEASE_RECALLED) == 0) {
        if (atomic_compare_exchange_weak_explicit(&lease->word, &word, word + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return false;
        }
    }
    atomic_fetch_add_explicit(&lease->returned, 1, memory_order_relaxed);
    return true;
}

/* ---- events ---- */

bool lease_push(struct lease *lease, const struct lease_event *event)
{
    uint32_t tail = atomic_load_explicit(&lease->tail, memory_order_relaxed);
    /* acquire pairs with the release in lease_pop: the place was read before it is written again */
    if (tail - atomic_load_explicit(&lease->head, memory_order_acquire) == LEASE_EVENTS) {
        return false;
    }
    lease->events[tail % LEASE_EVENTS] = *event;
    /* release pairs with the acquire in lease_pop: the event, and what lies behind its seat, is written before it is
     * seen */
    atomic_store_explicit(&lease->tail, tail + 1, memory_order_release);
    return true;
}

bool lease_is_filling(const struct lease *lease)
{
    uint32_t tail = atomic_load_explicit(&lease->tail, memory_order_relaxed);
    return tail - atomic_load_explicit(&lease->head, memory_order_relaxed) > LEASE_EVENTS / 2;
}

bool lease_pop(struct lease *lease, struct lease_event *ret_event)
{
    uint32_t head = atomic_load_explicit(&lease->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&lease->tail, memory_order_acquire)) {
        return false;
    }
    *ret_event = lease->events[head % LEASE_EVENTS];
    atomic_store_explicit(&lease->head, head + 1, memory_order_release);
    return true;
}

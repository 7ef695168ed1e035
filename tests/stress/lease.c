/* A lease between two threads: an owner that lends, recalls and collects as it likes, and a borrower that takes, gives
 * back and tells. No more slots are ever in use than were lent, none is lost, and what is told arrives in order. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "sched/lease.h"

enum { EVENTS = 20000, SLOTS_MAX = 16 };

static struct lease *lease;
static _Atomic uint32_t in_use;
static _Atomic bool is_over;

static unsigned random_below(uint64_t *random, unsigned bound)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(*random >> 33) % bound;
}

static void *borrow(void *context)
{
    (void)context;
    uint64_t random = 7;
    unsigned held = 0;
    uint32_t told = 0;
    while (told < EVENTS) {
        if (random_below(&random, 2) == 0) {
            if (lease_take(lease)) {
                held++;
                CHECK(atomic_fetch_add(&in_use, 1) < SLOTS_MAX);
            } else {
                sched_yield();
            }
        } else if (held > 0) {
            held--;
            atomic_fetch_sub(&in_use, 1);
            lease_give_back(lease);
            told += lease_push(lease, &(struct lease_event){.kind = LEASE_ENDED, .tokens = told});
        }
    }
    while (held-- > 0) {
        atomic_fetch_sub(&in_use, 1);
        lease_give_back(lease);
    }
    atomic_store(&is_over, true);
    return NULL;
}

int main(void)
{
    alarm(120);
    lease = aligned_alloc(LEASE_LINE, sizeof(*lease));
    CHECK(lease != NULL);
    lease_init(lease);
    pthread_t borrower;
    CHECK(pthread_create(&borrower, NULL, borrow, NULL) == 0);
    uint64_t random = 1;
    uint32_t heard = 0;
    unsigned recalls = 0;
    while (!atomic_load(&is_over)) {
        switch (random_below(&random, 64)) {
        case 0:
            if (lease->lent < SLOTS_MAX) {
                lease_lend(lease, 1 + random_below(&random, SLOTS_MAX - lease->lent));
            }
            break;
        case 1:
            lease_recall(lease);
            recalls++;
            break;
        case 2: lease_collect(lease); break;
        default: break;
        }
        struct lease_event event;
        while (lease_pop(lease, &event)) {
            CHECK(event.tokens == heard++);
        }
        CHECK(lease->lent <= SLOTS_MAX);
        if (random_below(&random, 16) == 0) {
            sched_yield();
        }
    }
    CHECK(pthread_join(borrower, NULL) == 0);
    lease_recall(lease);
    CHECK(lease->lent == 0 && atomic_load(&in_use) == 0);
    printf("lease: %u recalls, %u events\n", recalls, heard);
    free(lease);
    return 0;
}

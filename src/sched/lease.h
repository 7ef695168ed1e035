/* Leases: slots of a model's limit that its owner lends to another core, which admits on them without asking; and the
 * ring by which that core tells what became of its requests.
 *
 *   owner                                             borrower
 *   lease_lend ───────── word: free += n ───────────▶ lease_take, lease_give_back: one word, no message
 *   lease_recall ─────── word: recalled, free = 0     lease_give_back: returned += 1, and "tell the owner"
 *   lease_collect ◀───── returned ───────────────────
 *   lease_pop ◀───────── events, by value ─────────── lease_push
 *
 * A slot is in one place at a time: free, taken, returned, or the owner's. `lent` counts the first three, so that what
 * the owner grants and what it has lent never exceed the limit together.
 *
 * Pure: no I/O, no clock, nothing allocated. One owner and one borrower, each its own thread; words that both write lie
 * on a line of their own. About 45 KB. */
#ifndef SLUICE_SCHED_LEASE_H
#define SLUICE_SCHED_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sched/admission.h"

enum { LEASE_EVENTS = 256, LEASE_LINE = 64 };

enum lease_event_kind {
    LEASE_ENDED,       /* one that went on a credit */
    LEASE_ASKED,       /* `seat` is the owner's until it answers */
    LEASE_CANCELED,    /* nobody waits for seat's answer any more */
    LEASE_FIRST_TOKEN, /* of seat */
    LEASE_TOKENS,      /* likewise */
    LEASE_ENDPOINT,    /* likewise: it is served by another one than its grant has named */
    LEASE_RELEASED,    /* likewise: its last */
};

/* What the borrower tells. */
struct lease_event {
    void *seat; /* whose; of LEASE_ENDED: NULL */
    enum lease_event_kind kind;
    uint32_t tokens;
    uint8_t endpoint; /* of LEASE_ENDPOINT and LEASE_RELEASED */
    nanos at_ns;      /* the first token, or the end */
    struct admission_outcome outcome;
    struct admission_lent lent; /* of LEASE_ENDED */
};

struct lease {
    /* the owner's */
    uint32_t lent;
    uint32_t taken_before; /* when the owner last looked whether it is in use */

    _Alignas(LEASE_LINE) _Atomic uint32_t word; /* LEASE_RECALLED and the free slots */
    _Atomic uint32_t returned;                  /* taken slots that came back after they were recalled */

    /* the borrower's */
    _Alignas(LEASE_LINE) _Atomic uint32_t taken; /* how often: read by the owner */
    _Atomic uint32_t tail;

    /* the owner's */
    _Alignas(LEASE_LINE) _Atomic uint32_t head;
    _Alignas(LEASE_LINE) struct lease_event events[LEASE_EVENTS];
};

void lease_init(struct lease *lease);

/* ---- the owner's side ---- */

/* Lends `slots` more. */
void lease_lend(struct lease *lease, uint32_t slots);

/* Takes back all that are free, and has the others come back as they end. Gives how many came back at once. */
uint32_t lease_recall(struct lease *lease);

/* Takes note of those that came back. Gives how many. */
uint32_t lease_collect(struct lease *lease);

/* How many are free, at the moment. */
uint32_t lease_free(const struct lease *lease);

/* Whether the borrower has taken a slot since this was last asked. */
bool lease_was_used(struct lease *lease);

/* The next event; false: there is none. *ret_event is a copy. */
bool lease_pop(struct lease *lease, struct lease_event *ret_event);

/* ---- the borrower's side ---- */

/* Takes a slot; false: there is none. */
bool lease_take(struct lease *lease);

/* Puts it back. True: it was recalled, and the owner is to be told to collect it. */
bool lease_give_back(struct lease *lease);

/* Tells of something. False: there is no room. */
bool lease_push(struct lease *lease, const struct lease_event *event);

/* Whether the owner should look soon, or there will be no room. */
bool lease_is_filling(const struct lease *lease);

#endif

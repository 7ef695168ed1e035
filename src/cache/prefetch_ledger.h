/* Whether fetching ahead pays: what was fetched is useful when somebody asks for it within the window, else wasted.
 *
 *   prefetch_ledger_begin ─▶ a ticket, which travels with the answer into the cache ─▶ prefetch_ledger_use, by whoever
 *                            finds it there; or the window passes: wasted
 *
 *          16 judged, precision ≥ floor                     precision < floor
 *   TRIAL ─────────────────────────────▶ GOING ────────────────────────────────▶ STOPPED
 *     ▲ └─ at most 16 may be out         (of the last 64 to 128 judged)              │
 *     │         └── precision < floor: the next pause is twice as long ──▶ STOPPED   │
 *     └──────────────────────── the pause is over ───────────────────────────────────┘
 *
 * Pure: no I/O, no clock. One owner, who alone writes; but prefetch_ledger_use may be called on any worker: all that it
 * writes is the ticket itself, into the slot that the ticket names. It breaks the rule of one writing thread, since
 * every writer writes the same value; a late one finds another ticket in the slot. */
#ifndef SLUICE_CACHE_PREFETCH_LEDGER_H
#define SLUICE_CACHE_PREFETCH_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"

enum {
    PREFETCH_LEDGER_SLOTS = 1024, /* out at the same time; no more are begun */
    PREFETCH_LEDGER_TRIAL = 16,
    PREFETCH_LEDGER_RECENT_MAX = 128, /* judged, then halved */
    PREFETCH_LEDGER_PAUSE_WINDOWS = 10,
    PREFETCH_LEDGER_PAUSE_DOUBLINGS_MAX = 6,
};

struct prefetch_ledger_slot {
    _Atomic uint64_t ticket; /* 0: free, or judged */
    _Atomic uint64_t used;   /* the ticket of whose answer somebody has asked for */
    nanos due_ns;
    struct list_node node; /* among those that are out, the oldest first, or free */
};

enum prefetch_ledger_state { PREFETCH_TRIAL, PREFETCH_GOING, PREFETCH_STOPPED };

struct prefetch_ledger {
    unsigned owner;
    unsigned floor_percent;
    nanos window_ns;
    enum prefetch_ledger_state state;
    nanos stopped_until_ns;
    unsigned doublings; /* of the pause */
    unsigned recent_judged;
    unsigned recent_useful;
    unsigned out; /* not judged yet */
    uint32_t generation;
    struct list_node open;
    struct list_node free;
    /* read by anyone */
    _Atomic uint64_t begun;
    _Atomic uint64_t useful;
    _Atomic uint64_t wasted;
    _Atomic uint64_t is_stopped;
    struct prefetch_ledger_slot slots[PREFETCH_LEDGER_SLOTS];
};

/* `owner`: the worker's number, below 65,536. 40 KB, within the caller's memory; it does not move. */
void prefetch_ledger_init(struct prefetch_ledger *ledger, unsigned owner, unsigned floor_percent, nanos window_ns);

/* Whether one may begin now; judges what is due. */
bool prefetch_ledger_may_begin(struct prefetch_ledger *ledger, nanos now);

/* One begins: its ticket; 0: it may not. */
uint64_t prefetch_ledger_begin(struct prefetch_ledger *ledger, nanos now);

/* Whose ledger a ticket is of. */
static inline unsigned prefetch_ledger_owner(uint64_t ticket)
{
    return (unsigned)(ticket & UINT16_MAX);
}

/* Somebody asks for what was fetched with this ticket, now or again. `on_owner`: it is the owner that calls, and it
 * counts at once; elsewhere the owner hears of it when it judges. */
void prefetch_ledger_use(struct prefetch_ledger *ledger, uint64_t ticket, bool on_owner, nanos now);

#endif

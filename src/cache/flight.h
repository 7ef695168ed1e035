/* Flights: requests for the same thing at the same time cost one fetch.
 *
 * Who misses claims the key at the shard's owner. The first gets it (MINE), fetches, and fills an entry; the others are
 * led to that entry (JOINED), before its head has come, and read it as it grows: on the filler's worker directly,
 * elsewhere through a mirror.
 *
 *   worker A                owner of the shard          worker B
 *   claim ────────────────▶ table: A has it
 *         ◀──────── MINE ──
 *   fetch ─▶ entry          A has it ◀───────────────── claim
 *         ◀──────────────────── join ──
 *   entry ─▶ feed ─────────────────────── JOINED ─────▶ mirror: the same chunks, its own readers
 *              └──── news (one message under way) ────▶ entry_tell
 *   flight_release ───────▶ table: nobody
 *         ◀──── settled ───
 *
 * A flight that will not be stored is closed when its head is there: who joined leaves and goes alone, and so does who
 * comes later, as long as the fetch goes on. One that has become private is as good as closed. The claim lasts until
 * flight_release, which comes after what was fetched has been stored, so that nobody fetches again in between; nor for
 * another variant of the key, once all of the first is there. Messages
 * between two workers come in order: when `settled` has come back to A, no join is under way. A purge or an
 * invalidation takes the flights it meets out of the table: they go on for those who have joined, are not stored, and
 * who asks from then on begins another. */
#ifndef SLUICE_CACHE_FLIGHT_H
#define SLUICE_CACHE_FLIGHT_H

#include "cache/cache.h"

enum flight_answer {
    FLIGHT_MINE,       /* waiter->flight: to be fetched, and released */
    FLIGHT_JOINED,     /* waiter->entry: one use of it is the waiter's */
    FLIGHT_LOOK_AGAIN, /* it has just ended, or something was stored since: perhaps it will do */
    FLIGHT_ALONE,      /* fetch without a flight: too many wait already, it is not shared any more, or memory is out */
};

struct flight;

/* Who waits for an answer to a claim. */
struct flight_waiter {
    struct flight *claim; /* NULL: none under way */
    struct flight *flight;
    struct entry *entry;
    void (*on_answer)(struct flight_waiter *waiter, enum flight_answer answer);
};

/* Whoever gets JOINED joins as a reader before on_answer returns: what was reserved for it lasts until then.
 *
 * Claims `key`; `seen` is what was found under it and will not do (NULL: nothing was); `variant` tells apart fetches of
 * one key whose answers are not alike. At most `waiters_max` join one flight. on_answer comes in a later dispatch.
 * *Copies* the key, *borrows* seen. RESULT_NO_MEMORY: go alone. */
MUST_USE enum result flight_claim(struct cache_core *core, struct flight_waiter *waiter, const struct cache_key *key,
                                  const struct cache_object *seen, uint8_t variant, uint32_t waiters_max);

/* The waiter does not want the answer any more. */
void flight_claim_cancel(struct flight_waiter *waiter);

/* ---- the leader ---- */

/* The entry that will be filled; in on_answer of FLIGHT_MINE. *Takes* a use of it until released. */
void flight_begin(struct flight *flight, struct entry *entry);

/* Nobody joins from now on. With `expel`, those who did are told to leave (entry->is_expelled, for the mirrors'
 * entries, too) when they are told next: before the head is committed. */
void flight_close(struct flight *flight, bool expel);
bool flight_is_open(const struct flight *flight);

/* Ends the claim; the flight goes when that is settled. Nothing may be done with it after. */
void flight_release(struct flight *flight);

/* Whether a purge or an invalidation has met this flight: the owner of the shard only. */
bool flight_is_doomed(const struct flight *flight);

#endif

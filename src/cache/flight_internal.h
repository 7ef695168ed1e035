/* What the parts of flights share: claims and leading (flight.c), the owner's table (flight_table.c), and reading an
 * entry of another core (flight_mirror.c). */
#ifndef SLUICE_CACHE_FLIGHT_INTERNAL_H
#define SLUICE_CACHE_FLIGHT_INTERNAL_H

#include "cache/cache_internal.h"

struct mirror;

struct flight {
    struct ring_message message; /* one under way at a time */
    struct cache_core *core;     /* of who claims, and later leads */
    struct flight_waiter *waiter;
    uint64_t hash;
    uint64_t primary_hash;
    struct cache_seen seen; /* under the key, by who claims */
    size_t key_bytes;
    size_t primary_bytes;
    uint32_t waiters_max;
    unsigned shard;
    uint8_t variant;
    bool passes_siblings; /* a claim's: none of them is being stored */
    /* the owner's */
    struct flight *next;      /* in its bucket */
    struct list_node primary; /* likewise, among those by the primary key's hash */
    uint32_t joined;
    bool is_doomed; /* and not in the table any more */
    /* a claim's answer */
    enum flight_answer answer;
    struct flight *target;
    struct mirror *mirror;
    struct entry *joined_entry;
    /* the leader's */
    struct entry *entry;
    struct list_node feeds;
    struct list_node parked; /* claims of the key in another shape, by .primary: they look again at the end */
    bool is_open;
    bool is_released;
    char key[];
};

/* ---- the owner's table ---- */

/* The flight for the same key and variant, or NULL. */
struct flight *flight_table_find(const struct flight_table *table, const struct flight *like);

/* A flight for the same key and another variant, or NULL. */
struct flight *flight_table_find_sibling(const struct flight_table *table, const struct flight *like);

void flight_table_add(struct flight_table *table, struct flight *flight);

/* Takes it out; one that was doomed has gone already. */
void flight_table_remove(struct flight_table *table, struct flight *flight);

/* ---- mirrors ---- */

/* At the leader's: the feed for readers on `core`, one for all of them. NULL: memory is out. */
struct mirror *flight_mirror_for(struct flight *flight, struct cache_core *core);

/* At the leader's: the flight goes, its mirrors go on. */
void flight_mirrors_leave(struct flight *flight);

/* At the mirror's core: its own half, with a use for the caller. FLIGHT_LOOK_AGAIN: it is on its way out.
 * FLIGHT_ALONE: its first bytes may have gone. */
enum flight_answer flight_mirror_open(struct mirror *mirror, struct entry **ret_entry);

#endif

/* When stored objects go although nobody asks: a hierarchical wheel over cache_object.remove_at_ms (Varghese and Lauck,
 * 1987), four levels of 64 slots, a second a tick.
 *
 *   level 0: the next 64 s         level 2: up to 73 h
 *   level 1: up to 68 min          level 3: up to 194 days (and beyond: looked at again when its slot comes round)
 *
 * A slot whose time has come is put on the list `due` whole; what is on it is taken, or dealt out to a lower level,
 * one by one, as much as the caller's turn allows. No clock: the time is handed in (UTC, and it may be set back).
 * One owner; the nodes lie in the objects, so there is nothing to allocate. */
#ifndef SLUICE_CACHE_EXPIRY_H
#define SLUICE_CACHE_EXPIRY_H

#include "cache/object.h"

enum { EXPIRY_LEVELS = 4, EXPIRY_SLOTS = 64, EXPIRY_TICK_MS = 1000 };

struct expiry {
    uint64_t now_tick; /* every slot up to it is on `due` or dealt out */
    uint64_t occupied[EXPIRY_LEVELS];
    struct list_node slots[EXPIRY_LEVELS][EXPIRY_SLOTS];
    struct list_node due;
};

void expiry_init(struct expiry *expiry);

/* *Keeps* object until expiry_remove, or until it is taken. One whose remove_at_ms is INT64_MAX never comes up. */
void expiry_add(struct expiry *expiry, struct cache_object *object);
void expiry_remove(struct cache_object *object);

/* The next object whose remove_at_ms has come, off the wheel; NULL when there is none, or when *looks have been spent
 * (each object looked at takes one off; 0 then). */
struct cache_object *expiry_take(struct expiry *expiry, int64_t now_ms, unsigned *looks);

/* When expiry_take should be called again; INT64_MAX: never. */
int64_t expiry_next_ms(const struct expiry *expiry);

#endif

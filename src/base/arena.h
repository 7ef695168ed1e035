/* A bump allocator whose memory goes all at once: a request's memory is its arena.
 *
 * Blocks are taken from malloc; the first may be lent by the caller (a buffer inside a pooled
 * struct), so that most requests allocate nothing. One owner, no locks. */
#ifndef SLUICE_BASE_ARENA_H
#define SLUICE_BASE_ARENA_H

#include <stddef.h>

#include "base/bytes.h"

struct arena_block;

struct arena {
    char *next;
    char *end;
    struct arena_block *blocks; /* taken from malloc, newest first */
    char *lent;
    size_t lent_bytes;
};

/* Starts an empty arena. *Keeps* `lent` (may be NULL) until arena_fini. */
void arena_init(struct arena *arena, char *lent, size_t lent_bytes);

/* Frees all of it; the arena is then as after arena_init with the same lent buffer. */
void arena_reset(struct arena *arena);
void arena_fini(struct arena *arena);

/* *Gives* `bytes` bytes aligned to 8, uninitialised, until the reset. NULL when memory is out. */
void *arena_alloc(struct arena *arena, size_t bytes);

/* *Gives* a copy of `b` with a NUL behind it. {NULL, 0} when memory is out. */
struct bytes arena_copy(struct arena *arena, struct bytes b);

/* *Gives* a formatted string (printf's format), NUL-terminated. {NULL, 0} when memory is out. */
struct bytes arena_format(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

/* Which request of a client is likely to follow: learned from sequences of two and three.
 *
 *   clients     hash of a client      ─▶ its last two requests, and when
 *   contexts    (b) and (a, b)        ─▶ how often they came, and what followed how often: four successors each
 *   targets     a request             ─▶ its text, so that it can be made
 *
 *   client asks  a … b … c :   b after (a), c after (b), c after (a, b);   (c) and (b, c) came once more
 *
 * A guess is made by the longer context where that has been seen often enough, else by the shorter one. Confidence is
 * how often the successor came for each time that the context did, so that what mostly ends a visit promises nothing.
 *
 * All three are tables of sets of four in one piece of memory whose size is fixed at the start. What is new takes the
 * place of the least in its set only when that was seen once; else all counts of the set are halved, and it stays out:
 * a flood of requests that never come again does not wash out what does. A context's counts are halved, too, when they
 * come to their end, so that the old fades.
 *
 * Pure: no I/O, no clock. One writer. Requests are named by a hash that the caller makes with a secret, so that nobody
 * can choose requests that fall together. */
#ifndef SLUICE_CACHE_PREFETCH_H
#define SLUICE_CACHE_PREFETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/clock.h"

enum {
    PREFETCH_TARGET_BYTES_MAX = 256, /* a request whose text is longer is not learned */
    PREFETCH_MEMORY_BYTES_MIN = 64 * 1024,
};

struct prefetch_options {
    uint64_t memory_bytes; /* at least PREFETCH_MEMORY_BYTES_MIN; the tables take at most this, rounded down */
    unsigned confidence_percent;
    unsigned support_min; /* how often a successor must have been seen */
    nanos window_ns;      /* requests further apart are no sequence */
};

struct prefetch;

/* *Gives* tables that know nothing. NULL when memory is out. */
struct prefetch *prefetch_create(const struct prefetch_options *options);
void prefetch_destroy(struct prefetch *prefetch);

/* What the tables take. */
uint64_t prefetch_memory_bytes(const struct prefetch *prefetch);

/* A guess; `target` is valid until the next call that learns. */
struct prefetch_guess {
    uint64_t request;
    struct bytes target;
};

/* `client` asks for `request`, whose text is `target` (*borrowed*, at most PREFETCH_TARGET_BYTES_MAX). False: the same
 * request again, of which nothing is learned. */
bool prefetch_learn(struct prefetch *prefetch, uint64_t client, uint64_t request, struct bytes target, nanos now);

/* What the client is likely to ask for next, by what it asked for last. False: no guess. */
bool prefetch_predict(const struct prefetch *prefetch, uint64_t client, struct prefetch_guess *ret_guess);

#endif

/* Batching: requests to array APIs that are under way at the same time leave as one upstream call (api/array.h knows
 * their bodies, sched/batch.h who goes with whom and when).
 *
 *   worker of the client                        worker that owns the model (as gates have it)
 *   fetch ─ detour ─▶ ticket ──── message ────▶ former ─▶ call: a fetch of its own, through the gate, of all its runs
 *                       ▲                                   │ answer
 *                       └──────── message ──────────────────┴─ taken apart: each ticket its part, into its own fetch
 *
 * It stands below the cache: what is found there never comes here, and each fetch that is answered so fills its own
 * entry as if it had gone alone. A request that cannot be merged, or finds no company, is sent and answered as its own
 * bytes: the ticket comes back with leave to go on, by the client's own worker and gate.
 *
 *   PREPARED ─ fetch_start ─▶ AWAY ─┬─ answered, failed ───────────────▶ the fetch ends
 *      │ cannot be merged           ├─ alone ─▶ ALONE ─ the fetch ends ─▶ the former is told
 *      └─▶ as any other             └─ the client leaves: canceled; its call goes on for the others
 *
 * A request whose deadline passes while it waits is turned away as by its gate. A call has one credential, path, and
 * set of lines that all its requests have alike; so its class is the best of theirs, its deadline the last, its tenant
 * nobody in particular unless they have one. What is refused because of an item (400, 413, 422) is tried again in
 * halves, so that the one at fault gets the backend's own words and the others their answers; an answer that cannot be
 * taken apart sends its requests on their own, and those of the model for some time. Whatever else fails, fails for
 * all.
 *
 * Ownership: a ticket has the request's body while it is away. Each side touches its own part of it only; what passes
 * between is passed by a message. Memory: bodies of BATCHING_HELD_BYTES_MAX per worker, and per call the merged body
 * and the answer of at most BATCHING_ANSWER_BYTES_MAX; formers of BATCHING_FORMERS_MAX models per worker. */
#ifndef SLUICE_API_BATCHING_H
#define SLUICE_API_BATCHING_H

#include "api/array.h"
#include "base/counter.h"
#include "base/histogram.h"
#include "proxy/fetch.h"
#include "sched/batch.h"

enum {
    BATCHING_FORMERS_MAX = 256,
    BATCHING_HELD_BYTES_MAX = 256 << 20,
    BATCHING_ANSWER_BYTES_MAX = 256 << 20,
    BATCHING_PARTS_MAX = 1024, /* of one list */
    BATCHING_SIZES = 12,       /* calls of up to 1, 2, 4, … 1,024 items, and of more */
};

/* Why a call left when it did; the former's words. */
enum batching_why { BATCHING_FULL, BATCHING_IDLE, BATCHING_WAITED, BATCHING_AGED, BATCHING_DEADLINE, BATCHING_WHYS };
const char *batching_why_name(enum batching_why why);

enum batching_count {
    BATCHING_ITEMS,    /* of all calls */
    BATCHING_ROOM,     /* that there would have been in them */
    BATCHING_MERGED,   /* requests, or parts of such, that shared a call */
    BATCHING_LONE,     /* requests that went by themselves */
    BATCHING_UNMERGED, /* that could not be merged */
    BATCHING_PARTS,    /* that lists over a budget were cut into */
    BATCHING_BISECTED, /* calls that were tried again in halves */
    BATCHING_APART,    /* calls whose answers could not be taken apart */
    BATCHING_CANCELED, /* calls that everybody had left */
    BATCHING_LATE,     /* requests turned away because their deadline passed while they waited */
    BATCHING_WAITING,  /* items, now */
    BATCHING_CALLS,    /* in flight, now */
    BATCHING_COUNTS,
};

/* What a route's requests on one worker came to; one writer, read by the metrics. Calls are counted where the model is
 * owned. */
struct batching_counters {
    _Atomic uint64_t counts[BATCHING_COUNTS];
    _Atomic uint64_t sizes[BATCHING_SIZES]; /* calls, by their items when they left */
    _Atomic uint64_t flushed[BATCHING_WHYS];
    _Atomic uint64_t target_milli; /* items that a call is to have, in thousandths; of the model used last */
    struct histogram waits;        /* of runs, in the former */
};

/* A path whose requests have their items elsewhere than OpenAI's. */
struct batching_array {
    struct bytes path;
    struct array_shape shape;
};

/* What holds for a route. Constant. */
struct batching_route {
    struct bytes name;
    unsigned index;
    unsigned upstream;
    struct batch_options options;
    unsigned array_count;
    const struct batching_array *arrays;
};

/* A worker's. */
struct batching {
    struct ring *ring;
    unsigned index;
    unsigned count;                /* of workers */
    struct batching *const *peers; /* theirs */
    struct proxy *proxy;
    struct upstream *upstreams;
    struct gates *gates;
    unsigned route_count;
    struct batching_counters *counters; /* by route */
    struct list_node formers;           /* of the models that this worker owns, the last used first */
    unsigned former_count;
    struct list_node starting; /* calls, later in this turn */
    struct ring_task start;
    uint64_t held_bytes;    /* of bodies that are away */
    unsigned open;          /* tickets of this worker's fetches */
    _Atomic uint64_t owned; /* tickets and calls that this worker's formers have to do with; others look whether any */
};

struct batching_options {
    struct ring *ring;
    unsigned index;
    unsigned count;
    struct batching *const *peers; /* complete before the first fetch begins; *keeps* */
    struct proxy *proxy;
    struct upstream *upstreams;
    struct gates *gates;
    unsigned route_count;
};

/* RESULT_NO_MEMORY. */
MUST_USE enum result batching_init(struct batching *batching, const struct batching_options *options);

/* Whether nothing of it is under way, nor anything that it has told another worker of. */
bool batching_is_settled(const struct batching *batching);
void batching_fini(struct batching *batching);

/* Has a fetch that has not begun, and whose head, body and gate are set, be merged with others when it starts, if it
 * can be. *Keeps* route. */
void batching_attach(struct batching *batching, const struct batching_route *route, struct fetch *fetch);

#endif

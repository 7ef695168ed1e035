/* What fills the cache: a fetch, the flight it leads, the judgement whether its answer is stored, and the storing.
 *
 *   filling_start ─▶ second tier? ──found──▶ into the entry, or into memory (filling_tier.c)
 *                       │ no
 *                       ▼
 *                    fetch ─▶ head: judged ─▶ body ─▶ end: put (and the marker of variants) ─▶ release the flight
 *                                │ not to be stored: who joined is sent away, the rest goes on as a plain fetch
 *
 * It belongs to nobody's exchange: it lives until the fetch is over and the cache has answered. What is particular to a
 * kind of route (RFC 9111 for `http`, the inference APIs' own rules) stands behind filling_rules. */
#ifndef SLUICE_PROXY_FILLING_H
#define SLUICE_PROXY_FILLING_H

#include "cache/cache.h"
#include "cache/flight.h"
#include "cache/storing.h"
#include "proxy/fetch.h"
#include "store/cache_tier.h"

enum filling_cost { FILLING_COST_TIME, FILLING_COST_UNIFORM, FILLING_COST_TOKENS };

/* A worker's side of filling: what all of them share. */
struct filling_env {
    struct cache_core *core;
    struct store *store;       /* the second tier; NULL: none */
    uint64_t tier_cost_min_ns; /* what took less to make is not written there */
    unsigned open;             /* fillings that are not over */
    struct list_node fillings; /* all of them */
};

enum { FILLING_REASONS_MAX = 48 };

/* One route's counts on one worker; one writer, read by the metrics. */
struct filling_counters {
    _Atomic uint64_t stored;
    _Atomic uint64_t updated;
    _Atomic uint64_t tier_hits;
    _Atomic uint64_t tier_saved_ns; /* of those that went to the client without being found in memory first */
    _Atomic uint64_t tier_saved_tokens;
    _Atomic uint64_t not_stored[FILLING_REASONS_MAX]; /* by filling_reason */
};

/* Why an answer was not stored: the rules' own reasons behind these. */
enum filling_reason {
    FILLING_OK,
    FILLING_TOO_LARGE,
    FILLING_FAILED,       /* the fetch broke off */
    FILLING_NO_ROOM,      /* nothing could go to make room */
    FILLING_PURGED,       /* a purge or an invalidation met it on its way */
    FILLING_TOO_VARIED,   /* its Vary, tags or key are more than is kept */
    FILLING_STALE_STANDS, /* http: a failure, and what is stored may be used in its place */
    FILLING_REASON_RULES, /* the rules' reasons begin here */
};

/* A route's part in filling. Constant. */
struct filling_route {
    struct bytes name;
    uint16_t index;
    unsigned cost;                       /* enum filling_cost */
    int64_t keep_ms;                     /* a stale answer with a validator is kept this long to be asked about */
    const struct storing_policy *policy; /* http */
    int64_t ttl_ms;                      /* inference */
    bool tool_calls;
};

struct filling;

/* What of a record goes to the clients. */
struct filling_replay {
    struct bytes lines;
    struct bytes body;
    bool is_event_stream;
};

struct filling_rules {
    /* The head has come: sets filling->reason. For what it keeps it has filling->arena. */
    void (*on_head)(struct filling *filling, const struct http_head *head, const char *base);
    void (*on_body)(struct filling *filling, struct bytes run); /* NULL: does not look */
    void (*on_end)(struct filling *filling);     /* the last word, again by filling->reason; NULL: none */
    void (*on_free)(struct filling *filling);    /* NULL: nothing to free */
    const char *(*reason_name)(unsigned reason); /* from FILLING_REASON_RULES on */

    /* The second tier has the answer, whose head is in filling->draft: whether and how it is given. What it is made of
     * here lasts as long as the filling. NULL: it is put into memory, where all who wait find it. */
    bool (*on_record)(struct filling *filling, struct filling_replay *replay);
    /* The key of the variant that the request selects by the marker's set number `set`; .bytes.ptr NULL: it does not
     * fit. False: there is no such set. NULL: answers do not vary. */
    bool (*variant)(struct filling *filling, struct bytes note, unsigned set, struct cache_key *ret_key);
};

struct filling {
    struct fetch_observer observer;
    const struct filling_rules *rules;
    struct filling_env *env;
    const struct filling_route *route;
    struct filling_counters *counters;
    struct list_node node;
    struct fetch *fetch;        /* one use */
    struct flight *flight;      /* NULL: it goes alone, and is joined by nobody */
    struct entry_reader keeper; /* of one that runs for no client: reads along, so that it is not given up */
    struct arena arena;

    struct cache_key key;  /* under which the answer is stored; memory in the arena */
    unsigned reason;       /* FILLING_OK: it is stored */
    bool is_for_head;      /* http: the fetch is a HEAD's; what it says is of use to what is stored for GET */
    bool is_range;         /* http: the client asked for a range */
    bool is_completing;    /* http: the rest of a stored part was asked for, the client wants all */
    bool is_freshening;    /* the stored answer's head is swapped at the end */
    bool is_taken;         /* the rules have put a head into the entry themselves */
    bool is_out_of_memory; /* and could not go on */
    bool is_swallowing;    /* a 304 to our own question: nobody sees it, the stored answer's head is swapped */
    bool is_refetching;    /* likewise, but it spoke of something else: what was stored has gone, ask anew */
    bool is_join_only;     /* who asks at the same time shares the answer, but it is not stored */
    int64_t validates_ms;  /* the request carried the validators of the stored answer of this response_ms; 0: none */
    bool is_expelling;     /* not stored, and nobody else's either */
    bool may_find_in_tier;
    uint64_t ticket; /* goes into the stored head (cache/object.h); 0: a client asked */
    enum storing_method method;
    nanos started_ns;
    int64_t started_ms;
    struct bytes request_head; /* the client's, as it came */
    struct directives_request asks;

    /* the answer, to be stored */
    struct entry *combined; /* in the place of the fetch's entry; one use; NULL */
    struct shard_draft draft;
    struct cache_put put;
    struct cache_put marker; /* the sets of fields by which answers for this key vary */
    bool has_marker;
    struct bytes scheme_and_authority; /* of tags: "http" and Host */

    /* second tier */
    struct cache_tier_get get;
    nanos put_ns;                            /* when the answer was handed to memory */
    struct cache_key tier_key;               /* what is looked for */
    struct cache_tier_record *own_record;    /* what the answer was read from; NULL: it was fetched */
    struct cache_tier_record *marker_record; /* found at the primary key: the answer is at a variant's */
    unsigned marker_sets;                    /* of them, how many have been tried */
    bool tier_has_none;                      /* it was asked, and has nothing */

    void *own; /* the rules' */
};

/* *Gives* a filling for `fetch` (takes a use of it), keyed by `key`, whose bytes are copied. NULL when memory is out.
 */
struct filling *filling_create(struct filling_env *env, const struct filling_route *route,
                               struct filling_counters *counters, const struct filling_rules *rules,
                               struct fetch *fetch, const struct cache_key *key);

/* Keeps the fetch going whoever leaves: for what runs in the background. */
void filling_keep_going(struct filling *filling);

/* Runs it: looks in the second tier if it may, else fetches. *Takes* flight (may be NULL) and the filling. */
void filling_start(struct filling *filling, struct flight *flight);

/* Follows a fetch that is under way from its head on, which the caller passes on to fetch->observer: without a flight,
 * for one to which nobody has been led. *Takes* the filling. */
void filling_take_over(struct filling *filling);

/* The fetch's client leaves before the end: what is to be stored goes on without it. */
void filling_keep_fetch(struct fetch *fetch);

/* Drops one that has not been started. */
void filling_destroy(struct filling *filling);

/* Gives up all that run for no client: the worker is ending. */
void filling_stop_all(struct filling_env *env);

/* Removes what is stored under the key's primary bytes, in memory and in the second tier. */
void filling_remove(struct filling_env *env, const struct cache_key *key, enum shard_cause cause);

/* A static name for the detail of Cache-Status and a metric label. */
const char *filling_reason_name(const struct filling_rules *rules, unsigned reason);

/* Whether a fetch that failed so did not get through to the origin, or got no answer from it. */
bool filling_is_unreachable(enum result failure);

/* ---- for the rules ---- */

/* Puts the lines of `head` for which `keep` holds into the draft, with the places of the validators. */
MUST_USE enum result filling_take_lines(struct filling *filling, const struct http_head *head, const char *base,
                                        bool (*keep)(const struct filling *filling, const struct http_field *field,
                                                     const char *base));

/* ---- http ---- */

extern const struct filling_rules filling_http;

/* Suffix of a stored variant's key, behind the primary bytes; what comes after it is generation, fields, values. */
#define FILLING_VARIANT     "\nvary:"
#define FILLING_MARKER_COST 1e-3
enum { FILLING_JOIN_BYTES_MAX = 4 << 20 }; /* parts are put together up to this: a copy of a millisecond */
enum { FILLING_GENERATION_BYTES = 16, FILLING_KEY_BYTES_MAX = 16384 };

/* Writes the key of the variant that `request` selects by `set` behind the primary key at `key`; RESULT_LIMIT: it does
 * not fit into `bytes_max`. *ret_bytes: all of it. */
MUST_USE enum result filling_variant_key(char *key, size_t primary_bytes, size_t bytes_max, struct bytes generation,
                                         struct bytes set, const struct http_head *request, const char *base,
                                         size_t *ret_bytes);

/* What a stored object that is a marker says: its generation, and the note of sets. False: it is an answer. */
static inline bool filling_is_marker(const struct cache_head *head)
{
    return head->status == 0;
}

#endif

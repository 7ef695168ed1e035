#include "server/prefetching.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/counter.h"
#include "cache/conditional.h"
#include "cache/prefetch.h"
#include "cache/prefetch_ledger.h"
#include "server/cached.h"
#include "server/exchange_cache.h"
#include "server/prefetching_head.h"
#include "server/server.h"

enum {
    SUPPORT_MIN = 3,
    CLIENT_BYTES_MAX = 512, /* what tells a client apart, and the host; one that needs more is not learned */
};

struct prefetching_route {
    struct prefetch *learned;
    struct prefetch_ledger ledger;
    unsigned in_flight; /* claims and fetches */
    _Atomic uint64_t held_back;
};

struct prefetching {
    struct worker *worker;
    struct list_node requests;       /* claims and fetches of all routes */
    struct http_parser asked_parser; /* of a client's head that has to be read again */
    struct http_parser parser;       /* of a request that is made here */
    char head[PREFETCHING_HEAD_BYTES_MAX];
    char key_room[CACHED_KEY_ROOM_BYTES];
    struct prefetching_route *routes[]; /* by the route's number; NULL: it fetches nothing ahead */
};

/* One that is under way: first its claim, then its fetch. */
struct prefetching_request {
    struct flight_waiter waiter;
    struct entry_reader reader; /* keeps the fetch going, and sees its end */
    struct list_node node;
    struct prefetching *prefetching;
    const struct route *route;
    struct filling *filling; /* until the claim is answered; NULL */
    struct fetch *fetch;     /* one use */
};

/* ---- life ---- */

static bool route_wants(const struct config *config, unsigned index)
{
    return config->routes[index].cache.prefetch.enabled;
}

static enum result make_route(struct prefetching *prefetching, unsigned index)
{
    const struct worker *worker = prefetching->worker;
    const struct config_prefetch *config = &worker->config->routes[index].cache.prefetch;
    struct prefetching_route *own = calloc(1, sizeof(*own));
    if (own == NULL) {
        return RESULT_NO_MEMORY;
    }
    prefetching->routes[index] = own;
    const struct prefetch_options options = {
        .memory_bytes = config->memory_bytes_max,
        .confidence_percent = config->confidence_percent,
        .support_min = SUPPORT_MIN,
        .window_ns = config->window_ms * NANOS_PER_MS,
    };
    own->learned = prefetch_create(&options);
    prefetch_ledger_init(&own->ledger, worker->index, config->precision_percent_min, options.window_ns);
    return own->learned == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

enum result prefetching_create(struct worker *worker)
{
    const struct config *config = worker->config;
    unsigned wanted = 0;
    for (unsigned i = 0; i < config->route_count; i++) {
        wanted += route_wants(config, i);
    }
    if (wanted == 0 || worker->cache == NULL) {
        return RESULT_OK;
    }
    struct prefetching *prefetching =
        calloc(1, sizeof(*prefetching) + config->route_count * sizeof(prefetching->routes[0]));
    if (prefetching == NULL) {
        return RESULT_NO_MEMORY;
    }
    prefetching->worker = worker;
    list_init(&prefetching->requests);
    worker->prefetching = prefetching;
    enum result result = RESULT_OK;
    for (unsigned i = 0; i < config->route_count && result == RESULT_OK; i++) {
        result = route_wants(config, i) ? make_route(prefetching, i) : RESULT_OK;
    }
    return result;
}

static void request_free(struct prefetching_request *request)
{
    list_remove(&request->node);
    request->prefetching->routes[request->route->index]->in_flight--;
    entry_reader_leave(&request->reader); /* where nobody else reads, the fetch is given up */
    fetch_unref(request->fetch);
    free(request);
}

void prefetching_stop(struct prefetching *prefetching)
{
    while (prefetching != NULL && !list_is_empty(&prefetching->requests)) {
        struct prefetching_request *request =
            CONTAINER_OF(prefetching->requests.next, struct prefetching_request, node);
        if (request->filling != NULL) {
            flight_claim_cancel(&request->waiter);
            filling_destroy(request->filling);
        }
        request_free(request);
    }
}

void prefetching_destroy(struct prefetching *prefetching)
{
    if (prefetching == NULL) {
        return;
    }
    CHECK(list_is_empty(&prefetching->requests)); /* prefetching_stop was called, and nothing has begun since */
    for (unsigned i = 0; i < prefetching->worker->config->route_count; i++) {
        if (prefetching->routes[i] != NULL) {
            prefetch_destroy(prefetching->routes[i]->learned);
            free(prefetching->routes[i]);
        }
    }
    free(prefetching);
}

/* ---- a fetch ahead ---- */

static nanos now_of(const struct prefetching *prefetching)
{
    return ring_now(prefetching->worker->ring);
}

static void on_progress(struct entry_reader *reader)
{
    struct prefetching_request *request = CONTAINER_OF(reader, struct prefetching_request, reader);
    const struct entry *entry = reader->entry;
    struct hold *hold;
    for (struct bytes run = entry_reader_peek(reader, &hold); run.len > 0; run = entry_reader_peek(reader, &hold)) {
        entry_reader_pass(reader, run.len);
    }
    /* What proves not to be worth storing is not read to its end. */
    if (entry->state != ENTRY_FILLING || entry->is_private) {
        request_free(request);
    }
}

static void on_answer(struct flight_waiter *waiter, enum flight_answer answer)
{
    struct prefetching_request *request = CONTAINER_OF(waiter, struct prefetching_request, waiter);
    struct prefetching_route *own = request->prefetching->routes[request->route->index];
    struct filling *filling = request->filling;
    request->filling = NULL;
    uint64_t ticket = answer == FLIGHT_MINE ? prefetch_ledger_begin(&own->ledger, now_of(request->prefetching)) : 0;
    if (ticket == 0) {
        if (answer == FLIGHT_MINE) {
            flight_release(waiter->flight);
        } else if (answer == FLIGHT_JOINED) {
            entry_unref(waiter->entry); /* somebody is at it already */
        }
        filling_destroy(filling);
        request_free(request);
        return;
    }
    filling->ticket = ticket;              /* for those who find it stored */
    request->fetch->entry.ticket = ticket; /* for those who join */
    entry_reader_join(&request->reader, &request->fetch->entry, on_progress);
    filling_start(filling, waiter->flight); /* may be over, and the request freed, when this returns */
}

static const struct cache_head *validating_head(const struct cached_look *look)
{
    const struct cache_head *head = look->object == NULL ? NULL : cache_object_head(look->object);
    return head != NULL && conditional_can_validate(head) ? head : NULL;
}

static enum result prepare_fetch(struct fetch *fetch, struct conn *conn, const struct cached_look *look)
{
    const struct prefetching *prefetching = look->worker->prefetching;
    char id[FORWARD_REQUEST_ID_BYTES];
    conn_make_request_id(conn, id);
    const struct forward forward = {
        .head = look->source.head,
        .base = look->source.base,
        .path = look->source.path,
        .query = look->source.query,
        .authority = look->source.authority,
        .request_id = {id, sizeof(id)},
        .for_all = true,
        .validating = validating_head(look),
    };
    fetch->request.upstream = &prefetching->worker->upstreams[look->route->config->upstream];
    fetch->request.endpoints_allowed = UINT64_MAX;
    struct worker *worker = prefetching->worker;
    gate_pass_init(&fetch->pass, gates_plain(&worker->gates, look->route->config->upstream));
    fetch->pass.request.class = SCHED_CLASSES - 1;
    fetch->pass.request.cost.prompt_tokens = 1;
    fetch->pass.is_now_or_never = true;
    return forward_request_head(&forward, &fetch->arena, &fetch->request);
}

/* *Gives* the filling with its fetch. NULL when memory is out. */
static struct filling *make_filling(struct conn *conn, const struct cached_look *look)
{
    struct worker *worker = look->worker;
    struct fetch *fetch = fetch_create(&worker->proxy, true);
    if (fetch == NULL) {
        return NULL;
    }
    struct filling *filling = NULL;
    if (prepare_fetch(fetch, conn, look) == RESULT_OK) {
        filling = filling_create(&worker->filling, &look->route->filling,
                                 &cached_counters_of(worker, look->route)->filling, &filling_http, fetch, &look->key);
    }
    fetch_unref(fetch); /* the filling's alone */
    if (filling == NULL) {
        return NULL;
    }
    filling->asks = look->asks;
    const struct cache_head *validating = validating_head(look);
    filling->validates_ms = validating != NULL ? validating->freshness.response_ms : 0;
    filling->may_find_in_tier = look->object == NULL && look->part == NULL;
    filling->request_head =
        arena_copy(&filling->arena, (struct bytes){look->source.base, look->source.head->head_bytes});
    filling->scheme_and_authority = arena_copy(&filling->arena, look->source.authority);
    if (filling->request_head.ptr == NULL || filling->scheme_and_authority.ptr == NULL) {
        filling_destroy(filling);
        return NULL;
    }
    return filling;
}

/* When memory is out nothing begins: the next request guesses anew. */
static void begin(struct prefetching *prefetching, struct conn *conn, const struct cached_look *look)
{
    struct prefetching_request *request = calloc(1, sizeof(*request));
    struct filling *filling = request == NULL ? NULL : make_filling(conn, look);
    if (filling == NULL) {
        free(request);
        return;
    }
    request->prefetching = prefetching;
    request->route = look->route;
    request->filling = filling;
    request->fetch = filling->fetch;
    fetch_ref(request->fetch);
    request->waiter.on_answer = on_answer;
    list_init(&request->node);
    list_push_back(&prefetching->requests, &request->node);
    prefetching->routes[look->route->index]->in_flight++;
    const struct cache_object *seen = look->object != NULL ? look->object : look->part;
    if (flight_claim(prefetching->worker->cache, &request->waiter, &look->key, seen, 0, UINT32_MAX) != RESULT_OK) {
        filling_destroy(filling);
        request_free(request);
    }
}

/* Whether the guess is worth a fetch: it is not stored, or not fresh, and nothing speaks against asking for it. */
static bool is_missing(struct cached_look *look)
{
    cached_look(look);
    if (look->plan != CACHED_MISS && look->plan != CACHED_VALIDATE) {
        return false;
    }
    struct cache_core *cache = look->worker->cache;
    int64_t now_ms = ring_unix_ms(look->worker->ring);
    return !cache_is_in_back_off(cache, look->key.hash, now_ms) &&
           !cache_is_marked_uncacheable(cache, look->key.hash, now_ms);
}

static void follow(struct prefetching *prefetching, struct conn *conn, const struct route *route,
                   const struct cache_key_source *asked, struct bytes target)
{
    struct worker *worker = prefetching->worker;
    struct prefetching_route *own = prefetching->routes[route->index];
    struct bytes head;
    if (!prefetching_head_put(&route->config->cache, asked, target, prefetching->head, &head)) {
        return;
    }
    http_parser_init(&prefetching->parser, HTTP_REQUEST, &worker->limits);
    if (http_parse_head(&prefetching->parser, head.ptr, head.len) != RESULT_OK) {
        return; /* with what was added it is over a limit */
    }
    const struct http_target *parsed = http_parser_target(&prefetching->parser, head.ptr);
    struct cached_look look = {
        .worker = worker,
        .route = route,
        .source = {BYTES("GET"), asked->authority, parsed->path, parsed->query, &prefetching->parser.head, head.ptr},
        .key_room = prefetching->key_room,
    };
    if (!is_missing(&look)) {
        return;
    }
    const struct config_prefetch *config = &route->config->cache.prefetch;
    if (own->in_flight >= config->in_flight_max ||
        !upstream_is_idle(&worker->upstreams[route->config->upstream], config->busy_percent_max)) {
        counter_add(&own->held_back, 1);
        return;
    }
    begin(prefetching, conn, &look);
}

/* ---- learning ---- */

/* A name for who asks, on this host: sequences do not cross hosts, since what follows is asked of the same. */
static bool name_client(struct conn *conn, const struct config_prefetch *config, const struct cache_key_source *asked,
                        uint64_t *ret_client)
{
    struct bytes who = conn_client(conn);
    if (config->session.kind != CONFIG_PART_NONE) {
        who = cache_key_part_value(&config->session, asked);
        if (who.len == 0) {
            return false;
        }
    } else if (who.len == 0) {
        who = (struct bytes){(const char *)&conn, sizeof(conn)}; /* no address: the connection stands for it */
    }
    char text[CLIENT_BYTES_MAX];
    if (who.len + 1 + asked->authority.len > sizeof(text)) {
        return false;
    }
    char *at = bytes_put(text, who);
    *at++ = '\n';
    for (size_t i = 0; i < asked->authority.len; i++) {
        *at++ = ascii_lower(asked->authority.ptr[i]);
    }
    struct bytes name = {text, (size_t)(at - text)};
    *ret_client = cache_key_make(cache_of(conn->worker->cache), name, name.len).hash;
    return true;
}

void prefetching_on_hit(struct conn *conn, const struct route *route, const struct prefetching_asked *asked)
{
    struct worker *worker = conn->worker;
    struct prefetching *prefetching = worker->prefetching;
    struct prefetching_route *own = prefetching->routes[route->index];
    const struct config_cache *config = &route->config->cache;
    struct bytes target = http_head_target(asked->head, asked->base);
    const struct cache_key_source source = {
        http_head_method(asked->head, asked->base),
        asked->authority,
        asked->path,
        asked->target->query,
        asked->head,
        asked->base,
    };
    uint64_t client;
    size_t key_bytes;
    /* Only what comes in the form in which it would be asked for: origin form, and normal. */
    bool is_plain = asked->target->form == HTTP_TARGET_ORIGIN && asked->path.ptr == asked->target->path.ptr &&
                    target.len <= PREFETCH_TARGET_BYTES_MAX;
    if (!is_plain || worker->draining || !prefetching_may_learn(config, &source) ||
        !name_client(conn, &config->prefetch, &source, &client) ||
        cache_key_put(config, &source, prefetching->key_room, CACHED_KEY_BYTES_MAX, &key_bytes) != RESULT_OK) {
        return;
    }
    const struct bytes key = {prefetching->key_room, key_bytes};
    uint64_t request = cache_key_make(cache_of(worker->cache), key, key_bytes).hash;
    nanos now = now_of(prefetching);
    bool may_begin = prefetch_ledger_may_begin(&own->ledger, now);
    struct prefetch_guess guess;
    if (prefetch_learn(own->learned, client, request, target, now) && may_begin &&
        prefetch_predict(own->learned, client, &guess)) {
        follow(prefetching, conn, route, &source, guess.target);
    }
}

/* Whether the exchange's answer is, or will be, found in the cache. */
static bool is_kept(const struct exchange *exchange)
{
    const struct exchange_cache *cache = exchange->cache;
    const struct entry *entry = exchange->reader.entry;
    if (cache == NULL || cache->run != NULL || exchange->status < 200 || exchange->status >= 400) {
        return false;
    }
    switch (cache->outcome) {
    case EXCHANGE_CACHE_COUNTED:
    case EXCHANGE_CACHE_TIER_HIT: return true;
    case EXCHANGE_CACHE_MISS:
    case EXCHANGE_CACHE_JOIN: return entry != NULL && entry->is_stored && entry->state != ENTRY_FAILED;
    case EXCHANGE_CACHE_BYPASS: break;
    }
    return false;
}

void prefetching_on_exchange(const struct exchange *exchange)
{
    if (!is_kept(exchange)) {
        return;
    }
    struct prefetching *prefetching = exchange->conn->worker->prefetching;
    const struct exchange_start *start = exchange->start;
    struct prefetching_asked asked;
    if (start != NULL) {
        asked =
            (struct prefetching_asked){&start->parser->head, start->base, start->target, start->path, start->authority};
    } else {
        struct http_parser *parser = &prefetching->asked_parser;
        const struct bytes head = exchange->cache->head;
        http_parser_init(parser, HTTP_REQUEST, &prefetching->worker->limits);
        enum result result = http_parse_head(parser, head.ptr, head.len);
        CHECK(result == RESULT_OK); /* it was accepted before */
        const struct http_target *target = http_parser_target(parser, head.ptr);
        bool is_normal = bytes_equal(exchange->cache->path, target->path);
        asked = (struct prefetching_asked){&parser->head, head.ptr, target,
                                           is_normal ? target->path : exchange->cache->path,
                                           http_head_value(&parser->head, head.ptr, HTTP_FIELD_HOST)};
    }
    prefetching_on_hit(exchange->conn, exchange->route, &asked);
}

/* ---- what it was good for ---- */

void prefetching_on_use(struct worker *worker, const struct route *route, uint64_t ticket)
{
    unsigned owner = prefetch_ledger_owner(ticket);
    struct prefetching_route *own = worker->server->workers[owner].prefetching->routes[route->index];
    prefetch_ledger_use(&own->ledger, ticket, owner == worker->index, ring_now(worker->ring));
}

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

void prefetching_figures(const struct prefetching *prefetching, unsigned route, struct prefetching_figures *ret_figures)
{
    *ret_figures = (struct prefetching_figures){0};
    const struct prefetching_route *own = prefetching == NULL ? NULL : prefetching->routes[route];
    if (own != NULL) {
        *ret_figures = (struct prefetching_figures){
            .begun = load(&own->ledger.begun),
            .useful = load(&own->ledger.useful),
            .wasted = load(&own->ledger.wasted),
            .held_back = load(&own->held_back),
            .is_stopped = load(&own->ledger.is_stopped),
        };
    }
}

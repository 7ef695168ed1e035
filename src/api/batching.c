/* The client's side: which requests are merged, their tickets, and what becomes of their fetches. */
#include "api/batching.h"

#include <stdlib.h>
#include <string.h>

#include "api/batching_internal.h"
#include "api/demand.h"
#include "api/inference.h"
#include "api/models.h"
#include "base/check.h"

#define BYTES_PER_TOKEN_UNKNOWN 4.0

/* ---- life ---- */

enum result batching_init(struct batching *batching, const struct batching_options *options)
{
    *batching = (struct batching){
        .ring = options->ring,
        .index = options->index,
        .count = options->count,
        .peers = options->peers,
        .proxy = options->proxy,
        .upstreams = options->upstreams,
        .gates = options->gates,
        .route_count = options->route_count,
        .counters = calloc(options->route_count + 1, sizeof(struct batching_counters)),
    };
    list_init(&batching->formers);
    list_init(&batching->starting);
    ring_task_init(&batching->start, batching_call_on_start);
    return batching->counters == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

bool batching_is_settled(const struct batching *batching)
{
    uint64_t owned = 0;
    for (unsigned i = 0; i < batching->count; i++) {
        owned += counter_load(&batching->peers[i]->owned);
    }
    return batching->open == 0 && owned == 0;
}

static void ticket_free_spares(struct batching_ticket *ticket)
{
    for (unsigned i = 0; i < ticket->run_count; i++) {
        free(ticket->runs[i].spare);
        free((void *)(uintptr_t)ticket->runs[i].answer.ptr);
    }
}

void batching_ticket_free(struct batching_ticket *ticket)
{
    ticket_free_spares(ticket);
    array_request_fini(&ticket->array);
    free(ticket->body);
    free(ticket->head);
    free((void *)(uintptr_t)ticket->answer.ptr);
    free(ticket->text);
    free(ticket);
}

/* Its fetch, and so this worker, has nothing to do with it any more. */
static void ticket_close(struct batching_ticket *ticket)
{
    ticket->home->open--;
    batching_ticket_free(ticket);
}

/* The body is not held for a batch any more. */
static void ticket_unhold(struct batching_ticket *ticket)
{
    ticket->home->held_bytes -= ticket->body_bytes;
}

/* ---- going alone ---- */

/* The owner hears of it, and has the ticket. */
static void tell_ended(struct batching_ticket *ticket)
{
    struct batching *home = ticket->home;
    home->open--;
    ticket->message.on_deliver = batching_on_ended;
    ring_post(home->ring, ticket->owner->index, &ticket->message);
}

static void on_alone_end(struct batching_ticket *ticket, const struct fetch *fetch, enum result result)
{
    bool has_failed = result != RESULT_OK || fetch->status >= 500;
    bool is_canceled = result == RESULT_CANCELED || result == RESULT_SHED || result == RESULT_NO_MEMORY ||
                       result == RESULT_LIMIT || (!has_failed && fetch->status != 200);
    ticket->took_ns = ring_now(ticket->home->ring) - ticket->alone_ns;
    ticket->has_failed = has_failed && !is_canceled;
    ticket->tells_nothing = is_canceled;
    tell_ended(ticket);
}

static void go_alone(struct batching_ticket *ticket)
{
    struct fetch *fetch = ticket->fetch;
    fetch->request.body = ticket->body;
    ticket->body = NULL;
    array_request_fini(&ticket->array); /* spoke of the body */
    ticket->stage = BATCHING_IS_ALONE;
    ticket->alone_ns = ring_now(ticket->home->ring);
    if (!ticket->is_counted) {
        fetch->detour = NULL;
        ticket_close(ticket);
    }
    fetch_go_on(fetch);
}

/* ---- coming back ---- */

static void answer(struct batching_ticket *ticket)
{
    const struct fetch_answer given = {
        .head = {ticket->head, ticket->head_bytes},
        .body = ticket->answer,
        .endpoint = ticket->endpoint,
        .batch_items = ticket->batch_items,
        .batch_requests = ticket->batch_requests,
    };
    ticket->stage = BATCHING_BACK;
    fetch_answer(ticket->fetch, &given);
    ticket_close(ticket);
}

/* Nobody has waited for it. */
static void on_left_back(struct batching_ticket *ticket)
{
    ticket_unhold(ticket);
    if (ticket->verdict == BATCHING_ALONE && ticket->is_counted) {
        ticket->tells_nothing = true;
        tell_ended(ticket);
    } else {
        ticket_close(ticket);
    }
}

void batching_ticket_on_back(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct batching_ticket *ticket = CONTAINER_OF(message, struct batching_ticket, message);
    ticket->away--;
    if (ticket->fetch == NULL) {
        if (ticket->away == 0) {
            on_left_back(ticket);
        }
        return;
    }
    ticket_unhold(ticket);
    switch (ticket->verdict) {
    case BATCHING_ALONE: go_alone(ticket); break;
    case BATCHING_ANSWERED: answer(ticket); break;
    case BATCHING_NONE:
    case BATCHING_FAILED:
        ticket->stage = BATCHING_BACK;
        fetch_give_up(ticket->fetch, &ticket->failure);
        ticket_close(ticket);
        break;
    }
}

void batching_ticket_on_cancel_back(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct batching_ticket *ticket = CONTAINER_OF(message, struct batching_ticket, cancel);
    if (--ticket->away == 0) {
        on_left_back(ticket);
    }
}

/* ---- the fetch ---- */

static void on_end(struct fetch_detour *detour, struct fetch *fetch, enum result result)
{
    struct batching_ticket *ticket = CONTAINER_OF(detour, struct batching_ticket, detour);
    ticket->fetch = NULL;
    switch (ticket->stage) {
    case BATCHING_AWAY: /* its client has left */
        ticket->away++;
        ticket->cancel.on_deliver = batching_on_cancel;
        ring_post(ticket->home->ring, ticket->owner->index, &ticket->cancel);
        break;
    case BATCHING_IS_ALONE: on_alone_end(ticket, fetch, result); break;
    case BATCHING_BACK: break;
    }
}

/* What a fetch has until it starts; in its arena. */
struct intent {
    struct fetch_detour detour;
    struct batching *batching;
    const struct batching_route *route;
    const struct array_shape *shape;
};

struct bytes batching_path_of(struct bytes line, bool with_query)
{
    const char *from = memchr(line.ptr, ' ', line.len);
    struct bytes rest = from == NULL ? BYTES_NONE : (struct bytes){from + 1, (size_t)(line.ptr + line.len - from - 1)};
    size_t length = 0;
    while (length < rest.len && rest.ptr[length] != ' ' && (with_query || rest.ptr[length] != '?')) {
        length++;
    }
    return (struct bytes){rest.ptr, length};
}

/* Under which name its gate goes, and with it the former: names that nobody offers fill neither table. */
static struct bytes model_of(struct fetch *fetch, struct bytes body)
{
    struct demand demand;
    demand_init(&demand);
    demand_from_body(&demand, batching_path_of(fetch->request.line, false), body);
    struct bytes model = demand.model;
    if (demand.model_is_escaped && !inference_model(&fetch->arena, body, &model)) {
        return BYTES_NONE;
    }
    const struct model_directory *directory = fetch->request.upstream->models;
    model = directory == NULL ? model : model_directory_scheduled_as(directory, model);
    return model.ptr == NULL ? BYTES("") : model;
}

static double bytes_per_token(const struct fetch *fetch)
{
    const struct cost_model *cost = fetch->pass.gate == NULL ? NULL : gate_cost(fetch->pass.gate);
    struct cost_figures figures = {.bytes_per_token = 0};
    if (cost != NULL) {
        cost_figures(cost, &figures);
    }
    return figures.bytes_per_token > 0 ? figures.bytes_per_token : BYTES_PER_TOKEN_UNKNOWN;
}

/* How many runs it takes within the route's budgets; 0: it cannot be. */
static unsigned count_runs(const struct array_request *array, const struct batch_options *options)
{
    const struct array_budget budget = {options->items_max, options->tokens_max, options->bytes_max};
    unsigned count = 0;
    for (uint32_t first = 0; first < array->item_count; count++) {
        struct array_run run = array_run_from(array, first, &budget);
        if (run.tokens > options->tokens_max || run.bytes > options->bytes_max || count == BATCHING_PARTS_MAX) {
            return 0;
        }
        first += run.count;
    }
    return count;
}

/* All that it has in common with those it can be merged with, beside its body. `text`: ticket->text. */
static bool copy_head(struct batching_ticket *ticket, struct fetch *fetch, struct bytes model)
{
    const struct fetch_request *request = &fetch->request;
    const struct bytes fields = request->fields;
    ticket->text = malloc(request->line.len + request->host.len + fields.len * 2 + model.len + 1);
    if (ticket->text == NULL) {
        return false;
    }
    char *at = ticket->text;
    struct batching_lines said = batching_read_lines(fields, at);
    if (said.is_coded) {
        return false;
    }
    ticket->lines = (struct bytes){at, said.shared_bytes};
    at += said.shared_bytes;
    const struct bytes from[] = {request->line, request->host, model, said.request_id};
    struct bytes *const to[] = {&ticket->line, &ticket->host, &ticket->model, &ticket->request_id};
    for (size_t i = 0; i < ARRAY_COUNT(from); i++) {
        *to[i] = (struct bytes){at, from[i].len};
        at = bytes_put(at, from[i]);
    }
    ticket->endpoints_allowed = request->endpoints_allowed;
    return true;
}

/* Everything outside the body that keeps requests apart, as one text. */
static struct bytes credentials_of(const struct batching_ticket *ticket, struct fetch *fetch)
{
    bool is_clients_host = fetch->request.upstream->options.client_host;
    return arena_format(&fetch->arena, "%.*s\n%.*s\n%llx\n%.*s", BYTES_ARG(ticket->route->name),
                        is_clients_host ? (int)ticket->host.len : 0, ticket->host.ptr,
                        (unsigned long long)ticket->endpoints_allowed, BYTES_ARG(ticket->lines));
}

static void take_urgency(struct batching_ticket *ticket, const struct fetch *fetch)
{
    const struct sched_request *request = &fetch->pass.request;
    bool is_scheduled = fetch->pass.gate != NULL;
    ticket->class = is_scheduled ? request->class : SCHED_CLASS_DEFAULT;
    ticket->weight = is_scheduled ? request->weight : 0;
    ticket->tenant = is_scheduled ? request->tenant : 0;
    ticket->account = is_scheduled ? fetch->pass.account : 0;
    ticket->deadline_ns = is_scheduled ? request->deadline_ns : NANOS_NEVER;
    ticket->is_patient = is_scheduled && request->is_patient;
    ticket->arrived_ns = is_scheduled && request->arrived_ns != 0 ? request->arrived_ns : fetch->started_ns;
}

/* Cuts the request into runs, each with a call's memory at hand. */
static struct batching_ticket *ticket_alloc(const struct array_request *array, unsigned run_count,
                                            const struct batch_options *options)
{
    const struct array_budget budget = {options->items_max, options->tokens_max, options->bytes_max};
    struct batching_ticket *ticket = calloc(1, sizeof(*ticket) + run_count * sizeof(struct batching_run));
    if (ticket == NULL) {
        return NULL;
    }
    ticket->run_count = run_count;
    bool ok = true;
    uint32_t first = 0;
    for (unsigned i = 0; i < run_count; i++) {
        struct batching_run *run = &ticket->runs[i];
        run->ticket = ticket;
        run->run = array_run_from(array, first, &budget);
        run->run.request = &ticket->array;
        run->spare = malloc(sizeof(struct batching_call));
        ok = ok && run->spare != NULL;
        first += run->run.count;
    }
    if (!ok) {
        batching_ticket_free(ticket);
        return NULL;
    }
    return ticket;
}

/* Reads the request. NULL: it cannot be merged, or memory is out. */
static struct batching_ticket *ticket_make(const struct intent *intent, struct fetch *fetch)
{
    const struct batching_route *route = intent->route;
    struct bytes body = {fetch->request.body, fetch->request.body_bytes};
    struct batching_ticket head = {.route = route};
    struct array_request array;
    struct batching_ticket *ticket = NULL;
    if (!copy_head(&head, fetch, model_of(fetch, body))) {
        free(head.text);
        return NULL;
    }
    const struct array_terms terms = {
        .path = batching_path_of(head.line, true),
        .credentials = credentials_of(&head, fetch),
        .bytes_per_token = bytes_per_token(fetch),
    };
    if (terms.credentials.ptr == NULL || array_request_read(intent->shape, &terms, body, &array) != ARRAY_OK) {
        free(head.text);
        return NULL;
    }
    unsigned run_count = count_runs(&array, &route->options);
    ticket = run_count == 0 ? NULL : ticket_alloc(&array, run_count, &route->options);
    if (ticket == NULL) {
        array_request_fini(&array);
        free(head.text);
        return NULL;
    }
    head.run_count = run_count;
    *ticket = head;
    ticket->array = array;
    take_urgency(ticket, fetch);
    return ticket;
}

static bool on_start(struct fetch_detour *detour, struct fetch *fetch)
{
    struct intent *intent = CONTAINER_OF(detour, struct intent, detour);
    struct batching *home = intent->batching;
    struct batching_counters *counters = &home->counters[intent->route->index];
    struct batching_ticket *ticket = NULL;
    if (fetch->request.body_bytes <= BATCHING_HELD_BYTES_MAX - home->held_bytes) {
        ticket = ticket_make(intent, fetch);
    }
    if (ticket == NULL) {
        counter_add(&counters->counts[BATCHING_UNMERGED], 1);
        return false;
    }
    counter_add(&counters->counts[BATCHING_PARTS], ticket->run_count > 1 ? ticket->run_count : 0);
    ticket->home = home;
    ticket->owner = home->peers[gates_owner_of(home->gates, intent->route->upstream, ticket->model)];
    ticket->detour.on_end = on_end;
    ticket->fetch = fetch;
    ticket->stage = BATCHING_AWAY;
    ticket->away = 1;
    ticket->body = fetch->request.body;
    ticket->body_bytes = fetch->request.body_bytes;
    fetch->request.body = NULL;
    fetch->detour = &ticket->detour;
    home->open++;
    home->held_bytes += ticket->body_bytes;
    ticket->message.on_deliver = batching_on_submit;
    ring_post(home->ring, ticket->owner->index, &ticket->message);
    return true;
}

static const struct array_shape *shape_of(const struct batching_route *route, struct bytes path)
{
    for (unsigned i = 0; i < route->array_count; i++) {
        if (bytes_equal(route->arrays[i].path, path)) {
            return &route->arrays[i].shape;
        }
    }
    return array_shape_of(path);
}

void batching_attach(struct batching *batching, const struct batching_route *route, struct fetch *fetch)
{
    const struct array_shape *shape = shape_of(route, batching_path_of(fetch->request.line, false));
    struct intent *intent = shape == NULL ? NULL : arena_alloc(&fetch->arena, sizeof(*intent));
    if (intent != NULL) { /* without memory it goes as any other */
        *intent = (struct intent){{on_start, on_end}, batching, route, shape};
        fetch->detour = &intent->detour;
    }
}

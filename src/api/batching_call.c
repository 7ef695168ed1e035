/* A merged call: its fetch, and what its answer comes to for each of its runs. */
#include <stdlib.h>
#include <string.h>

#include "api/batching_internal.h"
#include "api/demand.h"
#include "api/inference_meter.h"
#include "api/models.h"
#include "base/check.h"
#include "base/log.h"

/* A model whose answers could not be taken apart is left alone for so long: each try costs the backend a call more. */
#define APART_NS (60 * NANOS_PER_S)

static struct batching_run *run_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct batching_run, item.node);
}

static struct batching *owner_of(const struct batching_call *call)
{
    return call->former->batching;
}

/* ---- making ---- */

struct batching_call *batching_call_make(struct batching_former *former, struct list_node *items, uint64_t key)
{
    struct batching *batching = former->batching;
    struct batching_run *first = run_of(items->next);
    struct batching_call *call = first->spare;
    first->spare = NULL;
    *call = (struct batching_call){.former = former, .key = key, .flushed_ns = ring_now(batching->ring)};
    list_init(&call->runs);
    struct list_node *node;
    while ((node = list_pop_front(items)) != NULL) {
        struct batching_run *run = run_of(node);
        run->call = call;
        list_push_back(&call->runs, node);
        call->run_count++;
        call->items += run->run.count;
    }
    call->live = call->run_count;
    former->uses++;
    counter_add(&batching->owned, 1);
    list_push_back(&batching->starting, &call->node);
    ring_defer(batching->ring, &batching->start);
    return call;
}

/* ---- unmaking ---- */

/* Lets go of its fetch, and tells the former of its end. What it has of its runs stays. */
static void stop(struct batching_call *call, bool is_failed, bool is_canceled)
{
    list_remove(&call->node);
    entry_reader_leave(&call->reader);
    if (call->fetch != NULL) {
        fetch_unref(call->fetch);
        call->fetch = NULL;
    }
    if (call->is_counted) {
        call->is_counted = false;
        const struct batch_end end = {
            .key = call->key,
            .items = call->items,
            .took_ns = ring_now(owner_of(call)->ring) - call->flushed_ns,
            .is_failed = is_failed,
            .is_canceled = is_canceled,
        };
        batching_former_on_end(call->former, &end);
    }
}

/* Its runs are in it no more: whoever decides a ticket finds them by themselves. */
static void release_runs(struct batching_call *call)
{
    for (struct list_node *node = call->runs.next; node != &call->runs; node = node->next) {
        run_of(node)->call = NULL;
    }
}

static void call_free(struct batching_call *call)
{
    CHECK(list_is_empty(&call->runs) && call->fetch == NULL);
    batching_former_unuse(call->former);
    counter_add(&owner_of(call)->owned, (uint64_t)-1);
    free(call->array_runs);
    free(call->answer);
    free(call);
}

static void settle_all(struct batching_call *call)
{
    struct list_node *node;
    release_runs(call);
    while ((node = list_pop_front(&call->runs)) != NULL) {
        batching_run_settle(run_of(node));
    }
    call_free(call);
}

void batching_call_leave(struct batching_call *call)
{
    if (--call->live > 0) {
        return;
    }
    batching_count(call->former, BATCHING_CANCELED, 1);
    stop(call, false, true);
    settle_all(call);
}

/* Each gets the same failure. */
static void fail(struct batching_call *call, const struct fetch_failure *failure)
{
    bool is_canceled = failure->result == RESULT_SHED || failure->result == RESULT_NO_MEMORY ||
                       failure->result == RESULT_LIMIT || failure->result == RESULT_CANCELED;
    stop(call, !is_canceled, is_canceled);
    release_runs(call);
    struct list_node *node;
    while ((node = list_pop_front(&call->runs)) != NULL) {
        struct batching_run *run = run_of(node);
        if (!run->ticket->is_decided) {
            run->ticket->failure = *failure;
            batching_decide(run->ticket, BATCHING_FAILED);
        } else {
            batching_run_settle(run);
        }
    }
    call_free(call);
}

/* ---- trying again ---- */

/* Takes the call apart: *ret_runs are those that somebody waits for, the first of which has the call's memory. False:
 * there are none. */
static void dissolve(struct batching_call *call, struct list_node *ret_runs)
{
    struct list_node *node;
    struct batching_run *first = run_of(call->runs.next);
    release_runs(call);
    list_init(ret_runs);
    free(call->array_runs);
    free(call->answer);
    batching_former_unuse(call->former);
    counter_add(&owner_of(call)->owned, (uint64_t)-1);
    first->spare = call; /* goes with its ticket, if that goes now */
    struct list_node all;
    list_init(&all);
    while ((node = list_pop_front(&call->runs)) != NULL) {
        list_push_back(&all, node);
    }
    while ((node = list_pop_front(&all)) != NULL) {
        if (run_of(node)->ticket->is_decided) {
            batching_run_settle(run_of(node));
        } else {
            list_push_back(ret_runs, node);
        }
    }
}

/* One or several runs, again. */
static void send_again(struct batching_former *former, struct list_node *runs, uint64_t key, bool is_apart)
{
    struct batching_run *first = run_of(runs->next);
    if (runs->next->next == runs && array_run_is_whole(&first->run)) {
        list_remove(&first->item.node);
        batching_go_alone(first->ticket, false);
    } else {
        batching_call_make(former, runs, key)->is_apart = is_apart;
    }
}

/* Each run by itself. */
static void go_apart(struct batching_call *call)
{
    struct batching_former *former = call->former;
    uint64_t key = call->key;
    struct list_node runs;
    struct list_node *node;
    stop(call, false, true);
    dissolve(call, &runs);
    while ((node = list_pop_front(&runs)) != NULL) {
        struct list_node one;
        list_init(&one);
        list_push_back(&one, node);
        send_again(former, &one, key, true);
    }
}

/* An item is at fault: in two halves. */
static void bisect(struct batching_call *call)
{
    struct batching_former *former = call->former;
    uint64_t key = call->key;
    struct array_run *array_runs = call->array_runs;
    struct list_node runs;
    struct list_node half;
    call->array_runs = NULL;
    batching_count(former, BATCHING_BISECTED, 1);
    stop(call, false, true);
    dissolve(call, &runs);
    unsigned count = 0;
    for (struct list_node *node = runs.next; node != &runs; node = node->next) {
        array_runs[count++] = run_of(node)->run;
    }
    unsigned cut = count == 0 ? 0 : array_bisect(array_runs, count);
    free(array_runs);
    list_init(&half);
    for (unsigned i = 0; i < cut; i++) {
        list_push_back(&half, list_pop_front(&runs));
    }
    if (!list_is_empty(&half)) {
        send_again(former, &half, key, false);
    }
    if (!list_is_empty(&runs)) {
        send_again(former, &runs, key, false);
    }
}

/* ---- the answer ---- */

/* What its tickets are told of the call; the entry is kept. */
struct outcome {
    struct entry *entry;
    unsigned endpoint;
    uint32_t items;
    uint32_t requests;
};

/* The call's fetch has been answered: lets go of it, but for what is told of it. */
static struct outcome take_outcome(struct batching_call *call)
{
    const struct fetch *fetch = call->fetch;
    struct outcome outcome = {
        .entry = &call->fetch->entry,
        .endpoint = fetch->endpoint == NULL ? 0 : fetch->endpoint->index,
        .items = call->items,
        .requests = call->run_count,
    };
    unsigned status = outcome.entry->status;
    entry_ref(outcome.entry);
    stop(call, status >= 500, status != 200 && status < 500);
    release_runs(call);
    return outcome;
}

static void tell_outcome(struct batching_ticket *ticket, const struct outcome *outcome)
{
    ticket->endpoint = outcome->endpoint;
    ticket->batch_items = outcome->items > ticket->batch_items ? outcome->items : ticket->batch_items;
    ticket->batch_requests = outcome->requests > ticket->batch_requests ? outcome->requests : ticket->batch_requests;
}

static void fail_run(struct batching_run *run, enum result why)
{
    run->ticket->failure = (struct fetch_failure){.result = why, .was_connected = true};
    batching_decide(run->ticket, BATCHING_FAILED);
}

/* What the backend has said is for each of them, whole. */
static void pass_on(struct batching_call *call)
{
    struct list_node *node;
    const struct outcome outcome = take_outcome(call);
    while ((node = list_pop_front(&call->runs)) != NULL) {
        struct batching_run *run = run_of(node);
        struct batching_ticket *ticket = run->ticket;
        if (ticket->is_decided) {
            batching_run_settle(run);
            continue;
        }
        char *body = malloc(call->answer_bytes + 1);
        if (body == NULL || !batching_answer_begin(ticket, outcome.entry, false)) {
            free(body);
            fail_run(run, RESULT_NO_MEMORY);
            continue;
        }
        bytes_put(body, (struct bytes){call->answer, call->answer_bytes});
        ticket->answer = (struct bytes){body, call->answer_bytes};
        tell_outcome(ticket, &outcome);
        batching_decide(ticket, BATCHING_ANSWERED);
    }
    entry_unref(outcome.entry);
    call_free(call);
}

/* Each has its part, from `answers`, which is *taken*. */
static void hand_out(struct batching_call *call, struct bytes *answers)
{
    struct list_node *node;
    unsigned i = 0;
    const struct outcome outcome = take_outcome(call);
    for (node = call->runs.next; node != &call->runs; node = node->next) {
        run_of(node)->answer = answers[i++];
    }
    free(answers);
    batching_count(call->former, BATCHING_MERGED, call->run_count > 1 ? call->run_count : 0);
    while ((node = list_pop_front(&call->runs)) != NULL) {
        struct batching_run *run = run_of(node);
        struct batching_ticket *ticket = run->ticket;
        if (!ticket->is_decided) {
            tell_outcome(ticket, &outcome);
            if (ticket->head == NULL && !batching_answer_begin(ticket, outcome.entry, true)) {
                fail_run(run, RESULT_NO_MEMORY);
                continue;
            }
        }
        batching_run_settle(run);
    }
    entry_unref(outcome.entry);
    call_free(call);
}

/* It cannot be taken apart. */
static void on_odd_answer(struct batching_call *call, const char *why)
{
    struct batching_former *former = call->former;
    struct batching *batching = former->batching;
    log_warn("a merged answer cannot be taken apart: %s route=%.*s items=%u requests=%u", why,
             BYTES_ARG(former->route->name), call->items, call->run_count);
    batching_count(former, BATCHING_APART, 1);
    if (call->is_apart) {
        fail(call, &(struct fetch_failure){.result = RESULT_PROTOCOL, .fault = why, .was_connected = true});
        return;
    }
    former->apart_until_ns = ring_now(batching->ring) + APART_NS;
    go_apart(call);
}

static void take_answer(struct batching_call *call)
{
    const struct entry *entry = &call->fetch->entry;
    if (array_status_is_items(entry->status) && call->run_count > 1) {
        bisect(call);
        return;
    }
    if (entry->status != 200) {
        pass_on(call);
        return;
    }
    if (batching_is_coded(entry)) {
        on_odd_answer(call, "the upstream coded an answer that was to be taken apart");
        return;
    }
    struct bytes *answers = calloc(call->run_count, sizeof(*answers));
    const char *error = NULL;
    enum result result = RESULT_NO_MEMORY;
    if (answers != NULL) {
        result = array_answer_split(call->array_runs, call->run_count, (struct bytes){call->answer, call->answer_bytes},
                                    answers, &error);
    }
    if (result == RESULT_OK) {
        hand_out(call, answers);
        return;
    }
    free(answers);
    if (result == RESULT_PROTOCOL) {
        on_odd_answer(call, error);
    } else {
        fail(call, &(struct fetch_failure){.result = result, .was_connected = true});
    }
}

/* ---- its fetch ---- */

/* Takes what is there. False: there is no room for it. */
static bool collect(struct batching_call *call)
{
    for (;;) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(&call->reader, &hold);
        if (run.len == 0) {
            return true;
        }
        size_t wanted = call->answer_bytes + run.len;
        if (wanted > BATCHING_ANSWER_BYTES_MAX) {
            return false;
        }
        if (wanted > call->answer_capacity) {
            size_t capacity = wanted * 2;
            char *answer = realloc(call->answer, capacity);
            if (answer == NULL) {
                return false;
            }
            call->answer = answer;
            call->answer_capacity = capacity;
        }
        bytes_put(call->answer + call->answer_bytes, run);
        call->answer_bytes = wanted;
        entry_reader_pass(&call->reader, run.len);
    }
}

static void on_progress(struct entry_reader *reader)
{
    struct batching_call *call = CONTAINER_OF(reader, struct batching_call, reader);
    const struct entry *entry = reader->entry;
    if (entry->state == ENTRY_FAILED) {
        fail(call, &(struct fetch_failure){
                       .result = entry->failure,
                       .fault = entry->failure_text,
                       .was_connected = entry->was_connected,
                       .shed = entry->shed,
                       .retry_after_ms = entry->retry_after_ms,
                   });
    } else if (!collect(call)) {
        fail(call, &(struct fetch_failure){.result = RESULT_NO_MEMORY, .was_connected = true});
    } else if (entry->state == ENTRY_COMPLETE) {
        take_answer(call);
    }
}

/* The best class and the last deadline of those who wait, and the tenant that they have in common. */
static void set_request(const struct batching_call *call, struct sched_request *request)
{
    bool is_first = true;
    for (const struct list_node *node = call->runs.next; node != &call->runs; node = node->next) {
        const struct batching_run *run = CONTAINER_OF(node, const struct batching_run, item.node);
        const struct batching_ticket *ticket = run->ticket;
        if (ticket->is_decided) {
            continue;
        }
        bool is_last = is_first || ticket->deadline_ns > request->deadline_ns;
        request->class = is_first || ticket->class < request->class ? ticket->class : request->class;
        request->deadline_ns = is_last ? ticket->deadline_ns : request->deadline_ns;
        request->is_patient = is_last ? ticket->is_patient : request->is_patient;
        request->tenant = is_first || request->tenant == ticket->tenant ? ticket->tenant : 0;
        request->weight = is_first || ticket->weight > request->weight ? ticket->weight : request->weight;
        bool is_older = is_first || ticket->arrived_ns < request->arrived_ns;
        request->arrived_ns = is_older ? ticket->arrived_ns : request->arrived_ns;
        is_first = false;
    }
}

/* What it costs is read from its body, as any request's is. */
static void set_gate(struct batching_call *call, const struct batching_ticket *first, struct bytes path)
{
    struct batching *batching = owner_of(call);
    struct fetch *fetch = call->fetch;
    const struct model_directory *directory = fetch->request.upstream->models;
    bool is_offered = directory != NULL && model_directory_offers(directory, first->model);
    gate_pass_init(&fetch->pass, NULL);
    gate_pass_choose_model(&fetch->pass, batching->gates, first->route->upstream, first->model, is_offered);
    struct gate *gate = fetch->pass.gate;
    if (gate == NULL) {
        return;
    }
    struct sched_request *request = &fetch->pass.request;
    fetch->pass.account = first->account;
    set_request(call, request);
    struct demand demand;
    struct cost_question question;
    demand_init(&demand);
    demand_from_body(&demand, path, (struct bytes){fetch->request.body, fetch->request.body_bytes});
    demand_question(&demand, request->tenant, NULL, 0, &question);
    request->cost.prompt_tokens = 1;
    if (gate_cost(gate) != NULL) {
        request->cost = cost_estimate(gate_cost(gate), &question);
    }
    bool is_metered = inference_meter_attach(fetch, &question);
    (void)is_metered; /* without memory nothing is learned from it */
}

/* *Takes* body. */
static enum result make_fetch(struct batching_call *call, struct bytes body)
{
    struct batching *batching = owner_of(call);
    const struct batching_ticket *first = run_of(call->runs.next)->ticket;
    struct fetch *fetch = fetch_create(batching->proxy, true);
    if (fetch == NULL) {
        free((void *)(uintptr_t)body.ptr);
        return RESULT_NO_MEMORY;
    }
    call->fetch = fetch;
    struct fetch_request *request = &fetch->request;
    request->body = (char *)(uintptr_t)body.ptr;
    request->body_bytes = body.len;
    request->has_length = true;
    request->length = body.len;
    request->upstream = &batching->upstreams[first->route->upstream];
    request->endpoints_allowed = first->endpoints_allowed;
    request->line = arena_copy(&fetch->arena, first->line);
    request->host = arena_copy(&fetch->arena, first->host);
    request->fields = batching_call_fields(&fetch->arena, first);
    if (request->line.ptr == NULL || request->host.ptr == NULL || request->fields.ptr == NULL) {
        return RESULT_NO_MEMORY;
    }
    set_gate(call, first, batching_path_of(request->line, false));
    return RESULT_OK;
}

static enum result merge(struct batching_call *call, struct bytes *ret_body)
{
    unsigned i = 0;
    call->array_runs = malloc(call->run_count * sizeof(*call->array_runs));
    if (call->array_runs == NULL) {
        return RESULT_NO_MEMORY;
    }
    for (struct list_node *node = call->runs.next; node != &call->runs; node = node->next) {
        call->array_runs[i++] = run_of(node)->run;
    }
    return array_merge(call->array_runs, call->run_count, ret_body);
}

static void begin(struct batching_call *call)
{
    struct bytes body = BYTES_NONE;
    enum result result = merge(call, &body);
    if (result == RESULT_INTERNAL) {
        go_apart(call); /* their keys are equal, and they are not */
        return;
    }
    if (result == RESULT_OK) {
        result = make_fetch(call, body);
    }
    if (result != RESULT_OK) {
        fail(call, &(struct fetch_failure){.result = result});
        return;
    }
    entry_reader_join(&call->reader, &call->fetch->entry, on_progress);
    fetch_start(call->fetch); /* may be over, and with it the call */
}

void batching_call_on_start(struct ring_task *task)
{
    struct batching *batching = CONTAINER_OF(task, struct batching, start);
    struct list_node *node;
    while ((node = list_pop_front(&batching->starting)) != NULL) {
        begin(CONTAINER_OF(node, struct batching_call, node));
    }
}

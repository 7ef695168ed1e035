/* A worker's gates, and the passes of its fetches. */
#include "proxy/gate.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "proxy/gate_internal.h"

#define SAMPLE_NS NANOS_PER_MS

bool gate_key_equal(const struct gate_key *a, const struct gate_key *b)
{
    return a->hash == b->hash && a->upstream == b->upstream && a->is_plain == b->is_plain &&
           bytes_equal(a->model, b->model);
}

/* ---- decisions ---- */

void gate_count(struct gate_pass *pass, int by)
{
    if (pass->gate != NULL) {
        counter_add(&pass->gate->gates->outstanding, (uint64_t)(int64_t)by);
    }
}

void gate_decide(struct gates *gates, struct gate_pass *pass, enum gate_state state)
{
    pass->state = state;
    list_push_back(&gates->decisions, &pass->node);
    ring_defer(gates->ring, &gates->telling);
}

static void on_telling(struct ring_task *task)
{
    struct gates *gates = CONTAINER_OF(task, struct gates, telling);
    struct list_node *node;
    while ((node = list_pop_front(&gates->decisions)) != NULL) {
        struct gate_pass *pass = CONTAINER_OF(node, struct gate_pass, node);
        if (pass->state == GATE_TO_BE_GRANTED) {
            pass->state = GATE_HELD;
            gate_count(pass, 1);
        } else {
            pass->state = GATE_OUT;
        }
        gate_tell(pass);
    }
}

/* Its account may have got a pause while it waited. */
void gate_tell(struct gate_pass *pass)
{
    if (UNLIKELY(pass->state == GATE_HELD && gate_accounts_is_paused(pass))) {
        pass->outcome.is_canceled = true;
        gate_leave(pass);
        pass->outcome.is_canceled = false;
        if (gate_accounts_pause(pass) == GATE_IS_PAUSED) {
            return;
        }
    }
    pass->on_decided(pass);
}

bool gate_only_observes(const struct gate *gate)
{
    const struct gate_options *options = &gate->gates->options[gate->key.upstream];
    return gate->key.is_plain ? options->plain.observe_only : options->model.observe_only;
}

/* ---- life ---- */

enum result gates_init(struct gates *gates, const struct gates_options *options)
{
    *gates = (struct gates){
        .ring = options->ring,
        .index = options->index,
        .count = options->count,
        .peers = options->peers,
        .options = options->options,
        .upstream_count = options->upstream_count,
        .plain = calloc(options->upstream_count + 1, sizeof(struct gate *)),
        .names = calloc(options->upstream_count + 1, sizeof(struct gate_names *)),
    };
    list_init(&gates->models);
    list_init(&gates->nameless);
    list_init(&gates->owners);
    list_init(&gates->decisions);
    list_init(&gates->paused);
    ring_task_init(&gates->telling, on_telling);
    ring_timer_init(&gates->pause, gate_accounts_on_timer);
    if (gates->plain == NULL || gates->names == NULL) {
        gates_fini(gates);
        return RESULT_NO_MEMORY;
    }
    return RESULT_OK;
}

static void gate_free(struct gate *gate)
{
    list_remove(&gate->node);
    if (gate->link != NULL) {
        gate_link_free(gate->link);
    }
    cost_destroy(gate->cost);
    free(gate->accounts);
    free(gate);
}

static void free_all(struct list_node *list)
{
    while (!list_is_empty(list)) {
        gate_free(CONTAINER_OF(list->next, struct gate, node));
    }
}

void gates_fini(struct gates *gates)
{
    if (gates->options == NULL) {
        return; /* it was never made */
    }
    free_all(&gates->models);
    free_all(&gates->nameless);
    struct list_node *node;
    while ((node = list_pop_front(&gates->owners)) != NULL) {
        struct gate_owner *owner = CONTAINER_OF(node, struct gate_owner, node);
        admission_destroy(owner->admission);
        free(owner);
    }
    for (unsigned i = 0; gates->names != NULL && i < gates->upstream_count; i++) {
        free(gates->names[i]);
    }
    free(gates->names);
    free(gates->plain);
    gates->names = NULL;
    gates->plain = NULL;
}

/* Takes note of all that other workers have told. */
static void look_at_links(struct gates *gates)
{
    for (struct list_node *node = gates->owners.next; node != &gates->owners; node = node->next) {
        struct gate_owner *owner = CONTAINER_OF(node, struct gate_owner, node);
        for (struct list_node *at = owner->links.next; at != &owner->links; at = at->next) {
            gate_link_look(CONTAINER_OF(at, struct gate_link, node));
        }
    }
}

static bool links_are_settled(const struct list_node *list)
{
    for (const struct list_node *node = list->next; node != list; node = node->next) {
        const struct gate *gate = CONTAINER_OF(node, struct gate, node);
        if (gate->link != NULL && gate->link->open > 0) {
            return false;
        }
    }
    return true;
}

bool gates_are_settled(struct gates *gates)
{
    look_at_links(gates);
    for (struct list_node *node = gates->owners.next; node != &gates->owners; node = node->next) {
        if (!admission_at_rest(CONTAINER_OF(node, struct gate_owner, node)->admission)) {
            return false;
        }
    }
    return counter_load(&gates->outstanding) == 0 && list_is_empty(&gates->paused) && gates->closing == 0 &&
           links_are_settled(&gates->models) && links_are_settled(&gates->nameless);
}

void gates_close(struct gates *gates)
{
    bool is_settled = gates_are_settled(gates);
    CHECK(is_settled);
}

/* ---- gates ---- */

unsigned gate_owner_index(const struct gates *gates, const struct gate_key *key)
{
    return key->model.len > 0 ? (unsigned)(key->hash % gates->count) : key->upstream % gates->count;
}

static struct gate *gate_create(struct gates *gates, const struct gate_key *key)
{
    struct gate *gate = calloc(1, sizeof(*gate) + key->model.len);
    if (gate == NULL) {
        return NULL;
    }
    gate->gates = gates;
    gate->key = *key;
    bytes_put(gate->model, key->model);
    gate->key.model.ptr = gate->model;
    list_init(&gate->node);
    unsigned owner_index = gate_owner_index(gates, key);
    if (owner_index == gates->index) {
        gate->owner = gate_owner_use(gates, &gate->key);
        if (gate->owner != NULL) {
            gate->owner->own = gate;
        }
    } else {
        gate->link = gate_link_open(gate, owner_index);
    }
    if (gate->owner == NULL && gate->link == NULL) {
        free(gate);
        return NULL;
    }
    if (!key->is_plain) {
        gate->cost = cost_create(&gates->options[key->upstream].cost);
    }
    return gate;
}

void gate_forget(struct gate *gate)
{
    list_remove(&gate->node);
    cost_destroy(gate->cost);
    gate->cost = NULL;
    free(gate->accounts);
    gate->accounts = NULL;
    if (gate->link != NULL) {
        gate->gates->closing++;
        gate_link_close(gate->link);
        return;
    }
    gate->owner->turned_away_there += counter_load(&gate->turned_away);
    gate->owner->own = NULL;
    gate_owner_unuse(gate->owner);
    free(gate);
}

struct gate *gate_find(struct list_node *list, const struct gate_key *key)
{
    for (struct list_node *node = list->next; node != list; node = node->next) {
        struct gate *gate = CONTAINER_OF(node, struct gate, node);
        if (gate_key_equal(&gate->key, key)) {
            return gate;
        }
    }
    return NULL;
}

struct gate *gate_find_or_create(struct gates *gates, struct list_node *list, const struct gate_key *key)
{
    struct gate *gate = gate_find(list, key);
    if (gate == NULL) {
        gate = gate_create(gates, key);
    }
    if (gate != NULL) {
        list_remove(&gate->node);
        list_push_front(list, &gate->node);
    }
    return gate;
}

struct gate *gates_plain(struct gates *gates, unsigned upstream)
{
    struct gate *gate = gates->plain[upstream];
    if (UNLIKELY(gate == NULL) && gates->options[upstream].is_enabled) {
        const struct gate_key key = {.upstream = upstream, .is_plain = true};
        gate = gate_find_or_create(gates, &gates->nameless, &key);
        gates->plain[upstream] = gate;
    }
    return gate;
}

uint32_t gate_limit(const struct gate *gate)
{
    if (gate == NULL || gate->owner == NULL) {
        return 0;
    }
    struct admission_figures figures;
    admission_figures(gate->owner->admission, ring_now(gate->gates->ring), &figures);
    return figures.limit < 1 ? 1 : figures.limit > INT32_MAX ? INT32_MAX : (uint32_t)figures.limit;
}

struct cost_model *gate_cost(struct gate *gate)
{
    return gate == NULL ? NULL : gate->cost;
}

/* ---- passes ---- */

void gate_pass_init(struct gate_pass *pass, struct gate *gate)
{
    memset(pass, 0, sizeof(*pass));
    pass->request.deadline_ns = NANOS_NEVER;
    pass->request.class = SCHED_CLASS_DEFAULT;
    list_init(&pass->node);
    gate_pass_choose(pass, gate);
}

bool gate_is_idle(const struct gate *gate)
{
    return gate->uses == 0 && (gate->link == NULL || gate->link->open == 0);
}

static void unuse(struct gate *gate)
{
    gate->uses--;
    if (UNLIKELY(gate->is_unfounded) && gate_is_idle(gate)) {
        gate_forget(gate);
    }
}

void gate_pass_choose(struct gate_pass *pass, struct gate *gate)
{
    if (gate != NULL) {
        gate->uses++;
    }
    if (pass->gate != NULL) {
        unuse(pass->gate);
    }
    pass->gate = gate;
}

void gate_pass_fini(struct gate_pass *pass)
{
    CHECK(pass->state == GATE_OUT && pass->seat == NULL);
    if (pass->gate != NULL) {
        unuse(pass->gate);
        pass->gate = NULL;
    }
}

bool gate_is_small(const struct gate *gate, const struct sched_request *request)
{
    const struct gate_options *options = &gate->gates->options[gate->key.upstream];
    return gate->key.is_plain || sched_uncached_tokens(&request->cost) <= options->model.queue.small_tokens_max;
}

void gate_pass_lend(struct gate_pass *pass, nanos now, uint32_t in_flight)
{
    struct sched_request *request = &pass->request;
    request->granted_ns = now;
    request->first_token_ns = 0;
    request->emitted_tokens = 0;
    request->in_flight_at_grant = in_flight;
    request->endpoint = SCHED_ENDPOINT_ANY;
    pass->state = GATE_LENT;
}

bool gate_sample(struct gate_sampler *sampler, const struct gate_pass *pass, nanos now, struct admission_lent *ret_lent)
{
    const struct admission_outcome *outcome = &pass->outcome;
    bool went_wrong = outcome->is_refused || outcome->is_failed;
    if (pass->gate->key.is_plain && !went_wrong && now < sampler->next_ns) {
        sampler->passed++;
        return false;
    }
    const struct sched_request *request = &pass->request;
    *ret_lent = (struct admission_lent){
        .tenant = request->tenant,
        .weight = request->weight,
        .class = request->class,
        .endpoint = request->endpoint,
        .is_streamed = request->is_streamed,
        .cost = request->cost,
        .arrived_ns = request->arrived_ns,
        .granted_ns = request->granted_ns,
        .first_token_ns = request->first_token_ns,
        .ended_ns = now,
        .emitted_tokens = request->emitted_tokens,
        .in_flight = request->in_flight_at_grant,
        .count = sampler->passed + 1,
    };
    sampler->passed = 0;
    sampler->next_ns = now + SAMPLE_NS;
    return true;
}

bool gate_try(struct gate_pass *pass, struct gate *gate, uint8_t class)
{
    uint32_t in_flight;
    if (gate == NULL ||
        !(gate->owner != NULL ? gate_owner_take(gate->owner, &in_flight) : gate_link_take(gate->link, &in_flight))) {
        return false;
    }
    nanos now = ring_now(gate->gates->ring);
    gate->used_ns = now;
    gate->uses++;
    pass->gate = gate;
    pass->name = 0;
    pass->account = 0;
    pass->is_clients_matter = false;
    pass->shed = SCHED_SHED_NONE;
    pass->outcome = (struct admission_outcome){.retry_after_ns = 0};
    struct sched_request *request = &pass->request;
    request->class = class;
    request->is_streamed = false;
    request->weight = 0;
    request->tenant = 0;
    request->arrived_ns = now;
    request->cost = (struct sched_cost){.prompt_tokens = 1};
    gate_pass_lend(pass, now, in_flight);
    gate_count(pass, 1);
    return true;
}

enum gate_answer gate_enter(struct gate_pass *pass)
{
    struct gate *gate = pass->gate;
    gate->used_ns = ring_now(gate->gates->ring);
    switch (gate_accounts_pause(pass)) {
    case GATE_NOT_PAUSED: break;
    case GATE_IS_PAUSED: return GATE_QUEUED;
    case GATE_TURNED_AWAY: return GATE_SHED;
    }
    enum gate_answer answer =
        gate->owner != NULL ? gate_owner_enter(gate->owner, pass) : gate_link_enter(gate->link, pass);
    if (answer == GATE_GRANTED) {
        gate_count(pass, 1);
    }
    return answer;
}

void gate_leave(struct gate_pass *pass)
{
    struct gate *gate = pass->gate;
    if (pass->state == GATE_OUT) {
        return;
    }
    if (UNLIKELY(pass->state == GATE_PAUSED || pass->state == GATE_PAUSE_OVER)) {
        gate_accounts_leave(pass);
        return;
    }
    if (pass->state == GATE_HELD || pass->state == GATE_LENT) {
        gate_count(pass, -1);
    }
    if (pass->is_clients_matter) {
        pass->outcome = (struct admission_outcome){.is_canceled = true}; /* which says nothing of the backend */
    }
    if (gate->owner != NULL) {
        gate_owner_leave(gate->owner, pass);
    } else {
        gate_link_leave(gate->link, pass);
    }
}

void gate_on_first_token(struct gate_pass *pass, nanos at)
{
    struct sched_request *request = &pass->request;
    if (pass->state == GATE_LENT && request->first_token_ns == 0) {
        request->first_token_ns = at;
        request->emitted_tokens = 1;
    } else if (pass->state == GATE_HELD && pass->gate->owner != NULL) {
        gate_owner_first_token(pass->gate->owner, pass, at);
    } else if (pass->state == GATE_HELD) {
        gate_link_first_token(pass->gate->link, pass, at);
    }
}

void gate_on_tokens(struct gate_pass *pass, uint32_t tokens)
{
    if (pass->state == GATE_LENT) {
        pass->request.emitted_tokens += tokens;
    } else if (pass->state == GATE_HELD && pass->gate->owner != NULL) {
        admission_on_tokens(pass->gate->owner->admission, &pass->request, tokens);
    } else if (pass->state == GATE_HELD) {
        gate_link_tokens(pass->gate->link, pass, tokens);
    }
}

void gate_on_endpoint(struct gate_pass *pass, unsigned endpoint)
{
    if (pass->state == GATE_LENT) {
        pass->request.endpoint = (uint8_t)endpoint;
    } else if (pass->state == GATE_HELD && pass->gate->owner != NULL) {
        gate_owner_endpoint(pass->gate->owner, pass, endpoint);
    } else if (pass->state == GATE_HELD) {
        gate_link_endpoint(pass->gate->link, pass, endpoint);
    }
}

bool gate_is_plain(const struct gate *gate)
{
    return gate->key.is_plain;
}

unsigned gate_endpoint(const struct gate_pass *pass)
{
    return pass->state == GATE_HELD ? pass->request.endpoint : SCHED_ENDPOINT_ANY;
}

/* ---- figures ---- */

void gates_each_owned(const struct gates *gates, void (*visit)(const struct gate_view *view, void *context),
                      void *context)
{
    for (const struct list_node *node = gates->owners.next; node != &gates->owners; node = node->next) {
        const struct gate_owner *owner = CONTAINER_OF(node, struct gate_owner, node);
        const struct gate_view view = {
            .upstream = owner->key.upstream,
            .is_plain = owner->key.is_plain,
            .model = owner->key.model,
            .admission = owner->admission,
            .lent = owner->lent - owner->own_free - owner->own_in_use,
            .turned_away = gate_owner_turned_away(owner),
        };
        visit(&view, context);
    }
}

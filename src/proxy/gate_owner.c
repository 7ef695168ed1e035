/* A gate's owner: its admission, the timer that moves it on, and what it has lent to other workers. */
#include <stdlib.h>

#include "base/check.h"
#include "base/counter.h"
#include "base/log.h"
#include "proxy/gate_internal.h"
#include "sched/snapshot.h"

/* How often it looks at what other workers have told without sending a message: first tokens make room while somebody
 * waits, else they are only learned from. */
#define LOOK_WAITING_NS (5 * NANOS_PER_MS)
#define LOOK_NS         (50 * NANOS_PER_MS)

/* Lent slots that nobody has used for so long come back. */
#define AGE_NS NANOS_PER_S

/* Between two lines of the log about what would have been done. */
#define OBSERVED_NS (10 * NANOS_PER_S)

enum { LEND_SHARE = 2 }; /* of what is free a half is lent at a time, to all workers together */

/* ---- what the admission decides ---- */

static void on_grant(void *context, struct sched_request *request)
{
    struct gate_owner *owner = context;
    struct gate_pass *pass = CONTAINER_OF(request, struct gate_pass, request);
    if (pass == owner->submitting) {
        pass->state = GATE_HELD;
    } else {
        gate_decide(owner->gates, pass, GATE_TO_BE_GRANTED);
    }
}

static void on_shed(void *context, struct sched_request *request, enum sched_shed shed, nanos retry_after_ns)
{
    struct gate_owner *owner = context;
    struct gate_pass *pass = CONTAINER_OF(request, struct gate_pass, request);
    pass->shed = shed;
    pass->retry_after_ns = retry_after_ns;
    if (pass == owner->submitting) {
        pass->state = GATE_OUT;
    } else {
        gate_decide(owner->gates, pass, GATE_TO_BE_SHED);
    }
}

static const struct admission_events events = {.on_grant = on_grant, .on_shed = on_shed};

/* ---- time ---- */

static nanos now_of(const struct gate_owner *owner)
{
    return ring_now(owner->gates->ring);
}

static bool is_waited_for(const struct gate_owner *owner)
{
    struct queue_figures figures;
    queue_figures(admission_queue(owner->admission), &figures);
    return figures.requests > 0;
}

/* ---- what it would have done */

/* When there is something to be told; NANOS_NEVER: nothing. */
static nanos observed_next_ns(struct gate_owner *owner)
{
    const struct admission_counters *counters = admission_counters(owner->admission);
    struct gate_observed *observed = &owner->observed;
    if (counters->would_have_waited == observed->waited && counters->would_have_shed == observed->shed) {
        return NANOS_NEVER;
    }
    if (observed->told_ns == 0) {
        observed->told_ns = now_of(owner);
    }
    return observed->told_ns + OBSERVED_NS;
}

static void tell_observed(struct gate_owner *owner)
{
    nanos now = now_of(owner);
    struct gate_observed *observed = &owner->observed;
    if (observed_next_ns(owner) > now) {
        return;
    }
    const struct admission_counters *counters = admission_counters(owner->admission);
    const struct bytes upstream = owner->gates->options[owner->key.upstream].name;
    char room[SCHED_VIEW_LABEL_BYTES];
    const struct bytes model = sched_label(owner->key.model, room);
    log_info("scheduling only observes: some requests would have been held back upstream=%.*s model=%.*s "
             "would_have_waited=%llu would_have_shed=%llu of=%llu seconds=%llu",
             BYTES_ARG(upstream), BYTES_ARG(model),
             (unsigned long long)(counters->would_have_waited - observed->waited),
             (unsigned long long)(counters->would_have_shed - observed->shed),
             (unsigned long long)(counters->granted - observed->granted),
             (unsigned long long)((now - observed->told_ns) / NANOS_PER_S));
    *observed = (struct gate_observed){
        .told_ns = now,
        .waited = counters->would_have_waited,
        .shed = counters->would_have_shed,
        .granted = counters->granted,
    };
}

void gate_owner_arm(struct gate_owner *owner)
{
    nanos next = admission_next_ns(owner->admission);
    if (owner->lent > 0 || owner->seats > 0) {
        bool is_urgent = owner->seats > 0 && is_waited_for(owner);
        nanos look = now_of(owner) + (is_urgent ? LOOK_WAITING_NS : LOOK_NS);
        next = look < next ? look : next;
    }
    nanos report = observed_next_ns(owner);
    next = report < next ? report : next;
    if (next < owner->timer.deadline_ns) {
        ring_timer_set(owner->gates->ring, &owner->timer, next);
    }
}

static void recall_own(struct gate_owner *owner)
{
    int taken = (int)owner->own_free;
    owner->own_free = 0; /* before it is counted: what is lent is never less than what of it is free */
    gate_owner_lent(owner, -taken);
    owner->own_is_recalled = true;
}

static void take_back_unused(struct gate_owner *owner)
{
    nanos now = now_of(owner);
    if (owner->lent == 0 || now - owner->aged_ns < AGE_NS) {
        return;
    }
    owner->aged_ns = now;
    for (struct list_node *node = owner->links.next; node != &owner->links; node = node->next) {
        struct gate_link *link = CONTAINER_OF(node, struct gate_link, node);
        if (!lease_was_used(&link->lease)) {
            gate_link_recall(link);
        }
    }
    if (!owner->own_was_used) {
        recall_own(owner);
    }
    owner->own_was_used = false;
}

static void on_timer(struct ring_timer *timer)
{
    struct gate_owner *owner = CONTAINER_OF(timer, struct gate_owner, timer);
    uint32_t in_use = owner->own_in_use;
    for (struct list_node *node = owner->links.next; node != &owner->links; node = node->next) {
        struct gate_link *link = CONTAINER_OF(node, struct gate_link, node);
        gate_link_look(link);
        in_use += gate_link_in_use(link);
    }
    admission_set_lent(owner->admission, owner->lent, in_use);
    admission_advance(owner->admission, now_of(owner));
    take_back_unused(owner);
    tell_observed(owner);
    gate_owner_check(owner);
    gate_owner_arm(owner);
}

/* ---- life ---- */

static struct gate_owner *create(struct gates *gates, const struct gate_key *key)
{
    struct gate_owner *owner = calloc(1, sizeof(*owner) + key->model.len);
    if (owner == NULL) {
        return NULL;
    }
    const struct gate_options *options = &gates->options[key->upstream];
    owner->admission =
        admission_create(key->is_plain ? &options->plain : &options->model, &events, owner, ring_now(gates->ring));
    if (owner->admission == NULL) {
        free(owner);
        return NULL;
    }
    admission_set_pressure(owner->admission, gates->pressure_milli);
    owner->gates = gates;
    owner->key = *key;
    bytes_put(owner->model, key->model);
    owner->key.model.ptr = owner->model;
    ring_timer_init(&owner->timer, on_timer);
    list_init(&owner->links);
    list_push_back(&gates->owners, &owner->node);
    return owner;
}

struct gate_owner *gate_owner_use(struct gates *gates, const struct gate_key *key)
{
    struct gate_owner *owner = NULL;
    for (struct list_node *node = gates->owners.next; node != &gates->owners && owner == NULL; node = node->next) {
        struct gate_owner *other = CONTAINER_OF(node, struct gate_owner, node);
        owner = gate_key_equal(&other->key, key) ? other : NULL;
    }
    if (owner == NULL) {
        owner = create(gates, key);
    }
    if (owner != NULL) {
        owner->uses++;
    }
    return owner;
}

void gate_owner_unuse(struct gate_owner *owner)
{
    if (--owner->uses > 0) {
        return;
    }
    ring_timer_cancel(owner->gates->ring, &owner->timer);
    list_remove(&owner->node);
    admission_destroy(owner->admission);
    free(owner);
}

void gates_set_pressure(struct gates *gates, uint32_t pressure_milli)
{
    gates->pressure_milli = pressure_milli;
    for (struct list_node *node = gates->owners.next; node != &gates->owners; node = node->next) {
        admission_set_pressure(CONTAINER_OF(node, struct gate_owner, node)->admission, pressure_milli);
    }
}

uint64_t gate_owner_turned_away(const struct gate_owner *owner)
{
    uint64_t sum = owner->turned_away_there + (owner->own == NULL ? 0 : counter_load(&owner->own->turned_away));
    for (const struct list_node *node = owner->links.next; node != &owner->links; node = node->next) {
        sum += counter_load(&CONTAINER_OF(node, const struct gate_link, node)->gate->turned_away);
    }
    return sum;
}

/* ---- what it has lent ---- */

void gate_owner_lent(struct gate_owner *owner, int by)
{
    owner->lent = (uint32_t)((int)owner->lent + by);
    uint32_t in_use = owner->lent - owner->own_free; /* those elsewhere count as in use until the timer looks */
    admission_set_lent(owner->admission, owner->lent, in_use);
}

uint32_t gate_owner_share(const struct gate_owner *owner, uint32_t has)
{
    int lendable = admission_lendable(owner->admission, now_of(owner));
    uint32_t share = lendable > 0 ? (uint32_t)lendable / (LEND_SHARE * owner->gates->count) : 0;
    uint32_t wanted = has > 0 ? has : 1;
    return wanted < share ? wanted : share;
}

void gate_owner_check(struct gate_owner *owner)
{
    if (owner->lent > 0 && admission_lendable(owner->admission, now_of(owner)) < 0) {
        gate_owner_recall(owner);
    }
}

static void lend_own(struct gate_owner *owner)
{
    uint32_t slots = gate_owner_share(owner, owner->own_free + owner->own_in_use);
    if (slots > 0) {
        owner->own_free += slots;
        owner->own_is_recalled = false;
        gate_owner_lent(owner, (int)slots);
    }
}

void gate_owner_recall(struct gate_owner *owner)
{
    recall_own(owner);
    for (struct list_node *node = owner->links.next; node != &owner->links; node = node->next) {
        gate_link_recall(CONTAINER_OF(node, struct gate_link, node));
    }
    admission_advance(owner->admission, now_of(owner));
}

/* ---- passes ---- */

bool gate_owner_take(struct gate_owner *owner, uint32_t *ret_in_flight)
{
    if (owner->own_free == 0) {
        return false;
    }
    owner->own_free--;
    owner->own_was_used = true;
    *ret_in_flight = admission_in_flight(owner->admission) + owner->own_in_use++;
    return true;
}

enum gate_answer gate_owner_enter(struct gate_owner *owner, struct gate_pass *pass)
{
    nanos now = now_of(owner);
    uint32_t in_flight;
    if (pass->gate != NULL && gate_is_small(pass->gate, &pass->request) && gate_owner_take(owner, &in_flight)) {
        gate_pass_lend(pass, now, in_flight);
        return GATE_GRANTED;
    }
    pass->state = GATE_WAITING;
    owner->submitting = pass;
    if (admission_submit(owner->admission, now, &pass->request)) {
        pass->state = GATE_HELD;
        if (pass->gate != NULL) {
            lend_own(owner);
        }
    } else if (pass->state == GATE_WAITING && owner->lent > 0) {
        gate_owner_recall(owner);
    }
    owner->submitting = NULL;
    if (pass->state == GATE_WAITING && pass->is_now_or_never) {
        pass->state = GATE_OUT;
        pass->shed = SCHED_SHED_QUEUE_FULL;
        admission_cancel(owner->admission, now, &pass->request);
    }
    gate_owner_arm(owner);
    return pass->state == GATE_HELD ? GATE_GRANTED : pass->state == GATE_WAITING ? GATE_QUEUED : GATE_SHED;
}

static void leave_lent(struct gate_owner *owner, struct gate_pass *pass)
{
    nanos now = now_of(owner);
    struct admission_lent lent;
    owner->own_in_use--;
    owner->own_free++;
    if (gate_sample(&owner->sampler, pass, now, &lent)) {
        admission_on_lent_end(owner->admission, now, &lent, &pass->outcome);
    }
    if (pass->outcome.is_refused) {
        gate_owner_check(owner);
    }
    if (owner->own_is_recalled && owner->own_free > 0) {
        recall_own(owner);
        admission_advance(owner->admission, now);
    }
}

void gate_owner_leave(struct gate_owner *owner, struct gate_pass *pass)
{
    nanos now = now_of(owner);
    enum gate_state state = pass->state;
    pass->state = GATE_OUT;
    switch (state) {
    case GATE_OUT:
    case GATE_PAUSED:
    case GATE_PAUSE_OVER: break;
    case GATE_LENT: leave_lent(owner, pass); return;
    case GATE_WAITING: admission_cancel(owner->admission, now, &pass->request); break;
    case GATE_TO_BE_GRANTED:
        list_remove(&pass->node);
        admission_cancel(owner->admission, now, &pass->request);
        break;
    case GATE_TO_BE_SHED: list_remove(&pass->node); break;
    case GATE_HELD:
        admission_release(owner->admission, now, &pass->request, &pass->outcome);
        if (pass->outcome.is_refused) {
            gate_owner_check(owner);
        }
        break;
    }
    gate_owner_arm(owner);
}

void gate_owner_first_token(struct gate_owner *owner, struct gate_pass *pass, nanos at)
{
    admission_on_first_token(owner->admission, now_of(owner), at, &pass->request);
}

void gate_owner_endpoint(struct gate_owner *owner, struct gate_pass *pass, unsigned endpoint)
{
    bool is_named = pass->request.endpoint != SCHED_ENDPOINT_ANY;
    if (pass->request.endpoint == endpoint) {
        return;
    }
    admission_on_endpoint(owner->admission, now_of(owner), &pass->request, endpoint);
    if (is_named) {
        gate_owner_check(owner); /* the one that was named is in trouble */
    }
}

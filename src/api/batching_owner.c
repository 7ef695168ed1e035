/* The owner's side: a former for each model, and the tickets that are with it. */
#include <stdlib.h>

#include "api/batching_internal.h"
#include "api/models.h"
#include "base/check.h"

enum { LATE_RETRY_MS = 1000 }; /* what there is to do by then is not known here */

static void take_flush(void *context, uint64_t key, struct list_node *items, const char *why);

/* ---- formers ---- */

static void on_timer(struct ring_timer *timer)
{
    struct batching_former *former = CONTAINER_OF(timer, struct batching_former, timer);
    batch_advance(former->former, ring_now(former->batching->ring));
    batching_former_arm(former);
}

/* What there is now, for who reads the counters. */
static void tell(struct batching_former *former)
{
    struct batching_counters *counters = batching_counters_of(former);
    struct batch_figures figures;
    batch_figures(former->former, &figures);
    counter_add(&counters->counts[BATCHING_WAITING], (uint64_t)figures.waiting_items - former->told_waiting);
    counter_add(&counters->counts[BATCHING_CALLS], (uint64_t)figures.calls_in_flight - former->told_calls);
    former->told_waiting = figures.waiting_items;
    former->told_calls = figures.calls_in_flight;
    atomic_store_explicit(&counters->target_milli, (uint64_t)(figures.target_items * 1000), memory_order_relaxed);
}

void batching_former_arm(struct batching_former *former)
{
    tell(former);
    nanos next = batch_next_ns(former->former);
    if (next < former->timer.deadline_ns) { /* one that moves away is seen when the timer fires */
        ring_timer_set(former->batching->ring, &former->timer, next);
    }
}

/* As many calls at a time as the model's admission would let through: what it would have wait is better off here, where
 * it still finds company. */
static void follow_limit(struct batching_former *former)
{
    struct batching *batching = former->batching;
    const struct bytes model = {former->model, former->model_bytes};
    const struct model_directory *directory = batching->upstreams[former->route->upstream].models;
    bool is_offered = directory != NULL && model_directory_offers(directory, model);
    uint32_t limit = gate_limit(gates_model(batching->gates, former->route->upstream, model, is_offered));
    batch_set_calls_max(former->former, ring_now(batching->ring), limit);
}

static struct batching_former *former_create(struct batching *batching, const struct batching_ticket *ticket)
{
    struct batching_former *former = calloc(1, sizeof(*former) + ticket->model.len);
    if (former == NULL) {
        return NULL;
    }
    former->former = batch_create(&ticket->route->options, take_flush, former);
    if (former->former == NULL) {
        free(former);
        return NULL;
    }
    former->batching = batching;
    former->route = ticket->route;
    former->model_bytes = ticket->model.len;
    bytes_put(former->model, ticket->model);
    ring_timer_init(&former->timer, on_timer);
    list_init(&former->node);
    batching->former_count++;
    follow_limit(former);
    return former;
}

static void former_destroy(struct batching_former *former)
{
    ring_timer_cancel(former->batching->ring, &former->timer);
    list_remove(&former->node);
    former->batching->former_count--;
    batch_destroy(former->former);
    free(former);
}

/* Names come from requests: beyond the bound who was used longest ago makes room. */
static bool make_room(struct batching *batching)
{
    if (batching->former_count < BATCHING_FORMERS_MAX) {
        return true;
    }
    for (struct list_node *node = batching->formers.prev; node != &batching->formers; node = node->prev) {
        struct batching_former *former = CONTAINER_OF(node, struct batching_former, node);
        if (former->uses == 0) {
            former_destroy(former);
            return true;
        }
    }
    return false;
}

/* NULL: there is no room, or memory is out. */
static struct batching_former *former_use(struct batching *batching, const struct batching_ticket *ticket)
{
    struct batching_former *former = NULL;
    for (struct list_node *node = batching->formers.next; node != &batching->formers; node = node->next) {
        struct batching_former *other = CONTAINER_OF(node, struct batching_former, node);
        if (other->route == ticket->route &&
            bytes_equal((struct bytes){other->model, other->model_bytes}, ticket->model)) {
            former = other;
            break;
        }
    }
    if (former == NULL && make_room(batching)) {
        former = former_create(batching, ticket);
    }
    if (former != NULL) {
        list_remove(&former->node);
        list_push_front(&batching->formers, &former->node);
        former->uses++;
    }
    return former;
}

void batching_former_unuse(struct batching_former *former)
{
    CHECK(former->uses > 0);
    former->uses--;
}

void batching_former_on_end(struct batching_former *former, const struct batch_end *end)
{
    follow_limit(former);
    batch_on_end(former->former, ring_now(former->batching->ring), end);
    batching_former_arm(former);
}

void batching_fini(struct batching *batching)
{
    if (batching->counters == NULL) {
        return; /* it was never made */
    }
    while (!list_is_empty(&batching->formers)) {
        struct batching_former *former = CONTAINER_OF(batching->formers.next, struct batching_former, node);
        if (former->uses > 0) {
            list_remove(&former->node); /* the process was cut off: what is under way is left behind */
        } else {
            former_destroy(former);
        }
    }
    free(batching->counters);
}

/* ---- giving back ---- */

static void give_back(struct batching_ticket *ticket)
{
    struct batching *owner = ticket->owner;
    struct batching_former *former = ticket->former;
    bool is_over = ticket->verdict != BATCHING_ALONE || !ticket->is_counted;
    ticket->is_open = false;
    ring_timer_cancel(owner->ring, &ticket->late);
    if (former != NULL && is_over) {
        batching_former_unuse(former);
    }
    counter_add(&owner->owned, is_over ? (uint64_t)-1 : 0);
    ticket->message.on_deliver = batching_ticket_on_back;
    ring_post(owner->ring, ticket->home->index, &ticket->message);
}

/* All of its runs have their answers: makes one of them. */
static enum batching_verdict join(struct batching_ticket *ticket)
{
    if (ticket->run_count == 1) {
        ticket->answer = ticket->runs[0].answer;
        ticket->runs[0].answer = BYTES_NONE;
        return BATCHING_ANSWERED;
    }
    struct bytes *answers = malloc(ticket->run_count * sizeof(*answers));
    enum result result = RESULT_NO_MEMORY;
    const char *error = NULL;
    if (answers != NULL) {
        for (unsigned i = 0; i < ticket->run_count; i++) {
            answers[i] = ticket->runs[i].answer;
        }
        result = array_answer_join(&ticket->array, answers, ticket->run_count, &ticket->answer, &error);
        free(answers);
    }
    if (result == RESULT_OK) {
        return BATCHING_ANSWERED;
    }
    ticket->failure = (struct fetch_failure){.result = result, .fault = error, .was_connected = true};
    return BATCHING_FAILED;
}

static void finish_if_settled(struct batching_ticket *ticket)
{
    if (ticket->runs_open > 0) {
        return;
    }
    if (!ticket->is_decided) {
        ticket->is_decided = true;
        ticket->verdict = join(ticket);
    }
    if (ticket->verdict == BATCHING_ANSWERED) {
        batching_answer_end(ticket);
    }
    give_back(ticket);
}

void batching_run_settle(struct batching_run *run)
{
    if (!run->is_settled) {
        run->is_settled = true;
        run->ticket->runs_open--;
        finish_if_settled(run->ticket);
    }
}

void batching_decide(struct batching_ticket *ticket, enum batching_verdict verdict)
{
    if (ticket->is_decided) {
        return;
    }
    ticket->is_decided = true;
    ticket->verdict = verdict;
    ticket->runs_open++; /* so that it stays until all have been seen */
    for (unsigned i = 0; i < ticket->run_count; i++) {
        struct batching_run *run = &ticket->runs[i];
        if (run->is_settled) {
            continue;
        }
        if (run->item.is_waiting) {
            batch_cancel(ticket->former->former, &run->item);
            batching_run_settle(run);
        } else if (run->call == NULL) {
            list_remove(&run->item.node);
            batching_run_settle(run);
        } else {
            batching_call_leave(run->call); /* it stays until the call is over, whose answer is cut up by it */
        }
    }
    ticket->runs_open--;
    finish_if_settled(ticket);
}

void batching_go_alone(struct batching_ticket *ticket, bool is_counted)
{
    CHECK(!ticket->is_decided);
    ticket->is_counted = is_counted;
    batching_count(ticket->former, BATCHING_LONE, 1);
    batching_decide(ticket, BATCHING_ALONE);
}

/* ---- what leaves ---- */

const char *batching_why_name(enum batching_why why)
{
    static const char *const names[] = {
        [BATCHING_FULL] = "full", [BATCHING_IDLE] = "idle",         [BATCHING_WAITED] = "waited",
        [BATCHING_AGED] = "aged", [BATCHING_DEADLINE] = "deadline",
    };
    return names[why];
}

static void count_flush(struct batching_former *former, const struct list_node *items, uint32_t count, const char *why)
{
    struct batching_counters *counters = batching_counters_of(former);
    nanos now = ring_now(former->batching->ring);
    unsigned size = count <= 1 ? 0 : 32 - (unsigned)__builtin_clz(count - 1);
    counter_add(&counters->sizes[size < BATCHING_SIZES ? size : BATCHING_SIZES - 1], 1);
    counter_add(&counters->counts[BATCHING_ITEMS], count);
    counter_add(&counters->counts[BATCHING_ROOM], former->route->options.items_max);
    for (unsigned i = 0; i < BATCHING_WHYS; i++) {
        if (why[0] == batching_why_name((enum batching_why)i)[0]) {
            counter_add(&counters->flushed[i], 1);
        }
    }
    for (const struct list_node *node = items->next; node != items; node = node->next) {
        const struct batch_item *item = CONTAINER_OF(node, const struct batch_item, node);
        histogram_add(&counters->waits, now - item->submitted_ns);
    }
}

static uint32_t count_items(const struct list_node *items)
{
    uint32_t count = 0;
    for (const struct list_node *node = items->next; node != items; node = node->next) {
        count += CONTAINER_OF(node, const struct batch_item, node)->items;
    }
    return count;
}

static void take_flush(void *context, uint64_t key, struct list_node *items, const char *why)
{
    struct batching_former *former = context;
    struct batching_run *first = CONTAINER_OF(items->next, struct batching_run, item.node);
    count_flush(former, items, count_items(items), why);
    if (items->next->next == items && array_run_is_whole(&first->run)) {
        list_remove(&first->item.node);
        batching_go_alone(first->ticket, true);
    } else {
        batching_call_make(former, items, key)->is_counted = true;
    }
}

/* ---- tickets ---- */

static struct batch_item item_of(const struct batching_ticket *ticket, const struct array_run *run)
{
    return (struct batch_item){
        .key = ticket->array.key,
        .class = ticket->class,
        .tenant = ticket->tenant,
        .weight = ticket->weight,
        .items = run->count,
        .tokens = run->tokens,
        .bytes = run->bytes,
        .arrived_ns = ticket->arrived_ns,
        .deadline_ns = ticket->deadline_ns,
    };
}

/* The former is where it waits, in the place of its gate's queue; so it is turned away here. What has left for the
 * backend is not called back. */
static void on_late(struct ring_timer *timer)
{
    struct batching_ticket *ticket = CONTAINER_OF(timer, struct batching_ticket, late);
    struct batching_former *former = ticket->former;
    for (unsigned i = 0; i < ticket->run_count; i++) {
        if (!ticket->runs[i].item.is_waiting) {
            return;
        }
    }
    batching_count(former, BATCHING_LATE, 1);
    ticket->failure = (struct fetch_failure){
        .result = RESULT_SHED,
        .shed = SCHED_SHED_LATE_DISPATCH,
        .retry_after_ms = LATE_RETRY_MS,
    };
    batching_decide(ticket, BATCHING_FAILED);
    batching_former_arm(former);
}

/* A ticket of one run may be gone, and with it on its way to another worker, once it is submitted. */
static void submit(struct batching_former *former, struct batching_ticket *ticket)
{
    nanos now = ring_now(former->batching->ring);
    for (unsigned i = 0, count = ticket->run_count; i < count; i++) {
        struct batching_run *run = &ticket->runs[i];
        run->item = item_of(ticket, &run->run);
        list_init(&run->item.node);
    }
    ring_timer_set(former->batching->ring, &ticket->late, ticket->deadline_ns);
    for (unsigned i = 0, count = ticket->run_count; i < count; i++) {
        if (batch_submit(former->former, now, &ticket->runs[i].item) != RESULT_OK) {
            batching_go_alone(ticket, false); /* too many wait, or memory is out */
            break;
        }
    }
    batching_former_arm(former);
}

void batching_on_submit(struct ring *ring, struct ring_message *message)
{
    struct batching_ticket *ticket = CONTAINER_OF(message, struct batching_ticket, message);
    struct batching *owner = ticket->owner;
    struct batching_former *former = former_use(owner, ticket);
    counter_add(&owner->owned, 1);
    ticket->is_open = true;
    ticket->former = former;
    ticket->runs_open = ticket->run_count;
    ring_timer_init(&ticket->late, on_late);
    if (former == NULL) {
        ticket->verdict = BATCHING_ALONE;
        give_back(ticket);
    } else if (ring_now(ring) < former->apart_until_ns) {
        for (unsigned i = 0; i < ticket->run_count; i++) {
            list_init(&ticket->runs[i].item.node);
        }
        batching_go_alone(ticket, false);
    } else {
        submit(former, ticket);
    }
}

void batching_on_cancel(struct ring *ring, struct ring_message *message)
{
    struct batching_ticket *ticket = CONTAINER_OF(message, struct batching_ticket, cancel);
    unsigned home = ticket->home->index;
    if (ticket->is_open) {
        struct batching_former *former = ticket->former;
        batching_decide(ticket, BATCHING_NONE);
        batching_former_arm(former);
    }
    message->on_deliver = batching_ticket_on_cancel_back;
    ring_post(ring, home, message);
}

void batching_on_ended(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct batching_ticket *ticket = CONTAINER_OF(message, struct batching_ticket, message);
    struct batching_former *former = ticket->former;
    const struct batch_end end = {
        .key = ticket->array.key,
        .items = ticket->runs[0].run.count,
        .took_ns = ticket->took_ns,
        .is_failed = ticket->has_failed,
        .is_canceled = ticket->tells_nothing,
    };
    batching_ticket_free(ticket);
    counter_add(&former->batching->owned, (uint64_t)-1);
    batching_former_unuse(former);
    batching_former_on_end(former, &end);
}

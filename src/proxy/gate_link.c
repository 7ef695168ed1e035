/* A gate whose admission another worker has.
 *
 *   asker                                                             owner
 *   seat = copy of the request ── ASKED ──────────────────────▶ submitted
 *                              ◀── message: granted, shed ─────  once, for each seat
 *   granted: the pass is HELD  ── FIRST_TOKEN, TOKENS ────────▶ when it looks
 *            its end           ── RELEASED ───────────────────▶ released; frees the seat
 *   shed:    frees the seat
 *   the client leaves first    ── CANCELED ───────────────────▶ still queued: answers canceled; the asker frees it
 *                                                               answered already: nothing
 *            an answer to a canceled seat, but for `canceled` ── RELEASED ──▶ frees the seat
 *
 * What goes to the owner are events in the lease's ring, by value, and one message that says to look at it (`nudge`),
 * under way at most once: under backlog that is at most one message to ask, one for the grant and one for the release.
 * An answer is a message inside its seat. A seat has at most one event that found no room in the ring; it stands on
 * `untold` and is tried again.
 *
 * nudge: the asker puts its event, then exchanges is_nudged for true; the owner exchanges it for false, then looks. Of
 * the two exchanges one comes first: either the owner's sees the asker's, and with it the event, or the asker's gets
 * false, and sends again. */
#include <stdlib.h>

#include "base/check.h"
#include "base/counter.h"
#include "proxy/gate_internal.h"

enum { TOKENS_TOLD_AT_ONCE = 16 };

#define RETRY_NS NANOS_PER_MS

enum seat_answer { SEAT_ASKED, SEAT_GRANTED, SEAT_SHED, SEAT_CANCELED };

struct gate_seat {
    struct gate_pass there;  /* the owner's, but while the answer is on its way and after a shed */
    enum seat_answer answer; /* the owner's until it has answered, then constant */
    struct ring_message message;

    /* the asker's */
    struct gate_link *link;
    struct gate_pass *pass; /* NULL: its fetch has gone */
    bool is_cancel_told;
    struct list_node node; /* on untold */
    struct lease_event untold;
};

static struct ring *ring_of(const struct gate_link *link)
{
    return link->gate->gates->ring;
}

/* ---- the asker's events ---- */

static void on_nudge(struct ring *ring, struct ring_message *message);

static void nudge(struct gate_link *link)
{
    if (!atomic_exchange(&link->is_nudged, true)) {
        link->nudge.on_deliver = on_nudge;
        ring_post(ring_of(link), link->owner_index, &link->nudge);
    }
}

static void on_retry(struct ring_timer *timer)
{
    struct gate_link *link = CONTAINER_OF(timer, struct gate_link, retry);
    while (!list_is_empty(&link->untold)) {
        struct gate_seat *seat = CONTAINER_OF(link->untold.next, struct gate_seat, node);
        if (!lease_push(&link->lease, &seat->untold)) {
            ring_timer_set(ring_of(link), timer, ring_now(ring_of(link)) + RETRY_NS);
            break;
        }
        bool is_last = seat->untold.kind == LEASE_RELEASED;
        list_remove(&seat->node);
        link->open -= is_last;
    }
    nudge(link);
}

/* Tells of a seat, certainly. The seat is the owner's alone after LEASE_RELEASED. */
static void tell(struct gate_link *link, struct gate_seat *seat, const struct lease_event *event)
{
    if (lease_push(&link->lease, event)) {
        link->open -= event->kind == LEASE_RELEASED;
        nudge(link);
        return;
    }
    seat->untold = *event;
    list_push_back(&link->untold, &seat->node);
    if (!ring_timer_is_set(&link->retry)) {
        ring_timer_set(ring_of(link), &link->retry, ring_now(ring_of(link)) + RETRY_NS);
    }
}

/* Tells of something that the owner can do without. */
static void mention(struct gate_link *link, const struct lease_event *event)
{
    bool is_told = lease_push(&link->lease, event);
    if (!is_told || lease_is_filling(&link->lease)) {
        nudge(link);
    }
}

/* ---- asking ---- */

static void on_answer(struct ring *ring, struct ring_message *message);

static void seat_free(struct gate_link *link, struct gate_seat *seat)
{
    link->open--;
    free(seat);
}

/* Copies what the submitter says of a request. */
static void copy_request(struct sched_request *to, const struct sched_request *from)
{
    *to = (struct sched_request){
        .class = from->class,
        .is_streamed = from->is_streamed,
        .weight = from->weight,
        .tenant = from->tenant,
        .endpoints = from->endpoints,
        .endpoint = SCHED_ENDPOINT_ANY,
        .arrived_ns = from->arrived_ns,
        .deadline_ns = from->deadline_ns,
        .is_patient = from->is_patient,
        .body_bytes = from->body_bytes,
        .cost = from->cost,
    };
}

static enum gate_answer ask(struct gate_link *link, struct gate_pass *pass)
{
    struct gate_seat *seat = malloc(sizeof(*seat));
    if (seat == NULL) {
        pass->shed = SCHED_SHED_PRESSURE;
        return GATE_SHED;
    }
    gate_pass_init(&seat->there, NULL);
    copy_request(&seat->there.request, &pass->request);
    seat->answer = SEAT_ASKED;
    seat->message.on_deliver = on_answer;
    seat->link = link;
    seat->pass = pass;
    seat->is_cancel_told = false;
    list_init(&seat->node);
    pass->seat = seat;
    pass->state = GATE_WAITING;
    link->open++;
    tell(link, seat, &(struct lease_event){.kind = LEASE_ASKED, .seat = seat});
    return GATE_QUEUED;
}

bool gate_link_take(struct gate_link *link, uint32_t *ret_in_flight)
{
    if (!lease_take(&link->lease)) {
        return false;
    }
    uint32_t there = atomic_load_explicit(&link->in_flight_there, memory_order_relaxed);
    *ret_in_flight = there + link->lent_in_use++;
    return true;
}

enum gate_answer gate_link_enter(struct gate_link *link, struct gate_pass *pass)
{
    uint32_t in_flight;
    if (gate_is_small(link->gate, &pass->request) && gate_link_take(link, &in_flight)) {
        gate_pass_lend(pass, ring_now(ring_of(link)), in_flight);
        return GATE_GRANTED;
    }
    if (pass->is_now_or_never) {
        pass->shed = SCHED_SHED_QUEUE_FULL;
        return GATE_SHED;
    }
    return ask(link, pass);
}

/* ---- the answer ---- */

static void release_seat(struct gate_link *link, struct gate_seat *seat, const struct sched_request *request,
                         const struct admission_outcome *outcome)
{
    tell(link, seat,
         &(struct lease_event){
             .kind = LEASE_RELEASED,
             .seat = seat,
             .endpoint = request == NULL ? SCHED_ENDPOINT_ANY : request->endpoint,
             .at_ns = request == NULL ? 0 : request->first_token_ns,
             .outcome = *outcome,
         });
}

/* Its fetch went while the answer was on its way. */
static void on_late_answer(struct gate_link *link, struct gate_seat *seat)
{
    if (list_is_linked(&seat->node)) {
        list_remove(&seat->node); /* the owner need not be told that nobody waits: it has answered */
        seat->is_cancel_told = false;
    }
    if (seat->answer == SEAT_CANCELED || (seat->answer == SEAT_SHED && !seat->is_cancel_told)) {
        seat_free(link, seat);
    } else {
        release_seat(link, seat, NULL, &(struct admission_outcome){.is_canceled = true});
    }
}

static void on_answer(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct gate_seat *seat = CONTAINER_OF(message, struct gate_seat, message);
    struct gate_link *link = seat->link;
    struct gate_pass *pass = seat->pass;
    if (pass == NULL) {
        on_late_answer(link, seat);
        return;
    }
    if (seat->answer == SEAT_GRANTED) {
        const struct sched_request *granted = &seat->there.request;
        pass->request.endpoint = granted->endpoint;
        pass->request.granted_ns = granted->granted_ns;
        pass->state = GATE_HELD;
        gate_count(pass, 1);
    } else {
        pass->shed = seat->there.shed;
        pass->retry_after_ns = seat->there.retry_after_ns;
        pass->state = GATE_OUT;
        pass->seat = NULL;
        seat_free(link, seat);
    }
    gate_tell(pass);
}

/* ---- the end ---- */

static void leave_lent(struct gate_link *link, struct gate_pass *pass)
{
    struct lease_event event = {.kind = LEASE_ENDED, .outcome = pass->outcome};
    link->lent_in_use--;
    if (gate_sample(&link->sampler, pass, ring_now(ring_of(link)), &event.lent)) {
        mention(link, &event);
    }
    if (lease_give_back(&link->lease) || pass->outcome.is_refused) {
        nudge(link); /* somebody waits for the slot, or the owner is to hear of the refusal now */
    }
}

static void leave_waiting(struct gate_link *link, struct gate_seat *seat)
{
    seat->pass = NULL;
    if (list_is_linked(&seat->node)) { /* it was not even asked */
        list_remove(&seat->node);
        seat_free(link, seat);
        return;
    }
    seat->is_cancel_told = true;
    tell(link, seat, &(struct lease_event){.kind = LEASE_CANCELED, .seat = seat});
}

void gate_link_leave(struct gate_link *link, struct gate_pass *pass)
{
    enum gate_state state = pass->state;
    struct gate_seat *seat = pass->seat;
    pass->state = GATE_OUT;
    pass->seat = NULL;
    if (state == GATE_LENT) {
        leave_lent(link, pass);
    } else if (state == GATE_WAITING) {
        leave_waiting(link, seat);
    } else {
        CHECK(state == GATE_HELD);
        release_seat(link, seat, &pass->request, &pass->outcome);
    }
}

void gate_link_first_token(struct gate_link *link, struct gate_pass *pass, nanos at)
{
    if (pass->request.first_token_ns != 0) {
        return;
    }
    pass->request.first_token_ns = at;
    mention(link, &(struct lease_event){.kind = LEASE_FIRST_TOKEN, .seat = pass->seat, .at_ns = at});
}

void gate_link_tokens(struct gate_link *link, struct gate_pass *pass, uint32_t tokens)
{
    pass->untold_tokens += tokens;
    if (pass->untold_tokens >= TOKENS_TOLD_AT_ONCE) {
        mention(link, &(struct lease_event){.kind = LEASE_TOKENS, .seat = pass->seat, .tokens = pass->untold_tokens});
        pass->untold_tokens = 0;
    }
}

void gate_link_endpoint(struct gate_link *link, struct gate_pass *pass, unsigned endpoint)
{
    const struct gate_options *options = &link->gate->gates->options[link->gate->key.upstream];
    uint32_t count = link->gate->key.is_plain ? options->plain.endpoint_count : options->model.endpoint_count;
    if (pass->request.endpoint == endpoint || count <= 1) {
        return;
    }
    bool is_named = pass->request.endpoint != SCHED_ENDPOINT_ANY;
    pass->request.endpoint = (uint8_t)endpoint;
    mention(link, &(struct lease_event){.kind = LEASE_ENDPOINT, .seat = pass->seat, .endpoint = (uint8_t)endpoint});
    if (is_named) {
        nudge(link); /* the next one is not to be sent where this one could not go */
    }
}

/* ---- at the owner ---- */

static void answer(struct gate_seat *seat, struct gates *owner, enum seat_answer what)
{
    unsigned asker = seat->link->gate->gates->index; /* constant */
    seat->answer = what;
    ring_post(owner->ring, asker, &seat->message);
}

static void seat_on_decided(struct gate_pass *there)
{
    struct gate_seat *seat = CONTAINER_OF(there, struct gate_seat, there);
    struct gate_owner *owner = seat->link->owner;
    owner->seats += there->state == GATE_HELD;
    answer(seat, owner->gates, there->state == GATE_HELD ? SEAT_GRANTED : SEAT_SHED);
}

/* Lends as much again as it has, while there is enough. */
static void lend(struct gate_link *link)
{
    uint32_t slots = gate_owner_share(link->owner, link->lease.lent);
    if (slots > 0) {
        lease_lend(&link->lease, slots);
        gate_owner_lent(link->owner, (int)slots);
    }
}

static void on_asked(struct gate_link *link, struct gate_seat *seat)
{
    struct gate_owner *owner = link->owner;
    if (owner == NULL) { /* memory was out: nothing is held back */
        answer(seat, link->gate->gates->peers[link->owner_index], SEAT_GRANTED);
        return;
    }
    seat->there.on_decided = seat_on_decided;
    switch (gate_owner_enter(owner, &seat->there)) {
    case GATE_GRANTED:
        lend(link);
        seat_on_decided(&seat->there);
        break;
    case GATE_SHED: seat_on_decided(&seat->there); break;
    case GATE_QUEUED: break;
    }
}

static void on_canceled(struct gate_link *link, struct gate_seat *seat)
{
    if (seat->answer != SEAT_ASKED) {
        return; /* it is answered: it will be released */
    }
    gate_owner_leave(link->owner, &seat->there);
    answer(seat, link->owner->gates, SEAT_CANCELED);
}

static void on_released(struct gate_link *link, struct gate_seat *seat, const struct lease_event *event)
{
    struct gate_owner *owner = link->owner;
    if (seat->answer == SEAT_GRANTED && owner != NULL) {
        owner->seats--;
        if (event->at_ns != 0) {
            gate_owner_first_token(owner, &seat->there, event->at_ns); /* if it was not heard of yet */
        }
        if (event->endpoint != SCHED_ENDPOINT_ANY) {
            gate_owner_endpoint(owner, &seat->there, event->endpoint); /* likewise */
        }
        seat->there.outcome = event->outcome;
        gate_owner_leave(owner, &seat->there);
    }
    free(seat);
}

static void take_event(struct gate_link *link, const struct lease_event *event)
{
    struct gate_owner *owner = link->owner;
    struct gate_seat *seat = event->seat;
    switch (event->kind) {
    case LEASE_ASKED: on_asked(link, seat); break;
    case LEASE_CANCELED: on_canceled(link, seat); break;
    case LEASE_RELEASED: on_released(link, seat, event); break;
    case LEASE_FIRST_TOKEN:
        if (owner != NULL) {
            gate_owner_first_token(owner, &seat->there, event->at_ns);
        }
        break;
    case LEASE_TOKENS:
        if (owner != NULL) {
            admission_on_tokens(owner->admission, &seat->there.request, event->tokens);
        }
        break;
    case LEASE_ENDPOINT:
        if (owner != NULL) {
            gate_owner_endpoint(owner, &seat->there, event->endpoint);
        }
        break;
    case LEASE_ENDED:
        if (owner != NULL) {
            admission_on_lent_end(owner->admission, ring_now(owner->gates->ring), &event->lent, &event->outcome);
            if (event->outcome.is_refused) {
                gate_owner_check(owner);
            }
        }
        break;
    }
}

void gate_link_look(struct gate_link *link)
{
    struct lease_event event;
    while (lease_pop(&link->lease, &event)) {
        take_event(link, &event);
    }
    struct gate_owner *owner = link->owner;
    if (owner == NULL) {
        return;
    }
    uint32_t back = lease_collect(&link->lease);
    if (back > 0) {
        gate_owner_lent(owner, -(int)back);
        admission_advance(owner->admission, ring_now(owner->gates->ring));
    }
    uint32_t there = admission_in_flight(owner->admission) + owner->lent - link->lease.lent;
    atomic_store_explicit(&link->in_flight_there, there, memory_order_relaxed);
}

uint32_t gate_link_in_use(const struct gate_link *link)
{
    uint32_t free_slots = lease_free(&link->lease);
    return link->lease.lent > free_slots ? link->lease.lent - free_slots : 0;
}

void gate_link_recall(struct gate_link *link)
{
    gate_owner_lent(link->owner, -(int)lease_recall(&link->lease));
}

static void on_nudge(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct gate_link *link = CONTAINER_OF(message, struct gate_link, nudge);
    atomic_exchange(&link->is_nudged, false);
    gate_link_look(link);
    if (link->owner != NULL) {
        gate_owner_arm(link->owner);
    }
}

/* ---- life ---- */

static void on_opening(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct gate_link *link = CONTAINER_OF(message, struct gate_link, opening);
    struct gates *owner = link->gate->gates->peers[link->owner_index];
    link->owner = gate_owner_use(owner, &link->gate->key);
    if (link->owner != NULL) {
        list_push_back(&link->owner->links, &link->node);
    }
}

struct gate_link *gate_link_open(struct gate *gate, unsigned owner_index)
{
    struct gate_link *link = aligned_alloc(LEASE_LINE, sizeof(*link));
    if (link == NULL) {
        return NULL;
    }
    lease_init(&link->lease);
    link->gate = gate;
    link->owner_index = owner_index;
    link->open = 0;
    link->lent_in_use = 0;
    link->sampler = (struct gate_sampler){0};
    list_init(&link->untold);
    ring_timer_init(&link->retry, on_retry);
    atomic_init(&link->is_nudged, false);
    atomic_init(&link->in_flight_there, 0);
    link->owner = NULL;
    list_init(&link->node);
    gate->link = link;
    link->opening.on_deliver = on_opening;
    ring_post(gate->gates->ring, owner_index, &link->opening);
    return link;
}

static void on_closed(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct gate_link *link = CONTAINER_OF(message, struct gate_link, closing);
    struct gate *gate = link->gate;
    gate->gates->closing--;
    gate_link_free(link);
    free(gate);
}

static void on_closing(struct ring *ring, struct ring_message *message)
{
    struct gate_link *link = CONTAINER_OF(message, struct gate_link, closing);
    struct gate_owner *owner = link->owner;
    gate_link_look(link);
    if (owner != NULL) {
        gate_link_recall(link);
        CHECK(link->lease.lent == 0); /* nobody uses it over there */
        owner->turned_away_there += counter_load(&link->gate->turned_away);
        list_remove(&link->node);
        gate_owner_unuse(owner);
    }
    link->closing.on_deliver = on_closed;
    ring_post(ring, link->gate->gates->index, &link->closing);
}

void gate_link_close(struct gate_link *link)
{
    link->closing.on_deliver = on_closing;
    ring_post(ring_of(link), link->owner_index, &link->closing);
}

void gate_link_free(struct gate_link *link)
{
    free(link);
}

/* Whose matter a 429 is.
 *
 * What a request is sent with is its client's own credentials, and a 429 is first of all about those: so many requests,
 * or tokens, of this key (RFC 6585 §4). A router of models that holds all credentials itself (LiteLLM) lets each
 * deployment rest by itself, and takes one that comes with a client's key for a deployment of its own; so here. The
 * account is let alone for as long as the answer asks, the others are not held up.
 *
 * Yet there are engines that say 429 when their queue is full, whoever asks. Then it meets many accounts: when more
 * than a quarter of the others that were heard of within a minute got a 429 last, it is the backend's. Of an account
 * that is alone nobody can tell: the limit is cut, which concerns nobody else, and the pause is its own.
 *
 * Who has a paused account waits at the gate, in front of the queue, which could not let others by. As many as the
 * queue may have, and as long as their deadlines allow; else they are turned away, with what is left of the pause. */
#include <stdlib.h>

#include "base/check.h"
#include "base/counter.h"
#include "proxy/gate_internal.h"

enum {
    ACCOUNTS_MAX = 32, /* known at a time; the one heard of longest ago makes room, of those that are not paused */
    STATUS_TOO_MANY = 429,
    REFUSED_SHARE = 4, /* one in so many */
};

#define HEARD_NS (60 * NANOS_PER_S)

struct gate_accounts {
    unsigned count;
    struct account {
        uint64_t hash;
        nanos heard_ns; /* of its last answer that counts: 2xx, 429 */
        nanos paused_until_ns;
        bool is_refused; /* that one was a 429 */
    } all[ACCOUNTS_MAX];
};

static struct account *find(struct gate_accounts *accounts, uint64_t hash)
{
    for (unsigned i = 0; i < accounts->count; i++) {
        if (accounts->all[i].hash == hash) {
            return &accounts->all[i];
        }
    }
    return NULL;
}

static bool goes_before(const struct account *a, const struct account *b, nanos now)
{
    bool a_is_paused = a->paused_until_ns > now;
    bool b_is_paused = b->paused_until_ns > now;
    return a_is_paused != b_is_paused ? b_is_paused : a->heard_ns < b->heard_ns;
}

static struct account *find_or_add(struct gate_accounts *accounts, uint64_t hash, nanos now)
{
    struct account *account = find(accounts, hash);
    if (account != NULL) {
        return account;
    }
    if (accounts->count < ACCOUNTS_MAX) {
        account = &accounts->all[accounts->count++];
    } else {
        account = accounts->all;
        for (unsigned i = 1; i < ACCOUNTS_MAX; i++) {
            account = goes_before(&accounts->all[i], account, now) ? &accounts->all[i] : account;
        }
    }
    *account = (struct account){.hash = hash};
    return account;
}

/* ---- answers ---- */

/* Of the other accounts, so many were heard of lately, and so many of them were refused. */
static void count_others(const struct gate_accounts *accounts, const struct account *account, nanos now,
                         unsigned *ret_heard, unsigned *ret_refused)
{
    *ret_heard = 0;
    *ret_refused = 0;
    for (unsigned i = 0; i < accounts->count; i++) {
        const struct account *other = &accounts->all[i];
        if (other != account && now - other->heard_ns < HEARD_NS) {
            *ret_heard += 1;
            *ret_refused += other->is_refused;
        }
    }
}

static void on_too_many(struct gate_pass *pass, struct gate_accounts *accounts, struct account *account, nanos now)
{
    nanos *pause_ns = &pass->outcome.retry_after_ns;
    nanos until_ns = now + *pause_ns;
    account->paused_until_ns = until_ns > account->paused_until_ns ? until_ns : account->paused_until_ns;
    unsigned heard;
    unsigned refused;
    count_others(accounts, account, now, &heard, &refused);
    if (heard == 0) {
        *pause_ns = 0;
    } else if (refused * REFUSED_SHARE <= heard) {
        pass->is_clients_matter = true;
    }
}

void gate_accounts_on_answer(struct gate_pass *pass, unsigned status)
{
    struct gate *gate = pass->gate;
    bool is_refused = status == STATUS_TOO_MANY;
    if (gate->key.is_plain || (!is_refused && (status < 200 || status >= 300))) {
        return; /* says nothing of how much an account may have */
    }
    if (gate->accounts == NULL) {
        gate->accounts = calloc(1, sizeof(*gate->accounts));
        if (gate->accounts == NULL) {
            return; /* then it is taken for the backend's */
        }
    }
    nanos now = ring_now(gate->gates->ring);
    struct account *account = find_or_add(gate->accounts, pass->account, now);
    account->heard_ns = now;
    account->is_refused = is_refused;
    if (is_refused) {
        on_too_many(pass, gate->accounts, account, now);
    }
}

/* ---- those that are paused ---- */

/* Until when the pass's account is to be left alone; not after `now`: it is not. */
static nanos paused_until(const struct gate_pass *pass)
{
    const struct gate *gate = pass->gate;
    if (gate == NULL || gate->accounts == NULL || pass->account == 0 || gate_only_observes(gate)) {
        return 0;
    }
    const struct account *account = find(gate->accounts, pass->account);
    return account == NULL ? 0 : account->paused_until_ns;
}

bool gate_accounts_is_paused(const struct gate_pass *pass)
{
    nanos until_ns = paused_until(pass);
    return UNLIKELY(until_ns != 0) && until_ns > ring_now(pass->gate->gates->ring);
}

/* As long as the queue would have room for it, and its deadline allows. */
static bool may_wait(const struct gate_pass *pass, nanos until_ns)
{
    const struct gate *gate = pass->gate;
    const struct queue_options *queue = &gate->gates->options[gate->key.upstream].model.queue;
    const struct sched_request *request = &pass->request;
    return !pass->is_now_or_never && until_ns <= request->deadline_ns && gate->paused < queue->requests_max &&
           (queue->bytes_max == 0 || gate->paused_bytes + request->body_bytes <= queue->bytes_max);
}

static void set_timer(struct gates *gates, nanos at)
{
    if (!ring_timer_is_set(&gates->pause) || at < gates->pause.deadline_ns) {
        ring_timer_set(gates->ring, &gates->pause, at);
    }
}

enum gate_pause gate_accounts_pause(struct gate_pass *pass)
{
    if (!gate_accounts_is_paused(pass)) {
        return GATE_NOT_PAUSED;
    }
    nanos until_ns = paused_until(pass);
    struct gate *gate = pass->gate;
    struct gates *gates = gate->gates;
    if (!may_wait(pass, until_ns)) {
        pass->shed = SCHED_SHED_CLIENT_PAUSED;
        pass->retry_after_ns = until_ns - ring_now(gates->ring);
        counter_add(&gate->turned_away, 1);
        return GATE_TURNED_AWAY;
    }
    pass->state = GATE_PAUSED;
    gate->paused++;
    gate->paused_bytes += pass->request.body_bytes;
    counter_add(&gates->paused_count, 1);
    list_push_back(&gates->paused, &pass->node);
    set_timer(gates, until_ns);
    return GATE_IS_PAUSED;
}

void gate_accounts_leave(struct gate_pass *pass)
{
    struct gate *gate = pass->gate;
    list_remove(&pass->node);
    if (pass->state == GATE_PAUSED) {
        gate->paused--;
        gate->paused_bytes -= pass->request.body_bytes;
        counter_add(&gate->gates->paused_count, (uint64_t)-1);
    }
    pass->state = GATE_OUT;
}

static void enter_all(struct list_node *passes)
{
    struct list_node *node;
    while ((node = list_pop_front(passes)) != NULL) {
        struct gate_pass *pass = CONTAINER_OF(node, struct gate_pass, node);
        pass->state = GATE_OUT;
        if (gate_enter(pass) != GATE_QUEUED) {
            pass->on_decided(pass);
        }
    }
}

/* Lets those in again whose pause is over, and those who can no longer wait for its end, since it has become longer:
 * the latter are turned away. The upper classes go first, as they would from the queue. */
void gate_accounts_on_timer(struct ring_timer *timer)
{
    struct gates *gates = CONTAINER_OF(timer, struct gates, pause);
    struct list_node over[SCHED_CLASSES];
    nanos next_ns = NANOS_NEVER;
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        list_init(&over[class]);
    }
    for (struct list_node *node = gates->paused.next; node != &gates->paused;) {
        struct gate_pass *pass = CONTAINER_OF(node, struct gate_pass, node);
        nanos until_ns = paused_until(pass);
        node = node->next;
        if (until_ns <= ring_now(gates->ring) || until_ns > pass->request.deadline_ns) {
            gate_accounts_leave(pass);
            pass->state = GATE_PAUSE_OVER;
            list_push_back(&over[pass->request.class], &pass->node);
        } else {
            next_ns = until_ns < next_ns ? until_ns : next_ns;
        }
    }
    if (next_ns != NANOS_NEVER) {
        set_timer(gates, next_ns);
    }
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        enter_all(&over[class]);
    }
}

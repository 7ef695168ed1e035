#include "batch_clients.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

enum { KEY = 1, ITEM_TOKENS = 100, ITEM_BYTES = 400 };

struct client {
    struct batch_item item;
    bool is_poisson; /* gone with its answer */
};

struct call {
    struct pairing_node place; /* among those under way, by end_ns */
    struct list_node queued;   /* at the backend */
    struct list_node items;
    uint32_t item_count;
    nanos sent_ns;
    nanos end_ns;
};

struct clients {
    const struct batch_clients_options *options;
    struct batch_former *former;
    nanos now;
    uint64_t random;
    struct pairing running;
    struct list_node queued;
    uint32_t running_count;
    nanos free_since_ns; /* a call could be sent since then; NANOS_NEVER: none can */
    double *latencies_ns;
    size_t latency_count;
    size_t latency_capacity;
    uint64_t calls;
    nanos overdue_ns;
    nanos oldest_ns;
    bool is_out_of_memory;
};

static double uniform(struct clients *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return ((double)(c->random >> 11) + 0.5) / 9007199254740992.0;
}

static bool ends_before(const struct pairing_node *a, const struct pairing_node *b)
{
    return CONTAINER_OF(a, const struct call, place)->end_ns < CONTAINER_OF(b, const struct call, place)->end_ns;
}

static bool is_measured(const struct clients *c)
{
    return c->now >= c->options->warm_up_ns && c->now - c->options->warm_up_ns < c->options->measured_ns;
}

static void start_calls(struct clients *c)
{
    while (c->running_count < c->options->slots && !list_is_empty(&c->queued)) {
        struct call *call = CONTAINER_OF(list_pop_front(&c->queued), struct call, queued);
        call->end_ns = c->now + c->options->call_ns + call->item_count * c->options->item_ns;
        call->place.prev = NULL;
        pairing_put(&c->running, &call->place);
        c->running_count++;
    }
}

static void note_age(struct clients *c, const struct batch_item *item)
{
    nanos age_ns = c->now - item->submitted_ns;
    nanos wait_max_ns = c->options->former.wait_max_ns;
    c->oldest_ns = age_ns > c->oldest_ns ? age_ns : c->oldest_ns;
    /* Overdue is what it waited since both its time was up and a call was free. */
    nanos since_ns = item->submitted_ns + wait_max_ns;
    since_ns = c->free_since_ns > since_ns ? c->free_since_ns : since_ns;
    if (c->now > since_ns && c->now - since_ns > c->overdue_ns) {
        c->overdue_ns = c->now - since_ns;
    }
}

static void on_flush(void *context, uint64_t key, struct list_node *items, const char *why)
{
    (void)key;
    (void)why;
    struct clients *c = context;
    struct call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        abort();
    }
    list_init(&call->items);
    list_init(&call->queued);
    for (struct list_node *node; (node = list_pop_front(items)) != NULL; call->item_count++) {
        note_age(c, CONTAINER_OF(node, struct batch_item, node));
        list_push_back(&call->items, node);
    }
    call->sent_ns = c->now;
    c->calls += is_measured(c);
    list_push_back(&c->queued, &call->queued);
}

static void submit(struct clients *c, struct client *client)
{
    client->item.arrived_ns = c->now;
    enum result result = batch_submit(c->former, c->now, &client->item);
    CHECK(result == RESULT_OK);
}

static void arrive(struct clients *c, uint64_t tenant, bool is_poisson)
{
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        c->is_out_of_memory = true;
        return;
    }
    client->is_poisson = is_poisson;
    client->item = (struct batch_item){.key = KEY,
                                       .class = SCHED_CLASS_DEFAULT,
                                       .tenant = tenant,
                                       .items = 1,
                                       .tokens = ITEM_TOKENS,
                                       .bytes = ITEM_BYTES,
                                       .deadline_ns = NANOS_NEVER};
    submit(c, client);
}

static void measure(struct clients *c, double latency_ns)
{
    if (!is_measured(c)) {
        return;
    }
    if (c->latency_count == c->latency_capacity) {
        size_t capacity = c->latency_capacity * 2 + 4096;
        double *latencies = realloc(c->latencies_ns, capacity * sizeof(*latencies));
        if (latencies == NULL) {
            c->is_out_of_memory = true;
            return;
        }
        c->latencies_ns = latencies;
        c->latency_capacity = capacity;
    }
    c->latencies_ns[c->latency_count++] = latency_ns;
}

static void end_call(struct clients *c, struct call *call, bool goes_on)
{
    pairing_remove(&c->running, &call->place);
    c->running_count--;
    start_calls(c);
    const struct batch_end end = {.key = KEY, .items = call->item_count, .took_ns = c->now - call->sent_ns};
    batch_on_end(c->former, c->now, &end);
    for (struct list_node *node; (node = list_pop_front(&call->items)) != NULL;) {
        struct client *client = CONTAINER_OF(node, struct client, item.node);
        measure(c, (double)(c->now - client->item.arrived_ns));
        if (client->is_poisson || !goes_on) {
            free(client);
        } else {
            submit(c, client);
        }
    }
    free(call);
}

static struct call *next_end(const struct clients *c)
{
    return c->running.root == NULL ? NULL : CONTAINER_OF(c->running.root, struct call, place);
}

static void note_slots(struct clients *c)
{
    struct batch_figures figures;
    batch_figures(c->former, &figures);
    uint32_t calls_max = c->options->former.calls_max;
    bool is_free = calls_max == 0 || figures.calls_in_flight < calls_max;
    c->free_since_ns = !is_free ? NANOS_NEVER : c->free_since_ns == NANOS_NEVER ? c->now : c->free_since_ns;
}

static void run(struct clients *c)
{
    const struct batch_clients_options *options = c->options;
    nanos end_ns = options->warm_up_ns + options->measured_ns;
    nanos arrival_ns = NANOS_NEVER;
    for (uint32_t i = 0; i < options->clients; i++) {
        arrive(c, i + 1, false);
    }
    if (options->clients == 0) {
        arrival_ns = 0;
    }
    uint64_t arrivals = 0;
    while (!c->is_out_of_memory) {
        start_calls(c);
        note_slots(c);
        struct call *ended = next_end(c);
        nanos timer_ns = batch_next_ns(c->former);
        nanos call_ns = ended == NULL ? NANOS_NEVER : ended->end_ns;
        nanos next_ns = timer_ns < call_ns ? timer_ns : call_ns;
        next_ns = arrival_ns < next_ns ? arrival_ns : next_ns;
        bool goes_on = next_ns < end_ns;
        if (next_ns == NANOS_NEVER) {
            return;
        }
        c->now = next_ns;
        if (next_ns == call_ns) {
            end_call(c, ended, goes_on);
        } else if (next_ns == timer_ns) {
            batch_advance(c->former, c->now);
        } else {
            arrive(c, ++arrivals, true);
            arrival_ns += (nanos)(-log(uniform(c)) / options->arrivals_per_s * 1e9);
            arrival_ns = arrival_ns < end_ns ? arrival_ns : NANOS_NEVER;
        }
    }
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

bool batch_clients_run(const struct batch_clients_options *options, struct batch_clients_result *ret_result)
{
    struct clients c = {.options = options, .random = options->seed * 2 + 1};
    pairing_init(&c.running, ends_before);
    list_init(&c.queued);
    c.former = batch_create(&options->former, on_flush, &c);
    if (c.former == NULL) {
        return false;
    }
    run(&c);
    if (c.is_out_of_memory) {
        abort(); /* what is in flight cannot be taken back, and a run without memory is worth nothing */
    }
    batch_destroy(c.former);
    CHECK(c.latency_count > 0 && c.calls > 0);
    qsort(c.latencies_ns, c.latency_count, sizeof(*c.latencies_ns), compare);
    *ret_result = (struct batch_clients_result){
        .items_per_s = (double)c.latency_count / ((double)options->measured_ns / 1e9),
        .p50_ms = c.latencies_ns[c.latency_count / 2] / 1e6,
        .p99_ms = c.latencies_ns[c.latency_count * 99 / 100] / 1e6,
        .items_per_call = (double)c.latency_count / (double)c.calls,
        .oldest_ms = (double)c.oldest_ns / 1e6,
        .overdue_ms = (double)c.overdue_ns / 1e6,
    };
    free(c.latencies_ns);
    return true;
}

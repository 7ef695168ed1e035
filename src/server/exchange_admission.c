/* What an exchange tells the scheduler of its request, and what it answers when that turns it away. */
#include "api/demand.h"
#include "api/inference.h"
#include "api/inference_meter.h"
#include "api/models.h"
#include "server/cache_key.h"
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"
#include "server/server.h"

/* ---- asking ---- */

/* How long is given to requests that do not say. */
static nanos usual_ns(const struct config_route *config, const struct config_upstream *upstream)
{
    return (config->deadline_ms > 0 ? config->deadline_ms : upstream->scheduling.queue.wait_max_ms) * NANOS_PER_MS;
}

/* By what the request asks for, within what its tenant may. The pass has its tenant's class until then. */
static void set_urgency(struct exchange *exchange, const struct demand *demand)
{
    const struct config_route *config = exchange->route->config;
    const struct config_upstream *upstream = &exchange_worker(exchange)->config->upstreams[config->upstream];
    struct sched_request *request = &exchange->fetch->pass.request;
    uint8_t class = demand_class(demand, request->class);
    request->class = class > request->class || config->trust_class ? class : request->class;
    nanos usual = usual_ns(config, upstream);
    request->deadline_ns = demand_deadline(demand, exchange->started_ns, usual);
    request->is_patient = config->deadline_ms == 0 && !demand_has_deadline(demand, usual);
}

void exchange_admission_prepare(struct exchange *exchange, const struct exchange_start *start)
{
    struct worker *worker = exchange_worker(exchange);
    const struct config_route *config = exchange->route->config;
    const struct config_upstream *upstream = &worker->config->upstreams[config->upstream];
    if (!upstream->scheduling.enabled) {
        return;
    }
    struct gate_pass *pass = &exchange->fetch->pass;
    bool is_plain = config->kind == CONFIG_ROUTE_HTTP;
    struct gate *gate = is_plain ? gates_plain(&worker->gates, config->upstream) : NULL;
    bool begins_now = exchange->cache == NULL && start->parser->head.body == HTTP_BODY_NONE;
    if (begins_now && gate_try(pass, gate, (uint8_t)config->class)) {
        return; /* as long as nobody waits it does not matter whose it is */
    }
    gate_pass_init(pass, gate);
    struct sched_request *request = &pass->request;
    struct cache_key_source source;
    exchange_cache_source(start, &source);
    struct scheduling_tenant tenant =
        scheduling_tenant_of(&worker->server->scheduling, config, &source, conn_client(exchange->conn));
    request->tenant = tenant.hash;
    pass->account = tenant.account;
    request->weight = tenant.weight;
    request->class = tenant.class;
    request->arrived_ns = exchange->started_ns;
    request->cost.prompt_tokens = 1;
    struct demand demand;
    demand_init(&demand);
    demand_from_head(&demand, &start->parser->head, start->base);
    if (exchange_admission_wants_model(exchange)) {
        exchange->demand = arena_alloc(&exchange->arena, sizeof(demand)); /* without it, the head's is all there is */
    }
    if (exchange->demand != NULL) {
        *exchange->demand = demand;
    } else {
        set_urgency(exchange, &demand);
    }
}

bool exchange_admission_wants_model(const struct exchange *exchange)
{
    const struct config_route *config = exchange->route->config;
    return config->kind == CONFIG_ROUTE_INFERENCE && exchange->method == HTTP_POST &&
           exchange_worker(exchange)->config->upstreams[config->upstream].scheduling.enabled;
}

/* The path that the backend is asked for, without the query. */
static struct bytes path_of(const struct fetch_request *request)
{
    struct bytes line = request->line;
    const char *from = memchr(line.ptr, ' ', line.len);
    struct bytes rest = from == NULL ? BYTES_NONE : (struct bytes){from + 1, (size_t)(line.ptr + line.len - from - 1)};
    size_t length = 0;
    while (length < rest.len && rest.ptr[length] != ' ' && rest.ptr[length] != '?') {
        length++;
    }
    return (struct bytes){rest.ptr, length};
}

/* Under which name it is scheduled is the upstream's to say, which is asked when it may have more than one. */
static struct gate *choose_gate(struct exchange *exchange, struct bytes model)
{
    struct worker *worker = exchange_worker(exchange);
    struct fetch *fetch = exchange->fetch;
    struct model_directory *directory = fetch->request.upstream->models;
    struct bytes scheduled = directory == NULL ? model : model_directory_scheduled_as(directory, model);
    bool is_offered = directory != NULL && model_directory_offers(directory, scheduled);
    gate_pass_choose_model(&fetch->pass, &worker->gates, exchange->route->config->upstream, scheduled, is_offered);
    bool is_odd = !bytes_equal(model, scheduled) || gate_pass_is_doubtful(&fetch->pass);
    if (directory != NULL && model.len > 0 && is_odd) {
        model_directory_wonder(directory);
    }
    return fetch->pass.gate;
}

struct bytes exchange_admission_choose(struct exchange *exchange)
{
    struct fetch *fetch = exchange->fetch;
    struct bytes body = {fetch->request.body, fetch->request.body_bytes};
    struct demand other;
    struct demand *demand = exchange->demand;
    if (demand == NULL) {
        demand = &other;
        demand_init(demand);
    }
    demand_from_body(demand, path_of(&fetch->request), body);
    struct bytes model = demand->model;
    if (demand->model_is_escaped && !inference_model(&exchange->arena, body, &model)) {
        model = BYTES_NONE;
    }
    struct gate *gate = choose_gate(exchange, model);
    struct sched_request *request = &fetch->pass.request;
    struct cost_question question;
    demand_question(demand, request->tenant, NULL, 0, &question);
    if (gate_cost(gate) != NULL) {
        request->cost = cost_estimate(gate_cost(gate), &question);
    }
    if (exchange->demand != NULL) {
        set_urgency(exchange, demand);
    }
    /* Who cannot be metered tells no first token: it is taken for one that has none to show. */
    request->is_streamed = inference_meter_attach(fetch, &question) && demand->is_stream;
    return model;
}

/* ---- being turned away ---- */

static const char *message_of(enum sched_shed shed)
{
    switch (shed) {
    case SCHED_SHED_TENANT_SHARE: return "too many of this client's requests are waiting already";
    case SCHED_SHED_TOO_LARGE: return "the request is larger than the model can ever take";
    case SCHED_SHED_CLIENT_PAUSED: return "the upstream has asked for a pause of requests with these credentials";
    case SCHED_SHED_QUEUE_FULL: return "too many requests are waiting already";
    case SCHED_SHED_EVICTED: return "the request had to make room for a more urgent one";
    case SCHED_SHED_LATE_ARRIVAL: return "the request would wait longer than its deadline allows";
    case SCHED_SHED_LATE_DISPATCH: return "the request has waited for as long as its deadline allows";
    case SCHED_SHED_BACKEND_BUSY: return "the upstream has asked for a pause that is longer than the request can wait";
    case SCHED_SHED_PRESSURE: return "the gateway is short of resources for requests of this class";
    default: return "the request cannot be served now";
    }
}

void exchange_answer_shed(struct exchange *exchange)
{
    const struct entry *entry = exchange->reader.entry;
    enum sched_shed shed = (enum sched_shed)entry->shed;
    uint32_t retry_ms = entry->retry_after_ms > 0 ? entry->retry_after_ms : 1;
    bool may_retry = shed != SCHED_SHED_TOO_LARGE;
    const char *code = sched_shed_name(shed);
    char text[256];
    char *at = text;
    if (may_retry) {
        at = bytes_put(at, BYTES("Retry-After: "));
        at += bytes_put_u64(at, (retry_ms + 999) / 1000);
        at = bytes_put(at, BYTES("\r\nretry-after-ms: "));
        at += bytes_put_u64(at, retry_ms);
        at = bytes_put(at, BYTES("\r\nx-should-retry: true\r\n"));
    } else {
        at = bytes_put(at, BYTES("x-should-retry: false\r\n"));
    }
    at = bytes_put(at, BYTES("X-Sluice-Reason: "));
    at = bytes_put(at, bytes_from(code));
    at = bytes_put(at, BYTES("\r\n"));
    exchange_answer_error_with(exchange, sched_shed_is_clients(shed) ? 429 : 503, message_of(shed), code,
                               METRICS_ERROR_SHED, (struct bytes){text, (size_t)(at - text)});
}

/* GET /v1/models: the union of what the backends offer. */
#include "server/exchange_internal.h"

static void on_gathered(void *context, struct bytes json, const struct fetch *failed)
{
    struct exchange *exchange = context;
    exchange->gathering = NULL;
    if (json.ptr != NULL) {
        exchange_answer_json(exchange, 200, json);
        return;
    }
    bool answered = failed != NULL && failed->entry.status != 0;
    exchange_answer_error(exchange, 502,
                          answered ? "no backend answered with a list of models" : "no backend could be reached",
                          "upstream_unreachable", METRICS_ERROR_UPSTREAM_CONNECT);
}

bool exchange_begin_model_list(struct exchange *exchange)
{
    struct fetch_request *request = &exchange->fetch->request;
    if (request->upstream->endpoint_count == 1 || request->upstream->models == NULL) {
        return false;
    }
    exchange->gathering = model_gather(request->upstream->models, request, on_gathered, exchange);
    return exchange->gathering != NULL;
}

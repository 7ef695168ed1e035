/* A fetch that does without a connection of its own: another has its answer. */
#include "base/check.h"
#include "proxy/fetch_internal.h"

bool fetch_is_detoured(struct fetch *fetch)
{
    struct fetch_detour *detour = fetch->detour;
    if (detour == NULL) {
        return false;
    }
    fetch->phase = FETCH_DETOURED;
    if (!detour->on_start(detour, fetch)) {
        fetch->phase = FETCH_IDLE;
        fetch->detour = NULL;
    }
    return fetch->phase == FETCH_DETOURED;
}

void fetch_go_on(struct fetch *fetch)
{
    CHECK(fetch->phase == FETCH_DETOURED);
    fetch->phase = FETCH_IDLE;
    fetch->started_ns = ring_now(fetch->proxy->ring); /* the wait was not the upstream's */
    fetch_ask(fetch);
}

void fetch_answer(struct fetch *fetch, const struct fetch_answer *answer)
{
    const struct upstream *upstream = fetch->request.upstream;
    CHECK(fetch->phase == FETCH_DETOURED && answer->endpoint < upstream->endpoint_count);
    fetch->endpoint = &upstream->endpoints[answer->endpoint];
    fetch->was_connected = true;
    fetch->entry.batch_items = answer->batch_items;
    fetch->entry.batch_requests = answer->batch_requests;
    fetch_end(fetch, fetch_feed(fetch, answer->head, answer->body));
}

void fetch_give_up(struct fetch *fetch, const struct fetch_failure *failure)
{
    CHECK(fetch->phase == FETCH_DETOURED && failure->result != RESULT_OK);
    fetch->fault = failure->fault;
    fetch->was_connected = failure->was_connected;
    fetch->entry.shed = failure->shed;
    fetch->entry.retry_after_ms = failure->retry_after_ms;
    fetch_end(fetch, failure->result);
}

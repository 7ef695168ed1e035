/* Which models the endpoints of an inference upstream offer.
 *
 * A gathering asks every endpoint for its list at once, and ends when all have answered or MODELS_GATHER_TIMEOUT_MS
 * have passed. Its outcome is the union, in the endpoints' order, each model once; and what was learned is kept, so
 * that a request for a model goes to an endpoint that has it. */
#ifndef SLUICE_API_MODELS_H
#define SLUICE_API_MODELS_H

#include "base/bytes.h"
#include "proxy/fetch.h"

enum { MODELS_GATHER_TIMEOUT_MS = 5000, MODELS_REFRESH_MS = 30000, MODELS_BODY_BYTES_MAX = 4 << 20 };

struct model_gathering;

/* What is known of one upstream, on one worker. */
struct model_directory {
    struct upstream *upstream;
    struct model_list {
        unsigned count;
        char **names; /* from malloc; NULL: not known */
    } lists[UPSTREAM_ENDPOINTS_MAX];
    struct ring_timer refresh;
    nanos asked_ns; /* when it began to ask last; 0: never */
    struct model_gathering *refreshing;
};

/* *Keeps* upstream. With more than one endpoint, asks now and again every MODELS_REFRESH_MS; a single one, which gets
 * every request whatever it has, only when somebody wonders. */
void model_directory_init(struct model_directory *directory, struct upstream *upstream);
void model_directory_start(struct model_directory *directory);
void model_directory_stop(struct model_directory *directory);
void model_directory_fini(struct model_directory *directory);

/* The endpoints (a bit each) that offer `model`; all when nobody is known to, or it is empty. */
uint64_t model_directory_endpoints(const struct model_directory *directory, struct bytes model);

/* Under which name a request for `model` is scheduled: its own when it is offered, or nothing is known; what nobody
 * offers is served by the only model there is (engines with one model take any name), or refused: empty. *Borrows*, or
 * is the directory's until it turns. */
struct bytes model_directory_scheduled_as(const struct model_directory *directory, struct bytes model);

/* Whether somebody is known to offer it. */
bool model_directory_offers(const struct model_directory *directory, struct bytes model);

/* A request has named a model that is not known to be one: asks for what there is, if that was not done within
 * MODELS_REFRESH_MS. */
void model_directory_wonder(struct model_directory *directory);

/* Whether the endpoints differ in what they offer, so that it matters which model is asked for. */
bool model_directory_matters(const struct model_directory *directory);

/* Asks all endpoints with the request given (*borrows* its line, host and fields until the end). `on_done` gets the
 * union as JSON (*borrows*), or .ptr NULL and the failed fetch of the first endpoint when nobody answered; it comes
 * from the loop, never from inside this call. NULL: memory is out, and on_done does not come. */
struct model_gathering *model_gather(struct model_directory *directory, const struct fetch_request *request,
                                     void (*on_done)(void *context, struct bytes json, const struct fetch *failed),
                                     void *context);

/* Ends a gathering without its on_done. */
void model_gathering_cancel(struct model_gathering *gathering);

#endif

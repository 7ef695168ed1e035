/* Filling by the inference APIs' own rules: an answer is stored when it is whole, says nothing of an error, and would
 * be given again to the same question (inference_key.h, inference_capture.h). */
#ifndef SLUICE_API_FILLING_INFERENCE_H
#define SLUICE_API_FILLING_INFERENCE_H

#include "api/inference_key.h"
#include "proxy/filling.h"

extern const struct filling_rules filling_inference;

struct filling_inference_terms {
    int64_t ttl_ms; /* how long the answer is kept */
    bool stores_tool_calls;
    bool is_shared;                                            /* tenants share the store */
    bool (*is_in_key)(const void *context, struct bytes name); /* whether the key tells values of this field apart */
    const void *context;                                       /* until the answer's head has come */
    enum inference_reason not_kept; /* other than INFERENCE_OK: only who asks at the same time shares the answer */
};

/* To be called after filling_create. `key`: the request's. RESULT_NO_MEMORY. */
MUST_USE enum result filling_inference_init(struct filling *filling, const struct inference_key *key,
                                            const struct filling_inference_terms *terms);

#endif

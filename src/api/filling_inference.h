/* Filling by the inference APIs' own rules: an answer is stored when it is whole, says nothing of an error, and would
 * be given again to the same question (inference_key.h, inference_capture.h). */
#ifndef SLUICE_API_FILLING_INFERENCE_H
#define SLUICE_API_FILLING_INFERENCE_H

#include "api/inference_key.h"
#include "proxy/filling.h"

extern const struct filling_rules filling_inference;

/* To be called after filling_create. `key`: the request's; `ttl_ms`: how long the answer is kept. RESULT_NO_MEMORY. */
MUST_USE enum result filling_inference_init(struct filling *filling, const struct inference_key *key, int64_t ttl_ms,
                                            bool stores_tool_calls);

#endif

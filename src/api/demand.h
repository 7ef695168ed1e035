/* What a request asks of the scheduler, in the words that clients, SDKs and gateways already use: how long it may
 * wait, how urgent it is, and how much work it is.
 *
 *   deadlines  x-request-timeout-ms, x-portkey-request-timeout (ms), x-envoy-expected-rq-timeout-ms, x-litellm-timeout
 *              (s) and grpc-timeout bound the whole answer; x-litellm-stream-timeout (s) and x-slo-ttft-ms the first
 *              token; x-stainless-read-timeout (s), which the OpenAI and Anthropic SDKs send unasked, says how long
 *              the client sits through silence; x-slo-tpot-ms is the time between tokens. 0 is no bound, as in Envoy
 *   class      Priority: u=0…7 (RFC 9218); service_tier of the body (OpenAI); priority of the body (vLLM)
 *
 * A value that is malformed counts as not given: what is wrong with a request is the backend's to say. Of several
 * bounds of one kind the shortest counts, of several members of one name the last.
 *
 * Pure; nothing is allocated. A body is gone through once, at some GB/s (bench/demand.c), and trusted to be JSON. */
#ifndef SLUICE_API_DEMAND_H
#define SLUICE_API_DEMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "http/http.h"
#include "sched/cost.h"
#include "sched/request.h"

enum {
    DEMAND_CLASS_NONE = SCHED_CLASSES,
    DEMAND_MEDIA_BYTES = 4096,  /* what an image, a sound or a file counts as: about a thousand tokens */
    DEMAND_TOKEN_BYTES = 4,     /* what a token that came as a number does */
    DEMAND_BLOCK_BYTES = 2048,  /* of the prompt, for each hash */
    DEMAND_BLOCKS_MAX = 1 << 12 /* as many as are worth remembering of one prompt */
};

/* What stands at the front of a prompt, in this order whatever the body's. */
enum demand_part { DEMAND_TOOLS, DEMAND_SYSTEM, DEMAND_CONVERSATION, DEMAND_PARTS };

struct demand {
    /* of the head; NANOS_NEVER: not said */
    nanos total_ns;   /* for the whole answer, from the request's arrival */
    nanos first_ns;   /* for its first token, when it is a stream */
    nanos silence_ns; /* without a byte, until the client leaves */
    nanos token_ns;   /* the mean time between tokens that is wanted */
    uint8_t class;    /* < SCHED_CLASSES; DEMAND_CLASS_NONE: not said. A service_tier stands back behind Priority */

    /* of the body */
    int8_t shift;           /* vLLM's priority: -1: earlier than its class, 1: after all others, 0: not said */
    bool is_stream;         /* it asks for events */
    bool model_is_escaped;  /* `model` is as JSON has it: see inference_model */
    struct bytes model;     /* *borrowed* from the body; .ptr NULL: not said */
    uint64_t prompt_bytes;  /* of text, as UTF-8; of all that is not text, what it counts as */
    uint32_t prompt_tokens; /* of a prompt that came in tokens; 0: it did not */
    uint32_t output_max;    /* of each choice; UINT32_MAX: not said; 0: this endpoint generates nothing */
    uint32_t choices;       /* sequences to be generated: prompts × the larger of n and best_of; ≥ 1 */
    struct bytes parts[DEMAND_PARTS]; /* values in the body, *borrowed*; .ptr NULL: there is none */
    uint64_t written_bytes;           /* of the prompt, as it stands in the body: with escapes */
};

/* Before the others: nothing is said. */
void demand_init(struct demand *demand);

/* Reads a request's head. *Borrows* all. */
void demand_from_head(struct demand *demand, const struct http_head *head, const char *base);

/* Reads an inference request's body. `path`: as inference_upstream_path gives it, without the query. *Borrows* path;
 * *keeps* body as long as the model and the parts are used. */
void demand_from_body(struct demand *demand, struct bytes path, struct bytes body);

/* Hashes the prompt's blocks, each over all before it: two prompts with an equal hash begin alike. Gives how many, at
 * most `blocks_max`; a rest shorter than a block is left out. */
uint32_t demand_blocks(const struct demand *demand, uint64_t *blocks, uint32_t blocks_max);

/* The class it is to have when it would have `class` without saying anything. */
uint8_t demand_class(const struct demand *demand, uint8_t class);

/* The moment for sched_request.deadline_ns. `usual_ns`: how long is given to who does not say (NANOS_NEVER: for ever);
 * a client that leaves sooner because of silence is not waited for in vain. */
nanos demand_deadline(const struct demand *demand, nanos arrived_ns, nanos usual_ns);

/* Whether it says when it is of no use any more, sooner or later than `usual_ns`; else demand_deadline is the usual. */
bool demand_has_deadline(const struct demand *demand, nanos usual_ns);

/* What to ask of the costs. `blocks`: as demand_blocks gave them, *borrowed* by the question; may be NULL. */
void demand_question(const struct demand *demand, uint64_t tenant, const uint64_t *blocks, uint32_t block_count,
                     struct cost_question *ret_question);

#endif

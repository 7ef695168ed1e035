/* Tells a model's gate what its fetches bring: the first token, the tokens, the usage; and has the model's costs learn
 * from it.
 *
 * It sits in the fetch's arena and watches the upstream's bytes go by (token_meter.h), so that what is measured is the
 * backend and not its readers. An answer with a content coding cannot be looked at: its first byte counts as its first
 * token, and nothing more is known of it. An answer other than 200 tells nothing. */
#ifndef SLUICE_API_INFERENCE_METER_H
#define SLUICE_API_INFERENCE_METER_H

#include "api/token_meter.h"
#include "proxy/fetch.h"
#include "sched/cost.h"

struct inference_meter {
    struct fetch_meter meter;
    struct token_meter tokens;
    struct cost_question question;
    bool is_answer; /* a 200 has come */
    bool is_coded;
    uint32_t told_tokens; /* to the gate */
};

/* Has a fetch that has not begun be metered, for the gate that its pass is for at the end. *Borrows* question, whose
 * blocks it *keeps* until the fetch has ended. False: memory is out, and it is not metered. */
bool inference_meter_attach(struct fetch *fetch, const struct cost_question *question);

#endif

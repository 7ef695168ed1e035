/* The events of a stored stream, one after the other (WHATWG HTML §9.2.6). The whole stream is there. */
#ifndef SLUICE_API_INFERENCE_EVENTS_H
#define SLUICE_API_INFERENCE_EVENTS_H

#include <stdbool.h>

#include "api/json_buffer.h"
#include "base/bytes.h"

struct inference_events {
    struct bytes rest;
    struct json_buffer joined; /* the data of an event that came in several lines */
};

struct inference_event {
    struct bytes raw;  /* with comments before it and the blank line that ends it */
    struct bytes data; /* of its `data:` lines; within raw, or valid until the next event; .ptr NULL: none */
};

/* *Keeps* stream. */
void inference_events_init(struct inference_events *events, struct bytes stream);
void inference_events_fini(struct inference_events *events);

/* False at the end, when memory is out (events->joined.result), or when what is left is no whole event (events->rest).
 */
bool inference_events_next(struct inference_events *events, struct inference_event *ret_event);

#endif

/* Judges an answer for storing while it goes by, without keeping any of it.
 *
 * The body comes in runs cut anywhere. A JSON body is watched by an incremental scanner, an event stream event by
 * event; both look for the same few members (json_scan.h). Nothing is allocated; the state is one struct of about
 * 300 bytes, which may be copied and dropped freely.
 *
 * What is storable: status 200; JSON that is complete and carries no error; every choice with a finish reason
 * that is not `error`, `abort` or `content_filter` (`length` is as good as `stop`: it follows from the request);
 * a stream with its terminal event, whole: `[DONE]`, or `response.completed`; no tool calls, unless the route
 * stores those. A body that was broken off by the connection is for the caller to refuse: it knows best. */
#ifndef SLUICE_API_INFERENCE_CAPTURE_H
#define SLUICE_API_INFERENCE_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "api/inference_key.h"
#include "api/inference_reason.h"
#include "api/json_scan.h"
#include "base/bytes.h"

enum { INFERENCE_CHOICES_MAX = 512 };

/* What a stored body is; goes into cache_head.form. 0 is none of them, so that other routes' objects differ. */
enum inference_form {
    INFERENCE_FORM_NONE,
    INFERENCE_FORM_JSON,
    INFERENCE_FORM_STREAM,            /* events, which tell no usage */
    INFERENCE_FORM_STREAM_WITH_USAGE, /* events, which do */
    INFERENCE_FORM_STREAM_TELLING,    /* likewise, though nobody had asked: told in the backend's own place */
};

struct inference_answer_head {
    uint16_t status;
    struct bytes content_type;
    bool has_content_coding; /* Content-Encoding other than identity: the bytes cannot be looked at */
    bool is_event_stream;
};

struct inference_verdict {
    enum inference_reason reason; /* INFERENCE_OK: storable; else the rest is 0 */
    enum inference_form form;
    bool has_usage;
    uint64_t prompt_tokens; /* what the answer's usage says: its cost; 0 when it does not */
    uint64_t completion_tokens;
};

struct inference_capture {
    /* private */
    enum inference_family family;
    enum inference_reason reason; /* the first thing that spoke against storing */
    bool stores_tool_calls;
    bool is_event_stream;
    bool ended;           /* the terminal event has come */
    bool is_completed;    /* what an answer of the Responses API says of itself */
    bool is_object;       /* the text under way is one */
    bool event_completes; /* and what the event under way does */
    bool has_list;        /* of embeddings, results … */
    bool has_usage;
    uint64_t prompt_tokens;
    uint64_t completion_tokens;

    /* lines and events */
    bool skip_lf;
    bool past_bom;
    bool has_data;
    uint8_t line_part;
    uint8_t line_field;
    uint8_t name_bytes; /* of `name`, at most its size */
    uint8_t data_bytes; /* of `data`, likewise */
    uint8_t event_bytes;
    char name[12]; /* of the line's field */
    char data[8];  /* how the event's data begins */
    char event[8]; /* how its `event:` line does */

    /* the choice that is under way */
    uint64_t choice_index;
    bool choice_finished;
    uint32_t choice_count; /* of the array so far: gives the index when a choice does not say one */
    uint64_t seen[INFERENCE_CHOICES_MAX / 64];
    uint64_t finished[INFERENCE_CHOICES_MAX / 64];

    struct json_scan scan;
};

/* Starts with the answer's head, which it *borrows* for the call. */
void inference_capture_init(struct inference_capture *capture, enum inference_family family, bool stores_tool_calls,
                            const struct inference_answer_head *head);

/* Looks at the next bytes of the body. */
void inference_capture_feed(struct inference_capture *capture, struct bytes run);

/* Why it will not be stored, as far as is known by now: a caller may stop keeping the bytes, and feeding. */
static inline enum inference_reason inference_capture_reason(const struct inference_capture *capture)
{
    return capture->reason;
}

/* The judgement, once the body has ended as HTTP says it should. The form is never INFERENCE_FORM_STREAM_TELLING: only
 * who knows the request can tell. */
struct inference_verdict inference_capture_end(const struct inference_capture *capture);

#endif

/* Counts what a model's answer brings while it goes by: when its first token has come, how many tokens there are so
 * far, and what its `usage` says. Keeps none of it; reads every dialect without being told which.
 *
 * The body comes in runs cut anywhere: an event stream (WHATWG HTML §9.2.6), or one JSON text, of which only `usage` is
 * of interest. It trusts the backend to write JSON and looks only where one of the members below can stand, by their
 * names and those of what is around them: text that the model writes is inside strings, whose quotes are escaped, and
 * is passed over whatever it says. What is not JSON brings wrong figures, nothing else.
 *
 *   chat          choices[].delta.{content, reasoning_content, reasoning, refusal, tool_calls, function_call}
 *   completions   choices[].text; llama.cpp's own: content
 *   responses     delta, when it is a string (response.output_text.delta and its like); response.usage
 *   messages      delta.{text, thinking, partial_json}, content_block.{text, name}; message.usage
 *   token arrays  choices[].token_ids, choices[].logprobs.{content, tokens}
 *
 * Pure; nothing is allocated; the state is this struct, which may be copied and dropped freely. An event that
 * differs from the last one only in its text costs 25 to 75 ns, any other 1 to 2 ns a byte (bench/token_meter.c). */
#ifndef SLUICE_API_TOKEN_METER_H
#define SLUICE_API_TOKEN_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    TOKEN_METER_DEPTH_MAX = 6,
    TOKEN_METER_NAME_BYTES = 28,
    TOKEN_METER_COUNTERS = 7,
    TOKEN_METER_HEAD_BYTES = 320,
    TOKEN_METER_TAIL_BYTES = 128,
};

/* What stands around the text in a line of a stream: most are the same but for the text, and perhaps a number that
 * counts them. */
struct token_meter_frame {
    uint16_t head_bytes; /* up to the text's first byte; 0: none is known */
    uint16_t number_at;  /* the number in the head that may be another; head_bytes: none */
    uint16_t number_end;
    uint16_t tail_bytes; /* from the quote behind it on */
    bool ends_choice;    /* the tail does */
    char head[TOKEN_METER_HEAD_BYTES];
    char tail[TOKEN_METER_TAIL_BYTES];
};

struct token_meter {
    bool has_content;       /* of a stream: something that the model wrote has come: not the head, a chunk that names a
                               role, an empty delta, a comment or a ping */
    bool has_usage;         /* `usage` was told, and no content has come after the event that told it */
    uint32_t tokens;        /* of a stream, so far: one for each choice of an event that has content, or as many as its
                               token array has, once that choice is over */
    uint32_t prompt_tokens; /* from here on: of the last usage; all of them, cached_tokens included */
    uint32_t cached_tokens;
    uint32_t output_tokens;

    /* private */
    bool is_stream;
    /* lines */
    bool skip_lf;
    bool is_data;        /* the line under way is a `data:` one, and past its colon */
    bool is_passed_over; /* it is another one */
    uint8_t name_bytes;  /* of "data", as far as it has been seen in this line */
    /* the event, and the choice in it */
    bool event_has_content;
    bool event_has_usage;
    bool choice_has_content;
    uint32_t choice_items;
    /* JSON */
    uint8_t state;
    uint8_t place; /* of the value that comes next, or the number under way */
    bool expects_name;
    bool is_escaped;    /* the byte that comes is behind a backslash */
    uint8_t text_bytes; /* of `text`; more than it holds: it was longer */
    uint8_t depth;
    uint8_t places[TOKEN_METER_DEPTH_MAX]; /* of the containers around, outermost first */
    char text[TOKEN_METER_NAME_BYTES];     /* a name that was cut */
    uint32_t skip_depth;                   /* of containers that are passed over */
    uint64_t number;
    uint32_t counters[TOKEN_METER_COUNTERS]; /* of the usage under way; UINT32_MAX: not told */
    const char *text_at;                     /* while a line is looked at: where a text that counted stands in it */
    uint32_t texts;                          /* how many there were in it; more than one: no frame */
    struct token_meter_frame frame;
};

/* `is_stream`: what comes are events; else it is one JSON text. */
void token_meter_init(struct token_meter *meter, bool is_stream);

/* Looks at the next bytes of the body, without any content coding. *Borrows* run. */
void token_meter_feed(struct token_meter *meter, struct bytes run);

#endif

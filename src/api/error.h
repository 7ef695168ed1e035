/* Errors in the form that a route's clients expect. */
#ifndef SLUICE_API_ERROR_H
#define SLUICE_API_ERROR_H

#include "base/arena.h"
#include "base/bytes.h"

enum api_dialect {
    API_DIALECT_PLAIN,  /* a line of text */
    API_DIALECT_OPENAI, /* {"error":{"message","type","param","code"}} */
};

struct api_error {
    uint16_t status;
    const char *message; /* one sentence for a person */
    const char *code;    /* for a program, e.g. "upstream_timeout"; NULL: none */
};

/* *Gives* the body from `arena`; *ret_content_type is static. .ptr NULL when memory is out. */
struct bytes api_error_body(struct arena *arena, enum api_dialect dialect, const struct api_error *error,
                            struct bytes *ret_content_type);

/* The same as one server-sent event, for a stream that cannot go on: `data: {"error":…}\n\n`. */
struct bytes api_error_event(struct arena *arena, const struct api_error *error);

#endif

/* The three ways of inference_convert, and what they share. */
#ifndef SLUICE_API_INFERENCE_INTERNAL_H
#define SLUICE_API_INFERENCE_INTERNAL_H

#include <yyjson.h>

#include "api/inference_key.h"
#include "api/json_buffer.h"
#include "base/bytes.h"
#include "base/result.h"

/* Events to JSON. *Borrows* stream; puts the body. RESULT_PROTOCOL as inference_convert says. */
MUST_USE enum result inference_assemble(enum inference_family family, struct bytes stream, struct json_buffer *out);

/* JSON to events. */
MUST_USE enum result inference_unroll(enum inference_family family, struct bytes json, bool wants_usage,
                                      struct json_buffer *out);

/* Events to the same events without those that only tell the usage. */
MUST_USE enum result inference_drop_usage(struct bytes stream, struct json_buffer *out);

/* Reads a JSON object, numbers as they are written; *gives* ret_doc, for yyjson_doc_free. */
MUST_USE enum result inference_read_object(struct bytes json, yyjson_doc **ret_doc);

/* Puts a value of such a doc as compact JSON. */
void inference_put_value(struct json_buffer *out, yyjson_val *value);

static inline struct bytes inference_string(yyjson_val *value)
{
    return (struct bytes){yyjson_get_str(value), yyjson_get_len(value)};
}

#endif

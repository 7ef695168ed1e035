/* JSON in the one form that all equal values share.
 *
 * Members of objects sorted by the bytes of their names, no white space, strings as json_buffer_string writes them,
 * numbers by exact decimal value: digits without zeros at either end and a power of ten, `12e-1` for 1.2 and `1e2`
 * for 100, so that no number is ever rounded to compare it. No recursion. */
#ifndef SLUICE_API_JSON_CANONICAL_H
#define SLUICE_API_JSON_CANONICAL_H

#include <yyjson.h>

#include "api/json_buffer.h"

enum { JSON_CANONICAL_DEPTH_MAX = 128 };

enum json_canonical_result {
    JSON_CANONICAL_OK,
    JSON_CANONICAL_TOO_DEEP,
    JSON_CANONICAL_DUPLICATE_MEMBER, /* in some object, left out or not */
    JSON_CANONICAL_NO_MEMORY,        /* or `out` has failed */
};

/* Whether the member `name` is left out. Asked for the members of the root (`outer` is NULL) and for those of objects
 * directly in it (`outer` is the name of theirs). */
typedef bool json_canonical_omits(const void *context, yyjson_val *outer, yyjson_val *name);

/* Puts `root`, read with YYJSON_READ_NUMBER_AS_RAW. */
enum json_canonical_result json_canonical_put(struct json_buffer *out, yyjson_val *root, json_canonical_omits *omits,
                                              const void *context);

#endif

/* Structured fields (RFC 8941): dictionaries, read member by member, strictly: what deviates by one byte is refused.
 * No allocation; slices point into the field's value. */
#ifndef SLUICE_HTTP_STRUCTURED_H
#define SLUICE_HTTP_STRUCTURED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum structured_type {
    STRUCTURED_BOOLEAN,
    STRUCTURED_INTEGER,
    STRUCTURED_DECIMAL,
    STRUCTURED_STRING,
    STRUCTURED_TOKEN,
    STRUCTURED_BYTES,
    STRUCTURED_INNER_LIST,
};

struct structured_member {
    struct bytes key;
    enum structured_type type;
    bool boolean;    /* STRUCTURED_BOOLEAN, true where a member is a key alone */
    int64_t integer; /* STRUCTURED_INTEGER: at most 15 digits */
    /* Of a string what stands between the quotes, escapes included; else the value as written. */
    struct bytes text;
};

enum structured_step { STRUCTURED_MEMBER, STRUCTURED_END, STRUCTURED_FAILED };

/* Takes the next member of a dictionary (§4.2.2) off the front of *rest, which holds one field line's value and was not
 * given to another function. Its parameters are checked and passed over. A key given again is for the caller to see:
 * the last counts. STRUCTURED_FAILED: the whole field is to be ignored. */
enum structured_step structured_next_member(struct bytes *rest, struct structured_member *ret_member);

#endif

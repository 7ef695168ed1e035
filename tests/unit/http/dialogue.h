/* Reads a message the way a connection does, cut anywhere, and tells in text what came of it. */
#ifndef SLUICE_TESTS_HTTP_DIALOGUE_H
#define SLUICE_TESTS_HTTP_DIALOGUE_H

#include "http/http.h"

#define INPUT(literal)                  \
    {                                   \
        "" literal, sizeof(literal) - 1 \
    }
#define REFUSED(code, what, literal)                          \
    {                                                         \
        .says = what, .input = INPUT(literal), .status = code \
    }
#define ACCEPTED(what, body, literal)                          \
    {                                                          \
        .says = what, .input = INPUT(literal), .payload = body \
    }

struct dialogue {
    enum llhttp_type kind;
    bool to_head;
    struct http_limits limits;
};

struct message_case {
    const char *says; /* what the case shows */
    struct bytes input;
    unsigned status;     /* of the fault; 0: the message is accepted */
    const char *payload; /* of an accepted message's body; NULL: there must be none */
    bool to_head;
};

enum { OUTCOME_BYTES_MAX = 1 << 16 };

/* The outcome of a message of which these bytes have come, in one piece. */
void dialogue_whole(const struct dialogue *dialogue, struct bytes input, char *ret_text);

/* Asserts that each prefix has the same outcome in one piece and byte by byte, and each cut in two the
 * same as the whole; the input always ends at an unmapped page, and moves between calls. */
void dialogue_check_cuts(const struct dialogue *dialogue, struct bytes input, const char *says);

/* Asserts status and payload of each case, and all its cuts. */
void dialogue_check_cases(enum llhttp_type kind, const struct message_case *cases, size_t count);

#endif

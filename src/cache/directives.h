/* Cache directives: what Cache-Control and its kin say (RFC 9111 §5.2; RFC 5861; RFC 8246; RFC 9213).
 *
 * The parser is strict in what it takes for permission and generous in what it takes for a restriction:
 * - names in any letter case, arguments as token or quoted string, all field lines one list (a quoted string ends with
 *   its line at the latest);
 * - of a directive given twice the first counts (§4.2.1), in a targeted field the last (RFC 8941 §4.2.2);
 * - an argument that is not a number of seconds, white space around '=' and the like make `max-age` and `s-maxage`
 *   DIRECTIVES_INVALID, that is stale (§4.2.1), a restriction unconditional, and everything else void;
 * - behind a quote that never closes only restrictions are believed.
 *
 * Pure and without memory of its own; slices point into the head. */
#ifndef SLUICE_CACHE_DIRECTIVES_H
#define SLUICE_CACHE_DIRECTIVES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "http/http.h"

enum { DIRECTIVES_LISTS_MAX = 4 };

/* Numbers of seconds. Greater ones are taken for 2^31 (§1.2.2). */
#define DIRECTIVES_SECONDS_MAX (UINT32_C(1) << 31)
#define DIRECTIVES_ABSENT      UINT32_MAX
#define DIRECTIVES_INVALID     (UINT32_MAX - 1) /* there, but not a number of seconds; of responses only */

/* What a request's fields ask of a cache. */
struct directives_request {
    uint32_t max_age_s; /* these four: DIRECTIVES_ABSENT when not asked, or not readably */
    uint32_t min_fresh_s;
    uint32_t max_stale_s; /* DIRECTIVES_SECONDS_MAX: any staleness will do */
    uint32_t stale_if_error_s;
    bool no_cache; /* also by Pragma, when there is no Cache-Control */
    bool no_store;
    bool only_if_cached;
    bool has_any;           /* one of the above: false on nearly every request, which is then decided by age alone */
    bool has_authorization; /* not a directive, but what §3.5 asks about */
};

/* Asks nothing: for requests whose directives a route ignores. */
#define DIRECTIVES_REQUEST_PLAIN                                                                                    \
    ((struct directives_request){DIRECTIVES_ABSENT, DIRECTIVES_ABSENT, DIRECTIVES_ABSENT, DIRECTIVES_ABSENT, false, \
                                 false, false, false, false})

/* Field names, as lists separated by commas. */
struct directives_fields {
    uint8_t count;
    struct bytes lists[DIRECTIVES_LISTS_MAX];
};

/* What a response's directives say to a shared cache. */
struct directives_response {
    uint32_t max_age_s; /* ABSENT or INVALID as above, these two */
    uint32_t s_maxage_s;
    uint32_t stale_while_revalidate_s; /* ABSENT when not there or not readable, these two */
    uint32_t stale_if_error_s;
    bool no_store;
    bool no_cache;   /* unqualified */
    bool is_private; /* unqualified */
    bool is_public;
    bool must_revalidate; /* or proxy-revalidate, which to us is the same */
    bool must_understand;
    bool is_immutable;
    bool allows_authorized;         /* public, must-revalidate or s-maxage, well-formed (§3.5) */
    struct directives_fields named; /* by private="…" or no-cache="…": not to be reused */
};

/* How a field with directives is written. */
enum directives_syntax {
    DIRECTIVES_LIST,       /* as Cache-Control */
    DIRECTIVES_DICTIONARY, /* as CDN-Cache-Control: a structured field, strictly; RFC 9213 */
    DIRECTIVES_SURROGATE,  /* as Surrogate-Control: `max-age=fresh+stale`, `no-store`, `content="…"` */
};

/* Reads Cache-Control, Pragma and whether there is an Authorization. A head without them costs three loads. *Borrows*.
 */
void directives_read_request(const struct http_head *head, const char *base, struct directives_request *ret_request);

/* Reads a response's Cache-Control. *Borrows* the head; the slices in *ret_response are valid as long as `base`. */
void directives_read_response(const struct http_head *head, const char *base, struct directives_response *ret_response);

/* Reads a response's field of that name. False when there is none, it is empty or it does not parse: the field is then
 * to be ignored (RFC 9213 §2.2), and *ret_response means nothing. */
bool directives_read_targeted(const struct http_head *head, const char *base, struct bytes name,
                              enum directives_syntax syntax, struct directives_response *ret_response);

/* Reads a number of seconds: digits only, at least one; saturates at DIRECTIVES_SECONDS_MAX. False for all else. */
bool directives_seconds(struct bytes text, uint32_t *ret_seconds);

/* Whether one of the lists names the field, in any letter case. */
bool directives_name_field(const struct directives_fields *fields, struct bytes name);

#endif

/* What a shared cache may store (RFC 9111 §3), for how long, and which of its fields. Pure: heads and timestamps in, a
 * verdict out. That the response arrived whole is the caller's to know (§3.3). */
#ifndef SLUICE_CACHE_STORING_H
#define SLUICE_CACHE_STORING_H

#include "cache/directives.h"
#include "cache/freshness.h"

/* A field that replaces Cache-Control and Expires for us (RFC 9213). */
struct storing_target {
    struct bytes name; /* e.g. "CDN-Cache-Control" */
    enum directives_syntax syntax;
};

/* A route's rules. The targets are looked at in their order; the first that is there and valid counts. */
struct storing_policy {
    struct freshness_rules freshness;
    const struct storing_target *targets;
    uint32_t target_count;
    bool refuses_set_cookie; /* RFC 9111 §7.3 lets Set-Cookie be stored when the lifetime is explicit */
};

/* CDN-Cache-Control, a tenth of the age since Last-Modified up to a day, and nothing that the response did not say. */
extern const struct storing_policy STORING_POLICY_DEFAULT;

enum storing_reason {
    STORING_OK,
    STORING_METHOD,           /* neither GET nor a POST that says where its answer can be had */
    STORING_REQUEST_NO_STORE, /* the request forbids it */
    STORING_NO_STORE,
    STORING_PRIVATE,
    STORING_AUTHORIZATION, /* the request had credentials, and the response does not allow it all the same */
    STORING_STATUS,   /* not final, about the request's own conditions or range, or not understood though it must be */
    STORING_PARTIAL,  /* a 206, and the caller cannot combine */
    STORING_VARY_ALL, /* Vary: *, never selected again */
    STORING_SET_COOKIE,
    STORING_NOT_CACHEABLE, /* its status is not cacheable by default, and nothing says it is */
    STORING_USELESS,       /* stale at once, with nothing to validate it by, and never to be used stale */
    STORING_REASON_COUNT,
};

/* How the request was made. A HEAD's caller judges by what it has stored for GET. */
enum storing_method {
    STORING_GET,
    STORING_POST_LOCATED, /* POST whose answer's Content-Location is the target (RFC 9110 §9.3.3) */
    STORING_OTHER,
};

struct storing_exchange {
    const struct directives_request *request;
    const struct http_head *response;
    const char *base; /* where the response's head lies */
    int64_t request_ms;
    int64_t response_ms;
    enum storing_method method;
    bool can_combine; /* the caller stores ranges (§3.4) */
};

struct storing_verdict {
    enum storing_reason reason;
    /* The origin has spoken anew, so what is stored under the key is out of date: true with STORING_OK and
     * STORING_USELESS. In the other cases a stored response stays what it was. */
    bool replaces_stored;
    /* Of one that is not stored: it is this client's alone, whichever reason came first. Who waits for it must be given
     * none of it. */
    bool is_for_one;
    struct freshness freshness;     /* meaningful also when not stored */
    struct directives_fields named; /* to be left out of what is stored; slices of the head */
};

/* Judges a response by its head. *Borrows* everything; the verdict's slices are valid as long as `base`. */
void storing_judge(const struct storing_exchange *exchange, const struct storing_policy *policy,
                   struct storing_verdict *ret_verdict);

/* Whether a field line of the judged head belongs to what is stored (§3.1): not hop-by-hop ones, a proxy's, those that
 * private="…" or no-cache="…" named, nor Age, which is made anew each time. Readers that joined while the response was
 * arriving must be given no others. */
bool storing_keeps_field(const struct storing_verdict *verdict, const struct http_field *field, const char *base);

/* A static name such as "no-store": for metric labels and the detail of Cache-Status. */
const char *storing_reason_name(enum storing_reason reason);

#endif

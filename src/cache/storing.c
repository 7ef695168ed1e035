#include "cache/storing.h"

#include "http/http.h"

static const struct storing_target DEFAULT_TARGETS[] = {{BYTES("CDN-Cache-Control"), DIRECTIVES_DICTIONARY}};

const struct storing_policy STORING_POLICY_DEFAULT = {
    .freshness = {.heuristic_permille = 100, .heuristic_lifetime_max_ms = INT64_C(24) * 3600 * 1000},
    .targets = DEFAULT_TARGETS,
    .target_count = 1,
};

static bool has(const struct storing_exchange *exchange, enum http_field_id id)
{
    return exchange->response->first[id] != 0;
}

/* Finds the directives that hold for us: the first valid targeted field's, else Cache-Control's. True when they are a
 * targeted field's, so that Expires does not count either (RFC 9213 §2.2). */
static bool read_directives(const struct storing_exchange *exchange, const struct storing_policy *policy,
                            struct directives_response *ret_directives)
{
    for (uint32_t i = 0; i < policy->target_count; i++) {
        const struct storing_target *target = &policy->targets[i];
        if (directives_read_targeted(exchange->response, exchange->base, target->name, target->syntax,
                                     ret_directives)) {
            return true;
        }
    }
    directives_read_response(exchange->response, exchange->base, ret_directives);
    return false;
}

static bool varies_on_all(const struct storing_exchange *exchange)
{
    const struct http_head *head = exchange->response;
    for (unsigned i = head->first[HTTP_FIELD_VARY]; i > 0 && i <= head->field_count; i++) {
        struct bytes list = http_field_value(&head->fields[i - 1], exchange->base);
        struct bytes item;
        while (head->fields[i - 1].id == HTTP_FIELD_VARY && bytes_next_item(&list, &item)) {
            if (bytes_equal(item, BYTES("*"))) {
                return true;
            }
        }
    }
    return false;
}

/* Follows from what the request had besides what selects an answer: its conditions, its range, its Expect. Whatever it
 * says of its lifetime, it answers no other. */
static bool is_about_request(unsigned status)
{
    return status == 304 || status == 412 || status == 416 || status == 417;
}

/* What of the request and of the response's status rules storing out, whatever the directives say. */
static enum storing_reason judge_status(const struct storing_exchange *exchange,
                                        const struct directives_response *directives)
{
    unsigned status = exchange->response->status;
    if (exchange->request->no_store) {
        return STORING_REQUEST_NO_STORE;
    }
    if (status < 200 || is_about_request(status)) {
        return STORING_STATUS;
    }
    if (status == 206 && !exchange->can_combine) {
        return STORING_PARTIAL;
    }
    /* A status is understood when it is registered: none of those but 206 and 304 asks anything of a cache. */
    return directives->must_understand && http_status_line(status).ptr == NULL ? STORING_STATUS : STORING_OK;
}

static enum storing_reason judge_directives(const struct storing_exchange *exchange,
                                            const struct directives_response *directives)
{
    if (directives->no_store && !directives->must_understand) { /* §5.2.2.3: understood, so no-store is overridden */
        return STORING_NO_STORE;
    }
    if (directives->is_private) {
        return STORING_PRIVATE;
    }
    if (exchange->request->has_authorization && !directives->allows_authorized) {
        return STORING_AUTHORIZATION;
    }
    return varies_on_all(exchange) ? STORING_VARY_ALL : STORING_OK;
}

/* Whether there is a lifetime, and a use for it. A cookie is kept only where the origin itself says how long: with a
 * guess it would be handed to everybody on nobody's word. */
static enum storing_reason judge_freshness(const struct storing_exchange *exchange, const struct storing_policy *policy,
                                           const struct directives_response *directives,
                                           const struct freshness *freshness)
{
    bool is_explicit = !freshness->is_heuristic;
    struct bytes etag = http_head_value(exchange->response, exchange->base, HTTP_FIELD_ETAG);
    bool has_validator = etag.len > 0 || freshness->last_modified_ms >= 0;
    bool has_window = freshness->stale_while_revalidate_ms > 0 || freshness->stale_if_error_ms > 0;
    if (exchange->method == STORING_POST_LOCATED && !is_explicit) {
        return STORING_METHOD;
    }
    if (!is_explicit && !directives->is_public && !freshness_status_is_heuristic(exchange->response->status)) {
        return STORING_NOT_CACHEABLE;
    }
    bool keeps_cookie =
        has(exchange, HTTP_FIELD_SET_COOKIE) && !directives_name_field(&directives->named, BYTES("Set-Cookie"));
    if (keeps_cookie && (policy->refuses_set_cookie || !(is_explicit || directives->is_public))) {
        return STORING_SET_COOKIE;
    }
    bool has_use = has_validator || (!freshness->no_cache && (freshness->lifetime_ms > 0 || has_window));
    return has_use ? STORING_OK : STORING_USELESS;
}

/* Whether anything speaks against showing it to another client: all is asked, not the first thing only. */
static bool is_for_one(const struct storing_exchange *exchange, const struct directives_response *directives)
{
    return exchange->request->no_store || directives->no_store || has(exchange, HTTP_FIELD_SET_COOKIE) ||
           directives->named.count > 0 || judge_directives(exchange, directives) != STORING_OK;
}

void storing_judge(const struct storing_exchange *exchange, const struct storing_policy *policy,
                   struct storing_verdict *ret_verdict)
{
    struct directives_response directives;
    bool is_targeted = read_directives(exchange, policy, &directives);
    struct freshness_source source = {
        .head = exchange->response,
        .base = exchange->base,
        .directives = &directives,
        .ignores_expires = is_targeted,
        .request_ms = exchange->request_ms,
        .response_ms = exchange->response_ms,
    };
    enum storing_reason reason = exchange->method == STORING_OTHER ? STORING_METHOD : STORING_OK;
    freshness_compute(&source, &policy->freshness, &ret_verdict->freshness);
    if (reason == STORING_OK) {
        reason = judge_status(exchange, &directives);
    }
    if (reason == STORING_OK) {
        reason = judge_directives(exchange, &directives);
    }
    if (reason == STORING_OK) {
        reason = judge_freshness(exchange, policy, &directives, &ret_verdict->freshness);
    }
    ret_verdict->reason = reason;
    ret_verdict->replaces_stored = reason == STORING_OK || reason == STORING_USELESS;
    ret_verdict->is_for_one = is_for_one(exchange, &directives);
    ret_verdict->named = directives.named;
}

bool storing_keeps_field(const struct storing_verdict *verdict, const struct http_field *field, const char *base)
{
    struct bytes name = http_field_name(field, base);
    if (field->drop != 0 || field->id == HTTP_FIELD_AGE) {
        return false;
    }
    if (field->id == HTTP_FIELD_OTHER && bytes_equal_nocase(name, BYTES("Proxy-Authentication-Info"))) {
        return false;
    }
    return verdict->named.count == 0 || !directives_name_field(&verdict->named, name);
}

const char *storing_reason_name(enum storing_reason reason)
{
    static const char *const names[STORING_REASON_COUNT] = {
        [STORING_OK] = "ok",
        [STORING_METHOD] = "method",
        [STORING_REQUEST_NO_STORE] = "request-no-store",
        [STORING_NO_STORE] = "no-store",
        [STORING_PRIVATE] = "private",
        [STORING_AUTHORIZATION] = "authorization",
        [STORING_STATUS] = "status",
        [STORING_PARTIAL] = "partial",
        [STORING_VARY_ALL] = "vary-all",
        [STORING_SET_COOKIE] = "set-cookie",
        [STORING_NOT_CACHEABLE] = "not-cacheable",
        [STORING_USELESS] = "useless",
    };
    return names[reason];
}

#include "cache/freshness.h"

#include "http/date.h"
#include "http/http.h"

static int64_t ms_of(uint32_t seconds)
{
    return (int64_t)seconds * 1000;
}

static int64_t at_least_0(int64_t value)
{
    return value > 0 ? value : 0;
}

/* Reads the first line of a date field (§4.2.1: of several values the first). Dates before 1970 count as its beginning.
 */
static bool read_date(const struct freshness_source *source, enum http_field_id id, int64_t *ret_ms)
{
    int64_t unix_s;
    struct bytes text = http_head_value(source->head, source->base, id);
    if (text.ptr == NULL || !http_date_parse(text, source->response_ms / 1000, &unix_s)) {
        return false;
    }
    *ret_ms = at_least_0(unix_s) * 1000;
    return true;
}

/* §5.1: of several values the first; one that is not a number of seconds is as good as none. */
static uint32_t read_age_s(const struct freshness_source *source)
{
    struct bytes list = http_head_value(source->head, source->base, HTTP_FIELD_AGE);
    struct bytes item;
    uint32_t age_s;
    return bytes_next_item(&list, &item) && directives_seconds(item, &age_s) ? age_s : 0;
}

/* §4.2.3. A Date has whole seconds, so that both sides are counted in them: a response does not begin its life up to a
 * second old. */
static int64_t initial_age_ms(const struct freshness_source *source, bool has_date, int64_t date_ms)
{
    int64_t apparent_ms = has_date ? at_least_0(source->response_ms / 1000 * 1000 - date_ms) : 0;
    int64_t delay_ms = at_least_0(source->response_ms - source->request_ms);
    int64_t corrected_ms = ms_of(read_age_s(source)) + delay_ms;
    return apparent_ms > corrected_ms ? apparent_ms : corrected_ms;
}

bool freshness_status_is_heuristic(unsigned status)
{
    switch (status) {
    case 200:
    case 203:
    case 204:
    case 206:
    case 300:
    case 301:
    case 308:
    case 404:
    case 405:
    case 410:
    case 414:
    case 501: return true;
    default: return false;
    }
}

/* §4.2.2: only where the status or `public` allow a guess. */
static int64_t guessed_lifetime_ms(const struct freshness_source *source, const struct freshness_rules *rules,
                                   const struct freshness *freshness)
{
    unsigned status = source->head->status;
    bool is_default = freshness_status_is_heuristic(status);
    bool is_error = status >= 400;
    int64_t lifetime_ms = 0;
    if (!is_default && !source->directives->is_public) {
        return 0;
    }
    if (freshness->last_modified_ms >= 0 && freshness->last_modified_ms < freshness->date_ms) {
        lifetime_ms = (freshness->date_ms - freshness->last_modified_ms) / 1000 * rules->heuristic_permille;
        lifetime_ms = lifetime_ms < rules->heuristic_lifetime_max_ms ? lifetime_ms : rules->heuristic_lifetime_max_ms;
    }
    if (!is_default) {
        return lifetime_ms;
    }
    if (is_error) { /* its Last-Modified says nothing of when the mistake will be mended */
        bool is_bounded =
            rules->negative_lifetime_ms > 0 && (lifetime_ms == 0 || lifetime_ms > rules->negative_lifetime_ms);
        return is_bounded ? rules->negative_lifetime_ms : lifetime_ms;
    }
    return lifetime_ms > 0 ? lifetime_ms : rules->default_lifetime_ms;
}

/* §4.2.1: the first that is there counts, even if it cannot be read; then it is stale. */
static int64_t lifetime_ms(const struct freshness_source *source, const struct freshness_rules *rules,
                           struct freshness *freshness)
{
    const struct directives_response *directives = source->directives;
    uint32_t seconds = directives->s_maxage_s != DIRECTIVES_ABSENT ? directives->s_maxage_s : directives->max_age_s;
    int64_t expires_ms;
    if (seconds != DIRECTIVES_ABSENT) {
        return seconds == DIRECTIVES_INVALID ? 0 : ms_of(seconds);
    }
    if (!source->ignores_expires && source->head->first[HTTP_FIELD_EXPIRES] != 0) {
        return read_date(source, HTTP_FIELD_EXPIRES, &expires_ms) ? at_least_0(expires_ms - freshness->date_ms) : 0;
    }
    freshness->is_heuristic = true;
    return guessed_lifetime_ms(source, rules, freshness);
}

/* How long it may be used stale. By a route's rule, not the response's own word, nothing is used while it is validated
 * that was never fresh: its origin wants to be asked. */
static void fill_stale_windows(const struct directives_response *directives, const struct freshness_rules *rules,
                               struct freshness *freshness)
{
    bool has_behind = directives->stale_while_revalidate_s != DIRECTIVES_ABSENT;
    bool has_on_error = directives->stale_if_error_s != DIRECTIVES_ABSENT;
    bool by_s_maxage =
        directives->s_maxage_s != DIRECTIVES_ABSENT && !(rules->stale_despite_s_maxage && (has_behind || has_on_error));
    freshness->must_revalidate = directives->must_revalidate || by_s_maxage;
    if (freshness->must_revalidate || freshness->no_cache) {
        return;
    }
    freshness->stale_while_revalidate_ms = has_behind                   ? ms_of(directives->stale_while_revalidate_s)
                                           : freshness->lifetime_ms > 0 ? rules->stale_while_revalidate_ms
                                                                        : 0;
    freshness->stale_if_error_ms = has_on_error ? ms_of(directives->stale_if_error_s) : rules->stale_if_error_ms;
}

void freshness_compute(const struct freshness_source *source, const struct freshness_rules *rules,
                       struct freshness *ret_freshness)
{
    struct freshness freshness = {
        .response_ms = source->response_ms,
        .date_ms = source->response_ms, /* §6.6.1 of RFC 9110, also where its Date cannot be read */
        .last_modified_ms = -1,
        .no_cache = source->directives->no_cache,
        .is_immutable = source->directives->is_immutable,
    };
    bool has_date = read_date(source, HTTP_FIELD_DATE, &freshness.date_ms);
    (void)read_date(source, HTTP_FIELD_LAST_MODIFIED, &freshness.last_modified_ms);
    freshness.initial_age_ms = initial_age_ms(source, has_date, freshness.date_ms);
    freshness.lifetime_ms = lifetime_ms(source, rules, &freshness);
    fill_stale_windows(source->directives, rules, &freshness);
    *ret_freshness = freshness;
}

/* Whether what the client says of ages lets a response of this age be used without asking. max-age bars what is older,
 * and whatever is stale, but for as much as max-stale tolerates (§5.2.1.1, §5.2.1.2). As a lifetime, it is over when
 * the age reaches it: max-age=0 always asks. */
static bool request_accepts(const struct directives_request *request, int64_t age_ms, int64_t ttl_ms)
{
    if (request->min_fresh_s != DIRECTIVES_ABSENT && (ttl_ms <= 0 || ttl_ms < ms_of(request->min_fresh_s))) {
        return false; /* with 0, too, it must be fresh (§5.2.1.3) */
    }
    if (request->max_age_s == DIRECTIVES_ABSENT) {
        return true;
    }
    int64_t left_ms = ms_of(request->max_age_s) - age_ms;
    if (request->max_stale_s == DIRECTIVES_ABSENT) {
        return left_ms > 0 && ttl_ms > 0;
    }
    return request->max_stale_s == DIRECTIVES_SECONDS_MAX || -left_ms <= ms_of(request->max_stale_s);
}

static enum freshness_use decide(const struct freshness *freshness, const struct directives_request *request,
                                 int64_t now_ms, enum freshness_why *why)
{
    int64_t age_ms = freshness_age_ms(freshness, now_ms);
    int64_t ttl_ms = freshness->lifetime_ms - age_ms;
    bool is_fresh = ttl_ms > 0 && !freshness->no_cache;
    *why = FRESHNESS_WHY_NOT;
    if (is_fresh && !request->has_any) {
        return FRESHNESS_FRESH;
    }
    *why = is_fresh ? FRESHNESS_WHY_REQUEST : FRESHNESS_WHY_STALE;
    if (freshness->no_cache || request->no_cache || !request_accepts(request, age_ms, ttl_ms)) {
        return FRESHNESS_VALIDATE;
    }
    if (!is_fresh) {
        if (freshness->must_revalidate) {
            return FRESHNESS_VALIDATE;
        }
        bool is_tolerated = request->max_stale_s != DIRECTIVES_ABSENT && -ttl_ms <= ms_of(request->max_stale_s);
        bool is_in_window = -ttl_ms < freshness->stale_while_revalidate_ms;
        if (!is_tolerated && !is_in_window) {
            return FRESHNESS_VALIDATE;
        }
        *why = FRESHNESS_WHY_NOT;
        return is_in_window ? FRESHNESS_STALE_BEHIND : FRESHNESS_STALE;
    }
    *why = FRESHNESS_WHY_NOT;
    return FRESHNESS_FRESH;
}

enum freshness_use freshness_decide(const struct freshness *freshness, const struct directives_request *request,
                                    int64_t now_ms, enum freshness_why *ret_why)
{
    enum freshness_why why;
    enum freshness_use use = decide(freshness, request, now_ms, &why);
    if (ret_why != NULL) {
        *ret_why = why;
    }
    return use == FRESHNESS_VALIDATE && request->only_if_cached ? FRESHNESS_UNAVAILABLE : use;
}

bool freshness_is_failure(unsigned status)
{
    return status == 500 || (status >= 502 && status <= 504);
}

bool freshness_allows_on_error(const struct freshness *freshness, const struct directives_request *request,
                               int64_t now_ms)
{
    int64_t stale_ms = -freshness_ttl_ms(freshness, now_ms);
    int64_t window_ms = freshness->stale_if_error_ms;
    if (freshness->no_cache || request->no_cache) {
        return false;
    }
    if (stale_ms < 0) {
        return true;
    }
    if (freshness->must_revalidate) {
        return false;
    }
    if (request->stale_if_error_s != DIRECTIVES_ABSENT && ms_of(request->stale_if_error_s) > window_ms) {
        window_ms = ms_of(request->stale_if_error_s);
    }
    return stale_ms < window_ms;
}

bool freshness_allows_disconnected(const struct freshness *freshness, const struct directives_request *request)
{
    return !freshness->no_cache && !freshness->must_revalidate && !request->no_cache;
}

#include "api/error.h"

#include "http/http.h"

/* OpenAI's own names, by status (what its SDKs map to exception classes is the status alone). */
static const char *error_type(uint16_t status)
{
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 408:
    case 504: return "timeout_error";
    case 429: return "rate_limit_error";
    case 502: return "upstream_error";
    case 503: return "overloaded_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
    }
}

/* Our messages are static sentences without quotes, backslashes or control characters, but for the name of a
 * model, which callers do not put in: nothing is to be escaped. */
static struct bytes error_json(struct arena *arena, const struct api_error *error)
{
    const char *quote = error->code == NULL ? "" : "\"";
    return arena_format(arena, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%s%s%s}}",
                        error->message, error_type(error->status), quote, error->code == NULL ? "null" : error->code,
                        quote);
}

struct bytes api_error_body(struct arena *arena, enum api_dialect dialect, const struct api_error *error,
                            struct bytes *ret_content_type)
{
    if (dialect == API_DIALECT_OPENAI) {
        *ret_content_type = BYTES("application/json");
        return error_json(arena, error);
    }
    *ret_content_type = BYTES("text/plain; charset=utf-8");
    struct bytes reason = http_reason(error->status);
    return arena_format(arena, "%u %.*s: %s\n", error->status, BYTES_ARG(reason), error->message);
}

struct bytes api_error_event(struct arena *arena, const struct api_error *error)
{
    struct bytes json = error_json(arena, error);
    return json.ptr == NULL ? json : arena_format(arena, "data: %.*s\n\n", BYTES_ARG(json));
}

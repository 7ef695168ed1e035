#include "api/inference_reason.h"

#include "base/check.h"

static const char *const names[] = {
    [INFERENCE_OK] = "ok",
    [INFERENCE_UNKNOWN_FAMILY] = "unknown_family",
    [INFERENCE_NOT_JSON] = "not_json",
    [INFERENCE_TOO_DEEP] = "too_deep",
    [INFERENCE_TOO_COMPLEX] = "too_complex",
    [INFERENCE_ODD_MEMBER] = "odd_member",
    [INFERENCE_DUPLICATE_MEMBER] = "duplicate_member",
    [INFERENCE_SAMPLED] = "sampled",
    [INFERENCE_STORE_REQUESTED] = "store_requested",
    [INFERENCE_STATEFUL] = "stateful",
    [INFERENCE_SERVER_TOOLS] = "server_tools",
    [INFERENCE_NO_STORE] = "no_store",
    [INFERENCE_NO_TTL] = "no_ttl",
    [INFERENCE_OUT_OF_MEMORY] = "out_of_memory",
    [INFERENCE_STATUS] = "status",
    [INFERENCE_CONTENT_TYPE] = "content_type",
    [INFERENCE_ERROR_IN_BODY] = "error_in_body",
    [INFERENCE_NO_END] = "no_end",
    [INFERENCE_TRUNCATED] = "truncated",
    [INFERENCE_TOOL_CALLS] = "tool_calls",
    [INFERENCE_FINISHED_BADLY] = "finished_badly",
    [INFERENCE_MALFORMED] = "malformed",
    [INFERENCE_TOO_MANY_CHOICES] = "too_many_choices",
    [INFERENCE_BACKEND_NO_STORE] = "backend_no_store",
    [INFERENCE_BACKEND_VARY] = "backend_vary",
    [INFERENCE_BACKEND_PRIVATE] = "backend_private",
};
_Static_assert(ARRAY_COUNT(names) == INFERENCE_REASONS, "each reason has a name");

const char *inference_reason_name(enum inference_reason reason)
{
    return names[reason];
}

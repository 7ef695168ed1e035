#include "base/result.h"

const char *result_name(enum result result)
{
    switch (result) {
    case RESULT_OK: return "ok";
    case RESULT_MORE: return "more";
    case RESULT_IO: return "io";
    case RESULT_REFUSED: return "refused";
    case RESULT_UNREACHABLE: return "unreachable";
    case RESULT_TIMEOUT: return "timeout";
    case RESULT_CLOSED: return "closed";
    case RESULT_RESET: return "reset";
    case RESULT_LIMIT: return "limit";
    case RESULT_NO_MEMORY: return "no_memory";
    case RESULT_SHED: return "shed";
    case RESULT_CANCELED: return "canceled";
    case RESULT_PROTOCOL: return "protocol";
    case RESULT_CONFIG: return "config";
    case RESULT_INTERNAL: return "internal";
    }
    return "unknown";
}

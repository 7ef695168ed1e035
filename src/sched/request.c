#include "sched/request.h"

#include "base/check.h"

static const char *const shed_names[] = {
    [SCHED_SHED_NONE] = "none",
    [SCHED_SHED_TENANT_SHARE] = "tenant_share",
    [SCHED_SHED_TOO_LARGE] = "too_large",
    [SCHED_SHED_CLIENT_PAUSED] = "client_paused",
    [SCHED_SHED_QUEUE_FULL] = "queue_full",
    [SCHED_SHED_EVICTED] = "evicted",
    [SCHED_SHED_LATE_ARRIVAL] = "late_arrival",
    [SCHED_SHED_LATE_DISPATCH] = "late_dispatch",
    [SCHED_SHED_BACKEND_BUSY] = "backend_busy",
    [SCHED_SHED_PRESSURE] = "pressure",
};
_Static_assert(ARRAY_COUNT(shed_names) == SCHED_SHED_REASONS, "every reason has its name");

const char *sched_shed_name(enum sched_shed shed)
{
    CHECK((unsigned)shed < SCHED_SHED_REASONS);
    return shed_names[shed];
}

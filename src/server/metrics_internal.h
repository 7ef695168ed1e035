/* What counting (metrics.c) and telling (metrics_text.c) share. */
#ifndef SLUICE_SERVER_METRICS_INTERNAL_H
#define SLUICE_SERVER_METRICS_INTERNAL_H

#include "server/metrics.h"

extern const uint16_t metrics_statuses[METRICS_STATUSES];

#endif

/* What the files that hold the table of keys share; nobody else includes it. The table is in parts, so that each can be
 * read: config_keys.c has the file's own keys and the sections of all others, config_keys_cache.c what stands in the
 * sections called `cache`, config_keys_sched.c what scheduling is told, config_keys_batching.c what batching is. */
#ifndef SLUICE_SERVER_CONFIG_KEYS_H
#define SLUICE_SERVER_CONFIG_KEYS_H

#include <stddef.h>

#include "server/config_internal.h"

#define AT(type, member) .at = offsetof(struct type, member), .bytes = sizeof(((struct type *)0)->member)
#define LIST_AT(type, list, count)                                                 \
    .at = offsetof(struct type, list), .bytes = sizeof(*((struct type *)0)->list), \
    .count_at = offsetof(struct type, count)
#define BOUNDS(low, high)      .min = (low), .max = (high)
#define MS(low, high)          .unit = "ms", .min = (low), .max = (high)
#define BYTES_RANGE(low, high) .unit = "bytes", .min = (low), .max = (high)

enum {
    MINUTE_MS = 60 * 1000,
    HOUR_MS = 60 * MINUTE_MS,
    DAY_MS = 24 * HOUR_MS,
};
#define YEAR_MS          (UINT64_C(365) * DAY_MS)
#define BODY_BYTES_LIMIT (UINT64_C(1) << 40) /* more than any body; keeps sums of them inside 64 bits */

extern const struct config_key config_keys_cache[];
extern const unsigned config_keys_cache_count;
extern const struct config_key config_keys_sched[];
extern const unsigned config_keys_sched_count;
extern const struct config_key config_keys_batching[];
extern const unsigned config_keys_batching_count;

#endif

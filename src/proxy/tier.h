/* A stored answer as a record of the second tier, and back. */
#ifndef SLUICE_PROXY_TIER_H
#define SLUICE_PROXY_TIER_H

#include "cache/entry.h"
#include "cache/shard.h"
#include "store/cache_tier.h"

/* *Gives* a record of what `draft` and the COMPLETE `entry` say (NULL: no body). NULL when memory is out. */
struct cache_tier_record *tier_record(const struct shard_draft *draft, const struct entry *entry, struct bytes route,
                                      int64_t now_ms);

/* Reads the head of a record into a draft whose slices lie in the record. False: it is of another form, or damaged. */
bool tier_read_head(const struct cache_tier_record *record, struct shard_draft *ret_draft);

#endif

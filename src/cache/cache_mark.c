/* What is remembered about keys that are not stored. */
#include "cache/cache_internal.h"

enum {
    BACK_OFF_MS_MIN = 1000,
    BACK_OFF_MS_MAX = 60000,
};

static struct cache_mark *mark_at(struct cache_core *core, uint64_t hash)
{
    struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    if (mark->hash != hash) {
        *mark = (struct cache_mark){.hash = hash};
    }
    return mark;
}

void cache_mark_uncacheable(struct cache_core *core, uint64_t hash, int64_t until_ms)
{
    mark_at(core, hash)->uncacheable_until_ms = until_ms;
}

bool cache_is_marked_uncacheable(const struct cache_core *core, uint64_t hash, int64_t now_ms)
{
    const struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    return mark->hash == hash && mark->uncacheable_until_ms > now_ms;
}

void cache_mark_failed(struct cache_core *core, uint64_t hash, int64_t now_ms, bool is_unreachable)
{
    struct cache_mark *mark = mark_at(core, hash);
    int64_t wait_ms = BACK_OFF_MS_MIN;
    for (uint8_t i = 0; i < mark->failures && wait_ms < BACK_OFF_MS_MAX; i++) {
        wait_ms *= 2;
    }
    wait_ms = wait_ms < BACK_OFF_MS_MAX ? wait_ms : BACK_OFF_MS_MAX;
    if (mark->failures < UINT8_MAX) {
        mark->failures++;
    }
    mark->is_unreachable = is_unreachable;
    /* Between half of it and all of it, so that those who failed together do not come back together. */
    mark->retry_at_ms = now_ms + wait_ms / 2 + (int64_t)(ring_random(core->ring) % (uint64_t)(wait_ms / 2));
}

void cache_mark_succeeded(struct cache_core *core, uint64_t hash)
{
    struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    if (mark->hash == hash) {
        mark->failures = 0;
        mark->retry_at_ms = 0;
    }
}

bool cache_is_unreachable(const struct cache_core *core, uint64_t hash)
{
    const struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    return mark->hash == hash && mark->failures > 0 && mark->is_unreachable;
}

bool cache_is_in_back_off(const struct cache_core *core, uint64_t hash, int64_t now_ms)
{
    const struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    return mark->hash == hash && mark->retry_at_ms > now_ms;
}

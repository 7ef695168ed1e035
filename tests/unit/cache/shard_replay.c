/* A shard against a sequential model: random operations from a seed. What is found is what was stored last, byte for
 * byte; what the model has is found, unless it was evicted, and evictions are counted; the account is the sum of its
 * parts at every step. */
#include "shard_world.h"

enum { KEYS = 400, PINS = 20, BYTES_MAX = 3 << 20 };

struct known {
    bool is_there;
    uint64_t seed; /* of the body */
    uint64_t body_bytes;
    uint32_t lines_bytes;
    int64_t remove_at_ms;
    uint16_t route;
};

struct pin {
    const struct cache_object *object; /* NULL: none */
    uint64_t seed;
    unsigned worker;
    uint32_t slot;
};

struct replay {
    struct world world;
    struct known known[KEYS];
    struct pin pins[PINS];
    uint64_t evicted_known; /* of the model's, found to be gone */
    uint64_t state;
    bool is_reader_online;
};

static char filler[20000];

static uint64_t replay_random(struct replay *replay, uint64_t below)
{
    replay->state ^= replay->state << 13;
    replay->state ^= replay->state >> 7;
    replay->state ^= replay->state << 17;
    return replay->state % below;
}

/* Every tenth key is long. */
static struct bytes key_of(unsigned number)
{
    static char key[20000];
    size_t len = (size_t)snprintf(key, sizeof(key), "%c%u/", 'a' + number % 3, number);
    if (number % 10 == 0) {
        memset(key + len, 'k', 18000);
        len += 18000;
    }
    return (struct bytes){key, len};
}

static uint64_t random_size(struct replay *replay)
{
    switch (replay_random(replay, 8)) {
    case 0: return 0;
    case 1: return replay_random(replay, 300000);
    case 2: return replay_random(replay, 30000);
    default: return replay_random(replay, 3000);
    }
}

static struct shard_draft random_draft(struct replay *replay, unsigned number, struct known *ret_known)
{
    *ret_known = (struct known){
        .is_there = true,
        .seed = replay_random(replay, UINT32_MAX),
        .body_bytes = random_size(replay),
        .lines_bytes = (uint32_t)replay_random(replay, replay_random(replay, 10) == 0 ? 15000 : 700),
        .remove_at_ms = replay_random(replay, 3) == 0
                            ? INT64_MAX
                            : replay->world.now_ms + (int64_t)replay_random(replay, 200000) - 100,
        .route = (uint16_t)replay_random(replay, 4),
    };
    struct shard_draft draft = world_draft(key_of(number), ret_known->body_bytes);
    draft.lines = (struct bytes){filler, ret_known->lines_bytes};
    draft.remove_at_ms = ret_known->remove_at_ms;
    draft.route = ret_known->route;
    draft.cost = 0.001 + (double)replay_random(replay, 1000);
    return draft;
}

static void do_store(struct replay *replay, unsigned number)
{
    struct known known;
    struct shard_draft draft = random_draft(replay, number, &known);
    struct shard_store store;
    enum result result = shard_store_begin(replay->world.shard, &store, &draft);
    if (result != RESULT_OK) {
        cr_assert(result == RESULT_MORE || result == RESULT_LIMIT, "%d", result);
        return;
    }
    world_body(&replay->world, &store, known.seed, 0, known.body_bytes);
    if (replay_random(replay, 10) == 0) {
        shard_store_abort(replay->world.shard, &store);
        return;
    }
    cr_assert_eq(shard_store_commit(replay->world.shard, &store), RESULT_OK);
    replay->known[number] = known;
}

/* The object, if it is there, is the model's. */
static struct cache_object *do_find(struct replay *replay, unsigned number)
{
    struct known *known = &replay->known[number];
    struct cache_object *object = world_find(&replay->world, key_of(number));
    if (object == NULL) {
        replay->evicted_known += known->is_there;
        known->is_there = false;
        return NULL;
    }
    cr_assert(known->is_there, "key %u is found although it is gone", number);
    cr_assert_eq(object->body_bytes, known->body_bytes);
    cr_assert_eq(object->remove_at_ms, known->remove_at_ms);
    world_verify_body(object, known->seed);
    cr_assert_eq(cache_object_head(object)->lines_bytes, known->lines_bytes);
    return object;
}

static void do_touch(struct replay *replay, unsigned number)
{
    struct cache_object *object = do_find(replay, number);
    if (object != NULL) {
        evict_touch(&object->evict);
    }
}

static void do_remove(struct replay *replay, unsigned number)
{
    struct cache_object *object = do_find(replay, number);
    if (object != NULL) {
        shard_remove(replay->world.shard, object, SHARD_INVALIDATED);
        replay->known[number].is_there = false;
    }
}

static void do_update(struct replay *replay, unsigned number)
{
    struct cache_object *object = do_find(replay, number);
    if (object == NULL) {
        return;
    }
    struct known known;
    struct shard_draft draft = random_draft(replay, number, &known);
    if (shard_update_head(replay->world.shard, object, &draft) == RESULT_OK) {
        replay->known[number].lines_bytes = known.lines_bytes;
        replay->known[number].remove_at_ms = known.remove_at_ms;
    }
}

static void do_pin(struct replay *replay, unsigned number)
{
    struct pin *pin = &replay->pins[replay_random(replay, PINS)];
    if (pin->object != NULL) {
        world_verify_body(pin->object, pin->seed);
        qsbr_unpin(replay->world.qsbr, pin->worker, pin->slot);
        pin->object = NULL;
    }
    unsigned worker = replay->is_reader_online ? WORLD_READER : 0;
    struct cache_object *object = do_find(replay, number);
    if (object != NULL && qsbr_pin(replay->world.qsbr, worker, object, &pin->slot) == RESULT_OK) {
        pin->object = object;
        pin->seed = replay->known[number].seed;
        pin->worker = worker;
    }
}

static void do_purge(struct replay *replay)
{
    uint16_t route = (uint16_t)replay_random(replay, 4);
    bool by_prefix = replay_random(replay, 2) == 0;
    struct shard_filter filter = {
        .kind = by_prefix ? SHARD_PREFIX : SHARD_ROUTE, .route = route, .text = BYTES("b"), .cause = SHARD_PURGED};
    struct shard_purge purge;
    shard_purge_begin(replay->world.shard, &purge, &filter);
    while (shard_purge_step(replay->world.shard, &purge, 10)) {
    }
    for (unsigned i = 0; i < KEYS; i++) {
        if (by_prefix ? i % 3 == 1 : replay->known[i].route == route) {
            cr_assert_null(world_find(&replay->world, key_of(i)));
            replay->known[i].is_there = false;
        }
    }
}

/* What expires goes with the next turns, unless the clock's second has not ended. */
static void do_time(struct replay *replay)
{
    replay->world.now_ms += (int64_t)replay_random(replay, 20000);
    world_settle(&replay->world);
    for (unsigned i = 0; i < KEYS; i++) {
        struct known *known = &replay->known[i];
        if (known->is_there && known->remove_at_ms <= replay->world.now_ms - 1000) {
            cr_assert_null(world_find(&replay->world, key_of(i)), "key %u has expired", i);
        }
        if (known->remove_at_ms <= replay->world.now_ms && world_find(&replay->world, key_of(i)) == NULL) {
            known->is_there = false;
        }
    }
}

static void do_reader(struct replay *replay)
{
    if (!replay->is_reader_online) {
        qsbr_online(replay->world.qsbr, WORLD_READER);
        replay->is_reader_online = true;
    } else if (replay_random(replay, 2) == 0) {
        qsbr_quiescent(replay->world.qsbr, WORLD_READER);
    } else {
        qsbr_offline(replay->world.qsbr, WORLD_READER);
        replay->is_reader_online = false;
    }
}

static void step(struct replay *replay)
{
    unsigned number = (unsigned)replay_random(replay, KEYS);
    uint64_t what = replay_random(replay, 1000);
    if (what < 400) {
        do_store(replay, number);
    } else if (what < 600) {
        do_touch(replay, number);
    } else if (what < 680) {
        do_remove(replay, number);
    } else if (what < 760) {
        do_update(replay, number);
    } else if (what < 800) {
        do_pin(replay, number);
    } else if (what < 850) {
        do_reader(replay);
    } else if (what < 853) {
        do_purge(replay);
    } else if (what < 860) {
        do_time(replay);
    } else {
        world_turn(&replay->world);
    }
    cr_assert_leq(COUNTER(replay->world, charged_bytes), BYTES_MAX);
}

/* Everything the model has is looked for, and the account is added up. */
static void verify_all(struct replay *replay)
{
    uint64_t sum = COUNTER(replay->world, retired_bytes);
    uint64_t there = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        struct cache_object *object = do_find(replay, i);
        if (object != NULL) {
            sum += object->charged_bytes;
            there++;
        }
    }
    const struct shard_counters *counters = shard_counters(replay->world.shard);
    cr_assert_eq(COUNTER(replay->world, entries), there);
    uint64_t gone = 0;
    for (unsigned cause = 0; cause < SHARD_CAUSES; cause++) {
        gone += world_counter(&counters->removed[cause]);
    }
    cr_assert_eq(world_counter(&counters->stores), there + gone);
    cr_assert_leq(replay->evicted_known,
                  world_counter(&counters->removed[SHARD_EVICTED]) + world_counter(&counters->removed[SHARD_EXPIRED]));
    uint64_t records = COUNTER(replay->world, mapped_bytes) / SLAB_REGION_BYTES * slab_region_cost_bytes();
    uint64_t charged = COUNTER(replay->world, charged_bytes);
    cr_assert_geq(charged, sum + records);
    cr_assert_leq(charged, sum + records + (128 << 10), "index and ghosts of a few hundred entries");
}

static void replay_run(enum evict_policy policy, uint64_t seed, unsigned steps)
{
    struct replay *replay = calloc(1, sizeof(*replay));
    replay->world = world_create_with(policy, BYTES_MAX, 0);
    replay->state = seed;
    memset(filler, 'f', sizeof(filler));
    for (unsigned i = 0; i < steps; i++) {
        step(replay);
        if (i % 500 == 0) {
            verify_all(replay);
        }
    }
    verify_all(replay);
    cr_assert_gt(COUNTER(replay->world, removed[SHARD_EVICTED]), 0, "the budget was felt");
    cr_assert_gt(COUNTER(replay->world, removed[SHARD_EXPIRED]), 0);
    for (unsigned i = 0; i < PINS; i++) {
        if (replay->pins[i].object != NULL) {
            world_verify_body(replay->pins[i].object, replay->pins[i].seed);
            qsbr_unpin(replay->world.qsbr, replay->pins[i].worker, replay->pins[i].slot);
        }
    }
    if (replay->is_reader_online) {
        qsbr_offline(replay->world.qsbr, WORLD_READER);
    }
    replay->world.now_ms += 1000;
    world_settle(&replay->world);
    cr_assert_eq(COUNTER(replay->world, retired_bytes), 0);
    verify_all(replay);
    world_destroy(&replay->world);
    free(replay);
}

Test(shard_replay, random_operations_agree_with_a_sequential_model)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        replay_run(seed % 3 == 0 ? EVICT_S3FIFO : EVICT_COST, seed * 0x9e3779b97f4a7c15u, 6000);
    }
}

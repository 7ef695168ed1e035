#include "cache/evict.h"

#include "base/check.h"
#include "evict_cache.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static const enum evict_policy policies[] = {EVICT_COST, EVICT_S3FIFO};

Test(evict, gives_nothing_when_nothing_is_in)
{
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        struct evict *evict = evict_create(policies[i], 1000);
        cr_assert_null(evict_take(evict));
        struct evict_node node = {.hash = 1, .bytes = 1, .cost = 1};
        evict_insert(evict, &node);
        cr_assert_eq(evict_take(evict), &node);
        cr_assert_null(evict_take(evict));
        evict_insert(evict, &node);
        evict_remove(evict, &node);
        cr_assert_null(evict_take(evict));
        evict_destroy(evict);
    }
}

Test(evict, nothing_is_destroyed_as_nothing)
{
    evict_destroy(NULL);
}

Test(evict, marks_saturate)
{
    struct evict_node node = {.hash = 1, .bytes = 1, .cost = 1};
    for (int i = 0; i < 300; i++) {
        evict_touch(&node);
        cr_assert_eq(atomic_load(&node.marks), i < EVICT_MARKS_MAX ? i + 1 : EVICT_MARKS_MAX);
    }
}

static void replay_at_random(enum evict_policy policy, uint64_t seed)
{
    enum { OBJECTS = 700, STEPS = 40000 };
    struct evict_cache cache;
    evict_cache_init(&cache, policy, 100 + seed * 1000, OBJECTS);
    for (size_t i = 0; i < OBJECTS; i++) {
        struct evict_node *node = &cache.objects[i].evict;
        node->bytes = evict_cache_random(&seed) % 50;
        node->cost = exp2((double)(evict_cache_random(&seed) % 40) - 20);
    }
    for (int step = 0; step < STEPS; step++) {
        uint64_t word = evict_cache_random(&seed);
        size_t object = (word >> 32) % (step % 2 == 0 ? OBJECTS : OBJECTS / 10);
        if (word % 16 > 1) {
            evict_cache_get(&cache, object);
        } else if (word % 16 == 1) {
            evict_cache_take(&cache);
        } else if (cache.objects[object].is_in) {
            evict_cache_remove(&cache, object);
        }
    }
    cr_assert_gt(cache.count, 0);
    cr_assert_eq(evict_cache_count(&cache, 0, OBJECTS), cache.count);
    while (evict_cache_take(&cache)) {
    }
    cr_assert_eq(cache.used_bytes, 0);
    evict_cache_fini(&cache);
}

Test(evict, loses_no_object_and_gives_none_twice)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        replay_at_random(policies[seed % 2], seed);
    }
}

Test(evict, takes_one_even_if_all_have_been_hit)
{
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        struct evict_cache cache;
        evict_cache_init(&cache, policies[i], 5000, 5000);
        for (size_t object = 0; object < 5000; object++) {
            for (int hit = 0; hit < 5; hit++) {
                evict_cache_get(&cache, object);
            }
        }
        cr_assert(evict_cache_take(&cache));
        size_t looked_at = 0;
        for (size_t object = 0; object < 5000; object++) {
            looked_at += atomic_load(&cache.objects[object].evict.marks) < EVICT_MARKS_MAX;
        }
        cr_assert_leq(looked_at, 64, "%zu in one call", looked_at);
        while (evict_cache_take(&cache)) {
        }
        evict_cache_fini(&cache);
    }
}

Test(evict, what_costs_more_outlives_what_is_as_large_and_costs_less)
{
    enum { CHEAP = 200, DEAR = 40 };
    struct evict_cache cache;
    evict_cache_init(&cache, EVICT_COST, 100, CHEAP + DEAR);
    for (size_t i = 0; i < CHEAP + DEAR; i++) {
        cache.objects[i].evict.cost = i < CHEAP ? 0.02 : 2;
    }
    for (size_t i = 0; i < DEAR; i++) {
        evict_cache_get(&cache, CHEAP + i);
    }
    for (size_t i = 0; i < CHEAP; i++) {
        evict_cache_get(&cache, i);
    }
    cr_assert_eq(evict_cache_count(&cache, CHEAP, DEAR), DEAR);
    evict_cache_fini(&cache);
}

Test(evict, what_is_smaller_outlives_what_costs_as_much_and_is_larger)
{
    struct evict_cache cache;
    evict_cache_init(&cache, EVICT_COST, 1000, 300);
    for (size_t i = 0; i < 300; i++) {
        cache.objects[i].evict.bytes = i < 100 ? 1 : 50;
        evict_cache_get(&cache, i);
    }
    cr_assert_eq(evict_cache_count(&cache, 0, 100), 100);
    evict_cache_fini(&cache);
}

Test(evict, what_was_dear_goes_when_only_cheap_things_are_asked_for)
{
    struct evict_cache cache;
    evict_cache_init(&cache, EVICT_COST, 100, 400);
    for (size_t i = 0; i < 100; i++) {
        cache.objects[i].evict.cost = 50;
        evict_cache_get(&cache, i);
    }
    cr_assert_eq(cache.count, 100);
    for (int round = 0; round < 500; round++) {
        for (size_t i = 100; i < 400; i++) {
            evict_cache_get(&cache, i);
        }
    }
    cr_assert_eq(evict_cache_count(&cache, 0, 100), 0);
    evict_cache_fini(&cache);
}

Test(evict, a_large_cheap_object_is_refused_until_it_has_been_missed_enough)
{
    struct evict_cache cache;
    evict_cache_init(&cache, EVICT_COST, 1000, 101);
    for (size_t i = 0; i < 100; i++) {
        cache.objects[i].evict.bytes = 10;
        evict_cache_get(&cache, i);
        evict_cache_get(&cache, i);
    }
    cache.objects[100].evict.bytes = 500;
    cache.objects[100].evict.cost = 1;
    evict_cache_get(&cache, 100);
    cr_assert_eq(evict_cache_count(&cache, 0, 101), 100, "nothing has gone for it");
    cr_assert_not(cache.objects[100].is_in);
    unsigned asked = 0;
    for (; !cache.objects[100].is_in; asked++) {
        cr_assert_lt(asked, 100);
        evict_cache_get(&cache, 100);
    }
    cr_assert_gt(asked, 10);
    evict_cache_fini(&cache);
}

Test(evict, s3fifo_refuses_what_would_fill_the_small_queue_the_first_time)
{
    struct evict *evict = evict_create(EVICT_S3FIFO, 1000);
    struct evict_node large = {.hash = 1, .bytes = 100, .cost = 1};
    struct evict_node small = {.hash = 2, .bytes = 99, .cost = 1};
    cr_assert(evict_admits(evict, &small));
    cr_assert_not(evict_admits(evict, &large));
    cr_assert(evict_admits(evict, &large), "seen");
    evict_destroy(evict);
}

Test(evict, a_scan_does_not_flush_what_is_hot)
{
    enum { HOT = 300, CAPACITY = 1000, SCANNED = 5000 };
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        struct evict_cache cache;
        evict_cache_init(&cache, policies[i], CAPACITY, HOT + SCANNED + CAPACITY);
        for (int round = 0; round < 5; round++) {
            for (size_t object = 0; object < HOT; object++) {
                evict_cache_get(&cache, object);
            }
        }
        for (size_t object = HOT; object < HOT + SCANNED; object++) {
            evict_cache_get(&cache, object);
        }
        size_t left = evict_cache_count(&cache, 0, HOT);
        cr_assert_geq(left, HOT * 95 / 100, "policy %zu: %zu of %d", i, left, HOT);
        evict_cache_fini(&cache);
    }
}

Test(evict, a_loop_longer_than_the_cache_finds_something)
{
    enum { CAPACITY = 1000, ROUNDS = 60, LAST = 10 };
    static const size_t loops[] = {1050, 1500, 2100, 3000, 10000};
    for (size_t i = 0; i < ARRAY_COUNT(loops); i++) {
        struct evict_cache cache;
        evict_cache_init(&cache, EVICT_COST, CAPACITY, loops[i]);
        for (int round = 0; round < ROUNDS; round++) {
            cache.hits = round == ROUNDS - LAST ? 0 : cache.hits;
            for (size_t object = 0; object < loops[i]; object++) {
                evict_cache_get(&cache, object);
            }
        }
        cr_assert_geq(cache.hits, loops[i] * LAST / 50, "%llu hits in a loop of %zu", (unsigned long long)cache.hits,
                      loops[i]);
        evict_cache_fini(&cache);
    }
}

Test(evict, what_comes_back_soon_after_it_has_gone_is_kept_longer_than_what_is_new)
{
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        struct evict_cache cache;
        evict_cache_init(&cache, policies[i], 1000, 4000);
        for (size_t object = 0; object < 1500; object++) {
            evict_cache_get(&cache, object);
        }
        size_t back = 400; /* of those that have gone */
        while (cache.objects[back].is_in) {
            back++;
        }
        evict_cache_get(&cache, back);
        for (size_t object = 1500; object < 2500; object++) {
            evict_cache_get(&cache, object);
        }
        cr_assert(cache.objects[back].is_in, "policy %zu", i);
        evict_cache_fini(&cache);
    }
}

/* As when an object that is often asked for has expired and is fetched again. */
Test(evict, what_replaces_an_object_that_was_hit_counts_as_seen)
{
    enum { CAPACITY = 1000, BEFORE = 500, AFTER = 1000 };
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        struct evict_cache cache;
        evict_cache_init(&cache, policies[i], CAPACITY, BEFORE + AFTER);
        for (size_t object = 0; object < BEFORE; object++) {
            for (int hits = 0; hits < (object % 2 == 0 ? 3 : 1); hits++) {
                evict_cache_get(&cache, object);
            }
        }
        for (size_t object = 0; object < BEFORE; object++) {
            evict_cache_remove(&cache, object);
            evict_cache_get(&cache, object);
        }
        size_t kept[2] = {0, 0};
        for (size_t object = BEFORE; object < BEFORE + AFTER; object++) {
            evict_cache_get(&cache, object);
        }
        for (size_t object = 0; object < BEFORE; object++) {
            kept[object % 2] += cache.objects[object].is_in;
        }
        cr_assert_geq(kept[0], BEFORE / 2 * 9 / 10, "policy %zu: %zu of those that were hit", i, kept[0]);
        cr_assert_leq(kept[1], BEFORE / 2 / 5, "policy %zu: %zu of those that were not", i, kept[1]);
        evict_cache_fini(&cache);
    }
}

/* ---- memory ---- */

Test(evict, its_memory_is_in_proportion_to_what_is_in)
{
    enum { OBJECTS = 300000, FEW = 1000 };
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        struct evict *empty = evict_create(policies[i], OBJECTS);
        uint64_t base = evict_bytes(empty);
        cr_assert_lt(base, 8192);
        evict_destroy(empty);
        struct evict_cache cache;
        evict_cache_init(&cache, policies[i], OBJECTS / 3, OBJECTS);
        for (size_t object = 0; object < OBJECTS; object++) {
            evict_cache_get(&cache, object);
            cr_assert_leq(evict_bytes(cache.evict), base + 2048 + cache.count * 20);
        }
        cr_assert_gt(evict_bytes(cache.evict), base + cache.count * 4, "it does remember");
        while (cache.count > FEW) {
            evict_cache_take(&cache);
        }
        for (size_t object = 0; object < OBJECTS; object++) {
            evict_cache_get(&cache, object);
            if (cache.count > FEW) {
                evict_cache_take(&cache);
            }
        }
        cr_assert_leq(evict_bytes(cache.evict), base + 2048 + FEW * 20, "and gives back: %llu",
                      (unsigned long long)evict_bytes(cache.evict));
        evict_cache_fini(&cache);
    }
}

/* ---- odd sizes and costs ---- */

Test(evict, a_cache_of_a_few_objects_works)
{
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        for (uint64_t capacity = 1; capacity <= 5; capacity++) {
            struct evict_cache cache;
            evict_cache_init(&cache, policies[i], capacity, 20);
            for (size_t step = 0; step < 2000; step++) {
                evict_cache_get(&cache, step * step % 20);
                cr_assert_leq(cache.used_bytes, capacity);
            }
            while (evict_cache_take(&cache)) {
            }
            evict_cache_fini(&cache);
        }
    }
}

Test(evict, any_cost_and_any_size_has_its_place)
{
    static const double costs[] = {1e-9, 1e12, 1, 0, -1, NAN, INFINITY, 5e-324, 1e-3};
    static const uint64_t sizes[] = {1, (uint64_t)1 << 40, 4096, 0};
    for (size_t i = 0; i < ARRAY_COUNT(policies); i++) {
        struct evict_cache cache;
        evict_cache_init(&cache, policies[i], (uint64_t)1 << 44, 2000);
        for (size_t object = 0; object < 2000; object++) {
            cache.objects[object].evict.cost = costs[object % ARRAY_COUNT(costs)];
            cache.objects[object].evict.bytes = sizes[object / 3 % ARRAY_COUNT(sizes)];
        }
        for (size_t step = 0; step < 100000; step++) {
            evict_cache_get(&cache, step * 7919 % 2000);
            if (step % 5 == 0) {
                evict_cache_take(&cache);
            }
        }
        while (evict_cache_take(&cache)) {
        }
        evict_cache_fini(&cache);
    }
}

/* What has gone sets the level from which all others are valued; the cheap ones must not be lost in its rounding. */
Test(evict, cheap_ones_are_still_told_apart_after_something_priceless_has_gone)
{
    enum { OBJECTS = 400, PRICELESS = 50 };
    struct evict_cache cache;
    evict_cache_init(&cache, EVICT_COST, 100, PRICELESS + OBJECTS);
    for (size_t i = 0; i < PRICELESS; i++) {
        cache.objects[i].evict.cost = 1e12;
        evict_cache_get(&cache, i);
    }
    while (evict_cache_take(&cache)) {
    }
    for (size_t i = 0; i < OBJECTS; i++) {
        cache.objects[PRICELESS + i].evict.cost = i < 50 ? 1e-6 : 1e-9;
        evict_cache_get(&cache, PRICELESS + i);
    }
    cr_assert_eq(evict_cache_count(&cache, PRICELESS, 50), 50);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 50; i < OBJECTS; i++) {
            evict_cache_get(&cache, PRICELESS + i);
        }
    }
    cr_assert_geq(evict_cache_count(&cache, PRICELESS, 50), 45, "the level does not run away");
    evict_cache_fini(&cache);
}

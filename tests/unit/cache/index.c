#include "cache/index.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct item {
    struct index_node node;
    uint64_t key;
    uint64_t version;
    bool is_in;
};

static bool matches(const struct index_node *node, const void *key)
{
    return ((const struct item *)(const void *)node)->key == *(const uint64_t *)key;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct item *find(const struct index *index, uint64_t hash, uint64_t key)
{
    return (struct item *)(void *)index_find(index, hash, matches, &key);
}

static void item_init(struct item *item, uint64_t key, uint64_t hash)
{
    *item = (struct item){.node.hash = hash, .key = key};
}

static struct qsbr *qsbr;
static struct index *index_made;

static void begin(void)
{
    qsbr = qsbr_create(2);
    index_made = index_create(qsbr);
    cr_assert_not_null(index_made);
}

static void end(void)
{
    index_destroy(index_made);
    qsbr_destroy(qsbr);
}

TestSuite(index, .init = begin, .fini = end);

Test(index, finds_what_was_inserted_and_nothing_else)
{
    struct item a, b;
    item_init(&a, 1, mix(1));
    item_init(&b, 2, mix(2));
    cr_assert_null(find(index_made, mix(1), 1));
    cr_assert_eq(index_insert(index_made, &a.node), RESULT_OK);
    cr_assert_eq(find(index_made, mix(1), 1), &a);
    cr_assert_null(find(index_made, mix(2), 2));
    cr_assert_null(find(index_made, mix(1), 2), "the same hash, another key");
    cr_assert_eq(index_insert(index_made, &b.node), RESULT_OK);
    cr_assert_eq(find(index_made, mix(2), 2), &b);
    cr_assert_eq(index_count(index_made), 2);
}

Test(index, removes_only_what_it_is_told_to)
{
    struct item items[20];
    for (uint64_t i = 0; i < 20; i++) {
        item_init(&items[i], i, mix(i));
        cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
    }
    for (uint64_t i = 0; i < 20; i += 2) {
        index_remove(index_made, &items[i].node);
    }
    for (uint64_t i = 0; i < 20; i++) {
        cr_assert_eq(find(index_made, mix(i), i), i % 2 == 0 ? NULL : &items[i]);
    }
    cr_assert_eq(index_count(index_made), 10);
}

Test(index, a_replaced_node_gives_its_place_to_the_new_one)
{
    struct item old, new;
    item_init(&old, 1, mix(1));
    item_init(&new, 1, mix(1));
    cr_assert_eq(index_insert(index_made, &old.node), RESULT_OK);
    index_replace(index_made, &old.node, &new.node);
    cr_assert_eq(find(index_made, mix(1), 1), &new);
    cr_assert_eq(index_count(index_made), 1);
    index_remove(index_made, &new.node);
    cr_assert_null(find(index_made, mix(1), 1));
}

Test(index, keys_of_equal_hash_live_side_by_side)
{
    struct item items[30];
    for (uint64_t i = 0; i < 30; i++) {
        item_init(&items[i], i, 42);
        cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
    }
    for (uint64_t i = 0; i < 30; i++) {
        cr_assert_eq(find(index_made, 42, i), &items[i]);
    }
    for (uint64_t i = 0; i < 30; i++) {
        index_remove(index_made, &items[i].node);
        for (uint64_t j = 0; j < 30; j++) {
            cr_assert_eq(find(index_made, 42, j), j <= i ? NULL : &items[j]);
        }
    }
}

Test(index, hashes_of_all_zeros_and_all_ones_are_as_good_as_any)
{
    static const uint64_t hashes[] = {
        0, 1, UINT64_MAX, UINT64_C(1) << 48, UINT64_C(0xffff) << 48, (UINT64_C(1) << 48) - 1};
    struct item items[ARRAY_COUNT(hashes)];
    for (uint64_t i = 0; i < ARRAY_COUNT(hashes); i++) {
        item_init(&items[i], i, hashes[i]);
        cr_assert_null(find(index_made, hashes[i], i));
        cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
    }
    for (uint64_t i = 0; i < ARRAY_COUNT(hashes); i++) {
        cr_assert_eq(find(index_made, hashes[i], i), &items[i]);
    }
}

/* Without a reader online every grace period is over at once. */
static void work_to_the_end(void)
{
    for (int i = 0; index_work(index_made, 1000); i++) {
        cr_assert_lt(i, 10000);
    }
}

Test(index, a_full_chain_refuses_until_there_is_a_place_again)
{
    enum { MANY = 200 };
    static struct item items[MANY];
    unsigned inserted = 0;
    enum result result = RESULT_OK;
    while (inserted < MANY) {
        item_init(&items[inserted], inserted, UINT64_C(7) << 48);
        result = index_insert(index_made, &items[inserted].node);
        if (result != RESULT_OK) {
            break;
        }
        inserted++;
    }
    cr_assert_eq(result, RESULT_LIMIT);
    cr_assert_eq(inserted, 17 * 7);
    cr_assert_eq(index_count(index_made), inserted);
    struct item other;
    item_init(&other, 1, mix(1) | 1);
    cr_assert_eq(index_insert(index_made, &other.node), RESULT_OK, "other chains go on");
    index_remove(index_made, &other.node);
    for (unsigned i = 0; i < inserted; i++) {
        cr_assert_eq(find(index_made, UINT64_C(7) << 48, i), &items[i]);
    }
    index_remove(index_made, &items[3].node);
    cr_assert_eq(index_insert(index_made, &items[inserted].node), RESULT_OK);
    cr_assert_eq(find(index_made, UINT64_C(7) << 48, inserted), &items[inserted]);
}

Test(index, an_emptied_chain_gives_its_memory_back)
{
    enum { CHAIN = 17 * 7 };
    static struct item items[CHAIN];
    size_t empty_bytes = index_bytes(index_made);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < CHAIN; i++) {
            item_init(&items[i], i, 5);
            cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
        }
        cr_assert_geq(index_bytes(index_made), empty_bytes + 16 * 64);
        for (unsigned i = 0; i < CHAIN; i++) {
            unsigned at = (i * 37 + (unsigned)round) % CHAIN; /* in no order: holes everywhere */
            index_remove(index_made, &items[at].node);
            items[at].is_in = true; /* removed */
            for (unsigned j = 0; j < CHAIN; j++) {
                cr_assert_eq(find(index_made, 5, j), items[j].is_in ? NULL : &items[j]);
            }
        }
        work_to_the_end();
        cr_assert_eq(index_bytes(index_made), empty_bytes);
    }
}

Test(index, retired_buckets_stay_charged_until_the_reader_moves_on)
{
    static struct item items[50];
    qsbr_online(qsbr, 1);
    for (unsigned i = 0; i < 50; i++) {
        item_init(&items[i], i, 5);
        cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
    }
    size_t full_bytes = index_bytes(index_made);
    for (unsigned i = 0; i < 50; i++) {
        index_remove(index_made, &items[i].node);
    }
    cr_assert(index_work(index_made, 1000));
    cr_assert_eq(index_bytes(index_made), full_bytes);
    qsbr_quiescent(qsbr, 1);
    cr_assert_not(index_work(index_made, 1000));
    cr_assert_lt(index_bytes(index_made), full_bytes);
}

Test(index, while_it_grows_every_key_is_found_at_each_step)
{
    enum { MANY = 5000 };
    static struct item items[MANY];
    for (uint64_t i = 0; i < MANY; i++) {
        item_init(&items[i], i, mix(i));
        cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
        bool is_around_growth = (i & (i + 1)) < 256;
        for (uint64_t j = is_around_growth ? 0 : i; j <= i; j++) {
            cr_assert_eq(find(index_made, mix(j), j), &items[j]);
        }
        cr_assert_null(find(index_made, mix(i + 1), i + 1));
    }
    cr_assert_eq(index_count(index_made), MANY);
}

Test(index, work_alone_finishes_the_growth_and_frees_the_old_array)
{
    enum { MANY = 64 * 4 + 1 };
    static struct item items[MANY];
    size_t small_bytes = index_bytes(index_made);
    for (uint64_t i = 0; i < MANY; i++) {
        item_init(&items[i], i, mix(i));
        cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
    }
    cr_assert_geq(index_bytes(index_made), 3 * small_bytes, "both arrays");
    unsigned steps = 0;
    while (index_work(index_made, 1)) {
        steps++;
        for (uint64_t i = 0; i < MANY; i++) {
            cr_assert_eq(find(index_made, mix(i), i), &items[i]);
        }
    }
    cr_assert_gt(steps, 30);
    cr_assert_lt(index_bytes(index_made), 3 * small_bytes);
    cr_assert_geq(index_bytes(index_made), 2 * small_bytes);
}

Test(index, removing_and_replacing_work_while_buckets_move)
{
    enum { MANY = 64 * 4 + 1 };
    static struct item items[MANY], others[MANY];
    for (uint64_t i = 0; i < MANY; i++) {
        item_init(&items[i], i, mix(i));
        item_init(&others[i], i, mix(i));
        cr_assert_eq(index_insert(index_made, &items[i].node), RESULT_OK);
    }
    for (uint64_t i = 0; i < MANY; i++) {
        if (i % 3 == 0) {
            index_remove(index_made, &items[i].node);
        } else if (i % 3 == 1) {
            index_replace(index_made, &items[i].node, &others[i].node);
        }
    }
    work_to_the_end();
    for (uint64_t i = 0; i < MANY; i++) {
        struct item *wanted = i % 3 == 0 ? NULL : i % 3 == 1 ? &others[i] : &items[i];
        cr_assert_eq(find(index_made, mix(i), i), wanted);
    }
}

/* ---- against a model: one item per key, and whether it is in */

enum { KEYS = 3000, OPERATIONS = 60000 };

static uint64_t model_hash(uint64_t seed, uint64_t key)
{
    /* Some seeds have few hashes, so that chains grow long and tags are equal. */
    uint64_t hash = mix(key + seed * KEYS);
    return seed % 4 == 0 ? hash & ~UINT64_C(0xfff0) : seed % 4 == 1 ? hash >> 16 : hash;
}

static void replay(uint64_t seed)
{
    static struct item items[KEYS][2];
    static uint8_t in[KEYS]; /* 0: none, else which of the two + 1 */
    memset(in, 0, sizeof(in));
    uint64_t random = seed + 1;
    size_t count = 0;
    for (unsigned operation = 0; operation < OPERATIONS; operation++) {
        random = mix(random + operation);
        uint64_t key = (random >> 8) % KEYS;
        uint64_t hash = model_hash(seed, key);
        bool is_shrinking = operation / 10000 % 2 == 1;
        struct item *present = in[key] == 0 ? NULL : &items[key][in[key] - 1];
        cr_assert_eq(find(index_made, hash, key), present, "seed %lu, operation %u", seed, operation);
        unsigned what = random % 8;
        if (present == NULL && what < (is_shrinking ? 1 : 7)) {
            item_init(&items[key][0], key, hash);
            enum result result = index_insert(index_made, &items[key][0].node);
            cr_assert(result == RESULT_OK || (result == RESULT_LIMIT && seed % 4 == 0));
            in[key] = result == RESULT_OK;
            count += result == RESULT_OK;
        } else if (present != NULL && what < (is_shrinking ? 7 : 2)) {
            index_remove(index_made, &present->node);
            memset(present, 0xee, sizeof(*present));
            in[key] = 0;
            count--;
        } else if (present != NULL) {
            struct item *other = &items[key][2 - in[key]];
            item_init(other, key, hash);
            index_replace(index_made, &present->node, &other->node);
            memset(present, 0xee, sizeof(*present));
            in[key] = (uint8_t)(3 - in[key]);
        } else {
            index_work(index_made, what);
        }
        cr_assert_eq(index_count(index_made), count);
    }
    for (uint64_t key = 0; key < KEYS; key++) {
        struct item *present = in[key] == 0 ? NULL : &items[key][in[key] - 1];
        cr_assert_eq(find(index_made, model_hash(seed, key), key), present, "seed %lu", seed);
    }
}

Test(index, agrees_with_a_sequential_model)
{
    for (uint64_t seed = 0; seed < 8; seed++) {
        replay(seed);
        end();
        begin();
    }
}

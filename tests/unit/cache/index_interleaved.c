/* The owner writes in the middle of a reader's lookup: all keys have one hash, so that the reader asks about each node
 * on its way, and at the nth question the owner does all it can to move what the reader still looks for. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/check.h"
#include "cache/index.h"

enum { CHAIN = 31, FILLERS = 64 * 4, HASH = 5 };

struct item {
    struct index_node node;
    uint64_t key;
};

enum disturbance { REMOVE_UPWARDS, REMOVE_DOWNWARDS, REMOVE_MIXED, GROW, GROW_AND_REMOVE, REPLACE, DISTURBANCES };

struct disturber {
    struct index *index;
    enum disturbance how;
    uint64_t key; /* that the reader looks for */
    unsigned questions_left;
    bool has_disturbed;
};

static struct item items[CHAIN], others[CHAIN], fillers[FILLERS];

static void remove_others(struct disturber *disturber)
{
    for (unsigned i = 0; i < CHAIN; i++) {
        unsigned at = disturber->how == REMOVE_UPWARDS     ? i
                      : disturber->how == REMOVE_DOWNWARDS ? CHAIN - 1 - i
                                                           : (i * 12 + 7) % CHAIN;
        if (at != disturber->key) {
            index_remove(disturber->index, &items[at].node);
        }
    }
}

static void grow(struct index *index)
{
    for (unsigned i = 0; i < FILLERS; i++) {
        fillers[i] = (struct item){.node.hash = i, .key = CHAIN + i};
        cr_assert_eq(index_insert(index, &fillers[i].node), RESULT_OK);
    }
    index_work(index, 1000);
}

static void disturb(struct disturber *disturber)
{
    disturber->has_disturbed = true;
    if (disturber->how == GROW || disturber->how == GROW_AND_REMOVE) {
        grow(disturber->index);
    }
    if (disturber->how == REPLACE) {
        for (unsigned i = 0; i < CHAIN; i++) {
            others[i] = items[i];
            index_replace(disturber->index, &items[i].node, &others[i].node);
        }
    } else if (disturber->how != GROW) {
        remove_others(disturber);
    }
}

static bool matches(const struct index_node *node, const void *key)
{
    struct disturber *disturber = *(struct disturber *const *)key;
    if (disturber->questions_left-- == 0) {
        disturb(disturber);
    }
    return ((const struct item *)(const void *)node)->key == disturber->key;
}

static bool has_key(const struct index_node *node, const void *key)
{
    return ((const struct item *)(const void *)node)->key == *(const uint64_t *)key;
}

/* Whether the disturbance came before the lookup was over. */
static bool look_up_disturbed(enum disturbance how, uint64_t key, unsigned question)
{
    struct qsbr *qsbr = qsbr_create(2);
    struct index *index = index_create(qsbr);
    for (unsigned i = 0; i < CHAIN; i++) {
        items[i] = (struct item){.node.hash = HASH, .key = i};
        cr_assert_eq(index_insert(index, &items[i].node), RESULT_OK);
    }
    qsbr_online(qsbr, 1);
    struct disturber disturber = {index, how, key, question, false};
    struct disturber *context = &disturber;
    struct index_node *found = index_find(index, HASH, matches, &context);
    cr_assert(found == &items[key].node || (how == REPLACE && found == &others[key].node),
              "disturbance %d at question %u: key %lu was missed", (int)how, question, key);
    qsbr_quiescent(qsbr, 1);
    while (index_work(index, 1000)) {
    }
    struct index_node *now = disturber.has_disturbed && how == REPLACE ? &others[key].node : &items[key].node;
    cr_assert_eq(index_find(index, HASH, has_key, &key), now);
    uint64_t other = (key + 1) % CHAIN;
    bool is_removed = disturber.has_disturbed && how != GROW && how != REPLACE;
    cr_assert_eq(index_find(index, HASH, has_key, &other) == NULL, is_removed);
    index_destroy(index);
    qsbr_destroy(qsbr);
    return disturber.has_disturbed;
}

Test(index_interleaved, a_key_that_stays_is_found_whatever_the_owner_does_meanwhile)
{
    unsigned disturbed = 0;
    for (int how = 0; how < DISTURBANCES; how++) {
        for (uint64_t key = 0; key < CHAIN; key++) {
            for (unsigned question = 0; question <= key; question++) {
                disturbed += look_up_disturbed((enum disturbance)how, key, question);
            }
        }
    }
    cr_assert_eq(disturbed, DISTURBANCES * CHAIN * (CHAIN + 1) / 2);
}

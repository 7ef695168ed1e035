#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/check.h"
#include "sched/treap.h"

enum { ITEMS = 4096 };

struct item {
    struct treap_node node;
    unsigned key;
    unsigned sum; /* of the keys of its subtree */
    bool is_in;
};

static struct item items[ITEMS];
static struct treap treap;

static struct item *item_of(const struct treap_node *node)
{
    return CONTAINER_OF(node, struct item, node);
}

static bool item_before(const struct treap_node *a, const struct treap_node *b)
{
    return item_of(a)->key < item_of(b)->key;
}

static void item_sum(struct treap_node *node)
{
    struct item *item = item_of(node);
    item->sum = item->key + (node->left == NULL ? 0 : item_of(node->left)->sum) +
                (node->right == NULL ? 0 : item_of(node->right)->sum);
}

static void item_add(struct treap_node *node, const struct treap_node *added)
{
    item_of(node)->sum += item_of(added)->sum;
}

static void insert(unsigned key)
{
    items[key] = (struct item){.node = {.priority = treap_priority(key)}, .key = key, .is_in = true};
    treap_insert(&treap, &items[key].node, item_before, item_add, item_sum);
}

static void erase(unsigned key)
{
    items[key].is_in = false;
    treap_remove(&treap, &items[key].node, item_sum);
}

/* Returns the depth; all that must hold of a node and its children holds. */
static unsigned check(const struct treap_node *node, const struct treap_node *parent)
{
    if (node == NULL) {
        return 0;
    }
    cr_assert(node->parent == parent);
    cr_assert(parent == NULL || parent->priority >= node->priority);
    unsigned left = check(node->left, node);
    unsigned right = check(node->right, node);
    unsigned sum = item_of(node)->sum;
    item_sum((struct treap_node *)node);
    cr_assert(item_of(node)->sum == sum);
    return 1 + (left > right ? left : right);
}

static void check_all(void)
{
    check(treap.root, NULL);
    const struct treap_node *at = treap.first;
    const struct treap_node *last = NULL;
    for (unsigned key = 0; key < ITEMS; key++) {
        if (items[key].is_in) {
            cr_assert(at == &items[key].node, "%u is next in order", key);
            last = at;
            at = treap_next(at);
        }
    }
    cr_assert(at == NULL);
    cr_assert(treap_last(&treap) == last);
}

Test(treap, keeps_order_and_sums_through_random_insertions_and_removals)
{
    uint64_t state = 42;
    for (unsigned i = 0; i < 20000; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        unsigned key = (unsigned)(state >> 33) % 200;
        if (items[key].is_in) {
            erase(key);
        } else {
            insert(key);
        }
        if (i % 16 == 0) {
            check_all();
        }
    }
}

Test(treap, stays_shallow_when_everything_comes_in_order)
{
    for (unsigned key = 0; key < ITEMS; key++) {
        insert(key);
    }
    check_all();
    unsigned depth = check(treap.root, NULL);
    cr_expect(depth <= 40, "%u for %u", depth, ITEMS);
    for (unsigned key = 0; key < ITEMS; key++) {
        cr_assert(treap.first == &items[key].node);
        erase(key);
    }
    cr_expect(treap.root == NULL && treap.first == NULL);
}

Test(treap, node_whose_value_changes_has_the_sums_above_it_made_anew)
{
    for (unsigned key = 0; key < 100; key++) {
        insert(key);
    }
    unsigned sum = item_of(treap.root)->sum;
    for (unsigned key = 0; key < 100; key += 7) {
        erase(key);
        sum -= key;
        cr_assert(item_of(treap.root)->sum == sum);
    }
    struct item *leaf = item_of(treap.first);
    leaf->key = 0; /* from 1, with nobody before it: the order stays */
    treap_update(&leaf->node, item_sum);
    cr_expect(item_of(treap.root)->sum == sum - 1);
}

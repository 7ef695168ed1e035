/* A balanced binary tree whose nodes sit in what they order, and may carry a sum over their subtree.
 *
 * A treap: a search tree by the caller's order and a heap by a number drawn for each node, which makes its expected
 * depth O(log n) whatever the order of insertion. Rather than a heap, because the queue asks for more than the first:
 * the last, the rank of any, the first that satisfies a condition; and because a sum is kept with a few lines.
 *
 * Everything is inline, so that the caller's functions are inlined too. No two nodes may be equal in order. */
#ifndef SLUICE_SCHED_TREAP_H
#define SLUICE_SCHED_TREAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct treap_node {
    struct treap_node *left;
    struct treap_node *right;
    struct treap_node *parent; /* NULL: the root, or in no tree */
    uint32_t priority;         /* never below a child's */
};

struct treap {
    struct treap_node *root;
    struct treap_node *first; /* the leftmost; NULL: empty */
};

typedef bool treap_before(const struct treap_node *a, const struct treap_node *b);
/* Makes `node`'s sum anew from its own value and its children's sums. */
typedef void treap_sum(struct treap_node *node);
/* Adds the sum of `added`, a single node that comes into `node`'s subtree, to its sum. */
typedef void treap_add(struct treap_node *node, const struct treap_node *added);

/* A number as good as drawn, from one that merely counts (the finalizer of SplitMix64). */
static inline uint32_t treap_priority(uint64_t count)
{
    count = (count ^ (count >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    count = (count ^ (count >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((count ^ (count >> 31)) >> 16);
}

static inline void treap_replace(struct treap *treap, struct treap_node *node, struct treap_node *by)
{
    struct treap_node *parent = node->parent;
    if (parent == NULL) {
        treap->root = by;
    } else if (parent->left == node) {
        parent->left = by;
    } else {
        parent->right = by;
    }
    if (by != NULL) {
        by->parent = parent;
    }
}

/* Puts `child` in its parent's place, and the parent below it. Sums are the caller's business. */
static inline void treap_rotate_up(struct treap *treap, struct treap_node *child)
{
    struct treap_node *parent = child->parent;
    treap_replace(treap, parent, child);
    struct treap_node *moved;
    if (parent->left == child) {
        moved = child->right;
        parent->left = moved;
        child->right = parent;
    } else {
        moved = child->left;
        parent->right = moved;
        child->left = parent;
    }
    if (moved != NULL) {
        moved->parent = parent;
    }
    parent->parent = child;
}

static inline struct treap_node *treap_leftmost(struct treap_node *node)
{
    while (node->left != NULL) {
        node = node->left;
    }
    return node;
}

/* NULL: the tree is empty. */
static inline struct treap_node *treap_last(const struct treap *treap)
{
    struct treap_node *node = treap->root;
    while (node != NULL && node->right != NULL) {
        node = node->right;
    }
    return node;
}

/* The one after it in order; NULL: none. */
static inline struct treap_node *treap_next(const struct treap_node *node)
{
    if (node->right != NULL) {
        return treap_leftmost(node->right);
    }
    while (node->parent != NULL && node->parent->right == node) {
        node = node->parent;
    }
    return node->parent;
}

/* node->priority is set. */
static inline void treap_insert(struct treap *treap, struct treap_node *node, treap_before *before, treap_add *add,
                                treap_sum *sum)
{
    node->left = NULL;
    node->right = NULL;
    sum(node);
    struct treap_node *parent = NULL;
    struct treap_node **at = &treap->root;
    bool is_first = true;
    while (*at != NULL) {
        parent = *at;
        add(parent, node);
        if (before(node, parent)) {
            at = &parent->left;
        } else {
            at = &parent->right;
            is_first = false;
        }
    }
    node->parent = parent;
    *at = node;
    while (node->parent != NULL && node->parent->priority < node->priority) {
        struct treap_node *below = node->parent;
        treap_rotate_up(treap, node);
        sum(below);
        sum(node);
    }
    if (is_first) {
        treap->first = node;
    }
}

/* `node`'s own value has changed, but not its place in the order. */
static inline void treap_update(struct treap_node *node, treap_sum *sum)
{
    for (; node != NULL; node = node->parent) {
        sum(node);
    }
}

static inline void treap_remove(struct treap *treap, struct treap_node *node, treap_sum *sum)
{
    if (treap->first == node) {
        treap->first = treap_next(node);
    }
    /* Whoever is rotated above it becomes its ancestor, and has its sum made anew below. */
    while (node->left != NULL && node->right != NULL) {
        treap_rotate_up(treap, node->left->priority > node->right->priority ? node->left : node->right);
    }
    treap_replace(treap, node, node->left != NULL ? node->left : node->right);
    treap_update(node->parent, sum);
    node->left = NULL;
    node->right = NULL;
    node->parent = NULL;
}

#endif

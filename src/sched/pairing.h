/* A pairing heap whose nodes sit in what it orders: put in O(1), the first in O(1), any node out in O(log n) amortised.
 *
 * It allocates nothing and does not recurse. A node is in at most one heap; one that is in none says so. What orders a
 * node must not change while it is in: take it out and put it back. (Fredman et al., Algorithmica 1986: two passes.) */
#ifndef SLUICE_SCHED_PAIRING_H
#define SLUICE_SCHED_PAIRING_H

#include <stdbool.h>
#include <stddef.h>

struct pairing_node {
    struct pairing_node *child;
    struct pairing_node *next;
    struct pairing_node *prev; /* the left sibling, or the parent of a first child; of the root itself; NULL: in none */
};

/* Whether `a` comes before `b`. */
typedef bool pairing_before(const struct pairing_node *a, const struct pairing_node *b);

struct pairing {
    struct pairing_node *root; /* NULL: empty */
    pairing_before *before;
};

static inline void pairing_init(struct pairing *heap, pairing_before *before)
{
    *heap = (struct pairing){.before = before};
}

static inline bool pairing_is_in(const struct pairing_node *node)
{
    return node->prev != NULL;
}

/* *Pins* node, which is in no heap and whose prev is NULL. */
void pairing_put(struct pairing *heap, struct pairing_node *node);

/* Takes out a node that is in this heap. */
void pairing_remove(struct pairing *heap, struct pairing_node *node);

#endif

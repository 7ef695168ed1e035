#include "sched/pairing.h"

/* Makes the later of two roots the first child of the other. */
static struct pairing_node *meld(pairing_before *before, struct pairing_node *a, struct pairing_node *b)
{
    if (before(b, a)) {
        struct pairing_node *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL) {
        a->child->prev = b;
    }
    a->child = b;
    a->next = NULL;
    return a;
}

/* Melds siblings in pairs from the left, and then the pairs from the right. */
static struct pairing_node *meld_siblings(pairing_before *before, struct pairing_node *first)
{
    struct pairing_node *pairs = NULL; /* linked by `next`, the last one first */
    while (first != NULL) {
        struct pairing_node *one = first;
        struct pairing_node *other = one->next;
        first = other == NULL ? NULL : other->next;
        one->next = NULL;
        if (other != NULL) {
            other->next = NULL;
            one = meld(before, one, other);
        }
        one->next = pairs;
        pairs = one;
    }
    struct pairing_node *root = NULL;
    while (pairs != NULL) {
        struct pairing_node *next = pairs->next;
        pairs->next = NULL;
        root = root == NULL ? pairs : meld(before, root, pairs);
        pairs = next;
    }
    return root;
}

static void set_root(struct pairing *heap, struct pairing_node *root)
{
    heap->root = root;
    if (root != NULL) {
        root->prev = root;
        root->next = NULL;
    }
}

void pairing_put(struct pairing *heap, struct pairing_node *node)
{
    node->child = NULL;
    node->next = NULL;
    set_root(heap, heap->root == NULL ? node : meld(heap->before, heap->root, node));
}

void pairing_remove(struct pairing *heap, struct pairing_node *node)
{
    struct pairing_node *below = meld_siblings(heap->before, node->child);
    if (node == heap->root) {
        set_root(heap, below);
    } else {
        if (node->prev->child == node) {
            node->prev->child = node->next;
        } else {
            node->prev->next = node->next;
        }
        if (node->next != NULL) {
            node->next->prev = node->prev;
        }
        if (below != NULL) {
            set_root(heap, meld(heap->before, heap->root, below));
        }
    }
    *node = (struct pairing_node){0};
}

#include "sched/pairing.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"

enum { COUNT = 300 };

struct number {
    unsigned value;
    struct pairing_node node;
};

static unsigned value_of(const struct pairing_node *node)
{
    return CONTAINER_OF(node, const struct number, node)->value;
}

static bool before(const struct pairing_node *a, const struct pairing_node *b)
{
    return value_of(a) < value_of(b);
}

static unsigned smallest(const struct number *numbers)
{
    unsigned value = UINT32_MAX;
    for (unsigned i = 0; i < COUNT; i++) {
        value = pairing_is_in(&numbers[i].node) && numbers[i].value < value ? numbers[i].value : value;
    }
    return value;
}

Test(pairing, gives_the_first_whatever_was_put_and_removed)
{
    struct pairing heap;
    static struct number numbers[COUNT];
    uint64_t random = 42;
    pairing_init(&heap, before);
    for (unsigned step = 0; step < 100000; step++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        struct number *number = &numbers[(random >> 33) % COUNT];
        if (!pairing_is_in(&number->node)) {
            number->value = (unsigned)(random >> 40) % 1000;
            pairing_put(&heap, &number->node);
        } else {
            pairing_remove(&heap, &number->node);
        }
        unsigned first = heap.root == NULL ? UINT32_MAX : value_of(heap.root);
        cr_assert_eq(first, smallest(numbers), "step %u", step);
    }
}

Test(pairing, gives_equal_ones_and_sorts)
{
    struct pairing heap;
    static struct number numbers[COUNT];
    pairing_init(&heap, before);
    for (unsigned i = 0; i < COUNT; i++) {
        numbers[i].value = i * 7919 % 50;
        pairing_put(&heap, &numbers[i].node);
    }
    unsigned last = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        cr_assert(value_of(heap.root) >= last);
        last = value_of(heap.root);
        pairing_remove(&heap, heap.root);
    }
    cr_assert_null(heap.root);
}

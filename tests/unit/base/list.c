#include "base/list.h"

#include <criterion/criterion.h>

Test(base, list_gives_back_in_order)
{
    struct list_node head;
    struct list_node nodes[3];
    list_init(&head);
    cr_assert(list_is_empty(&head));
    cr_assert_null(list_pop_front(&head));
    list_push_back(&head, &nodes[1]);
    list_push_back(&head, &nodes[2]);
    list_push_front(&head, &nodes[0]);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(list_pop_front(&head), &nodes[i]);
        cr_assert_not(list_is_linked(&nodes[i]));
    }
    cr_assert(list_is_empty(&head));
}

Test(base, list_removes_from_the_middle_and_twice)
{
    struct list_node head;
    struct list_node nodes[3];
    list_init(&head);
    for (int i = 0; i < 3; i++) {
        list_push_back(&head, &nodes[i]);
    }
    list_remove(&nodes[1]);
    list_remove(&nodes[1]);
    cr_assert_eq(list_pop_front(&head), &nodes[0]);
    cr_assert_eq(list_pop_front(&head), &nodes[2]);
    cr_assert(list_is_empty(&head));
}

/* Lists of CPUs, and numbers in files, as the kernel writes them and as nobody should. */
#include "ring/facts.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "tree.h"

/* The numbers of a list, "1 2 3". */
static const char *numbers(const char *list)
{
    static char out[256];
    size_t used = 0;
    out[0] = '\0';
    for (int number = -1; fact_list_next(&list, &number) && used < sizeof(out) - 16;) {
        used += (size_t)snprintf(out + used, sizeof(out) - used, "%s%d", used == 0 ? "" : " ", number);
    }
    return out;
}

Test(facts, a_list_gives_its_numbers_in_order)
{
    cr_expect_str_eq(numbers("0\n"), "0");
    cr_expect_str_eq(numbers("0-3\n"), "0 1 2 3");
    cr_expect_str_eq(numbers("\t0-1,8,10-11\n"), "0 1 8 10 11");
    cr_expect_str_eq(numbers("7,9\n"), "7 9");
    cr_expect_str_eq(numbers("5-5\n"), "5");
}

Test(facts, what_is_no_list_ends_it)
{
    cr_expect_str_eq(numbers(""), "");
    cr_expect_str_eq(numbers("\n"), "");
    cr_expect_str_eq(numbers("all"), "");
    cr_expect_str_eq(numbers("-1"), "");
    cr_expect_str_eq(numbers("1-"), "");
    cr_expect_str_eq(numbers("0,x"), "0");
    cr_expect_str_eq(numbers("3-1"), "");
    cr_expect_str_eq(numbers("5,2"), "5");
    cr_expect_str_eq(numbers("99999999999999999999"), "");
    cr_expect_str_eq(numbers("0,0-1"), "0 1");
}

Test(facts, a_file_is_a_number_or_missing)
{
    char *root = tree_make();
    tree_write(root, "/a", "4096\n");
    tree_write(root, "/b", "-1 7\n");
    tree_write(root, "/c", "max\n");
    tree_write(root, "/d", "");
    cr_expect_eq(fact_number(-7, "%s/a", root), 4096);
    cr_expect_eq(fact_number(-7, "%s/b", root), -1);
    cr_expect_eq(fact_number(-7, "%s/c", root), -7);
    cr_expect_eq(fact_number(-7, "%s/d", root), -7);
    cr_expect_eq(fact_number(-7, "%s/none", root), -7);
    cr_expect_eq(fact_number(-7, "%s", root), -7, "a folder is no number");
    tree_remove(root);
}

Test(facts, a_line_is_found_by_how_it_begins)
{
    cr_expect_eq(fact_after("nr_periods 5\nnr_throttled 3\nthrottled_usec 77\n", "throttled_usec "), 77);
    cr_expect_eq(fact_after("x throttled_usec 77\n", "throttled_usec "), 0);
    cr_expect_eq(fact_after("", "a "), 0);
}

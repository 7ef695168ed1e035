/* The table of keys itself. */

#include "config_test.h"

#include "server/config_internal.h"

Test(config_table, every_key_is_in_one_container_that_stands_before_it)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        const struct config_key *key = config_key_at(i);
        unsigned containers = config_key_is_in(key, NULL) ? 1 : 0;
        for (unsigned j = 0; j < config_key_count(); j++) {
            const struct config_key *other = config_key_at(j);
            bool elements = config_key_of_elements(other) == key;
            if (config_key_is_in(key, other) || elements) {
                containers++;
                cr_expect(j < i, "%s", key->path);
            }
            cr_expect(i == j || strcmp(key->path, other->path) != 0, "%s", key->path);
        }
        cr_expect(containers == 1, "%s", key->path);
    }
}

Test(config_table, every_unit_is_in_the_name)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        const struct config_key *key = config_key_at(i);
        if (key->type != CONFIG_NUMBER) {
            continue;
        }
        bool says_ms = strstr(key->path, "_ms") != NULL;
        bool says_bytes = strstr(key->path, "_bytes_") != NULL;
        cr_expect(says_ms == (key->unit != NULL && strcmp(key->unit, "ms") == 0), "%s", key->path);
        cr_expect(says_bytes == (key->unit != NULL && strncmp(key->unit, "bytes", 5) == 0), "%s", key->path);
    }
}

Test(config_table, every_key_says_what_it_is_in_one_line)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        const char *help = config_key_at(i)->help;
        cr_assert_not_null(help, "%s", config_key_at(i)->path);
        cr_expect(help[strlen(help) - 1] == '.', "%s", config_key_at(i)->path);
        cr_expect(strpbrk(help, "\n|") == NULL, "%s", config_key_at(i)->path);
    }
}

Test(config_table, every_bound_can_be_held_by_its_place)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        const struct config_key *key = config_key_at(i);
        cr_expect(key->min <= key->max, "%s", key->path);
        if (key->type == CONFIG_NUMBER && key->bytes < 8) {
            cr_expect(key->max >> (8 * key->bytes) == 0, "%s", key->path);
        }
    }
}

Test(config_table, distance_counts_letters_changed_missing_added_and_swapped)
{
    cr_expect(config_distance(BYTES("workers"), BYTES("workers")) == 0);
    cr_expect(config_distance(BYTES("wrokers"), BYTES("workers")) == 1);
    cr_expect(config_distance(BYTES("worker"), BYTES("workers")) == 1);
    cr_expect(config_distance(BYTES("workerss"), BYTES("workers")) == 1);
    cr_expect(config_distance(BYTES("Workers"), BYTES("workers")) == 0);
    cr_expect(config_distance(BYTES(""), BYTES("pin")) == 3);
    cr_expect(config_distance(BYTES("kitten"), BYTES("sitting")) == 3);
    char longer[100] = {0};
    cr_expect(config_distance((struct bytes){longer, sizeof(longer)}, BYTES("pin")) == UINT32_MAX);
}

/* config_walk.c lists them in one message, in a buffer of 640 bytes. */
Test(config_table, keys_of_every_container_fit_into_a_message)
{
    for (unsigned i = 0; i <= config_key_count(); i++) {
        const struct config_key *container = i == config_key_count() ? NULL : config_key_at(i);
        size_t bytes = 1;
        for (unsigned j = 0; j < config_key_count(); j++) {
            if (config_key_is_in(config_key_at(j), container)) {
                bytes += config_key_name(config_key_at(j)).len + 2;
            }
        }
        cr_expect(bytes < 640, "%s", container == NULL ? "the file" : container->path);
    }
}

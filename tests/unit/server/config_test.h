/* What the tests of the configuration share. */
#ifndef TESTS_UNIT_SERVER_CONFIG_TEST_H
#define TESTS_UNIT_SERVER_CONFIG_TEST_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/config.h"

/* One line each, so that what a test adds begins at a line it can count to. */
#define LISTENERS "listeners: [{address: '127.0.0.1:8080'}]\n"
#define ROUTES    "routes: [{path: /, respond: {}}]\n"

/* *Gives* the configuration that `text` is; the test fails when it is none. */
static inline struct config *parse_right(const char *text)
{
    char *said = NULL;
    size_t said_bytes = 0;
    FILE *errors = open_memstream(&said, &said_bytes);
    struct config *config = NULL;
    enum result result = config_parse("f.yaml", bytes_from(text), errors, &config);
    fclose(errors);
    cr_assert(result == RESULT_OK, "%s: %s", result_name(result), said);
    cr_assert_str_eq(said, "");
    free(said);
    return config;
}

/* *Gives* what is said of `text`, which must be refused. */
static inline char *parse_wrong_bytes(struct bytes text)
{
    char *said = NULL;
    size_t said_bytes = 0;
    FILE *errors = open_memstream(&said, &said_bytes);
    struct config *untouched = (struct config *)(void *)errors;
    struct config *config = untouched;
    enum result result = config_parse("f.yaml", text, errors, &config);
    fclose(errors);
    cr_assert(result == RESULT_CONFIG, "%s instead of config, for:\n%.*s", result_name(result), BYTES_ARG(text));
    cr_assert(config == untouched);
    return said;
}

/* `text` is refused, and exactly `expected` is said of it. */
#define FAULTS(text, expected)                            \
    do {                                                  \
        char *said = parse_wrong_bytes(bytes_from(text)); \
        cr_expect_str_eq(said, expected, "%s", said);     \
        free(said);                                       \
    } while (0)

/* `text` is refused, and `part` is in what is said of it. */
#define FAULT_HAS(text, part)                              \
    do {                                                   \
        char *said = parse_wrong_bytes(bytes_from(text));  \
        cr_expect(strstr(said, part) != NULL, "%s", said); \
        free(said);                                        \
    } while (0)

#define BYTES_ARE(bytes, string) cr_expect(bytes_equal(bytes, bytes_from(string)), "%.*s", BYTES_ARG(bytes))

#endif

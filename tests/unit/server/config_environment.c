/* Environment variables in values. */

#include "config_test.h"

#define BODY_OF(value) LISTENERS "routes: [{path: /, respond: {body: " value "}}]\n"

#define UPSTREAM_WITH_NAME(name) "upstreams:\n  - name: " name "\n    endpoints: ['127.0.0.1:1']\n"

static void body_is(const char *text, const char *expected)
{
    struct config *config = parse_right(text);
    BYTES_ARE(config->routes[0].body, expected);
    config_destroy(config);
}

Test(config_environment, variables_stand_for_their_values)
{
    setenv("SLUICE_TEST_A", "one", 1);
    setenv("SLUICE_TEST_B", "", 1);
    setenv("SLUICE_TEST_C", "${SLUICE_TEST_A}", 1);
    unsetenv("SLUICE_TEST_NONE");
    body_is(BODY_OF("'${SLUICE_TEST_A}'"), "one");
    body_is(BODY_OF("'<${SLUICE_TEST_A}|${SLUICE_TEST_A}>'"), "<one|one>");
    body_is(BODY_OF("'${SLUICE_TEST_B}'"), "");
    body_is(BODY_OF("'${SLUICE_TEST_C}'"), "${SLUICE_TEST_A}");
    body_is(BODY_OF("'${SLUICE_TEST_NONE:-two}'"), "two");
    body_is(BODY_OF("'${SLUICE_TEST_NONE:-}'"), "");
    body_is(BODY_OF("'${SLUICE_TEST_B:-two}'"), "two");
    body_is(BODY_OF("'${SLUICE_TEST_A:-two}'"), "one");
    body_is(BODY_OF("'${SLUICE_TEST_NONE:-a:-b}'"), "a:-b");
}

Test(config_environment, dollars_that_begin_no_variable_stay)
{
    setenv("A", "one", 1);
    body_is(BODY_OF("'$'"), "$");
    body_is(BODY_OF("'$5 $$ $A'"), "$5 $$ $A");
    body_is(BODY_OF("'$${A}'"), "${A}");
    body_is(BODY_OF("'$${A} ${A} $${A}'"), "${A} one ${A}");
    body_is(BODY_OF("'$$${A}'"), "$${A}");
}

Test(config_environment, type_is_decided_by_the_key_after_substitution)
{
    setenv("SLUICE_TEST_A", "7", 1);
    struct config *config = parse_right("workers: ${SLUICE_TEST_A}\n"
                                        "pin: \"${SLUICE_TEST_NONE:-false}\"\n"
                                        "access_log: ${SLUICE_TEST_NONE:-on}\n"
                                        "limits: {fields_max: \"1${SLUICE_TEST_A}\"}\n" LISTENERS ROUTES);
    cr_expect(config->workers == 7);
    cr_expect(!config->pin);
    cr_expect(config->access_log);
    cr_expect(config->limits.fields_max == 17);
    config_destroy(config);
    config = parse_right("workers: ${SLUICE_TEST_NONE:-auto}\n" LISTENERS ROUTES);
    cr_expect(config->workers == 0);
    config_destroy(config);
}

Test(config_environment, value_of_a_variable_cannot_add_structure)
{
    setenv("SLUICE_TEST_A", "x\"}\nworkers: 9", 1);
    struct config *config = parse_right(BODY_OF("\"${SLUICE_TEST_A}\""));
    BYTES_ARE(config->routes[0].body, "x\"}\nworkers: 9");
    cr_expect(config->workers == 0);
    config_destroy(config);
    FAULT_HAS(LISTENERS "routes: [{path: /, respond: {headers: {X-A: \"${SLUICE_TEST_A}\"}}}]\n",
              "f.yaml:2:45: routes[].respond.headers: the value of 'X-A' has a line break");
}

Test(config_environment, unset_variable_without_default_is_a_fault)
{
    unsetenv("SLUICE_TEST_NONE");
    FAULTS(LISTENERS ROUTES "workers: ${SLUICE_TEST_NONE}\n",
           "f.yaml:3:10: environment variable SLUICE_TEST_NONE is not set; set it, or give a default: "
           "${SLUICE_TEST_NONE:-default}\n");
}

Test(config_environment, what_is_no_variable_is_a_fault)
{
    FAULTS(LISTENERS ROUTES "workers: ${\n", "f.yaml:3:10: '${' is not closed; write ${NAME} or ${NAME:-default}\n");
    FAULTS(
        LISTENERS ROUTES "workers: ${}\n",
        "f.yaml:3:10: '${}' names no environment variable; write ${NAME} or ${NAME:-default}, and $${ for a ${ that is "
        "meant as it stands\n");
    FAULT_HAS(LISTENERS ROUTES "workers: ${1A}\n", "f.yaml:3:10: '${1A}' names no environment variable");
    FAULT_HAS(LISTENERS ROUTES "workers: ${A?no}\n", "f.yaml:3:10: '${A?no}' names no environment variable");
}

Test(config_environment, value_from_a_variable_is_checked_like_any_other)
{
    setenv("SLUICE_TEST_A", "many", 1);
    FAULTS(LISTENERS ROUTES "workers: ${SLUICE_TEST_A}\n",
           "f.yaml:3:10: workers: 'many' is not a number; it should be a whole number from 1 to 1024, or auto\n");
    setenv("SLUICE_TEST_A", "", 1);
    FAULTS(LISTENERS ROUTES UPSTREAM_WITH_NAME("${SLUICE_TEST_A}"),
           "f.yaml:4:11: upstreams[].name is empty; give it a value, or leave the line out\n");
}

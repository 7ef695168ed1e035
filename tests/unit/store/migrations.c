/* The way from older schemas to the present one. */
#include <stdio.h>

#include "place.h"
#include "store/database.h"

static struct place place;

static void set_up(void)
{
    place_make(&place);
}

static void tear_down(void)
{
    place_remove(&place);
}

TestSuite(migrations, .init = set_up, .fini = tear_down);

static const char *const steps[] = {
    "CREATE TABLE first (a INTEGER) STRICT; INSERT INTO first VALUES (1)",
    "ALTER TABLE first ADD COLUMN b INTEGER; UPDATE first SET b = a + 1",
    "CREATE TABLE third (c INTEGER) STRICT; INSERT INTO nowhere VALUES (1)",
};

static enum store_fault open_with(int version)
{
    const struct database_schema schema = {steps, version, 0x536c7563};
    struct database_error error;
    sqlite3 *sqlite = NULL;
    enum store_fault fault = database_open_writer(place.path, 100, &schema, &sqlite, &error);
    sqlite3_close(sqlite);
    cr_assert_eq(fault, error.fault);
    return fault;
}

Test(migrations, a_new_file_gets_all_steps_and_our_name)
{
    cr_assert_eq(open_with(2), STORE_FAULT_NONE);
    cr_assert_eq(place_number(&place, "PRAGMA user_version"), 2);
    cr_assert_eq(place_number(&place, "PRAGMA application_id"), database_schema_cache.application_id);
    cr_assert_eq(place_number(&place, "PRAGMA auto_vacuum"), 2, "incremental");
    cr_assert_eq(place_number(&place, "SELECT b FROM first"), 2);
    cr_assert_eq(open_with(2), STORE_FAULT_NONE, "nothing to do");
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM first"), 1);
}

Test(migrations, an_older_file_gets_the_steps_it_lacks_and_keeps_its_rows)
{
    cr_assert_eq(open_with(1), STORE_FAULT_NONE);
    place_run(&place, "INSERT INTO first VALUES (10)");
    cr_assert_eq(open_with(2), STORE_FAULT_NONE);
    cr_assert_eq(place_number(&place, "PRAGMA user_version"), 2);
    cr_assert_eq(place_number(&place, "SELECT sum(b) FROM first"), 2 + 11);
    cr_assert_eq(open_with(1), STORE_FAULT_NEWER);
}

Test(migrations, a_file_of_another_kind_is_left_as_it_is)
{
    const struct database_schema other = {steps, 1, 0x536c7564};
    struct database_error error;
    sqlite3 *sqlite = NULL;
    cr_assert_eq(open_with(1), STORE_FAULT_NONE);
    cr_assert_eq(database_open_writer(place.path, 100, &other, &sqlite, &error), STORE_FAULT_FOREIGN);
    cr_assert_null(sqlite);
    cr_assert_eq(place_number(&place, "PRAGMA application_id"), 0x536c7563);
}

Test(migrations, a_step_that_fails_leaves_the_version_before_it)
{
    cr_assert_eq(open_with(3), STORE_FAULT_IO);
    cr_assert_eq(place_number(&place, "PRAGMA user_version"), 2);
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM sqlite_schema WHERE name = 'third'"), 0);
    cr_assert_eq(open_with(2), STORE_FAULT_NONE);
}

Test(migrations, a_file_of_version_0_becomes_the_present_one)
{
    char statement[64];
    snprintf(statement, sizeof(statement), "PRAGMA application_id = %d", database_schema_cache.application_id);
    place_run(&place, statement);
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    cr_assert(place_has(&place, "key"));
    place_close(&place);
    cr_assert_eq(place_number(&place, "PRAGMA user_version"), database_schema_cache.version);
}

/* What can be wrong with a database, and that the store says so, does without it, and comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "faulty_disk.h"
#include "place.h"

static struct place place;

static void set_up(void)
{
    place_make(&place);
}

static void tear_down(void)
{
    place_remove(&place);
}

TestSuite(store_failures, .init = set_up, .fini = tear_down);

static enum store_fault fault(void)
{
    return (enum store_fault)atomic_load(&place.counters->fault);
}

/* Nothing works, and nothing hurts. */
static void expect_nothing_works(enum store_fault why)
{
    struct cache_tier_record *record;
    uint64_t dropped = place_count(&place.counters->puts_dropped);
    uint64_t refused = place_count(&place.counters->gets_unavailable);
    cr_assert_eq(fault(), why, "%s", store_fault_name(fault()));
    cr_assert_geq(place_count(&place.counters->errors[why]), 1);
    place_put(&place, "key", "body");
    cr_assert_eq(place_count(&place.counters->puts_dropped), dropped + 1);
    cr_assert_eq(place_get_at(&place, "key", PLACE_NOW_MS, &record), CACHE_TIER_UNAVAILABLE);
    cr_assert_eq(place_count(&place.counters->gets_unavailable), refused + 1);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_ALL, "", ""), -1);
}

static void expect_all_works(void)
{
    cr_assert(place_await_state(&place, STORE_READY), "%s", store_fault_name(fault()));
    cr_assert_eq(fault(), STORE_FAULT_NONE);
    place_put_now(&place, place_record("works", "body"));
    cr_assert(place_has(&place, "works"));
}

Test(store_failures, a_folder_that_is_missing_and_comes)
{
    char path[4 * PLACE_PATH_BYTES], folder[2 * PLACE_PATH_BYTES];
    snprintf(folder, sizeof(folder), "%s/later", place.folder);
    snprintf(path, sizeof(path), "%s/cache.db", folder);
    place.options.path = path;
    place_open_until(&place, STORE_UNAVAILABLE);
    expect_nothing_works(STORE_FAULT_MISSING);
    cr_assert_eq(mkdir(folder, 0700), 0);
    expect_all_works();
}

Test(store_failures, a_path_that_is_a_folder)
{
    place.options.path = place.folder;
    place_open_until(&place, STORE_UNAVAILABLE);
    expect_nothing_works(STORE_FAULT_IO);
}

Test(store_failures, a_file_that_may_not_be_written)
{
    uid_t before = geteuid();
    cr_assert_eq(chmod(place.folder, 0777), 0);
    cr_assert(before != 0 || seteuid(65534) == 0, "root may write everything");
    place_write_file(&place, "", 0);
    cr_assert_eq(chmod(place.path, 0444), 0);
    place_open_until(&place, STORE_UNAVAILABLE);
    expect_nothing_works(STORE_FAULT_UNWRITABLE);
    cr_assert_eq(chmod(place.path, 0644), 0);
    expect_all_works();
    place_close(&place);
    cr_assert_eq(seteuid(before), 0);
}

Test(store_failures, garbage_in_place_of_a_database_is_moved_aside_whole)
{
    char garbage[9000];
    memset(garbage, 'x', sizeof(garbage));
    place_write_file(&place, garbage, sizeof(garbage));
    place_open(&place);
    expect_all_works();
    cr_assert_eq(place_count(&place.counters->moved_aside), 1);
    cr_assert_eq(place_file_bytes(&place, ".corrupt-1"), sizeof(garbage));
    cr_assert_eq(place_file_bytes(&place, ".corrupt-2"), -1);
}

Test(store_failures, a_few_corrupt_files_are_kept_and_no_more)
{
    for (int i = 1; i <= 5; i++) {
        char garbage[600];
        char suffix[] = ".corrupt-0";
        memset(garbage, 'x', sizeof(garbage));
        unlink(place.path);
        place_write_file(&place, garbage, sizeof(garbage));
        place_open_until(&place, i <= 4 ? STORE_READY : STORE_UNAVAILABLE);
        suffix[sizeof(suffix) - 2] = (char)('0' + i);
        cr_assert_eq(place_file_bytes(&place, suffix) == 600, i <= 4);
        if (i == 5) {
            expect_nothing_works(STORE_FAULT_CORRUPT);
            cr_assert_eq(place_file_bytes(&place, ""), 600, "it stays");
        }
        place_close(&place);
    }
}

Test(store_failures, pages_that_turn_bad_while_it_runs_are_met_by_a_get)
{
    char key[32];
    place_open_until(&place, STORE_READY);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        cache_tier_put(place.store, place_large(key, 20000));
    }
    cr_assert(place_await(&place, &place.counters->puts, 200));
    place_close(&place); /* all of it is in the file now, and in nobody's memory */
    char *garbage = malloc(3 << 20);
    FILE *file = fopen(place.path, "r+");
    memset(garbage, 0x5a, 3 << 20);
    cr_assert_eq(fseek(file, 20 * 4096, SEEK_SET), 0);
    cr_assert_eq(fwrite(garbage, 1, 3 << 20, file), 3 << 20);
    fclose(file);
    free(garbage);
    place_open(&place);
    for (int i = 0; i < 200 && place_count(&place.counters->moved_aside) == 0; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        place_has(&place, key);
        loop_for_ms(place.ring, 2);
    }
    expect_all_works();
    cr_assert_eq(place_count(&place.counters->moved_aside), 1);
    cr_assert_gt(place_file_bytes(&place, ".corrupt-1"), 3 << 20);
}

Test(store_failures, another_applications_database_is_left_alone)
{
    place_run(&place, "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (17)");
    place_open_until(&place, STORE_UNAVAILABLE);
    expect_nothing_works(STORE_FAULT_FOREIGN);
    loop_for_ms(place.ring, 3 * PLACE_RETRY_MS);
    place_close(&place);
    cr_assert_eq(place_number(&place, "SELECT x FROM theirs"), 17);
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM sqlite_schema"), 1);
    cr_assert_eq(place_number(&place, "PRAGMA application_id"), 0);
    cr_assert_eq(place_file_bytes(&place, ".corrupt-1"), -1);
    cr_assert_eq(place_file_bytes(&place, "-wal"), -1);
}

Test(store_failures, the_log_of_another_applications_database_is_left_alone)
{
    sqlite3 *other = place_connect(&place);
    cr_assert_eq(sqlite3_exec(other,
                              "PRAGMA journal_mode = WAL; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (17);"
                              "PRAGMA wal_checkpoint; INSERT INTO theirs VALUES (18)",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    sqlite3_db_config(other, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(other);
    long log_bytes = place_file_bytes(&place, "-wal");
    cr_assert_gt(log_bytes, 0);
    place_open_until(&place, STORE_UNAVAILABLE);
    expect_nothing_works(STORE_FAULT_FOREIGN);
    place_close(&place);
    cr_assert_eq(place_file_bytes(&place, "-wal"), log_bytes);
}

Test(store_failures, a_newer_versions_database_is_left_alone)
{
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    place_close(&place);
    place_run(&place, "PRAGMA user_version = 1000");
    place_open_until(&place, STORE_UNAVAILABLE);
    expect_nothing_works(STORE_FAULT_NEWER);
    place_close(&place);
    cr_assert_eq(place_number(&place, "PRAGMA user_version"), 1000);
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM cache_entry"), 1);
}

Test(store_failures, a_newer_version_that_takes_the_database_over_while_it_runs_is_made_way_for)
{
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    place_run(&place, "PRAGMA user_version = 1000");
    cr_assert(place_await_state(&place, STORE_UNAVAILABLE));
    expect_nothing_works(STORE_FAULT_NEWER);
    cr_assert_eq(place_number(&place, "PRAGMA user_version"), 1000);
    place_run(&place, "PRAGMA user_version = 1");
    expect_all_works();
    cr_assert_not(place_has(&place, "key"), "the purge that was asked for meanwhile");
}

Test(store_failures, trying_to_write_again_does_not_undo_a_newer_versions_mark)
{
    place_open_until(&place, STORE_READY);
    sqlite3 *other = place_connect(&place);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE; PRAGMA user_version = 1000", NULL, NULL, NULL), SQLITE_OK);
    place_put(&place, "key", "body");
    cr_assert(place_await_state(&place, STORE_READ_ONLY));
    cr_assert_eq(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    cr_assert(place_await_state(&place, STORE_UNAVAILABLE));
    cr_assert_eq(fault(), STORE_FAULT_NEWER);
    place_close(&place);
    cr_assert_eq(place_number(&place, "PRAGMA user_version"), 1000);
}

Test(store_failures, a_database_of_ours_without_its_tables_is_moved_aside)
{
    place_open_until(&place, STORE_READY);
    place_close(&place);
    place_run(&place, "DROP TABLE cache_content");
    place_open(&place);
    expect_all_works();
    cr_assert_eq(place_count(&place.counters->moved_aside), 1);
    cr_assert_gt(place_file_bytes(&place, ".corrupt-1"), 0);
}

Test(store_failures, a_table_that_goes_while_it_runs_is_made_anew)
{
    place_open_until(&place, STORE_READY);
    place_run(&place, "DROP TABLE cache_content");
    cr_assert_not(place_has(&place, "key"));
    cr_assert(place_await(&place, &place.counters->moved_aside, 1));
    expect_all_works();
}

Test(store_failures, the_files_are_this_users_alone)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    umask(0);
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    cr_assert(place_has(&place, "key"));
    for (size_t i = 0; i < ARRAY_COUNT(suffixes); i++) {
        char path[2 * PLACE_PATH_BYTES];
        struct stat status;
        snprintf(path, sizeof(path), "%s%s", place.path, suffixes[i]);
        cr_assert_eq(stat(path, &status), 0, "%s", path);
        cr_expect_eq(status.st_mode & 07777, 0600, "%s: %o", path, (unsigned)status.st_mode);
    }
}

Test(store_failures, names_that_are_no_files_to_the_library_are_files_here)
{
    static const char *const names[] = {":memory:", "file:x.db?mode=memory"};
    cr_assert_eq(chdir(place.folder), 0);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        place.options.path = names[i];
        place_open_until(&place, STORE_READY);
        expect_all_works();
        place_close(&place);
        cr_assert_eq(access(names[i], F_OK), 0, "%s", names[i]);
    }
}

Test(store_failures, a_database_that_somebody_holds_for_himself_is_used_when_he_lets_go)
{
    place_open_until(&place, STORE_READY);
    place_close(&place);
    sqlite3 *other = place_connect(&place);
    cr_assert_eq(sqlite3_exec(other, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    place_open_until(&place, STORE_UNAVAILABLE);
    expect_nothing_works(STORE_FAULT_LOCKED);
    sqlite3_close(other);
    expect_all_works();
}

Test(store_failures, while_another_writes_reads_are_answered)
{
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    sqlite3 *other = place_connect(&place);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    place_put(&place, "lost", "body");
    cr_assert(place_await_state(&place, STORE_READ_ONLY));
    cr_assert_eq(fault(), STORE_FAULT_LOCKED);
    cr_assert(place_has(&place, "key"));
    uint64_t dropped = place_count(&place.counters->puts_dropped);
    cr_assert_geq(dropped, 1);
    place_put(&place, "lost too", "body");
    cr_assert_eq(place_count(&place.counters->puts_dropped), dropped + 1);
    sqlite3_close(other);
    expect_all_works();
    cr_assert_not(place_has(&place, "lost"));
}

/* The largest file that this process can write, as a disk that is full. */
static void limit_file_bytes(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

Test(store_failures, a_file_that_may_not_grow_does_not_end_the_process)
{
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    limit_file_bytes(1 << 20);
    cache_tier_put(place.store, place_large("too large", 2 << 20));
    cr_assert(place_await(&place, &place.counters->puts_dropped, 1));
    /* Versions of SQLite differ in whether they hand on that EFBIG was the reason. */
    cr_assert_eq(place_count(&place.counters->errors[STORE_FAULT_IO]) +
                     place_count(&place.counters->errors[STORE_FAULT_FULL]),
                 1);
    limit_file_bytes(0);
    expect_all_works();
    cr_assert(place_has(&place, "key"));
    place_put_now(&place, place_large("too large", 2 << 20));
    cr_assert(place_has(&place, "too large"));
}

Test(store_failures, a_full_disk_is_read_from_until_there_is_room)
{
    faulty_disk_install();
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    faulty_disk_write = SQLITE_FULL;
    place_put(&place, "lost", "body");
    cr_assert(place_await_state(&place, STORE_READ_ONLY));
    cr_assert_eq(fault(), STORE_FAULT_FULL);
    cr_assert_eq(place_count(&place.counters->puts_dropped), 1);
    cr_assert(place_has(&place, "key"));
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_KEY, "key", ""), -1);
    cr_assert_not(place_has(&place, "key"));
    cr_assert(place_await(&place, &place.counters->errors[STORE_FAULT_FULL], 3), "it tries now and then");
    cr_assert_eq(atomic_load(&place.counters->state), STORE_READ_ONLY);
    faulty_disk_write = SQLITE_OK;
    expect_all_works();
    cr_assert_not(place_has(&place, "key"));
    cr_assert_eq(place_count(&place.counters->opens), 1);
    cr_assert_eq(place_count(&place.counters->records), 1);
}

Test(store_failures, a_disk_that_cannot_be_written_is_done_without_until_it_can)
{
    faulty_disk_install();
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    faulty_disk_write = SQLITE_IOERR_WRITE;
    place_put(&place, "lost", "body");
    cr_assert(place_await_state(&place, STORE_UNAVAILABLE));
    expect_nothing_works(STORE_FAULT_IO);
    faulty_disk_write = SQLITE_OK;
    expect_all_works();
    cr_assert_not(place_has(&place, "key"), "it was purged meanwhile");
}

Test(store_failures, a_disk_that_cannot_be_read_is_noticed_by_a_get)
{
    faulty_disk_install();
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_large("key", 100000));
    place_close(&place);
    place_open_until(&place, STORE_READY);
    faulty_disk_read = SQLITE_IOERR_READ;
    struct cache_tier_record *record;
    cr_assert_eq(place_get_at(&place, "key", PLACE_NOW_MS, &record), CACHE_TIER_UNAVAILABLE);
    cr_assert_eq(place_count(&place.counters->gets_failed), 1);
    cr_assert(place_await_state(&place, STORE_UNAVAILABLE));
    expect_nothing_works(STORE_FAULT_IO);
    faulty_disk_read = SQLITE_OK;
    expect_all_works();
}

Test(store_failures, a_file_deleted_while_it_runs_is_made_anew)
{
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    cr_assert_eq(unlink(place.path), 0);
    cr_assert(place_await(&place, &place.counters->opens, 2));
    expect_all_works();
    cr_assert_not(place_has(&place, "key"));
    cr_assert_gt(place_file_bytes(&place, ""), 0);
    cr_assert_eq(place_count(&place.counters->errors[STORE_FAULT_MISSING]), 1);
}

Test(store_failures, a_file_deleted_with_its_folder_is_made_anew_when_the_folder_is_back)
{
    place_open_until(&place, STORE_READY);
    place_put_now(&place, place_record("key", "body"));
    char aside[2 * PLACE_PATH_BYTES];
    snprintf(aside, sizeof(aside), "%s-aside", place.folder);
    cr_assert_eq(rename(place.folder, aside), 0);
    cr_assert(place_await_state(&place, STORE_UNAVAILABLE));
    expect_nothing_works(STORE_FAULT_MISSING);
    cr_assert_eq(rename(aside, place.folder), 0);
    expect_all_works();
}

/* ---- queues ---- */

static unsigned answers;

static void on_done(struct ring *ring, struct cache_tier_get *get)
{
    (void)ring;
    free(get->record);
    answers++;
}

Test(store_failures, full_queues_drop_puts_and_refuse_gets)
{
    enum { GETS = 64 };
    place.options.queue_writes_max = 10;
    place.options.queue_reads_max = 4;
    place.options.lock_timeout_ms = 300;
    place_open_until(&place, STORE_READY);
    sqlite3 *other = place_connect(&place);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    for (int i = 0; i < 30; i++) {
        place_put(&place, "key", "body");
    }
    cr_assert_geq(place_count(&place.counters->puts_dropped), 10, "ten in hand, ten in the queue");
    cr_assert_leq(place_count(&place.counters->queued_writes), 10);
    sqlite3_close(other);
    place_purge(&place, CACHE_TIER_PURGE_KEY, "none", ""); /* comes to its turn after all puts */
    expect_all_works();

    static struct cache_tier_get gets[GETS];
    unsigned taken = 0;
    for (unsigned i = 0; i < GETS; i++) {
        gets[i] = (struct cache_tier_get){.key = BYTES("key"), .now_ms = PLACE_NOW_MS, .on_done = on_done};
        enum result result = cache_tier_get(place.store, 0, &gets[i]);
        cr_assert(result == RESULT_OK || result == RESULT_LIMIT);
        taken += result == RESULT_OK;
    }
    cr_assert_eq(place_count(&place.counters->gets_busy), GETS - taken);
    cr_assert(loop_until_count(place.ring, &answers, taken));
}

Test(store_failures, bytes_that_wait_are_bounded)
{
    place.options.queue_bytes_max = 100000;
    place_open_until(&place, STORE_READY);
    cache_tier_put(place.store, place_large("key", 100000));
    cr_assert_eq(place_count(&place.counters->puts_dropped), 1);
    cache_tier_put(place.store, place_large("key", 90000));
    cr_assert(place_await(&place, &place.counters->puts, 1));
}

Test(store_failures, closing_writes_what_is_queued_and_answers_what_waits)
{
    place_open_until(&place, STORE_READY);
    for (int i = 0; i < 2000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%d", i);
        place_put(&place, key, "body");
    }
    struct cache_tier_get get = {.key = BYTES("key"), .now_ms = PLACE_NOW_MS, .on_done = on_done};
    struct cache_tier_purge purge = {.kind = CACHE_TIER_PURGE_KEY, .text = BYTES("7")};
    cr_assert_eq(cache_tier_get(place.store, 0, &get), RESULT_OK);
    cache_tier_purge(place.store, 0, &purge);
    place_close(&place);
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM cache_entry"), 1999);
    cr_assert_eq(place_file_bytes(&place, "-wal"), -1, "all is in the one file");
}

Test(store_failures, closing_at_once_or_without_a_database_does_not_hang)
{
    place_open(&place);
    place_put(&place, "key", "body");
    place_close(&place);
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM cache_entry"), 1);
    place.options.path = "/proc/none/cache.db";
    place_open(&place);
    struct cache_tier_purge purge = {.kind = CACHE_TIER_PURGE_ALL};
    place_put(&place, "key", "body");
    cache_tier_purge(place.store, 0, &purge);
    place_close(&place);
}

#include "cache/entry.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static struct chunk_pool pool;
static struct entry entry;

struct noting_filler {
    struct entry_filler filler;
    unsigned drained;
    unsigned abandoned;
};

static void on_drained(struct entry_filler *filler)
{
    CONTAINER_OF(filler, struct noting_filler, filler)->drained++;
}

static void on_abandoned(struct entry_filler *filler)
{
    CONTAINER_OF(filler, struct noting_filler, filler)->abandoned++;
}

static struct noting_filler filler = {{on_drained, on_abandoned}, 0, 0};

struct noting_reader {
    struct entry_reader reader;
    unsigned told;
    struct entry_reader *makes_leave; /* from inside on_progress */
    bool ends_entry;
    size_t used;
    char got[300000];
};

static void read_all(struct noting_reader *reader, size_t piece_max)
{
    for (;;) {
        struct hold *hold = NULL;
        struct bytes run = entry_reader_peek(&reader->reader, &hold);
        if (run.len == 0) {
            return;
        }
        struct chunk *chunk = CONTAINER_OF(hold, struct chunk, hold);
        cr_assert(run.ptr >= chunk->data && run.ptr + run.len <= chunk->data + chunk_capacity(chunk));
        size_t piece = run.len < piece_max ? run.len : piece_max;
        memcpy(reader->got + reader->used, run.ptr, piece);
        reader->used += piece;
        entry_reader_pass(&reader->reader, piece);
    }
}

static void on_progress(struct entry_reader *reader)
{
    struct noting_reader *noting = CONTAINER_OF(reader, struct noting_reader, reader);
    noting->told++;
    if (noting->makes_leave != NULL) {
        entry_reader_leave(noting->makes_leave);
    }
    if (noting->ends_entry) {
        entry_fini(&entry);
        memset(&entry, 0xee, sizeof(entry));
    }
}

static struct noting_reader readers[3];

static void begin(bool is_private, uint64_t window)
{
    chunk_pool_init(&pool, 0);
    entry_init(&entry, &pool, &filler.filler, window, is_private);
}

static void end(void)
{
    entry_fini(&entry);
    cr_assert_eq(pool.used_bytes, 0, "every chunk is back");
    chunk_pool_fini(&pool);
}

static char *pattern(size_t bytes)
{
    char *made = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) {
        made[i] = (char)(i * 7 + (i >> 9));
    }
    return made;
}

Test(entry, readers_see_what_is_there_and_then_what_lands)
{
    enum { BYTES_TOTAL = 250000 };
    char *body = pattern(BYTES_TOTAL);
    static const size_t pieces[] = {1, 5, 4096, 100, 16384, 40000, 3};
    for (int is_private = 0; is_private < 2; is_private++) {
        begin(is_private, 1 << 30);
        memset(readers, 0, sizeof(readers));
        size_t at = 0;
        unsigned count = is_private ? 1 : 3;
        entry_reader_join(&readers[0].reader, &entry, on_progress);
        for (unsigned step = 0; at < BYTES_TOTAL; step++) {
            size_t piece = pieces[step % ARRAY_COUNT(pieces)];
            piece = piece < BYTES_TOTAL - at ? piece : BYTES_TOTAL - at;
            cr_assert_eq(entry_append(&entry, (struct bytes){body + at, piece}), RESULT_OK);
            at += piece;
            if (step == 4 && !is_private) {
                entry_reader_join(&readers[1].reader, &entry, on_progress);
            }
            read_all(&readers[0], step % 2 == 0 ? 1000 : SIZE_MAX);
            cr_assert(entry_reader_is_level(&readers[0].reader));
            if (is_private) {
                cr_assert_leq(pool.used_bytes, CHUNK_SMALL_BYTES + CHUNK_LARGE_BYTES, "what was passed has gone");
            }
        }
        entry_complete(&entry, NULL, 0);
        if (!is_private) {
            entry_reader_join(&readers[2].reader, &entry, on_progress);
        }
        for (unsigned i = 0; i < count; i++) {
            read_all(&readers[i], 777);
            cr_assert_eq(readers[i].used, BYTES_TOTAL);
            cr_assert_eq(memcmp(readers[i].got, body, BYTES_TOTAL), 0);
            entry_reader_leave(&readers[i].reader);
            entry_reader_leave(&readers[i].reader);
        }
        cr_assert_eq(filler.abandoned, 0, "an entry that has ended is not abandoned");
        end();
    }
    free(body);
}

Test(entry, the_head_shares_the_first_chunk_and_outlives_the_body_behind_it)
{
    begin(true, 1 << 30);
    char *at;
    cr_assert_eq(entry_room_for_head(&entry, 100, &at), RESULT_OK);
    memcpy(at, "A: b\r\n", 6);
    entry_reader_join(&readers[0].reader, &entry, on_progress);
    struct hold *hold;
    entry_commit_head(&entry, 200, 6);
    cr_assert_eq(entry_reader_peek(&readers[0].reader, &hold).len, 0, "the head is no body");
    char *body = pattern(100000);
    cr_assert_eq(entry_append(&entry, (struct bytes){body, 100000}), RESULT_OK);
    cr_assert_eq(entry.body_bytes, 100000);
    read_all(&readers[0], SIZE_MAX);
    cr_assert_eq(readers[0].used, 100000);
    cr_assert_eq(memcmp(readers[0].got, body, 100000), 0);
    cr_assert_eq(memcmp(entry.head->data, "A: b\r\n", entry.head_bytes), 0);
    entry_reader_leave(&readers[0].reader);
    free(body);
    end();
}

Test(entry, a_head_as_large_as_a_chunk_fits)
{
    for (size_t bytes = 1; bytes <= CHUNK_LARGE_BYTES - sizeof(struct chunk); bytes += 500) {
        begin(true, 1 << 30);
        char *at;
        cr_assert_eq(entry_room_for_head(&entry, bytes, &at), RESULT_OK);
        memset(at, 'h', bytes);
        entry_commit_head(&entry, 200, bytes);
        cr_assert_eq(entry_append(&entry, BYTES("body")), RESULT_OK);
        entry_reader_join(&readers[0].reader, &entry, on_progress);
        readers[0].used = 0;
        read_all(&readers[0], SIZE_MAX);
        cr_assert_eq(memcmp(readers[0].got, "body", 4), 0);
        entry_reader_leave(&readers[0].reader);
        end();
    }
}

Test(entry, readers_are_told_once_for_all_that_came)
{
    begin(false, 1 << 30);
    entry_reader_join(&readers[0].reader, &entry, on_progress);
    entry_reader_join(&readers[1].reader, &entry, on_progress);
    entry_tell(&entry);
    cr_assert_eq(readers[0].told, 0);
    cr_assert_eq(entry_append(&entry, BYTES("a")), RESULT_OK);
    cr_assert_eq(entry_append(&entry, BYTES("b")), RESULT_OK);
    entry_fail(&entry, RESULT_TIMEOUT);
    entry_tell(&entry);
    entry_tell(&entry);
    cr_assert(readers[0].told == 1 && readers[1].told == 1);
    cr_assert(entry.state == ENTRY_FAILED && entry.failure == RESULT_TIMEOUT);
    entry_reader_leave(&readers[0].reader);
    entry_reader_leave(&readers[1].reader);
    end();
}

Test(entry, readers_may_leave_each_other_while_they_are_told)
{
    for (unsigned victim = 0; victim < 3; victim++) {
        for (unsigned by = 0; by < 3; by++) {
            begin(false, 1 << 30);
            memset(readers, 0, sizeof(readers));
            for (unsigned i = 0; i < 3; i++) {
                entry_reader_join(&readers[i].reader, &entry, on_progress);
            }
            readers[by].makes_leave = &readers[victim].reader;
            cr_assert_eq(entry_append(&entry, BYTES("a")), RESULT_OK);
            entry_tell(&entry);
            for (unsigned i = 0; i < 3; i++) {
                bool left_before_its_turn = i == victim && victim > by;
                cr_assert_eq(readers[i].told, !left_before_its_turn, "victim %u by %u reader %u", victim, by, i);
                readers[i].makes_leave = NULL;
                entry_reader_leave(&readers[i].reader);
            }
            end();
        }
    }
}

Test(entry, the_entry_may_end_while_its_last_reader_is_told)
{
    begin(true, 1 << 30);
    memset(readers, 0, sizeof(readers));
    entry_reader_join(&readers[0].reader, &entry, on_progress);
    cr_assert_eq(entry_append(&entry, BYTES("a")), RESULT_OK);
    entry_complete(&entry, NULL, 0);
    readers[0].makes_leave = &readers[0].reader;
    readers[0].ends_entry = true;
    entry_tell(&entry);
    cr_assert_eq(readers[0].told, 1);
    cr_assert_eq(entry.uses, 0xeeeeeeee, "nothing was written to it afterwards");
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
}

Test(entry, a_full_window_is_told_when_half_of_it_has_been_passed)
{
    begin(true, 1000);
    entry_reader_join(&readers[0].reader, &entry, on_progress);
    char *body = pattern(1000);
    cr_assert_eq(entry_append(&entry, (struct bytes){body, 999}), RESULT_OK);
    cr_assert_not(entry_is_full(&entry));
    entry_reader_pass(&readers[0].reader, 0);
    cr_assert_eq(entry_append(&entry, (struct bytes){body, 1}), RESULT_OK);
    cr_assert(entry_is_full(&entry));
    struct hold *hold;
    cr_assert_eq(entry_reader_peek(&readers[0].reader, &hold).len, 1000);
    entry_reader_pass(&readers[0].reader, 499);
    cr_assert_eq(filler.drained, 0);
    entry_reader_pass(&readers[0].reader, 1);
    cr_assert_eq(filler.drained, 1);
    entry_reader_pass(&readers[0].reader, 500);
    cr_assert_eq(filler.drained, 1, "told once");
    entry_reader_leave(&readers[0].reader);
    cr_assert_eq(filler.abandoned, 1);
    free(body);
    end();
}

Test(entry, a_slow_reader_that_leaves_frees_the_window_for_the_others)
{
    begin(false, 1000);
    char *body = pattern(1000);
    entry_reader_join(&readers[0].reader, &entry, on_progress);
    entry_reader_join(&readers[1].reader, &entry, on_progress);
    entry_make_private(&entry); /* until then it keeps everything, and is never full */
    cr_assert_eq(entry_append(&entry, (struct bytes){body, 1000}), RESULT_OK);
    cr_assert(entry_is_full(&entry));
    read_all(&readers[0], SIZE_MAX);
    cr_assert_eq(filler.drained, 0, "the slowest counts");
    entry_reader_leave(&readers[1].reader);
    cr_assert_eq(filler.drained, 1, "or the filler would wait for ever");
    cr_assert_eq(filler.abandoned, 0);
    entry_reader_leave(&readers[0].reader);
    cr_assert_eq(filler.abandoned, 1);
    free(body);
    end();
}

Test(entry, trailers_are_its_own_from_the_end_on)
{
    begin(true, 1000);
    entry_complete(&entry, strdup("A: b\r\n"), 6);
    cr_assert(entry.trailer_bytes == 6 && entry.state == ENTRY_COMPLETE);
    end();
}

Test(entry, an_append_that_runs_out_of_chunks_says_so_and_keeps_what_was_there)
{
    chunk_pool_init(&pool, CHUNK_REGION_BYTES);
    entry_init(&entry, &pool, &filler.filler, 1 << 30, true);
    char *body = pattern(CHUNK_REGION_BYTES);
    cr_assert_eq(entry_append(&entry, (struct bytes){body, 4000}), RESULT_OK);
    cr_assert_eq(entry_append(&entry, (struct bytes){body + 4000, 5000}), RESULT_NO_MEMORY, "large ones need a region");
    cr_assert_leq(entry.body_bytes, 9000);
    entry_reader_join(&readers[0].reader, &entry, on_progress);
    read_all(&readers[0], SIZE_MAX);
    cr_assert_eq(readers[0].used, entry.body_bytes);
    cr_assert_eq(memcmp(readers[0].got, body, readers[0].used), 0);
    entry_fail(&entry, RESULT_NO_MEMORY);
    entry_reader_leave(&readers[0].reader);
    free(body);
    end();
}

/* The outbox against a plain string: whatever is added, in whatever pieces it leaves, the bytes are the same. */
#include "proxy/outbox.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proxy/forward.h"

static struct chunk_pool pool;
static uint64_t random_state;

static size_t random_below(size_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(random_state >> 33) % bound;
}

/* What a socket would have been given, of at most `bytes` bytes, in one vector send. */
static size_t take(const struct outbox *outbox, char *into, size_t bytes)
{
    size_t taken = 0;
    for (unsigned i = outbox->first; i < outbox->count && taken < bytes; i++) {
        size_t part = outbox->spans[i].bytes < bytes - taken ? outbox->spans[i].bytes : bytes - taken;
        memcpy(into + taken, outbox->spans[i].ptr, part);
        taken += part;
    }
    return taken;
}

Test(outbox, every_partial_send_keeps_the_sequence)
{
    chunk_pool_init(&pool, 0);
    struct chunk *chunk = chunk_acquire(&pool, CHUNK_LARGE);
    memset(chunk->data, 'p', 6000);
    static char fixed[5000];
    memset(fixed, 'f', sizeof(fixed));
    char wanted[20000];
    size_t total = 0;
    for (size_t cut = 0;; cut += cut < 64 ? 1 : 37) {
        struct outbox *outbox = outbox_acquire(&pool);
        cr_assert_eq(outbox_copy(outbox, BYTES("head")), RESULT_OK);
        cr_assert_eq(outbox_pin(outbox, (struct bytes){chunk->data, 6000}, &chunk->hold), RESULT_OK);
        cr_assert_eq(outbox_copy(outbox, BYTES("\r\n")), RESULT_OK);
        cr_assert_eq(outbox_pin(outbox, (struct bytes){fixed, sizeof(fixed)}, NULL), RESULT_OK);
        cr_assert_eq(outbox_copy(outbox, BYTES("tail")), RESULT_OK);
        cr_assert_eq(chunk->hold.uses, 2);
        total = outbox->pending_bytes;
        cr_assert_eq(total, 4 + 6000 + 2 + 5000 + 4);
        cr_assert_eq(take(outbox, wanted, sizeof(wanted)), total);
        if (cut > total) {
            outbox_release(outbox);
            break;
        }
        char got[20000];
        take(outbox, got, cut);
        outbox_sent(outbox, cut);
        cr_assert_eq(outbox->pending_bytes, total - cut);
        cr_assert_eq(chunk->hold.uses, cut < 6004 ? 2 : 1, "the pin goes with its last byte");
        cr_assert_eq(take(outbox, got + cut, sizeof(got) - cut), total - cut);
        cr_assert_eq(memcmp(got, wanted, total), 0, "cut at %zu", cut);
        outbox_release(outbox);
        cr_assert_eq(chunk->hold.uses, 1);
    }
    chunk_unref(chunk);
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
}

Test(outbox, copies_that_follow_each_other_are_one_span)
{
    chunk_pool_init(&pool, 0);
    struct outbox *outbox = outbox_acquire(&pool);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(outbox_copy(outbox, BYTES("0123456789")), RESULT_OK);
    }
    cr_assert_eq(outbox->count, 1);
    outbox_sent(outbox, 1000);
    cr_assert_eq(chunk_used(outbox->home), sizeof(*outbox), "empty, it begins anew");
    outbox_release(outbox);
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
}

Test(outbox, what_no_chunk_holds_is_reserved_and_sent_in_its_place)
{
    chunk_pool_init(&pool, 0);
    static char got[40000];
    struct outbox *outbox = outbox_acquire(&pool);
    char *at = outbox_reserve(outbox, 20000);
    cr_assert_not_null(at);
    memset(at, 'l', 20000);
    cr_assert_eq(outbox_commit(outbox, 19000), RESULT_OK);
    cr_assert_eq(outbox_copy(outbox, BYTES("tail")), RESULT_OK);
    cr_assert_eq(take(outbox, got, sizeof(got)), 19004);
    for (size_t i = 0; i < 19000; i++) {
        cr_assert_eq(got[i], 'l', "at %zu", i);
    }
    cr_assert_arr_eq(got + 19000, "tail", 4);
    cr_assert_not_null(outbox_reserve(outbox, CHUNK_LARGE_BYTES), "one that is never committed goes with the outbox");
    outbox_release(outbox);
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
}

Test(outbox, is_full_in_spans_before_it_is_full_in_bytes_and_says_so)
{
    chunk_pool_init(&pool, 0);
    struct outbox *outbox = outbox_acquire(&pool);
    char byte = 'x';
    while (outbox_has_room(outbox)) {
        cr_assert_eq(outbox_pin(outbox, (struct bytes){&byte, 1}, NULL), RESULT_OK);
    }
    /* What an answer still needs then: framing, an error event, the last chunk with trailers. */
    cr_assert_eq(forward_add_body(outbox, (struct bytes){(char[5000]){0}, 5000}, NULL, true), RESULT_OK);
    cr_assert_eq(forward_add_body_end(outbox, BYTES("A: b\r\n")), RESULT_OK);
    while (outbox->count < OUTBOX_SPANS_MAX) {
        cr_assert_eq(outbox_pin(outbox, (struct bytes){&byte, 1}, NULL), RESULT_OK);
    }
    cr_assert_eq(outbox_pin(outbox, (struct bytes){&byte, 1}, NULL), RESULT_LIMIT);
    outbox_release(outbox);
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
}

Test(outbox, running_out_of_chunks_is_an_answer_and_leaks_nothing)
{
    chunk_pool_init(&pool, CHUNK_REGION_BYTES);
    struct outbox *outbox = outbox_acquire(&pool);
    static char run[6000];
    enum result result = RESULT_OK;
    for (int i = 0; i < 3 && result == RESULT_OK; i++) {
        result = outbox_copy(outbox, (struct bytes){run, sizeof(run)});
    }
    cr_assert_eq(result, RESULT_NO_MEMORY);
    cr_assert_null(outbox_reserve(outbox, CHUNK_LARGE_BYTES / 2));
    outbox_release(outbox);
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
    chunk_pool_init(&pool, 1);
    cr_assert_null(outbox_acquire(&pool));
}

/* ---- random histories ---- */

enum { MODEL_BYTES_MAX = 1 << 20 };

struct model {
    struct outbox *outbox;
    struct chunk *chunks[8];
    char *wanted; /* all that was added */
    char *got;    /* all that has left */
    size_t added;
    size_t left;
};

static void model_add(struct model *model, size_t most)
{
    static char run[40000];
    size_t bytes = 1 + random_below(most);
    for (size_t i = 0; i < bytes; i++) {
        run[i] = (char)random_below(256);
    }
    enum result result;
    struct chunk *chunk = model->chunks[random_below(ARRAY_COUNT(model->chunks))];
    uint32_t used = chunk_used(chunk);
    size_t what = random_below(4);
    if (what == 0 && chunk_capacity(chunk) - used >= bytes) {
        memcpy(chunk->data + used, run, bytes);
        atomic_store(&chunk->used_bytes, used + (uint32_t)bytes);
        result = outbox_add(model->outbox, (struct bytes){chunk->data + used, bytes}, &chunk->hold);
    } else if (what == 1 && bytes < 16000) {
        char *at = outbox_reserve(model->outbox, bytes + 100);
        cr_assert_not_null(at);
        memcpy(at, run, bytes);
        result = outbox_commit(model->outbox, bytes);
    } else {
        result = outbox_copy(model->outbox, (struct bytes){run, bytes});
    }
    cr_assert_eq(result, RESULT_OK);
    memcpy(model->wanted + model->added, run, bytes);
    model->added += bytes;
    cr_assert_eq(model->outbox->pending_bytes, model->added - model->left);
}

/* A send that is in flight while more is added: its vector was made before. */
static void model_send(struct model *model)
{
    size_t in_flight = model->outbox->pending_bytes;
    char *flying = malloc(in_flight + 1);
    cr_assert_eq(take(model->outbox, flying, in_flight), in_flight);
    while (outbox_has_room(model->outbox) && random_below(3) != 0) {
        model_add(model, 5000);
    }
    size_t went = random_below(4) == 0 ? random_below(in_flight + 1) : in_flight;
    memcpy(model->got + model->left, flying, went);
    model->left += went;
    outbox_sent(model->outbox, went);
    free(flying);
}

Test(outbox, agrees_with_a_plain_string_over_random_histories)
{
    for (unsigned seed = 1; seed <= 60; seed++) {
        random_state = seed;
        chunk_pool_init(&pool, 0);
        struct model model = {
            .outbox = outbox_acquire(&pool), .wanted = malloc(MODEL_BYTES_MAX), .got = malloc(MODEL_BYTES_MAX)};
        for (size_t i = 0; i < ARRAY_COUNT(model.chunks); i++) {
            model.chunks[i] = chunk_acquire(&pool, i % 2 == 0 ? CHUNK_SMALL : CHUNK_LARGE);
        }
        while (model.added < MODEL_BYTES_MAX - 200000) {
            while (outbox_has_room(model.outbox) && random_below(8) != 0) {
                model_add(&model, random_below(10) == 0 ? 30000 : 1 + random_below(3000));
            }
            model_send(&model);
        }
        while (model.outbox->pending_bytes > 0) {
            model_send(&model);
        }
        cr_assert_eq(model.left, model.added);
        cr_assert_eq(memcmp(model.got, model.wanted, model.added), 0, "seed %u", seed);
        for (size_t i = 0; i < ARRAY_COUNT(model.chunks); i++) {
            cr_assert_eq(model.chunks[i]->hold.uses, 1, "seed %u: a pin was kept or given back twice", seed);
            chunk_unref(model.chunks[i]);
        }
        outbox_release(model.outbox);
        cr_assert_eq(pool.used_bytes, 0);
        chunk_pool_fini(&pool);
        free(model.wanted);
        free(model.got);
    }
}

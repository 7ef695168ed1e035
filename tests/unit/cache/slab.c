#include "cache/slab.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

Test(slab, a_piece_has_room_for_what_was_asked_and_starts_empty)
{
    struct slab slab;
    slab_init(&slab, 4 << 20);
    cr_assert_eq(slab.mapped_bytes, 0);
    for (size_t bytes = 0; bytes <= SLAB_PIECE_BYTES_MAX; bytes += 61) {
        struct chunk *piece = slab_alloc(&slab, bytes, bytes);
        cr_assert_not_null(piece);
        cr_assert_geq(chunk_capacity(piece), bytes);
        cr_assert_lt(chunk_capacity(piece), bytes + SLAB_UNIT_BYTES);
        cr_assert_eq(chunk_used(piece), 0);
        cr_assert_null(atomic_load(&piece->next));
        cr_assert_null(piece->pool);
        cr_assert_eq((uintptr_t)piece->data % 16, 0);
        memset(piece->data, 1, chunk_capacity(piece));
        cr_assert_eq(slab.charged_bytes, piece->bytes + slab_region_cost_bytes());
        slab_free(&slab, piece);
    }
    cr_assert_eq(slab.mapped_bytes, SLAB_REGION_BYTES);
    slab_fini(&slab);
}

Test(slab, gives_the_longest_run_there_is_when_what_is_wanted_is_not_there)
{
    struct slab slab;
    slab_init(&slab, SLAB_REGION_BYTES + slab_region_cost_bytes()); /* every unit of one region */
    struct chunk *pieces[SLAB_REGION_BYTES / SLAB_UNIT_BYTES + 1];
    size_t count = 0;
    while ((pieces[count] = slab_alloc(&slab, 1, 1)) != NULL) {
        count++;
    }
    cr_assert_leq(slab.charged_bytes, slab.bytes_max);
    cr_assert_gt(slab.charged_bytes + SLAB_UNIT_BYTES, slab.bytes_max);
    for (size_t i = 100; i < 105; i++) { /* five neighbours, and one alone */
        slab_free(&slab, pieces[i]);
    }
    slab_free(&slab, pieces[200]);
    cr_assert_null(slab_alloc(&slab, 2000, 6 * SLAB_UNIT_BYTES - sizeof(struct chunk)));
    struct chunk *most = slab_alloc(&slab, SLAB_PIECE_BYTES_MAX, 100);
    cr_assert_eq(most->bytes, 5 * SLAB_UNIT_BYTES);
    cr_assert_eq(most, pieces[100]);
    struct chunk *last = slab_alloc(&slab, SLAB_PIECE_BYTES_MAX, 1);
    cr_assert_eq(last, pieces[200]);
    cr_assert_null(slab_alloc(&slab, 1, 1));
    slab_fini(&slab);
}

Test(slab, takes_the_shortest_run_that_is_long_enough)
{
    struct slab slab;
    slab_init(&slab, 2 * SLAB_REGION_BYTES);
    enum { COUNT = 64 };
    struct chunk *pieces[COUNT]; /* the units of a page */
    for (size_t i = 0; i < COUNT; i++) {
        pieces[i] = slab_alloc(&slab, 1, 1);
    }
    static const unsigned freed[] = {4, 5, 6, 7, 8, 20, 21, 22, 40, 41};
    for (size_t i = 0; i < ARRAY_COUNT(freed); i++) {
        slab_free(&slab, pieces[freed[i]]);
    }
    cr_assert_eq(slab_alloc(&slab, 512 - 32, 512 - 32), pieces[40]);
    cr_assert_eq(slab_alloc(&slab, 512 - 32, 512 - 32), pieces[20]);
    cr_assert_eq(slab_alloc(&slab, 512 - 32, 512 - 32), pieces[4]);
    cr_assert_eq(slab_alloc(&slab, 768 - 32, 768 - 32), pieces[6]);
    slab_fini(&slab);
}

Test(slab, gives_empty_regions_back_but_for_one)
{
    struct slab slab;
    slab_init(&slab, 8 * SLAB_REGION_BYTES);
    struct chunk *first = NULL;
    for (struct chunk *piece; (piece = slab_alloc(&slab, SLAB_PIECE_BYTES_MAX, SLAB_PIECE_BYTES_MAX)) != NULL;) {
        atomic_store(&piece->next, first);
        memset(piece->data, 7, chunk_capacity(piece));
        first = piece;
    }
    cr_assert_eq(slab.mapped_bytes, 8 * SLAB_REGION_BYTES);
    cr_assert_not(slab_trim(&slab, 100), "none is empty");
    cr_assert_eq(slab.mapped_bytes, 8 * SLAB_REGION_BYTES);
    while (first != NULL) {
        struct chunk *next = atomic_load(&first->next);
        slab_free(&slab, first);
        first = next;
    }
    cr_assert_eq(slab.charged_bytes, 8 * slab_region_cost_bytes());
    cr_assert(slab_trim(&slab, 3));
    cr_assert_eq(slab.mapped_bytes, 5 * SLAB_REGION_BYTES);
    cr_assert_not(slab_trim(&slab, 100));
    cr_assert_eq(slab.mapped_bytes, SLAB_REGION_BYTES);
    cr_assert_eq(slab.charged_bytes, slab_region_cost_bytes());
    for (unsigned i = 0; i < 4 * 64; i++) {
        struct chunk *piece = slab_alloc(&slab, SLAB_PIECE_BYTES_MAX, SLAB_PIECE_BYTES_MAX);
        cr_assert_not_null(piece, "and takes them again");
        memset(piece->data, 8, chunk_capacity(piece));
    }
    slab_fini(&slab);
}

/* ---- against a model: every byte of every piece carries the piece's number */

enum { MODEL_PIECES = 3000 };

struct model {
    struct slab slab;
    struct chunk *pieces[MODEL_PIECES];
    size_t charged_bytes; /* of pieces */
    size_t count;
    uint64_t seed;
};

static void model_fill(struct chunk *piece, size_t number)
{
    memset(piece->data, (int)(number * 37 % 251), chunk_capacity(piece));
}

static void model_verify(const struct chunk *piece, size_t number)
{
    for (size_t i = 0; i < chunk_capacity(piece); i++) {
        cr_assert_eq((unsigned char)piece->data[i], number * 37 % 251, "piece %zu overlaps another", number);
    }
}

static void model_free(struct model *model, size_t at)
{
    model_verify(model->pieces[at], at);
    model->charged_bytes -= model->pieces[at]->bytes;
    slab_free(&model->slab, model->pieces[at]);
    model->pieces[at] = NULL;
    model->count--;
}

/* Two thirds are small; some take less than they want. */
static void model_alloc(struct model *model, size_t at)
{
    size_t most = random_next(&model->seed) % 3 == 0 ? SLAB_PIECE_BYTES_MAX : 1500;
    size_t wanted = random_next(&model->seed) % (most + 1);
    size_t least = random_next(&model->seed) % 2 == 0 ? wanted : wanted / 4;
    struct chunk *piece = slab_alloc(&model->slab, wanted, least);
    if (piece == NULL) {
        return;
    }
    cr_assert_geq(chunk_capacity(piece), least);
    cr_assert_lt(chunk_capacity(piece), wanted + SLAB_UNIT_BYTES);
    cr_assert_null(atomic_load(&piece->next));
    model->pieces[at] = piece;
    model->charged_bytes += piece->bytes;
    model->count++;
    model_fill(piece, at);
}

static void model_run(uint64_t seed, size_t bytes_max, unsigned steps)
{
    struct model *model = calloc(1, sizeof(*model));
    model->seed = seed;
    slab_init(&model->slab, bytes_max);
    for (unsigned step = 0; step < steps; step++) {
        size_t at = random_next(&model->seed) % MODEL_PIECES;
        if (model->pieces[at] != NULL) {
            model_free(model, at);
        } else {
            model_alloc(model, at);
        }
        if (step % 1000 == 0) {
            slab_trim(&model->slab, 2);
        }
        size_t records = model->slab.mapped_bytes / SLAB_REGION_BYTES * slab_region_cost_bytes();
        cr_assert_eq(model->slab.charged_bytes, model->charged_bytes + records);
        cr_assert_leq(model->slab.charged_bytes, bytes_max);
        cr_assert_leq(model->slab.mapped_bytes, bytes_max + bytes_max / 8 + 2 * SLAB_REGION_BYTES);
    }
    cr_assert_gt(model->count, 10);
    for (size_t at = 0; at < MODEL_PIECES; at++) {
        if (model->pieces[at] != NULL) {
            model_free(model, at);
        }
    }
    cr_assert_eq(model->charged_bytes, 0);
    slab_fini(&model->slab);
    free(model);
}

Test(slab, pieces_never_overlap_and_the_budget_is_never_exceeded)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        model_run(seed * 0x9e3779b97f4a7c15u, 3 << 20, 20000);  /* always full */
        model_run(seed * 0x9e3779b97f4a7c15u, 64 << 20, 10000); /* never */
    }
    model_run(77, 300000, 20000); /* less than a region */
}

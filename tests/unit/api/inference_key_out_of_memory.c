/* Keys once more, over an allocator whose nth call fails: 1, 2, 3 … until one is made. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;
static unsigned blocks_held;

static void *failing_realloc(void *old, size_t bytes)
{
    if (--calls_until_failure == 0) {
        return NULL;
    }
    blocks_held += old == NULL;
    return realloc(old, bytes);
}

static void *failing_malloc(size_t bytes)
{
    return failing_realloc(NULL, bytes);
}

static void counting_free(void *block)
{
    blocks_held -= block != NULL;
    free(block);
}

#define malloc              failing_malloc
#define realloc             failing_realloc
#define free                counting_free
#define json_buffer_init    nth_key_buffer_init
#define json_buffer_fini    nth_key_buffer_fini
#define json_buffer_room    nth_key_buffer_room
#define json_buffer_put     nth_key_buffer_put
#define json_buffer_put_u64 nth_key_buffer_put_u64
#define json_buffer_string  nth_key_buffer_string
#define json_buffer_escaped nth_key_buffer_escaped
#define json_canonical_put  nth_json_canonical_put
#define inference_key_make  nth_inference_key_make
#define inference_key_fini  nth_inference_key_fini
#define inference_family_of nth_inference_family_of
#include "../../../src/api/json_buffer.c"
#define string_of canonical_string_of
#include "../../../src/api/json_canonical.c"
#undef string_of
#include "../../../src/api/inference_key.c"

Test(inference_key, has_none_when_memory_is_out)
{
    const struct inference_request request = {
        .tenant = BYTES("t"),
        .path = BYTES("/v1/embeddings"),
        .body = BYTES("{\"input\":[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,"
                      "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,"
                      "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,"
                      "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,"
                      "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5"
                      "]}"),
    };
    static const struct inference_key_options options = {0};
    bool made = false;
    unsigned nth = 0;
    while (!made) {
        struct inference_key key;
        cr_assert_lt(nth, 50);
        calls_until_failure = ++nth;
        inference_key_make(&request, &options, &key);
        made = key.may_store;
        cr_assert_eq(key.reason, made ? INFERENCE_OK : INFERENCE_OUT_OF_MEMORY);
        cr_assert(made == (key.key.ptr != NULL) && made == key.may_join);
        inference_key_fini(&key);
        cr_assert_eq(blocks_held, 0);
    }
    cr_assert_gt(nth, 3, "some allocations did fail");
}

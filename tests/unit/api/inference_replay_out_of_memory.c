/* Replays once more, over an allocator whose nth call fails: 1, 2, 3 … until the answer is converted. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <yyjson.h>

static unsigned calls_until_failure;
static unsigned blocks_held;

static bool fails(void)
{
    return --calls_until_failure == 0;
}

static void *failing_realloc(void *old, size_t bytes)
{
    if (fails()) {
        return NULL;
    }
    blocks_held += old == NULL;
    return realloc(old, bytes);
}

static void *failing_malloc(size_t bytes)
{
    return failing_realloc(NULL, bytes);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    void *block = failing_realloc(NULL, count * bytes);
    return block == NULL ? NULL : memset(block, 0, count * bytes);
}

static void counting_free(void *block)
{
    blocks_held -= block != NULL;
    free(block);
}

static char *failing_write(const yyjson_val *value, yyjson_write_flag flags, size_t *ret_bytes)
{
    char *text = fails() ? NULL : yyjson_val_write(value, flags, ret_bytes);
    blocks_held += text != NULL;
    return text;
}

static yyjson_doc *failing_read(char *text, size_t bytes, yyjson_read_flag flags, yyjson_read_err *error)
{
    *error = (yyjson_read_err){.code = YYJSON_READ_ERROR_MEMORY_ALLOCATION};
    return fails() ? NULL : yyjson_read_opts(text, bytes, flags, NULL, error);
}

#define malloc                                           failing_malloc
#define calloc                                           failing_calloc
#define realloc                                          failing_realloc
#define free                                             counting_free
#define yyjson_val_write                                 failing_write
#define yyjson_read_opts(text, bytes, flags, alc, error) failing_read(text, bytes, flags, error)
#define arena_init                                       nth_replay_arena_init
#define arena_reset                                      nth_replay_arena_reset
#define arena_fini                                       nth_replay_arena_fini
#define arena_alloc                                      nth_replay_arena_alloc
#define arena_copy                                       nth_replay_arena_copy
#define arena_format                                     nth_replay_arena_format
#define json_buffer_init                                 nth_replay_buffer_init
#define json_buffer_fini                                 nth_replay_buffer_fini
#define json_buffer_room                                 nth_replay_buffer_room
#define json_buffer_put                                  nth_replay_buffer_put
#define json_buffer_put_u64                              nth_replay_buffer_put_u64
#define json_buffer_string                               nth_replay_buffer_string
#define json_buffer_escaped                              nth_replay_buffer_escaped
#define inference_events_init                            nth_inference_events_init
#define inference_events_fini                            nth_inference_events_fini
#define inference_events_next                            nth_inference_events_next
#define inference_assemble                               nth_inference_assemble
#define inference_unroll                                 nth_inference_unroll
#define inference_drop_usage                             nth_inference_drop_usage
#define inference_read_object                            nth_inference_read_object
#define inference_put_value                              nth_inference_put_value
#define inference_can_serve                              nth_inference_can_serve
#define inference_replay_keeps_line                      nth_inference_replay_keeps_line
#define inference_replay_content_type                    nth_inference_replay_content_type
#define inference_convert                                nth_inference_convert
#include "../../../src/base/arena.c"

#include "../../../src/api/inference_assemble.c"
#include "../../../src/api/inference_events.c"
#include "../../../src/api/inference_replay.c"
#include "../../../src/api/inference_unroll.c"
#include "../../../src/api/json_buffer.c"

static void try_each_failure(enum inference_form form, bool wants_stream, struct bytes stored)
{
    enum result result = RESULT_NO_MEMORY;
    unsigned nth = 0;
    while (result != RESULT_OK) {
        struct bytes out = BYTES_NONE;
        cr_assert_lt(nth, 200);
        calls_until_failure = ++nth;
        result = inference_convert(INFERENCE_CHAT, form, wants_stream, false, stored, &out);
        cr_assert(result == RESULT_OK || (result == RESULT_NO_MEMORY && out.ptr == NULL), "%u: %s", nth,
                  result_name(result));
        calls_until_failure = 0;
        free((char *)(uintptr_t)out.ptr);
        cr_assert_eq(blocks_held, 0, "%u", nth);
    }
    cr_assert_gt(nth, 3, "some allocations did fail");
}

Test(inference_replay, is_a_miss_when_memory_is_out)
{
    const struct bytes stream = BYTES(
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\",\"tool_calls\":[{\"index\":0,"
        "\"function\":{\"arguments\":\"{\"}}]},\"logprobs\":{\"content\":[{\"x\":1}]}}]}\n\n"
        "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"a string that makes what is kept of it "
        "grow\"},\"logprobs\":{\"content\":[{\"x\":2}]},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
        "data: {\"choices\":[],\"usage\":{\"a\":1}}\n\ndata: [DONE]\n\n");
    const struct bytes json =
        BYTES("{\"id\":\"c\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"a\",\"tool_calls\":[{\"id\":\"a\","
              "\"function\":{}}]},\"logprobs\":{\"content\":[]},\"finish_reason\":\"stop\"}],\"x\":[1],\"usage\":{}}");
    try_each_failure(INFERENCE_FORM_STREAM_WITH_USAGE, false, stream);
    try_each_failure(INFERENCE_FORM_STREAM_WITH_USAGE, true, stream);
    try_each_failure(INFERENCE_FORM_JSON, true, json);
}

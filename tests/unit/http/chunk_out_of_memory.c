/* The reader of chunks once more, over an allocator that has nothing to give. */
#include <criterion/criterion.h>
#include <stdlib.h>

#define malloc(bytes)     ((void)(bytes), NULL)
#define http_chunked_read starved_chunked_read
#include "../../../src/http/chunk.c"

Test(http, trailers_without_memory_fail_the_body)
{
    struct http_body body = {.kind = HTTP_BODY_CHUNKED, .fault_status = 400};
    size_t used;
    cr_assert_eq(starved_chunked_read(&body, BYTES("1\r\na\r\n0\r\nX"), &used, NULL, NULL), RESULT_NO_MEMORY);
    cr_assert_not(body.done);
    http_body_fini(&body);
}

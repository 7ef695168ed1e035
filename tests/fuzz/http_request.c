/* Any bytes as a request, and its target taken apart. */
#include "http_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_target(struct bytes input)
{
    static struct http_parser parser;
    struct http_target target;
    http_parser_init(&parser, HTTP_REQUEST, &FUZZ_LIMITS);
    if (http_parse_head(&parser, input.ptr, input.len) != RESULT_OK) {
        return;
    }
    const struct http_head *head = &parser.head;
    MUST(http_target_parse(head->method == HTTP_CONNECT, head->method == HTTP_OPTIONS,
                           http_head_target(head, input.ptr), &target) == RESULT_OK);
    if (target.form == HTTP_TARGET_ORIGIN || target.form == HTTP_TARGET_ABSOLUTE) {
        bool same;
        char *out = malloc(target.path.len);
        size_t length = http_path_normalize(target.path, out, &same);
        if (length > 0 && !same) {
            char *again = malloc(length);
            MUST(length <= target.path.len && out[0] == '/');
            size_t second = http_path_normalize((struct bytes){out, length}, again, &same);
            MUST(second == length && (same || memcmp(again, out, length) == 0));
            free(again);
        }
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {(const char *)data, size};
    if (size == 0 || size > 8192) {
        return 0;
    }
    fuzz_check_message(HTTP_REQUEST, false, input);
    check_target(input);
    return 0;
}

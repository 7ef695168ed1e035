/* Out of memory: the nth allocation fails, for each n until all succeed.
 *
 * The allocator is glibc's, reached under the names it keeps for this; under a sanitizer it is not, and the
 * test is skipped. */

#include "config_test.h"

#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
#define CAN_FAIL 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define CAN_FAIL 0
#endif
#endif
#ifndef CAN_FAIL
#define CAN_FAIL 1
#endif

static const char text[] =
    LISTENERS "cache: {memory: 1GB, database: a, api_token: abcdefghijklmnop}\n"
              "admin: {address: '127.0.0.1:1'}\n"
              "upstreams: &u [{name: a, endpoints: ['http://b', '127.0.0.1:1']}]\n"
              "routes:\n"
              "  - {path_prefix: /a, host: '*.b', methods: [GET], http: {upstream: a, cache: {key: [path, header:A],\n"
              "     bypass: [cookie:b], targets: [a]}}}\n"
              "  - {path_prefix: /i, inference: {upstream: a, cache: false}}\n"
              "  - {path: /a, respond: {body: '${HOME:-a}', headers: {X-A: b}}}\n"
              "  - {path_prefix: /a, respond: {}}\n"
              "  - {path_prefix: /b, host: c, respond: {}}\n";
static const char wrong[] = LISTENERS "wrokers: ${NONE}\nlimits: {fields_max: 1000}\nroutes: [{path: a}]\n";

#if CAN_FAIL
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);

static uint64_t left = UINT64_MAX; /* how many allocations still succeed */
static bool failed;

static bool fails(void)
{
    if (left == UINT64_MAX) {
        return false;
    }
    if (left == 0) {
        failed = true;
        return true;
    }
    left--;
    return false;
}

void *malloc(size_t bytes)
{
    return fails() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    return fails() ? NULL : __libc_realloc(old, bytes);
}

static enum result parse_with(uint64_t allocations, struct bytes input, FILE *errors)
{
    struct config *config = NULL;
    failed = false;
    left = allocations;
    enum result result = config_parse("f.yaml", input, errors, &config);
    left = UINT64_MAX;
    cr_expect((config != NULL) == (result == RESULT_OK));
    config_destroy(config);
    return result;
}

static void fail_each(struct bytes input, enum result expected)
{
    FILE *errors = fopen("/dev/null", "w");
    static char buffer[4096];
    setvbuf(errors, buffer, _IOFBF, sizeof(buffer));
    uint64_t n = 0;
    for (; n < 100000; n++) {
        enum result result = parse_with(n, input, errors);
        if (!failed) {
            cr_expect(result == expected, "%s", result_name(result));
            break;
        }
        cr_expect(result == RESULT_NO_MEMORY, "allocation %llu: %s", (unsigned long long)n, result_name(result));
    }
    cr_expect(n > 20, "only %llu allocations", (unsigned long long)n);
    fclose(errors);
}

Test(config_memory, each_failed_allocation_is_out_of_memory_and_nothing_else)
{
    fail_each(bytes_from(text), RESULT_OK);
    fail_each(bytes_from(wrong), RESULT_CONFIG);
}
#else
Test(config_memory, each_failed_allocation_is_out_of_memory_and_nothing_else)
{
    (void)text;
    (void)wrong;
    cr_skip_test("the sanitizer has an allocator of its own");
}
#endif

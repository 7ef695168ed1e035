#include "server/cache_key.h"

#include <criterion/criterion.h>

static const struct config_part url[] = {
    {.kind = CONFIG_PART_HOST},
    {.kind = CONFIG_PART_PATH},
    {.kind = CONFIG_PART_QUERY},
};
static const struct config_cache by_url = {
    .key = url,
    .key_count = 3,
    .key_kinds = 1 << CONFIG_PART_HOST | 1 << CONFIG_PART_PATH | 1 << CONFIG_PART_QUERY,
};

static struct bytes key_of(const struct cache_key_source *source, char room[512])
{
    size_t bytes = 0;
    cr_assert_eq(cache_key_put_url(&by_url, source, room, 512, &bytes), RESULT_OK);
    return (struct bytes){room, bytes};
}

Test(cache_key, the_hosts_letters_are_lower_and_nothing_else_changes)
{
    for (unsigned at = 0; at < 20; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            char host[20];
            char room[512];
            memset(host, 'Q', sizeof(host));
            host[at] = (char)byte;
            const struct cache_key_source source = {.authority = {host, sizeof(host)}, .path = BYTES("/A")};
            struct bytes key = key_of(&source, room);
            char wanted[20];
            memset(wanted, 'q', sizeof(wanted));
            wanted[at] = ascii_lower((char)byte);
            cr_assert_eq(key.len, 7 + 20 + 2);
            cr_assert_arr_eq(key.ptr + 7, wanted, 20, "byte %u at %u", byte, at);
            cr_assert_arr_eq(key.ptr + 27, "/A", 2);
        }
    }
}

Test(cache_key, the_default_port_is_no_other_host)
{
    char room[2][512];
    const struct cache_key_source with = {.authority = BYTES("Example.org:80"), .path = BYTES("/")};
    const struct cache_key_source without = {.authority = BYTES("example.ORG"), .path = BYTES("/")};
    cr_assert(bytes_equal(key_of(&with, room[0]), key_of(&without, room[1])));
    cr_assert(bytes_equal(key_of(&with, room[0]), BYTES("http://example.org/")));
}

Test(cache_key, an_empty_query_is_another_than_none)
{
    char room[2][512];
    const struct cache_key_source with = {.authority = BYTES("a"), .path = BYTES("/"), .query = BYTES("")};
    const struct cache_key_source without = {.authority = BYTES("a"), .path = BYTES("/")};
    cr_assert_not(bytes_equal(key_of(&with, room[0]), key_of(&without, room[1])));
}

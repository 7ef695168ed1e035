#include "cache/invalidation.h"

#include "rules.h"

Test(invalidation, only_successful_unsafe_methods_invalidate)
{
    static const struct {
        llhttp_method_t method;
        bool is_unsafe;
    } methods[] = {{HTTP_GET, false},      {HTTP_HEAD, false},   {HTTP_OPTIONS, false}, {HTTP_TRACE, false},
                   {HTTP_PROPFIND, false}, {HTTP_REPORT, false}, {HTTP_SEARCH, false},  {HTTP_QUERY, false},
                   {HTTP_POST, true},      {HTTP_PUT, true},     {HTTP_DELETE, true},   {HTTP_PATCH, true},
                   {HTTP_MSEARCH, true},   {HTTP_PURGE, true},   {HTTP_LOCK, true}};
    static const struct {
        uint16_t status;
        bool is_error;
    } statuses[] = {{200, false}, {204, false}, {399, false}, {301, false}, {400, true}, {500, true}, {103, true}};
    for (size_t m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
        for (size_t s = 0; s < sizeof(statuses) / sizeof(statuses[0]); s++) {
            cr_assert_eq(invalidation_applies((uint8_t)methods[m].method, statuses[s].status),
                         methods[m].is_unsafe && !statuses[s].is_error, "%d %u", methods[m].method, statuses[s].status);
        }
    }
}

static const struct invalidation_origin BASE = {{"http", 4}, {"a", 1}, {"/b/c/d;p", 8}, {"q", 1}};

/* "path?query", or "no". */
static const char *resolved(const struct invalidation_origin *origin, const char *reference)
{
    static char text[256];
    struct invalidation_target target;
    size_t used;
    char *room = malloc(origin->path.len + strlen(reference) + 1);
    snprintf(text, sizeof(text), "no");
    if (invalidation_resolve(origin, bytes_from(reference), room, &used, &target)) {
        cr_assert(used <= origin->path.len + strlen(reference) + 1);
        snprintf(text, sizeof(text), "%.*s%s%.*s", BYTES_ARG(target.path), target.query.ptr == NULL ? "" : "?",
                 (int)target.query.len, target.query.ptr == NULL ? "" : target.query.ptr);
    }
    free(room);
    return text;
}

/* RFC 3986 §5.4, where the base is http://a/b/c/d;p?q; what leaves the origin is refused. */
Test(invalidation, references_are_resolved_as_the_standard_lists_them)
{
    static const struct {
        const char *reference;
        const char *expected;
    } cases[] = {
        {"g:h", "no"},
        {"g", "/b/c/g"},
        {"./g", "/b/c/g"},
        {"g/", "/b/c/g/"},
        {"/g", "/g"},
        {"//g", "no"},
        {"?y", "/b/c/d;p?y"},
        {"g?y", "/b/c/g?y"},
        {"#s", "/b/c/d;p?q"},
        {"g#s", "/b/c/g"},
        {"g?y#s", "/b/c/g?y"},
        {";x", "/b/c/;x"},
        {"g;x", "/b/c/g;x"},
        {"g;x?y#s", "/b/c/g;x?y"},
        {"", "/b/c/d;p?q"},
        {".", "/b/c/"},
        {"./", "/b/c/"},
        {"..", "/b/"},
        {"../", "/b/"},
        {"../g", "/b/g"},
        {"../..", "/"},
        {"../../", "/"},
        {"../../g", "/g"},
        {"../../../g", "/g"},
        {"../../../../g", "/g"},
        {"/./g", "/g"},
        {"/../g", "/g"},
        {"g.", "/b/c/g."},
        {".g", "/b/c/.g"},
        {"g..", "/b/c/g.."},
        {"..g", "/b/c/..g"},
        {"./../g", "/b/g"},
        {"./g/.", "/b/c/g/"},
        {"g/./h", "/b/c/g/h"},
        {"g/../h", "/b/c/h"},
        {"g;x=1/./y", "/b/c/g;x=1/y"},
        {"g;x=1/../y", "/b/c/y"},
        {"g?y/./x", "/b/c/g?y/./x"},
        {"g?y/../x", "/b/c/g?y/../x"},
        {"g#s/./x", "/b/c/g"},
        {"http:g", "no"},
        {"http://a/g", "/g"},
        {"http://a", "/"},
        {"http://a?y", "/?y"},
        {"//a/g//h", "/g//h"},
        {"g?", "/b/c/g?"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *got = resolved(&BASE, cases[i].reference);
        cr_assert_str_eq(got, cases[i].expected, "%s: %s, not %s", cases[i].reference, got, cases[i].expected);
    }
}

Test(invalidation, only_the_same_origin_is_believed)
{
    static const struct invalidation_origin origin = {{"http", 4}, {"A.example:80", 12}, {"/x", 2}, {NULL, 0}};
    static const struct {
        const char *reference;
        const char *expected;
    } cases[] = {
        {"http://a.example/y", "/y"},
        {"HTTP://a.EXAMPLE:80/y", "/y"},
        {"//a.example:080/y", "/y"},
        {"http://a.example:/y", "/y"},
        {"http://a.example:81/y", "no"},
        {"https://a.example/y", "no"},
        {"http://b.example/y", "no"},
        {"//a.example.org/y", "no"},
        {"http://u@a.example/y", "no"},
        {"http://a.example@b/y", "no"},
        {"http:///y", "no"},
        {"http://a.example:x/y", "no"},
        {"/y z", "no"},
        {"javascript:alert(1)", "no"},
        {":/y", "no"},
        {"http://a.example#/y", "/"},
        {"/y:z", "/y:z"},
        {"", "/x"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *got = resolved(&origin, cases[i].reference);
        cr_assert_str_eq(got, cases[i].expected, "%s: %s, not %s", cases[i].reference, got, cases[i].expected);
    }
    cr_assert(invalidation_same_authority(BYTES("https"), BYTES("a"), BYTES("A:443")));
    cr_assert_not(invalidation_same_authority(BYTES("https"), BYTES("a"), BYTES("a:80")));
    cr_assert(invalidation_same_authority(BYTES("http"), BYTES("[::1]"), BYTES("[::1]:80")));
    cr_assert_not(invalidation_same_authority(BYTES("http"), BYTES("[::1]:8"), BYTES("[::1]:80")));
}

static void assert_targets(const char *fields, unsigned count, const char *const *paths)
{
    struct message message;
    const struct http_head *response = response_of(&message, 200, fields);
    struct invalidation_target targets[INVALIDATION_TARGETS_MAX];
    char *room = malloc(invalidation_bytes_max(&BASE, response, message.base));
    cr_assert_eq(invalidation_targets(&BASE, response, message.base, room, targets), count, "%s", fields);
    for (unsigned i = 0; i < count; i++) {
        assert_bytes(targets[i].path, paths[i]);
    }
    assert_bytes(targets[0].query, "q");
    free(room);
    message_free(&message);
}

Test(invalidation, the_targets_are_the_uri_and_what_the_response_names)
{
    assert_targets("", 1, (const char *[]){"/b/c/d;p"});
    assert_targets("Location: x\r\nContent-Location: /y\r\n", 3, (const char *[]){"/b/c/d;p", "/b/c/x", "/y"});
    assert_targets("Content-Location: ../y\r\n", 2, (const char *[]){"/b/c/d;p", "/b/y"});
    assert_targets("Location: http://evil/x\r\nContent-Location: /y\r\n", 2, (const char *[]){"/b/c/d;p", "/y"});
    assert_targets("Location: /y\r\nContent-Location: http://A:80/y#z\r\n", 2, (const char *[]){"/b/c/d;p", "/y"});
    assert_targets("Location: d;p?q\r\nContent-Location:\r\n", 1, (const char *[]){"/b/c/d;p"});
    assert_targets("Location: d;p\r\n", 2, (const char *[]){"/b/c/d;p", "/b/c/d;p"});
}

#include "api/models.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "../proxy/fetching.h"
#include "base/check.h"
#include "loop.h"

static struct world world;
static struct backend backends[3];
static struct model_directory directory;
static const char *lists[3]; /* what each backend answers with; NULL: nothing, ever */

static bool is_done;
static bool is_answered;
static bool has_failed;
static char json[10000];

static void serve_list(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    while (backend_read_head(self, fd, rest, &rest_bytes)) {
        const char *list = lists[self - backends];
        char answer[5000];
        snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(list), list);
        backend_say(fd, answer);
    }
}

static void start(unsigned count, const char *first, const char *second, const char *third)
{
    lists[0] = first;
    lists[1] = second;
    lists[2] = third;
    world_start(&world, 0, count);
    for (unsigned i = 0; i < count; i++) {
        backend_start(&backends[i], serve_list);
        world_endpoint(&world, i, &backends[i]);
    }
    model_directory_init(&directory, &world.upstream);
}

static void stop(void)
{
    model_directory_stop(&directory);
    model_directory_fini(&directory);
    unsigned count = world.upstream.endpoint_count;
    world_stop(&world);
    for (unsigned i = 0; i < count; i++) {
        backend_stop(&backends[i]);
    }
}

static void on_done(void *context, struct bytes found, const struct fetch *failed)
{
    cr_assert_eq(context, &world);
    cr_assert_not(is_done, "told once");
    is_done = true;
    is_answered = found.ptr != NULL;
    has_failed = failed != NULL && failed->entry.state == ENTRY_FAILED;
    snprintf(json, sizeof(json), "%.*s", BYTES_ARG(found));
}

static void gather(const struct fetch_request *request)
{
    is_done = false;
    cr_assert_not_null(model_gather(&directory, request, on_done, &world));
    cr_assert_not(is_done, "not from inside the call");
    cr_assert(loop_until_true(world.ring, &is_done));
}

static const struct fetch_request plain = {.line = BYTES("GET /v1/models HTTP/1.1\r\n"), .fields = BYTES("\r\n")};

Test(models, the_union_has_each_model_once_in_the_endpoints_order)
{
    start(3, "{\"data\":[{\"id\":\"b\",\"owned_by\":\"one\"},{\"id\":\"a\"}]}",
          "{\"data\":[{\"id\":\"a\",\"owned_by\":\"two\"},{\"id\":\"c\",\"x\":[1]},{\"no_id\":1},5]}", "not json");
    gather(&plain);
    cr_assert_str_eq(json, "{\"object\":\"list\",\"data\":[{\"id\":\"b\",\"owned_by\":\"one\"},{\"id\":\"a\"},"
                           "{\"id\":\"c\",\"x\":[1]}]}");
    cr_assert_eq(model_directory_endpoints(&directory, BYTES("a")), 3);
    cr_assert_eq(model_directory_endpoints(&directory, BYTES("b")), 1);
    cr_assert_eq(model_directory_endpoints(&directory, BYTES("c")), 2);
    cr_assert_eq(model_directory_endpoints(&directory, BYTES("unknown")), UINT64_MAX);
    cr_assert_eq(model_directory_endpoints(&directory, BYTES_NONE), UINT64_MAX);
    cr_assert(model_directory_matters(&directory));
    cr_assert(bytes_equal(model_directory_scheduled_as(&directory, BYTES("b")), BYTES("b")));
    cr_assert_eq(model_directory_scheduled_as(&directory, BYTES("unknown")).len, 0);
    stop();
}

Test(models, equal_lists_in_any_order_do_not_matter)
{
    start(2, "{\"data\":[{\"id\":\"a\"},{\"id\":\"b\"}]}", "{\"data\":[{\"id\":\"b\"},{\"id\":\"a\"}]}", NULL);
    cr_assert_not(model_directory_matters(&directory), "nothing is known yet");
    gather(&plain);
    cr_assert_not(model_directory_matters(&directory));
    stop();
}

Test(models, any_name_is_scheduled_as_the_only_model_there_is)
{
    start(2, "{\"data\":[{\"id\":\"a\"}]}", "{\"data\":[{\"id\":\"a\"}]}", NULL);
    cr_assert(bytes_equal(model_directory_scheduled_as(&directory, BYTES("b")), BYTES("b")), "nothing is known yet");
    gather(&plain);
    cr_assert(bytes_equal(model_directory_scheduled_as(&directory, BYTES("b")), BYTES("a")));
    cr_assert(bytes_equal(model_directory_scheduled_as(&directory, BYTES_NONE), BYTES("a")));
    stop();
}

Test(models, a_body_that_came_with_the_question_is_given_to_no_fetch)
{
    start(3, "{\"data\":[]}", "{\"data\":[]}", "{\"data\":[]}");
    char *body = strdup("hello");
    struct fetch_request with_body = plain;
    with_body.body = body;
    with_body.body_bytes = 5;
    with_body.has_length = true;
    with_body.length = 5;
    gather(&with_body);
    cr_assert_str_eq(json, "{\"object\":\"list\",\"data\":[]}");
    cr_assert_str_eq(body, "hello", "it still is the caller's");
    free(body);
    stop();
}

Test(models, nobody_reachable_is_told_with_the_failed_fetch)
{
    start(2, "{}", "{}", NULL);
    struct ring_address dead;
    cr_assert_eq(ring_address_parse(BYTES("unix:/no/such/socket"), &dead), RESULT_OK);
    endpoint_set_addresses(&world.upstream.endpoints[0], &dead, 1);
    endpoint_set_addresses(&world.upstream.endpoints[1], &dead, 1);
    gather(&plain);
    cr_assert(!is_answered && has_failed);
    stop();
}

static void serve_nothing(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    while (backend_read_head(self, fd, rest, &rest_bytes)) {
    }
}

Test(models, a_gathering_can_be_given_up_while_nobody_answers)
{
    world_start(&world, 0, 2);
    for (unsigned i = 0; i < 2; i++) {
        backend_start(&backends[i], serve_nothing);
        world_endpoint(&world, i, &backends[i]);
    }
    model_directory_init(&directory, &world.upstream);
    struct model_gathering *gathering = model_gather(&directory, &plain, on_done, &world);
    loop_for_ms(world.ring, 20);
    model_gathering_cancel(gathering);
    loop_for_ms(world.ring, 5);
    cr_assert_not(is_done);
    stop();
}

Test(models, the_directory_asks_by_itself)
{
    start(2, "{\"data\":[{\"id\":\"a\"}]}", "{\"data\":[{\"id\":\"b\"}]}", NULL);
    model_directory_start(&directory);
    while (!model_directory_matters(&directory) || directory.refreshing != NULL) {
        loop_for_ms(world.ring, 1);
    }
    cr_assert_eq(model_directory_endpoints(&directory, BYTES("b")), 2);
    stop();
}

#include "api/batching.h"

#include <stdlib.h>

#include "api/batching_internal.h"
#include "base/check.h"
#include "batching_scene.h"

static void start(void)
{
    scene_start(8);
    cr_assert_eq(scene_batch(), RESULT_OK);
}

/* Waits for it, and looks at what has come. */
static void expect(struct asking *asking, const char *answer)
{
    await(asking);
    cr_expect_eq(asking->fetch->entry.state, ENTRY_COMPLETE);
    cr_expect_str_eq(asking->answer, answer);
    leave(asking);
}

static uint64_t counted(enum batching_count what)
{
    return counter_load(&scene.batching.counters[0].counts[what]);
}

Test(batching, requests_that_come_together_are_one_and_come_apart)
{
    start();
    ask(0, "{\"input\":\"first\",\"model\":\"m\"}");
    ask(1, "{\"input\":\"a\",\"model\":\"m\"}");
    ask(2, "{\"input\":[\"b\",\"c\"],\"model\":\"m\"}");
    expect(&scene.asking[0], "{\"data\":[{\"index\":0,\"embedding\":\"first\"}],\"usage\":{\"total_tokens\":3}}");
    expect(&scene.asking[1], "{\"data\":[{\"index\":0,\"embedding\":\"a\"}],\"usage\":{\"total_tokens\":3}}");
    expect(&scene.asking[2], "{\"data\":[{\"index\":0,\"embedding\":\"b\"},{\"index\":1,\"embedding\":\"c\"}],"
                             "\"usage\":{\"total_tokens\":6}}");
    cr_expect_eq(scene.backend.requests, 2);
    cr_expect_eq(counted(BATCHING_MERGED), 2);
    cr_expect_eq(counted(BATCHING_LONE), 1);
    cr_expect_eq(counted(BATCHING_ITEMS), 4);
    scene_stop();
}

Test(batching, a_list_over_the_budget_is_put_together_in_order)
{
    start();
    ask(0, "{\"model\":\"m\",\"input\":[\"0\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]}");
    await(&scene.asking[0]);
    cr_expect_not_null(strstr(scene.asking[0].answer, "{\"index\":8,\"embedding\":\"8\"}],"));
    cr_expect_not_null(strstr(scene.asking[0].answer, "\"total_tokens\":27"));
    cr_expect_eq(scene.backend.requests, 2);
    cr_expect_eq(counted(BATCHING_PARTS), 2);
    leave(&scene.asking[0]);
    scene_stop();
}

Test(batching, who_leaves_while_it_is_away_leaves_nothing_behind)
{
    start();
    for (unsigned turn = 0; turn < 6; turn++) {
        for (unsigned i = 0; i < 4; i++) {
            ask(i, i == 3 ? "{\"input\":[\"0\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]}"
                          : "{\"input\":\"text\"}");
        }
        loop_for_ms(scene.ring, turn); /* before anything is sent, while some wait, while all are under way */
        leave(&scene.asking[turn % 4]);
        loop_for_ms(scene.ring, turn % 2);
        leave(&scene.asking[(turn + 3) % 4]);
        await(&scene.asking[(turn + 1) % 4]);
        cr_expect_eq(scene.asking[(turn + 1) % 4].fetch->entry.state, ENTRY_COMPLETE);
        leave(&scene.asking[(turn + 1) % 4]);
        leave(&scene.asking[(turn + 2) % 4]);
    }
    scene_stop();
}

Test(batching, lines_that_are_ones_own_do_not_keep_requests_apart_and_all_others_do)
{
    char out[512];
    struct bytes fields =
        BYTES("User-Agent: a\r\nAuthorization: Bearer x\r\nX-REQUEST-ID: id\r\nX-Stainless-Lang: js\r\n"
              "Unheard-Of: 1\r\ntraceparent: 00\r\nCookie: c=d\r\n\r\n");
    struct batching_lines said = batching_read_lines(fields, out);
    cr_expect(bytes_equal((struct bytes){out, said.shared_bytes},
                          BYTES("Authorization: Bearer x\r\nUnheard-Of: 1\r\nCookie: c=d\r\n")),
              "%.*s", (int)said.shared_bytes, out);
    cr_expect(bytes_equal(said.request_id, BYTES("id")));
    cr_expect_not(said.is_coded);
    cr_expect(batching_read_lines(BYTES("Content-Encoding: gzip\r\n\r\n"), out).is_coded);
    cr_expect_not(batching_read_lines(BYTES("Content-Encoding: identity\r\n\r\n"), out).is_coded);
}

Test(batching, requests_with_other_credentials_are_kept_apart)
{
    start();
    ask(0, "{\"input\":\"first\"}");
    ask_with(1, "{\"input\":\"a\"}", "Authorization: Bearer one\r\n\r\n");
    ask_with(2, "{\"input\":\"b\"}", "Authorization: Bearer two\r\n\r\n");
    for (unsigned i = 0; i < 3; i++) {
        await(&scene.asking[i]);
        leave(&scene.asking[i]);
    }
    cr_expect_eq(scene.backend.requests, 3);
    cr_expect_eq(counted(BATCHING_LONE), 3);
    scene_stop();
}

/* Batching once more, over an allocator whose nth call fails: 1, 2, 3 … until all is done. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;

static bool is_failing(void)
{
    return calls_until_failure > 0 && --calls_until_failure == 0;
}

static void *failing_malloc(size_t bytes)
{
    return is_failing() ? NULL : malloc(bytes);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return is_failing() ? NULL : calloc(count, bytes);
}

static void *failing_realloc(void *old, size_t bytes)
{
    return is_failing() ? NULL : realloc(old, bytes);
}

#define malloc                         failing_malloc
#define calloc                         failing_calloc
#define realloc                        failing_realloc
#define batching_init                  nth_batching_init
#define batching_is_settled            nth_batching_is_settled
#define batching_fini                  nth_batching_fini
#define batching_attach                nth_batching_attach
#define batching_why_name              nth_batching_why_name
#define batching_path_of               nth_batching_path_of
#define batching_ticket_free           nth_batching_ticket_free
#define batching_ticket_on_back        nth_batching_ticket_on_back
#define batching_ticket_on_cancel_back nth_batching_ticket_on_cancel_back
#define batching_on_submit             nth_batching_on_submit
#define batching_on_cancel             nth_batching_on_cancel
#define batching_on_ended              nth_batching_on_ended
#define batching_decide                nth_batching_decide
#define batching_run_settle            nth_batching_run_settle
#define batching_go_alone              nth_batching_go_alone
#define batching_former_on_end         nth_batching_former_on_end
#define batching_former_arm            nth_batching_former_arm
#define batching_former_unuse          nth_batching_former_unuse
#define batching_call_make             nth_batching_call_make
#define batching_call_on_start         nth_batching_call_on_start
#define batching_call_leave            nth_batching_call_leave
#define batching_read_lines            nth_batching_read_lines
#define batching_call_fields           nth_batching_call_fields
#define batching_answer_begin          nth_batching_answer_begin
#define batching_answer_end            nth_batching_answer_end
#define batching_is_coded              nth_batching_is_coded
#include "../../../src/api/batching.c"
#include "../../../src/api/batching_call.c"
#include "../../../src/api/batching_head.c"
#include "../../../src/api/batching_owner.c"
#undef malloc
#undef calloc
#undef realloc
#include "batching_scene.h"

/* Whether it has its answer; else it was told that memory is out, or what cannot be taken apart is. */
static bool has_answer(struct asking *asking)
{
    const struct entry *entry = &asking->fetch->entry;
    await(asking);
    if (entry->state == ENTRY_FAILED) {
        cr_expect_eq(entry->failure, RESULT_NO_MEMORY, "%s", result_name(entry->failure));
        cr_expect_eq(asking->bytes, 0);
        return false;
    }
    return strstr(asking->answer, "\"data\":[{\"index\":0") != NULL;
}

/* A request that goes alone, two that are merged, and a list in parts. False: memory was short. */
static bool run_all(void)
{
    static const char *const bodies[] = {"{\"input\":\"first\"}", "{\"input\":\"a\"}", "{\"input\":[\"b\",\"c\"]}",
                                         "{\"input\":[\"d\",\"e\",\"f\",\"g\",\"h\"]}"};
    bool ok = true;
    for (unsigned i = 0; i < ARRAY_COUNT(bodies); i++) {
        ask(i, bodies[i]);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(bodies); i++) {
        ok = has_answer(&scene.asking[i]) && ok;
        leave(&scene.asking[i]);
    }
    return ok;
}

Test(batching_out_of_memory, each_request_is_answered_or_told_whichever_allocation_fails)
{
    unsigned failures = 0;
    bool is_done = false;
    for (unsigned nth = 1; !is_done; nth++) {
        cr_assert(nth < 200, "it takes fewer allocations than that");
        scene_start(4);
        calls_until_failure = nth;
        bool has_begun = scene_batch() == RESULT_OK;
        bool ok = has_begun && run_all();
        is_done = ok && calls_until_failure > 0;
        failures += !ok;
        calls_until_failure = 0;
        if (!has_begun) {
            cr_assert_eq(scene_batch(), RESULT_OK);
        }
        scene_stop();
    }
    cr_expect_gt(failures, 3);
}

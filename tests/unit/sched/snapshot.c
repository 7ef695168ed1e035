#include "sched/snapshot.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct sched_board board;
static struct sched_view view;
static nanos now;

/* What sched_board_each has told. */
static struct {
    unsigned count;
    char names[SCHED_BOARD_MODELS_MAX][32];
    uint32_t lent[SCHED_BOARD_MODELS_MAX];
} told;

static void on_view(const struct sched_view *seen, void *context)
{
    (void)context;
    snprintf(told.names[told.count], sizeof(told.names[0]), "%u%s/%.*s", seen->upstream, seen->is_plain ? "p" : "",
             (int)seen->model_bytes, seen->model);
    told.lent[told.count] = seen->lent;
    told.count++;
}

static void look(void)
{
    memset(&told, 0, sizeof(told));
    sched_board_each(&board, &view, on_view, NULL);
}

static bool is_told(const char *name)
{
    for (unsigned i = 0; i < told.count; i++) {
        if (strcmp(told.names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void put(unsigned upstream, const char *model, uint32_t lent)
{
    view = (struct sched_view){.upstream = upstream, .model_bytes = (uint32_t)strlen(model), .lent = lent};
    memcpy(view.model, model, strlen(model));
    sched_board_put(&board, &view);
}

static void begin_round(nanos passed)
{
    now += passed;
    sched_board_begin(&board, now);
}

static void tear_down(void)
{
    sched_board_fini(&board);
}

TestSuite(snapshot, .fini = tear_down);

Test(snapshot, shows_what_was_put_up_last)
{
    look();
    cr_assert_eq(told.count, 0);
    for (uint32_t round = 1; round < 5; round++) {
        begin_round(NANOS_PER_S);
        put(0, "llama", round);
        put(1, "llama", 10 * round);
        put(0, "", 100 * round);
        sched_board_end(&board);
        look();
        cr_assert_eq(told.count, 3);
        cr_assert(is_told("0/llama") && is_told("1/llama") && is_told("0/"));
        cr_assert_eq(told.lent[0] + told.lent[1] + told.lent[2], 111 * round);
    }
}

Test(snapshot, tells_a_service_from_a_model)
{
    begin_round(NANOS_PER_S);
    put(0, "", 1);
    view.is_plain = true;
    sched_board_put(&board, &view);
    sched_board_end(&board);
    look();
    cr_assert_eq(told.count, 2);
    cr_assert(is_told("0/") && is_told("0p/"));
}

Test(snapshot, does_not_show_what_has_gone)
{
    begin_round(NANOS_PER_S);
    put(0, "a", 1);
    put(0, "b", 1);
    sched_board_end(&board);
    begin_round(NANOS_PER_S);
    put(0, "b", 2);
    sched_board_end(&board);
    look();
    cr_assert_eq(told.count, 1);
    cr_assert(is_told("0/b"));
    begin_round(NANOS_PER_S);
    put(0, "a", 3);
    put(0, "b", 3);
    sched_board_end(&board);
    look();
    cr_assert(told.count == 2 && is_told("0/a"), "it came back to its place");
    cr_assert_eq(board.count, 2);
}

static void put_many(unsigned first, unsigned count)
{
    begin_round(NANOS_PER_S);
    for (unsigned i = first; i < first + count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "m%u", i);
        put(0, name, i);
    }
    sched_board_end(&board);
}

Test(snapshot, counts_whom_it_has_no_place_for)
{
    put_many(0, SCHED_BOARD_MODELS_MAX + 3);
    look();
    cr_assert_eq(told.count, SCHED_BOARD_MODELS_MAX);
    cr_assert_eq(atomic_load(&board.untold), 3);
    put_many(0, SCHED_BOARD_MODELS_MAX);
    cr_assert_eq(atomic_load(&board.untold), 0);
}

Test(snapshot, keeps_a_place_for_an_hour)
{
    put_many(0, SCHED_BOARD_MODELS_MAX);
    put_many(1000, 1);
    look();
    cr_assert_eq(told.count, 0, "the places still belong to those that have just gone");
    cr_assert_eq(atomic_load(&board.untold), 1);
    now += 3601 * NANOS_PER_S;
    put_many(1000, 1);
    look();
    cr_assert(told.count == 1 && is_told("0/m1000"));
    cr_assert_eq(atomic_load(&board.untold), 0);
}

Test(snapshot, shows_names_that_differ_by_labels_that_differ)
{
    char room[SCHED_VIEW_LABEL_BYTES];
    static char labels[256][4];
    for (unsigned c = 0; c < 256; c++) {
        view = (struct sched_view){.model_bytes = 1, .model = {(char)c}};
        struct bytes label = sched_view_label(&view, room);
        cr_assert_leq(label.len, 3);
        memcpy(labels[c], label.ptr, label.len);
        for (unsigned i = 0; i < label.len; i++) {
            cr_assert(label.ptr[i] >= 0x20 && label.ptr[i] < 0x7f);
        }
        for (unsigned other = 0; other < c; other++) {
            cr_assert_str_neq(labels[c], labels[other]);
        }
    }
    view = (struct sched_view){.model_bytes = SCHED_VIEW_MODEL_BYTES};
    memset(view.model, 0xff, sizeof(view.model));
    cr_assert_eq(sched_view_label(&view, room).len, 3 * SCHED_VIEW_MODEL_BYTES);
    view = (struct sched_view){.model_bytes = 12, .model = "Qwen/Qwen2.5"};
    cr_assert(bytes_equal(sched_view_label(&view, room), BYTES("Qwen/Qwen2.5")));
}

/* ---- what an admission says of itself ---- */

static void on_grant(void *context, struct sched_request *request)
{
    (void)context;
    (void)request;
}

static void on_shed(void *context, struct sched_request *request, enum sched_shed shed, nanos retry_after_ns)
{
    (void)context;
    (void)request;
    (void)shed;
    (void)retry_after_ns;
}

enum { REQUESTS = 3 + 2 * SCHED_VIEW_TENANTS_MAX };

Test(snapshot, has_the_figures_of_each_of_several_endpoints)
{
    static const struct admission_events events = {on_grant, on_shed};
    struct admission_options options = {
        .limiter = {.kind = LIMITER_FIXED, .initial = 8, .min = 1, .max = 8, .endpoints = 2},
        .queue = {.requests_max = 8, .tenants_max = 8, .tenant_share_percent = 100, .input_weight = 1000},
        .endpoint_limit = 4,
        .endpoint_count = 2,
        .is_plain = true,
    };
    struct sched_request some[3];
    struct admission *admission = admission_create(&options, &events, NULL, NANOS_PER_S);
    cr_assert_not_null(admission);
    for (unsigned i = 0; i < 3; i++) {
        some[i] = (struct sched_request){.class = 2, .arrived_ns = NANOS_PER_S, .deadline_ns = NANOS_NEVER};
        some[i].cost.prompt_tokens = 1;
        cr_assert(admission_submit(admission, NANOS_PER_S, &some[i]));
    }
    unsigned refused = some[2].endpoint;
    admission_release(admission, 2 * NANOS_PER_S, &some[2],
                      &(struct admission_outcome){.is_refused = true, .retry_after_ns = 5 * NANOS_PER_S});
    sched_view_fill(&view, admission, 3 * NANOS_PER_S);
    cr_assert_eq(view.endpoint_count, 2);
    cr_expect_eq(view.endpoint[0].in_flight + view.endpoint[1].in_flight, 2);
    cr_expect_eq(view.endpoint[refused].cuts, 1);
    cr_expect_lt(view.endpoint[refused].limit, 4);
    cr_expect_eq(view.endpoint[refused].paused_ns, 4 * NANOS_PER_S);
    cr_expect_eq(view.endpoint[1 - refused].cuts, 0);
    cr_expect_eq(view.endpoint[1 - refused].limit, 4);
    cr_expect_eq(view.endpoint[1 - refused].paused_ns, 0);
    for (unsigned i = 0; i < 2; i++) {
        admission_release(admission, 3 * NANOS_PER_S, &some[i], &(struct admission_outcome){0});
    }
    admission_destroy(admission);
    options.endpoint_count = 1;
    admission = admission_create(&options, &events, NULL, NANOS_PER_S);
    sched_view_fill(&view, admission, 3 * NANOS_PER_S);
    cr_expect_eq(view.endpoint_count, 0, "one alone has the model's limit");
    admission_destroy(admission);
}

Test(snapshot, has_the_figures_of_an_admission)
{
    static const struct admission_events events = {on_grant, on_shed};
    const struct admission_options options = {
        .limiter = {.kind = LIMITER_FIXED, .initial = 3, .min = 1, .max = 3, .endpoints = 1},
        .queue = {.requests_max = 1000,
                  .tenants_max = 100,
                  .tenant_share_percent = 100,
                  .small_tokens_max = 512,
                  .input_weight = 1000,
                  .output_weight = 1000},
        .endpoint_count = 1,
        .is_plain = true,
    };
    static struct sched_request requests[REQUESTS];
    struct admission *admission = admission_create(&options, &events, NULL, NANOS_PER_S);
    cr_assert_not_null(admission);
    /* Three go at once; behind them each tenant has one waiting, and the last three tenants have more. */
    for (unsigned i = 0; i < REQUESTS; i++) {
        bool is_of_last = i >= REQUESTS - 6;
        requests[i] = (struct sched_request){
            .class = 2,
            .tenant = is_of_last ? 1000 + (i - (REQUESTS - 6)) / 2 : i,
            .arrived_ns = NANOS_PER_S,
            .deadline_ns = NANOS_NEVER,
            .cost = {.prompt_tokens = 1},
        };
        admission_submit(admission, NANOS_PER_S, &requests[i]);
    }
    sched_view_fill(&view, admission, 2 * NANOS_PER_S);
    cr_assert_eq(view.at_ns, 2 * NANOS_PER_S);
    cr_assert_float_eq(view.figures.limit, 3, 1e-9);
    cr_assert_eq(view.figures.census.in_flight, 3);
    cr_assert_eq(view.figures.queue.requests_of_class[2], REQUESTS - 3);
    cr_assert_eq(view.tenant_count, SCHED_VIEW_TENANTS_MAX);
    cr_assert_gt(view.tenants, SCHED_VIEW_TENANTS_MAX);
    for (unsigned t = 0; t < SCHED_VIEW_TENANTS_MAX; t++) {
        cr_assert_eq(view.tenant[t].waiting, t < 3 ? 2 : 1, "%u", t);
    }
    struct admission_outcome outcome = {0};
    for (unsigned i = 0; i < REQUESTS; i++) {
        for (unsigned j = 0; j < REQUESTS; j++) {
            if (requests[j].state >= SCHED_PENDING) {
                admission_release(admission, 3 * NANOS_PER_S, &requests[j], &outcome);
            }
        }
    }
    sched_view_fill(&view, admission, 4 * NANOS_PER_S);
    cr_assert_eq(view.figures.counters.granted, REQUESTS);
    cr_assert_eq(view.figures.counters.released, REQUESTS);
    cr_assert_geq(view.waits[2].count, REQUESTS - 3);
    cr_assert_geq(histogram_max(&view.waits[2]), 2 * NANOS_PER_S);
    cr_assert(admission_at_rest(admission));
    admission_destroy(admission);
}

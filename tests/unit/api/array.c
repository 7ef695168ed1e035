#include "api/array.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

#define EMBEDDINGS  "/v1/embeddings"
#define COMPLETIONS "/v1/completions"
#define RERANK      "/v1/rerank"
#define SCORE       "/v1/score"

enum { REQUESTS = 4 };

static const struct array_budget large = {.items_max = 1000, .tokens_max = 1000000, .bytes_max = 1000000};

static struct array_terms terms = {.credentials = BYTES("k"), .bytes_per_token = 4};

static enum array_reason try_read(const char *path, const char *body, struct array_request *ret_request)
{
    terms.path = bytes_from(path);
    const struct array_shape *shape = array_shape_of(terms.path);
    cr_assert_not_null(shape);
    return array_request_read(shape, &terms, bytes_from(body), ret_request);
}

static struct array_request read_ok(const char *path, const char *body)
{
    struct array_request request;
    enum array_reason reason = try_read(path, body, &request);
    cr_assert_eq(reason, ARRAY_OK, "%s: %s", body, array_reason_name(reason));
    return request;
}

static void expect_apart(const char *path, const char *body, enum array_reason expected)
{
    struct array_request request;
    enum array_reason reason = try_read(path, body, &request);
    cr_assert_eq(reason, expected, "%s: %s", body, array_reason_name(reason));
}

static void expect_items(const char *path, const char *body, unsigned count, const char *const *items)
{
    struct array_request request = read_ok(path, body);
    cr_assert_eq(request.item_count, count, "%s: %u", body, request.item_count);
    for (unsigned i = 0; i < count; i++) {
        cr_assert(bytes_equal(request.items[i].text, bytes_from(items[i])), "%.*s", BYTES_ARG(request.items[i].text));
    }
    array_request_fini(&request);
}

#define EXPECT_ITEMS(path, body, ...) \
    expect_items(path, body, ARRAY_COUNT(((const char *[]){__VA_ARGS__})), (const char *[]){__VA_ARGS__})

static bool same_key(const char *path, const char *one, const char *other)
{
    struct array_request a = read_ok(path, one);
    struct array_request b = read_ok(path, other);
    bool is_same = memcmp(a.digest, b.digest, sizeof(a.digest)) == 0;
    cr_assert_eq(is_same, a.key == b.key);
    array_request_fini(&a);
    array_request_fini(&b);
    return is_same;
}

/* Requests that go together, each as one run. */
struct together {
    struct array_request requests[REQUESTS];
    struct array_run runs[REQUESTS];
    unsigned count;
};

static void gather(struct together *together, const char *path, unsigned count, const char *const *bodies)
{
    together->count = count;
    for (unsigned i = 0; i < count; i++) {
        together->requests[i] = read_ok(path, bodies[i]);
        together->runs[i] = array_run_from(&together->requests[i], 0, &large);
        cr_assert(array_run_is_whole(&together->runs[i]));
    }
}

static void scatter(struct together *together)
{
    for (unsigned i = 0; i < together->count; i++) {
        array_request_fini(&together->requests[i]);
    }
}

static void release(struct bytes text)
{
    free((char *)(uintptr_t)text.ptr);
}

static void expect_text(struct bytes text, const char *expected)
{
    cr_assert(bytes_equal(text, bytes_from(expected)), "\n%.*s\n%s", BYTES_ARG(text), expected);
    release(text);
}

static void expect_merged(const struct together *together, const char *expected)
{
    struct bytes body;
    cr_assert_eq(array_merge(together->runs, together->count, &body), RESULT_OK);
    expect_text(body, expected);
}

static void expect_split(const struct together *together, const char *answer, const char *const *expected)
{
    struct bytes answers[REQUESTS];
    const char *error = "";
    enum result result = array_answer_split(together->runs, together->count, bytes_from(answer), answers, &error);
    cr_assert_eq(result, RESULT_OK, "%s", error);
    for (unsigned i = 0; i < together->count; i++) {
        expect_text(answers[i], expected[i]);
    }
}

static void expect_refused(const struct together *together, const char *answer, const char *expected)
{
    struct bytes answers[REQUESTS];
    const char *error = "";
    enum result result = array_answer_split(together->runs, together->count, bytes_from(answer), answers, &error);
    cr_assert_eq(result, RESULT_PROTOCOL, "%s", answer);
    cr_assert_str_eq(error, expected, "%s: %s", answer, error);
}

/* ---- reading ---- */

Test(array, finds_texts_and_token_ids)
{
    EXPECT_ITEMS(EMBEDDINGS, "{\"input\":\"a b\"}", "\"a b\"");
    EXPECT_ITEMS(EMBEDDINGS, " { \"model\":\"m\", \"input\" : [ \"a\\\"]\" , \"\\u00e9\" ] } ", "\"a\\\"]\"",
                 "\"\\u00e9\"");
    EXPECT_ITEMS(EMBEDDINGS, "{\"input\":[1, 2,3]}", "[1, 2,3]");
    EXPECT_ITEMS(EMBEDDINGS, "{\"input\":[[1,2],[3]]}", "[1,2]", "[3]");
    EXPECT_ITEMS(COMPLETIONS, "{\"prompt\":[\"x\",\"\"]}", "\"x\"", "\"\"");
    EXPECT_ITEMS(RERANK, "{\"query\":\"q\",\"documents\":[{\"text\":\"d\"},{\"text\":\"e\"}]}", "{\"text\":\"d\"}",
                 "{\"text\":\"e\"}");
    EXPECT_ITEMS(SCORE, "{\"text_1\":\"q\",\"text_2\":[\"a\",\"b\"]}", "\"a\"", "\"b\"");
}

Test(array, takes_any_array_of_a_configured_route)
{
    static const struct array_shape shape = {.items = {"things", 6}, .results = {"out", 3}, .takes_any = true};
    struct array_request request;
    cr_assert_eq(array_request_read(&shape, &terms, BYTES("{\"things\":[1,null,{\"a\":[]}],\"k\":2}"), &request),
                 ARRAY_OK);
    cr_assert_eq(request.item_count, 3);
    struct array_run run = array_run_from(&request, 0, &large);
    struct bytes answer;
    const char *error;
    cr_assert_eq(array_answer_split(&run, 1, BYTES("{\"out\":[[], 2 ,{\"index\":9}],\"x\":1}"), &answer, &error),
                 RESULT_OK);
    expect_text(answer, "{\"out\":[[],2,{\"index\":9}],\"x\":1}");
    array_request_fini(&request);
    cr_assert_eq(array_request_read(&shape, &terms, BYTES("{\"things\":\"one\"}"), &request), ARRAY_NO_ITEMS);
}

Test(array, leaves_alone_what_could_not_be_told_apart)
{
    expect_apart(EMBEDDINGS, "[]", ARRAY_NOT_JSON);
    expect_apart(EMBEDDINGS, "{\"input\":[\"a\"]", ARRAY_NOT_JSON);
    expect_apart(EMBEDDINGS, "{\"model\":\"m\"}", ARRAY_NO_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":[]}", ARRAY_NO_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":null}", ARRAY_NO_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":[{\"a\":1}]}", ARRAY_NO_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":[\"a\",1]}", ARRAY_MIXED_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":[1,\"a\"]}", ARRAY_MIXED_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":[[1],[]]}", ARRAY_MIXED_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":[[1],[-1]]}", ARRAY_MIXED_ITEMS);
    expect_apart(EMBEDDINGS, "{\"input\":\"a\",\"input\":\"b\"}", ARRAY_ODD_MEMBER);
    expect_apart(EMBEDDINGS, "{\"inpu\\u0074\":\"a\"}", ARRAY_ODD_MEMBER);
    expect_apart(COMPLETIONS, "{\"prompt\":\"a\",\"stream\":true}", ARRAY_STREAM);
    expect_apart(COMPLETIONS, "{\"prompt\":\"a\",\"stream\":1}", ARRAY_STREAM);
    expect_apart(COMPLETIONS, "{\"prompt\":\"a\",\"n\":2}", ARRAY_MANY_CHOICES);
    expect_apart(COMPLETIONS, "{\"prompt\":\"a\",\"best_of\":3}", ARRAY_MANY_CHOICES);
    expect_apart(COMPLETIONS, "{\"prompt\":\"a\",\"echo\":true}", ARRAY_MANY_CHOICES);
    expect_apart(SCORE, "{\"text_1\":[\"a\",\"b\"],\"text_2\":[\"c\",\"d\"]}", ARRAY_PAIRS);
    expect_apart(RERANK, "{\"documents\":[\"a\"],\"top_n\":0}", ARRAY_ODD_MEMBER);
    expect_apart(RERANK, "{\"documents\":[\"a\"],\"top_n\":\"1\"}", ARRAY_ODD_MEMBER);
    cr_assert_null(array_shape_of(BYTES("/v1/chat/completions")));
}

Test(array, merges_only_what_is_equal_in_all_but_the_items)
{
    cr_assert(same_key(EMBEDDINGS, "{\"model\":\"m\",\"input\":\"a\"}", "{\"input\":[\"b\",\"c\"], \"model\":\"m\"}"));
    cr_assert(same_key(EMBEDDINGS, "{\"input\":\"a\",\"x\":1.0}", "{\"input\":\"b\",\"x\":1}"));
    cr_assert_not(same_key(EMBEDDINGS, "{\"input\":\"a\"}", "{\"input\":[1,2]}"));
    cr_assert_not(same_key(EMBEDDINGS, "{\"input\":\"a\"}", "{\"input\":\"a\",\"dimensions\":3}"));
    cr_assert_not(same_key(COMPLETIONS, "{\"prompt\":\"a\",\"seed\":1}", "{\"prompt\":\"a\",\"seed\":2}"));
    cr_assert_not(same_key(COMPLETIONS, "{\"prompt\":\"a\",\"logprobs\":1}", "{\"prompt\":\"a\"}"));
    cr_assert_not(
        same_key(RERANK, "{\"query\":\"p\",\"documents\":[\"a\"]}", "{\"query\":\"q\",\"documents\":[\"a\"]}"));
    cr_assert(same_key(RERANK, "{\"documents\":[\"a\"],\"top_n\":1}", "{\"top_n\":3,\"documents\":[\"a\"]}"));
    cr_assert(same_key(RERANK, "{\"documents\":[\"a\"],\"top_n\":1}", "{\"documents\":[\"a\"]}"));
}

Test(array, keeps_credentials_and_paths_apart)
{
    struct array_request requests[3];
    requests[0] = read_ok(EMBEDDINGS, "{\"input\":\"a\"}");
    terms.credentials = BYTES("other");
    requests[1] = read_ok(EMBEDDINGS, "{\"input\":\"a\"}");
    terms.credentials = BYTES("k");
    terms.path = BYTES("/v1/embeddings?x");
    cr_assert_eq(
        array_request_read(array_shape_of(BYTES(EMBEDDINGS)), &terms, BYTES("{\"input\":\"a\"}"), &requests[2]),
        ARRAY_OK);
    for (unsigned i = 1; i < 3; i++) {
        const struct array_run runs[] = {array_run_from(&requests[0], 0, &large),
                                         array_run_from(&requests[i], 0, &large)};
        struct bytes body;
        cr_assert_neq(requests[0].key, requests[i].key);
        cr_assert_eq(array_merge(runs, 2, &body), RESULT_INTERNAL);
    }
    for (unsigned i = 0; i < 3; i++) {
        array_request_fini(&requests[i]);
    }
}

Test(array, estimates_tokens_by_bytes_or_counts_them)
{
    struct array_request request = read_ok(EMBEDDINGS, "{\"input\":[\"0123456789012345678901\",\"\"]}");
    cr_assert_eq(request.items[0].tokens, 6);
    cr_assert_eq(request.items[1].tokens, 1);
    array_request_fini(&request);
    request = read_ok(EMBEDDINGS, "{\"input\":[5,6,70000]}");
    cr_assert_eq(request.items[0].tokens, 3);
    array_request_fini(&request);
}

/* ---- runs and bodies ---- */

Test(array, puts_items_of_several_requests_into_the_first_ones_body)
{
    struct together t;
    gather(&t, EMBEDDINGS, 3,
           (const char *[]){"{ \"model\":\"m\",\n\"input\" : \"a\" , \"z\":[1.50] }",
                            "{\"z\":[15e-1],\"input\":[\"b\",  \"c\"],\"model\":\"\\u006d\"}",
                            "{\"model\":\"m\",\"input\":[\"d\"],\"z\":[1.5]}"});
    expect_merged(&t, "{ \"model\":\"m\",\n\"input\" : [\"a\",\"b\",\"c\",\"d\"] , \"z\":[1.50] }");
    scatter(&t);
    gather(&t, EMBEDDINGS, 2, (const char *[]){"{\"input\":[1,2]}", "{\"input\":[[3],[4,5]]}"});
    expect_merged(&t, "{\"input\":[[1,2],[3],[4,5]]}");
    scatter(&t);
}

Test(array, takes_top_n_out_of_a_merged_body)
{
    static const char *const bodies[] = {
        "{\"top_n\" : 2 , \"query\":\"q\",\"documents\":[\"a\"]}",
        "{\"query\":\"q\", \"top_n\":2,\"documents\":[\"a\"]}",
        "{\"query\":\"q\",\"documents\":[\"a\"] , \"top_n\" : 2 }",
    };
    static const char *const merged[] = {
        "{ \"query\":\"q\",\"documents\":[\"a\"]}",
        "{\"query\":\"q\",\"documents\":[\"a\"]}",
        "{\"query\":\"q\",\"documents\":[\"a\"]  }",
    };
    for (unsigned i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct together t;
        gather(&t, RERANK, 1, &bodies[i]);
        expect_merged(&t, merged[i]);
        scatter(&t);
    }
}

Test(array, cuts_a_list_into_runs_within_each_budget)
{
    struct array_request request = read_ok(EMBEDDINGS, "{\"input\":[[1],[2,3],[4,5,6],[7,8,9,10],[11]]}");
    struct array_budget budget = large;
    budget.items_max = 2;
    struct array_run run = array_run_from(&request, 1, &budget);
    cr_assert(run.first == 1 && run.count == 2 && run.tokens == 5 && !array_run_is_whole(&run));
    budget = large;
    budget.tokens_max = 3;
    cr_assert_eq(array_run_from(&request, 0, &budget).count, 2);
    run = array_run_from(&request, 3, &budget);
    cr_assert(run.count == 1 && run.tokens == 4);
    budget = large;
    budget.bytes_max = 12 + 10; /* what stands around, and two items with their commas */
    run = array_run_from(&request, 0, &budget);
    cr_assert(run.count == 2 && run.bytes == 22, "%u %lu", run.count, (unsigned long)run.bytes);
    array_request_fini(&request);
}

/* ---- answers ---- */

Test(array, gives_each_client_its_results_and_an_exact_share)
{
    struct together t;
    gather(&t, EMBEDDINGS, 3,
           (const char *[]){"{\"input\":[[1,2,3]]}", "{\"input\":[[1],[2]]}", "{\"input\":[7,8,9,10,11]}"});
    expect_split(
        &t,
        "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.50,-1e-3]},"
        "{\"embedding\":\"AA==\",\"index\":1}, {\"index\" : 2 ,\"x\":[{\"index\":5}]},{\"index\":3}],"
        "\"model\":\"m\",\"usage\":{\"prompt_tokens\":12,\"total_tokens\":12},\"id\":\"e\"}",
        (const char *[]){
            "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.50,-1e-3]}],"
            "\"model\":\"m\",\"usage\":{\"prompt_tokens\":4,\"total_tokens\":4},\"id\":\"e\"}",
            "{\"object\":\"list\",\"data\":[{\"embedding\":\"AA==\",\"index\":0},{\"index\" : 1 ,\"x\":[{\"index\":"
            "5}]}],\"model\":\"m\",\"usage\":{\"prompt_tokens\":2,\"total_tokens\":2},\"id\":\"e\"}",
            "{\"object\":\"list\",\"data\":[{\"index\":0}],\"model\":\"m\",\"usage\":{\"prompt_tokens\":6,"
            "\"total_tokens\":6},\"id\":\"e\"}",
        });
    scatter(&t);
}

Test(array, puts_results_with_the_index_they_name_whatever_their_order)
{
    struct together t;
    gather(&t, COMPLETIONS, 2, (const char *[]){"{\"prompt\":\"a\"}", "{\"prompt\":[\"b\",\"c\"]}"});
    expect_split(
        &t,
        "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":31,\"total_tokens\":34,"
        "\"completion_tokens_details\":{\"reasoning_tokens\":2},\"rate\":1.5,\"none\":null},"
        "\"choices\":[{\"index\":2,\"text\":\"z\"},{\"text\":\"x\",\"index\":0},{\"text\":\"y\",\"index\":1}]}",
        (const char *[]){
            "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":10,\"total_tokens\":11,"
            "\"completion_tokens_details\":{\"reasoning_tokens\":1},\"rate\":1.5,\"none\":null},"
            "\"choices\":[{\"text\":\"x\",\"index\":0}]}",
            "{\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":21,\"total_tokens\":23,"
            "\"completion_tokens_details\":{\"reasoning_tokens\":1},\"rate\":1.5,\"none\":null},"
            "\"choices\":[{\"index\":1,\"text\":\"z\"},{\"text\":\"y\",\"index\":0}]}",
        });
    scatter(&t);
}

Test(array, keeps_the_order_of_scores_and_each_clients_top_n)
{
    struct together t;
    gather(&t, RERANK, 2,
           (const char *[]){"{\"query\":\"q\",\"documents\":[\"a\",\"b\",\"c\"],\"top_n\":2}",
                            "{\"query\":\"q\",\"documents\":[\"d\",\"e\"]}"});
    expect_split(
        &t,
        "{\"id\":1,\"results\":[{\"index\":3,\"relevance_score\":0.9},{\"index\":2,\"relevance_score\":0.8},"
        "{\"index\":0,\"relevance_score\":0.7},{\"index\":4,\"relevance_score\":0.6},"
        "{\"index\":1,\"relevance_score\":0.5}],\"usage\":{\"total_tokens\":7}}",
        (const char *[]){
            "{\"id\":1,\"results\":[{\"index\":2,\"relevance_score\":0.8},{\"index\":0,\"relevance_score\":0.7}],"
            "\"usage\":{\"total_tokens\":4}}",
            "{\"id\":1,\"results\":[{\"index\":0,\"relevance_score\":0.9},{\"index\":1,\"relevance_score\":0.6}],"
            "\"usage\":{\"total_tokens\":3}}",
        });
    scatter(&t);
}

Test(array, gives_shares_that_are_off_by_less_than_one_and_add_up)
{
    for (unsigned total = 0; total < 200; total++) {
        struct together t;
        char answer[256];
        gather(&t, EMBEDDINGS, 4,
               (const char *[]){"{\"input\":[1,2,3]}", "{\"input\":[4]}", "{\"input\":[5,6,7]}", "{\"input\":[8,9]}"});
        snprintf(answer, sizeof(answer),
                 "{\"data\":[{\"index\":0},{\"index\":1},{\"index\":2},{\"index\":3}],\"usage\":{\"n\":%u}}", total);
        struct bytes answers[4];
        const char *error;
        cr_assert_eq(array_answer_split(t.runs, 4, bytes_from(answer), answers, &error), RESULT_OK);
        unsigned sum = 0;
        for (unsigned i = 0; i < 4; i++) {
            char own[64] = {0};
            cr_assert(answers[i].len < sizeof(own));
            memcpy(own, answers[i].ptr, answers[i].len);
            unsigned share = (unsigned)strtoul(strstr(own, "\"n\":") + 4, NULL, 10);
            double fair = total * (double)t.requests[i].items[0].tokens / 9;
            cr_assert(share > fair - 1 && share < fair + 1);
            sum += share;
            release(answers[i]);
        }
        cr_assert_eq(sum, total);
        scatter(&t);
    }
}

Test(array, refuses_an_answer_that_is_not_what_was_asked_for)
{
    struct together t;
    gather(&t, EMBEDDINGS, 2, (const char *[]){"{\"input\":\"a\"}", "{\"input\":\"b\"}"});
    expect_refused(&t, "", "it is not a JSON object");
    expect_refused(&t, "[]", "it is not a JSON object");
    expect_refused(&t, "{\"object\":\"list\"}", "it has no array of results");
    expect_refused(&t, "{\"data\":null}", "it has no single array of results");
    expect_refused(&t, "{\"data\":[],\"data\":[]}", "it has no single array of results");
    expect_refused(&t, "{\"data\":[{\"index\":0}]}", "it has fewer results than were asked for");
    expect_refused(&t, "{\"data\":[{\"index\":0},{\"index\":1},{\"index\":2}]}",
                   "it has more results than were asked for");
    expect_refused(&t, "{\"data\":[{\"index\":0},{}]}", "a result has no index");
    expect_refused(&t, "{\"data\":[{\"index\":0},1]}", "a result is not an object");
    expect_refused(&t, "{\"data\":[{\"index\":0},{\"index\":\"1\"}]}", "a result's index is no number");
    expect_refused(&t, "{\"data\":[{\"index\":0},{\"index\":-1}]}", "a result's index is no number");
    expect_refused(&t, "{\"data\":[{\"index\":0},{\"index\":1,\"index\":1}]}", "a result's index is no number");
    expect_refused(&t, "{\"data\":[{\"index\":0},{\"index\":2}]}", "a result's index is beyond what was asked for");
    expect_refused(&t, "{\"data\":[{\"index\":1},{\"index\":1}]}", "two results have the same index");
    expect_refused(&t, "{\"data\":[{\"index\":0},{\"index\":1}],\"usage\":{\"a\":1,}}",
                   "its usage is not what is known as such");
    expect_refused(&t, "{\"data\":[{\"index\":0},{\"index\":1}],\"usage\":{},\"usage\":{}}",
                   "its usage is not what is known as such");
    static const char *const broken[] = {
        "{\"data\":[{\"index\":0},{\"index\":1}]",     "{\"data\":[{\"index\":0},{\"index\":1}]} x",
        "{\"data\":[{\"index\":0} {\"index\":1}]}",    "{\"data\":[{\"index\":0,\"a\":[1},{\"index\":1}]}",
        "{\"data\":[{\"index\":0},{\"index\":1}],}",   "{\"data\":[{\"index\":0},{\"index\":1}],\"a\":\"",
        "{\"data\":[{\"index\":0},{\"index\":1}] 1}",  "{\"data\":[{\"index\":0,\"a\":},{\"index\":1}]}",
        "{\"data\":[{\"index\":0},{\"index\":1,\"a\"",
    };
    for (unsigned i = 0; i < ARRAY_COUNT(broken); i++) {
        expect_refused(&t, broken[i], "it is not JSON");
    }
    scatter(&t);
}

/* ---- lists over budget ---- */

/* Runs of two items each, each answered on its own. */
static struct bytes join(const struct array_request *request, const char *const *upstream, unsigned count)
{
    struct array_budget budget = large;
    struct bytes parts[REQUESTS];
    const char *error = "";
    budget.items_max = 2;
    for (unsigned i = 0, first = 0; i < count; i++) {
        struct array_run run = array_run_from(request, first, &budget);
        cr_assert_eq(array_answer_split(&run, 1, bytes_from(upstream[i]), &parts[i], &error), RESULT_OK, "%s", error);
        first += run.count;
    }
    struct bytes whole;
    cr_assert_eq(array_answer_join(request, parts, count, &whole, &error), RESULT_OK, "%s", error);
    for (unsigned i = 0; i < count; i++) {
        release(parts[i]);
    }
    return whole;
}

Test(array, puts_the_parts_of_a_list_together_in_order_and_sums_their_usage)
{
    struct array_request request = read_ok(EMBEDDINGS, "{\"input\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}");
    struct bytes whole = join(&request,
                              (const char *[]){
                                  "{\"id\":\"1\",\"data\":[{\"index\":0,\"v\":1},{\"index\":1,\"v\":2}],\"usage\":"
                                  "{\"prompt_tokens\":5,\"details\":{\"cached\":1},\"total_tokens\":5}}",
                                  "{\"data\":[{\"index\":0,\"v\":3},{\"index\":1,\"v\":4}],\"usage\":"
                                  "{\"total_tokens\":7,\"prompt_tokens\":7,\"details\":{\"cached\":2}}}",
                                  "{\"data\":[{\"index\":0,\"v\":5}],\"usage\":{\"prompt_tokens\":3}}",
                              },
                              3);
    expect_text(whole, "{\"id\":\"1\",\"data\":[{\"index\":0,\"v\":1},{\"index\":1,\"v\":2},{\"index\":2,\"v\":3},"
                       "{\"index\":3,\"v\":4},{\"index\":4,\"v\":5}],\"usage\":{\"prompt_tokens\":15,\"details\":"
                       "{\"cached\":3},\"total_tokens\":12}}");
    array_request_fini(&request);
}

Test(array, merges_the_parts_of_a_reranked_list_by_score)
{
    struct array_request request = read_ok(RERANK, "{\"query\":\"q\",\"documents\":[\"a\",\"b\",\"c\"],\"top_n\":2}");
    struct bytes whole =
        join(&request,
             (const char *[]){
                 "{\"results\":[{\"index\":1,\"relevance_score\":0.5},{\"index\":0,\"relevance_score\":"
                 "-2e1}]}",
                 "{\"results\":[{\"index\":0,\"relevance_score\":0.75}]}",
             },
             2);
    expect_text(whole, "{\"results\":[{\"index\":2,\"relevance_score\":0.75},{\"index\":1,\"relevance_score\":0.5}]}");
    array_request_fini(&request);
}

Test(array, refuses_parts_that_are_not_the_whole_list)
{
    struct array_request request = read_ok(EMBEDDINGS, "{\"input\":[\"a\",\"b\"]}");
    const struct bytes one = BYTES("{\"data\":[{\"index\":0}]}");
    const struct bytes both[] = {BYTES("{\"data\":[{\"index\":0},{\"index\":1}]}"), one};
    struct bytes whole;
    const char *error = "";
    cr_assert_eq(array_answer_join(&request, &one, 1, &whole, &error), RESULT_PROTOCOL);
    cr_assert_str_eq(error, "it has fewer results than were asked for");
    cr_assert_eq(array_answer_join(&request, both, 2, &whole, &error), RESULT_PROTOCOL);
    cr_assert_str_eq(error, "it has more results than were asked for");
    array_request_fini(&request);
}

/* ---- errors ---- */

/* Sends halves of a refused call until single ones are refused; gives how many calls that takes. */
static unsigned retry(const struct array_run *runs, unsigned count, const struct array_request *bad, unsigned *failed)
{
    bool is_bad = false;
    for (unsigned i = 0; i < count; i++) {
        is_bad |= runs[i].request == bad;
    }
    if (!is_bad) {
        return 1;
    }
    unsigned cut = array_bisect(runs, count);
    if (cut == 0) {
        cr_assert_eq(count, 1);
        ++*failed;
        return 1;
    }
    cr_assert_lt(cut, count);
    return 1 + retry(runs, cut, bad, failed) + retry(runs + cut, count - cut, bad, failed);
}

Test(array, finds_the_one_bad_run_by_halves)
{
    struct array_request good = read_ok(EMBEDDINGS, "{\"input\":\"a\"}");
    struct array_request bad = good;
    struct array_run runs[64];
    for (unsigned at = 0; at < ARRAY_COUNT(runs); at++) {
        for (unsigned i = 0; i < ARRAY_COUNT(runs); i++) {
            runs[i] = array_run_from(i == at ? &bad : &good, 0, &large);
        }
        unsigned failed = 0;
        cr_assert_eq(retry(runs, ARRAY_COUNT(runs), &bad, &failed), 13);
        cr_assert_eq(failed, 1);
    }
    array_request_fini(&good);
}

Test(array, cuts_where_half_of_the_items_are)
{
    const struct array_request request = {0};
    struct array_run runs[] = {{&request, 0, 6, 0, 0}, {&request, 0, 1, 0, 0}, {&request, 0, 1, 0, 0}};
    cr_assert_eq(array_bisect(runs, 3), 1);
    runs[0].count = 1;
    runs[2].count = 4;
    cr_assert_eq(array_bisect(runs, 3), 2);
    cr_assert_eq(array_bisect(runs, 1), 0);
    cr_assert(array_status_is_items(400) && array_status_is_items(413) && array_status_is_items(422));
    cr_assert(!array_status_is_items(401) && !array_status_is_items(429) && !array_status_is_items(500));
}

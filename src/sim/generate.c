/* Chat and text completions.
 *
 * A choice's words are known before it starts: a hash of its prompt gives their number and each of them. The engine (or
 * the ticker) only says when the next one comes, so a streamed and a whole answer are the same text. */
#include <stdio.h>
#include <stdlib.h>

#include "sim/internal.h"

enum { COMPLETION_MAX_TOKENS = 16 }; /* of /v1/completions without max_tokens */

struct choice {
    struct sim_sequence sequence;
    uint64_t hash;
    uint32_t index;
    uint32_t output_tokens;
    uint32_t ready_tokens; /* that the engine has made */
    uint32_t sent_tokens;
    bool ends_by_length;
    bool made;        /* the engine is done with it */
    bool finished;    /* and it was told to the client */
    size_t prefix_at; /* in `texts`: a chunk up to the word */
    size_t prefix_bytes;
};

struct generation {
    struct sim_job job;
    bool chat;
    bool stream;
    bool include_usage;
    const char *model;
    char id[64];
    int64_t created_unix_s;
    uint64_t prompt_tokens;
    nanos pace_ns; /* words are let out one at a time, this far apart; 0: as the engine makes them */
    nanos next_ns;
    unsigned unfinished_count;
    struct sim_buffer texts;
    struct bytes suffix; /* of a chunk, behind the word */
    unsigned choice_count;
    struct choice choices[];
};

/* What a request asks for, beside the prompts. */
struct wish {
    bool chat;
    bool stream;
    bool include_usage;
    bool ignore_eos;
    uint64_t n;
    uint64_t max_tokens; /* UINT64_MAX: not said */
    uint64_t min_tokens;
    uint64_t exact_tokens; /* of the answer; 0: not said */
    const char *model;
};

static struct generation *generation_of(struct sim_job *job)
{
    return CONTAINER_OF(job, struct generation, job);
}

static struct sim_sequence *job_sequence(struct sim_job *job, unsigned index)
{
    return &generation_of(job)->choices[index].sequence;
}

static void job_destroy(struct sim_job *job)
{
    struct generation *g = generation_of(job);
    sim_buffer_fini(&g->texts);
    free(g);
}

/* ---- what is sent ---- */

static const char *finish_reason(const struct choice *choice)
{
    return choice->ends_by_length ? "length" : "stop";
}

static void put_word(const struct choice *choice, uint32_t index, char out[TEXT_TOKEN_BYTES])
{
    sim_text_word(choice->hash, index, out);
    if (index + 1 == choice->output_tokens && !choice->ends_by_length) {
        sim_text_end_sentence(out);
    }
}

static void put_usage(const struct generation *g, struct sim_buffer *out)
{
    uint64_t completion = 0;
    for (unsigned i = 0; i < g->choice_count; i++) {
        completion += g->choices[i].output_tokens;
    }
    sim_buffer_format(out,
                      "\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu,\"completion_tokens\":%llu,"
                      "\"prompt_tokens_details\":null}",
                      (unsigned long long)g->prompt_tokens, (unsigned long long)(g->prompt_tokens + completion),
                      (unsigned long long)completion);
}

/* {"id":…,"object":…,"created":…,"model":… */
static void put_start(const struct generation *g, struct sim_buffer *out)
{
    const char *object = !g->chat ? "text_completion" : g->stream ? "chat.completion.chunk" : "chat.completion";
    sim_buffer_format(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", g->id, object,
                      (long long)g->created_unix_s);
    sim_buffer_put_json(out, bytes_from(g->model));
}

/* An event of its own kind: the role, the finish reason, the usage. False: the answer is over. */
static bool send_choice_event(struct generation *g, const struct choice *choice, const char *what)
{
    struct sim_buffer event = {0};
    sim_buffer_text(&event, "data: ");
    put_start(g, &event);
    sim_buffer_format(&event, ",\"choices\":[{\"index\":%u,%s", choice->index, what);
    sim_buffer_put(&event, g->include_usage ? BYTES("}],\"usage\":null}\n\n") : BYTES("}]}\n\n"));
    bool alive = sim_answer_piece(g->job.connection, sim_buffer_bytes(&event), 0);
    sim_buffer_fini(&event);
    return alive;
}

static bool send_role(struct generation *g, const struct choice *choice)
{
    return !g->chat || send_choice_event(g, choice,
                                         "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                                         "\"finish_reason\":null");
}

static bool send_finish(struct generation *g, const struct choice *choice)
{
    char what[128];
    snprintf(what, sizeof(what), "%s,\"logprobs\":null,\"finish_reason\":\"%s\",\"stop_reason\":null",
             g->chat ? "\"delta\":{}" : "\"text\":\"\"", finish_reason(choice));
    return send_choice_event(g, choice, what);
}

/* Sends the next word. False: a fault ended the answer, and the generation is gone. */
static bool send_word(struct generation *g, struct choice *choice)
{
    uint32_t index = choice->sent_tokens++;
    if (!g->stream) {
        return true;
    }
    if (index == 0 && !send_role(g, choice)) {
        return false;
    }
    char word[TEXT_TOKEN_BYTES];
    put_word(choice, index, word);
    const struct bytes parts[3] = {
        {g->texts.data + choice->prefix_at, choice->prefix_bytes}, {word, sizeof(word)}, g->suffix};
    return sim_answer_pieces(g->job.connection, parts, 1);
}

static void finish_stream(struct generation *g)
{
    struct sim_connection *c = g->job.connection;
    if (g->include_usage) {
        struct sim_buffer event = {0};
        sim_buffer_text(&event, "data: ");
        put_start(g, &event);
        sim_buffer_text(&event, ",\"choices\":[],");
        put_usage(g, &event);
        sim_buffer_text(&event, "}\n\n");
        bool alive = sim_answer_piece(c, sim_buffer_bytes(&event), 0);
        sim_buffer_fini(&event);
        if (!alive) {
            return;
        }
    }
    if (c->x.fault.middle == FAULT_MIDDLE_NONE || c->x.body_sent < c->x.fault.middle_after) {
        sim_answer_piece(c, BYTES("data: [DONE]\n\n"), 0);
    }
    sim_answer_finish(c);
}

static void put_choice(const struct generation *g, const struct choice *choice, struct sim_buffer *body)
{
    sim_buffer_format(body, "{\"index\":%u,%s", choice->index,
                      g->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"" : "\"text\":\"");
    char *at = sim_buffer_room(body, (size_t)choice->output_tokens * TEXT_TOKEN_BYTES);
    if (at != NULL) {
        for (uint32_t i = 0; i < choice->output_tokens; i++) {
            put_word(choice, i, at + (size_t)i * TEXT_TOKEN_BYTES);
        }
        body->len += (size_t)choice->output_tokens * TEXT_TOKEN_BYTES;
    }
    sim_buffer_format(body, "\"%s,\"logprobs\":null,\"finish_reason\":\"%s\",\"stop_reason\":null}", g->chat ? "}" : "",
                      finish_reason(choice));
}

static void finish_whole(struct generation *g)
{
    struct sim_buffer body = {0};
    put_start(g, &body);
    sim_buffer_text(&body, ",\"choices\":[");
    for (unsigned i = 0; i < g->choice_count; i++) {
        sim_buffer_put(&body, i > 0 ? BYTES(",") : BYTES_NONE);
        put_choice(g, &g->choices[i], &body);
    }
    sim_buffer_text(&body, "],");
    put_usage(g, &body);
    sim_buffer_text(&body, "}");
    sim_answer_json_buffer(g->job.connection, 200, &body);
}

/* A choice may be complete, and with the last one the answer. False: the generation is gone. */
static bool finish_choice(struct generation *g, struct choice *choice)
{
    if (choice->finished || !choice->made || choice->sent_tokens < choice->output_tokens) {
        return true;
    }
    choice->finished = true;
    struct sim_counters *counters = &g->job.connection->sim->counters;
    *(choice->ends_by_length ? &counters->finished_length : &counters->finished_stop) += 1;
    if (g->stream && !send_finish(g, choice)) {
        return false;
    }
    if (--g->unfinished_count > 0) {
        return true;
    }
    if (g->stream) {
        finish_stream(g);
    } else {
        finish_whole(g);
    }
    return false;
}

/* ---- when ---- */

/* The timer of a paced answer: one word of each choice that has one. */
static void on_pace(struct sim_connection *c)
{
    struct generation *g = generation_of(c->x.job);
    nanos now = ring_now(c->sim->ring);
    for (; g->next_ns <= now; g->next_ns += g->pace_ns) {
        for (unsigned i = 0; i < g->choice_count; i++) {
            struct choice *choice = &g->choices[i];
            if (choice->sent_tokens < choice->ready_tokens && !send_word(g, choice)) {
                return;
            }
            if (!finish_choice(g, choice)) {
                return;
            }
        }
    }
    sim_connection_at(c, g->next_ns, on_pace);
}

static void on_event(struct sim_job *job, struct sim_sequence *sequence, const struct engine_event *event)
{
    struct generation *g = generation_of(job);
    struct choice *choice = CONTAINER_OF(sequence, struct choice, sequence);
    switch (event->kind) {
    case ENGINE_PREEMPTED: return;
    case ENGINE_TOKENS:
        choice->ready_tokens += event->tokens;
        while (g->pace_ns == 0 && choice->sent_tokens < choice->ready_tokens) {
            if (!send_word(g, choice)) {
                return;
            }
        }
        return;
    case ENGINE_FINISHED:
        choice->made = true;
        if (g->pace_ns == 0) {
            finish_choice(g, choice);
        }
        return;
    }
}

static void start_clock(struct generation *g, struct sim_connection *c)
{
    const struct sim *sim = c->sim;
    if (sim->options.ticker) {
        g->pace_ns = 1000 * NANOS_PER_S / sim->options.ticker_rate_milli;
    }
    if (c->x.fault.slow_milli > 0) {
        nanos step_ns = g->pace_ns > 0 ? g->pace_ns : engine_step_ns(&sim->engine, 1, 0);
        g->pace_ns = step_ns * c->x.fault.slow_milli / 1000;
        g->pace_ns = g->pace_ns == 0 ? 1 : g->pace_ns;
    }
    if (!sim->options.ticker) {
        sim_glue_submit(c, &g->job);
    } else {
        g->job.connection = c;
        c->x.job = &g->job;
        for (unsigned i = 0; i < g->choice_count; i++) {
            g->choices[i].ready_tokens = g->choices[i].output_tokens;
            g->choices[i].made = true;
        }
    }
    if (g->pace_ns > 0) {
        g->next_ns = ring_now(sim->ring) + g->pace_ns;
        sim_connection_at(c, g->next_ns, on_pace);
    }
}

/* ---- the request ---- */

/* A number that a client of tests puts into the head, so that the body, which what stands in front reads, does not tell
 * it. 0: none. False: it is malformed, and 400 has been answered. */
static bool read_head_number(struct sim_connection *c, const char *name, uint64_t *ret_value)
{
    struct bytes value = sim_connection_field(c, bytes_from(name));
    *ret_value = 0;
    if (value.ptr == NULL || (bytes_to_u64(value, ret_value) && *ret_value > 0 && *ret_value <= UINT32_MAX)) {
        return true;
    }
    sim_answer_error(c, 400, "'%s' must be a number of at least 1.", name);
    return false;
}

/* Has the prompt take as many tokens as the head says. */
static bool replace_length(struct sim_connection *c, struct prompt *prompt)
{
    uint64_t tokens;
    if (!read_head_number(c, "x-sim-prompt-tokens", &tokens)) {
        return false;
    }
    prompt->tokens = tokens > 0 ? tokens : prompt->tokens;
    return true;
}

static bool read_wish(struct sim_connection *c, yyjson_val *root, struct wish *wish)
{
    uint64_t max_tokens;
    uint64_t otherwise = wish->chat ? UINT64_MAX : COMPLETION_MAX_TOKENS;
    if ((wish->model = sim_openai_choose_model(c, root)) == NULL || !sim_openai_u64(c, root, "n", 1, &wish->n) ||
        !sim_openai_u64(c, root, "max_tokens", otherwise, &max_tokens) ||
        !sim_openai_u64(c, root, "max_completion_tokens", max_tokens, &wish->max_tokens) ||
        !sim_openai_u64(c, root, "min_tokens", 0, &wish->min_tokens) ||
        !read_head_number(c, "x-sim-output-tokens", &wish->exact_tokens)) {
        return false;
    }
    if (wish->n < 1 || wish->n > SIM_CHOICES_MAX) {
        sim_answer_error(c, 400, "'n' must be 1 to %u.", SIM_CHOICES_MAX);
        return false;
    }
    if (wish->max_tokens == 0) {
        sim_answer_error(c, 400, "max_tokens must be at least 1, got 0.");
        return false;
    }
    wish->stream = yyjson_is_true(yyjson_obj_get(root, "stream"));
    wish->ignore_eos = yyjson_is_true(yyjson_obj_get(root, "ignore_eos"));
    wish->include_usage = yyjson_is_true(yyjson_obj_get(yyjson_obj_get(root, "stream_options"), "include_usage"));
    return true;
}

/* What a real engine says before it takes a request in. */
static bool fits_context(struct sim_connection *c, const struct wish *wish, const struct prompt *prompt)
{
    uint32_t context = c->sim->options.profile.context_tokens_max;
    if (prompt->tokens >= context) {
        sim_answer_error(
            c, 400,
            "This model's maximum context length is %u tokens. However, your request has %llu input tokens. "
            "Please reduce the length of the input messages.",
            context, (unsigned long long)prompt->tokens);
        return false;
    }
    if (wish->max_tokens != UINT64_MAX && wish->max_tokens > context - prompt->tokens) {
        sim_answer_error(
            c, 400,
            "'max_tokens' or 'max_completion_tokens' is too large: %llu. This model's maximum context length "
            "is %u tokens and your request has %llu input tokens (%llu > %u - %llu).",
            (unsigned long long)wish->max_tokens, context, (unsigned long long)prompt->tokens,
            (unsigned long long)wish->max_tokens, context, (unsigned long long)prompt->tokens);
        return false;
    }
    return true;
}

static void init_choice(const struct sim_connection *c, struct generation *g, const struct wish *wish,
                        const struct prompt *prompt, uint32_t index)
{
    struct choice *choice = &g->choices[index];
    uint64_t room = c->sim->options.profile.context_tokens_max - prompt->tokens;
    uint64_t most = wish->max_tokens < room ? wish->max_tokens : room;
    bool is_sibling = index % wish->n > 0;
    choice->index = index;
    choice->hash = sim_text_mix(prompt->hash, index % wish->n);
    uint64_t natural = sim_text_natural_tokens(choice->hash);
    natural = natural < wish->min_tokens ? wish->min_tokens : natural;
    natural = wish->exact_tokens > 0 ? wish->exact_tokens : natural;
    choice->ends_by_length = (wish->ignore_eos && wish->exact_tokens == 0) || natural > most;
    choice->output_tokens = (uint32_t)(choice->ends_by_length ? most : natural);
    choice->sequence.engine = (struct engine_sequence){
        .id = index,
        .prompt_tokens = (uint32_t)prompt->tokens,
        .output_tokens = choice->output_tokens,
        /* The choices of one prompt share what was computed of it. */
        .cached_prefix_tokens = is_sibling ? (uint32_t)prompt->tokens - 1 : 0,
    };
    if (!is_sibling) {
        g->prompt_tokens += prompt->tokens;
    }
    if (g->stream) {
        choice->prefix_at = g->texts.len;
        sim_buffer_text(&g->texts, "data: ");
        put_start(g, &g->texts);
        sim_buffer_format(&g->texts, ",\"choices\":[{\"index\":%u,%s", index,
                          g->chat ? "\"delta\":{\"content\":\"" : "\"text\":\"");
        choice->prefix_bytes = g->texts.len - choice->prefix_at;
    }
}

static struct bytes chunk_suffix(const struct generation *g)
{
    if (g->chat) {
        return g->include_usage ? BYTES("\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n")
                                : BYTES("\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    }
    return g->include_usage
               ? BYTES("\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}\n\n")
               : BYTES("\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}]}\n\n");
}

static void generate(struct sim_connection *c, const struct wish *wish, const struct prompt *prompts, unsigned count)
{
    struct sim *sim = c->sim;
    unsigned choice_count = count * (unsigned)wish->n;
    if (choice_count > SIM_CHOICES_MAX) {
        sim_answer_error(c, 400, "Prompts times 'n' must be at most %u.", SIM_CHOICES_MAX);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (!fits_context(c, wish, &prompts[i])) {
            return;
        }
    }
    struct generation *g = calloc(1, sizeof(*g) + choice_count * sizeof(struct choice));
    if (g == NULL) {
        sim_connection_close(c);
        return;
    }
    g->job = (struct sim_job){
        .on_event = on_event, .destroy = job_destroy, .sequence = job_sequence, .sequence_count = choice_count};
    g->chat = wish->chat;
    g->stream = wish->stream;
    g->include_usage = wish->stream && wish->include_usage;
    g->model = wish->model;
    g->created_unix_s = ring_unix_s(sim->ring);
    g->choice_count = choice_count;
    g->unfinished_count = choice_count;
    g->suffix = chunk_suffix(g);
    snprintf(g->id, sizeof(g->id), "%s-%016llx%016llx", g->chat ? "chatcmpl" : "cmpl",
             (unsigned long long)ring_random(sim->ring), (unsigned long long)ring_random(sim->ring));
    for (unsigned i = 0; i < choice_count; i++) {
        init_choice(c, g, wish, &prompts[i / wish->n], i);
    }
    if (g->texts.failed) {
        job_destroy(&g->job);
        sim_connection_close(c);
        return;
    }
    sim->counters.prompt_tokens += g->prompt_tokens;
    if (g->stream) {
        sim_answer_start(c, 200, "text/event-stream; charset=utf-8", ANSWER_CHUNKED);
    }
    start_clock(g, c);
}

void sim_generate_chat(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct wish wish = {.chat = true};
    struct prompt prompt;
    if (read_wish(c, root, &wish) && sim_openai_messages(c, yyjson_obj_get(root, "messages"), &prompt) &&
        replace_length(c, &prompt)) {
        generate(c, &wish, &prompt, 1);
    }
    yyjson_doc_free(doc);
}

void sim_generate_text(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct wish wish = {.chat = false};
    struct prompt *prompts;
    unsigned count = 0;
    if (read_wish(c, root, &wish)) {
        count = sim_openai_prompts(c, yyjson_obj_get(root, "prompt"), "prompt", SIM_CHOICES_MAX, &prompts);
    }
    if (count > 0) {
        generate(c, &wish, prompts, count);
        free(prompts);
    }
    yyjson_doc_free(doc);
}

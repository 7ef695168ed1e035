/* Embeddings: a unit vector from a hash of the input, when the engine has computed its prompt. */
#include <stdio.h>
#include <stdlib.h>

#include "sim/internal.h"

enum { INPUTS_MAX = 2048, DIMENSIONS_MAX = 4096 };

struct item {
    struct sim_sequence sequence;
    uint64_t hash;
};

struct embedding {
    struct sim_job job;
    const char *model;
    bool base64;
    unsigned dimensions;
    unsigned unfinished_count;
    uint64_t prompt_tokens;
    unsigned item_count;
    struct item items[];
};

static struct embedding *embedding_of(struct sim_job *job)
{
    return CONTAINER_OF(job, struct embedding, job);
}

static struct sim_sequence *job_sequence(struct sim_job *job, unsigned index)
{
    return &embedding_of(job)->items[index].sequence;
}

static void job_destroy(struct sim_job *job)
{
    free(embedding_of(job));
}

static void put_floats(struct sim_buffer *body, const float *vector, unsigned count)
{
    sim_buffer_text(body, "[");
    for (unsigned i = 0; i < count; i++) {
        char *at = sim_buffer_room(body, 24);
        if (at == NULL) {
            return;
        }
        /* Nine digits give back the very float. */
        body->len += (size_t)snprintf(at, 24, "%s%.9g", i > 0 ? "," : "", (double)vector[i]);
    }
    sim_buffer_text(body, "]");
}

static void put_base64(struct sim_buffer *body, const float *vector, unsigned count)
{
    /* Little-endian, as every machine this builds for stores them. */
    struct bytes raw = {(const char *)vector, count * sizeof(float)};
    sim_buffer_text(body, "\"");
    char *at = sim_buffer_room(body, (raw.len + 2) / 3 * 4);
    if (at != NULL) {
        body->len += sim_text_base64(raw, at);
    }
    sim_buffer_text(body, "\"");
}

static void finish(struct embedding *e)
{
    struct sim_buffer body = {0};
    float vector[DIMENSIONS_MAX];
    sim_buffer_text(&body, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0; i < e->item_count; i++) {
        sim_text_embedding(e->items[i].hash, vector, e->dimensions);
        sim_buffer_format(&body, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i > 0 ? "," : "", i);
        if (e->base64) {
            put_base64(&body, vector, e->dimensions);
        } else {
            put_floats(&body, vector, e->dimensions);
        }
        sim_buffer_text(&body, "}");
    }
    sim_buffer_text(&body, "],\"model\":");
    sim_buffer_put_json(&body, bytes_from(e->model));
    sim_buffer_format(&body, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}",
                      (unsigned long long)e->prompt_tokens, (unsigned long long)e->prompt_tokens);
    sim_answer_json_buffer(e->job.connection, 200, &body);
}

static void on_event(struct sim_job *job, struct sim_sequence *sequence, const struct engine_event *event)
{
    (void)sequence;
    struct embedding *e = embedding_of(job);
    if (event->kind == ENGINE_FINISHED && --e->unfinished_count == 0) {
        finish(e);
    }
}

static void embed(struct sim_connection *c, const struct embedding *wish, const struct prompt *prompts, unsigned count)
{
    uint32_t context = c->sim->options.profile.context_tokens_max;
    for (unsigned i = 0; i < count; i++) {
        if (prompts[i].tokens > context) {
            sim_answer_error(
                c, 400,
                "This model's maximum context length is %u tokens. However, you requested %llu tokens in the "
                "input for embedding generation. Please reduce the length of the input.",
                context, (unsigned long long)prompts[i].tokens);
            return;
        }
    }
    struct embedding *e = calloc(1, sizeof(*e) + count * sizeof(struct item));
    if (e == NULL) {
        sim_connection_close(c);
        return;
    }
    e->job = (struct sim_job){
        .on_event = on_event, .destroy = job_destroy, .sequence = job_sequence, .sequence_count = count};
    e->model = wish->model;
    e->base64 = wish->base64;
    e->dimensions = wish->dimensions;
    e->unfinished_count = count;
    e->item_count = count;
    for (unsigned i = 0; i < count; i++) {
        e->items[i].hash = prompts[i].hash;
        e->items[i].sequence.engine = (struct engine_sequence){.id = i, .prompt_tokens = (uint32_t)prompts[i].tokens};
        e->prompt_tokens += prompts[i].tokens;
    }
    c->sim->counters.prompt_tokens += e->prompt_tokens;
    if (c->sim->options.ticker) {
        e->job.connection = c;
        c->x.job = &e->job;
        finish(e);
    } else {
        sim_glue_submit(c, &e->job);
    }
}

void sim_embeddings_answer(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct embedding wish = {.model = sim_openai_choose_model(c, root)};
    uint64_t dimensions;
    struct prompt *prompts;
    unsigned count = 0;
    if (wish.model != NULL &&
        sim_openai_u64(c, root, "dimensions", c->sim->options.embedding_dimensions, &dimensions)) {
        if (dimensions < 1 || dimensions > DIMENSIONS_MAX) {
            sim_answer_error(c, 400, "'dimensions' must be 1 to %u.", DIMENSIONS_MAX);
        } else {
            wish.dimensions = (unsigned)dimensions;
            const char *format = yyjson_get_str(yyjson_obj_get(root, "encoding_format"));
            wish.base64 = format != NULL && bytes_equal(bytes_from(format), BYTES("base64"));
            count = sim_openai_prompts(c, yyjson_obj_get(root, "input"), "input", INPUTS_MAX, &prompts);
        }
    }
    if (count > 0) {
        embed(c, &wish, prompts, count);
        free(prompts);
    }
    yyjson_doc_free(doc);
}

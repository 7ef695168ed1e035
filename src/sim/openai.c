/* What the OpenAI-compatible endpoints have in common, in the words of vLLM. */
#include <stdlib.h>

#include "sim/internal.h"

enum {
    /* What a chat template adds: for each message its role's markers, and once the start of the answer. */
    MESSAGE_TOKENS = 4,
    TEMPLATE_TOKENS = 3,
    OTHER_PART_TOKENS = 256, /* an image or a sound */
};

static struct bytes string_of(yyjson_val *value)
{
    return (struct bytes){yyjson_get_str(value), yyjson_get_len(value)};
}

/* ---- models ---- */

static void put_model(struct sim *sim, struct sim_buffer *body, const char *name)
{
    sim_buffer_text(body, "{\"id\":");
    sim_buffer_put_json(body, bytes_from(name));
    sim_buffer_format(body, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"sluice-sim\",\"root\":",
                      (long long)sim->started_unix_s);
    sim_buffer_put_json(body, bytes_from(name));
    sim_buffer_format(body, ",\"parent\":null,\"max_model_len\":%u}", sim->options.profile.context_tokens_max);
}

void sim_openai_models(struct sim_connection *c)
{
    struct sim_buffer body = {0};
    sim_buffer_text(&body, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0; i < c->sim->options.model_count; i++) {
        sim_buffer_put(&body, i > 0 ? BYTES(",") : BYTES_NONE);
        put_model(c->sim, &body, c->sim->options.models[i]);
    }
    sim_buffer_text(&body, "]}");
    sim_answer_json_buffer(c, 200, &body);
}

static const char *find_model(const struct sim *sim, struct bytes name)
{
    for (unsigned i = 0; i < sim->options.model_count; i++) {
        if (bytes_equal(name, bytes_from(sim->options.models[i]))) {
            return sim->options.models[i];
        }
    }
    return NULL;
}

static void answer_unknown_model(struct sim_connection *c, struct bytes name)
{
    sim_answer_error(c, 404, "The model `%.*s` does not exist.", BYTES_ARG(name));
}

void sim_openai_model(struct sim_connection *c)
{
    const char *name = find_model(c->sim, c->x.rest);
    if (name == NULL) {
        answer_unknown_model(c, c->x.rest);
        return;
    }
    struct sim_buffer body = {0};
    put_model(c->sim, &body, name);
    sim_answer_json_buffer(c, 200, &body);
}

const char *sim_openai_choose_model(struct sim_connection *c, yyjson_val *root)
{
    yyjson_val *model = yyjson_obj_get(root, "model");
    if (model == NULL || yyjson_is_null(model)) {
        return c->sim->options.models[0];
    }
    if (!yyjson_is_str(model)) {
        sim_answer_error(c, 400, "'model' must be a string.");
        return NULL;
    }
    const char *name = find_model(c->sim, string_of(model));
    if (name == NULL) {
        answer_unknown_model(c, string_of(model));
    }
    return name;
}

/* ---- reading bodies ---- */

yyjson_doc *sim_openai_read(struct sim_connection *c)
{
    yyjson_read_err error;
    yyjson_doc *doc = yyjson_read_opts(c->payload.data, c->payload.len, 0, NULL, &error);
    if (doc == NULL) {
        sim_answer_error(c, 400, "The body is not JSON: %s at byte %zu.",
                         c->payload.len == 0 ? "it is empty" : error.msg, error.pos);
        return NULL;
    }
    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        sim_answer_error(c, 400, "The body must be a JSON object.");
        return NULL;
    }
    return doc;
}

bool sim_openai_u64(struct sim_connection *c, yyjson_val *root, const char *name, uint64_t otherwise,
                    uint64_t *ret_value)
{
    yyjson_val *value = yyjson_obj_get(root, name);
    if (value == NULL || yyjson_is_null(value)) {
        *ret_value = otherwise;
        return true;
    }
    if (!yyjson_is_uint(value)) {
        sim_answer_error(c, 400, "'%s' must be a number of at least 0.", name);
        return false;
    }
    *ret_value = yyjson_get_uint(value);
    return true;
}

/* ---- prompts ---- */

static struct prompt prompt_of_text(struct bytes text)
{
    uint64_t tokens = sim_text_tokens(text);
    return (struct prompt){.tokens = tokens > 0 ? tokens : 1, .hash = sim_text_hash(0, text)};
}

/* Token ids, as if their text had been sent: the hash is the text's. */
static bool prompt_of_ids(yyjson_val *array, struct prompt *ret_prompt)
{
    struct sim_buffer text = {0};
    size_t index, count;
    yyjson_val *id;
    bool good = yyjson_arr_size(array) > 0;
    yyjson_arr_foreach(array, index, count, id)
    {
        char *at = sim_buffer_room(&text, TEXT_TOKEN_BYTES);
        if (!yyjson_is_uint(id) || yyjson_get_uint(id) > UINT32_MAX || at == NULL) {
            good = false;
            break;
        }
        text.len += sim_text_token_bytes((uint32_t)yyjson_get_uint(id), at);
    }
    *ret_prompt = prompt_of_text(sim_buffer_bytes(&text));
    ret_prompt->tokens = yyjson_arr_size(array);
    sim_buffer_fini(&text);
    return good;
}

static bool prompt_of(yyjson_val *value, struct prompt *ret_prompt)
{
    if (yyjson_is_str(value)) {
        *ret_prompt = prompt_of_text(string_of(value));
        return true;
    }
    return yyjson_is_arr(value) && prompt_of_ids(value, ret_prompt);
}

unsigned sim_openai_prompts(struct sim_connection *c, yyjson_val *value, const char *name, unsigned max,
                            struct prompt **ret_prompts)
{
    /* [1, 2, 3] is one prompt of three tokens, not three prompts. */
    bool many = yyjson_is_arr(value) && !yyjson_is_uint(yyjson_arr_get_first(value));
    size_t count = many ? yyjson_arr_size(value) : 1;
    if (count == 0 || count > max) {
        sim_answer_error(c, 400, "'%s' must have 1 to %u items.", name, max);
        return 0;
    }
    struct prompt *prompts = calloc(count, sizeof(*prompts));
    if (prompts == NULL) {
        sim_connection_close(c);
        return 0;
    }
    bool good = true;
    if (many) {
        size_t index, size;
        yyjson_val *item;
        yyjson_arr_foreach(value, index, size, item)
        {
            good = good && prompt_of(item, &prompts[index]);
        }
    } else {
        good = prompt_of(value, prompts);
    }
    if (!good) {
        free(prompts);
        sim_answer_error(c, 400, "'%s' must be a string, an array of strings, or an array of token ids.", name);
        return 0;
    }
    *ret_prompts = prompts;
    return (unsigned)count;
}

static void add_text(struct prompt *prompt, uint64_t *bytes, struct bytes text)
{
    prompt->hash = sim_text_hash(prompt->hash, text);
    *bytes += text.len;
}

static bool add_content(yyjson_val *content, struct prompt *prompt, uint64_t *bytes)
{
    if (content == NULL || yyjson_is_null(content)) {
        return true;
    }
    if (yyjson_is_str(content)) {
        add_text(prompt, bytes, string_of(content));
        return true;
    }
    if (!yyjson_is_arr(content)) {
        return false;
    }
    size_t index, count;
    yyjson_val *part;
    yyjson_arr_foreach(content, index, count, part)
    {
        yyjson_val *text = yyjson_obj_get(part, "text");
        if (yyjson_is_str(text)) {
            add_text(prompt, bytes, string_of(text));
        } else if (yyjson_is_obj(part)) {
            prompt->tokens += OTHER_PART_TOKENS;
            prompt->hash = sim_text_mix(prompt->hash, OTHER_PART_TOKENS);
        } else {
            return false;
        }
    }
    return true;
}

bool sim_openai_messages(struct sim_connection *c, yyjson_val *messages, struct prompt *ret_prompt)
{
    struct prompt prompt = {.tokens = TEMPLATE_TOKENS};
    if (!yyjson_is_arr(messages) || yyjson_arr_size(messages) == 0) {
        sim_answer_error(c, 400, "'messages' must be a non-empty array.");
        return false;
    }
    size_t index, count;
    yyjson_val *message;
    yyjson_arr_foreach(messages, index, count, message)
    {
        yyjson_val *role = yyjson_obj_get(message, "role");
        uint64_t bytes = 0;
        if (!yyjson_is_str(role)) {
            sim_answer_error(c, 400, "'messages[%zu]' must be an object with a 'role'.", index);
            return false;
        }
        prompt.hash = sim_text_hash(prompt.hash, string_of(role));
        if (!add_content(yyjson_obj_get(message, "content"), &prompt, &bytes)) {
            sim_answer_error(c, 400, "'messages[%zu].content' must be a string or an array of parts.", index);
            return false;
        }
        prompt.tokens += MESSAGE_TOKENS + (bytes + TEXT_TOKEN_BYTES - 1) / TEXT_TOKEN_BYTES;
    }
    *ret_prompt = prompt;
    return true;
}

/* ---- tokens ---- */

void sim_openai_tokenize(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *prompt = yyjson_obj_get(root, "prompt");
    yyjson_val *messages = yyjson_obj_get(root, "messages");
    struct sim_buffer body = {0};
    struct prompt counted;
    if (sim_openai_choose_model(c, root) == NULL) {
        /* answered */
    } else if (yyjson_is_str(prompt)) {
        struct bytes text = string_of(prompt);
        sim_buffer_format(&body, "{\"count\":%llu,\"max_model_len\":%u,\"tokens\":[",
                          (unsigned long long)sim_text_tokens(text), c->sim->options.profile.context_tokens_max);
        for (size_t at = 0; at < text.len; at += TEXT_TOKEN_BYTES) {
            sim_buffer_put(&body, at > 0 ? BYTES(",") : BYTES_NONE);
            sim_buffer_put_u64(&body, sim_text_token_id((struct bytes){text.ptr + at, text.len - at}));
        }
        sim_buffer_text(&body, "]}");
        sim_answer_json_buffer(c, 200, &body);
    } else if (messages == NULL) {
        sim_answer_error(c, 400, "'prompt' must be a string.");
    } else if (sim_openai_messages(c, messages, &counted)) {
        sim_buffer_format(&body, "{\"count\":%llu,\"max_model_len\":%u}", (unsigned long long)counted.tokens,
                          c->sim->options.profile.context_tokens_max);
        sim_answer_json_buffer(c, 200, &body);
    }
    yyjson_doc_free(doc);
}

void sim_openai_detokenize(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    yyjson_val *tokens = yyjson_obj_get(yyjson_doc_get_root(doc), "tokens");
    struct sim_buffer text = {0};
    bool good = yyjson_is_arr(tokens);
    size_t index, count;
    yyjson_val *id;
    yyjson_arr_foreach(tokens, index, count, id)
    {
        char *at = sim_buffer_room(&text, TEXT_TOKEN_BYTES);
        good = good && at != NULL && yyjson_is_uint(id) && yyjson_get_uint(id) <= UINT32_MAX;
        if (good) {
            text.len += sim_text_token_bytes((uint32_t)yyjson_get_uint(id), at);
        }
    }
    if (good) {
        struct sim_buffer body = {0};
        sim_buffer_text(&body, "{\"prompt\":");
        sim_buffer_put_json(&body, sim_buffer_bytes(&text));
        sim_buffer_text(&body, "}");
        sim_answer_json_buffer(c, 200, &body);
    } else {
        sim_answer_error(c, 400, "'tokens' must be an array of token ids.");
    }
    sim_buffer_fini(&text);
    yyjson_doc_free(doc);
}

/* ---- small ones ---- */

void sim_openai_health(struct sim_connection *c)
{
    sim_answer_full(c, 200, NULL, BYTES_NONE, BYTES_NONE);
}

void sim_openai_version(struct sim_connection *c)
{
    sim_answer_json(c, 200, BYTES("{\"version\":\"sluice-sim " SLUICE_VERSION "\"}"));
}

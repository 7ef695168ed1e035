/* What a body says. A cursor goes through it once; what is not looked for is passed over as fast as brackets and quotes
 * can be found. */
#include <xxhash.h>

#include "api/demand.h"
#include "api/json_cursor.h"
#include "api/json_skim.h"
#include "base/check.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- text ---- */

/* Where the text of a prompt goes, piece by piece. */
struct text {
    uint64_t bytes;          /* what it counts as */
    uint64_t written;        /* as it stands in the body */
    struct hashing *hashing; /* NULL: it is only counted */
};

struct hashing {
    uint64_t *blocks;
    uint32_t count, max;
    size_t used; /* of `block`, the hash in front included */
    char block[sizeof(uint64_t) + DEMAND_BLOCK_BYTES];
};

static void hash_add(struct hashing *hashing, struct bytes piece)
{
    while (piece.len > 0 && hashing->count < hashing->max) {
        size_t room = sizeof(hashing->block) - hashing->used;
        size_t length = piece.len < room ? piece.len : room;
        bytes_put(hashing->block + hashing->used, (struct bytes){piece.ptr, length});
        hashing->used += length;
        piece = (struct bytes){piece.ptr + length, piece.len - length};
        if (hashing->used == sizeof(hashing->block)) {
            uint64_t hash = XXH3_64bits(hashing->block, sizeof(hashing->block));
            hashing->blocks[hashing->count++] = hash;
            memcpy(hashing->block, &hash, sizeof(hash)); /* each is over all before it */
            hashing->used = sizeof(hash);
        }
    }
}

static void text_add(struct text *text, struct bytes written, uint64_t bytes)
{
    text->bytes += bytes;
    text->written += written.len;
    if (text->hashing != NULL) {
        hash_add(text->hashing, written);
    }
}

/* Something that the model sees otherwise than as text: its place is taken by what tells it from others. */
static void text_add_media(struct text *text, struct bytes value)
{
    text->bytes += DEMAND_MEDIA_BYTES;
    text->written += DEMAND_MEDIA_BYTES;
    if (text->hashing != NULL) {
        uint64_t hash = XXH3_64bits(value.ptr, value.len);
        for (size_t i = 0; i < DEMAND_MEDIA_BYTES / sizeof(hash); i++) {
            hash_add(text->hashing, (struct bytes){(const char *)&hash, sizeof(hash)});
        }
    }
}

/* What stands in messages beside text. A string whose name is not here is text, wherever it stands: contents, parts,
 * the arguments of calls and what they gave; roles, too, which stand for what a template puts around a message. */
enum use { USE_TEXT, USE_NONE, USE_MEDIA, USE_JSON };

static const struct special {
    struct bytes name;
    enum use use;
} specials[] = {
    {BYTES("id"), USE_NONE},
    {BYTES("type"), USE_NONE},
    {BYTES("status"), USE_NONE},
    {BYTES("detail"), USE_NONE},
    {BYTES("call_id"), USE_NONE},
    {BYTES("item_id"), USE_NONE},
    {BYTES("metadata"), USE_NONE},
    {BYTES("signature"), USE_NONE},
    {BYTES("annotations"), USE_NONE},
    {BYTES("tool_use_id"), USE_NONE},
    {BYTES("tool_call_id"), USE_NONE},
    {BYTES("cache_control"), USE_NONE},
    {BYTES("encrypted_content"), USE_NONE},
    {BYTES("file"), USE_MEDIA},
    {BYTES("audio"), USE_MEDIA},
    {BYTES("image"), USE_MEDIA},
    {BYTES("video"), USE_MEDIA},
    {BYTES("source"), USE_MEDIA},
    {BYTES("file_id"), USE_MEDIA},
    {BYTES("file_url"), USE_MEDIA},
    {BYTES("file_data"), USE_MEDIA},
    {BYTES("image_url"), USE_MEDIA},
    {BYTES("audio_url"), USE_MEDIA},
    {BYTES("video_url"), USE_MEDIA},
    {BYTES("input_audio"), USE_MEDIA},
    {BYTES("image_embeds"), USE_MEDIA},
    {BYTES("input"), USE_JSON}, /* a call's, in messages */
};

/* Most names differ in their first byte or their length, which is found out without a call. */
static bool is_named(struct bytes name, struct bytes wanted)
{
    return name.len == wanted.len && name.ptr[0] == wanted.ptr[0] && memcmp(name.ptr, wanted.ptr, name.len) == 0;
}

static enum use use_of(struct bytes name)
{
    for (size_t i = 0; i < ARRAY_COUNT(specials); i++) {
        if (is_named(name, specials[i].name)) {
            return specials[i].use;
        }
    }
    return USE_TEXT;
}

/* A string inside a prompt: a member's name, whose value may be special, or text. */
static void walk_string(struct json_cursor *cursor, struct text *text)
{
    struct json_string string = json_cursor_string(cursor);
    if (!json_cursor_take(cursor, ':')) {
        text_add(text, string.written, string.bytes);
        return;
    }
    enum use use = use_of(string.written);
    if (use == USE_TEXT || json_cursor_peek(cursor) == 'n') {
        return; /* its text comes next; or it is null */
    }
    struct bytes value = json_cursor_value(cursor);
    if (use == USE_MEDIA) {
        text_add_media(text, value);
    } else if (use == USE_JSON) {
        text_add(text, value, value.len);
    }
}

/* Goes through a value with the text of a prompt in it. Gives how many items it has, if it is an array; else 1. */
static uint32_t walk(struct json_cursor *cursor, struct text *text)
{
    char c = json_cursor_peek(cursor);
    uint64_t depth = 0;
    uint32_t items = 0;
    if (c != '"' && c != '[' && c != '{') {
        (void)json_cursor_value(cursor);
        return 1;
    }
    do {
        const char *at = json_skim_bracket(cursor->at, cursor->end);
        cursor->at = at < cursor->end ? at + 1 : at;
        if (at == cursor->end) {
            break;
        }
        bool is_open = (*at | 0x20) == '{';
        items += depth == 1 && (is_open || *at == '"');
        if (*at == '"') {
            walk_string(cursor, text);
        } else if (is_open) {
            depth++;
        } else {
            depth--;
        }
    } while (depth > 0);
    return c == '[' && items > 0 ? items : 1;
}

/* ---- tokens ---- */

/* Whether an array begins with a number, or with an array that does. */
static bool holds_tokens(struct json_cursor cursor)
{
    return json_cursor_take(&cursor, '[') && (is_digit(json_cursor_peek(&cursor)) ||
                                              (json_cursor_take(&cursor, '[') && is_digit(json_cursor_peek(&cursor))));
}

/* [1, 2, 3], or [[1, 2], [3]]: tokens have one comma less than there are, and so have the arrays between them. */
static uint32_t count_tokens(struct bytes array, uint32_t *ret_items)
{
    uint64_t commas = 0;
    uint32_t arrays = 0;
    for (size_t i = 0; i < array.len; i++) {
        commas += array.ptr[i] == ',';
        arrays += array.ptr[i] == '[';
    }
    *ret_items = arrays > 1 ? arrays - 1 : 1;
    return commas < UINT32_MAX ? (uint32_t)commas + 1 : UINT32_MAX;
}

/* ---- members ---- */

struct reading {
    struct demand *demand;
    struct text text;
    uint64_t query_bytes; /* of what is put beside each document */
    uint32_t prompts;
    uint32_t documents;
    uint32_t n, best_of;
    uint32_t output_max, output_max_old; /* max_completion_tokens and its like, and what it replaces */
    uint8_t tier;
};

typedef void read_member(struct reading *reading, struct json_cursor *cursor);

/* A whole number ≥ 0, as far as it fits. */
static bool take_number(struct json_cursor *cursor, uint32_t *ret_number)
{
    struct bytes value = json_cursor_value(cursor);
    uint64_t number;
    if (!bytes_to_u64(value, &number)) {
        return false;
    }
    *ret_number = number < UINT32_MAX ? (uint32_t)number : UINT32_MAX - 1;
    return true;
}

/* Without escapes; .ptr NULL: it is none, or has some. */
static struct bytes take_word(struct json_cursor *cursor)
{
    struct bytes value = json_cursor_value(cursor);
    bool is_word = value.len >= 2 && value.ptr[0] == '"' && memchr(value.ptr, '\\', value.len) == NULL;
    return is_word ? (struct bytes){value.ptr + 1, value.len - 2} : BYTES_NONE;
}

static void read_model(struct reading *reading, struct json_cursor *cursor)
{
    struct bytes value = json_cursor_value(cursor);
    if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"') {
        reading->demand->model = (struct bytes){value.ptr + 1, value.len - 2};
        reading->demand->model_is_escaped = memchr(value.ptr, '\\', value.len) != NULL;
    }
}

static void read_stream(struct reading *reading, struct json_cursor *cursor)
{
    reading->demand->is_stream = bytes_equal(json_cursor_value(cursor), BYTES("true"));
}

static void read_n(struct reading *reading, struct json_cursor *cursor)
{
    (void)take_number(cursor, &reading->n);
}

static void read_best_of(struct reading *reading, struct json_cursor *cursor)
{
    (void)take_number(cursor, &reading->best_of);
}

static void read_output_max(struct reading *reading, struct json_cursor *cursor)
{
    (void)take_number(cursor, &reading->output_max);
}

static void read_output_max_old(struct reading *reading, struct json_cursor *cursor)
{
    (void)take_number(cursor, &reading->output_max_old);
}

static void read_priority(struct reading *reading, struct json_cursor *cursor)
{
    struct bytes value = json_cursor_value(cursor);
    bool is_negative = value.len > 0 && value.ptr[0] == '-';
    struct bytes digits = {value.ptr + is_negative, value.len - is_negative};
    uint64_t number;
    if (bytes_to_u64(digits, &number)) {
        reading->demand->shift = number == 0 ? 0 : is_negative ? -1 : 1;
    }
}

static void read_tier(struct reading *reading, struct json_cursor *cursor)
{
    struct bytes word = take_word(cursor);
    reading->tier = bytes_equal(word, BYTES("priority")) ? 1 : bytes_equal(word, BYTES("flex")) ? 3 : DEMAND_CLASS_NONE;
}

static void keep_part(struct reading *reading, enum demand_part part, const char *from,
                      const struct json_cursor *cursor)
{
    reading->demand->parts[part] = (struct bytes){from, (size_t)(cursor->at - from)};
}

/* Tools are put before the model as the JSON that they are. */
static void read_tools(struct reading *reading, struct json_cursor *cursor)
{
    struct bytes value = json_cursor_value(cursor);
    if (value.len > 0 && value.ptr[0] == '[') {
        text_add(&reading->text, value, value.len);
        reading->demand->parts[DEMAND_TOOLS] = value;
    }
}

static void read_system(struct reading *reading, struct json_cursor *cursor)
{
    (void)json_cursor_peek(cursor);
    const char *from = cursor->at;
    (void)walk(cursor, &reading->text);
    keep_part(reading, DEMAND_SYSTEM, from, cursor);
}

static void read_messages(struct reading *reading, struct json_cursor *cursor)
{
    (void)json_cursor_peek(cursor);
    const char *from = cursor->at;
    (void)walk(cursor, &reading->text);
    keep_part(reading, DEMAND_CONVERSATION, from, cursor);
}

/* `prompt` and `input`: text, texts, tokens, arrays of tokens, or the items of a conversation. */
static void read_prompt(struct reading *reading, struct json_cursor *cursor)
{
    (void)json_cursor_peek(cursor);
    const char *from = cursor->at;
    if (holds_tokens(*cursor)) {
        uint32_t tokens = count_tokens(json_cursor_value(cursor), &reading->prompts);
        struct demand *demand = reading->demand;
        demand->prompt_tokens =
            demand->prompt_tokens > UINT32_MAX - tokens ? UINT32_MAX : demand->prompt_tokens + tokens;
        reading->text.bytes += (uint64_t)tokens * DEMAND_TOKEN_BYTES;
        reading->text.written += (uint64_t)tokens * DEMAND_TOKEN_BYTES;
    } else {
        reading->prompts = walk(cursor, &reading->text);
    }
    keep_part(reading, DEMAND_CONVERSATION, from, cursor);
}

/* `query`, or the one text that is scored against others: it is computed anew with each of them. */
static void read_query(struct reading *reading, struct json_cursor *cursor)
{
    bool is_one = json_cursor_peek(cursor) == '"';
    uint64_t before = reading->text.bytes;
    (void)walk(cursor, &reading->text);
    reading->query_bytes = is_one ? reading->text.bytes - before : 0;
}

static void read_documents(struct reading *reading, struct json_cursor *cursor)
{
    reading->documents = walk(cursor, &reading->text);
}

static const struct member {
    struct bytes name;
    read_member *read;
} members[] = {
    {BYTES("model"), read_model},
    {BYTES("messages"), read_messages},
    {BYTES("stream"), read_stream},
    {BYTES("max_tokens"), read_output_max_old},
    {BYTES("max_completion_tokens"), read_output_max},
    {BYTES("max_output_tokens"), read_output_max},
    {BYTES("n_predict"), read_output_max_old}, /* llama.cpp */
    {BYTES("n"), read_n},
    {BYTES("best_of"), read_best_of},
    {BYTES("priority"), read_priority},
    {BYTES("service_tier"), read_tier},
    {BYTES("tools"), read_tools},
    {BYTES("functions"), read_tools},
    {BYTES("system"), read_system},
    {BYTES("instructions"), read_system},
    {BYTES("prompt"), read_prompt},
    {BYTES("input"), read_prompt},
    {BYTES("inputs"), read_prompt},
    {BYTES("content"), read_prompt},
    {BYTES("suffix"), read_messages},
    {BYTES("query"), read_query},
    {BYTES("text_1"), read_query},
    {BYTES("documents"), read_documents},
    {BYTES("text_2"), read_documents},
};

static void read_one(struct reading *reading, struct json_string name, struct json_cursor *cursor)
{
    for (size_t i = 0; i < ARRAY_COUNT(members); i++) {
        if (is_named(name.written, members[i].name)) {
            members[i].read(reading, cursor);
            return;
        }
    }
    struct bytes value = json_cursor_value(cursor);
    if (name.bytes < name.written.len) { /* with escapes it may be any of them: it does not go for nothing */
        text_add(&reading->text, value, value.len);
    }
}

/* ---- the whole ---- */

/* Whether a path is one that generates nothing, by its last segment. */
static bool generates_nothing(struct bytes path)
{
    static const struct bytes names[] = {
        BYTES("embeddings"), BYTES("embed"),    BYTES("rerank"),      BYTES("score"),        BYTES("pooling"),
        BYTES("classify"),   BYTES("tokenize"), BYTES("moderations"), BYTES("count_tokens"),
    };
    const char *slash = path.len == 0 ? NULL : memrchr(path.ptr, '/', path.len);
    struct bytes last = slash == NULL ? path : (struct bytes){slash + 1, path.len - (size_t)(slash + 1 - path.ptr)};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (bytes_equal(last, names[i])) {
            return true;
        }
    }
    return false;
}

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint64_t product = (uint64_t)a * b;
    return product < UINT32_MAX ? (uint32_t)product : UINT32_MAX;
}

static void conclude(struct reading *reading, struct bytes path)
{
    struct demand *demand = reading->demand;
    bool is_prompts = bytes_equal(path, BYTES("/v1/completions"));
    bool is_silent = generates_nothing(path);
    uint32_t sequences = reading->n > reading->best_of ? reading->n : reading->best_of;
    sequences = sequences == 0 ? 1 : sequences;
    demand->choices = is_prompts ? multiply(reading->prompts, sequences) : sequences;
    if (is_silent) {
        demand->output_max = 0;
    } else {
        demand->output_max = reading->output_max != UINT32_MAX ? reading->output_max : reading->output_max_old;
    }
    if (demand->class == DEMAND_CLASS_NONE) {
        demand->class = reading->tier;
    }
    uint64_t again = reading->documents > 1 ? reading->query_bytes * (reading->documents - 1) : 0;
    demand->prompt_bytes = reading->text.bytes + again;
    demand->written_bytes = reading->text.written + again;
}

void demand_from_body(struct demand *demand, struct bytes path, struct bytes body)
{
    if (body.len == 0) {
        return;
    }
    struct json_cursor cursor = {body.ptr, body.ptr + body.len};
    if (!json_cursor_take(&cursor, '{')) {
        return;
    }
    struct reading reading = {
        .demand = demand,
        .prompts = 1,
        .output_max = UINT32_MAX,
        .output_max_old = UINT32_MAX,
        .tier = DEMAND_CLASS_NONE,
    };
    while (json_cursor_take(&cursor, '"')) {
        struct json_string name = json_cursor_string(&cursor);
        if (!json_cursor_take(&cursor, ':')) {
            break;
        }
        read_one(&reading, name, &cursor);
        if (!json_cursor_take(&cursor, ',')) {
            break;
        }
    }
    conclude(&reading, path);
}

/* ---- blocks ---- */

/* Tokens as four bytes each, which is what they count as. */
static void hash_tokens(struct hashing *hashing, struct bytes array)
{
    for (size_t i = 0; i < array.len && hashing->count < hashing->max; i++) {
        uint32_t token = 0;
        bool is_any = false;
        for (; i < array.len && is_digit(array.ptr[i]); i++) {
            token = token * 10 + (uint32_t)(array.ptr[i] - '0');
            is_any = true;
        }
        if (is_any) {
            hash_add(hashing, (struct bytes){(const char *)&token, DEMAND_TOKEN_BYTES});
        }
    }
}

uint32_t demand_blocks(const struct demand *demand, uint64_t *blocks, uint32_t blocks_max)
{
    struct hashing hashing = {.blocks = blocks, .max = blocks_max, .used = sizeof(uint64_t)};
    struct text text = {.hashing = &hashing};
    for (unsigned part = 0; part < DEMAND_PARTS && hashing.count < blocks_max; part++) {
        struct bytes value = demand->parts[part];
        if (value.len == 0) {
            continue;
        }
        struct json_cursor cursor = {value.ptr, value.ptr + value.len};
        if (part == DEMAND_TOOLS) {
            text_add(&text, value, value.len);
        } else if (holds_tokens(cursor)) {
            hash_tokens(&hashing, value);
        } else {
            (void)walk(&cursor, &text);
        }
    }
    return hashing.count;
}

#include <stddef.h>

#include "api/json_skim.h"
#include "api/token_meter_internal.h"
#include "base/check.h"

enum state {
    STATE_BETWEEN,      /* strings and numbers, in a container whose place is known, or at the root */
    STATE_NAME,         /* in a member's name */
    STATE_STRING_FIRST, /* before the first byte of a string that counts unless it is empty */
    STATE_STRING,
    STATE_NUMBER,
    STATE_SKIP_FIRST, /* in a container that counts unless it is empty */
    STATE_SKIP,       /* in a container that nothing is looked for in */
    STATE_SKIP_STRING,
};

/* Where a value stands. The ways lead downwards only, ROOT to TOKENS being the longest: TOKEN_METER_DEPTH_MAX. */
enum place {
    PLACE_NOWHERE,
    PLACE_ROOT,
    PLACE_CHOICES,
    PLACE_CHOICE,
    PLACE_DELTA,       /* of a choice */
    PLACE_CONTENT,     /* counts unless it is empty: a string, or a container of parts or calls */
    PLACE_LOGPROBS,    /* of a choice */
    PLACE_TOKENS,      /* an array with one item for each token */
    PLACE_TOKEN,       /* one of them */
    PLACE_EVENT_DELTA, /* text (responses), or an object around it (messages) */
    PLACE_BLOCK,       /* messages: how one begins */
    PLACE_AROUND,      /* an answer inside an event */
    PLACE_USAGE,
    PLACE_DETAILS, /* of the prompt's tokens */
    /* numbers, in the order of enum counter */
    PLACE_COUNTERS,
};

enum counter { PROMPT, INPUT, OUTPUT, TOTAL, CACHED, CACHE_READ, CACHE_MADE };
_Static_assert(CACHE_MADE + 1 == TOKEN_METER_COUNTERS, "room for each");

enum { UNTOLD = UINT32_MAX };

/* The members that lead on, of each object. */
#define AT_ROOT(STEP)                  \
    STEP(PLACE_CHOICES, "choices")     \
    STEP(PLACE_USAGE, "usage")         \
    STEP(PLACE_EVENT_DELTA, "delta")   \
    STEP(PLACE_BLOCK, "content_block") \
    STEP(PLACE_AROUND, "message")      \
    STEP(PLACE_AROUND, "response")     \
    STEP(PLACE_CONTENT, "content")
#define AT_CHOICE(STEP)              \
    STEP(PLACE_DELTA, "delta")       \
    STEP(PLACE_CONTENT, "text")      \
    STEP(PLACE_LOGPROBS, "logprobs") \
    STEP(PLACE_TOKENS, "token_ids")
#define AT_DELTA(STEP)                       \
    STEP(PLACE_CONTENT, "content")           \
    STEP(PLACE_CONTENT, "reasoning_content") \
    STEP(PLACE_CONTENT, "reasoning")         \
    STEP(PLACE_CONTENT, "tool_calls")        \
    STEP(PLACE_CONTENT, "refusal")           \
    STEP(PLACE_CONTENT, "function_call")
#define AT_LOGPROBS(STEP)         \
    STEP(PLACE_TOKENS, "content") \
    STEP(PLACE_TOKENS, "tokens")
#define AT_EVENT_DELTA(STEP)        \
    STEP(PLACE_CONTENT, "text")     \
    STEP(PLACE_CONTENT, "thinking") \
    STEP(PLACE_CONTENT, "partial_json")
#define AT_BLOCK(STEP)          \
    STEP(PLACE_CONTENT, "text") \
    STEP(PLACE_CONTENT, "name")
#define AT_AROUND(STEP) STEP(PLACE_USAGE, "usage")
#define AT_USAGE(STEP)                                               \
    STEP(PLACE_COUNTERS + PROMPT, "prompt_tokens")                   \
    STEP(PLACE_COUNTERS + INPUT, "input_tokens")                     \
    STEP(PLACE_COUNTERS + OUTPUT, "completion_tokens")               \
    STEP(PLACE_COUNTERS + OUTPUT, "output_tokens")                   \
    STEP(PLACE_COUNTERS + TOTAL, "total_tokens")                     \
    STEP(PLACE_COUNTERS + CACHED, "cached_tokens")                   \
    STEP(PLACE_COUNTERS + CACHED, "prompt_cache_hit_tokens")         \
    STEP(PLACE_COUNTERS + CACHE_READ, "cache_read_input_tokens")     \
    STEP(PLACE_COUNTERS + CACHE_MADE, "cache_creation_input_tokens") \
    STEP(PLACE_DETAILS, "prompt_tokens_details")                     \
    STEP(PLACE_DETAILS, "input_tokens_details")
#define AT_DETAILS(STEP) STEP(PLACE_COUNTERS + CACHED, "cached_tokens")

struct step {
    uint8_t to;
    uint8_t bytes;
    char name[TOKEN_METER_NAME_BYTES]; /* zeros behind it */
};

#define STEP(to, name)   {to, sizeof(name) - 1, name},
#define STEPS(members)   ((const struct step[]){members(STEP){PLACE_NOWHERE, 0, ""}})
#define LENGTH(to, name) | UINT32_C(1) << (sizeof(name) - 1)

/* What is told apart of an object with these members: their lengths, a bit each, spare most names a closer look. */
#define OBJECT(members) .steps = STEPS(members), .lengths = 0 members(LENGTH)

static const struct traits {
    const struct step *steps; /* of an object; NULL: it is none */
    uint32_t lengths;
    uint8_t item; /* of an array; PLACE_NOWHERE: it is none */
    bool is_text; /* a string here is content */
} traits[PLACE_COUNTERS + TOKEN_METER_COUNTERS] = {
    [PLACE_ROOT] = {OBJECT(AT_ROOT)},       [PLACE_CHOICES] = {.item = PLACE_CHOICE},
    [PLACE_CHOICE] = {OBJECT(AT_CHOICE)},   [PLACE_DELTA] = {OBJECT(AT_DELTA)},
    [PLACE_CONTENT] = {.is_text = true},    [PLACE_LOGPROBS] = {OBJECT(AT_LOGPROBS)},
    [PLACE_TOKENS] = {.item = PLACE_TOKEN}, [PLACE_EVENT_DELTA] = {OBJECT(AT_EVENT_DELTA), .is_text = true},
    [PLACE_BLOCK] = {OBJECT(AT_BLOCK)},     [PLACE_AROUND] = {OBJECT(AT_AROUND)},
    [PLACE_USAGE] = {OBJECT(AT_USAGE)},     [PLACE_DETAILS] = {OBJECT(AT_DETAILS)},
};

/* ---- what is found ---- */

static void json_start(struct token_meter *meter)
{
    meter->state = STATE_BETWEEN;
    meter->place = PLACE_ROOT;
    meter->expects_name = false;
    meter->is_escaped = false;
    meter->depth = 0;
}

void token_meter_init(struct token_meter *meter, bool is_stream)
{
    memset(meter, 0, offsetof(struct token_meter, frame));
    meter->is_stream = is_stream;
    meter->frame.head_bytes = 0;
    json_start(meter);
}

void token_meter_on_content(struct token_meter *meter)
{
    meter->has_content |= meter->is_stream;
    meter->choice_has_content = true;
    meter->event_has_content = true;
}

void token_meter_settle_choice(struct token_meter *meter)
{
    uint32_t tokens = meter->choice_items > 0 ? meter->choice_items : meter->choice_has_content ? 1 : 0;
    if (meter->is_stream) {
        meter->tokens += tokens;
        meter->has_content |= tokens > 0;
        meter->event_has_content |= tokens > 0;
    }
    meter->choice_items = 0;
    meter->choice_has_content = false;
}

static uint32_t sum(uint32_t a, uint32_t b)
{
    return b == UNTOLD ? a : a > UNTOLD - b ? UNTOLD : a + b;
}

/* Members that are missing leave what an earlier usage has said: messages tell the prompt first and the output last. */
static void usage_done(struct token_meter *meter)
{
    const uint32_t *told = meter->counters;
    if (told[PROMPT] != UNTOLD) {
        meter->prompt_tokens = told[PROMPT];
    } else if (told[INPUT] != UNTOLD) { /* which leaves out what it has beside it */
        meter->prompt_tokens = sum(sum(told[INPUT], told[CACHE_READ]), told[CACHE_MADE]);
    } else if (told[TOTAL] != UNTOLD && told[OUTPUT] == UNTOLD) { /* what ranks tells nothing else */
        meter->prompt_tokens = told[TOTAL];
    }
    if (told[CACHED] != UNTOLD || told[CACHE_READ] != UNTOLD) {
        meter->cached_tokens = told[CACHED] != UNTOLD ? told[CACHED] : told[CACHE_READ];
    }
    if (told[OUTPUT] != UNTOLD) {
        meter->output_tokens = told[OUTPUT];
    }
    bool is_told = told[PROMPT] != UNTOLD || told[INPUT] != UNTOLD || told[OUTPUT] != UNTOLD || told[TOTAL] != UNTOLD;
    meter->event_has_usage |= is_told;
    meter->has_usage |= is_told && !meter->is_stream;
}

void token_meter_event_done(struct token_meter *meter)
{
    token_meter_settle_choice(meter);
    if (meter->event_has_usage || meter->event_has_content) {
        meter->has_usage = meter->event_has_usage;
    }
    meter->event_has_usage = false;
    meter->event_has_content = false;
    json_start(meter);
}

/* ---- values ---- */

static uint8_t outer_place(const struct token_meter *meter)
{
    return meter->depth == 0 ? PLACE_NOWHERE : meter->places[meter->depth - 1];
}

/* A value begins: gives where it stands, which nothing else in its container does. */
static uint8_t take_place(struct token_meter *meter)
{
    uint8_t place = meter->place;
    meter->place = PLACE_NOWHERE;
    meter->choice_items += place == PLACE_TOKEN;
    return place;
}

static void open_container(struct token_meter *meter, bool is_object)
{
    uint8_t place = take_place(meter);
    if (is_object ? traits[place].steps == NULL : traits[place].item == PLACE_NOWHERE) {
        meter->state = place == PLACE_CONTENT ? STATE_SKIP_FIRST : STATE_SKIP;
        meter->skip_depth = 1;
        return;
    }
    CHECK(meter->depth < TOKEN_METER_DEPTH_MAX); /* as the table has it */
    meter->places[meter->depth++] = place;
    meter->expects_name = is_object;
    meter->place = traits[place].item;
    if (place == PLACE_USAGE) {
        meter->texts = TOKEN_METER_TEXTS_MANY;
        for (unsigned i = 0; i < TOKEN_METER_COUNTERS; i++) {
            meter->counters[i] = UNTOLD;
        }
    }
}

static void close_container(struct token_meter *meter)
{
    uint8_t place = outer_place(meter);
    if (place == PLACE_NOWHERE) {
        return;
    }
    meter->depth--;
    meter->place = PLACE_NOWHERE;
    meter->expects_name = false;
    if (place == PLACE_CHOICE) {
        token_meter_settle_choice(meter);
    } else if (place == PLACE_USAGE) {
        usage_done(meter);
    }
}

static void next_value(struct token_meter *meter)
{
    const struct traits *outer = &traits[outer_place(meter)];
    meter->expects_name = outer->steps != NULL;
    meter->place = outer->item;
}

static void start_number(struct token_meter *meter, char digit)
{
    uint8_t place = take_place(meter);
    if (place >= PLACE_COUNTERS) {
        meter->state = STATE_NUMBER;
        meter->place = place;
        meter->number = (uint64_t)(digit - '0');
    }
}

static const char *in_number(struct token_meter *meter, const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9') {
        uint64_t number = meter->number * 10 + (uint64_t)(*at++ - '0');
        meter->number = number < UNTOLD ? number : UNTOLD - 1;
    }
    if (at < end) {
        meter->counters[meter->place - PLACE_COUNTERS] = (uint32_t)meter->number;
        meter->place = PLACE_NOWHERE;
        meter->state = STATE_BETWEEN;
    }
    return at;
}

/* ---- strings ---- */

static uint64_t word_of(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

/* Where a name leads to from the object around. `readable`: where the memory that it lies in ends. */
static uint8_t step_to(const struct token_meter *meter, struct bytes name, const char *readable)
{
    const struct traits *outer = &traits[outer_place(meter)];
    if (name.len > TOKEN_METER_NAME_BYTES || (outer->lengths >> name.len & 1) == 0) {
        return PLACE_NOWHERE;
    }
    char copy[sizeof(uint64_t)] = {0};
    const char *from = name.ptr;
    if (readable - from < (ptrdiff_t)sizeof(copy)) {
        from = copy;
        bytes_put(copy, (struct bytes){name.ptr, name.len < sizeof(copy) ? name.len : sizeof(copy)});
    }
    uint64_t word = word_of(from);
    if (name.len < sizeof(word)) {
        uint64_t keep = (UINT64_C(1) << (name.len * 8)) - 1; /* of the bytes that come first in memory */
        word &= __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(keep) : keep;
    }
    for (const struct step *step = outer->steps; step->to != PLACE_NOWHERE; step++) {
        if (word == word_of(step->name) && name.len == step->bytes &&
            (name.len <= sizeof(word) || memcmp(name.ptr, step->name, name.len) == 0)) {
            return step->to;
        }
    }
    return PLACE_NOWHERE;
}

/* Behind the quote. The usual string, which ends in the same run, is done with here. Gives where the next piece is. */
static const char *start_string(struct token_meter *meter, const char *at, const char *end)
{
    const char *stop = json_skim_string(at, end);
    bool is_whole = stop < end && *stop == '"';
    if (meter->expects_name) {
        meter->expects_name = false;
        if (LIKELY(is_whole)) {
            meter->place = step_to(meter, (struct bytes){at, (size_t)(stop - at)}, end);
            return stop + 1;
        }
        meter->state = STATE_NAME;
        meter->text_bytes = 0;
        return at;
    }
    bool counts = traits[take_place(meter)].is_text;
    if (counts && stop > at) {
        token_meter_on_content(meter);
        meter->text_at = at;
        meter->texts++;
    } else if (counts && !is_whole) {
        meter->state = STATE_STRING_FIRST;
        return at;
    }
    if (LIKELY(is_whole)) {
        return stop + 1;
    }
    meter->state = STATE_STRING;
    return stop;
}

static const char *in_string(struct token_meter *meter, const char *at, const char *end)
{
    if (meter->is_escaped) {
        meter->is_escaped = false;
        at++;
    }
    at = json_skim_string(at, end);
    while (at < end && *at == '\\') {
        meter->is_escaped = at + 1 == end;
        if (meter->is_escaped) {
            return end;
        }
        at = json_skim_string(at + 2, end);
    }
    if (at == end) {
        return end;
    }
    meter->state = meter->state == STATE_SKIP_STRING ? STATE_SKIP : STATE_BETWEEN;
    return at + 1;
}

static void text_add(struct token_meter *meter, struct bytes part)
{
    bool was_longer = meter->text_bytes > sizeof(meter->text);
    if (was_longer || part.len > sizeof(meter->text) - meter->text_bytes) {
        meter->text_bytes = sizeof(meter->text) + 1;
        return;
    }
    bytes_put(meter->text + meter->text_bytes, part);
    meter->text_bytes = (uint8_t)(meter->text_bytes + part.len);
}

static const char *in_name(struct token_meter *meter, const char *at, const char *end)
{
    const char *stop = json_skim_string(at, end);
    struct bytes name = {at, (size_t)(stop - at)};
    if (stop == end || meter->text_bytes > 0) {
        text_add(meter, name);
        name = (struct bytes){meter->text, meter->text_bytes};
    }
    if (stop == end) {
        return end;
    }
    if (*stop == '\\') { /* none that is looked for has escapes */
        meter->state = STATE_STRING;
        return stop;
    }
    meter->state = STATE_BETWEEN;
    meter->place = step_to(meter, name, name.ptr + name.len);
    return stop + 1;
}

/* ---- between them ---- */

enum class { CLASS_NONE, CLASS_QUOTE, CLASS_COMMA, CLASS_OPEN, CLASS_CLOSE, CLASS_DIGIT, CLASS_MINUS };

static const uint8_t classes[256] = {
    ['"'] = CLASS_QUOTE, [','] = CLASS_COMMA, ['{'] = CLASS_OPEN,  ['['] = CLASS_OPEN,  ['}'] = CLASS_CLOSE,
    [']'] = CLASS_CLOSE, ['-'] = CLASS_MINUS, ['0'] = CLASS_DIGIT, ['1'] = CLASS_DIGIT, ['2'] = CLASS_DIGIT,
    ['3'] = CLASS_DIGIT, ['4'] = CLASS_DIGIT, ['5'] = CLASS_DIGIT, ['6'] = CLASS_DIGIT, ['7'] = CLASS_DIGIT,
    ['8'] = CLASS_DIGIT, ['9'] = CLASS_DIGIT,
};

/* Goes on where strings, numbers and containers begin and end, until one of them has to go on in a state of its own.
 * Gives where that is. */
static const char *in_between(struct token_meter *meter, const char *at, const char *end)
{
    while (at < end) {
        char c = *at++;
        switch ((enum class)classes[(unsigned char)c]) {
        case CLASS_NONE: continue;
        case CLASS_QUOTE: at = start_string(meter, at, end); break;
        case CLASS_COMMA: next_value(meter); continue;
        case CLASS_OPEN: open_container(meter, c == '{'); break;
        case CLASS_CLOSE: close_container(meter); continue;
        case CLASS_DIGIT:
            if (meter->place == PLACE_NOWHERE) {
                continue;
            }
            start_number(meter, c);
            break;
        case CLASS_MINUS: (void)take_place(meter); continue; /* no figure that is asked for is less than nothing */
        }
        if (meter->state != STATE_BETWEEN) {
            return at;
        }
    }
    return at;
}

/* ---- what is passed over ---- */

static const char *in_skip(struct token_meter *meter, const char *at, const char *end)
{
    at = json_skim_bracket(at, end);
    if (at == end) {
        return end;
    }
    if (*at == '"') {
        meter->state = STATE_SKIP_STRING;
    } else if (*at == '{' || *at == '[') {
        meter->skip_depth++;
    } else if (--meter->skip_depth == 0) {
        meter->state = STATE_BETWEEN;
    }
    return at + 1;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Before the first item of a container that counts. */
static const char *in_skip_first(struct token_meter *meter, const char *at, const char *end)
{
    while (at < end && is_space(*at)) {
        at++;
    }
    if (at < end) {
        if (*at != '}' && *at != ']') {
            token_meter_on_content(meter);
        }
        meter->state = STATE_SKIP;
    }
    return at;
}

void token_meter_feed_json(struct token_meter *meter, struct bytes run)
{
    const char *at = run.ptr;
    const char *end = run.ptr + run.len;
    while (at < end) {
        switch ((enum state)meter->state) {
        case STATE_BETWEEN: at = in_between(meter, at, end); break;
        case STATE_NAME: at = in_name(meter, at, end); break;
        case STATE_STRING_FIRST:
            if (*at != '"') {
                token_meter_on_content(meter);
            }
            meter->state = STATE_STRING;
            break;
        case STATE_STRING:
        case STATE_SKIP_STRING: at = in_string(meter, at, end); break;
        case STATE_NUMBER: at = in_number(meter, at, end); break;
        case STATE_SKIP_FIRST: at = in_skip_first(meter, at, end); break;
        case STATE_SKIP: at = in_skip(meter, at, end); break;
        }
    }
}

/* ---- for who looks at whole lines ---- */

bool token_meter_is_fresh(const struct token_meter *meter)
{
    return meter->place == PLACE_ROOT && meter->depth == 0;
}

bool token_meter_is_through(const struct token_meter *meter)
{
    return meter->state == STATE_BETWEEN && meter->depth == 0 && meter->place == PLACE_NOWHERE;
}

void token_meter_pass(struct token_meter *meter)
{
    meter->place = PLACE_NOWHERE;
}

void token_meter_feed(struct token_meter *meter, struct bytes run)
{
    if (run.len == 0) {
        return;
    }
    if (meter->is_stream) {
        token_meter_feed_lines(meter, run);
    } else {
        token_meter_feed_json(meter, run);
    }
}

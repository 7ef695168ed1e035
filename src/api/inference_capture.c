#include "api/inference_capture.h"

enum place {
    PLACE_ROOT = JSON_SCAN_ROOT,
    PLACE_ERROR,
    PLACE_OBJECT,
    PLACE_TYPE,
    PLACE_CHOICES,
    PLACE_CHOICE,
    PLACE_INDEX,
    PLACE_FINISH_REASON,
    PLACE_MESSAGE,
    PLACE_TOOL_CALLS,
    PLACE_TOOL_CALL,
    PLACE_FUNCTION_CALL,
    PLACE_USAGE,
    PLACE_PROMPT_TOKENS,
    PLACE_COMPLETION_TOKENS,
    PLACE_RESPONSE,
    PLACE_STATUS,
    PLACE_OUTPUT,
    PLACE_OUTPUT_ITEM,
    PLACE_OUTPUT_TYPE,
    PLACE_LIST,
};

static const struct json_step steps[] = {
    {PLACE_ROOT, PLACE_CHOICES, BYTES("choices")},
    {PLACE_ROOT, PLACE_ERROR, BYTES("error")},
    {PLACE_ROOT, PLACE_OBJECT, BYTES("object")},
    {PLACE_ROOT, PLACE_TYPE, BYTES("type")},
    {PLACE_ROOT, PLACE_USAGE, BYTES("usage")},
    {PLACE_CHOICES, PLACE_CHOICE, BYTES_NONE},
    {PLACE_CHOICE, PLACE_INDEX, BYTES("index")},
    {PLACE_CHOICE, PLACE_FINISH_REASON, BYTES("finish_reason")},
    {PLACE_CHOICE, PLACE_MESSAGE, BYTES("message")},
    {PLACE_CHOICE, PLACE_MESSAGE, BYTES("delta")},
    {PLACE_CHOICE, PLACE_ERROR, BYTES("error")},
    {PLACE_MESSAGE, PLACE_TOOL_CALLS, BYTES("tool_calls")},
    {PLACE_MESSAGE, PLACE_FUNCTION_CALL, BYTES("function_call")},
    {PLACE_TOOL_CALLS, PLACE_TOOL_CALL, BYTES_NONE},
    {PLACE_USAGE, PLACE_PROMPT_TOKENS, BYTES("prompt_tokens")},
    {PLACE_USAGE, PLACE_PROMPT_TOKENS, BYTES("input_tokens")},
    {PLACE_USAGE, PLACE_COMPLETION_TOKENS, BYTES("completion_tokens")},
    {PLACE_USAGE, PLACE_COMPLETION_TOKENS, BYTES("output_tokens")},
    /* embeddings and scores; what ranks */
    {PLACE_ROOT, PLACE_LIST, BYTES("data")},
    {PLACE_ROOT, PLACE_LIST, BYTES("results")},
    /* the Responses API: an answer, or an event around one */
    {PLACE_ROOT, PLACE_STATUS, BYTES("status")},
    {PLACE_ROOT, PLACE_OUTPUT, BYTES("output")},
    {PLACE_ROOT, PLACE_RESPONSE, BYTES("response")},
    {PLACE_RESPONSE, PLACE_ERROR, BYTES("error")},
    {PLACE_RESPONSE, PLACE_STATUS, BYTES("status")},
    {PLACE_RESPONSE, PLACE_USAGE, BYTES("usage")},
    {PLACE_RESPONSE, PLACE_OUTPUT, BYTES("output")},
    {PLACE_OUTPUT, PLACE_OUTPUT_ITEM, BYTES_NONE},
    {PLACE_OUTPUT_ITEM, PLACE_OUTPUT_TYPE, BYTES("type")},
    {0, 0, BYTES_NONE},
};

enum line_part { LINE_NAME, LINE_SPACE, LINE_VALUE };
enum line_field { FIELD_OTHER, FIELD_DATA, FIELD_EVENT };

static void refuse(struct inference_capture *capture, enum inference_reason reason)
{
    if (capture->reason == INFERENCE_OK) {
        capture->reason = reason;
    }
}

static void refuse_tool_call(struct inference_capture *capture)
{
    if (!capture->stores_tool_calls) {
        refuse(capture, INFERENCE_TOOL_CALLS);
    }
}

static bool is_any(struct bytes text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (bytes_equal(text, bytes_from(*words))) {
            return true;
        }
    }
    return false;
}

/* ---- what the members say ---- */

static void on_finish_reason(struct inference_capture *capture, enum json_scan_event event, struct bytes text)
{
    static const char *const bad[] = {"error", "abort", "content_filter", NULL};
    static const char *const calls[] = {"tool_calls", "function_call", NULL};
    if (event != JSON_SCAN_STRING || (text.ptr != NULL && text.len == 0)) {
        return; /* null, as in all chunks but the last; some write an empty string */
    }
    if (is_any(text, bad)) {
        refuse(capture, INFERENCE_FINISHED_BADLY);
    } else if (is_any(text, calls)) {
        refuse_tool_call(capture);
    }
    capture->choice_finished = true;
}

static void on_choice(struct inference_capture *capture, enum json_scan_event event, struct bytes text)
{
    if (event == JSON_SCAN_OPEN && bytes_equal(text, BYTES("{"))) {
        capture->choice_index = capture->choice_count++;
        capture->choice_finished = false;
        return;
    }
    if (event != JSON_SCAN_CLOSE) {
        refuse(capture, INFERENCE_MALFORMED);
        return;
    }
    if (capture->choice_index >= INFERENCE_CHOICES_MAX) {
        refuse(capture, INFERENCE_TOO_MANY_CHOICES);
        return;
    }
    uint64_t bit = UINT64_C(1) << (capture->choice_index % 64);
    capture->seen[capture->choice_index / 64] |= bit;
    capture->finished[capture->choice_index / 64] |= capture->choice_finished ? bit : 0;
}

static void on_type(struct inference_capture *capture, enum json_scan_event event, struct bytes text)
{
    if (event != JSON_SCAN_STRING) {
        return;
    }
    if (bytes_equal(text, BYTES("error")) || bytes_equal(text, BYTES("response.failed"))) {
        refuse(capture, INFERENCE_ERROR_IN_BODY);
    } else if (bytes_equal(text, BYTES("response.incomplete"))) {
        refuse(capture, INFERENCE_TRUNCATED);
    } else if (bytes_equal(text, BYTES("response.completed"))) {
        capture->event_completes = true;
    }
}

static void on_status(struct inference_capture *capture, struct bytes text)
{
    if (capture->family != INFERENCE_RESPONSES) {
        return;
    }
    if (bytes_equal(text, BYTES("failed"))) {
        refuse(capture, INFERENCE_ERROR_IN_BODY);
    }
    capture->is_completed = bytes_equal(text, BYTES("completed"));
}

/* Members that back-ends write for "no error", too. */
static bool is_nothing(enum json_scan_event event, struct bytes text)
{
    return event == JSON_SCAN_CLOSE || (event == JSON_SCAN_WORD && !bytes_equal(text, BYTES("true"))) ||
           (event == JSON_SCAN_STRING && text.ptr != NULL && text.len == 0);
}

static void on_output_type(struct inference_capture *capture, struct bytes text)
{
    static const char *const words[] = {"message", "reasoning", NULL};
    if (!is_any(text, words)) {
        refuse_tool_call(capture);
    }
}

static void on_member(void *context, uint8_t place, enum json_scan_event event, struct bytes text)
{
    struct inference_capture *capture = context;
    bool is_open = event == JSON_SCAN_OPEN;
    switch ((enum place)place) {
    case PLACE_ROOT: capture->is_object |= is_open && bytes_equal(text, BYTES("{")); return;
    case PLACE_ERROR:
        if (!is_nothing(event, text)) {
            refuse(capture, INFERENCE_ERROR_IN_BODY);
        }
        return;
    case PLACE_OBJECT:
        if (event == JSON_SCAN_STRING && bytes_equal(text, BYTES("error"))) {
            refuse(capture, INFERENCE_ERROR_IN_BODY);
        }
        return;
    case PLACE_TYPE: on_type(capture, event, text); return;
    case PLACE_CHOICES: capture->choice_count = is_open ? 0 : capture->choice_count; return;
    case PLACE_CHOICE: on_choice(capture, event, text); return;
    case PLACE_INDEX:
        if (event != JSON_SCAN_NUMBER || !bytes_to_u64(text, &capture->choice_index)) {
            refuse(capture, INFERENCE_MALFORMED);
        }
        return;
    case PLACE_FINISH_REASON: on_finish_reason(capture, event, text); return;
    case PLACE_FUNCTION_CALL:
    case PLACE_TOOL_CALL:
        if (is_open) {
            refuse_tool_call(capture);
        }
        return;
    case PLACE_USAGE: capture->has_usage |= is_open; return;
    case PLACE_PROMPT_TOKENS: (void)bytes_to_u64(text, &capture->prompt_tokens); return;
    case PLACE_COMPLETION_TOKENS: (void)bytes_to_u64(text, &capture->completion_tokens); return;
    case PLACE_STATUS: on_status(capture, text); return;
    case PLACE_OUTPUT_TYPE: on_output_type(capture, text); return;
    case PLACE_LIST: capture->has_list |= is_open && bytes_equal(text, BYTES("[")); return;
    case PLACE_MESSAGE:
    case PLACE_TOOL_CALLS:
    case PLACE_RESPONSE:
    case PLACE_OUTPUT:
    case PLACE_OUTPUT_ITEM: return;
    }
}

/* ---- lines and events ---- */

static uint8_t keep(char *at, uint8_t used, size_t size, struct bytes run)
{
    size_t kept = run.len < size - used ? run.len : size - used;
    bytes_put(at + used, (struct bytes){run.ptr, kept});
    return (uint8_t)(used + kept);
}

static void add_data(struct inference_capture *capture, struct bytes run)
{
    capture->data_bytes = keep(capture->data, capture->data_bytes, sizeof(capture->data), run);
    /* Whether it is wrong is asked at the event's end: `[DONE]` is no JSON either. */
    (void)json_scan_feed(&capture->scan, run, on_member, capture);
}

/* The field's name is known, up to the colon or the line's end. */
static void name_done(struct inference_capture *capture)
{
    struct bytes name = {capture->name, capture->name_bytes};
    const struct bytes mark = BYTES("\xef\xbb\xbf");
    if (!capture->past_bom && bytes_starts_with(name, mark)) {
        name = (struct bytes){name.ptr + mark.len, name.len - mark.len};
    }
    capture->past_bom = true;
    capture->line_field = FIELD_OTHER;
    if (bytes_equal(name, BYTES("data"))) {
        capture->line_field = FIELD_DATA;
        if (capture->has_data) {
            add_data(capture, BYTES("\n"));
        }
        capture->has_data = true;
    } else if (bytes_equal(name, BYTES("event"))) {
        capture->line_field = FIELD_EVENT;
        capture->event_bytes = 0;
    } else if (bytes_equal(name, BYTES("error"))) {
        refuse(capture, INFERENCE_ERROR_IN_BODY); /* llama.cpp's way: `error: {…}` */
    }
    capture->line_part = LINE_SPACE;
}

static void event_done(struct inference_capture *capture)
{
    bool is_done = bytes_starts_with((struct bytes){capture->data, capture->data_bytes}, BYTES("[DONE]"));
    if (bytes_equal((struct bytes){capture->event, capture->event_bytes}, BYTES("error"))) {
        refuse(capture, INFERENCE_ERROR_IN_BODY);
    } else if (!capture->has_data) {
        return;
    } else if (is_done) {
        capture->ended |= capture->family != INFERENCE_RESPONSES;
    } else if (capture->ended || !json_scan_end(&capture->scan, on_member, capture) || !capture->is_object) {
        refuse(capture, INFERENCE_MALFORMED);
    }
    capture->ended |= capture->event_completes && capture->family == INFERENCE_RESPONSES;
    capture->event_completes = false;
    capture->is_object = false;
    capture->has_data = false;
    capture->data_bytes = 0;
    json_scan_init(&capture->scan, steps);
}

static void line_done(struct inference_capture *capture)
{
    if (capture->line_part == LINE_NAME) {
        name_done(capture);
    }
    bool is_blank = capture->line_field == FIELD_OTHER && capture->name_bytes == 0 && capture->line_part == LINE_SPACE;
    capture->line_part = LINE_NAME;
    capture->name_bytes = 0;
    if (is_blank) {
        event_done(capture);
        capture->event_bytes = 0;
    }
}

/* A part of a line, without its end. */
static void add_to_line(struct inference_capture *capture, struct bytes part)
{
    if (capture->line_part == LINE_NAME && part.len > 0) {
        const char *colon = memchr(part.ptr, ':', part.len);
        size_t length = colon == NULL ? part.len : (size_t)(colon - part.ptr);
        capture->name_bytes =
            keep(capture->name, capture->name_bytes, sizeof(capture->name), (struct bytes){part.ptr, length});
        if (colon == NULL) {
            return;
        }
        name_done(capture);
        part = (struct bytes){colon + 1, part.len - length - 1};
        capture->name_bytes = sizeof(capture->name); /* a comment's name is empty, and its line is not blank */
    }
    if (capture->line_part == LINE_SPACE && part.len > 0) {
        capture->line_part = LINE_VALUE;
        if (part.ptr[0] == ' ') {
            part = (struct bytes){part.ptr + 1, part.len - 1};
        }
    }
    if (capture->line_field == FIELD_DATA) {
        add_data(capture, part);
    } else if (capture->line_field == FIELD_EVENT) {
        capture->event_bytes = keep(capture->event, capture->event_bytes, sizeof(capture->event), part);
    }
}

static size_t line_length(struct bytes run)
{
    const char *lf = memchr(run.ptr, '\n', run.len);
    size_t length = lf == NULL ? run.len : (size_t)(lf - run.ptr);
    const char *cr = memchr(run.ptr, '\r', length);
    return cr == NULL ? length : (size_t)(cr - run.ptr);
}

static void feed_events(struct inference_capture *capture, struct bytes run)
{
    while (run.len > 0) {
        bool is_second_half = capture->skip_lf && run.ptr[0] == '\n';
        capture->skip_lf = false;
        size_t length = is_second_half ? 0 : line_length(run);
        if (!is_second_half) {
            add_to_line(capture, (struct bytes){run.ptr, length});
            if (length == run.len) {
                return;
            }
            capture->skip_lf = run.ptr[length] == '\r';
            line_done(capture);
        }
        run = (struct bytes){run.ptr + length + 1, run.len - length - 1};
    }
}

/* ---- the whole ---- */

static bool is_json(struct bytes content_type)
{
    const char *end = content_type.len == 0 ? NULL : memchr(content_type.ptr, ';', content_type.len);
    content_type.len = end == NULL ? content_type.len : (size_t)(end - content_type.ptr);
    return bytes_equal_nocase(bytes_trim(content_type), BYTES("application/json"));
}

static bool can_stream(enum inference_family family)
{
    return family == INFERENCE_CHAT || family == INFERENCE_COMPLETIONS || family == INFERENCE_RESPONSES;
}

void inference_capture_init(struct inference_capture *capture, enum inference_family family, bool stores_tool_calls,
                            const struct inference_answer_head *head)
{
    *capture = (struct inference_capture){
        .family = family, .stores_tool_calls = stores_tool_calls, .is_event_stream = head->is_event_stream};
    json_scan_init(&capture->scan, steps);
    if (family == INFERENCE_FAMILY_NONE) {
        capture->reason = INFERENCE_UNKNOWN_FAMILY;
    } else if (head->status != 200) {
        capture->reason = INFERENCE_STATUS;
    } else if (head->has_content_coding ||
               (head->is_event_stream ? !can_stream(family) : !is_json(head->content_type))) {
        capture->reason = INFERENCE_CONTENT_TYPE;
    }
}

void inference_capture_feed(struct inference_capture *capture, struct bytes run)
{
    if (capture->reason != INFERENCE_OK) {
        return;
    }
    if (capture->is_event_stream) {
        feed_events(capture, run);
    } else if (!json_scan_feed(&capture->scan, run, on_member, capture)) {
        refuse(capture, INFERENCE_MALFORMED);
    }
}

static bool has_finished(const struct inference_capture *capture)
{
    if (capture->family == INFERENCE_RESPONSES) {
        return capture->is_completed;
    }
    if (!can_stream(capture->family)) {
        return capture->has_list; /* any other object may be a notice that a proxy in between has made */
    }
    uint64_t any = 0;
    for (unsigned i = 0; i < INFERENCE_CHOICES_MAX / 64; i++) {
        any |= capture->seen[i];
        if (capture->seen[i] != capture->finished[i]) {
            return false;
        }
    }
    return any != 0;
}

static enum inference_reason final_reason(struct inference_capture *capture)
{
    if (capture->reason != INFERENCE_OK) {
        return capture->reason;
    }
    if (!capture->is_event_stream) {
        bool is_whole = json_scan_end(&capture->scan, on_member, capture) && capture->is_object;
        return !is_whole ? INFERENCE_MALFORMED : has_finished(capture) ? INFERENCE_OK : INFERENCE_TRUNCATED;
    }
    bool in_event = capture->has_data || capture->name_bytes > 0 || capture->line_part != LINE_NAME;
    if (!capture->ended || in_event) {
        return INFERENCE_NO_END;
    }
    return has_finished(capture) ? INFERENCE_OK : INFERENCE_TRUNCATED;
}

struct inference_verdict inference_capture_end(const struct inference_capture *capture)
{
    struct inference_capture last = *capture;
    enum inference_reason reason = final_reason(&last);
    if (reason != INFERENCE_OK) {
        return (struct inference_verdict){.reason = reason};
    }
    return (struct inference_verdict){
        .form = !last.is_event_stream ? INFERENCE_FORM_JSON
                : last.has_usage      ? INFERENCE_FORM_STREAM_WITH_USAGE
                                      : INFERENCE_FORM_STREAM,
        .has_usage = last.has_usage,
        .prompt_tokens = last.prompt_tokens,
        .completion_tokens = last.completion_tokens,
    };
}

/* The event stream around the JSON: lines, events, and the way past lines that are all alike. */
#include "api/json_skim.h"
#include "api/token_meter_internal.h"

/* A part of a line, without its end. */
static void feed_line(struct token_meter *meter, struct bytes part)
{
    const struct bytes data = BYTES("data:");
    if (meter->name_bytes == 0 && bytes_starts_with(part, data)) {
        meter->is_data = true;
        meter->name_bytes = (uint8_t)data.len;
        part = (struct bytes){part.ptr + data.len, part.len - data.len};
    }
    while (!meter->is_data && !meter->is_passed_over && part.len > 0) {
        meter->is_passed_over = part.ptr[0] != data.ptr[meter->name_bytes];
        meter->is_data = ++meter->name_bytes == data.len && !meter->is_passed_over;
        part = (struct bytes){part.ptr + 1, part.len - 1};
    }
    if (meter->is_data) {
        token_meter_feed_json(meter, part);
    }
}

static void line_done(struct token_meter *meter)
{
    if (meter->name_bytes == 0) {
        token_meter_event_done(meter);
    }
    meter->is_data = false;
    meter->is_passed_over = false;
    meter->name_bytes = 0;
}

/* ---- lines that are the same but for their text ---- */

/* Behind the string that begins at `at`: its quote; `end` when it does not end. */
static const char *text_end(const char *at, const char *end)
{
    at = json_skim_string(at, end);
    while (at < end && *at == '\\') {
        at = end - at > 2 ? json_skim_string(at + 2, end) : end;
    }
    return at;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Where the text of a line begins that has the frame's head; NULL: it has not. */
static const char *text_in_frame(const struct token_meter_frame *frame, struct bytes line)
{
    if (frame->head_bytes == 0 || line.len < frame->number_at || memcmp(line.ptr, frame->head, frame->number_at) != 0) {
        return NULL;
    }
    const char *at = line.ptr + frame->number_at;
    const char *end = line.ptr + line.len;
    while (frame->number_end > frame->number_at && at < end && is_digit(*at)) {
        at++;
    }
    size_t rest = frame->head_bytes - frame->number_end;
    if ((size_t)(end - at) < rest || (rest > 0 && memcmp(at, frame->head + frame->number_end, rest) != 0)) {
        return NULL;
    }
    return at + rest;
}

/* An event's first line, whole. True: it has a text and stands in the known frame, so it did what the last one did,
 * since what happens depends on the bytes alone. */
static bool feed_known(struct token_meter *meter, struct bytes line)
{
    const struct token_meter_frame *frame = &meter->frame;
    const char *text = text_in_frame(frame, line);
    if (text == NULL) {
        return false;
    }
    const char *end = line.ptr + line.len;
    const char *tail = text_end(text, end);
    if (tail == text ||
        !bytes_equal((struct bytes){tail, (size_t)(end - tail)}, (struct bytes){frame->tail, frame->tail_bytes})) {
        return false;
    }
    token_meter_on_content(meter);
    if (frame->ends_choice) {
        token_meter_settle_choice(meter);
    }
    token_meter_pass(meter);
    meter->is_data = true;
    meter->name_bytes = 1; /* no blank line */
    return true;
}

/* Finds the number in `head` where it first differs from the frame's: a member's value, since the quote before the
 * colon is no part of a string. */
static void find_number(struct token_meter_frame *frame, struct bytes head)
{
    size_t least = head.len < frame->head_bytes ? head.len : frame->head_bytes;
    size_t at = 0;
    while (at < least && head.ptr[at] == frame->head[at]) {
        at++;
    }
    while (at > 0 && is_digit(head.ptr[at - 1])) {
        at--;
    }
    size_t number_end = at;
    while (number_end < head.len && is_digit(head.ptr[number_end])) {
        number_end++;
    }
    bool is_member = at > 3 && head.ptr[at - 1] == ':' && head.ptr[at - 2] == '"' && head.ptr[at - 3] != '\\';
    frame->number_at = (uint16_t)(is_member && number_end > at ? at : head.len);
    frame->number_end = (uint16_t)(frame->number_at == at ? number_end : head.len);
}

/* The same line, when it is not known: keeps its frame if it had one text and nothing else. */
static void feed_and_learn(struct token_meter *meter, struct bytes line)
{
    uint32_t tokens = meter->tokens;
    meter->texts = 0;
    feed_line(meter, line);
    bool has_one_token = meter->choice_items == 0 && meter->tokens + meter->choice_has_content == tokens + 1;
    if (meter->texts != 1 || !has_one_token || !token_meter_is_through(meter)) {
        return;
    }
    const char *end = line.ptr + line.len;
    const char *tail = text_end(meter->text_at, end);
    struct bytes head = {line.ptr, (size_t)(meter->text_at - line.ptr)};
    struct bytes behind = {tail, (size_t)(end - tail)};
    struct token_meter_frame *frame = &meter->frame;
    if (head.len <= sizeof(frame->head) && behind.len <= sizeof(frame->tail)) {
        find_number(frame, head);
        bytes_put(frame->head, head);
        bytes_put(frame->tail, behind);
        frame->head_bytes = (uint16_t)head.len;
        frame->tail_bytes = (uint16_t)behind.len;
        frame->ends_choice = !meter->choice_has_content;
    }
}

static void feed_whole_line(struct token_meter *meter, struct bytes line)
{
    if (meter->name_bytes > 0 || !token_meter_is_fresh(meter) || line.ptr[0] != 'd') {
        feed_line(meter, line);
    } else if (!feed_known(meter, line)) {
        feed_and_learn(meter, line);
    }
}

static size_t line_length(struct bytes run)
{
    if (run.ptr[0] == '\n') {
        return 0;
    }
    const char *lf = memchr(run.ptr, '\n', run.len);
    size_t length = lf == NULL ? run.len : (size_t)(lf - run.ptr);
    const char *cr = memchr(run.ptr, '\r', length);
    return cr == NULL ? length : (size_t)(cr - run.ptr);
}

void token_meter_feed_lines(struct token_meter *meter, struct bytes run)
{
    while (run.len > 0) {
        size_t length = 0;
        if (!meter->skip_lf || run.ptr[0] != '\n') {
            length = line_length(run);
            struct bytes part = {run.ptr, length};
            meter->skip_lf = false;
            if (length == run.len) {
                feed_line(meter, part);
                return;
            }
            if (length > 0) {
                feed_whole_line(meter, part);
            }
            line_done(meter);
        }
        meter->skip_lf = run.ptr[length] == '\r';
        run = (struct bytes){run.ptr + length + 1, run.len - length - 1};
    }
}

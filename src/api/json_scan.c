#include "api/json_scan.h"

enum state {
    STATE_VALUE,       /* a value must come */
    STATE_FIRST_ITEM,  /* a value, or the end of an empty array */
    STATE_FIRST_NAME,  /* a name, or the end of an empty object */
    STATE_NAME,        /* a name must come */
    STATE_COLON,       /* between name and value */
    STATE_AFTER_VALUE, /* a comma, or the end of the container */
    STATE_STRING,
    STATE_ESCAPE, /* behind a backslash */
    STATE_HEX,    /* among the digits behind `\u` */
    STATE_NUMBER,
    STATE_WORD,
    STATE_DONE, /* the text's value is over: only white space may come */
    STATE_WRONG,
};

void json_scan_init(struct json_scan *scan, const struct json_step *steps)
{
    *scan = (struct json_scan){.steps = steps, .state = STATE_VALUE, .place = JSON_SCAN_ROOT};
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- where it is ---- */

static bool in_object(const struct json_scan *scan)
{
    uint32_t level = scan->depth - 1;
    return (scan->is_object[level / 64] >> (level % 64) & 1) != 0;
}

/* The place of the innermost container. */
static uint8_t outer_place(const struct json_scan *scan)
{
    return scan->depth > 0 && scan->depth <= JSON_SCAN_PLACES_MAX ? scan->places[scan->depth - 1] : JSON_SCAN_NOWHERE;
}

static uint8_t step_to(const struct json_scan *scan, uint8_t from, struct bytes name)
{
    if (from == JSON_SCAN_NOWHERE) {
        return JSON_SCAN_NOWHERE;
    }
    for (const struct json_step *step = scan->steps; step->from != 0; step++) {
        if (step->from == from && (step->name.ptr == NULL) == (name.ptr == NULL) && bytes_equal(name, step->name)) {
            return step->to;
        }
    }
    return JSON_SCAN_NOWHERE;
}

static struct bytes text_of(const struct json_scan *scan)
{
    return scan->text_is_whole ? (struct bytes){scan->text, scan->text_bytes} : BYTES_NONE;
}

static void say(json_scan_tell *tell, void *context, uint8_t place, enum json_scan_event event, struct bytes text)
{
    if (place != JSON_SCAN_NOWHERE) {
        tell(context, place, event, text);
    }
}

/* ---- tokens ---- */

static void text_start(struct json_scan *scan)
{
    scan->text_bytes = 0;
    scan->text_is_whole = true;
}

/* Keeps what fits; only what somebody may ask for. */
static void text_add(struct json_scan *scan, struct bytes run)
{
    size_t room = sizeof(scan->text) - scan->text_bytes;
    if (run.len > room) {
        scan->text_is_whole = false;
        run.len = room;
    }
    bytes_put(scan->text + scan->text_bytes, run);
    scan->text_bytes = (uint8_t)(scan->text_bytes + run.len);
}

static void after_value(struct json_scan *scan)
{
    scan->state = scan->depth == 0 ? STATE_DONE : STATE_AFTER_VALUE;
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?, over the start of a number: what is longer than the text kept
 * was checked as far as that. */
static bool is_number(struct bytes text, bool whole)
{
    size_t at = text.len > 0 && text.ptr[0] == '-';
    size_t first = at;
    while (at < text.len && is_digit(text.ptr[at])) {
        at++;
    }
    if (at == first || (text.ptr[first] == '0' && at > first + 1)) {
        return !whole && at == text.len && at == first;
    }
    if (at < text.len && text.ptr[at] == '.') {
        size_t point = at++;
        while (at < text.len && is_digit(text.ptr[at])) {
            at++;
        }
        if (at == point + 1) {
            return !whole && at == text.len;
        }
    }
    if (at < text.len && (text.ptr[at] | 0x20) == 'e') {
        at++;
        at += at < text.len && (text.ptr[at] == '+' || text.ptr[at] == '-');
        size_t digits = at;
        while (at < text.len && is_digit(text.ptr[at])) {
            at++;
        }
        if (at == digits) {
            return !whole && at == text.len;
        }
    }
    return at == text.len;
}

static bool is_word(struct bytes text)
{
    return bytes_equal(text, BYTES("null")) || bytes_equal(text, BYTES("true")) || bytes_equal(text, BYTES("false"));
}

/* A number or a word ends where something else begins. */
static bool bare_done(struct json_scan *scan, json_scan_tell *tell, void *context)
{
    bool is_num = scan->state == STATE_NUMBER;
    struct bytes kept = {scan->text, scan->text_bytes};
    if (is_num ? !is_number(kept, scan->text_is_whole) : !scan->text_is_whole || !is_word(kept)) {
        return false;
    }
    say(tell, context, scan->place, is_num ? JSON_SCAN_NUMBER : JSON_SCAN_WORD, text_of(scan));
    after_value(scan);
    return true;
}

static void string_done(struct json_scan *scan, json_scan_tell *tell, void *context)
{
    if (scan->in_key) {
        /* A name with escapes is not looked up: no backend writes those that matter in such a way. */
        struct bytes name = text_of(scan);
        scan->place = name.ptr == NULL ? JSON_SCAN_NOWHERE : step_to(scan, outer_place(scan), name);
        scan->in_key = false;
        scan->state = STATE_COLON;
        return;
    }
    say(tell, context, scan->place, JSON_SCAN_STRING, text_of(scan));
    after_value(scan);
}

/* ---- containers ---- */

static bool open_container(struct json_scan *scan, char c, json_scan_tell *tell, void *context)
{
    if (scan->depth == JSON_SCAN_DEPTH_MAX) {
        return false;
    }
    say(tell, context, scan->place, JSON_SCAN_OPEN, c == '{' ? BYTES("{") : BYTES("["));
    uint32_t level = scan->depth++;
    uint64_t bit = UINT64_C(1) << (level % 64);
    scan->is_object[level / 64] = c == '{' ? scan->is_object[level / 64] | bit : scan->is_object[level / 64] & ~bit;
    if (level < JSON_SCAN_PLACES_MAX) {
        scan->places[level] = scan->place;
    }
    if (c == '{') {
        scan->state = STATE_FIRST_NAME;
    } else {
        scan->state = STATE_FIRST_ITEM;
        scan->place = step_to(scan, outer_place(scan), BYTES_NONE);
    }
    return true;
}

static bool close_container(struct json_scan *scan, char c, json_scan_tell *tell, void *context)
{
    if (scan->depth == 0 || in_object(scan) != (c == '}')) {
        return false;
    }
    uint8_t place = outer_place(scan);
    scan->depth--;
    say(tell, context, place, JSON_SCAN_CLOSE, BYTES_NONE);
    after_value(scan);
    return true;
}

/* ---- characters ---- */

static bool start_value(struct json_scan *scan, char c, json_scan_tell *tell, void *context)
{
    text_start(scan);
    if (c == '"') {
        scan->state = STATE_STRING;
    } else if (c == '{' || c == '[') {
        return open_container(scan, c, tell, context);
    } else if (c == '-' || is_digit(c)) {
        scan->state = STATE_NUMBER;
        text_add(scan, (struct bytes){&c, 1});
    } else if (c == 't' || c == 'f' || c == 'n') {
        scan->state = STATE_WORD;
        text_add(scan, (struct bytes){&c, 1});
    } else {
        return false;
    }
    return true;
}

static bool start_name(struct json_scan *scan, char c)
{
    text_start(scan);
    scan->in_key = true;
    scan->state = STATE_STRING;
    return c == '"';
}

static void next_member(struct json_scan *scan)
{
    if (in_object(scan)) {
        scan->state = STATE_NAME;
    } else {
        scan->state = STATE_VALUE;
        scan->place = step_to(scan, outer_place(scan), BYTES_NONE);
    }
}

/* One character between tokens, not white space. */
static bool structure(struct json_scan *scan, char c, json_scan_tell *tell, void *context)
{
    switch ((enum state)scan->state) {
    case STATE_FIRST_ITEM:
        if (c == ']') {
            return close_container(scan, c, tell, context);
        }
        return start_value(scan, c, tell, context);
    case STATE_VALUE: return start_value(scan, c, tell, context);
    case STATE_FIRST_NAME:
        if (c == '}') {
            return close_container(scan, c, tell, context);
        }
        return start_name(scan, c);
    case STATE_NAME: return start_name(scan, c);
    case STATE_COLON: scan->state = STATE_VALUE; return c == ':';
    case STATE_AFTER_VALUE:
        if (c == ',') {
            next_member(scan);
            return true;
        }
        return (c == '}' || c == ']') && close_container(scan, c, tell, context);
    default: return false;
    }
}

static size_t string_length(struct bytes run)
{
    size_t at = 0;
    while (at < run.len && run.ptr[at] != '"' && run.ptr[at] != '\\' && (unsigned char)run.ptr[at] >= 0x20) {
        at++;
    }
    return at;
}

/* Goes on in a string; gives how much of the run it took, or 0 when a character may not stand there. */
static size_t in_string(struct json_scan *scan, struct bytes run, json_scan_tell *tell, void *context)
{
    size_t length = string_length(run);
    text_add(scan, (struct bytes){run.ptr, length});
    if (length == run.len) {
        return length;
    }
    if (run.ptr[length] == '"') {
        string_done(scan, tell, context);
    } else if (run.ptr[length] == '\\') {
        scan->text_is_whole = false;
        scan->state = STATE_ESCAPE;
    } else {
        return 0;
    }
    return length + 1;
}

/* The character behind a backslash, or a digit behind `\u`. */
static bool in_escape(struct json_scan *scan, char c)
{
    if (scan->state == STATE_ESCAPE && c == 'u') {
        scan->state = STATE_HEX;
        scan->digits_left = 4;
        return true;
    }
    if (scan->state == STATE_ESCAPE) {
        scan->state = STATE_STRING;
        return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
    }
    scan->state = --scan->digits_left == 0 ? STATE_STRING : STATE_HEX;
    char lower = (char)(c | 0x20);
    return is_digit(c) || (lower >= 'a' && lower <= 'f');
}

static size_t bare_length(const struct json_scan *scan, struct bytes run)
{
    size_t at = 0;
    while (at < run.len) {
        char c = run.ptr[at];
        bool goes_on = scan->state == STATE_WORD ? c >= 'a' && c <= 'z'
                                                 : is_digit(c) || c == '.' || c == '-' || c == '+' || (c | 0x20) == 'e';
        if (!goes_on) {
            break;
        }
        at++;
    }
    return at;
}

/* Goes on in a number or a word, and ends it when something else comes, which is left. */
static bool in_bare(struct json_scan *scan, struct bytes *run, json_scan_tell *tell, void *context)
{
    size_t length = bare_length(scan, *run);
    text_add(scan, (struct bytes){run->ptr, length});
    *run = (struct bytes){run->ptr + length, run->len - length};
    return run->len == 0 || bare_done(scan, tell, context);
}

/* Takes as much of a run that is not empty as belongs together. False: it is not JSON. */
static bool take(struct json_scan *scan, struct bytes *run, json_scan_tell *tell, void *context)
{
    size_t taken = 1;
    bool is_good = true;
    switch ((enum state)scan->state) {
    case STATE_STRING:
        taken = in_string(scan, *run, tell, context);
        is_good = taken > 0;
        break;
    case STATE_ESCAPE:
    case STATE_HEX: is_good = in_escape(scan, run->ptr[0]); break;
    case STATE_NUMBER:
    case STATE_WORD: return in_bare(scan, run, tell, context);
    case STATE_WRONG: return false;
    default: is_good = is_space(run->ptr[0]) || structure(scan, run->ptr[0], tell, context); break;
    }
    *run = (struct bytes){run->ptr + taken, run->len - taken};
    return is_good;
}

bool json_scan_feed(struct json_scan *scan, struct bytes run, json_scan_tell *tell, void *context)
{
    while (run.len > 0) {
        if (!take(scan, &run, tell, context)) {
            scan->state = STATE_WRONG;
            return false;
        }
    }
    return true;
}

bool json_scan_end(struct json_scan *scan, json_scan_tell *tell, void *context)
{
    bool is_bare = scan->state == STATE_NUMBER || scan->state == STATE_WORD;
    return (!is_bare || bare_done(scan, tell, context)) && scan->state == STATE_DONE;
}

#include "http/structured.h"

#include "http/chars.h"

/* One line, from the front; every function that takes something returns false when it is not there. */
static bool at_end(const struct bytes *rest)
{
    return rest->len == 0;
}

static bool next_is(const struct bytes *rest, char c)
{
    return rest->len > 0 && *rest->ptr == c;
}

static void skip(struct bytes *rest, size_t count)
{
    rest->ptr += count;
    rest->len -= count;
}

static bool take(struct bytes *rest, char c)
{
    if (!next_is(rest, c)) {
        return false;
    }
    skip(rest, 1);
    return true;
}

static void skip_spaces(struct bytes *rest)
{
    while (take(rest, ' ')) {
    }
}

static void skip_white_space(struct bytes *rest)
{
    while (take(rest, ' ') || take(rest, '\t')) {
    }
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return is_lower((char)(c | 0x20));
}

/* §4.2.3.3 */
static bool take_key(struct bytes *rest, struct bytes *ret_key)
{
    if (at_end(rest) || !(is_lower(*rest->ptr) || *rest->ptr == '*')) {
        return false;
    }
    struct bytes key = {rest->ptr, 0};
    while (!at_end(rest) && (is_lower(*rest->ptr) || is_digit(*rest->ptr) || memchr("_-.*", *rest->ptr, 4) != NULL)) {
        skip(rest, 1);
        key.len++;
    }
    *ret_key = key;
    return true;
}

static size_t take_run_of_digits(struct bytes *rest)
{
    size_t count = 0;
    while (!at_end(rest) && is_digit(*rest->ptr)) {
        skip(rest, 1);
        count++;
    }
    return count;
}

/* §4.2.4: an integer of 15 digits at most, or a decimal of 12 and 3. */
static bool take_number(struct bytes *rest, struct structured_member *ret_item)
{
    const char *start = rest->ptr;
    bool is_negative = take(rest, '-');
    struct bytes digits = {rest->ptr, take_run_of_digits(rest)};
    uint64_t value;
    if (!take(rest, '.')) {
        if (digits.len > 15 || !bytes_to_u64(digits, &value)) {
            return false;
        }
        ret_item->type = STRUCTURED_INTEGER;
        ret_item->integer = is_negative ? -(int64_t)value : (int64_t)value;
    } else {
        size_t fraction = take_run_of_digits(rest);
        if (digits.len < 1 || digits.len > 12 || fraction < 1 || fraction > 3) {
            return false;
        }
        ret_item->type = STRUCTURED_DECIMAL;
    }
    ret_item->text = (struct bytes){start, (size_t)(rest->ptr - start)};
    return true;
}

/* §4.2.5, behind the opening quote. */
static bool take_string(struct bytes *rest, struct structured_member *ret_item)
{
    const char *start = rest->ptr;
    while (!at_end(rest)) {
        char c = *rest->ptr;
        if (c == '"') {
            ret_item->type = STRUCTURED_STRING;
            ret_item->text = (struct bytes){start, (size_t)(rest->ptr - start)};
            skip(rest, 1);
            return true;
        }
        if (c < ' ' || c > '~') {
            return false;
        }
        skip(rest, 1);
        if (c == '\\' && !take(rest, '"') && !take(rest, '\\')) {
            return false;
        }
    }
    return false;
}

/* §4.2.6; the first byte was looked at. */
static bool take_token(struct bytes *rest, struct structured_member *ret_item)
{
    const char *start = rest->ptr;
    while (!at_end(rest) && (char_is(*rest->ptr, CHAR_TOKEN) || *rest->ptr == ':' || *rest->ptr == '/')) {
        skip(rest, 1);
    }
    ret_item->type = STRUCTURED_TOKEN;
    ret_item->text = (struct bytes){start, (size_t)(rest->ptr - start)};
    return true;
}

/* §4.2.7, behind the opening colon. The alphabet and the place of the padding are checked, not the bits that it leaves
 * over: what is encoded is of no interest here. */
static bool take_byte_sequence(struct bytes *rest, struct structured_member *ret_item)
{
    const char *start = rest->ptr;
    while (!at_end(rest) && (is_alpha(*rest->ptr) || is_digit(*rest->ptr) || memchr("+/", *rest->ptr, 2) != NULL)) {
        skip(rest, 1);
    }
    size_t symbols = (size_t)(rest->ptr - start);
    size_t padding = (size_t)take(rest, '=') + (size_t)take(rest, '=');
    if (symbols % 4 == 1 || (padding > 0 && (symbols + padding) % 4 != 0)) {
        return false;
    }
    ret_item->type = STRUCTURED_BYTES;
    ret_item->text = (struct bytes){start, (size_t)(rest->ptr - start)};
    return take(rest, ':');
}

/* §4.2.3.1 */
static bool take_bare_item(struct bytes *rest, struct structured_member *ret_item)
{
    if (at_end(rest)) {
        return false;
    }
    char c = *rest->ptr;
    if (c == '-' || is_digit(c)) {
        return take_number(rest, ret_item);
    }
    if (is_alpha(c) || c == '*') {
        return take_token(rest, ret_item);
    }
    skip(rest, 1);
    switch (c) {
    case '"': return take_string(rest, ret_item);
    case ':': return take_byte_sequence(rest, ret_item);
    case '?':
        ret_item->type = STRUCTURED_BOOLEAN;
        ret_item->text = (struct bytes){rest->ptr - 1, 2};
        ret_item->boolean = next_is(rest, '1');
        return take(rest, '1') || take(rest, '0');
    default: return false;
    }
}

/* §4.2.3.2: checks parameters and passes over them. */
static bool skip_parameters(struct bytes *rest)
{
    while (take(rest, ';')) {
        struct bytes key;
        struct structured_member value;
        skip_spaces(rest);
        if (!take_key(rest, &key) || (take(rest, '=') && !take_bare_item(rest, &value))) {
            return false;
        }
    }
    return true;
}

/* §4.2.1.2, behind the opening parenthesis. */
static bool take_inner_list(struct bytes *rest, struct structured_member *ret_item)
{
    const char *start = rest->ptr;
    struct structured_member item;
    for (;;) {
        skip_spaces(rest);
        if (take(rest, ')')) {
            ret_item->type = STRUCTURED_INNER_LIST;
            ret_item->text = (struct bytes){start, (size_t)(rest->ptr - 1 - start)};
            return true;
        }
        if (!take_bare_item(rest, &item) || !skip_parameters(rest) || !(next_is(rest, ' ') || next_is(rest, ')'))) {
            return false;
        }
    }
}

/* What stands between two members: a comma, with another member behind it. */
static bool take_separator(struct bytes *rest)
{
    skip_white_space(rest);
    if (at_end(rest)) {
        return true;
    }
    if (!take(rest, ',')) {
        return false;
    }
    skip_white_space(rest);
    return !at_end(rest);
}

enum structured_step structured_next_member(struct bytes *rest, struct structured_member *ret_member)
{
    struct structured_member member = {.type = STRUCTURED_BOOLEAN, .boolean = true};
    if (at_end(rest)) {
        return STRUCTURED_END;
    }
    if (!take_key(rest, &member.key)) {
        return STRUCTURED_FAILED;
    }
    if (take(rest, '=')) {
        bool taken = take(rest, '(') ? take_inner_list(rest, &member) : take_bare_item(rest, &member);
        if (!taken) {
            return STRUCTURED_FAILED;
        }
    }
    if (!skip_parameters(rest) || !take_separator(rest)) {
        return STRUCTURED_FAILED;
    }
    *ret_member = member;
    return STRUCTURED_MEMBER;
}

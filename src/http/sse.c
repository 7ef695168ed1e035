#include "http/sse.h"

void sse_scanner_init(struct sse_scanner *scanner)
{
    *scanner = (struct sse_scanner){.at_boundary = true};
}

static bool is_terminal_type(struct bytes type)
{
    return bytes_equal(type, BYTES("response.completed")) || bytes_equal(type, BYTES("response.failed")) ||
           bytes_equal(type, BYTES("response.incomplete")) || bytes_equal(type, BYTES("message_stop"));
}

static struct bytes skip(struct bytes b, size_t bytes)
{
    return (struct bytes){b.ptr + bytes, b.len - bytes};
}

/* `{"type":"<terminal>"` at the beginning of the data; there is no need to see the end of the line. */
static bool has_terminal_type(struct bytes data)
{
    if (!bytes_starts_with(data, BYTES("{"))) {
        return false;
    }
    data = bytes_trim(skip(data, 1));
    if (!bytes_starts_with(data, BYTES("\"type\""))) {
        return false;
    }
    data = bytes_trim(skip(data, 6));
    if (!bytes_starts_with(data, BYTES(":"))) {
        return false;
    }
    data = bytes_trim(skip(data, 1));
    if (!bytes_starts_with(data, BYTES("\""))) {
        return false;
    }
    data = skip(data, 1);
    const char *quote = data.len == 0 ? NULL : memchr(data.ptr, '"', data.len);
    return quote != NULL && is_terminal_type((struct bytes){data.ptr, (size_t)(quote - data.ptr)});
}

/* The value of a line `name:value` or `name: value`; .ptr NULL when it is of another name. */
static struct bytes value_after(struct bytes line, struct bytes name)
{
    if (!bytes_starts_with(line, name)) {
        return BYTES_NONE;
    }
    struct bytes value = skip(line, name.len);
    return bytes_starts_with(value, BYTES(" ")) ? skip(value, 1) : value;
}

static void line_done(struct sse_scanner *scanner)
{
    struct bytes line = {scanner->line, scanner->line_bytes};
    bool whole = scanner->line_bytes < sizeof(scanner->line);
    scanner->line_bytes = 0;
    if (!scanner->past_bom) {
        scanner->past_bom = true;
        line = bytes_starts_with(line, BYTES("\xef\xbb\xbf")) ? skip(line, 3) : line;
    }
    if (line.len == 0) {
        scanner->events += scanner->has_data;
        scanner->terminal |= scanner->has_data && scanner->has_terminal_name;
        scanner->has_data = false;
        scanner->has_terminal_name = false;
        scanner->at_boundary = true;
        return;
    }
    struct bytes data = value_after(line, BYTES("data:"));
    struct bytes name = value_after(line, BYTES("event:"));
    if (data.ptr != NULL) {
        /* Said already, though the blank line is still owed: a stream cut there has lost nothing. */
        scanner->terminal |= (whole && bytes_equal(data, BYTES("[DONE]"))) || has_terminal_type(data);
        scanner->has_data = true;
    } else if (name.ptr != NULL) {
        scanner->has_terminal_name = whole && is_terminal_type(name);
    } else if (bytes_equal(line, BYTES("data"))) {
        scanner->has_data = true; /* a field name alone is one with an empty value */
    }
}

static size_t line_length(struct bytes run)
{
    const char *lf = memchr(run.ptr, '\n', run.len);
    size_t length = lf == NULL ? run.len : (size_t)(lf - run.ptr);
    const char *cr = memchr(run.ptr, '\r', length);
    return cr == NULL ? length : (size_t)(cr - run.ptr);
}

void sse_scan(struct sse_scanner *scanner, struct bytes run)
{
    while (run.len > 0) {
        if (scanner->skip_lf) {
            scanner->skip_lf = false;
            if (run.ptr[0] == '\n') {
                run = skip(run, 1);
                continue;
            }
        }
        size_t length = line_length(run);
        size_t room = sizeof(scanner->line) - scanner->line_bytes;
        size_t kept = length < room ? length : room;
        memcpy(scanner->line + scanner->line_bytes, run.ptr, kept);
        scanner->line_bytes = (uint8_t)(scanner->line_bytes + kept);
        scanner->at_boundary = false;
        if (length == run.len) {
            return;
        }
        scanner->skip_lf = run.ptr[length] == '\r';
        line_done(scanner);
        run = skip(run, length + 1);
    }
}

#include "api/inference_events.h"

void inference_events_init(struct inference_events *events, struct bytes stream)
{
    events->rest = stream;
    json_buffer_init(&events->joined, 0, stream.len);
}

void inference_events_fini(struct inference_events *events)
{
    json_buffer_fini(&events->joined);
}

/* Takes a line with its end, LF, CR or CRLF, from the front. False when it has none. */
static bool next_line(struct bytes *rest, struct bytes *ret_line)
{
    const char *lf = rest->len == 0 ? NULL : memchr(rest->ptr, '\n', rest->len);
    size_t length = lf == NULL ? rest->len : (size_t)(lf - rest->ptr);
    const char *cr = length == 0 ? NULL : memchr(rest->ptr, '\r', length);
    length = cr == NULL ? length : (size_t)(cr - rest->ptr);
    if (length == rest->len) {
        return false;
    }
    bool is_pair = rest->ptr[length] == '\r' && length + 1 < rest->len && rest->ptr[length + 1] == '\n';
    size_t taken = length + (is_pair ? 2 : 1);
    *ret_line = (struct bytes){rest->ptr, length};
    *rest = (struct bytes){rest->ptr + taken, rest->len - taken};
    return true;
}

/* The value of a `data` line; .ptr NULL when it is another line. */
static struct bytes data_of(struct bytes line)
{
    const struct bytes name = BYTES("data");
    if (bytes_equal(line, name)) {
        return (struct bytes){line.ptr + name.len, 0};
    }
    if (!bytes_starts_with(line, BYTES("data:"))) {
        return BYTES_NONE;
    }
    struct bytes value = {line.ptr + name.len + 1, line.len - name.len - 1};
    return bytes_starts_with(value, BYTES(" ")) ? (struct bytes){value.ptr + 1, value.len - 1} : value;
}

static struct bytes join(struct json_buffer *joined, struct bytes data, struct bytes more)
{
    if (joined->len == 0 || data.ptr != joined->data) {
        joined->len = 0;
        json_buffer_put(joined, data);
    }
    json_buffer_text(joined, "\n");
    json_buffer_put(joined, more);
    return (struct bytes){joined->data, joined->len};
}

bool inference_events_next(struct inference_events *events, struct inference_event *ret_event)
{
    struct bytes rest = events->rest;
    struct bytes data = BYTES_NONE;
    struct bytes line;
    while (next_line(&rest, &line)) {
        if (bytes_starts_with(line, BYTES("\xef\xbb\xbf")) && line.ptr == events->rest.ptr) {
            line = (struct bytes){line.ptr + 3, line.len - 3}; /* elsewhere than at the start it harms nobody */
        }
        struct bytes value = data_of(line);
        if (value.ptr != NULL) {
            data = data.ptr == NULL ? value : join(&events->joined, data, value);
        }
        if (events->joined.result != RESULT_OK) {
            return false;
        }
        if (line.len == 0) {
            *ret_event = (struct inference_event){
                .raw = {events->rest.ptr, events->rest.len - rest.len},
                .data = data,
            };
            events->rest = rest;
            return true;
        }
    }
    return false;
}

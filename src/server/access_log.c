#include "server/access_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

enum { BUFFER_BYTES = 64 * 1024, LINE_BYTES_MAX = 8192, STRING_BYTES_MAX = 2048, DELAY_MS = 500 };

static void access_log_flush(struct access_log *log)
{
    if (log->used > 0) {
        log_raw(log->buffer, log->used);
        log->used = 0;
    }
    ring_timer_cancel(log->ring, &log->timer);
}

static void access_log_on_timer(struct ring_timer *timer)
{
    access_log_flush(CONTAINER_OF(timer, struct access_log, timer));
}

enum result access_log_init(struct access_log *log, struct ring *ring, bool is_on)
{
    *log = (struct access_log){.ring = ring, .is_on = is_on};
    ring_timer_init(&log->timer, access_log_on_timer);
    if (is_on) {
        log->buffer = malloc(BUFFER_BYTES);
    }
    return is_on && log->buffer == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

void access_log_fini(struct access_log *log)
{
    if (log->buffer != NULL) {
        access_log_flush(log);
        free(log->buffer);
        log->buffer = NULL;
    }
}

/* A JSON string (RFC 8259 §7), cut at STRING_BYTES_MAX. Bytes that are not ASCII are escaped one by one as if they
 * were Latin-1: a request line has no character set. */
static char *put_string(char *at, const char *key, struct bytes value)
{
    static const char hex[] = "0123456789abcdef";
    at += sprintf(at, ",\"%s\":\"", key);
    size_t count = value.len < STRING_BYTES_MAX / 6 ? value.len : STRING_BYTES_MAX / 6;
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if (c == '"' || c == '\\') {
            *at++ = '\\';
            *at++ = (char)c;
        } else if (c < ' ' || c > '~') {
            memcpy(at, "\\u00", 4);
            at[4] = hex[c >> 4];
            at[5] = hex[c & 15];
            at += 6;
        } else {
            *at++ = (char)c;
        }
    }
    *at++ = '"';
    return at;
}

static char *put_number(char *at, const char *key, uint64_t value)
{
    return at + sprintf(at, ",\"%s\":%llu", key, (unsigned long long)value);
}

void access_log_write(struct access_log *log, const struct access_log_line *line)
{
    _Static_assert((int)LINE_BYTES_MAX <= (int)BUFFER_BYTES, "a line fits");
    if (!log->is_on) {
        return;
    }
    if (log->used + LINE_BYTES_MAX * 2 > BUFFER_BYTES) {
        access_log_flush(log);
    }
    char *start = log->buffer + log->used;
    char *at = start + sprintf(start, "{\"time_ms\":%lld", (long long)line->unix_ms);
    at = put_string(at, "client", line->client);
    at = put_string(at, "method", line->method);
    at = put_string(at, "host", line->host);
    at = put_string(at, "target", line->target);
    at = put_string(at, "route", line->route);
    at = put_number(at, "status", line->status);
    at = put_number(at, "request_bytes", line->request_bytes);
    at = put_number(at, "response_bytes", line->response_bytes);
    at = put_number(at, "duration_us", line->duration_ns / NANOS_PER_US);
    if (line->endpoint.ptr != NULL) {
        at = put_string(at, "endpoint", line->endpoint);
        at = put_number(at, "first_byte_us", line->first_byte_ns / NANOS_PER_US);
    }
    at = put_string(at, "request_id", line->request_id);
    *at++ = '}';
    *at++ = '\n';
    log->used += (size_t)(at - start);
    if (!ring_timer_is_set(&log->timer)) {
        ring_timer_set(log->ring, &log->timer, ring_now(log->ring) + DELAY_MS * NANOS_PER_MS);
    }
}

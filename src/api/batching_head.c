/* What of the heads of requests and answers goes with items that are merged. */
#include <stdlib.h>

#include "api/batching_internal.h"
#include "base/check.h"
#include "cache/lines.h"

static bool is_among(struct bytes name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes_equal_nocase(name, bytes_from(names[i]))) {
            return true;
        }
    }
    return false;
}

static bool begins_with(struct bytes name, struct bytes prefix)
{
    return name.len >= prefix.len && bytes_equal_nocase((struct bytes){name.ptr, prefix.len}, prefix);
}

/* ---- requests ---- */

/* Lines that say who asks, how urgent it is, or what is done with the answer on the way, but nothing of what the answer
 * says. They go with no merged call. All others, known or not, keep requests apart that differ in them. */
static bool is_ones_own(struct bytes name)
{
    static const char *const names[] = {
        "x-request-id",
        "user-agent",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "accept-encoding",
        "traceparent",
        "tracestate",
        "baggage",
        "date",
        "priority",
        "grpc-timeout",
        "x-request-timeout-ms",
        "x-portkey-request-timeout",
        "x-envoy-expected-rq-timeout-ms",
        "x-litellm-timeout",
        "x-litellm-stream-timeout",
        "x-slo-ttft-ms",
        "x-slo-tpot-ms",
    };
    return is_among(name, names, ARRAY_COUNT(names)) || begins_with(name, BYTES("x-stainless-")) ||
           begins_with(name, BYTES("x-b3-"));
}

struct batching_lines batching_read_lines(struct bytes fields, char *out)
{
    struct batching_lines said = {.request_id = BYTES_NONE};
    char *at = out;
    struct line line;
    while (lines_next(&fields, &line)) {
        if (bytes_equal_nocase(line.name, BYTES("content-encoding"))) {
            said.is_coded = said.is_coded || !bytes_equal_nocase(line.value, BYTES("identity"));
        } else if (bytes_equal_nocase(line.name, BYTES("x-request-id"))) {
            said.request_id = line.value;
        }
        if (!is_ones_own(line.name)) {
            at = bytes_put(at, line.whole);
        }
    }
    said.shared_bytes = (size_t)(at - out);
    return said;
}

struct bytes batching_call_fields(struct arena *arena, const struct batching_ticket *first)
{
    return arena_format(arena, "%.*sAccept-Encoding: identity\r\nVia: 1.1 sluice\r\nX-Request-Id: %.*s\r\n\r\n",
                        BYTES_ARG(first->lines), BYTES_ARG(first->request_id));
}

/* ---- answers ---- */

/* Lines about the whole that are not true of its parts; and what is for one client alone. */
static bool is_of_part(const void *unused, struct bytes name)
{
    static const char *const names[] = {"x-request-id", "set-cookie",     "etag",        "last-modified", "content-md5",
                                        "digest",       "content-digest", "repr-digest", "accept-ranges"};
    (void)unused;
    return !is_among(name, names, ARRAY_COUNT(names));
}

static bool is_of_all(const void *unused, struct bytes name)
{
    (void)unused;
    return !bytes_equal_nocase(name, BYTES("x-request-id")) && !bytes_equal_nocase(name, BYTES("set-cookie"));
}

static struct bytes lines_of(const struct entry *entry)
{
    return (struct bytes){entry->head->data, entry->head_bytes};
}

/* Room for a status line, Content-Length and the blank line. */
enum { HEAD_EXTRA_BYTES = 128 };

bool batching_answer_begin(struct batching_ticket *ticket, const struct entry *entry, bool is_part)
{
    char *head = malloc(HEAD_EXTRA_BYTES + entry->head_bytes);
    if (head == NULL) {
        return false;
    }
    char *at = bytes_put(head, BYTES("HTTP/1.1 "));
    at += bytes_put_u64(at, entry->status);
    at = bytes_put(at, BYTES(" \r\n"));
    at = lines_put_kept(at, lines_of(entry), is_part ? is_of_part : is_of_all, NULL);
    free(ticket->head);
    ticket->head = head;
    ticket->head_bytes = (size_t)(at - head);
    ticket->has_body = entry->status != 204 && entry->status != 304; /* RFC 9110 §8.6 */
    return true;
}

void batching_answer_end(struct batching_ticket *ticket)
{
    char *at = ticket->head + ticket->head_bytes;
    if (ticket->has_body) {
        at = bytes_put(at, BYTES("Content-Length: "));
        at += bytes_put_u64(at, ticket->answer.len);
        at = bytes_put(at, BYTES("\r\n"));
    }
    at = bytes_put(at, BYTES("\r\n"));
    ticket->head_bytes = (size_t)(at - ticket->head);
}

bool batching_is_coded(const struct entry *entry)
{
    struct bytes coding = lines_find(lines_of(entry), BYTES("content-encoding"));
    return coding.len > 0 && !bytes_equal_nocase(coding, BYTES("identity"));
}

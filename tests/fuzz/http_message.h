/* What must hold of any bytes taken for a message, whichever they are:
 * - the outcome is the same however they are cut;
 * - all offsets lie inside the head, and an accepted head consists of well-formed lines only;
 * - an accepted head, written again from what was read, reads the same;
 * - llhttp accepts each chunked body that is accepted here, with the same payload and the same end.
 * A broken promise aborts. */
#ifndef SLUICE_TESTS_FUZZ_HTTP_MESSAGE_H
#define SLUICE_TESTS_FUZZ_HTTP_MESSAGE_H

#include <stdio.h>
#include <stdlib.h>

#include "http/http.h"
#include "http/uri.h"

#define MUST(condition)                                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

static const struct http_limits FUZZ_LIMITS = {.head_bytes_max = 2048, .target_bytes_max = 200, .fields_max = 24};

struct fuzz_payload {
    char *bytes;
    size_t length;
};

struct fuzz_read {
    struct http_parser parser;
    struct http_body body;
    enum result result;
    bool head_done;
    size_t body_used;
    struct fuzz_payload payload;
};

static enum result fuzz_keep(void *context, struct bytes run)
{
    struct fuzz_payload *payload = context;
    memcpy(payload->bytes + payload->length, run.ptr, run.len);
    payload->length += run.len;
    return RESULT_OK;
}

static void fuzz_start(struct fuzz_read *r, enum llhttp_type kind, bool to_head, size_t length)
{
    memset(r, 0xa5, sizeof(*r)); /* nothing may rest on cleared memory */
    http_parser_init(&r->parser, kind, &FUZZ_LIMITS);
    if (to_head) {
        http_parser_response_to_head(&r->parser);
    }
    r->result = RESULT_MORE;
    r->head_done = false;
    r->body_used = 0;
    r->payload = (struct fuzz_payload){malloc(length + 1), 0};
}

static void fuzz_fini(struct fuzz_read *r)
{
    if (r->head_done) {
        http_body_fini(&r->body);
    }
    free(r->payload.bytes);
}

/* `input` is all that has come; it lies somewhere else each time. */
static void fuzz_arrive(struct fuzz_read *r, struct bytes input)
{
    char *copy = malloc(input.len + 1);
    memcpy(copy, input.ptr, input.len);
    if (!r->head_done && r->result == RESULT_MORE) {
        r->result = http_parse_head(&r->parser, copy, input.len);
        if (r->result == RESULT_OK) {
            r->head_done = true;
            MUST(r->parser.head.head_bytes <= input.len);
            http_body_init(&r->body, &r->parser);
            r->result = RESULT_MORE;
        }
    }
    if (r->head_done && r->result == RESULT_MORE) {
        size_t from = r->parser.head.head_bytes + r->body_used;
        size_t used;
        r->result =
            http_body_read(&r->body, (struct bytes){copy + from, input.len - from}, &used, fuzz_keep, &r->payload);
        r->body_used += used;
        MUST(from + used <= input.len);
        MUST(r->result != RESULT_MORE || from + used == input.len);
        MUST((r->result == RESULT_OK) == r->body.done);
    }
    free(copy);
}

static struct http_fault fuzz_fault(const struct fuzz_read *r)
{
    return r->head_done ? r->body.fault : r->parser.fault;
}

static void fuzz_same_head(const struct http_head *a, const struct http_head *b)
{
    MUST(a->version_minor == b->version_minor && a->keep_alive == b->keep_alive);
    MUST(a->expect_continue == b->expect_continue && a->upgrade == b->upgrade);
    MUST(a->has_content_length == b->has_content_length && a->content_length == b->content_length);
    MUST(a->method == b->method && a->status == b->status && a->body == b->body);
    MUST(a->field_count == b->field_count && a->dropped_count == b->dropped_count);
    MUST(memcmp(a->first, b->first, sizeof(a->first)) == 0);
}

static void fuzz_same(const struct fuzz_read *a, const struct fuzz_read *b)
{
    MUST(a->result == b->result && a->head_done == b->head_done);
    MUST(fuzz_fault(a).status == fuzz_fault(b).status);
    MUST(a->payload.length == b->payload.length);
    MUST(memcmp(a->payload.bytes, b->payload.bytes, a->payload.length) == 0);
    if (!a->head_done) {
        return;
    }
    const struct http_head *x = &a->parser.head;
    const struct http_head *y = &b->parser.head;
    fuzz_same_head(x, y);
    MUST(x->head_bytes == y->head_bytes && x->target_at == y->target_at && x->target_bytes == y->target_bytes);
    MUST(x->method_at == y->method_at && x->method_bytes == y->method_bytes);
    for (unsigned i = 0; i < x->field_count; i++) {
        const struct http_field *f = &x->fields[i];
        const struct http_field *g = &y->fields[i];
        MUST(f->name_at == g->name_at && f->name_bytes == g->name_bytes && f->id == g->id && f->drop == g->drop);
        MUST(f->value_bytes == g->value_bytes && (f->value_at == g->value_at || f->value_bytes == 0));
    }
    if (a->result == RESULT_OK) {
        MUST(a->body_used == b->body_used && a->body.trailer_bytes == b->body.trailer_bytes);
        MUST(a->body.trailer_bytes == 0 || memcmp(a->body.trailers, b->body.trailers, a->body.trailer_bytes) == 0);
    }
}

static bool fuzz_is_token(struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c) != NULL) {
            return false;
        }
    }
    return b.len > 0;
}

/* Reads the head a second time, naively, line by line. */
static void fuzz_check_lines(const struct http_head *head, const char *base)
{
    unsigned lines = 0;
    unsigned lengths = 0;
    unsigned codings = 0;
    unsigned hosts = 0;
    size_t at = head->kind == HTTP_REQUEST ? head->method_at : 0;
    for (;;) {
        const char *lf = memchr(base + at, '\n', head->head_bytes - at);
        MUST(lf != NULL && lf > base + at && lf[-1] == '\r');
        struct bytes line = {base + at, (size_t)(lf - 1 - (base + at))};
        at = (size_t)(lf + 1 - base);
        if (line.len == 0) {
            break;
        }
        for (size_t i = 0; i < line.len; i++) {
            unsigned char c = (unsigned char)line.ptr[i];
            MUST(c == '\t' || (c >= ' ' && c != 0x7f));
        }
        if (lines++ == 0) {
            continue;
        }
        MUST(lines - 2 < head->field_count);
        const struct http_field *field = &head->fields[lines - 2];
        const char *colon = memchr(line.ptr, ':', line.len);
        MUST(colon != NULL);
        struct bytes name = {line.ptr, (size_t)(colon - line.ptr)};
        struct bytes value = bytes_trim((struct bytes){colon + 1, line.len - name.len - 1});
        MUST(fuzz_is_token(name) && bytes_equal(name, http_field_name(field, base)));
        MUST(bytes_equal(value, http_field_value(field, base)));
        lengths += bytes_equal_nocase(name, BYTES("content-length"));
        codings += bytes_equal_nocase(name, BYTES("transfer-encoding"));
        hosts += bytes_equal_nocase(name, BYTES("host"));
    }
    MUST(at == head->head_bytes && lines == head->field_count + 1U);
    MUST(lengths <= 1 && lengths + codings <= 1 && (lengths == 1) == head->has_content_length);
    if (head->kind == HTTP_REQUEST) {
        MUST(hosts == 1 || (hosts == 0 && head->version_minor == 0));
        MUST(codings == 0 || head->body == HTTP_BODY_CHUNKED || head->method == HTTP_CONNECT);
    }
}

static void fuzz_check_again(const struct http_head *head, const char *base, bool to_head)
{
    static struct http_parser again;
    static char text[8192];
    size_t at;
    if (head->kind == HTTP_REQUEST) {
        at = (size_t)sprintf(text, "%.*s %.*s HTTP/1.%u\r\n", BYTES_ARG(http_head_method(head, base)),
                             BYTES_ARG(http_head_target(head, base)), head->version_minor);
    } else {
        at = (size_t)sprintf(text, "HTTP/1.%u %u x\r\n", head->version_minor, head->status);
    }
    for (unsigned i = 0; i < head->field_count; i++) {
        at += (size_t)sprintf(text + at, "%.*s: %.*s\r\n", BYTES_ARG(http_field_name(&head->fields[i], base)),
                              BYTES_ARG(http_field_value(&head->fields[i], base)));
    }
    at += (size_t)sprintf(text + at, "\r\n");
    struct http_limits limits = FUZZ_LIMITS;
    limits.head_bytes_max = sizeof(text);
    http_parser_init(&again, head->kind, &limits);
    if (to_head) {
        http_parser_response_to_head(&again);
    }
    MUST(http_parse_head(&again, text, at) == RESULT_OK && again.head.head_bytes == at);
    fuzz_same_head(head, &again.head);
}

struct fuzz_oracle {
    struct fuzz_payload payload;
    bool complete;
};

static int fuzz_on_body(llhttp_t *llhttp, const char *at, size_t length)
{
    struct fuzz_oracle *oracle = llhttp->data;
    return fuzz_keep(&oracle->payload, (struct bytes){at, length}) == RESULT_OK ? 0 : -1;
}

static int fuzz_on_message_complete(llhttp_t *llhttp)
{
    struct fuzz_oracle *oracle = llhttp->data;
    oracle->complete = true;
    return HPE_PAUSED;
}

static void fuzz_check_oracle(const struct fuzz_read *r, struct bytes body)
{
    static const llhttp_settings_t settings = {
        .on_body = fuzz_on_body,
        .on_message_complete = fuzz_on_message_complete,
    };
    static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct fuzz_oracle oracle = {.payload = {malloc(body.len + 1), 0}};
    llhttp_t llhttp;
    llhttp_init(&llhttp, HTTP_REQUEST, &settings);
    llhttp.data = &oracle;
    MUST(llhttp_execute(&llhttp, head, sizeof(head) - 1) == HPE_OK);
    MUST(llhttp_execute(&llhttp, body.ptr, body.len - 1) == HPE_OK && !oracle.complete);
    (void)llhttp_execute(&llhttp, body.ptr + body.len - 1, 1);
    MUST(oracle.complete && oracle.payload.length == r->payload.length);
    MUST(memcmp(oracle.payload.bytes, r->payload.bytes, r->payload.length) == 0);
    free(oracle.payload.bytes);
}

static void fuzz_check_cut(const struct fuzz_read *whole, struct bytes input, bool to_head, size_t step)
{
    static struct fuzz_read r;
    static struct fuzz_read moved;
    fuzz_start(&r, whole->parser.head.kind, to_head, input.len);
    for (size_t length = step; length < input.len && r.result == RESULT_MORE; length += step) {
        fuzz_arrive(&r, (struct bytes){input.ptr, length});
        if (!r.head_done) {
            http_parser_move(&moved.parser, &r.parser);
            memset(&r.parser, 0x5a, sizeof(r.parser));
            http_parser_move(&r.parser, &moved.parser);
        }
    }
    if (r.result == RESULT_MORE) {
        fuzz_arrive(&r, input);
    }
    fuzz_same(whole, &r);
    fuzz_fini(&r);
}

static void fuzz_check_message(enum llhttp_type kind, bool to_head, struct bytes input)
{
    static struct fuzz_read whole;
    fuzz_start(&whole, kind, to_head, input.len);
    fuzz_arrive(&whole, input);
    unsigned status = fuzz_fault(&whole).status;
    MUST((status != 0) == (whole.result != RESULT_OK && whole.result != RESULT_MORE));
    MUST(status == 0 || kind == HTTP_REQUEST || status == 502);
    if (whole.head_done) {
        const struct http_head *head = &whole.parser.head;
        fuzz_check_lines(head, input.ptr);
        fuzz_check_again(head, input.ptr, to_head);
        if (whole.result == RESULT_OK && head->body == HTTP_BODY_CHUNKED) {
            fuzz_check_oracle(&whole, (struct bytes){input.ptr + head->head_bytes, whole.body_used});
        }
    }
    static const size_t steps[] = {1, 2, 3, 7, 16, 61};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        fuzz_check_cut(&whole, input, to_head, steps[i]);
    }
    fuzz_fini(&whole);
}

#endif

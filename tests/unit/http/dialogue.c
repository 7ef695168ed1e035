#include "dialogue.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct state {
    const struct dialogue *dialogue;
    struct http_parser parsers[2]; /* the parser, too, moves between calls */
    unsigned turn;
    bool head_done;
    enum result result;
    struct http_body body;
    size_t body_used;
    char *text; /* the head, once it is complete; the payload */
    size_t head_bytes;
    char payload[4096];
    size_t payload_bytes;
    char head_text[OUTCOME_BYTES_MAX / 2];
};

static enum result keep(void *context, struct bytes run)
{
    struct state *s = context;
    cr_assert(run.len > 0 && s->payload_bytes + run.len <= sizeof(s->payload));
    memcpy(s->payload + s->payload_bytes, run.ptr, run.len);
    s->payload_bytes += run.len;
    return RESULT_OK;
}

static void describe_head(struct state *s, const struct http_head *head, const char *base)
{
    char *out = s->head_text;
    size_t room = sizeof(s->head_text);
    size_t at = (size_t)snprintf(out, room,
                                 "%.*s %.*s 1.%u status=%u keep=%d expect=%d upgrade=%d body=%d length=%d:%llu drop=%u "
                                 "bytes=%u\n",
                                 BYTES_ARG(http_head_method(head, base)), BYTES_ARG(http_head_target(head, base)),
                                 head->version_minor, head->status, head->keep_alive, head->expect_continue,
                                 head->upgrade, head->body, head->has_content_length,
                                 (unsigned long long)head->content_length, head->dropped_count, head->head_bytes);
    for (unsigned i = 0; i < head->field_count && at < room; i++) {
        const struct http_field *field = &head->fields[i];
        at += (size_t)snprintf(out + at, room - at, "%u%c %.*s: %.*s|\n", field->id, field->drop ? '-' : '+',
                               BYTES_ARG(http_field_name(field, base)), BYTES_ARG(http_field_value(field, base)));
    }
    for (unsigned id = 0; id < HTTP_FIELD_COUNT && at < room; id++) {
        at += (size_t)snprintf(out + at, room - at, "%u,", head->first[id]);
    }
    cr_assert(at < room);
}

static void start(struct state *s, const struct dialogue *dialogue)
{
    memset(s, 0, sizeof(*s));
    s->dialogue = dialogue;
    http_parser_init(&s->parsers[0], dialogue->kind, &dialogue->limits);
    if (dialogue->to_head) {
        http_parser_response_to_head(&s->parsers[0]);
    }
    s->result = RESULT_MORE;
}

/* `input` is all that has come by now. */
static void arrive(struct state *s, struct bytes input)
{
    struct http_parser *parser = &s->parsers[s->turn % 2];
    if (!s->head_done) {
        s->result = http_parse_head(parser, input.ptr, input.len);
        if (s->result != RESULT_OK) {
            struct http_parser *next = &s->parsers[++s->turn % 2];
            http_parser_move(next, parser);
            memset(parser, 0x5a, sizeof(*parser));
            return;
        }
        s->head_done = true;
        s->head_bytes = parser->head.head_bytes;
        cr_assert_leq(s->head_bytes, input.len);
        describe_head(s, &parser->head, input.ptr);
        http_body_init(&s->body, parser);
        s->result = RESULT_MORE;
    }
    if (s->result == RESULT_MORE) {
        size_t from = s->head_bytes + s->body_used;
        size_t used;
        s->result = http_body_read(&s->body, (struct bytes){input.ptr + from, input.len - from}, &used, keep, s);
        s->body_used += used;
        cr_assert_leq(from + used, input.len);
        cr_assert(s->result != RESULT_MORE || from + used == input.len);
    }
}

static void finish(struct state *s, char *ret_text)
{
    unsigned status = s->head_done ? s->body.fault.status : s->parsers[s->turn % 2].fault.status;
    bool failed = s->result != RESULT_OK && s->result != RESULT_MORE;
    cr_assert_eq(failed, status != 0);
    /* How much of a refused body was used is not the same for each cut, and does not matter. */
    snprintf(ret_text, OUTCOME_BYTES_MAX, "%s %u used=%zu received=%llu\npayload=%.*s\ntrailers=%.*s\n%s",
             result_name(s->result), status, failed ? 0 : s->head_bytes + s->body_used,
             (unsigned long long)s->body.received_bytes, (int)s->payload_bytes, s->payload,
             failed ? 0 : (int)s->body.trailer_bytes, s->body.trailers == NULL ? "" : s->body.trailers, s->head_text);
}

static void fini(struct state *s)
{
    http_body_fini(&s->body);
}

void dialogue_whole(const struct dialogue *dialogue, struct bytes input, char *ret_text)
{
    static struct state s;
    start(&s, dialogue);
    arrive(&s, input);
    finish(&s, ret_text);
    fini(&s);
}

/* Gives memory of which the last byte is followed by one that must not be read. */
static char *guarded_end(void)
{
    static char *end;
    if (end == NULL) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        char *memory = mmap(NULL, 32 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(memory, MAP_FAILED);
        end = memory + 31 * page;
        cr_assert_eq(mprotect(end, page, PROT_NONE), 0);
    }
    return end;
}

static struct bytes guard(struct bytes input)
{
    char *at = guarded_end() - input.len;
    memcpy(at, input.ptr, input.len);
    return (struct bytes){at, input.len};
}

void dialogue_check_cuts(const struct dialogue *dialogue, struct bytes input, const char *says)
{
    static struct state bytewise;
    static char expected[OUTCOME_BYTES_MAX];
    static char text[OUTCOME_BYTES_MAX];
    start(&bytewise, dialogue);
    for (size_t length = 1; length <= input.len; length++) {
        struct bytes prefix = guard((struct bytes){input.ptr, length});
        if (bytewise.result == RESULT_MORE) {
            arrive(&bytewise, prefix);
        }
        finish(&bytewise, text);
        dialogue_whole(dialogue, prefix, expected);
        cr_assert_str_eq(text, expected, "%s: the first %zu bytes, one at a time", says, length);
    }
    fini(&bytewise);
    for (size_t cut = 1; cut < input.len; cut++) {
        static struct state s;
        start(&s, dialogue);
        arrive(&s, guard((struct bytes){input.ptr, cut}));
        if (s.result == RESULT_MORE) {
            arrive(&s, guard(input));
        }
        finish(&s, text);
        fini(&s);
        cr_assert_str_eq(text, expected, "%s: cut at %zu", says, cut);
    }
}

static void check_case(enum llhttp_type kind, const struct message_case *c)
{
    static struct state s;
    const struct dialogue dialogue = {kind, c->to_head, {8192, 2048, 64}};
    start(&s, &dialogue);
    arrive(&s, guard(c->input));
    unsigned status = s.head_done ? s.body.fault.status : s.parsers[s.turn % 2].fault.status;
    const char *message = s.head_done ? s.body.fault.message : s.parsers[s.turn % 2].fault.message;
    cr_assert_eq(status, c->status, "%s: %u (%s) instead of %u", c->says, status, message == NULL ? "" : message,
                 c->status);
    if (c->status == 0) {
        const char *payload = c->payload == NULL ? "" : c->payload;
        if (s.body.kind == HTTP_BODY_UNTIL_CLOSE) {
            cr_assert_eq(s.result, RESULT_MORE, "%s", c->says);
            s.result = http_body_end(&s.body);
        }
        cr_assert_eq(s.result, RESULT_OK, "%s: %s", c->says, result_name(s.result));
        cr_assert_eq(s.payload_bytes, strlen(payload), "%s", c->says);
        cr_assert_arr_eq(s.payload, payload, s.payload_bytes, "%s", c->says);
    }
    fini(&s);
    dialogue_check_cuts(&dialogue, c->input, c->says);
}

void dialogue_check_cases(enum llhttp_type kind, const struct message_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check_case(kind, &cases[i]);
    }
}

#include "api/demand.h"

#include "base/check.h"
#include "http/structured.h"

void demand_init(struct demand *demand)
{
    *demand = (struct demand){
        .total_ns = NANOS_NEVER,
        .first_ns = NANOS_NEVER,
        .silence_ns = NANOS_NEVER,
        .token_ns = NANOS_NEVER,
        .class = DEMAND_CLASS_NONE,
        .output_max = UINT32_MAX,
        .choices = 1,
    };
}

/* ---- the head ---- */

enum meaning { TOTAL, FIRST, SILENCE, TOKEN, GRPC_TOTAL };

static const struct header {
    struct bytes name;
    enum meaning meaning;
    nanos unit_ns;
} headers[] = {
    {BYTES("grpc-timeout"), GRPC_TOTAL, 0}, /* in the unit that it says */
    {BYTES("x-slo-ttft-ms"), FIRST, NANOS_PER_MS},
    {BYTES("x-slo-tpot-ms"), TOKEN, NANOS_PER_MS},
    {BYTES("x-litellm-timeout"), TOTAL, NANOS_PER_S},
    {BYTES("x-stainless-timeout"), SILENCE, NANOS_PER_S}, /* the SDKs for JavaScript */
    {BYTES("x-request-timeout-ms"), TOTAL, NANOS_PER_MS},
    {BYTES("x-litellm-stream-timeout"), FIRST, NANOS_PER_S},
    {BYTES("x-stainless-read-timeout"), SILENCE, NANOS_PER_S},
    {BYTES("x-portkey-request-timeout"), TOTAL, NANOS_PER_MS},
    {BYTES("x-envoy-expected-rq-timeout-ms"), TOTAL, NANOS_PER_MS},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* digits [ "." digits ], times `unit_ns`. False for 0, and for anything else. */
static bool read_length(struct bytes text, nanos unit_ns, nanos *ret_length)
{
    static const nanos length_max = NANOS_NEVER / 2; /* can be added to any moment */
    const char *point = text.len == 0 ? NULL : memchr(text.ptr, '.', text.len);
    struct bytes whole = {text.ptr, point == NULL ? text.len : (size_t)(point - text.ptr)};
    nanos units;
    if (!bytes_to_u64(whole, &units) || whole.len + 1 == text.len) {
        return false;
    }
    nanos fraction = 0;
    nanos place_ns = unit_ns;
    for (size_t i = whole.len + 1; i < text.len; i++) {
        if (!is_digit(text.ptr[i])) {
            return false;
        }
        place_ns /= 10;
        fraction += (nanos)(text.ptr[i] - '0') * place_ns;
    }
    nanos length = units >= length_max / unit_ns ? length_max : units * unit_ns + fraction;
    if (length == 0) {
        return false;
    }
    *ret_length = length;
    return true;
}

/* gRPC over HTTP/2, "Requests": TimeoutValue (1 to 8 digits) and TimeoutUnit. */
static bool read_grpc_length(struct bytes text, nanos *ret_length)
{
    static const struct unit {
        char letter;
        nanos ns;
    } units[] = {{'H', 3600 * NANOS_PER_S}, {'M', 60 * NANOS_PER_S}, {'S', NANOS_PER_S},
                 {'m', NANOS_PER_MS},       {'u', NANOS_PER_US},     {'n', 1}};
    if (text.len < 2 || text.len > 9 || memchr(text.ptr, '.', text.len) != NULL) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (text.ptr[text.len - 1] == units[i].letter) {
            return read_length((struct bytes){text.ptr, text.len - 1}, units[i].ns, ret_length);
        }
    }
    return false;
}

static void shorten(nanos *bound, nanos length)
{
    *bound = length < *bound ? length : *bound;
}

static void read_header(struct demand *demand, const struct header *header, struct bytes value)
{
    nanos length;
    bool is_grpc = header->meaning == GRPC_TOTAL;
    if (is_grpc ? !read_grpc_length(value, &length) : !read_length(value, header->unit_ns, &length)) {
        return;
    }
    switch (header->meaning) {
    case FIRST: shorten(&demand->first_ns, length); break;
    case SILENCE: shorten(&demand->silence_ns, length); break;
    case TOKEN: shorten(&demand->token_ns, length); break;
    default: shorten(&demand->total_ns, length); break;
    }
}

/* RFC 9218 §4.1. False: the line is no dictionary, so the whole field is to be ignored (RFC 8941 §4.2). */
static bool read_urgency(struct bytes line, int64_t *urgency)
{
    struct structured_member member;
    enum structured_step step;
    while ((step = structured_next_member(&line, &member)) == STRUCTURED_MEMBER) {
        if (bytes_equal(member.key, BYTES("u"))) {
            bool is_good = member.type == STRUCTURED_INTEGER && member.integer >= 0 && member.integer <= 7;
            *urgency = is_good ? member.integer : -1;
        }
    }
    return step == STRUCTURED_END;
}

void demand_from_head(struct demand *demand, const struct http_head *head, const char *base)
{
    static const uint8_t class_of[] = {0, 0, 1, 2, 2, 3, 3, 3}; /* 3 is the default of RFC 9218 */
    int64_t urgency = -1;
    bool is_priority_good = true;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        if (field->id != HTTP_FIELD_OTHER) {
            continue;
        }
        struct bytes name = http_field_name(field, base);
        struct bytes value = http_field_value(field, base);
        char first = ascii_lower(name.ptr[0]);
        if (first == 'p' && bytes_equal_nocase(name, BYTES("priority"))) {
            is_priority_good &= read_urgency(value, &urgency);
        }
        for (size_t k = 0; (first == 'x' || first == 'g') && k < ARRAY_COUNT(headers); k++) {
            if (name.len == headers[k].name.len && bytes_equal_nocase(name, headers[k].name)) {
                read_header(demand, &headers[k], value);
                break;
            }
        }
    }
    if (is_priority_good && urgency >= 0) {
        demand->class = class_of[urgency];
    }
}

/* ---- what it comes to ---- */

uint8_t demand_class(const struct demand *demand, uint8_t class)
{
    class = demand->class != DEMAND_CLASS_NONE ? demand->class : class;
    if (demand->shift > 0) {
        return SCHED_CLASSES - 1;
    }
    return demand->shift < 0 && class > 0 ? (uint8_t)(class - 1) : class;
}

nanos demand_deadline(const struct demand *demand, nanos arrived_ns, nanos usual_ns)
{
    nanos length = demand->total_ns;
    if (demand->is_stream) {
        shorten(&length, demand->first_ns);
    }
    length = length == NANOS_NEVER ? usual_ns : length;
    shorten(&length, demand->silence_ns);
    return length >= NANOS_NEVER - arrived_ns ? NANOS_NEVER : arrived_ns + length;
}

bool demand_has_deadline(const struct demand *demand, nanos usual_ns)
{
    return demand->total_ns != NANOS_NEVER || (demand->is_stream && demand->first_ns != NANOS_NEVER) ||
           demand->silence_ns < usual_ns;
}

void demand_question(const struct demand *demand, uint64_t tenant, const uint64_t *blocks, uint32_t block_count,
                     struct cost_question *ret_question)
{
    /* Blocks are cut from the prompt as it is written: what one of them is worth is less, by its escapes. */
    double share = demand->written_bytes == 0 ? 0 : (double)demand->prompt_bytes / (double)demand->written_bytes;
    *ret_question = (struct cost_question){
        .tenant = tenant,
        .prompt_bytes = demand->prompt_bytes,
        .prompt_tokens = demand->prompt_tokens,
        .output_max = demand->output_max,
        .choices = demand->choices,
        .blocks = block_count > 0 ? blocks : NULL,
        .block_count = block_count,
        .block_bytes = (uint32_t)(DEMAND_BLOCK_BYTES * share),
    };
}

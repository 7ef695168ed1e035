#include "sim/fault.h"

#include <stddef.h>

#include "base/check.h"

enum value_kind {
    VALUE_NONE,     /* a flag */
    VALUE_COUNT,    /* a number */
    VALUE_DURATION, /* with ms (the default) or s behind it */
    VALUE_FACTOR,   /* up to three decimals, with x behind it or not; in thousandths */
};

struct item {
    const char *name;
    enum value_kind kind;
    bool value_is_optional;
    uint64_t value_default;
    uint64_t value_max;
    void (*apply)(struct sim_fault *fault, uint64_t value);
};

static void start_reset(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->start = FAULT_START_RESET;
}

static void start_close(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->start = FAULT_START_CLOSE;
}

static void start_silent(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->start = FAULT_START_SILENT;
}

static void middle(struct sim_fault *f, enum fault_middle how, uint64_t after)
{
    f->middle = how;
    f->middle_after = after;
}

static void die_after(struct sim_fault *f, uint64_t v)
{
    middle(f, FAULT_MIDDLE_RESET, v);
}

static void close_after(struct sim_fault *f, uint64_t v)
{
    middle(f, FAULT_MIDDLE_CLOSE, v);
}

static void stall_after(struct sim_fault *f, uint64_t v)
{
    middle(f, FAULT_MIDDLE_STALL, v);
}

static void error_after(struct sim_fault *f, uint64_t v)
{
    middle(f, FAULT_MIDDLE_ERROR, v);
}

static void bad_chunk(struct sim_fault *f, uint64_t v)
{
    middle(f, FAULT_MIDDLE_BAD_CHUNK, v);
}

static void late(struct sim_fault *f, uint64_t v)
{
    f->late_ns = v;
}

static void slow(struct sim_fault *f, uint64_t v)
{
    f->slow_milli = (uint32_t)v;
}

static void status(struct sim_fault *f, uint64_t v)
{
    f->status = (uint16_t)v;
}

static void retry_after(struct sim_fault *f, uint64_t v)
{
    f->has_retry_after = true;
    f->retry_after_s = (uint32_t)v;
}

static void huge_head(struct sim_fault *f, uint64_t v)
{
    f->huge_head_bytes = (uint32_t)v;
}

static void extra(struct sim_fault *f, uint64_t v)
{
    f->extra_bytes = (uint32_t)v;
}

static void interim(struct sim_fault *f, uint64_t v)
{
    f->interim_count = (uint32_t)v;
}

static void split(struct sim_fault *f, uint64_t v)
{
    f->split_bytes = (uint32_t)v;
}

static void two_lengths(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->two_lengths = true;
}

static void length_and_chunked(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->length_and_chunked = true;
}

static void bad_status_line(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->bad_status_line = true;
}

static void bad_field(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->bad_field = true;
}

static void no_length(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->no_length = true;
}

static void no_keep_alive(struct sim_fault *f, uint64_t v)
{
    (void)v;
    f->no_keep_alive = true;
}

static void probability(struct sim_fault *f, uint64_t v)
{
    f->probability_ppm = (uint32_t)v * 1000;
}

static const struct item ITEMS[] = {
    {"reset", VALUE_NONE, true, 0, 0, start_reset},
    {"close", VALUE_NONE, true, 0, 0, start_close},
    {"no-first-byte", VALUE_NONE, true, 0, 0, start_silent},
    {"late-first-byte", VALUE_DURATION, false, 0, 3600 * NANOS_PER_S, late},
    {"slow-tokens", VALUE_FACTOR, false, 0, 1000000, slow},
    {"die-after", VALUE_COUNT, false, 0, UINT64_MAX, die_after},
    {"close-after", VALUE_COUNT, false, 0, UINT64_MAX, close_after},
    {"stall-after", VALUE_COUNT, false, 0, UINT64_MAX, stall_after},
    {"error-after", VALUE_COUNT, false, 0, UINT64_MAX, error_after},
    {"bad-chunk", VALUE_COUNT, true, 1, UINT64_MAX, bad_chunk},
    {"status", VALUE_COUNT, false, 0, 599, status},
    {"retry-after", VALUE_COUNT, false, 0, UINT32_MAX, retry_after},
    {"huge-head", VALUE_COUNT, true, 65536, 16 << 20, huge_head},
    {"extra-bytes", VALUE_COUNT, true, 16, 1 << 20, extra},
    {"interim", VALUE_COUNT, true, 1000, 1 << 20, interim},
    {"split", VALUE_COUNT, true, 1, 1 << 20, split},
    {"two-lengths", VALUE_NONE, true, 0, 0, two_lengths},
    {"length-and-chunked", VALUE_NONE, true, 0, 0, length_and_chunked},
    {"bad-status-line", VALUE_NONE, true, 0, 0, bad_status_line},
    {"bad-field", VALUE_NONE, true, 0, 0, bad_field},
    {"no-length", VALUE_NONE, true, 0, 0, no_length},
    {"no-keep-alive", VALUE_NONE, true, 0, 0, no_keep_alive},
    {"p", VALUE_FACTOR, false, 0, 1000, probability},
};

static bool strip_suffix(struct bytes *text, struct bytes suffix)
{
    if (text->len < suffix.len ||
        !bytes_equal((struct bytes){text->ptr + text->len - suffix.len, suffix.len}, suffix)) {
        return false;
    }
    text->len -= suffix.len;
    return true;
}

/* "1.25" as 1,250. */
static bool read_milli(struct bytes text, uint64_t *ret_value)
{
    uint64_t value = 0;
    unsigned decimals = 0;
    bool point = false;
    bool any = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9' || decimals == 3 || value > UINT32_MAX) {
            return false;
        }
        value = value * 10 + (uint64_t)(c - '0');
        decimals += point;
        any = true;
    }
    for (; decimals < 3; decimals++) {
        value *= 10;
    }
    *ret_value = value;
    return any;
}

static bool read_value(enum value_kind kind, struct bytes text, uint64_t *ret_value)
{
    uint64_t value;
    switch (kind) {
    case VALUE_NONE: return false;
    case VALUE_COUNT: return bytes_to_u64(text, ret_value);
    case VALUE_DURATION: {
        nanos unit = strip_suffix(&text, BYTES("ms"))  ? NANOS_PER_MS
                     : strip_suffix(&text, BYTES("s")) ? NANOS_PER_S
                                                       : NANOS_PER_MS;
        return bytes_to_u64(text, &value) && !__builtin_mul_overflow(value, unit, ret_value);
    }
    case VALUE_FACTOR: strip_suffix(&text, BYTES("x")); return read_milli(text, ret_value);
    }
    return false;
}

static bool apply_item(struct sim_fault *fault, struct bytes text)
{
    const char *equals = memchr(text.ptr, '=', text.len);
    struct bytes name = text;
    struct bytes value = BYTES_NONE;
    if (equals != NULL) {
        name = (struct bytes){text.ptr, (size_t)(equals - text.ptr)};
        value = bytes_trim((struct bytes){equals + 1, text.len - name.len - 1});
        name = bytes_trim(name);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(ITEMS); i++) {
        const struct item *item = &ITEMS[i];
        if (!bytes_equal_nocase(name, bytes_from(item->name))) {
            continue;
        }
        uint64_t number = item->value_default;
        if (equals == NULL ? !item->value_is_optional : !read_value(item->kind, value, &number)) {
            return false;
        }
        if (number > item->value_max) {
            return false;
        }
        item->apply(fault, number);
        return true;
    }
    return false;
}

bool sim_fault_parse(struct bytes spec, struct sim_fault *ret_fault, struct bytes *ret_bad)
{
    struct sim_fault fault = {.probability_ppm = 1000000};
    while (spec.len > 0) {
        size_t end = 0;
        while (end < spec.len && spec.ptr[end] != ';' && spec.ptr[end] != ',') {
            end++;
        }
        struct bytes item = bytes_trim((struct bytes){spec.ptr, end});
        size_t taken = end < spec.len ? end + 1 : end;
        spec = (struct bytes){spec.ptr + taken, spec.len - taken};
        if (item.len > 0 && !apply_item(&fault, item)) {
            *ret_bad = item;
            return false;
        }
    }
    if (fault.status != 0 && fault.status < 200) {
        *ret_bad = BYTES("status");
        return false;
    }
    *ret_fault = fault;
    return true;
}

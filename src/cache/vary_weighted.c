/* Lists of names with qualities (RFC 9110 §12.4.2), as Accept-Encoding and Accept-Language have them: their order means
 * nothing, nor does the case of letters (§12.5.3, §12.5.4; RFC 9111 §4.1 allows to make use of it). */
#include "cache/vary_internal.h"
#include "http/chars.h"

enum {
    ITEMS_MAX = 32,
    QUALITY_ONE = 1000,
};

struct weighted {
    struct bytes name;
    unsigned permille;
};

/* qvalue: 0, 1, and up to three digits behind the point. */
static bool read_quality(struct bytes text, unsigned *ret_permille)
{
    if (text.len == 0 || text.len > 5 || (text.ptr[0] != '0' && text.ptr[0] != '1') ||
        (text.len > 1 && text.ptr[1] != '.')) {
        return false;
    }
    unsigned permille = text.ptr[0] == '1' ? QUALITY_ONE : 0;
    unsigned weight = QUALITY_ONE / 10;
    for (size_t i = 2; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        permille += (unsigned)(text.ptr[i] - '0') * weight;
        weight /= 10;
    }
    *ret_permille = permille;
    return permille <= QUALITY_ONE;
}

/* name [ OWS ";" OWS "q=" qvalue ], nothing else. */
static bool read_item(struct bytes item, struct weighted *ret_weighted)
{
    const char *semicolon = memchr(item.ptr, ';', item.len);
    struct bytes name = {item.ptr, semicolon == NULL ? item.len : (size_t)(semicolon - item.ptr)};
    name = bytes_trim(name);
    for (size_t i = 0; i < name.len; i++) {
        if (!char_is(name.ptr[i], CHAR_TOKEN)) {
            return false;
        }
    }
    ret_weighted->name = name;
    ret_weighted->permille = QUALITY_ONE;
    if (semicolon == NULL) {
        return name.len > 0;
    }
    struct bytes weight = bytes_trim((struct bytes){semicolon + 1, (size_t)(item.ptr + item.len - semicolon) - 1});
    return name.len > 0 && weight.len > 2 && ascii_lower(weight.ptr[0]) == 'q' && weight.ptr[1] == '=' &&
           read_quality((struct bytes){weight.ptr + 2, weight.len - 2}, &ret_weighted->permille);
}

/* The older name of a coding stands for the newer (RFC 9110 §8.4.1). */
static struct bytes coding_name(struct bytes name)
{
    if (bytes_equal_nocase(name, BYTES("x-gzip"))) {
        return BYTES("gzip");
    }
    return bytes_equal_nocase(name, BYTES("x-compress")) ? BYTES("compress") : name;
}

static bool goes_before(const struct weighted *a, const struct weighted *b)
{
    if (a->permille != b->permille) {
        return a->permille > b->permille;
    }
    for (size_t i = 0; i < a->name.len && i < b->name.len; i++) {
        char x = ascii_lower(a->name.ptr[i]);
        char y = ascii_lower(b->name.ptr[i]);
        if (x != y) {
            return x < y;
        }
    }
    return a->name.len < b->name.len;
}

static void insert(struct weighted *items, unsigned count, struct weighted item)
{
    unsigned place = count;
    while (place > 0 && goes_before(&item, &items[place - 1])) {
        items[place] = items[place - 1];
        place--;
    }
    items[place] = item;
}

static void put_quality(struct vary_out *out, unsigned permille)
{
    char text[] = ";q=0.000";
    size_t bytes = sizeof(text) - 1;
    for (size_t i = bytes - 1; i > 4; i--) {
        text[i] = (char)('0' + permille % 10);
        permille /= 10;
    }
    while (text[bytes - 1] == '0' && bytes > 5) {
        bytes--;
    }
    if (text[bytes - 1] == '.') {
        bytes--;
    }
    vary_put(out, (struct bytes){text, bytes});
}

static void put_lower(struct vary_out *out, struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char lower = ascii_lower(name.ptr[i]);
        vary_put(out, (struct bytes){&lower, 1});
    }
}

/* A refused coding can be left out where nothing says "all others": what is not named is not accepted either. That is
 * not so of identity. */
static bool is_idle(const struct weighted *item)
{
    return item->permille == 0 && !bytes_equal_nocase(item->name, BYTES("identity"));
}

bool vary_put_weighted(struct vary_out *out, struct head_values values, bool is_coding)
{
    struct weighted items[ITEMS_MAX];
    unsigned count = 0;
    bool has_all = false;
    struct bytes value;
    struct bytes text;
    while (head_next_passed_value(&values, &value)) {
        while (bytes_next_item(&value, &text)) {
            struct weighted item;
            if (count == ITEMS_MAX || !read_item(text, &item)) {
                return false;
            }
            item.name = is_coding ? coding_name(item.name) : item.name;
            has_all |= bytes_equal(item.name, BYTES("*"));
            insert(items, count++, item);
        }
    }
    bool leave_out = is_coding && !has_all;
    bool any = false;
    for (unsigned i = 0; i < count; i++) {
        if (leave_out && is_idle(&items[i])) {
            continue;
        }
        vary_put(out, any ? BYTES(",") : BYTES(""));
        put_lower(out, items[i].name);
        if (items[i].permille != QUALITY_ONE) {
            put_quality(out, items[i].permille);
        }
        any = true;
    }
    return true;
}

#include "cache/directives.h"

#include "http/chars.h"
#include "http/structured.h"

enum kind {
    KIND_OTHER,
    KIND_IMMUTABLE,
    KIND_MAX_AGE,
    KIND_MAX_STALE,
    KIND_MIN_FRESH,
    KIND_MUST_REVALIDATE,
    KIND_MUST_UNDERSTAND,
    KIND_NO_CACHE,
    KIND_NO_STORE,
    KIND_ONLY_IF_CACHED,
    KIND_PRIVATE,
    KIND_PUBLIC,
    KIND_S_MAXAGE,
    KIND_STALE_IF_ERROR,
    KIND_STALE_WHILE_REVALIDATE,
    KIND_COUNT,
};

/* One directive, however it was written. */
struct directive {
    enum kind kind;
    bool has_argument;
    bool is_sound;         /* well-formed, and not behind a quote that never closes: may be believed where it permits */
    bool is_conditional;   /* has parameters: Surrogate-Control's way of meaning somebody else */
    struct bytes argument; /* unquoted, escapes left in */
};

static enum kind kind_of(struct bytes name)
{
    static const struct {
        struct bytes name;
        enum kind kind;
    } known[] = {
        {BYTES("max-age"), KIND_MAX_AGE},
        {BYTES("s-maxage"), KIND_S_MAXAGE},
        {BYTES("public"), KIND_PUBLIC},
        {BYTES("private"), KIND_PRIVATE},
        {BYTES("no-cache"), KIND_NO_CACHE},
        {BYTES("no-store"), KIND_NO_STORE},
        {BYTES("no-store-remote"), KIND_NO_STORE}, /* Surrogate-Control's */
        {BYTES("must-revalidate"), KIND_MUST_REVALIDATE},
        {BYTES("proxy-revalidate"), KIND_MUST_REVALIDATE},
        {BYTES("must-understand"), KIND_MUST_UNDERSTAND},
        {BYTES("immutable"), KIND_IMMUTABLE},
        {BYTES("stale-while-revalidate"), KIND_STALE_WHILE_REVALIDATE},
        {BYTES("stale-if-error"), KIND_STALE_IF_ERROR},
        {BYTES("max-stale"), KIND_MAX_STALE},
        {BYTES("min-fresh"), KIND_MIN_FRESH},
        {BYTES("only-if-cached"), KIND_ONLY_IF_CACHED},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (name.len == known[i].name.len && bytes_equal_nocase(name, known[i].name)) {
            return known[i].kind;
        }
    }
    return KIND_OTHER;
}

bool directives_seconds(struct bytes text, uint32_t *ret_seconds)
{
    uint64_t seconds = 0;
    if (text.len == 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        seconds = seconds * 10 + (uint64_t)(text.ptr[i] - '0');
        seconds = seconds < DIRECTIVES_SECONDS_MAX ? seconds : DIRECTIVES_SECONDS_MAX;
    }
    *ret_seconds = (uint32_t)seconds;
    return true;
}

static bool is_token(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!char_is(text.ptr[i], CHAR_TOKEN)) {
            return false;
        }
    }
    return text.len > 0;
}

/* ---- one field line as a list ---- */

static void skip(struct bytes *rest, size_t count)
{
    rest->ptr += count;
    rest->len -= count;
}

static struct bytes take_token(struct bytes *rest)
{
    struct bytes token = {rest->ptr, 0};
    while (token.len < rest->len && char_is(rest->ptr[token.len], CHAR_TOKEN)) {
        token.len++;
    }
    skip(rest, token.len);
    return token;
}

/* Takes a quoted string, at whose opening quote *rest stands, and gives what is between the quotes. Of one that never
 * closes only the quote is taken, so that what follows is looked at for restrictions; false. */
static bool take_quoted(struct bytes *rest, struct bytes *ret_text)
{
    for (size_t at = 1; at < rest->len; at++) {
        if (rest->ptr[at] == '\\') {
            at++;
        } else if (rest->ptr[at] == '"') {
            *ret_text = (struct bytes){rest->ptr + 1, at - 1};
            skip(rest, at + 1);
            return true;
        }
    }
    skip(rest, 1);
    return false;
}

static void skip_white_space(struct bytes *rest)
{
    while (rest->len > 0 && (*rest->ptr == ' ' || *rest->ptr == '\t')) {
        skip(rest, 1);
    }
}

/* Passes over whatever precedes the next comma outside quotes; false when a quote never closes. */
static bool skip_to_comma(struct bytes *rest)
{
    bool closed = true;
    struct bytes ignored;
    while (rest->len > 0 && *rest->ptr != ',') {
        if (*rest->ptr == '"') {
            closed &= take_quoted(rest, &ignored);
        } else {
            skip(rest, 1);
        }
    }
    return closed;
}

/* Takes the next directive of a line; false at its end. *is_closed becomes false behind a quote that never closes. */
static bool next_directive(struct bytes *rest, bool *is_closed, struct directive *ret_directive)
{
    while (rest->len > 0 && (*rest->ptr == ',' || *rest->ptr == ' ' || *rest->ptr == '\t')) {
        skip(rest, 1);
    }
    if (rest->len == 0) {
        return false;
    }
    struct bytes name = take_token(rest);
    struct directive directive = {.kind = kind_of(name), .is_sound = *is_closed && name.len > 0};
    if (rest->len > 0 && *rest->ptr == '=') {
        skip(rest, 1);
        directive.has_argument = true;
        if (rest->len > 0 && *rest->ptr == '"') {
            *is_closed &= take_quoted(rest, &directive.argument);
        } else {
            directive.argument = take_token(rest);
            directive.is_sound &= directive.argument.len > 0;
        }
    }
    skip_white_space(rest);
    if (rest->len > 0 && *rest->ptr != ',') {
        directive.is_sound = false;
        directive.is_conditional = *rest->ptr == ';';
        *is_closed &= skip_to_comma(rest);
    }
    *ret_directive = directive;
    return true;
}

/* ---- what a directive does ---- */

/* An argument that must be seconds; `otherwise` when it is not there or is not to be believed. */
static uint32_t seconds_of(const struct directive *directive, uint32_t otherwise)
{
    uint32_t seconds;
    bool readable = directive->is_sound && directive->has_argument && directives_seconds(directive->argument, &seconds);
    return readable ? seconds : otherwise;
}

static void keep_first(uint32_t *slot, uint32_t seconds)
{
    if (*slot == DIRECTIVES_ABSENT) {
        *slot = seconds;
    }
}

/* Notes the names that a qualified no-cache or private gives. False when it is to be taken as unqualified: it names
 * nothing, or not just field names, or there is no room. */
static bool note_names(const struct directive *directive, struct directives_fields *named)
{
    struct bytes list = directive->argument;
    struct bytes name;
    unsigned names = 0;
    if (!directive->is_sound || !directive->has_argument || named->count == DIRECTIVES_LISTS_MAX) {
        return false;
    }
    while (bytes_next_item(&list, &name)) {
        if (!is_token(name)) {
            return false;
        }
        names++;
    }
    if (names > 0) {
        named->lists[named->count++] = directive->argument;
    }
    return names > 0;
}

static void apply_to_response(struct directives_response *response, const struct directive *directive)
{
    bool is_granted = directive->is_sound && !directive->has_argument;
    switch (directive->kind) {
    case KIND_MAX_AGE: keep_first(&response->max_age_s, seconds_of(directive, DIRECTIVES_INVALID)); break;
    case KIND_S_MAXAGE:
        keep_first(&response->s_maxage_s, seconds_of(directive, DIRECTIVES_INVALID));
        response->allows_authorized |= response->s_maxage_s != DIRECTIVES_INVALID;
        break;
    case KIND_STALE_WHILE_REVALIDATE:
        keep_first(&response->stale_while_revalidate_s, seconds_of(directive, DIRECTIVES_ABSENT));
        break;
    case KIND_STALE_IF_ERROR: keep_first(&response->stale_if_error_s, seconds_of(directive, DIRECTIVES_ABSENT)); break;
    case KIND_NO_STORE: response->no_store = true; break;
    case KIND_NO_CACHE: response->no_cache |= !note_names(directive, &response->named); break;
    case KIND_PRIVATE: response->is_private |= !note_names(directive, &response->named); break;
    case KIND_PUBLIC:
        response->is_public |= is_granted;
        response->allows_authorized |= is_granted;
        break;
    case KIND_MUST_REVALIDATE:
        response->must_revalidate = true;
        response->allows_authorized |= is_granted;
        break;
    case KIND_MUST_UNDERSTAND: response->must_understand |= is_granted; break;
    case KIND_IMMUTABLE: response->is_immutable |= is_granted; break;
    default: break;
    }
}

static void apply_to_request(struct directives_request *request, const struct directive *directive)
{
    switch (directive->kind) {
    case KIND_MAX_AGE: keep_first(&request->max_age_s, seconds_of(directive, DIRECTIVES_ABSENT)); break;
    case KIND_MIN_FRESH: keep_first(&request->min_fresh_s, seconds_of(directive, DIRECTIVES_ABSENT)); break;
    case KIND_MAX_STALE:
        keep_first(&request->max_stale_s, directive->is_sound && !directive->has_argument
                                              ? DIRECTIVES_SECONDS_MAX
                                              : seconds_of(directive, DIRECTIVES_ABSENT));
        break;
    case KIND_STALE_IF_ERROR: keep_first(&request->stale_if_error_s, seconds_of(directive, DIRECTIVES_ABSENT)); break;
    case KIND_NO_CACHE: request->no_cache = true; break;
    case KIND_NO_STORE: request->no_store = true; break;
    case KIND_ONLY_IF_CACHED: request->only_if_cached = true; break;
    default: break;
    }
}

/* ---- fields ---- */

/* Gives the next line of a known field, *at being the index + 1 of the one to look at first; false when there is none.
 */
static bool next_line(const struct http_head *head, const char *base, enum http_field_id id, unsigned *at,
                      struct bytes *ret_value)
{
    for (; *at > 0 && *at <= head->field_count; ++*at) {
        const struct http_field *field = &head->fields[*at - 1];
        if (field->id == id) {
            *ret_value = http_field_value(field, base);
            ++*at;
            return true;
        }
    }
    return false;
}

static void read_pragma(const struct http_head *head, const char *base, struct directives_request *request)
{
    unsigned at = head->first[HTTP_FIELD_PRAGMA];
    struct bytes line;
    struct bytes item;
    while (next_line(head, base, HTTP_FIELD_PRAGMA, &at, &line)) {
        while (bytes_next_item(&line, &item)) {
            request->no_cache |= bytes_equal_nocase(item, BYTES("no-cache"));
        }
    }
    request->has_any = request->no_cache;
}

static void read_request_cache_control(const struct http_head *head, const char *base,
                                       struct directives_request *request)
{
    unsigned at = head->first[HTTP_FIELD_CACHE_CONTROL];
    bool is_closed = true;
    struct bytes line;
    struct directive directive;
    while (next_line(head, base, HTTP_FIELD_CACHE_CONTROL, &at, &line)) {
        while (next_directive(&line, &is_closed, &directive)) {
            apply_to_request(request, &directive);
        }
    }
    request->has_any = request->no_cache || request->no_store || request->only_if_cached ||
                       request->max_age_s != DIRECTIVES_ABSENT || request->min_fresh_s != DIRECTIVES_ABSENT ||
                       request->max_stale_s != DIRECTIVES_ABSENT || request->stale_if_error_s != DIRECTIVES_ABSENT;
}

void directives_read_request(const struct http_head *head, const char *base, struct directives_request *ret_request)
{
    *ret_request = DIRECTIVES_REQUEST_PLAIN;
    ret_request->has_authorization = head->first[HTTP_FIELD_AUTHORIZATION] != 0;
    if (head->first[HTTP_FIELD_CACHE_CONTROL] != 0) {
        read_request_cache_control(head, base, ret_request);
    } else if (head->first[HTTP_FIELD_PRAGMA] != 0) {
        read_pragma(head, base, ret_request);
    }
}

static struct directives_response nothing_said(void)
{
    return (struct directives_response){
        .max_age_s = DIRECTIVES_ABSENT,
        .s_maxage_s = DIRECTIVES_ABSENT,
        .stale_while_revalidate_s = DIRECTIVES_ABSENT,
        .stale_if_error_s = DIRECTIVES_ABSENT,
    };
}

void directives_read_response(const struct http_head *head, const char *base, struct directives_response *ret_response)
{
    unsigned at = head->first[HTTP_FIELD_CACHE_CONTROL];
    bool is_closed = true;
    struct bytes line;
    struct directive directive;
    *ret_response = nothing_said();
    while (next_line(head, base, HTTP_FIELD_CACHE_CONTROL, &at, &line)) {
        while (next_directive(&line, &is_closed, &directive)) {
            apply_to_response(ret_response, &directive);
        }
    }
}

/* ---- targeted fields ---- */

/* A dictionary's members by kind: of a key given again the last value counts, so none is applied before the end. */
struct dictionary {
    unsigned members;
    bool has[KIND_COUNT];
    struct directive last[KIND_COUNT];
};

/* Gives a member as a directive: what has no value is true; what a directive's argument must be it must be here, too:
 * seconds an integer, names a string or a token. ?0 is the contrary of the directive, hence none. */
static bool directive_of(const struct structured_member *member, struct directive *ret_directive)
{
    bool is_true = member->type == STRUCTURED_BOOLEAN && member->boolean;
    ret_directive->has_argument = !is_true;
    ret_directive->is_conditional = false;
    ret_directive->argument = is_true ? BYTES_NONE : member->text;
    switch (ret_directive->kind) {
    case KIND_NO_CACHE:
    case KIND_PRIVATE:
        ret_directive->is_sound = member->type == STRUCTURED_STRING || member->type == STRUCTURED_TOKEN;
        break;
    case KIND_MAX_AGE:
    case KIND_S_MAXAGE:
    case KIND_STALE_IF_ERROR:
    case KIND_STALE_WHILE_REVALIDATE: ret_directive->is_sound = member->type == STRUCTURED_INTEGER; break;
    default: ret_directive->is_sound = is_true; break;
    }
    return member->type != STRUCTURED_BOOLEAN || member->boolean;
}

static bool read_dictionary_line(struct bytes line, struct dictionary *dictionary)
{
    struct structured_member member;
    enum structured_step step;
    while ((step = structured_next_member(&line, &member)) == STRUCTURED_MEMBER) {
        struct directive directive = {.kind = kind_of(member.key)};
        dictionary->members++;
        dictionary->has[directive.kind] = directive_of(&member, &directive);
        dictionary->last[directive.kind] = directive;
    }
    return step == STRUCTURED_END;
}

/* Surrogate-Control has `max-age=fresh+stale`: the second number is how long it may be used beyond. */
static void apply_to_surrogate(struct directives_response *response, struct directive *directive)
{
    const char *plus =
        directive->argument.len == 0 ? NULL : memchr(directive->argument.ptr, '+', directive->argument.len);
    if (directive->is_conditional || (directive->kind != KIND_MAX_AGE && directive->kind != KIND_NO_STORE)) {
        return;
    }
    if (directive->kind == KIND_MAX_AGE && plus != NULL) {
        struct directive stale = *directive;
        size_t fresh_bytes = (size_t)(plus - directive->argument.ptr);
        stale.argument = (struct bytes){plus + 1, directive->argument.len - fresh_bytes - 1};
        directive->argument.len = fresh_bytes;
        keep_first(&response->stale_while_revalidate_s, seconds_of(&stale, DIRECTIVES_ABSENT));
    }
    apply_to_response(response, directive);
}

struct targeted_reading {
    struct dictionary dictionary;
    struct directives_response response;
    bool is_closed;
};

static bool read_targeted_line(struct bytes line, enum directives_syntax syntax, struct targeted_reading *reading)
{
    struct directive directive;
    if (syntax == DIRECTIVES_DICTIONARY) {
        return read_dictionary_line(line, &reading->dictionary);
    }
    while (next_directive(&line, &reading->is_closed, &directive)) {
        reading->dictionary.members++;
        if (syntax == DIRECTIVES_SURROGATE) {
            apply_to_surrogate(&reading->response, &directive);
        } else {
            apply_to_response(&reading->response, &directive);
        }
    }
    return true;
}

bool directives_read_targeted(const struct http_head *head, const char *base, struct bytes name,
                              enum directives_syntax syntax, struct directives_response *ret_response)
{
    struct targeted_reading reading = {.response = nothing_said(), .is_closed = true};
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        if (field->name_bytes == name.len && bytes_equal_nocase(http_field_name(field, base), name) &&
            !read_targeted_line(http_field_value(field, base), syntax, &reading)) {
            return false;
        }
    }
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        if (reading.dictionary.has[kind]) {
            apply_to_response(&reading.response, &reading.dictionary.last[kind]);
        }
    }
    *ret_response = reading.response;
    if (syntax == DIRECTIVES_SURROGATE) { /* it may speak of other things altogether */
        return reading.response.no_store || reading.response.max_age_s != DIRECTIVES_ABSENT;
    }
    return reading.dictionary.members > 0;
}

bool directives_name_field(const struct directives_fields *fields, struct bytes name)
{
    for (unsigned i = 0; i < fields->count; i++) {
        struct bytes list = fields->lists[i];
        struct bytes item;
        while (bytes_next_item(&list, &item)) {
            if (bytes_equal_nocase(item, name)) {
                return true;
            }
        }
    }
    return false;
}

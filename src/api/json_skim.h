/* Finding the few bytes that matter in JSON, sixteen at a time: for who wants a little of a long text, and trusts it to
 * be JSON. What checks the grammar is json_scan.h. */
#ifndef SLUICE_API_JSON_SKIM_H
#define SLUICE_API_JSON_SKIM_H

#include <stdint.h>
#include <string.h>

enum { JSON_SKIM_BLOCK = 16 };

/* As the compiler has it on any machine: a register of bytes. */
typedef unsigned char json_skim_block __attribute__((vector_size(JSON_SKIM_BLOCK)));

/* The place of the first byte of `found` that is not 0; JSON_SKIM_BLOCK: there is none. */
static inline unsigned json_skim_first(json_skim_block found)
{
    uint64_t halves[2];
    memcpy(halves, &found, sizeof(halves));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    halves[0] = __builtin_bswap64(halves[0]);
    halves[1] = __builtin_bswap64(halves[1]);
#endif
    if (halves[0] != 0) {
        return (unsigned)__builtin_ctzll(halves[0]) / 8;
    }
    return halves[1] != 0 ? 8 + (unsigned)__builtin_ctzll(halves[1]) / 8 : JSON_SKIM_BLOCK;
}

/* The first quote or backslash at or after `at`; `end` when there is none before it. */
static inline const char *json_skim_string(const char *at, const char *end)
{
    while (end - at >= JSON_SKIM_BLOCK) {
        json_skim_block block;
        memcpy(&block, at, sizeof(block));
        unsigned first = json_skim_first((json_skim_block)((block == '"') | (block == '\\')));
        if (first < JSON_SKIM_BLOCK) {
            return at + first;
        }
        at += JSON_SKIM_BLOCK;
    }
    while (at < end && *at != '"' && *at != '\\') {
        at++;
    }
    return at;
}

/* The first quote, brace or bracket at or after `at`; `end` when there is none before it. */
static inline const char *json_skim_bracket(const char *at, const char *end)
{
    while (end - at >= JSON_SKIM_BLOCK) {
        json_skim_block block;
        memcpy(&block, at, sizeof(block));
        json_skim_block lower = block | 0x20; /* makes braces of brackets, and a quote of nothing that JSON knows */
        unsigned first = json_skim_first((json_skim_block)((block == '"') | (lower == '{') | (lower == '}')));
        if (first < JSON_SKIM_BLOCK) {
            return at + first;
        }
        at += JSON_SKIM_BLOCK;
    }
    while (at < end && *at != '"' && (*at | 0x20) != '{' && (*at | 0x20) != '}') {
        at++;
    }
    return at;
}

#endif

/* What the simulated model says: a function of the prompt and of nothing else.
 *
 * The tokenizer is an approximation that can be reckoned in one's head: every 4 bytes are a token, the rest is one
 * more. The words of the output are 4 bytes each, so tokenizing an answer gives the number of tokens it was made of. */
#ifndef SLUICE_SIM_TEXT_H
#define SLUICE_SIM_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { TEXT_TOKEN_BYTES = 4 };

/* Mixes `b` into a hash (0 to begin with): stable between runs, machines and versions, cut-dependent. */
uint64_t sim_text_hash(uint64_t hash, struct bytes b);

/* One more number mixed in. */
uint64_t sim_text_mix(uint64_t hash, uint64_t number);

/* How many tokens `b` is. */
static inline uint64_t sim_text_tokens(struct bytes b)
{
    return (b.len + TEXT_TOKEN_BYTES - 1) / TEXT_TOKEN_BYTES;
}

/* The id of the token at `at`, of up to 4 bytes that are left: those bytes, little-endian. */
uint32_t sim_text_token_id(struct bytes left);

/* Writes the token's bytes back; how many (trailing NULs are not part of it). */
size_t sim_text_token_bytes(uint32_t id, char out[TEXT_TOKEN_BYTES]);

/* Writes word `index` of the answer with this hash: 4 bytes that need no escape in JSON. */
void sim_text_word(uint64_t hash, uint32_t index, char out[TEXT_TOKEN_BYTES]);

/* The last word ends in a full stop rather than a blank. */
static inline void sim_text_end_sentence(char word[TEXT_TOKEN_BYTES])
{
    word[TEXT_TOKEN_BYTES - 1] = '.';
}

/* After how many words the model stops by itself: 16 to 511, half of them below 96. */
uint32_t sim_text_natural_tokens(uint64_t hash);

/* Writes a unit vector of `count` dimensions. */
void sim_text_embedding(uint64_t hash, float *out, unsigned count);

/* Base64 (RFC 4648) with padding; `out` has room for 4 × ceil(len ÷ 3). */
size_t sim_text_base64(struct bytes b, char *out);

/* The tables of a CRC-32, eight bytes at a time. */
struct text_crc {
    uint32_t table[8][256];
};

void sim_text_crc_init(struct text_crc *crc);

/* Goes on with a CRC-32 (as zlib's crc32; 0 to begin with). */
uint32_t sim_text_crc32(const struct text_crc *crc, uint32_t value, struct bytes b);

#endif

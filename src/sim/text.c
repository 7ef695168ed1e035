#include "sim/text.h"

#include <math.h>

/* Three letters each; a blank makes the fourth byte. */
static const char WORDS[] =
    "theandforareyouallanyhercanhadoneourhasbutnotdayoutnortwohimhisnewnowoldseewaywhodidgetlethowsaytoouseactaddageago"
    "airaskbadbagbarbedbigbitboxboybuscarcutdogdrydueeareateggendeyefarfewfitflyfungasguyhithoticeillinkjobkeykidlaglaw"
    "laylegliplotlowmanmapmixnetnodoffoilownpaypenpetpieputrawredrowrunseasetsitsixskysonsuntaxteatentietiptopwarwetwin"
    "wonyesyet";

enum { WORD_LETTERS = 3, WORD_COUNT = (sizeof(WORDS) - 1) / WORD_LETTERS };

_Static_assert((sizeof(WORDS) - 1) % WORD_LETTERS == 0, "whole words");

/* The finaliser of SplitMix64 (Steele, Lea and Flood, 2014). */
static uint64_t finish(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t sim_text_mix(uint64_t hash, uint64_t number)
{
    return finish(hash * UINT64_C(0x9e3779b97f4a7c15) + number + UINT64_C(0x632be59bd9b4e019));
}

uint64_t sim_text_hash(uint64_t hash, struct bytes b)
{
    hash = sim_text_mix(hash, b.len);
    size_t i = 0;
    for (; b.len - i >= 8; i += 8) {
        uint64_t word = 0;
        for (unsigned k = 0; k < 8; k++) {
            word |= (uint64_t)(unsigned char)b.ptr[i + k] << (8 * k);
        }
        hash = sim_text_mix(hash, word);
    }
    uint64_t rest = 0;
    for (unsigned k = 0; i < b.len; i++, k++) {
        rest |= (uint64_t)(unsigned char)b.ptr[i] << (8 * k);
    }
    return sim_text_mix(hash, rest);
}

uint32_t sim_text_token_id(struct bytes left)
{
    uint32_t id = 0;
    for (unsigned k = 0; k < TEXT_TOKEN_BYTES && k < left.len; k++) {
        id |= (uint32_t)(unsigned char)left.ptr[k] << (8 * k);
    }
    return id;
}

size_t sim_text_token_bytes(uint32_t id, char out[TEXT_TOKEN_BYTES])
{
    size_t count = 0;
    for (; count < TEXT_TOKEN_BYTES && id != 0; count++, id >>= 8) {
        out[count] = (char)(id & 0xff);
    }
    return count;
}

void sim_text_word(uint64_t hash, uint32_t index, char out[TEXT_TOKEN_BYTES])
{
    const char *word = WORDS + WORD_LETTERS * (sim_text_mix(hash, index) % WORD_COUNT);
    memcpy(out, word, WORD_LETTERS);
    out[WORD_LETTERS] = ' ';
}

uint32_t sim_text_natural_tokens(uint64_t hash)
{
    uint64_t random = sim_text_mix(hash, UINT64_C(0x6c656e677468));
    uint32_t octave = UINT32_C(16) << (random % 5);
    return octave + (uint32_t)((random >> 8) % octave);
}

void sim_text_embedding(uint64_t hash, float *out, unsigned count)
{
    double sum = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t random = sim_text_mix(hash, i);
        /* The sum of four uniform ones is near enough to a normal one for directions to be spread evenly. */
        double value = -2.0;
        for (unsigned k = 0; k < 4; k++) {
            value += (double)((random >> (16 * k)) & 0xffff) / 65536.0;
        }
        out[i] = (float)value;
        sum += value * value;
    }
    double scale = sum > 0 ? 1.0 / sqrt(sum) : 0;
    for (unsigned i = 0; i < count; i++) {
        out[i] = (float)(out[i] * scale);
    }
}

size_t sim_text_base64(struct bytes b, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = out;
    for (size_t i = 0; i < b.len; i += 3) {
        size_t have = b.len - i < 3 ? b.len - i : 3;
        uint32_t group = 0;
        for (size_t k = 0; k < 3; k++) {
            group = group << 8 | (k < have ? (unsigned char)b.ptr[i + k] : 0U);
        }
        for (size_t k = 0; k < 4; k++) {
            *at++ = k <= have ? digits[(group >> (18 - 6 * k)) & 63] : '=';
        }
    }
    return (size_t)(at - out);
}

void sim_text_crc_init(struct text_crc *crc)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (unsigned bit = 0; bit < 8; bit++) {
            value = value >> 1 ^ (value & 1 ? UINT32_C(0xedb88320) : 0);
        }
        crc->table[0][i] = value;
    }
    for (unsigned k = 1; k < 8; k++) {
        for (unsigned i = 0; i < 256; i++) {
            uint32_t before = crc->table[k - 1][i];
            crc->table[k][i] = before >> 8 ^ crc->table[0][before & 255];
        }
    }
}

uint32_t sim_text_crc32(const struct text_crc *crc, uint32_t value, struct bytes b)
{
    const unsigned char *at = (const unsigned char *)b.ptr;
    size_t left = b.len;
    value = ~value;
    for (; left >= 8; left -= 8, at += 8) {
        uint32_t low = value ^ ((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
        value = crc->table[7][low & 255] ^ crc->table[6][low >> 8 & 255] ^ crc->table[5][low >> 16 & 255] ^
                crc->table[4][low >> 24] ^ crc->table[3][at[4]] ^ crc->table[2][at[5]] ^ crc->table[1][at[6]] ^
                crc->table[0][at[7]];
    }
    for (; left > 0; left--, at++) {
        value = value >> 8 ^ crc->table[0][(value ^ *at) & 255];
    }
    return ~value;
}

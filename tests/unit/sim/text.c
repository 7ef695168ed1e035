#include <criterion/criterion.h>
#include <math.h>

#include "sim/buffer.h"
#include "sim/text.h"

Test(text, same_prompt_gives_the_same_words_and_another_gives_others)
{
    uint64_t a = sim_text_hash(0, BYTES("hello")), b = sim_text_hash(0, BYTES("hellp"));
    unsigned differing = 0;
    for (uint32_t i = 0; i < 100; i++) {
        char one[TEXT_TOKEN_BYTES], again[TEXT_TOKEN_BYTES], other[TEXT_TOKEN_BYTES];
        sim_text_word(a, i, one);
        sim_text_word(a, i, again);
        sim_text_word(b, i, other);
        cr_assert_arr_eq(one, again, sizeof(one));
        differing += memcmp(one, other, sizeof(one)) != 0;
    }
    cr_assert_gt(differing, 80);
}

Test(text, hash_does_not_change_between_versions)
{
    /* Recorded answers and caches in tests depend on it. */
    cr_assert_eq(sim_text_hash(0, BYTES("hello, world")), UINT64_C(0x6508f134d790a388));
    char word[TEXT_TOKEN_BYTES];
    sim_text_word(sim_text_hash(0, BYTES("hello, world")), 0, word);
    cr_assert_arr_eq(word, "six ", sizeof(word));
    cr_assert_eq(sim_text_natural_tokens(sim_text_hash(0, BYTES("hello, world"))), 360);
}

Test(text, hash_tells_cuts_and_trailing_zeros_apart)
{
    cr_assert_neq(sim_text_hash(sim_text_hash(0, BYTES("ab")), BYTES("c")),
                  sim_text_hash(sim_text_hash(0, BYTES("a")), BYTES("bc")));
    cr_assert_neq(sim_text_hash(0, BYTES("a")), sim_text_hash(0, BYTES("a\0")));
    cr_assert_neq(sim_text_hash(0, BYTES("")), sim_text_hash(0, BYTES("\0\0\0\0\0\0\0\0")));
}

Test(text, words_need_no_escape_and_are_one_token_each)
{
    for (uint32_t i = 0; i < 2000; i++) {
        char word[TEXT_TOKEN_BYTES];
        sim_text_word(7, i, word);
        for (unsigned k = 0; k < 3; k++) {
            cr_assert(word[k] >= 'a' && word[k] <= 'z');
        }
        cr_assert_eq(word[3], ' ');
        cr_assert_eq(sim_text_tokens((struct bytes){word, sizeof(word)}), 1);
        char back[TEXT_TOKEN_BYTES];
        cr_assert_eq(sim_text_token_bytes(sim_text_token_id((struct bytes){word, 4}), back), 4);
        cr_assert_arr_eq(back, word, 4);
    }
}

Test(text, tokens_are_four_bytes_and_a_rest)
{
    cr_assert_eq(sim_text_tokens(BYTES("")), 0);
    cr_assert_eq(sim_text_tokens(BYTES("a")), 1);
    cr_assert_eq(sim_text_tokens(BYTES("abcd")), 1);
    cr_assert_eq(sim_text_tokens(BYTES("abcde")), 2);
    cr_assert_eq(sim_text_token_id(BYTES("ab")), 0x6261);
}

Test(text, natural_lengths_lie_in_their_bounds_with_the_median_said)
{
    unsigned below_96 = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        uint32_t tokens = sim_text_natural_tokens(sim_text_mix(1, i));
        cr_assert(tokens >= 16 && tokens <= 511);
        below_96 += tokens < 96;
    }
    cr_assert(below_96 > 4800 && below_96 < 5200, "%u", below_96);
}

Test(text, embeddings_are_unit_vectors_of_their_own)
{
    float a[384], b[384];
    sim_text_embedding(1, a, 384);
    sim_text_embedding(2, b, 384);
    double length = 0, product = 0;
    for (unsigned i = 0; i < 384; i++) {
        length += (double)a[i] * a[i];
        product += (double)a[i] * b[i];
    }
    cr_assert_float_eq(length, 1.0, 1e-5);
    cr_assert_lt(fabs(product), 0.2);
    sim_text_embedding(1, b, 384);
    cr_assert_arr_eq(a, b, sizeof(a));
}

Test(text, base64_pads_as_the_rfc_says)
{
    static const char *const vectors[][2] = {{"", ""},
                                             {"f", "Zg=="},
                                             {"fo", "Zm8="},
                                             {"foo", "Zm9v"},
                                             {"foob", "Zm9vYg=="},
                                             {"fooba", "Zm9vYmE="},
                                             {"foobar", "Zm9vYmFy"}};
    for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        char out[16];
        size_t bytes = sim_text_base64(bytes_from(vectors[i][0]), out);
        cr_assert(bytes_equal((struct bytes){out, bytes}, bytes_from(vectors[i][1])), "%s", vectors[i][0]);
    }
}

Test(text, crc_is_zlibs_in_whatever_pieces)
{
    struct text_crc crc;
    sim_text_crc_init(&crc);
    cr_assert_eq(sim_text_crc32(&crc, 0, BYTES("123456789")), 0xcbf43926);
    struct bytes text = BYTES("The quick brown fox jumps over the lazy dog");
    for (size_t cut = 0; cut <= text.len; cut++) {
        uint32_t value = sim_text_crc32(&crc, 0, (struct bytes){text.ptr, cut});
        value = sim_text_crc32(&crc, value, (struct bytes){text.ptr + cut, text.len - cut});
        cr_assert_eq(value, 0x414fa339);
    }
}

/* ---- buffers ---- */

static void assert_json(struct bytes in, const char *want)
{
    struct sim_buffer buffer = {0};
    sim_buffer_put_json(&buffer, in);
    cr_assert(bytes_equal(sim_buffer_bytes(&buffer), bytes_from(want)), "%.*s is not %s", (int)buffer.len, buffer.data,
              want);
    sim_buffer_fini(&buffer);
}

Test(buffer, json_strings_escape_what_json_forbids)
{
    assert_json(BYTES(""), "\"\"");
    assert_json(BYTES("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
    assert_json(BYTES("\0\n\x1f\x7f"), "\"\\u0000\\u000a\\u001f\\u007f\"");
    assert_json(BYTES("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

Test(buffer, json_strings_keep_bytes_that_are_not_utf8_as_latin1)
{
    assert_json(BYTES("\xff"), "\"\\u00ff\"");
    assert_json(BYTES("\xc3"), "\"\\u00c3\"");
    assert_json(BYTES("\xc0\x80"), "\"\\u00c0\\u0080\"");            /* overlong */
    assert_json(BYTES("\xed\xa0\x80"), "\"\\u00ed\\u00a0\\u0080\""); /* a surrogate */
    assert_json(BYTES("\xf4\x90\x80\x80"), "\"\\u00f4\\u0090\\u0080\\u0080\"");
    cr_assert(sim_buffer_is_utf8(BYTES("\xf4\x8f\xbf\xbf")));
    cr_assert_not(sim_buffer_is_utf8(BYTES("a\xe2\x82")));
}

Test(buffer, grows_and_drops_its_front)
{
    struct sim_buffer buffer = {0};
    for (unsigned i = 0; i < 1000; i++) {
        sim_buffer_format(&buffer, "%u,", i);
    }
    sim_buffer_drop_front(&buffer, 4);
    cr_assert(bytes_starts_with(sim_buffer_bytes(&buffer), BYTES("2,3,4,")));
    cr_assert_not(buffer.failed);
    sim_buffer_reset(&buffer, 100);
    cr_assert_null(buffer.data);
}

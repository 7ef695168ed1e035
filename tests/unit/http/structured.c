#include "http/structured.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

/* The members in a form that is easy to compare: key, a letter for the type, the text in brackets. */
static enum structured_step describe(struct bytes line, char text[512])
{
    static const char types[] = "bidsty(";
    struct structured_member member;
    enum structured_step step;
    size_t length = 0;
    text[0] = '\0';
    while ((step = structured_next_member(&line, &member)) == STRUCTURED_MEMBER) {
        length += (size_t)snprintf(text + length, 512 - length, "%.*s:%c[%.*s]", BYTES_ARG(member.key),
                                   types[member.type], BYTES_ARG(member.text));
        if (member.type == STRUCTURED_INTEGER) {
            length += (size_t)snprintf(text + length, 512 - length, "%lld", (long long)member.integer);
        } else if (member.type == STRUCTURED_BOOLEAN) {
            length += (size_t)snprintf(text + length, 512 - length, "%d", member.boolean);
        }
        length += (size_t)snprintf(text + length, 512 - length, " ");
    }
    return step;
}

Test(structured, dictionaries_are_read_member_by_member)
{
    static const struct {
        const char *line;
        const char *members;
    } cases[] = {
        {"", ""},
        {"a", "a:b[]1 "},
        {"a, b", "a:b[]1 b:b[]1 "},
        {"a,b", "a:b[]1 b:b[]1 "},
        {"a \t, \t b", "a:b[]1 b:b[]1 "},
        {"a=?1, b=?0", "a:b[?1]1 b:b[?0]0 "},
        {"*k_-.*9=1", "*k_-.*9:i[1]1 "},
        {"a=0, b=-0, c=00042", "a:i[0]0 b:i[-0]0 c:i[00042]42 "},
        {"a=999999999999999", "a:i[999999999999999]999999999999999 "},
        {"a=-999999999999999", "a:i[-999999999999999]-999999999999999 "},
        {"a=1.5, b=-123456789012.123", "a:d[1.5] b:d[-123456789012.123] "},
        {"a=\"\", b=\"x, y=\\\"\\\\\"", "a:s[] b:s[x, y=\\\"\\\\] "},
        {"a=tok, b=*x:/%~!, c=Q1", "a:t[tok] b:t[*x:/%~!] c:t[Q1] "},
        {"a=::, b=:aGk=:, c=:aGk:, d=:+/A=:", "a:y[] b:y[aGk=] c:y[aGk] d:y[+/A=] "},
        {"a=(), b=(1 \"x\" t;p=1;q), c=( 1   2 )", "a:([] b:([1 \"x\" t;p=1;q] c:([ 1   2 ] "},
        {"a;x, b;x=1; y=\"z\";z=?0, c=(1);p", "a:b[]1 b:b[]1 c:([1] "},
        {"a=1;  x", "a:i[1]1 "},
        {"a=1, a=2", "a:i[1]1 a:i[2]2 "},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[512];
        cr_assert_eq(describe(bytes_from(cases[i].line), text), STRUCTURED_END, "%s", cases[i].line);
        cr_assert_str_eq(text, cases[i].members);
    }
}

Test(structured, one_wrong_byte_is_one_too_many)
{
    static const char *const lines[] = {
        " a",
        ",a",
        "a,",
        "a, ",
        "a,,b",
        "a b",
        "A=1",
        "aB=1",
        "9=1",
        "_a",
        "=1",
        "a=",
        "a= 1",
        "a =1",
        "a=1 1",
        "a=-",
        "a=+1",
        "a=--1",
        "a=1.",
        "a=.5",
        "a=1.2345",
        "a=1.2.3",
        "a=1e3",
        "a=-a",
        "a=0x1",
        "a=\"",
        "a=\"x",
        "a=\"\\",
        "a=\"\\x\"",
        "a=\"\t\"",
        "a=\"\xc3\xa9\"",
        "a=\"x\"y",
        "a='x'",
        "a=?",
        "a=?2",
        "a=?10",
        "a=?true",
        "a=:",
        "a=:a",
        "a=:a:",
        "a=:abc==:",
        "a=:a=bc:",
        "a=:ab-_:",
        "a=:ab==",
        "a=:=:",
        "a=(",
        "a=(1",
        "a=(1,2)",
        "a=(1\t2)",
        "a=(1\"x\")",
        "a=((1))",
        "a=()x",
        "a;",
        "a;=1",
        "a;X",
        "a;x=",
        "a;x= 1",
        "a;x=(1)",
        "a; x =1",
        "&",
        "a=&",
        "a=@1",
        "a=%\"x\"",
        "a=1000000000000000",
        "a=1234567890123.1",
        "a\x01",
        "a=x\x7f",
        "a=-1000000000000000",
    };
    for (size_t i = 0; i < COUNT(lines); i++) {
        char text[512];
        cr_assert_eq(describe(bytes_from(lines[i]), text), STRUCTURED_FAILED, "%s", lines[i]);
    }
    char text[512];
    cr_assert_eq(describe(BYTES("a\0"), text), STRUCTURED_FAILED);
    cr_assert_eq(describe(BYTES("a=x\0"), text), STRUCTURED_FAILED);
}

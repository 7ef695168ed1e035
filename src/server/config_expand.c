/* Environment variables in values: `${NAME}`, `${NAME:-default}`, and `$${` for a `${` that stays. And the few that
 * count by themselves, when the key they stand for is left out.
 *
 * A default applies when the variable is unset or empty, as in a shell. It ends at the first `}`. What is put
 * in is not looked at again. A `$` before anything but `{` is itself. */

#include <stdio.h>
#include <stdlib.h>

#include "server/config_internal.h"

static bool is_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = ascii_lower(name.ptr[i]);
        bool digit = c >= '0' && c <= '9';
        if (!((c >= 'a' && c <= 'z') || c == '_' || (digit && i > 0))) {
            return false;
        }
    }
    return name.len > 0;
}

/* What stands for the inside of one `${...}`. False after a fault. */
static bool look_up(struct config_reader *reader, const struct config_node *node, struct bytes inside,
                    struct bytes *ret_value)
{
    const char *joint = memmem(inside.ptr, inside.len, ":-", 2);
    struct bytes name = {inside.ptr, joint == NULL ? inside.len : (size_t)(joint - inside.ptr)};
    if (!is_name(name)) {
        config_complain(reader, node,
                        "'${%s}' names no environment variable; write ${NAME} or ${NAME:-default}, and $${ for a ${ "
                        "that is meant as it stands",
                        config_shown(reader, inside));
        return false;
    }
    struct bytes name_z = config_copy(reader, &reader->scratch, name);
    if (name_z.ptr == NULL) {
        return false;
    }
    const char *value = getenv(name_z.ptr);
    if (joint != NULL && (value == NULL || value[0] == '\0')) {
        *ret_value = (struct bytes){joint + 2, inside.len - name.len - 2};
        return true;
    }
    if (value == NULL) {
        config_complain(reader, node, "environment variable %s is not set; set it, or give a default: ${%s:-default}",
                        config_shown(reader, name), config_shown(reader, name));
        return false;
    }
    *ret_value = bytes_from(value);
    return true;
}

/* Takes the next piece off *rest: a run as it stands, or the value of one `${...}`. */
static bool next_piece(struct config_reader *reader, const struct config_node *node, struct bytes *rest,
                       struct bytes *ret_piece)
{
    const char *dollar = memmem(rest->ptr, rest->len, "${", 2);
    size_t plain = dollar == NULL ? rest->len : (size_t)(dollar - rest->ptr);
    if (plain > 0) {
        bool escaped = dollar != NULL && dollar[-1] == '$';
        /* Of `$${` one `$` goes with the run, the other is dropped and the `{` begins the next run. */
        *ret_piece = (struct bytes){rest->ptr, plain};
        size_t used = escaped ? plain + 1 : plain;
        rest->ptr += used;
        rest->len -= used;
        return true;
    }
    const char *close = memchr(rest->ptr, '}', rest->len);
    if (close == NULL) {
        config_complain(reader, node, "'%s' is not closed; write ${NAME} or ${NAME:-default}",
                        config_shown(reader, *rest));
        return false;
    }
    struct bytes inside = {rest->ptr + 2, (size_t)(close - rest->ptr - 2)};
    rest->len -= (size_t)(close + 1 - rest->ptr);
    rest->ptr = close + 1;
    return look_up(reader, node, inside, ret_piece);
}

bool config_expand(struct config_reader *reader, const struct config_node *node, struct bytes *ret_text)
{
    struct bytes text = node->text;
    if (text.len == 0 || memmem(text.ptr, text.len, "${", 2) == NULL) {
        *ret_text = text;
        return true;
    }
    /* First how long it becomes, then the copy: two passes are simpler than a buffer that grows. */
    size_t total = 0;
    struct bytes piece;
    for (struct bytes rest = text; rest.len > 0; total += piece.len) {
        if (!next_piece(reader, node, &rest, &piece)) {
            return false;
        }
    }
    if (total > CONFIG_VALUE_BYTES_MAX) {
        config_complain(reader, node, "becomes %zu bytes with the environment's values put in; at most %d", total,
                        CONFIG_VALUE_BYTES_MAX);
        return false;
    }
    char *out = config_alloc(reader, &reader->scratch, total + 1);
    if (out == NULL) {
        return false;
    }
    size_t used = 0;
    for (struct bytes rest = text; rest.len > 0; used += piece.len) {
        if (!next_piece(reader, node, &rest, &piece)) {
            return false;
        }
        memcpy(out + used, piece.ptr, piece.len);
    }
    *ret_text = (struct bytes){out, total};
    return true;
}

void config_read_variable(struct config_reader *reader, const struct config_key *key, char *base)
{
    const char *value = key->variable == NULL ? NULL : getenv(key->variable);
    if (value == NULL || value[0] == '\0' || key->variable == reader->refused_variable) {
        return;
    }
    /* Read as the key would be, but complained of by its own name and in its own unit. */
    char name[64];
    snprintf(name, sizeof(name), "environment variable %s", key->variable);
    struct config_key as = *key;
    as.path = name;
    uint64_t number = 0;
    if (key->variable_scale > 0) {
        as.unit = key->variable_unit;
        as.max = key->max / key->variable_scale;
        as.at = 0;
        as.bytes = sizeof(number);
    }
    const struct config_node nowhere = {.kind = CONFIG_SCALAR};
    char *into = key->variable_scale > 0 ? (char *)&number : base;
    if (!config_read_text(reader, &as, &nowhere, bytes_from(value), into)) {
        reader->refused_variable = key->variable;
    } else if (key->variable_scale > 0) {
        number *= key->variable_scale;
        memcpy(base + key->at, &number, sizeof(number));
    }
}

/* What is wrong with a configuration: collected while it is read, written in the order of the file. */

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/config_internal.h"

enum {
    SHOWN_BYTES_MAX = 80,
    WORD_BYTES_MAX = 48, /* longer than any key, method or upstream worth a suggestion */
};

void *config_alloc(struct config_reader *reader, struct arena *arena, size_t bytes)
{
    void *given = arena_alloc(arena, bytes);
    if (given == NULL) {
        reader->no_memory = true;
    }
    return given;
}

struct bytes config_copy(struct config_reader *reader, struct arena *arena, struct bytes b)
{
    struct bytes copy = arena_copy(arena, b);
    if (copy.ptr == NULL) {
        reader->no_memory = true;
    }
    return copy;
}

static void complain(struct config_reader *reader, unsigned line, unsigned column, const char *format, va_list args)
{
    unsigned order = reader->fault_count++;
    if (order >= CONFIG_FAULTS_MAX || reader->no_memory) {
        return;
    }
    struct config_fault *fault = config_alloc(reader, &reader->scratch, sizeof(*fault));
    if (fault == NULL) {
        return;
    }
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = length < 0 ? NULL : config_alloc(reader, &reader->scratch, (size_t)length + 1);
    if (text == NULL) {
        reader->no_memory = true;
        return;
    }
    vsnprintf(text, (size_t)length + 1, format, args);
    *fault = (struct config_fault){
        .line = line,
        .column = column,
        .order = order,
        .text = {text, (size_t)length},
        .next = reader->faults,
    };
    reader->faults = fault;
}

void config_complain(struct config_reader *reader, const struct config_node *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(reader, node->line, node->column, format, args);
    va_end(args);
}

void config_complain_at(struct config_reader *reader, unsigned line, unsigned column, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(reader, line, column, format, args);
    va_end(args);
}

static int compare_faults(const void *left, const void *right)
{
    const struct config_fault *a = *(const struct config_fault *const *)left;
    const struct config_fault *b = *(const struct config_fault *const *)right;
    if (a->line != b->line) {
        return a->line < b->line ? -1 : 1;
    }
    if (a->column != b->column) {
        return a->column < b->column ? -1 : 1;
    }
    return a->order < b->order ? -1 : 1;
}

void config_write_faults(struct config_reader *reader, FILE *errors)
{
    const struct config_fault *sorted[CONFIG_FAULTS_MAX];
    unsigned count = 0;
    for (const struct config_fault *fault = reader->faults; fault != NULL; fault = fault->next) {
        sorted[count++] = fault;
    }
    qsort(sorted, count, sizeof(sorted[0]), compare_faults);
    for (unsigned i = 0; i < count; i++) {
        if (sorted[i]->line == 0) {
            fprintf(errors, "%s: %s\n", reader->path, sorted[i]->text.ptr);
        } else {
            fprintf(errors, "%s:%u:%u: %s\n", reader->path, sorted[i]->line, sorted[i]->column, sorted[i]->text.ptr);
        }
    }
    if (reader->fault_count > count) {
        fprintf(errors, "%s: and %u more faults; correct the first ones and check again\n", reader->path,
                reader->fault_count - count);
    }
}

const char *config_shown(struct config_reader *reader, struct bytes text)
{
    enum { ESCAPED_BYTES = 4, DOTS_BYTES = 3 };
    bool cut = text.len > SHOWN_BYTES_MAX;
    size_t length = cut ? SHOWN_BYTES_MAX : text.len;
    while (cut && length > 0 && ((unsigned char)text.ptr[length] & 0xc0) == 0x80) {
        length--; /* not in the middle of a character */
    }
    char *shown = config_alloc(reader, &reader->scratch, length * ESCAPED_BYTES + DOTS_BYTES + 1);
    if (shown == NULL) {
        return "";
    }
    char *out = shown;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '\n') {
            out = stpcpy(out, "\\n");
        } else if (c == '\r') {
            out = stpcpy(out, "\\r");
        } else if (c < 0x20 || c == 0x7f) {
            out += snprintf(out, ESCAPED_BYTES + 1, "\\x%02x", c);
        } else {
            *out++ = (char)c;
        }
    }
    stpcpy(out, cut ? "..." : "");
    return shown;
}

unsigned config_distance(struct bytes a, struct bytes b)
{
    if (a.len > WORD_BYTES_MAX || b.len > WORD_BYTES_MAX) {
        return UINT_MAX;
    }
    /* Levenshtein's table by rows, three of them kept: a swap looks back two. */
    unsigned rows[3][WORD_BYTES_MAX + 1];
    for (unsigned j = 0; j <= b.len; j++) {
        rows[0][j] = j;
    }
    for (unsigned i = 1; i <= a.len; i++) {
        const unsigned *above = rows[(i - 1) % 3];
        unsigned *row = rows[i % 3];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            bool same = ascii_lower(a.ptr[i - 1]) == ascii_lower(b.ptr[j - 1]);
            unsigned best = above[j - 1] + (same ? 0 : 1);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1]) {
                unsigned swapped = rows[(i - 2) % 3][j - 2] + 1;
                best = swapped < best ? swapped : best;
            }
            row[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

bool config_is_near(struct bytes written, unsigned distance)
{
    return distance != UINT_MAX && distance <= 1 + written.len / 3 && distance < written.len;
}

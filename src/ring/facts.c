#include "ring/facts.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_text(char text[FACT_TEXT_BYTES], const char *path_format, va_list arguments)
{
    char path[FACT_PATH_BYTES];
    text[0] = '\0';
    int path_bytes = vsnprintf(path, sizeof(path), path_format, arguments);
    if (path_bytes < 0 || (size_t)path_bytes >= sizeof(path)) {
        return false;
    }
    FILE *file = fopen(path, "re");
    size_t bytes = file == NULL ? 0 : fread(text, 1, FACT_TEXT_BYTES - 1, file);
    if (file != NULL) {
        fclose(file);
    }
    text[bytes] = '\0';
    return bytes > 0;
}

bool fact_text(char text[FACT_TEXT_BYTES], const char *path_format, ...)
{
    va_list arguments;
    va_start(arguments, path_format);
    bool is_read = read_text(text, path_format, arguments);
    va_end(arguments);
    return is_read;
}

int64_t fact_number(int64_t missing, const char *path_format, ...)
{
    char text[FACT_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, path_format);
    bool is_read = read_text(text, path_format, arguments);
    va_end(arguments);
    char *end = text;
    long long number = is_read ? strtoll(text, &end, 10) : 0;
    return end == text ? missing : (int64_t)number;
}

uint64_t fact_after(const char *text, const char *name)
{
    size_t bytes = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, bytes) == 0) {
            return strtoull(line + bytes, NULL, 10);
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return 0;
}

/* Reads digits; false: there are none, or more than any list has. */
static bool read_index(const char **at, int *ret_index)
{
    enum { INDEX_MAX = 1 << 20 };
    int index = 0;
    const char *digit = *at;
    for (; isdigit((unsigned char)*digit) && index <= INDEX_MAX; digit++) {
        index = index * 10 + (*digit - '0');
    }
    bool is_index = digit > *at && index <= INDEX_MAX;
    *at = digit;
    *ret_index = index;
    return is_index;
}

bool fact_list_next(const char **list, int *number)
{
    const char *at = *list;
    int first;
    int last;
    while (*at == ' ' || *at == '\t' || *at == ',') {
        at++;
    }
    const char *range = at;
    if (!read_index(&at, &first)) {
        return false;
    }
    last = first;
    if (*at == '-') {
        at++;
        if (!read_index(&at, &last)) {
            return false;
        }
    }
    *number = *number < first ? first : *number + 1;
    *list = *number >= last ? at : range; /* a range is read anew until it is used up */
    return *number <= last;
}

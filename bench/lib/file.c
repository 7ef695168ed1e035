#include "file.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "die.h"

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static const char *unpacker_of(const char *path)
{
    return ends_with(path, ".xz") ? "xz" : ends_with(path, ".gz") ? "gzip" : NULL;
}

static FILE *file_open(const char *path)
{
    const char *program = unpacker_of(path);
    char command[4200];
    if (program == NULL) {
        return fopen(path, "rb");
    }
    if (access(path, R_OK) != 0) {
        return NULL;
    }
    if (strchr(path, '\'') != NULL) {
        bench_die("a quote in the path %s", path);
    }
    snprintf(command, sizeof command, "%s -dc '%s'", program, path);
    return popen(command, "r");
}

struct bench_file bench_file_read(const char *path)
{
    FILE *stream = file_open(path);
    if (stream == NULL) {
        bench_die("cannot read %s", path);
    }
    struct bench_file file = {NULL, 0};
    size_t room = 0;
    for (;;) {
        if (file.count + 1 >= room) {
            room = room * 2 + 65536;
            file.bytes = realloc(file.bytes, room);
            if (file.bytes == NULL) {
                bench_die("no memory for %s", path);
            }
        }
        size_t got = fread(file.bytes + file.count, 1, room - file.count - 1, stream);
        if (got == 0) {
            break;
        }
        file.count += got;
    }
    int status = unpacker_of(path) != NULL ? pclose(stream) : fclose(stream);
    if (status != 0 || file.count == 0) {
        bench_die("cannot unpack %s", path);
    }
    file.bytes[file.count] = '\0';
    return file;
}

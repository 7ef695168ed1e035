/* Whole files in memory, read through xz or gzip when their names end so. */
#ifndef BENCH_FILE_H
#define BENCH_FILE_H

#include <stddef.h>

struct bench_file {
    char *bytes; /* a NUL behind them; free() */
    size_t count;
};

/* *Gives* the contents; ends the process when they cannot be had. */
struct bench_file bench_file_read(const char *path);

#endif

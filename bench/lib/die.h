/* How a measuring program gives up. */
#ifndef BENCH_DIE_H
#define BENCH_DIE_H

#include <stddef.h>

/* Says what is wrong on stderr and ends the process with status 1. */
void bench_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Zeroed memory for `count` things of so many bytes, or the end of the process. *Gives*. */
void *bench_need(size_t count, size_t bytes);

#endif

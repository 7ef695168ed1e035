/* Small files of /proc and /sys, as text. All of it blocks. */
#ifndef SLUICE_RING_FACTS_H
#define SLUICE_RING_FACTS_H

#include <stdbool.h>
#include <stdint.h>

enum { FACT_TEXT_BYTES = 8192, FACT_PATH_BYTES = 4096 };

/* Reads the beginning of the file whose path is printf's; empty, and false, when nothing can be read. */
bool fact_text(char text[FACT_TEXT_BYTES], const char *path_format, ...) __attribute__((format(printf, 2, 3)));

/* The number that the file begins with; `missing` when it does not begin with one. */
int64_t fact_number(int64_t missing, const char *path_format, ...) __attribute__((format(printf, 2, 3)));

/* The number behind `name` at the beginning of a line; 0: not there. */
uint64_t fact_after(const char *text, const char *name);

/* A list of CPUs or nodes, "0-3,8,10-11", one after another: for (number = -1; fact_list_next(&list, &number);). What
 * is not such a list ends it. */
bool fact_list_next(const char **list, int *number);

#endif

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

enum { LINE_BYTES_MAX = 2048 };

/* Set once before threads start, constant after. */
static enum log_level log_level_min = LOG_INFO;

void log_level_set(enum log_level level)
{
    log_level_min = level;
}

void log_line(enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if (level < log_level_min) {
        return;
    }
    char line[LINE_BYTES_MAX];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    int used =
        snprintf(line, sizeof(line), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %-5s ", utc.tm_year + 1900, utc.tm_mon + 1,
                 utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000, names[level]);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
    va_end(args);
    size_t length = (size_t)used + (more > 0 ? (size_t)more : 0);
    if (length > sizeof(line) - 2) {
        length = sizeof(line) - 2;
    }
    line[length++] = '\n';
    /* One write, so that lines of several threads do not mix. Nothing can be done about a failure. */
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
}

void log_raw(const char *line, unsigned long bytes)
{
    ssize_t ignored = write(STDOUT_FILENO, line, bytes);
    (void)ignored;
}

_Noreturn void check_failed(const char *file, int line, const char *condition)
{
    log_line(LOG_ERROR, "check failed: %s (%s:%d); this is a bug", condition, file, line);
    abort();
}

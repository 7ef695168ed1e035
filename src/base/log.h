/* One line per event, to standard error, as `time level message key=value …`.
 *
 * Libraries return results; only the edges log. A failure is logged once. Any thread may call. */
#ifndef SLUICE_BASE_LOG_H
#define SLUICE_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines below `level` are dropped. To be called before threads start. */
void log_level_set(enum log_level level);

/* Writes one line; `format` (printf's) is the message and any key=value pairs, without newline.
 * A line longer than 2 KB is cut. Never blocks for memory, never calls back. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes `line` (with its newline) as it is to standard output: the access log. */
void log_raw(const char *line, unsigned long bytes);

#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif

/* What every part of /metrics is written with. */
#include "server/metrics_internal.h"

const char *const metrics_error_names[METRICS_ERRORS] = {
    "bad_request", "too_large", "client_timeout",   "client_closed",    "no_route",
    "overload",    "shed",      "upstream_connect", "upstream_timeout", "upstream_protocol",
};

/* Seconds, with the nanoseconds the histogram is asked for: from a local answer to a long generation. */
const struct metrics_bound metrics_bounds[METRICS_BOUNDS] = {
    {"0.0005", 500000},  {"0.001", 1000000},    {"0.0025", 2500000},   {"0.005", 5000000},  {"0.01", 10000000},
    {"0.025", 25000000}, {"0.05", 50000000},    {"0.1", 100000000},    {"0.25", 250000000}, {"0.5", 500000000},
    {"1", 1000000000},   {"2.5", 2500000000},   {"5", 5000000000},     {"10", 10000000000}, {"30", 30000000000},
    {"60", 60000000000}, {"120", 120000000000}, {"300", 300000000000},
};

void metrics_put_type(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
void metrics_put_label(FILE *out, struct bytes value)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '\n') {
            fputs("\\n", out);
        } else {
            if (c == '"' || c == '\\') {
                fputc('\\', out);
            }
            fputc(c, out);
        }
    }
}

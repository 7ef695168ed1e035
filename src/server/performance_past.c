/* The last hour, for /api/performance: by columns, which is a third of what rows would take, and what is drawn. */
#include <math.h>

#include "server/performance_history.h"
#include "server/performance_internal.h"

/* A double of a sample, by its place in it. */
static const struct {
    const char *name;
    size_t offset;
    double factor;
} rates[] = {
    {"requests_per_second", offsetof(struct performance_sample, requests_per_second), 1},
    {"error_rate", offsetof(struct performance_sample, error_rate), 1},
    {"p95_ms", offsetof(struct performance_sample, p95_seconds), 1000},
    {"hit_rate", offsetof(struct performance_sample, hit_rate), 1},
    {"cpu_percent", offsetof(struct performance_sample, cpu_percent), 1},
    {"sheds_per_second", offsetof(struct performance_sample, sheds_per_second), 1},
};

static void put_rates(yyjson_mut_doc *doc, yyjson_mut_val *list, const struct performance_history *history,
                      unsigned which)
{
    for (unsigned i = 0; i < history->count; i++) {
        const char *sample = (const char *)performance_history_at(history, i);
        double value;
        memcpy(&value, sample + rates[which].offset, sizeof(value));
        value *= rates[which].factor;
        if (isfinite(value)) {
            yyjson_mut_arr_add_real(doc, list, round(value * 1000) / 1000);
        } else {
            yyjson_mut_arr_add_null(doc, list);
        }
    }
}

void performance_put_history(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct performance_history *history)
{
    static const struct performance_history none;
    history = history == NULL ? &none : history;
    yyjson_mut_val *past = yyjson_mut_obj_add_obj(doc, root, "history");
    yyjson_mut_obj_add_uint(doc, past, "step_seconds", PERFORMANCE_STEP_S);
    yyjson_mut_val *moments = yyjson_mut_obj_add_arr(doc, past, "unix_ms");
    for (unsigned i = 0; i < history->count; i++) {
        yyjson_mut_arr_add_int(doc, moments, performance_history_at(history, i)->unix_ms);
    }
    for (unsigned r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        put_rates(doc, yyjson_mut_obj_add_arr(doc, past, rates[r].name), history, r);
    }
    yyjson_mut_val *memory = yyjson_mut_obj_add_arr(doc, past, "memory_bytes");
    yyjson_mut_val *queued = yyjson_mut_obj_add_arr(doc, past, "queued");
    yyjson_mut_val *in_flight = yyjson_mut_obj_add_arr(doc, past, "in_flight");
    yyjson_mut_val *pressure = yyjson_mut_obj_add_arr(doc, past, "pressure");
    for (unsigned i = 0; i < history->count; i++) {
        const struct performance_sample *sample = performance_history_at(history, i);
        yyjson_mut_arr_add_uint(doc, memory, sample->memory_bytes);
        yyjson_mut_arr_add_uint(doc, queued, sample->queued);
        yyjson_mut_arr_add_uint(doc, in_flight, sample->in_flight);
        yyjson_mut_arr_add_uint(doc, pressure, sample->pressure_milli);
    }
}

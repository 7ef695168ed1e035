/* What batching says, by route. Each metric's samples stand in one group. */
#include <stdlib.h>

#include "base/counter.h"
#include "server/batches.h"
#include "server/metrics_internal.h"
#include "server/server.h"

struct sample {
    FILE *out;
    const char *name;
    struct bytes route;
    const struct batches_figures *figures;
};

/* Up to where further labels go, or the end of them. */
static void put_begin(const struct sample *sample, const char *suffix)
{
    fprintf(sample->out, "%s%s{route=\"", sample->name, suffix);
    metrics_put_label(sample->out, sample->route);
    fputc('"', sample->out);
}

static void put_count(const struct sample *sample, const char *label, const char *value, uint64_t count)
{
    put_begin(sample, "");
    if (label != NULL) {
        fprintf(sample->out, ",%s=\"%s\"", label, value);
    }
    fprintf(sample->out, "} %llu\n", (unsigned long long)count);
}

static void put_items(const struct sample *sample)
{
    const struct batches_figures *figures = sample->figures;
    unsigned long long below = 0;
    for (unsigned i = 0; i + 1 < BATCHING_SIZES; i++) {
        below += figures->sizes[i];
        put_begin(sample, "_bucket");
        fprintf(sample->out, ",le=\"%u\"} %llu\n", 1U << i, below);
    }
    put_begin(sample, "_bucket");
    fprintf(sample->out, ",le=\"+Inf\"} %llu\n", (unsigned long long)figures->calls);
    put_begin(sample, "_sum");
    fprintf(sample->out, "} %llu\n", (unsigned long long)figures->counts[BATCHING_ITEMS]);
    put_begin(sample, "_count");
    fprintf(sample->out, "} %llu\n", (unsigned long long)figures->calls);
}

static void put_waits(const struct sample *sample)
{
    const struct histogram *waits = &sample->figures->waits;
    unsigned long long count = counter_load(&waits->count);
    for (size_t i = 0; i <= METRICS_BOUNDS; i++) {
        bool is_last = i == METRICS_BOUNDS;
        put_begin(sample, "_bucket");
        fprintf(sample->out, ",le=\"%s\"} %llu\n", is_last ? "+Inf" : metrics_bounds[i].le,
                is_last ? count : (unsigned long long)histogram_count_below(waits, metrics_bounds[i].bound_ns));
    }
    put_begin(sample, "_sum");
    fprintf(sample->out, "} %.9f\n", (double)counter_load(&waits->sum_ns) / 1e9);
    put_begin(sample, "_count");
    fprintf(sample->out, "} %llu\n", count);
}

static void put_fill(const struct sample *sample)
{
    const struct batches_figures *figures = sample->figures;
    double room = (double)figures->counts[BATCHING_ROOM];
    put_begin(sample, "");
    fprintf(sample->out, "} %.9g\n", room > 0 ? (double)figures->counts[BATCHING_ITEMS] / room : 0);
}

static void put_flushes(const struct sample *sample)
{
    for (unsigned i = 0; i < BATCHING_WHYS; i++) {
        put_count(sample, "reason", batching_why_name((enum batching_why)i), sample->figures->flushed[i]);
    }
}

static void put_requests(const struct sample *sample)
{
    const uint64_t *counts = sample->figures->counts;
    put_count(sample, "how", "merged", counts[BATCHING_MERGED]);
    put_count(sample, "how", "alone", counts[BATCHING_LONE]);
    put_count(sample, "how", "unmerged", counts[BATCHING_UNMERGED]);
    put_count(sample, "how", "parts", counts[BATCHING_PARTS]);
    put_count(sample, "how", "late", counts[BATCHING_LATE]);
}

static void put_retries(const struct sample *sample)
{
    put_count(sample, "why", "refused", sample->figures->counts[BATCHING_BISECTED]);
    put_count(sample, "why", "malformed", sample->figures->counts[BATCHING_APART]);
}

static void put_canceled(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->figures->counts[BATCHING_CANCELED]);
}

static void put_waiting(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->figures->counts[BATCHING_WAITING]);
}

static void put_calls(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->figures->counts[BATCHING_CALLS]);
}

static void put_target(const struct sample *sample)
{
    put_begin(sample, "");
    fprintf(sample->out, "} %.9g\n", sample->figures->target_items);
}

static const struct {
    const char *name;
    const char *type;
    const char *help;
    void (*put)(const struct sample *sample);
} metrics[] = {
    {"sluice_batch_items", "histogram", "Items in a call, of those that left the former.", put_items},
    {"sluice_batch_wait_seconds", "histogram", "How long requests waited for company, and for a call.", put_waits},
    {"sluice_batch_fill_ratio", "gauge", "Items in all calls, as a share of items_max.", put_fill},
    {"sluice_batch_flushes_total", "counter", "Calls, by why they left when they did.", put_flushes},
    {"sluice_batch_requests_total", "counter",
     "Requests (of lists over a budget: parts) that shared a call; requests that went alone, or could not be merged; "
     "parts that lists over a budget were cut into; requests turned away because they had waited too long.",
     put_requests},
    {"sluice_batch_retries_total", "counter",
     "Calls that were tried again: in halves when refused, each by itself when malformed.", put_retries},
    {"sluice_batch_canceled_total", "counter", "Calls that all their clients had left.", put_canceled},
    {"sluice_batch_waiting_items", "gauge", "Items that wait.", put_waiting},
    {"sluice_batch_calls", "gauge", "Calls under way, those of one request included.", put_calls},
    {"sluice_batch_target_items", "gauge", "How many items a call is to have, of the model used last.", put_target},
};

void metrics_put_batching(FILE *out, const struct server *server)
{
    unsigned count = server->config->route_count;
    struct batches_figures *figures = malloc(sizeof(*figures));
    for (size_t m = 0; m < sizeof(metrics) / sizeof(metrics[0]) && figures != NULL; m++) {
        bool is_typed = false;
        for (unsigned r = 0; r < count; r++) {
            if (!batches_read(server, r, figures)) {
                continue;
            }
            if (!is_typed) {
                metrics_put_type(out, metrics[m].name, metrics[m].type, metrics[m].help);
                is_typed = true;
            }
            metrics[m].put(&(struct sample){out, metrics[m].name, server->config->routes[r].name, figures});
        }
    }
    free(figures);
}

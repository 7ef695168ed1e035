#include "server/performance_history.h"

#include <math.h>

void performance_history_add(struct performance_history *history, const struct performance_sample *sample)
{
    history->samples[history->next] = *sample;
    history->next = (history->next + 1) % PERFORMANCE_SAMPLES;
    history->count += history->count < PERFORMANCE_SAMPLES;
}

const struct performance_sample *performance_history_at(const struct performance_history *history, unsigned index)
{
    unsigned oldest = history->count < PERFORMANCE_SAMPLES ? 0 : history->next;
    return &history->samples[(oldest + index) % PERFORMANCE_SAMPLES];
}

/* Counters of several threads are read while they are written, and models come and go with theirs: a sum may be less
 * than it was. */
static double grown(uint64_t before, uint64_t now)
{
    return now > before ? (double)(now - before) : 0;
}

static double share(double part, double whole)
{
    return whole > 0 ? fmin(part / whole, 1) : (double)NAN;
}

void performance_sample_rates(const struct performance_counts *before, const struct performance_counts *now,
                              double seconds, struct performance_sample *sample)
{
    double requests = grown(before->requests, now->requests);
    sample->requests_per_second = requests / seconds;
    sample->error_rate = share(grown(before->errors, now->errors), requests);
    sample->hit_rate = share(grown(before->cache_hits, now->cache_hits), grown(before->cache_asked, now->cache_asked));
    sample->cpu_percent = grown(before->cpu_ns, now->cpu_ns) / (double)1e9 / seconds * 100;
    sample->sheds_per_second = grown(before->sheds, now->sheds) / seconds;
}

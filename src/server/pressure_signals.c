#include "server/pressure_signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "server/server.h"

/* A worker as it was at the last reading. */
struct past {
    bool is_known; /* ran_ns and waited_ns */
    nanos ran_ns;
    nanos waited_ns;
    uint64_t turns;
    struct histogram late;
};

struct pressure_signals {
    const struct server *server;
    nanos read_ns; /* 0: not yet */
    uint64_t cpu_ns;
    struct histogram late; /* room for a copy, and for a difference */
    struct histogram since;
    struct past past[];
};

struct pressure_signals *pressure_signals_create(const struct server *server)
{
    struct pressure_signals *signals = calloc(1, sizeof(*signals) + server->worker_count * sizeof(signals->past[0]));
    if (signals != NULL) {
        signals->server = server;
    }
    return signals;
}

void pressure_signals_destroy(struct pressure_signals *signals)
{
    free(signals);
}

static void read_schedule(struct past *past, const struct worker *worker, double seconds, struct worker_signals *told)
{
    nanos ran_ns;
    nanos waited_ns;
    bool is_known = ring_usage_of_thread("", worker->pulse.thread_id, &ran_ns, &waited_ns);
    told->cpu_share = -1;
    told->wait_share = -1;
    if (is_known && past->is_known) {
        told->cpu_share = (double)(ran_ns - past->ran_ns) / 1e9 / seconds;
        told->wait_share = (double)(waited_ns - past->waited_ns) / 1e9 / seconds;
    }
    past->is_known = is_known;
    if (is_known) {
        past->ran_ns = ran_ns;
        past->waited_ns = waited_ns;
    }
}

static void read_lateness(struct pressure_signals *signals, struct past *past, const struct worker *worker, nanos now,
                          struct worker_signals *told)
{
    memset(&signals->late, 0, sizeof(signals->late));
    histogram_merge(&signals->late, &worker->pulse.late);
    histogram_since(&signals->late, &past->late, &signals->since);
    memcpy(&past->late, &signals->late, sizeof(past->late));
    uint64_t beats = counter_load(&signals->since.count);
    nanos due_ns = counter_load(&worker->pulse.due_ns);
    nanos overdue_ns = due_ns < now ? now - due_ns : 0;
    double mean = beats == 0 ? 0 : (double)counter_load(&signals->since.sum_ns) / (double)beats;
    nanos max_ns = histogram_max(&signals->since);
    told->late_seconds = fmax(mean, (double)overdue_ns) / 1e9;
    told->late_seconds_max = (double)(overdue_ns > max_ns ? overdue_ns : max_ns) / 1e9;
}

static void read_worker(struct pressure_signals *signals, unsigned index, nanos now, double seconds,
                        struct worker_signals *told)
{
    const struct worker *worker = &signals->server->workers[index];
    struct past *past = &signals->past[index];
    uint64_t turns = counter_load(&ring_counters(worker->ring)->turns);
    told->turns_per_second = (double)(turns - past->turns) / seconds;
    past->turns = turns;
    read_schedule(past, worker, seconds, told);
    read_lateness(signals, past, worker, now, told);
}

/* Where a quota is less than the workers could take, it is what they run out of. */
static double share_of_quota(struct pressure_signals *signals, const struct ring_usage *usage, double cpu_quota,
                             double seconds)
{
    double cpus = (double)(usage->cpu_ns - signals->cpu_ns) / 1e9 / seconds;
    signals->cpu_ns = usage->cpu_ns;
    bool is_known = signals->read_ns > 0 && cpu_quota > 0;
    return is_known ? fmin(cpus / cpu_quota, 1) : -1;
}

void pressure_signals_read(struct pressure_signals *signals, const struct ring_usage *usage, double cpu_quota,
                           struct worker_signals *ret_workers, struct pressure_reading *ret_reading)
{
    nanos passed = usage->at_ns - signals->read_ns;
    double seconds = passed == 0 ? 1e-9 : (double)passed / 1e9;
    unsigned count = signals->server->worker_count;
    double cpu = 0;
    double waited = -1;
    double late = 0;
    for (unsigned w = 0; w < count; w++) {
        read_worker(signals, w, usage->at_ns, seconds, &ret_workers[w]);
        cpu += ret_workers[w].cpu_share;
        waited = fmax(waited, ret_workers[w].wait_share);
        late = fmax(late, ret_workers[w].late_seconds);
    }
    double of_quota = share_of_quota(signals, usage, cpu_quota, seconds);
    signals->read_ns = usage->at_ns;
    *ret_reading = (struct pressure_reading){.value = {
                                                 [PRESSURE_CPU] = fmax(cpu / count, of_quota),
                                                 [PRESSURE_MEMORY] = usage->memory_short,
                                                 [PRESSURE_RECLAIM] = usage->memory_stall,
                                                 [PRESSURE_RUN_QUEUE] = waited,
                                                 [PRESSURE_LAG] = late,
                                             }};
}

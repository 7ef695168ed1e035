/* The process and its workers, as the observer saw them a second ago; and pressure. */
#include <stdlib.h>

#include "base/counter.h"
#include "server/metrics_internal.h"
#include "server/observer.h"
#include "server/server.h"

static void put_number(FILE *out, const char *name, const char *type, const char *help, double value)
{
    metrics_put_type(out, name, type, help);
    fprintf(out, "%s %.15g\n", name, value);
}

/* What the kernel does not say has no sample. */
static void put_known(FILE *out, const char *name, const char *help, uint64_t value)
{
    if (value > 0) {
        put_number(out, name, "gauge", help, (double)value);
    }
}

static void put_usage(FILE *out, const struct observation *observation)
{
    const struct ring_usage *usage = &observation->usage;
    put_number(out, "process_cpu_seconds_total", "counter", "CPU time of all threads.", (double)usage->cpu_ns / 1e9);
    put_number(out, "process_start_time_seconds", "gauge", "When it was started, in seconds since 1970.",
               (double)observation->started_unix_ms / 1e3);
    put_known(out, "process_resident_memory_bytes", "Resident memory.", usage->resident_bytes);
    put_known(out, "process_threads", "Threads.", usage->threads);
    put_known(out, "process_open_fds", "Open descriptors.", usage->descriptors);
    put_known(out, "process_max_fds", "How many descriptors may be open.", usage->descriptors_max);
    put_known(out, "sluice_memory_used_bytes", "Used of what the control group, or the machine, allows.",
              usage->memory_used_bytes);
    put_known(out, "sluice_memory_limit_bytes", "What the control group, or the machine, allows.",
              usage->memory_max_bytes);
}

static void put_info(FILE *out, const struct machine *machine)
{
    metrics_put_type(out, "sluice_machine_info", "gauge", "1, with what does not change while it runs.");
    fputs("sluice_machine_info{kernel=\"", out);
    metrics_put_label(out, bytes_from(machine->kernel));
    fprintf(out, "\",cores=\"%u\",nodes=\"%u\",gpus=\"%u\"} 1\n", machine->topology.core_count,
            machine->topology.node_count, machine->gpu_count);
}

/* As an administrator may change them at any time. */
static void put_limits(FILE *out, const struct server *server, const struct machine_limits *limits)
{
    put_info(out, server->machine);
    put_number(out, "sluice_workers", "gauge", "Workers.", server->worker_count);
    put_number(out, "sluice_machine_cpus_allowed", "gauge", "CPUs that affinity and cpuset allow.",
               limits->cpus_allowed);
    put_known(out, "sluice_machine_memory_bytes", "The tightest limit of memory, or all that the machine has.",
              limits->memory_bytes);
    metrics_put_type(out, "sluice_machine_cpu_quota", "gauge", "The tightest CPU quota, in CPUs; no sample: none.");
    if (limits->cpu.cpus > 0) {
        fprintf(out, "sluice_machine_cpu_quota %.6g\n", limits->cpu.cpus);
    }
    metrics_put_type(out, "sluice_machine_cpu_throttled_seconds_total", "counter",
                     "How long the group with that quota was kept from running by it, all its CPUs together.");
    if (limits->cpu.is_counted) {
        fprintf(out, "sluice_machine_cpu_throttled_seconds_total %.15g\n", (double)limits->cpu.throttled_ns / 1e9);
    }
}

static void put_pressure(FILE *out, const struct observation *observation)
{
    const struct pressure *pressure = &observation->pressure;
    put_number(out, "sluice_pressure", "gauge", "How short this machine is of something: 0 none, 1000 all.",
               pressure->level[pressure->worst]);
    metrics_put_type(out, "sluice_pressure_level", "gauge", "What each signal makes of it.");
    for (unsigned s = 0; s < PRESSURE_SIGNALS; s++) {
        fprintf(out, "sluice_pressure_level{signal=\"%s\"} %u\n", pressure_signal_name((enum pressure_signal)s),
                pressure->level[s]);
    }
    metrics_put_type(out, "sluice_pressure_value", "gauge", "Each signal, smoothed: shares, and seconds of lag.");
    for (unsigned s = 0; s < PRESSURE_SIGNALS; s++) {
        fprintf(out, "sluice_pressure_value{signal=\"%s\"} %.6g\n", pressure_signal_name((enum pressure_signal)s),
                pressure->smoothed[s]);
    }
}

static void put_workers(FILE *out, const struct server *server, const struct observation *observation)
{
    static const struct {
        const char *name;
        const char *help;
        size_t offset;
    } signals[] = {
        {"sluice_worker_cpu_ratio", "Share of the last second that the worker computed.",
         offsetof(struct worker_signals, cpu_share)},
        {"sluice_worker_run_queue_ratio", "Share of the last second that it was ready to run and did not.",
         offsetof(struct worker_signals, wait_share)},
        {"sluice_worker_loop_lag_seconds", "How late its timers were in the last second, on average.",
         offsetof(struct worker_signals, late_seconds)},
    };
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        metrics_put_type(out, signals[i].name, "gauge", signals[i].help);
        for (unsigned w = 0; w < server->worker_count; w++) {
            double value;
            memcpy(&value, (const char *)&observation->workers[w] + signals[i].offset, sizeof(value));
            if (value >= 0) {
                fprintf(out, "%s{worker=\"%u\"} %.6g\n", signals[i].name, w, value);
            }
        }
    }
    metrics_put_type(out, "sluice_chunk_pool_bytes", "gauge", "Chunks taken from the system.");
    for (unsigned w = 0; w < server->worker_count; w++) {
        fprintf(out, "sluice_chunk_pool_bytes{worker=\"%u\"} %llu\n", w,
                (unsigned long long)counter_load(&server->workers[w].pulse.pool_bytes));
    }
    metrics_put_type(out, "sluice_chunk_pool_used_bytes", "gauge", "Of them, in use.");
    for (unsigned w = 0; w < server->worker_count; w++) {
        fprintf(out, "sluice_chunk_pool_used_bytes{worker=\"%u\"} %llu\n", w,
                (unsigned long long)counter_load(&server->workers[w].pulse.pool_used_bytes));
    }
}

void metrics_put_process(FILE *out, const struct server *server)
{
    struct observation *observation = observer_read(server->observer);
    if (observation != NULL) {
        put_usage(out, observation);
        put_limits(out, server, &observation->limits);
        put_pressure(out, observation);
        put_workers(out, server, observation);
    }
    free(observation);
}

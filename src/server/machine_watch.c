#include "server/machine_watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct teller {
    void (*tell)(enum machine_severity severity, const char *text, void *context);
    void *context;
};

__attribute__((format(printf, 3, 4))) static void tell(const struct teller *teller, enum machine_severity severity,
                                                       const char *format, ...)
{
    enum { TEXT_BYTES = 2 * MACHINE_REASON_BYTES };
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    teller->tell(severity, text, teller->context);
}

void machine_watch_init(struct machine_watch *watch, const struct machine *machine, const struct machine_plan *running)
{
    watch->running = running;
    watch->machine = *machine;
    watch->plan = *running;
    watch->cache_bytes = running->figures[MACHINE_CACHE_BYTES].value;
}

static bool has_other_cpus(const struct machine_limits *a, const struct machine_limits *b)
{
    return a->cpus_allowed != b->cpus_allowed;
}

static bool has_other_quota(const struct machine_limits *a, const struct machine_limits *b)
{
    return a->cpu.cpus < b->cpu.cpus || a->cpu.cpus > b->cpu.cpus;
}

static bool has_other_memory(const struct machine_limits *a, const struct machine_limits *b)
{
    return a->memory_bytes != b->memory_bytes && b->memory_bytes > 0;
}

bool machine_watch_sees(const struct machine_watch *watch, const struct machine_limits *limits)
{
    const struct machine_limits *known = &watch->machine.limits;
    return has_other_cpus(known, limits) || has_other_quota(known, limits) || has_other_memory(known, limits);
}

/* ---- what is said ---- */

static const char *cpus_of(double cpus, char out[MACHINE_SIZE_BYTES])
{
    if (cpus <= 0) {
        return "none";
    }
    snprintf(out, MACHINE_SIZE_BYTES, "%.4g CPUs", cpus);
    return out;
}

static void tell_limits(const struct teller *teller, const struct machine_limits *before,
                        const struct machine_limits *now)
{
    char size[2][MACHINE_SIZE_BYTES];
    if (has_other_cpus(before, now)) {
        tell(teller, MACHINE_NOTE, "the CPUs that may be used have changed: %u instead of %u", now->cpus_allowed,
             before->cpus_allowed);
    }
    if (has_other_quota(before, now)) {
        tell(teller, MACHINE_NOTE, "the CPU quota has changed: %s instead of %s; pressure is measured by it",
             cpus_of(now->cpu.cpus, size[0]), cpus_of(before->cpu.cpus, size[1]));
    }
    if (has_other_memory(before, now)) {
        tell(teller, MACHINE_NOTE,
             "the memory that may be used has changed: %s instead of %s; pressure is measured by it",
             machine_size(now->memory_bytes, size[0]), machine_size(before->memory_bytes, size[1]));
    }
}

static void tell_workers(const struct machine_watch *watch, const struct teller *teller, unsigned would_be_before)
{
    const struct machine_figure *workers = &watch->plan.figures[MACHINE_WORKERS];
    if (workers->source == MACHINE_CONFIGURED || watch->plan.workers == would_be_before) {
        return;
    }
    if (watch->plan.workers == watch->running->workers) {
        tell(teller, MACHINE_NOTE, "%u workers run, which is right again", watch->running->workers);
    } else {
        tell(
            teller, MACHINE_WARNING,
            "%u workers run, and %u would be right now (%s): their number is decided at the start; remedy: restart, or "
            "set workers",
            watch->running->workers, watch->plan.workers, workers->reason);
    }
}

static void follow_cache(struct machine_watch *watch, const struct teller *teller)
{
    uint64_t made_for = watch->running->figures[MACHINE_CACHE_BYTES].value;
    uint64_t wanted = watch->plan.figures[MACHINE_CACHE_BYTES].value;
    uint64_t bytes = wanted < made_for ? wanted : made_for;
    char size[2][MACHINE_SIZE_BYTES];
    if (bytes != watch->cache_bytes) {
        tell(teller, MACHINE_NOTE, "the cache may be %s now, instead of %s", machine_size(bytes, size[0]),
             machine_size(watch->cache_bytes, size[1]));
        watch->cache_bytes = bytes;
    }
    if (wanted > made_for) {
        tell(teller, MACHINE_NOTE, "the cache could be %s and was made for %s; remedy: restart",
             machine_size(wanted, size[0]), machine_size(made_for, size[1]));
    }
}

static bool has_finding(const struct machine_plan *plan, const struct machine_finding *finding)
{
    for (unsigned i = 0; i < plan->finding_count; i++) {
        if (plan->findings[i].subject == finding->subject && plan->findings[i].severity == finding->severity) {
            return true;
        }
    }
    return false;
}

static void tell_new_findings(const struct teller *teller, const struct machine_plan *before,
                              const struct machine_plan *now)
{
    for (unsigned i = 0; i < now->finding_count; i++) {
        const struct machine_finding *finding = &now->findings[i];
        if (finding->severity >= MACHINE_WARNING && !has_finding(before, finding)) {
            tell(teller, MACHINE_WARNING, "%s: %s; remedy: %s", finding->subject, finding->what, finding->remedy);
        }
    }
}

void machine_watch_follow(struct machine_watch *watch, const char *root, const struct config *config,
                          void (*tell_one)(enum machine_severity severity, const char *text, void *context),
                          void *context)
{
    const struct teller teller = {tell_one, context};
    struct machine_plan *before = malloc(sizeof(*before));
    if (before == NULL) {
        return; /* seen again in a second */
    }
    *before = watch->plan;
    struct machine_limits limits = watch->machine.limits;
    machine_read(root, &watch->machine);
    if (watch->machine.limits.memory_bytes == 0) {
        watch->machine.limits.memory_bytes = limits.memory_bytes;
    }
    machine_plan_make(&watch->machine, config, &watch->plan);
    tell_limits(&teller, &limits, &watch->machine.limits);
    tell_workers(watch, &teller, before->workers);
    follow_cache(watch, &teller);
    tell_new_findings(&teller, before, &watch->plan);
    free(before);
}

/* The machine and its plan for people: facts, figures with their reasons, findings with what to do. */
#include <string.h>

#include "base/check.h"
#include "server/machine_print.h"

enum { LABEL_COLUMNS = 16, LINE_COLUMNS = 110 };

static void put_label(FILE *out, const char *label)
{
    fprintf(out, "  %-*s", LABEL_COLUMNS, label);
}

/* Breaks lines between words; what follows a break is indented. */
static void put_wrapped(FILE *out, unsigned column, unsigned indent, const char *text)
{
    const char *between = "";
    while (*text != '\0') {
        unsigned word = (unsigned)strcspn(text, " ");
        if (column + word + 1 > LINE_COLUMNS && column > indent) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            between = "";
        }
        fprintf(out, "%s%.*s", between, (int)word, text);
        between = " ";
        column += word + 1;
        text += word + (text[word] == ' ' ? 1 : 0);
    }
    fputc('\n', out);
}

/* ---- facts ---- */

static const char *known_size(uint64_t bytes, char out[MACHINE_SIZE_BYTES])
{
    return bytes == 0 ? "?" : machine_size(bytes, out);
}

static void put_cpus(FILE *out, const struct machine *machine)
{
    const struct topology *topology = &machine->topology;
    const struct cgroup_cpu *quota = &machine->limits.cpu;
    char size[3][MACHINE_SIZE_BYTES];
    put_label(out, "CPUs");
    fprintf(out, "%u allowed", topology->cpu_count);
    if (topology->online > 0) {
        fprintf(out, " of %u", topology->online);
    }
    fprintf(out, ": %u core%s, %u memory node%s", topology->core_count, topology->core_count == 1 ? "" : "s",
            topology->node_count, topology->node_count == 1 ? "" : "s");
    if (topology->kind_count > 1) {
        fprintf(out, ", %u kinds of core", topology->kind_count);
    }
    fputc('\n', out);
    put_label(out, "caches");
    fprintf(out, "L1 %s, L2 %s, L3 %s\n", known_size(topology->l1_bytes, size[0]),
            known_size(topology->l2_bytes, size[1]), known_size(topology->l3_bytes, size[2]));
    put_label(out, "CPU quota");
    if (quota->cpus > 0) {
        fprintf(out, "%.4g CPUs (%s)\n", quota->cpus, quota->where);
    } else {
        fputs("none\n", out);
    }
}

static void put_memory(FILE *out, const struct machine *machine)
{
    const struct machine_limits *limits = &machine->limits;
    char size[2][MACHINE_SIZE_BYTES];
    put_label(out, "memory");
    fprintf(out, "%s", known_size(machine->memory_total_bytes, size[0]));
    if (limits->memory_where[0] != '\0') {
        fprintf(out, ", of which this process may use %s (%s)", machine_size(limits->memory_bytes, size[1]),
                limits->memory_where);
    }
    fprintf(out, "; huge pages: %s\n", machine->huge_pages[0] == '\0' ? "none" : machine->huge_pages);
}

static void put_rlimit(FILE *out, const char *name, const struct machine_rlimit *limit)
{
    fprintf(out, "%s ", name);
    if (!limit->is_known) {
        fputs("unknown", out);
    } else if (limit->hard == UINT64_MAX) {
        fputs("unlimited", out);
    } else {
        fprintf(out, "%llu", (unsigned long long)limit->hard);
    }
}

static void put_limits(FILE *out, const struct machine *machine)
{
    put_label(out, "limits");
    put_rlimit(out, "open files", &machine->descriptors);
    put_rlimit(out, ", locked bytes", &machine->locked_bytes);
    put_rlimit(out, ", processes", &machine->processes);
    fputc('\n', out);
}

static void put_kernel(FILE *out, const struct machine *machine)
{
    static const char *const io_uring[] = {
        [MACHINE_IO_URING_UNKNOWN] = "not tried",
        [MACHINE_IO_URING_WORKS] = "works",
        [MACHINE_IO_URING_FAILS] = "refused",
    };
    put_label(out, "kernel");
    fprintf(out, "Linux %s; io_uring %s; clock %s; governor %s\n", machine->kernel[0] == '\0' ? "?" : machine->kernel,
            io_uring[machine->io_uring], machine->clock_source[0] == '\0' ? "?" : machine->clock_source,
            machine->governor[0] == '\0' ? "none" : machine->governor);
}

static void put_devices(FILE *out, const struct machine *machine)
{
    put_label(out, "network");
    unsigned shown = 0;
    for (unsigned i = 0; i < machine->nic_count && machine->nics[i].is_hardware; i++) {
        const struct machine_nic *nic = &machine->nics[i];
        fprintf(out, "%s%s: %s, %u receive and %u send queue%s", shown++ == 0 ? "" : "; ", nic->name,
                nic->is_up ? "up" : "down", nic->receive_queues, nic->send_queues, nic->send_queues == 1 ? "" : "s");
        if (nic->speed_mbit > 0) {
            fprintf(out, ", %lld Mbit/s", (long long)nic->speed_mbit);
        }
        if (nic->node >= 0) {
            fprintf(out, ", node %d", nic->node);
        }
    }
    fputs(shown == 0 ? "no card\n" : "\n", out);
    put_label(out, "GPUs");
    for (unsigned i = 0; i < machine->gpu_count; i++) {
        fprintf(out, "%s%s", i == 0 ? "" : ", ", machine->gpus[i].name);
    }
    fputs(machine->gpu_count == 0 ? "none seen\n" : "\n", out);
}

/* ---- the plan ---- */

static void put_figure(FILE *out, const struct machine_plan *plan, enum machine_figure_name name)
{
    const struct machine_figure *figure = &plan->figures[name];
    bool is_bytes = name == MACHINE_CACHE_BYTES;
    char value[MACHINE_SIZE_BYTES];
    enum { VALUE_COLUMNS = 10 };
    if (is_bytes) {
        machine_size(figure->value, value);
    } else {
        snprintf(value, sizeof(value), "%llu", (unsigned long long)figure->value);
    }
    put_label(out, is_bytes                          ? "cache"
                   : name == MACHINE_RECEIVE_BUFFERS ? "receive buffers"
                                                     : machine_figure_name(name));
    fprintf(out, "%-*s", VALUE_COLUMNS, value);
    put_wrapped(out, 2 + LABEL_COLUMNS + VALUE_COLUMNS, 2 + LABEL_COLUMNS + VALUE_COLUMNS, figure->reason);
}

static void put_cpu_list(FILE *out, const struct machine *machine, const struct machine_plan *plan)
{
    if (!plan->pin) {
        return;
    }
    enum { SHOWN_MAX = 64 };
    put_label(out, "");
    fputs("CPUs in order:", out);
    for (unsigned i = 0; i < plan->workers && i < SHOWN_MAX; i++) {
        bool is_next_node = i > 0 && machine->topology.cpus[i].node != machine->topology.cpus[i - 1].node;
        fprintf(out, "%s %u", is_next_node ? " |" : "", plan->cpus[i]);
    }
    fputs(plan->workers > SHOWN_MAX ? " …\n" : "\n", out);
}

static void put_findings(FILE *out, const struct machine_plan *plan)
{
    enum { FINDING_INDENT = 11 };
    bool has_tune = false;
    for (unsigned i = 0; i < plan->finding_count; i++) {
        const struct machine_finding *finding = &plan->findings[i];
        has_tune |= finding->tune != NULL;
        fprintf(out, "  %-*s%s: ", FINDING_INDENT - 2, machine_severity_name(finding->severity), finding->subject);
        put_wrapped(out, FINDING_INDENT + (unsigned)strlen(finding->subject) + 2, FINDING_INDENT, finding->what);
        fprintf(out, "%*s→ %s\n", FINDING_INDENT, "", finding->remedy);
        if (finding->tune != NULL) {
            fprintf(out, "%*s  " MACHINE_TUNE "%s\n", FINDING_INDENT, "", finding->tune);
        }
    }
    if (plan->finding_count == 0) {
        fputs("  nothing here will hurt\n", out);
    }
    if (has_tune) {
        fputs("  (the package calls tuning/tune.sh sluice-tune)\n", out);
    }
}

void machine_print_text(FILE *out, const struct machine *machine, const struct machine_plan *plan)
{
    fputs("machine\n", out);
    put_cpus(out, machine);
    put_memory(out, machine);
    put_limits(out, machine);
    put_kernel(out, machine);
    put_devices(out, machine);
    fputs("\nplan\n", out);
    for (unsigned i = 0; i < MACHINE_FIGURES; i++) {
        put_figure(out, plan, (enum machine_figure_name)i);
        if (i == MACHINE_PINNED) {
            put_cpu_list(out, machine, plan);
        }
    }
    fputs("\nfindings\n", out);
    put_findings(out, plan);
}

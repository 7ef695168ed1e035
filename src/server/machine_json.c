/* The machine and its plan for programs. What is not known is null. */
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/check.h"
#include "server/machine_print.h"

static void put_known(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, bool is_known, uint64_t value)
{
    if (is_known) {
        yyjson_mut_obj_add_uint(doc, into, name, value);
    } else {
        yyjson_mut_obj_add_null(doc, into, name);
    }
}

static void put_word(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, const char *word)
{
    if (word != NULL && word[0] != '\0') {
        yyjson_mut_obj_add_strcpy(doc, into, name, word);
    } else {
        yyjson_mut_obj_add_null(doc, into, name);
    }
}

/* ---- facts ---- */

static void put_cpus(yyjson_mut_doc *doc, yyjson_mut_val *into, const struct machine *machine)
{
    const struct topology *topology = &machine->topology;
    const struct cgroup_cpu *quota = &machine->limits.cpu;
    yyjson_mut_val *cpus = yyjson_mut_obj_add_obj(doc, into, "cpus");
    put_known(doc, cpus, "online", topology->online > 0, topology->online);
    yyjson_mut_obj_add_uint(doc, cpus, "allowed", topology->cpu_count);
    yyjson_mut_obj_add_uint(doc, cpus, "cores", topology->core_count);
    yyjson_mut_obj_add_uint(doc, cpus, "nodes", topology->node_count);
    yyjson_mut_obj_add_uint(doc, cpus, "kinds", topology->kind_count);
    put_known(doc, cpus, "l1_bytes", topology->l1_bytes > 0, topology->l1_bytes);
    put_known(doc, cpus, "l2_bytes", topology->l2_bytes > 0, topology->l2_bytes);
    put_known(doc, cpus, "l3_bytes", topology->l3_bytes > 0, topology->l3_bytes);
    if (quota->cpus > 0) {
        yyjson_mut_obj_add_real(doc, cpus, "quota", quota->cpus);
    } else {
        yyjson_mut_obj_add_null(doc, cpus, "quota");
    }
    put_word(doc, cpus, "quota_file", quota->where);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, cpus, "list");
    for (unsigned i = 0; i < topology->cpu_count; i++) {
        const struct topology_cpu *cpu = &topology->cpus[i];
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, one, "cpu", cpu->cpu);
        yyjson_mut_obj_add_uint(doc, one, "core", cpu->core);
        put_known(doc, one, "node", cpu->node >= 0, (uint64_t)cpu->node);
        yyjson_mut_obj_add_uint(doc, one, "sibling", cpu->sibling);
    }
}

static void put_memory(yyjson_mut_doc *doc, yyjson_mut_val *into, const struct machine *machine)
{
    const struct machine_limits *limits = &machine->limits;
    yyjson_mut_val *memory = yyjson_mut_obj_add_obj(doc, into, "memory");
    put_known(doc, memory, "total_bytes", machine->memory_total_bytes > 0, machine->memory_total_bytes);
    put_known(doc, memory, "usable_bytes", limits->memory_bytes > 0, limits->memory_bytes);
    put_word(doc, memory, "limit_file", limits->memory_where);
    put_word(doc, memory, "huge_pages", machine->huge_pages);
}

static void put_rlimit(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, const struct machine_rlimit *limit)
{
    yyjson_mut_val *one = yyjson_mut_obj_add_obj(doc, into, name);
    put_known(doc, one, "soft", limit->is_known && limit->soft != UINT64_MAX, limit->soft);
    put_known(doc, one, "hard", limit->is_known && limit->hard != UINT64_MAX, limit->hard);
    yyjson_mut_obj_add_bool(doc, one, "known", limit->is_known);
}

static void put_limits(yyjson_mut_doc *doc, yyjson_mut_val *into, const struct machine *machine)
{
    yyjson_mut_val *limits = yyjson_mut_obj_add_obj(doc, into, "limits");
    put_rlimit(doc, limits, "open_files", &machine->descriptors);
    put_rlimit(doc, limits, "locked_bytes", &machine->locked_bytes);
    put_rlimit(doc, limits, "processes", &machine->processes);
}

static void put_kernel(yyjson_mut_doc *doc, yyjson_mut_val *into, const struct machine *machine)
{
    yyjson_mut_val *kernel = yyjson_mut_obj_add_obj(doc, into, "kernel");
    put_word(doc, kernel, "release", machine->kernel);
    if (machine->io_uring == MACHINE_IO_URING_UNKNOWN) {
        yyjson_mut_obj_add_null(doc, kernel, "io_uring");
    } else {
        yyjson_mut_obj_add_bool(doc, kernel, "io_uring", machine->io_uring == MACHINE_IO_URING_WORKS);
    }
    put_word(doc, kernel, "clock_source", machine->clock_source);
    put_word(doc, kernel, "governor", machine->governor);
    put_word(doc, kernel, "frequency_driver", machine->frequency_driver);
    yyjson_mut_val *settings = yyjson_mut_obj_add_obj(doc, kernel, "settings");
    for (unsigned i = 0; i < MACHINE_PORT_FIRST; i++) {
        int64_t value = machine->settings[i];
        put_known(doc, settings, machine_setting_name((enum machine_setting)i), value >= 0, (uint64_t)value);
    }
    const char *ports = machine_setting_name(MACHINE_PORT_FIRST);
    if (machine->settings[MACHINE_PORT_LAST] < 0) {
        yyjson_mut_obj_add_null(doc, settings, ports);
        return;
    }
    yyjson_mut_val *range = yyjson_mut_obj_add_arr(doc, settings, ports);
    yyjson_mut_arr_add_int(doc, range, machine->settings[MACHINE_PORT_FIRST]);
    yyjson_mut_arr_add_int(doc, range, machine->settings[MACHINE_PORT_LAST]);
}

static void put_devices(yyjson_mut_doc *doc, yyjson_mut_val *into, const struct machine *machine)
{
    yyjson_mut_val *nics = yyjson_mut_obj_add_arr(doc, into, "network");
    for (unsigned i = 0; i < machine->nic_count; i++) {
        const struct machine_nic *nic = &machine->nics[i];
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, nics);
        yyjson_mut_obj_add_str(doc, one, "name", nic->name);
        yyjson_mut_obj_add_bool(doc, one, "hardware", nic->is_hardware);
        yyjson_mut_obj_add_bool(doc, one, "up", nic->is_up);
        yyjson_mut_obj_add_uint(doc, one, "receive_queues", nic->receive_queues);
        yyjson_mut_obj_add_uint(doc, one, "send_queues", nic->send_queues);
        yyjson_mut_obj_add_bool(doc, one, "rps", nic->has_rps);
        put_known(doc, one, "speed_mbit", nic->speed_mbit > 0, (uint64_t)nic->speed_mbit);
        put_known(doc, one, "node", nic->node >= 0, (uint64_t)nic->node);
    }
    yyjson_mut_val *gpus = yyjson_mut_obj_add_arr(doc, into, "gpus");
    for (unsigned i = 0; i < machine->gpu_count; i++) {
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, gpus);
        yyjson_mut_obj_add_str(doc, one, "name", machine->gpus[i].name);
        put_known(doc, one, "node", machine->gpus[i].node >= 0, (uint64_t)machine->gpus[i].node);
    }
}

/* ---- the plan ---- */

static void put_plan(yyjson_mut_doc *doc, yyjson_mut_val *into, const struct machine_plan *plan)
{
    yyjson_mut_val *figures = yyjson_mut_obj_add_obj(doc, into, "plan");
    for (unsigned i = 0; i < MACHINE_FIGURES; i++) {
        const struct machine_figure *figure = &plan->figures[i];
        yyjson_mut_val *one = yyjson_mut_obj_add_obj(doc, figures, machine_figure_name((enum machine_figure_name)i));
        yyjson_mut_obj_add_uint(doc, one, "value", figure->value);
        yyjson_mut_obj_add_str(doc, one, "source", figure->source == MACHINE_CONFIGURED ? "configured" : "derived");
        yyjson_mut_obj_add_str(doc, one, "reason", figure->reason);
    }
    yyjson_mut_val *cpus = yyjson_mut_obj_add_arr(doc, into, "pinning");
    for (unsigned i = 0; plan->pin && i < plan->workers; i++) {
        yyjson_mut_arr_add_uint(doc, cpus, plan->cpus[i]);
    }
    yyjson_mut_val *findings = yyjson_mut_obj_add_arr(doc, into, "findings");
    for (unsigned i = 0; i < plan->finding_count; i++) {
        const struct machine_finding *finding = &plan->findings[i];
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, findings);
        yyjson_mut_obj_add_str(doc, one, "severity", machine_severity_name(finding->severity));
        yyjson_mut_obj_add_str(doc, one, "subject", finding->subject);
        yyjson_mut_obj_add_str(doc, one, "what", finding->what);
        yyjson_mut_obj_add_str(doc, one, "remedy", finding->remedy);
        char command[128] = "";
        if (finding->tune != NULL) {
            snprintf(command, sizeof(command), MACHINE_TUNE "%s", finding->tune);
        }
        put_word(doc, one, "tune", command);
    }
}

enum result machine_print_json(FILE *out, const struct machine *machine, const struct machine_plan *plan)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL) {
        return RESULT_NO_MEMORY;
    }
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_val *facts = yyjson_mut_obj_add_obj(doc, root, "machine");
    put_cpus(doc, facts, machine);
    put_memory(doc, facts, machine);
    put_limits(doc, facts, machine);
    put_kernel(doc, facts, machine);
    put_devices(doc, facts, machine);
    put_plan(doc, root, plan);
    /* Names of devices and files of another machine's tree may be anything. */
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY | YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL);
    yyjson_mut_doc_free(doc);
    if (text == NULL) {
        return RESULT_NO_MEMORY;
    }
    fprintf(out, "%s\n", text);
    free(text);
    return RESULT_OK;
}

#include "ring/machine.h"

#include <dirent.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "ring/facts.h"
#include "ring/ring.h"

void machine_limits_read(const char *root, struct machine_limits *ret_limits)
{
    struct cgroup_memory memory;
    memset(ret_limits, 0, sizeof(*ret_limits));
    ret_limits->cpus_allowed = topology_count_allowed(root);
    cgroup_read_cpu(root, &ret_limits->cpu);
    ret_limits->memory_bytes = ring_memory_bytes(root);
    cgroup_read_memory(root, &memory);
    if (memory.bytes > 0 && memory.bytes == ret_limits->memory_bytes) {
        memcpy(ret_limits->memory_where, memory.where, sizeof(memory.where));
    }
}

/* ---- words ---- */

static void put_word(char into[MACHINE_WORD_BYTES], const char *text)
{
    snprintf(into, MACHINE_WORD_BYTES, "%.*s", (int)strcspn(text, "\n"), text);
}

/* The first line of a small file; empty when there is none. */
static void read_word(char into[MACHINE_WORD_BYTES], const char *root, const char *path)
{
    char text[FACT_TEXT_BYTES];
    fact_text(text, "%s%s", root, path);
    put_word(into, text);
}

/* The one in brackets of "always [madvise] never". */
static void read_choice(char into[MACHINE_WORD_BYTES], const char *root, const char *path)
{
    char text[FACT_TEXT_BYTES];
    fact_text(text, "%s%s", root, path);
    char *chosen = strchr(text, '[');
    if (chosen != NULL) {
        chosen[strcspn(chosen, "]")] = '\0';
    }
    put_word(into, chosen == NULL ? "" : chosen + 1);
}

static void read_kernel(const char *root, struct machine *machine)
{
    char path[128];
    read_word(machine->kernel, root, "/proc/sys/kernel/osrelease");
    if (sscanf(machine->kernel, "%u.%u", &machine->kernel_major, &machine->kernel_minor) != 2) {
        machine->kernel_major = 0;
        machine->kernel_minor = 0;
    }
    unsigned cpu = machine->topology.cpus[0].cpu;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", cpu);
    read_word(machine->governor, root, path);
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_driver", cpu);
    read_word(machine->frequency_driver, root, path);
    read_choice(machine->huge_pages, root, "/sys/kernel/mm/transparent_hugepage/enabled");
    read_word(machine->clock_source, root, "/sys/devices/system/clocksource/clocksource0/current_clocksource");
}

/* ---- settings and limits ---- */

static const struct {
    const char *name;
    const char *path;
} settings[MACHINE_SETTINGS] = {
    [MACHINE_SOMAXCONN] = {"net.core.somaxconn", "net/core/somaxconn"},
    [MACHINE_SYN_BACKLOG] = {"net.ipv4.tcp_max_syn_backlog", "net/ipv4/tcp_max_syn_backlog"},
    [MACHINE_MAX_MAP_COUNT] = {"vm.max_map_count", "vm/max_map_count"},
    [MACHINE_FILE_MAX] = {"fs.file-max", "fs/file-max"},
    [MACHINE_OVERCOMMIT] = {"vm.overcommit_memory", "vm/overcommit_memory"},
    [MACHINE_ZONE_RECLAIM] = {"vm.zone_reclaim_mode", "vm/zone_reclaim_mode"},
    [MACHINE_NUMA_BALANCING] = {"kernel.numa_balancing", "kernel/numa_balancing"},
    [MACHINE_IO_URING_DISABLED] = {"kernel.io_uring_disabled", "kernel/io_uring_disabled"},
    [MACHINE_PORT_FIRST] = {"net.ipv4.ip_local_port_range", "net/ipv4/ip_local_port_range"},
    [MACHINE_PORT_LAST] = {"net.ipv4.ip_local_port_range", "net/ipv4/ip_local_port_range"},
};

const char *machine_setting_name(enum machine_setting setting)
{
    return settings[setting].name;
}

static void read_settings(const char *root, struct machine *machine)
{
    for (unsigned i = 0; i < MACHINE_SETTINGS; i++) {
        machine->settings[i] = fact_number(-1, "%s/proc/sys/%s", root, settings[i].path);
    }
    char text[FACT_TEXT_BYTES];
    long long first;
    long long last;
    fact_text(text, "%s/proc/sys/%s", root, settings[MACHINE_PORT_LAST].path);
    bool is_range = sscanf(text, "%lld %lld", &first, &last) == 2;
    machine->settings[MACHINE_PORT_LAST] = is_range ? last : -1;
}

/* "unlimited" or a number. */
static bool limit_in(const char *word, uint64_t *ret_limit)
{
    char *end;
    *ret_limit = strtoull(word, &end, 10);
    if (strcmp(word, "unlimited") == 0) {
        *ret_limit = UINT64_MAX;
        return true;
    }
    return end != word;
}

/* "Max open files            1024                 524288               files" */
static struct machine_rlimit rlimit_in(const char *text, const char *name)
{
    char soft[32];
    char hard[32];
    const char *line = strstr(text, name);
    struct machine_rlimit limit = {0};
    if (line != NULL && sscanf(line + strlen(name), "%31s %31s", soft, hard) == 2) {
        limit.is_known = limit_in(soft, &limit.soft) && limit_in(hard, &limit.hard);
    }
    return limit;
}

static void read_rlimits(const char *root, struct machine *machine)
{
    char text[FACT_TEXT_BYTES];
    fact_text(text, "%s/proc/self/limits", root);
    machine->descriptors = rlimit_in(text, "Max open files");
    machine->locked_bytes = rlimit_in(text, "Max locked memory");
    machine->processes = rlimit_in(text, "Max processes");
    fact_text(text, "%s/proc/self/status", root);
    const char *capabilities = strstr(text, "\nCapEff:");
    uint64_t bits = capabilities == NULL ? 0 : strtoull(capabilities + strlen("\nCapEff:"), NULL, 16);
    machine->locks_freely = (bits >> CAP_IPC_LOCK & 1) == 1;
}

/* ---- devices ---- */

/* Calls for each entry of a folder but the hidden ones. */
static void each_entry(const char *root, const char *path, void (*take)(struct machine *, const char *, const char *),
                       struct machine *machine)
{
    char folder_path[FACT_PATH_BYTES];
    snprintf(folder_path, sizeof(folder_path), "%s%s", root, path);
    DIR *folder = opendir(folder_path);
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.') {
            take(machine, root, entry->d_name);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
}

static unsigned count_queues(const char *root, const char *nic, const char *kind)
{
    char path[FACT_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/sys/class/net/%s/queues", root, nic);
    DIR *folder = opendir(path);
    const struct dirent *entry;
    unsigned count = 0;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        count += strncmp(entry->d_name, kind, strlen(kind)) == 0 ? 1 : 0;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return count;
}

static void take_nic(struct machine *machine, const char *root, const char *name)
{
    char text[FACT_TEXT_BYTES];
    char path[FACT_PATH_BYTES];
    if (machine->nic_count == MACHINE_NICS_MAX || strlen(name) >= MACHINE_WORD_BYTES) {
        return;
    }
    struct machine_nic *nic = &machine->nics[machine->nic_count++];
    put_word(nic->name, name);
    nic->receive_queues = count_queues(root, name, "rx-");
    nic->send_queues = count_queues(root, name, "tx-");
    nic->speed_mbit = fact_number(-1, "%s/sys/class/net/%s/speed", root, name);
    nic->node = (int)fact_number(-1, "%s/sys/class/net/%s/device/numa_node", root, name);
    snprintf(path, sizeof(path), "%s/sys/class/net/%s/device", root, name);
    nic->is_hardware = access(path, F_OK) == 0;
    nic->is_up = fact_text(text, "%s/sys/class/net/%s/operstate", root, name) && strncmp(text, "up", 2) == 0;
    fact_text(text, "%s/sys/class/net/%s/queues/rx-0/rps_cpus", root, name);
    nic->has_rps = strpbrk(text, "123456789abcdef") != NULL;
}

static int compare_nics(const void *a, const void *b)
{
    const struct machine_nic *left = a;
    const struct machine_nic *right = b;
    if (left->is_hardware != right->is_hardware) {
        return left->is_hardware ? -1 : 1;
    }
    return strcmp(left->name, right->name);
}

const struct machine_nic *machine_main_nic(const struct machine *machine)
{
    const struct machine_nic *best = NULL;
    for (unsigned i = 0; i < machine->nic_count; i++) {
        const struct machine_nic *nic = &machine->nics[i];
        if (nic->is_hardware && nic->is_up && (best == NULL || nic->speed_mbit > best->speed_mbit)) {
            best = nic;
        }
    }
    return best;
}

static void add_gpu(struct machine *machine, const char *kind, const char *name, int64_t node)
{
    if (machine->gpu_count < MACHINE_GPUS_MAX) {
        struct machine_gpu *gpu = &machine->gpus[machine->gpu_count++];
        snprintf(gpu->name, sizeof(gpu->name), "%s %.32s", kind, name);
        gpu->node = (int)node;
    }
}

static void take_nvidia(struct machine *machine, const char *root, const char *name)
{
    add_gpu(machine, "nvidia", name, fact_number(-1, "%s/sys/bus/pci/devices/%s/numa_node", root, name));
}

/* AMD's and Intel's show up among the cards; so do NVIDIA's with some drivers, but those have been counted, and display
 * chips of servers (ASPEED, Matrox), and virtual ones, which compute nothing. */
static void take_card(struct machine *machine, const char *root, const char *name)
{
    enum { VENDOR_AMD = 0x1002, VENDOR_INTEL = 0x8086 };
    char text[FACT_TEXT_BYTES];
    if (strncmp(name, "card", 4) != 0 || strchr(name, '-') != NULL ||
        !fact_text(text, "%s/sys/class/drm/%s/device/vendor", root, name)) {
        return;
    }
    unsigned long vendor = strtoul(text, NULL, 16);
    if (vendor == VENDOR_AMD || vendor == VENDOR_INTEL) {
        add_gpu(machine, vendor == VENDOR_AMD ? "amd" : "intel", name,
                fact_number(-1, "%s/sys/class/drm/%s/device/numa_node", root, name));
    }
}

static void read_devices(const char *root, struct machine *machine)
{
    each_entry(root, "/sys/class/net", take_nic, machine);
    qsort(machine->nics, machine->nic_count, sizeof(machine->nics[0]), compare_nics);
    each_entry(root, "/proc/driver/nvidia/gpus", take_nvidia, machine);
    each_entry(root, "/sys/class/drm", take_card, machine);
    char path[FACT_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/dev/kfd", root);
    if (machine->gpu_count == 0 && access(path, F_OK) == 0) {
        add_gpu(machine, "amd", "kfd", -1); /* a container is shown the device, but not the card */
    }
}

/* ---- all of it ---- */

void machine_read(const char *root, struct machine *ret_machine)
{
    memset(ret_machine, 0, sizeof(*ret_machine));
    read_devices(root, ret_machine);
    const struct machine_nic *nic = machine_main_nic(ret_machine);
    topology_read(root, nic == NULL ? -1 : nic->node, &ret_machine->topology);
    machine_limits_read(root, &ret_machine->limits);
    char text[FACT_TEXT_BYTES];
    fact_text(text, "%s/proc/meminfo", root);
    ret_machine->memory_total_bytes = fact_after(text, "MemTotal:") * 1024;
    read_rlimits(root, ret_machine);
    read_settings(root, ret_machine);
    read_kernel(root, ret_machine);
}

void machine_try_io_uring(struct machine *machine)
{
    struct ring *ring;
    machine->io_uring = MACHINE_IO_URING_FAILS;
    if (ring_create(&(struct ring_options){.cpu = -1, .receive_buffers = 1}, &ring) == RESULT_OK) {
        machine->io_uring = MACHINE_IO_URING_WORKS;
        ring_destroy(ring);
    }
}

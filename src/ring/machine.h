/* The machine as this process finds it: facts alone, nothing is concluded from them (server/machine_plan.h does).
 *
 * Read once at the start and by `sluice check --machine`; machine_limits, which an administrator may change while the
 * process runs, also once a second by the observer. All of it blocks. `root`: the folder that /proc and /sys are in; ""
 * but for another machine's tree, and tests'. What a tree does not say is 0, or what the field says. Memory: 17 KB. */
#ifndef SLUICE_RING_MACHINE_H
#define SLUICE_RING_MACHINE_H

#include <stdbool.h>

#include "ring/cgroup.h"
#include "ring/topology.h"

enum {
    MACHINE_WORD_BYTES = 48,
    MACHINE_NICS_MAX = 32,
    MACHINE_GPUS_MAX = 32,
};

/* What can change while the process runs. */
struct machine_limits {
    unsigned cpus_allowed;
    struct cgroup_cpu cpu;
    uint64_t memory_bytes;                 /* ring_memory_bytes */
    char memory_where[CGROUP_WHERE_BYTES]; /* the file that sets it; empty: it is all the machine has */
};

void machine_limits_read(const char *root, struct machine_limits *ret_limits);

/* Kernel settings that matter to the gateway. */
enum machine_setting {
    MACHINE_SOMAXCONN,
    MACHINE_SYN_BACKLOG,
    MACHINE_MAX_MAP_COUNT,
    MACHINE_FILE_MAX,
    MACHINE_OVERCOMMIT,
    MACHINE_ZONE_RECLAIM,
    MACHINE_NUMA_BALANCING,
    MACHINE_IO_URING_DISABLED,
    MACHINE_PORT_FIRST, /* of ip_local_port_range, whose second number is the next */
    MACHINE_PORT_LAST,
    MACHINE_SETTINGS
};

/* As sysctl calls it. */
const char *machine_setting_name(enum machine_setting setting);

/* A resource limit; UINT64_MAX: none. */
struct machine_rlimit {
    bool is_known;
    uint64_t soft;
    uint64_t hard;
};

struct machine_nic {
    char name[MACHINE_WORD_BYTES];
    unsigned receive_queues;
    unsigned send_queues;
    int64_t speed_mbit; /* -1: it does not say */
    int node;           /* -1: none */
    bool is_hardware;   /* also one that a hypervisor shows; not a bridge, tunnel or loopback */
    bool is_up;
    bool has_rps; /* packets of its first queue are spread over CPUs */
};

struct machine_gpu {
    char name[MACHINE_WORD_BYTES]; /* "nvidia 0000:17:00.0", "amd card0" */
    int node;                      /* -1: none */
};

enum machine_io_uring { MACHINE_IO_URING_UNKNOWN, MACHINE_IO_URING_WORKS, MACHINE_IO_URING_FAILS };

struct machine {
    struct topology topology;
    struct machine_limits limits;
    uint64_t memory_total_bytes; /* of the machine */
    struct machine_rlimit descriptors;
    struct machine_rlimit locked_bytes;
    bool locks_freely; /* CAP_IPC_LOCK: that limit does not hold */
    struct machine_rlimit processes;
    int64_t settings[MACHINE_SETTINGS]; /* -1: this kernel, or this container, does not show it */
    char kernel[MACHINE_WORD_BYTES];    /* "6.1.0-18-amd64" */
    unsigned kernel_major;
    unsigned kernel_minor;
    enum machine_io_uring io_uring;
    char governor[MACHINE_WORD_BYTES]; /* of the first CPU to pin to; empty: it has none */
    char frequency_driver[MACHINE_WORD_BYTES];
    char huge_pages[MACHINE_WORD_BYTES]; /* "always", "madvise", "never" */
    char clock_source[MACHINE_WORD_BYTES];
    unsigned nic_count;
    struct machine_nic nics[MACHINE_NICS_MAX]; /* those of hardware first, then by name */
    unsigned gpu_count;
    struct machine_gpu gpus[MACHINE_GPUS_MAX];
};

void machine_read(const char *root, struct machine *ret_machine);

/* Tries to make an io_uring as a worker does, of this kernel, and notes whether it can; the log says why not. */
void machine_try_io_uring(struct machine *machine);

/* The fastest network card that is up, which connections are likely to come by; NULL: no hardware is. */
const struct machine_nic *machine_main_nic(const struct machine *machine);

#endif

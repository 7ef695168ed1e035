#include "ring/usage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "ring/cgroup.h"

enum { PATH_BYTES = 2400, TEXT_BYTES = 8192 };

/* Reads the file's first bytes as text; empty when it cannot be read. */
static bool read_text(const char *path, char text[TEXT_BYTES])
{
    FILE *file = fopen(path, "re");
    size_t bytes = file == NULL ? 0 : fread(text, 1, TEXT_BYTES - 1, file);
    if (file != NULL) {
        fclose(file);
    }
    text[bytes] = '\0';
    return bytes > 0;
}

/* The number behind `name` at the beginning of a line; 0: not there. */
static uint64_t number_after(const char *text, const char *name)
{
    size_t bytes = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, bytes) == 0) {
            return strtoull(line + bytes, NULL, 10);
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return 0;
}

/* ---- memory ---- */

/* How a version of control groups says what is used and what may be. */
struct cgroup_memory {
    const char *controller;
    const char *mount;
    const char *used;
    const char *max;
    const char *high; /* beyond it the group is slowed down; NULL: this version has none */
    /* the lines of memory.stat with what can be taken back, and with what of it has to be written first */
    const char *clean[3];
    const char *dirty[2];
};

static const struct cgroup_memory memories[] = {
    {
        .mount = "/sys/fs/cgroup",
        .used = "memory.current",
        .max = "memory.max",
        .high = "memory.high",
        .clean = {"inactive_file ", "active_file ", "slab_reclaimable "},
        .dirty = {"file_dirty ", "file_writeback "},
    },
    {
        .controller = "memory",
        .mount = "/sys/fs/cgroup/memory",
        .used = "memory.usage_in_bytes",
        .max = "memory.limit_in_bytes",
        .clean = {"total_inactive_file ", "total_active_file "},
        .dirty = {"total_dirty ", "total_writeback "},
    },
};

static uint64_t read_number(const char *folder, const char *name)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return read_text(path, text) ? strtoull(text, NULL, 10) : 0; /* "max" is 0: none */
}

static double shortness(uint64_t used, uint64_t max)
{
    uint64_t counted = max < RING_USAGE_MEMORY_COUNTED ? max : RING_USAGE_MEMORY_COUNTED;
    uint64_t left = used < max ? max - used : 0;
    return left >= counted ? 0 : 1 - (double)left / (double)counted;
}

static double share(uint64_t used, uint64_t max)
{
    return max == 0 ? -1 : (double)used / (double)max;
}

/* Takes this memory for the one to tell of if it is nearer to its limit. */
static void take_nearer(struct ring_usage *usage, uint64_t used, uint64_t max)
{
    double is_short = max == 0 ? -1 : shortness(used, max);
    bool is_nearer = is_short == usage->memory_short
                         ? share(used, max) > share(usage->memory_used_bytes, usage->memory_max_bytes)
                         : is_short > usage->memory_short;
    if (is_nearer) {
        usage->memory_used_bytes = used;
        usage->memory_max_bytes = max;
        usage->memory_short = is_short;
    }
}

static uint64_t sum_after(const char *text, const char *const *names, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count && names[i] != NULL; i++) {
        sum += number_after(text, names[i]);
    }
    return sum;
}

/* What of `used` cannot be taken back at once, as the folder's memory.stat says. */
static uint64_t without_caches(const char *folder, const struct cgroup_memory *memory, uint64_t used)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/memory.stat", folder);
    if (!read_text(path, text)) {
        return used;
    }
    uint64_t clean = sum_after(text, memory->clean, ARRAY_COUNT(memory->clean));
    uint64_t dirty = sum_after(text, memory->dirty, ARRAY_COUNT(memory->dirty));
    uint64_t free_at_once = clean > dirty ? clean - dirty : 0;
    return used > free_at_once ? used - free_at_once : 0;
}

static uint64_t read_limit(const char *folder, const struct cgroup_memory *memory)
{
    uint64_t max = read_number(folder, memory->max);
    uint64_t high = memory->high == NULL ? 0 : read_number(folder, memory->high);
    return high > 0 && (max == 0 || high < max) ? high : max;
}

/* From this process's group to the root: a limit above it holds for it, too. */
static void read_groups(const char *root, const struct cgroup_memory *memory, uint64_t machine_bytes,
                        struct ring_usage *usage)
{
    char group[1024];
    cgroup_find(root, memory->controller, group, sizeof(group));
    for (;;) {
        char folder[PATH_BYTES - 64];
        snprintf(folder, sizeof(folder), "%s%s%s", root, memory->mount, strcmp(group, "/") == 0 ? "" : group);
        uint64_t max = read_limit(folder, memory);
        if (max > 0 && (machine_bytes == 0 || max < machine_bytes)) {
            take_nearer(usage, without_caches(folder, memory, read_number(folder, memory->used)), max);
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            return;
        }
        *slash = '\0';
    }
}

static void read_memory(const char *root, struct ring_usage *usage)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    uint64_t total = 0;
    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    if (read_text(path, text)) {
        total = number_after(text, "MemTotal:") * 1024;
        uint64_t available = number_after(text, "MemAvailable:") * 1024;
        if (available > 0) {
            take_nearer(usage, total > available ? total - available : 0, total);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(memories); i++) {
        read_groups(root, &memories[i], total, usage);
    }
}

/* `some avg10=1.23 …`, in percent. */
static double stall_in(const char *text)
{
    double percent;
    return sscanf(text, "some avg10=%lf", &percent) == 1 ? percent / 100 : -1;
}

/* Of this process's group where the kernel tells groups apart, else of the machine. */
static double read_stall(const char *root)
{
    char group[1024];
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    cgroup_find(root, NULL, group, sizeof(group));
    snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/memory.pressure", root, group);
    if (strlen(group) > 1 && read_text(path, text)) {
        return stall_in(text);
    }
    snprintf(path, sizeof(path), "%s/proc/pressure/memory", root);
    return read_text(path, text) ? stall_in(text) : -1;
}

/* ---- the process ---- */

/* Linux 6.2 and later say it as the folder's size; before, the entries have to be counted. */
static uint64_t count_descriptors(const char *root)
{
    char path[PATH_BYTES];
    struct stat status;
    snprintf(path, sizeof(path), "%s/proc/self/fd", root);
    if (stat(path, &status) == 0 && status.st_size > 0 && root[0] == '\0') {
        return (uint64_t)status.st_size;
    }
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return 0;
    }
    uint64_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count - (root[0] == '\0' ? 1 : 0); /* the folder's own */
}

/* The fields of /proc/self/stat behind the name, which may hold anything: "S ppid …", threads are the 18th of them. */
static uint64_t threads_in(const char *text)
{
    enum { THREADS_FIELD = 18 };
    const char *at = strrchr(text, ')');
    for (unsigned field = 0; at != NULL && field < THREADS_FIELD; field++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? 0 : strtoull(at, NULL, 10);
}

static void read_process(const char *root, struct ring_usage *usage)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    unsigned long long pages;
    snprintf(path, sizeof(path), "%s/proc/self/statm", root);
    if (read_text(path, text) && sscanf(text, "%*u %llu", &pages) == 1) {
        usage->resident_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    snprintf(path, sizeof(path), "%s/proc/self/stat", root);
    usage->threads = read_text(path, text) ? threads_in(text) : 0;
    usage->descriptors = count_descriptors(root);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        usage->descriptors_max = limit.rlim_cur;
    }
}

static nanos read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (nanos)t.tv_sec * NANOS_PER_S + (nanos)t.tv_nsec;
}

void ring_usage_read(const char *root, struct ring_usage *ret_usage)
{
    memset(ret_usage, 0, sizeof(*ret_usage));
    ret_usage->memory_short = -1;
    read_memory(root, ret_usage);
    ret_usage->memory_stall = read_stall(root);
    read_process(root, ret_usage);
    ret_usage->cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    ret_usage->at_ns = read_clock(CLOCK_MONOTONIC);
    ret_usage->unix_ms = (int64_t)(read_clock(CLOCK_REALTIME) / NANOS_PER_MS);
}

bool ring_usage_of_thread(const char *root, int thread_id, nanos *ret_ran_ns, nanos *ret_waited_ns)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    unsigned long long ran;
    unsigned long long waited;
    snprintf(path, sizeof(path), "%s/proc/self/task/%d/schedstat", root, thread_id);
    if (!read_text(path, text) || sscanf(text, "%llu %llu", &ran, &waited) != 2) {
        return false;
    }
    *ret_ran_ns = ran;
    *ret_waited_ns = waited;
    return true;
}

nanos ring_clock(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int ring_thread_id(void)
{
    return (int)gettid();
}

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
#include "ring/facts.h"

/* ---- memory ---- */

/* How a version of control groups says what is used and what may be. */
struct accounting {
    const char *controller;
    const char *used;
    const char *max;
    const char *high; /* beyond it the group is slowed down; NULL: this version has none */
    /* the lines of memory.stat with what can be taken back, and with what of it has to be written first */
    const char *clean[3];
    const char *dirty[2];
};

static const struct accounting accountings[] = {
    {
        .used = "memory.current",
        .max = "memory.max",
        .high = "memory.high",
        .clean = {"inactive_file ", "active_file ", "slab_reclaimable "},
        .dirty = {"file_dirty ", "file_writeback "},
    },
    {
        .controller = "memory",
        .used = "memory.usage_in_bytes",
        .max = "memory.limit_in_bytes",
        .clean = {"total_inactive_file ", "total_active_file "},
        .dirty = {"total_dirty ", "total_writeback "},
    },
};

/* "max" is 0: none. */
static uint64_t read_number(const struct cgroup_way *way, const char *name)
{
    char text[FACT_TEXT_BYTES];
    return fact_text(text, "%s/%s", way->folder, name) ? strtoull(text, NULL, 10) : 0;
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
    double short_by = max == 0 ? -1 : shortness(used, max);
    bool is_nearer = short_by == usage->memory_short
                         ? share(used, max) > share(usage->memory_used_bytes, usage->memory_max_bytes)
                         : short_by > usage->memory_short;
    if (is_nearer) {
        usage->memory_used_bytes = used;
        usage->memory_max_bytes = max;
        usage->memory_short = short_by;
    }
}

static uint64_t sum_after(const char *text, const char *const *names, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count && names[i] != NULL; i++) {
        sum += fact_after(text, names[i]);
    }
    return sum;
}

/* What of `used` cannot be taken back at once, as the folder's memory.stat says. */
static uint64_t without_caches(const struct cgroup_way *way, const struct accounting *accounting, uint64_t used)
{
    char text[FACT_TEXT_BYTES];
    if (!fact_text(text, "%s/memory.stat", way->folder)) {
        return used;
    }
    uint64_t clean = sum_after(text, accounting->clean, ARRAY_COUNT(accounting->clean));
    uint64_t dirty = sum_after(text, accounting->dirty, ARRAY_COUNT(accounting->dirty));
    uint64_t free_at_once = clean > dirty ? clean - dirty : 0;
    return used > free_at_once ? used - free_at_once : 0;
}

static uint64_t read_limit(const struct cgroup_way *way, const struct accounting *accounting)
{
    uint64_t max = read_number(way, accounting->max);
    uint64_t high = accounting->high == NULL ? 0 : read_number(way, accounting->high);
    return high > 0 && (max == 0 || high < max) ? high : max;
}

/* From this process's group to the root: a limit above it holds for it, too. */
static void read_groups(const char *root, const struct accounting *accounting, uint64_t machine_bytes,
                        struct ring_usage *usage)
{
    struct cgroup_way way;
    cgroup_enter(root, accounting->controller, &way);
    do {
        uint64_t max = read_limit(&way, accounting);
        if (max > 0 && (machine_bytes == 0 || max < machine_bytes)) {
            take_nearer(usage, without_caches(&way, accounting, read_number(&way, accounting->used)), max);
        }
    } while (cgroup_up(&way));
}

static void read_memory(const char *root, struct ring_usage *usage)
{
    char text[FACT_TEXT_BYTES];
    fact_text(text, "%s/proc/meminfo", root);
    uint64_t total = fact_after(text, "MemTotal:") * 1024;
    uint64_t available = fact_after(text, "MemAvailable:") * 1024;
    if (available > 0) {
        take_nearer(usage, total > available ? total - available : 0, total);
    }
    for (size_t i = 0; i < ARRAY_COUNT(accountings); i++) {
        read_groups(root, &accountings[i], total, usage);
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
    struct cgroup_way way;
    char text[FACT_TEXT_BYTES];
    cgroup_enter(root, NULL, &way);
    bool is_grouped = way.folder[way.top_bytes] != '\0';
    if (is_grouped && fact_text(text, "%s/memory.pressure", way.folder)) {
        return stall_in(text);
    }
    return fact_text(text, "%s/proc/pressure/memory", root) ? stall_in(text) : -1;
}

/* ---- the process ---- */

/* Linux 6.2 and later say it as the folder's size; before, the entries have to be counted. */
static uint64_t count_descriptors(const char *root)
{
    char path[FACT_PATH_BYTES];
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
    char text[FACT_TEXT_BYTES];
    unsigned long long pages;
    if (fact_text(text, "%s/proc/self/statm", root) && sscanf(text, "%*u %llu", &pages) == 1) {
        usage->resident_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    usage->threads = fact_text(text, "%s/proc/self/stat", root) ? threads_in(text) : 0;
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
    char text[FACT_TEXT_BYTES];
    unsigned long long ran;
    unsigned long long waited;
    if (!fact_text(text, "%s/proc/self/task/%d/schedstat", root, thread_id) ||
        sscanf(text, "%llu %llu", &ran, &waited) != 2) {
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

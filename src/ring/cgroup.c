#include "ring/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "ring/facts.h"

enum { LINE_BYTES = 1024 };

/* Whether the name stands in a list such as "rw,cpu,cpuacct". */
static bool is_listed(char *list, const char *name)
{
    const char *one;
    while ((one = strsep(&list, ",")) != NULL) {
        if (strcmp(one, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The path in a line of /proc/self/cgroup, "4:cpu,memory:/path" or "0::/path", if it is of this controller; else
 * NULL. */
static const char *group_in(char *line, const char *controller)
{
    char *controllers = strchr(line, ':');
    char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (path == NULL) {
        return NULL;
    }
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (controller == NULL) {
        return strcmp(line, "0:") == 0 ? path : NULL;
    }
    return is_listed(controllers + 1, controller) ? path : NULL;
}

/* The path of this process's group, such as "/a.slice/b.service"; empty when it is in none. */
static void find_group(const char *root, const char *controller, char out[LINE_BYTES])
{
    char line[LINE_BYTES];
    snprintf(line, sizeof(line), "%s/proc/self/cgroup", root);
    FILE *file = fopen(line, "re");
    *out = '\0';
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *group = group_in(line, controller);
        if (group != NULL) {
            snprintf(out, LINE_BYTES, "%s", group);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

/* Takes a line of mountinfo apart, proc(5): "36 35 98:0 /root /mount/point rw,noatime shared:1 - type device options".
 * False: it is not of this hierarchy. */
static bool mount_in(char *line, const char *controller, const char **ret_root, const char **ret_point)
{
    enum { FIELD_ROOT = 3, FIELD_POINT = 4, FIELDS = 5, TAIL_FIELDS = 3 };
    char *tail = strstr(line, " - ");
    const char *fields[FIELDS];
    const char *tails[TAIL_FIELDS];
    if (tail == NULL) {
        return false;
    }
    *tail = '\0';
    tail += strlen(" - ");
    tail[strcspn(tail, "\n")] = '\0';
    for (unsigned i = 0; i < FIELDS; i++) {
        fields[i] = strsep(&line, " ");
    }
    for (unsigned i = 0; i < TAIL_FIELDS; i++) {
        tails[i] = strsep(&tail, " ");
    }
    if (fields[FIELD_POINT] == NULL || tails[2] == NULL) {
        return false;
    }
    bool is_this = controller == NULL
                       ? strcmp(tails[0], "cgroup2") == 0
                       : strcmp(tails[0], "cgroup") == 0 && is_listed((char *)(uintptr_t)tails[2], controller);
    *ret_root = fields[FIELD_ROOT];
    *ret_point = fields[FIELD_POINT];
    return is_this;
}

/* Where the hierarchy is mounted and which part of it; where it commonly is when mountinfo does not say. */
static void find_mount(const char *root, const char *controller, char part[LINE_BYTES], char point[LINE_BYTES])
{
    char line[LINE_BYTES];
    snprintf(part, LINE_BYTES, "/");
    snprintf(point, LINE_BYTES, "/sys/fs/cgroup%s%s", controller == NULL ? "" : "/",
             controller == NULL ? "" : controller);
    snprintf(line, sizeof(line), "%s/proc/self/mountinfo", root);
    FILE *file = fopen(line, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *mounted_part;
        const char *mounted_on;
        if (mount_in(line, controller, &mounted_part, &mounted_on)) {
            snprintf(part, LINE_BYTES, "%s", mounted_part);
            snprintf(point, LINE_BYTES, "%s", mounted_on);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

void cgroup_enter(const char *root, const char *controller, struct cgroup_way *ret_way)
{
    char group[LINE_BYTES];
    char part[LINE_BYTES];
    char point[LINE_BYTES];
    find_group(root, controller, group);
    find_mount(root, controller, part, point);
    const char *below = group;
    size_t part_bytes = strlen(part);
    if (part_bytes > 1 && strncmp(group, part, part_bytes) == 0 &&
        (group[part_bytes] == '/' || group[part_bytes] == '\0')) {
        below += part_bytes; /* the host's path, where only the container's part is mounted */
    }
    int top_bytes = snprintf(ret_way->folder, sizeof(ret_way->folder), "%s%s", root, point);
    CHECK(top_bytes > 0 && (size_t)top_bytes < sizeof(ret_way->folder) - LINE_BYTES);
    ret_way->top_bytes = (size_t)top_bytes;
    if (strcmp(below, "/") != 0) {
        snprintf(ret_way->folder + top_bytes, sizeof(ret_way->folder) - (size_t)top_bytes, "%s", below);
    }
}

bool cgroup_up(struct cgroup_way *way)
{
    char *slash = strrchr(way->folder + way->top_bytes, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    return true;
}

/* ---- limits ---- */

static bool read_file(const struct cgroup_way *way, const char *name, char text[FACT_TEXT_BYTES])
{
    return fact_text(text, "%s/%s", way->folder, name);
}

static void say_where(const char *root, const struct cgroup_way *way, const char *name, char where[CGROUP_WHERE_BYTES])
{
    snprintf(where, CGROUP_WHERE_BYTES, "%s/%s", way->folder + strlen(root), name);
}

/* "max", junk and 0 are none. */
static void take_bytes(const char *root, const struct cgroup_way *way, const char *name, struct cgroup_memory *tightest)
{
    char text[FACT_TEXT_BYTES];
    uint64_t bytes = read_file(way, name, text) ? strtoull(text, NULL, 10) : 0;
    if (bytes > 0 && (tightest->bytes == 0 || bytes < tightest->bytes)) {
        tightest->bytes = bytes;
        say_where(root, way, name, tightest->where);
    }
}

void cgroup_read_memory(const char *root, struct cgroup_memory *ret_memory)
{
    struct cgroup_way way;
    memset(ret_memory, 0, sizeof(*ret_memory));
    cgroup_enter(root, NULL, &way);
    do {
        take_bytes(root, &way, "memory.max", ret_memory);
        take_bytes(root, &way, "memory.high", ret_memory);
    } while (cgroup_up(&way));
    cgroup_enter(root, "memory", &way);
    do {
        take_bytes(root, &way, "memory.limit_in_bytes", ret_memory);
    } while (cgroup_up(&way));
}

/* From `cpu.max`, such as "150000 100000" or "max 100000"; 0: none. */
static double quota_of(const struct cgroup_way *way)
{
    char text[FACT_TEXT_BYTES];
    unsigned long long quota;
    unsigned long long period;
    bool is_set = read_file(way, "cpu.max", text) && sscanf(text, "%llu %llu", &quota, &period) == 2 && period > 0;
    return is_set ? (double)quota / (double)period : 0;
}

/* The same of version 1, where -1 is none. */
static double quota_of_version_1(const struct cgroup_way *way)
{
    char text[FACT_TEXT_BYTES];
    long long quota = read_file(way, "cpu.cfs_quota_us", text) ? strtoll(text, NULL, 10) : -1;
    long long period = read_file(way, "cpu.cfs_period_us", text) ? strtoll(text, NULL, 10) : 0;
    return quota > 0 && period > 0 ? (double)quota / (double)period : 0;
}

static void take_cpus(const char *root, const struct cgroup_way *way, bool is_version_1, struct cgroup_cpu *tightest)
{
    double cpus = is_version_1 ? quota_of_version_1(way) : quota_of(way);
    if (cpus <= 0 || (tightest->cpus > 0 && cpus >= tightest->cpus)) {
        return;
    }
    char text[FACT_TEXT_BYTES];
    tightest->cpus = cpus;
    tightest->is_counted = false;
    tightest->throttled_ns = 0;
    say_where(root, way, is_version_1 ? "cpu.cfs_quota_us" : "cpu.max", tightest->where);
    if (read_file(way, "cpu.stat", text)) {
        tightest->is_counted = true;
        tightest->throttled_ns =
            is_version_1 ? fact_after(text, "throttled_time ") : fact_after(text, "throttled_usec ") * 1000;
    }
}

void cgroup_read_cpu(const char *root, struct cgroup_cpu *ret_cpu)
{
    struct cgroup_way way;
    memset(ret_cpu, 0, sizeof(*ret_cpu));
    cgroup_enter(root, NULL, &way);
    do {
        take_cpus(root, &way, false, ret_cpu);
    } while (cgroup_up(&way));
    cgroup_enter(root, "cpu", &way);
    do {
        take_cpus(root, &way, true, ret_cpu);
    } while (cgroup_up(&way));
}

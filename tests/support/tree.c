#include "tree.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 1024, MASK_WORDS = 32 };

static void fail(const char *what)
{
    perror(what);
    abort();
}

char *tree_make(void)
{
    char *root = strdup("/tmp/sluice-tree-XXXXXX");
    if (root == NULL || mkdtemp(root) == NULL) {
        fail("tree_make");
    }
    return root;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

void tree_remove(char *root)
{
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(root);
}

void tree_write(const char *root, const char *path, const char *text)
{
    char whole[PATH_BYTES];
    snprintf(whole, sizeof(whole), "%s%s", root, path);
    for (char *at = whole + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(whole, 0700);
        *at = '/';
    }
    FILE *file = fopen(whole, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        fail(whole);
    }
}

/* "00000000,0000000f", as the kernel writes masks. */
struct mask {
    unsigned words[MASK_WORDS];
};

static void mask_set(struct mask *mask, unsigned bit)
{
    mask->words[bit / 32] |= 1U << bit % 32;
}

static void put_mask(const char *root, const char *folder, const char *name, const struct mask *mask)
{
    char path[PATH_BYTES];
    char text[MASK_WORDS * 9 + 2];
    size_t used = 0;
    for (unsigned i = MASK_WORDS; i-- > 0;) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%08x%s", mask->words[i], i == 0 ? "\n" : ",");
    }
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    tree_write(root, path, text);
}

static void put_number(const char *root, const char *folder, const char *name, unsigned number)
{
    char path[PATH_BYTES];
    char text[32];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    snprintf(text, sizeof(text), "%u\n", number);
    tree_write(root, path, text);
}

static void put_cache(const char *root, unsigned cpu, unsigned index, unsigned level, const char *size,
                      const struct mask *shared)
{
    char folder[PATH_BYTES];
    char path[2 * PATH_BYTES];
    snprintf(folder, sizeof(folder), "/sys/devices/system/cpu/cpu%u/cache/index%u", cpu, index);
    put_number(root, folder, "level", level);
    snprintf(path, sizeof(path), "%s/type", folder);
    tree_write(root, path, level == 1 ? "Data\n" : "Unified\n");
    snprintf(path, sizeof(path), "%s/size", folder);
    tree_write(root, path, size);
    put_mask(root, folder, "shared_cpu_map", shared);
}

static unsigned number_of(const struct tree_cpus *cpus, unsigned node, unsigned core, unsigned thread)
{
    return thread * cpus->nodes * cpus->cores + node * cpus->cores + core;
}

static void put_core(const char *root, const struct tree_cpus *cpus, unsigned node, unsigned core,
                     const struct mask *package)
{
    struct mask siblings = {{0}};
    for (unsigned thread = 0; thread < cpus->threads; thread++) {
        mask_set(&siblings, number_of(cpus, node, core, thread));
    }
    for (unsigned thread = 0; thread < cpus->threads; thread++) {
        unsigned cpu = number_of(cpus, node, core, thread);
        char folder[PATH_BYTES];
        snprintf(folder, sizeof(folder), "/sys/devices/system/cpu/cpu%u/topology", cpu);
        put_number(root, folder, "core_id", core);
        put_number(root, folder, "physical_package_id", node);
        put_mask(root, folder, "thread_siblings", &siblings);
        put_mask(root, folder, "core_cpus", &siblings);
        put_mask(root, folder, "core_siblings", package);
        put_mask(root, folder, "package_cpus", package);
        put_cache(root, cpu, 0, 1, "48K\n", &siblings);
        put_cache(root, cpu, 1, 2, "2048K\n", &siblings);
        put_cache(root, cpu, 2, 3, "32768K\n", package);
    }
}

static void put_list(const char *root, const char *path, unsigned last)
{
    char text[32];
    snprintf(text, sizeof(text), last == 0 ? "0\n" : "0-%u\n", last);
    tree_write(root, path, text);
}

void tree_put_cpus(const char *root, const struct tree_cpus *cpus)
{
    unsigned last = cpus->nodes * cpus->cores * cpus->threads - 1;
    put_list(root, "/sys/devices/system/cpu/online", last);
    put_list(root, "/sys/devices/system/cpu/possible", last);
    put_list(root, "/sys/devices/system/cpu/present", last);
    put_list(root, "/sys/devices/system/node/online", cpus->nodes - 1);
    for (unsigned node = 0; node < cpus->nodes; node++) {
        struct mask package = {{0}};
        for (unsigned core = 0; core < cpus->cores; core++) {
            for (unsigned thread = 0; thread < cpus->threads; thread++) {
                mask_set(&package, number_of(cpus, node, core, thread));
            }
        }
        for (unsigned core = 0; core < cpus->cores; core++) {
            put_core(root, cpus, node, core, &package);
        }
        char folder[PATH_BYTES];
        char path[2 * PATH_BYTES];
        snprintf(folder, sizeof(folder), "/sys/devices/system/node/node%u", node);
        put_mask(root, folder, "cpumap", &package);
        snprintf(path, sizeof(path), "%s/meminfo", folder);
        tree_write(root, path, "Node 0 MemTotal: 1048576 kB\n");
    }
    char list[32];
    snprintf(list, sizeof(list), "0-%u", last);
    tree_allow(root, list);
}

void tree_allow(const char *root, const char *list)
{
    char text[256];
    snprintf(text, sizeof(text), "Name:\tsluice\nCpus_allowed:\tff\nCpus_allowed_list:\t%s\nMems_allowed:\t1\n", list);
    tree_write(root, "/proc/self/status", text);
}

void tree_put_memory(const char *root, unsigned long megabytes)
{
    char text[256];
    snprintf(text, sizeof(text), "MemTotal:       %lu kB\nMemFree:        1 kB\nMemAvailable:   %lu kB\n",
             megabytes * 1024, megabytes * 512);
    tree_write(root, "/proc/meminfo", text);
}

void tree_put_nic(const char *root, const char *name, unsigned queues, int speed_mbit, int node)
{
    char folder[256];
    char path[PATH_BYTES];
    char text[32];
    snprintf(folder, sizeof(folder), "/sys/class/net/%s", name);
    for (unsigned i = 0; i < 2 * queues; i++) {
        snprintf(path, sizeof(path), "%s/queues/%s-%u/%s", folder, i % 2 == 0 ? "rx" : "tx", i / 2,
                 i % 2 == 0 ? "rps_cpus" : "xps_cpus");
        tree_write(root, path, "00000000,00000000\n");
    }
    snprintf(path, sizeof(path), "%s/operstate", folder);
    tree_write(root, path, "up\n");
    snprintf(path, sizeof(path), "%s/speed", folder);
    snprintf(text, sizeof(text), "%d\n", speed_mbit);
    tree_write(root, path, text);
    snprintf(path, sizeof(path), "%s/device/numa_node", folder);
    snprintf(text, sizeof(text), "%d\n", node);
    tree_write(root, path, text);
}

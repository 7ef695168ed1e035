#include "usage.h"

#include "bench.h"

#include <dirent.h>

static struct usage_spent process_spent(const char *pid)
{
    struct usage_spent spent = {0, 0};
    char path[96];
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return spent;
    const struct dirent *task;
    while ((task = readdir(tasks)) != NULL) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%s/task/%.16s/schedstat", pid, task->d_name);
        FILE *file = fopen(path, "re");
        unsigned long long cpu_ns, waited_ns;
        if (file == NULL)
            continue;
        if (fscanf(file, "%llu %llu", &cpu_ns, &waited_ns) == 2) {
            spent.cpu_ns += cpu_ns;
            spent.waited_ns += waited_ns;
        }
        fclose(file);
    }
    closedir(tasks);
    return spent;
}

void usage_init(struct usage *usage, const char *pids)
{
    memset(usage, 0, sizeof *usage);
    while (pids != NULL && *pids != '\0' && usage->pid_count < USAGE_PIDS_MAX) {
        char *end;
        usage->pid[usage->pid_count++] = (int)strtol(pids, &end, 10);
        if (end == pids || (*end != ',' && *end != '\0'))
            bench_die("'%s' is no list of process ids", pids);
        pids = *end == ',' ? end + 1 : end;
    }
}

void usage_take(struct usage *usage)
{
    usage->at_ns = bench_now_ns();
    usage->self = process_spent("self");
    for (unsigned i = 0; i < usage->pid_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", usage->pid[i]);
        usage->process[i] = process_spent(name);
    }
}

static void spent_print(const char *name, struct usage_spent begin, struct usage_spent end)
{
    printf("\"%s\":{\"cpu_s\":%.6f,\"waited_s\":%.6f}", name, (double)(end.cpu_ns - begin.cpu_ns) / 1e9,
           (double)(end.waited_ns - begin.waited_ns) / 1e9);
}

void usage_print(const struct usage *begin, const struct usage *end)
{
    printf("\"elapsed_s\":%.6f,", (double)(end->at_ns - begin->at_ns) / 1e9);
    spent_print("load", begin->self, end->self);
    printf(",\"watched\":{");
    for (unsigned i = 0; i < end->pid_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", end->pid[i]);
        if (i > 0)
            printf(",");
        spent_print(name, begin->process[i], end->process[i]);
    }
    printf("}");
}

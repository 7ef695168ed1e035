/* Limits that change under a running server, on a made-up machine. */
#include "server/machine_watch.h"

#include <string.h>

#include "config_test.h"
#include "tree.h"

#define MB (UINT64_C(1) << 20)

static char *root;
static struct config *config;
static struct machine machine;
static struct machine_plan running;
static struct machine_watch watch;
static char said[4096]; /* every sentence, with its severity, a line each */

static void set_up(void)
{
    root = tree_make();
    config = parse_right(LISTENERS ROUTES);
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 8, .threads = 1});
    tree_put_memory(root, 8192);
    tree_write(root, "/proc/self/cgroup", "0::/a\n");
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
    tree_write(root, "/sys/fs/cgroup/a/memory.max", "1073741824\n");
    machine_read(root, &machine);
    machine_plan_make(&machine, config, &running);
    machine_watch_init(&watch, &machine, &running);
}

static void tear_down(void)
{
    config_destroy(config);
    tree_remove(root);
}

TestSuite(machine_watch, .init = set_up, .fini = tear_down);

static void note(enum machine_severity severity, const char *text, void *context)
{
    cr_expect_eq(context, &watch);
    size_t used = strlen(said);
    snprintf(said + used, sizeof(said) - used, "%s: %s\n", machine_severity_name(severity), text);
}

/* A look; whether there was something to follow. */
static bool look(void)
{
    struct machine_limits limits;
    said[0] = '\0';
    machine_limits_read(root, &limits);
    if (!machine_watch_sees(&watch, &limits)) {
        return false;
    }
    machine_watch_follow(&watch, root, config, note, &watch);
    return true;
}

static bool says(const char *part)
{
    return strstr(said, part) != NULL;
}

Test(machine_watch, nothing_changed_is_nothing_said)
{
    cr_expect_eq(running.workers, 4);
    cr_expect(!look());
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "200000 50000\n");
    cr_expect(!look(), "the same quota in other words");
}

Test(machine_watch, a_smaller_quota_asks_for_a_restart_and_a_return_takes_it_back)
{
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    cr_expect(look());
    cr_expect(says("note: the CPU quota has changed: 2.5 CPUs instead of 4 CPUs"), "%s", said);
    cr_expect(says("warning: 4 workers run, and 2 would be right now (the quota of 2.5 CPUs"), "%s", said);
    cr_expect(says("remedy: restart"), "%s", said);
    cr_expect(!look(), "it is said once");
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "220000 100000\n");
    cr_expect(look());
    cr_expect(!says("would be right"), "that was said already: %s", said);
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
    cr_expect(look());
    cr_expect(says("note: 4 workers run, which is right again"), "%s", said);
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    cr_expect(look());
    cr_expect(says("none instead of 4 CPUs"), "%s", said);
    cr_expect(says("4 workers run, and 8 would be right now"), "%s", said);
}

Test(machine_watch, a_new_warning_is_told_once)
{
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    cr_expect(look());
    cr_expect(says("warning: cpu quota: 0.5 CPUs"), "%s", said);
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "25000 100000\n");
    cr_expect(look());
    cr_expect(!says("warning: cpu quota"), "%s", said);
}

Test(machine_watch, the_cache_follows_memory_down_and_up_to_what_it_was_made_for)
{
    cr_expect_eq(watch.cache_bytes, 1024 * MB / 100 * 25);
    tree_write(root, "/sys/fs/cgroup/a/memory.max", "536870912\n");
    cr_expect(look());
    cr_expect_eq(watch.cache_bytes, 512 * MB / 100 * 25);
    cr_expect(says("note: the memory that may be used has changed: 512 MB instead of 1 GB"), "%s", said);
    cr_expect(says("note: the cache may be 128 MB now, instead of 256 MB"), "%s", said);
    tree_write(root, "/sys/fs/cgroup/a/memory.max", "4294967296\n");
    cr_expect(look());
    cr_expect_eq(watch.cache_bytes, 1024 * MB / 100 * 25);
    cr_expect(says("the cache could be 1024 MB and was made for 256 MB; remedy: restart"), "%s", said);
}

Test(machine_watch, memory_that_is_not_known_any_more_changes_nothing)
{
    tree_write(root, "/sys/fs/cgroup/a/memory.max", "junk\n");
    tree_write(root, "/proc/meminfo", "");
    cr_expect(!look());
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    cr_expect(look());
    cr_expect(!says("memory"), "%s", said);
    cr_expect_eq(watch.cache_bytes, 1024 * MB / 100 * 25);
}

Test(machine_watch, a_cpuset_that_shrinks_is_seen)
{
    tree_allow(root, "0-1");
    cr_expect(look());
    cr_expect(says("note: the CPUs that may be used have changed: 2 instead of 8"), "%s", said);
    cr_expect(says("4 workers run, and 2 would be right now"), "%s", said);
    cr_expect_eq(watch.machine.topology.cpu_count, 2);
}

Test(machine_watch, of_configured_workers_nothing_is_asked)
{
    struct config *set = parse_right(LISTENERS ROUTES "workers: 4\n");
    machine_plan_make(&machine, set, &running);
    machine_watch_init(&watch, &machine, &running);
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", "200000 100000\n");
    struct machine_limits limits;
    machine_limits_read(root, &limits);
    cr_expect(machine_watch_sees(&watch, &limits));
    said[0] = '\0';
    machine_watch_follow(&watch, root, set, note, &watch);
    cr_expect(!says("would be right"), "%s", said);
    cr_expect(says("warning: workers: 4 are set under a quota of 2 CPUs"), "%s", said);
    config_destroy(set);
}

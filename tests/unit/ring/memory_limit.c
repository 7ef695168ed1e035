/* How much memory there is, as a made-up /proc and /sys say. */
#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "ring/topology.h"

#define MB (UINT64_C(1) << 20)

static char root[] = "/tmp/sluice-limits-XXXXXX";

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(root));
}

static void tear_down(void)
{
    nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(memory_limit, .init = set_up, .fini = tear_down);

/* Makes the file with its folders. */
static void write_file(const char *path, const char *text)
{
    char whole[512];
    snprintf(whole, sizeof(whole), "%s%s", root, path);
    for (char *at = whole + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(whole, 0700);
        *at = '/';
    }
    FILE *file = fopen(whole, "we");
    cr_assert_not_null(file, "%s", whole);
    fputs(text, file);
    fclose(file);
}

Test(memory_limit, without_a_limit_it_is_the_machines)
{
    write_file("/proc/meminfo", "MemTotal:        1048576 kB\nMemFree: 1 kB\n");
    cr_expect_eq(ring_memory_bytes(root), 1024 * MB, "no cgroups at all");
    write_file("/proc/self/cgroup", "0::/\n");
    write_file("/sys/fs/cgroup/memory.max", "max\n");
    cr_expect_eq(ring_memory_bytes(root), 1024 * MB);
}

Test(memory_limit, the_tightest_on_the_way_to_the_root_counts)
{
    write_file("/proc/meminfo", "MemTotal: 1048576 kB\n");
    write_file("/proc/self/cgroup", "0::/a.slice/b.service\n");
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
    write_file("/sys/fs/cgroup/a.slice/memory.max", "314572800\n");
    cr_expect_eq(ring_memory_bytes(root), 300 * MB);
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.max", "209715200\n");
    cr_expect_eq(ring_memory_bytes(root), 200 * MB);
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.high", "104857600\n");
    cr_expect_eq(ring_memory_bytes(root), 100 * MB, "beyond that it is slowed down");
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.max", "junk");
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.high", "");
    cr_expect_eq(ring_memory_bytes(root), 300 * MB);
}

Test(memory_limit, a_limit_above_the_machine_does_not_count)
{
    write_file("/proc/meminfo", "MemTotal: 1048576 kB\n");
    write_file("/proc/self/cgroup", "0::/\n");
    write_file("/sys/fs/cgroup/memory.max", "9223372036854771712\n");
    cr_expect_eq(ring_memory_bytes(root), 1024 * MB);
}

Test(memory_limit, the_first_version_of_cgroups_is_heeded)
{
    write_file("/proc/meminfo", "MemTotal: 1048576 kB\n");
    write_file("/proc/self/cgroup", "12:pids:/x\n4:cpu,memory:/docker/0123\n1:name=memory:/y\n0::/\n");
    write_file("/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "9223372036854771712\n");
    cr_expect_eq(ring_memory_bytes(root), 1024 * MB);
    write_file("/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "268435456\n");
    cr_expect_eq(ring_memory_bytes(root), 256 * MB);
}

Test(memory_limit, a_container_that_sees_the_hosts_path_finds_its_own_limit)
{
    write_file("/proc/meminfo", "MemTotal: 1048576 kB\n");
    write_file("/proc/self/cgroup", "4:memory:/docker/0123\n");
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n");
    cr_expect_eq(ring_memory_bytes(root), 128 * MB);
}

Test(memory_limit, nothing_said_is_nothing)
{
    cr_expect_eq(ring_memory_bytes(root), 0);
    write_file("/proc/meminfo", "");
    write_file("/proc/self/cgroup", "4\nmemory\n:\n::\n0:\n");
    cr_expect_eq(ring_memory_bytes(root), 0);
}

/* What the process uses, as a made-up /proc and /sys say, and as the real ones do. */
#include "ring/usage.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MB (UINT64_C(1) << 20)

static char root[] = "/tmp/sluice-usage-XXXXXX";
static struct ring_usage usage;

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

TestSuite(usage, .init = set_up, .fini = tear_down);

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

Test(usage, without_any_file_nothing_is_known)
{
    ring_usage_read(root, &usage);
    cr_assert_eq(usage.memory_max_bytes, 0);
    cr_assert_lt(usage.memory_short, 0);
    cr_assert_eq(usage.resident_bytes, 0);
    cr_assert_eq(usage.threads, 0);
    cr_assert_eq(usage.descriptors, 0);
    cr_assert_lt(usage.memory_stall, 0);
    nanos ran;
    nanos waited;
    cr_assert(!ring_usage_of_thread(root, 1, &ran, &waited));
}

Test(usage, of_memory_is_the_machines_without_groups)
{
    write_file("/proc/meminfo", "MemTotal:        1048576 kB\nMemFree: 1 kB\nMemAvailable:     262144 kB\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 1024 * MB);
    cr_expect_eq(usage.memory_used_bytes, 768 * MB);
}

Test(usage, of_memory_is_not_guessed)
{
    write_file("/proc/meminfo", "MemTotal:        1048576 kB\nMemFree: 1 kB\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 0);
    cr_expect_eq(usage.memory_used_bytes, 0);
}

Test(usage, of_memory_is_of_the_group_nearest_to_its_limit)
{
    write_file("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 1000000 kB\n");
    write_file("/proc/self/cgroup", "0::/a.slice/b.service\n");
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.max", "104857600\n");
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.current", "52428800\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 100 * MB);
    cr_expect_eq(usage.memory_used_bytes, 50 * MB);
    write_file("/sys/fs/cgroup/a.slice/memory.max", "209715200\n");
    write_file("/sys/fs/cgroup/a.slice/memory.current", "188743680\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 200 * MB, "the slice is at 90 %%, the service at half of its own");
    cr_expect_eq(usage.memory_used_bytes, 180 * MB);
    write_file("/sys/fs/cgroup/a.slice/b.service/memory.high", "53477376\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 51 * MB, "beyond that it is slowed down");
}

Test(usage, of_memory_leaves_out_what_can_be_taken_back)
{
    write_file("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 1048576 kB\n");
    write_file("/proc/self/cgroup", "0::/\n");
    write_file("/sys/fs/cgroup/memory.max", "104857600\n");
    write_file("/sys/fs/cgroup/memory.current", "104857600\n");
    write_file("/sys/fs/cgroup/memory.stat", "anon 1\nfile 83886080\ninactive_anon 5\ninactive_file 73400320\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_used_bytes, 30 * MB);
    write_file("/sys/fs/cgroup/memory.stat", "anon 1\nfile 83886080\nslab_reclaimable 2097152\ninactive_file 52428800\n"
                                             "active_file 20971520\nfile_dirty 1048576\nfile_writeback 1048576\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_used_bytes, 30 * MB, "70 MB of files and 2 MB of the kernel's, less 2 MB to be written");
    cr_expect(fabs(usage.memory_short - 0.3) < 1e-9);
    write_file("/sys/fs/cgroup/memory.stat", "inactive_file 1048576\nfile_dirty 4194304\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_used_bytes, 100 * MB);
    cr_expect(fabs(usage.memory_short - 1) < 1e-9);
}

Test(usage, of_a_large_memory_the_last_gigabytes_count)
{
    write_file("/proc/meminfo", "MemTotal: 268435456 kB\nMemAvailable: 12582912 kB\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 256 * 1024 * MB);
    cr_expect_eq(usage.memory_short, 0, "95 %% is used, and 12 GB are left");
    write_file("/proc/meminfo", "MemTotal: 268435456 kB\nMemAvailable: 419430 kB\n");
    ring_usage_read(root, &usage);
    cr_expect(fabs(usage.memory_short - 0.95) < 0.001, "%g", usage.memory_short);
    write_file("/proc/self/cgroup", "0::/\n");
    write_file("/sys/fs/cgroup/memory.max", "1073741824\n");
    write_file("/sys/fs/cgroup/memory.current", "1052266988\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 1024 * MB, "98 %% of a small one");
    write_file("/proc/meminfo", "MemTotal: 268435456 kB\nMemAvailable: 250000000 kB\n");
    write_file("/sys/fs/cgroup/memory.max", "68719476736\n");
    write_file("/sys/fs/cgroup/memory.current", "34359738368\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 64 * 1024 * MB, "neither is short: the one with the larger share");
}

Test(usage, of_memory_heeds_the_first_version_of_groups)
{
    write_file("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 1048576 kB\n");
    write_file("/proc/self/cgroup", "12:pids:/x\n4:cpu,memory:/docker/0123\n0::/\n");
    write_file("/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "9223372036854771712\n");
    write_file("/sys/fs/cgroup/memory/docker/0123/memory.usage_in_bytes", "52428800\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 1024 * MB, "a limit beyond the machine is none");
    write_file("/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "104857600\n");
    write_file("/sys/fs/cgroup/memory/docker/0123/memory.stat", "inactive_file 1\ntotal_inactive_file 10485760\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.memory_max_bytes, 100 * MB);
    cr_expect_eq(usage.memory_used_bytes, 40 * MB);
}

Test(usage, of_the_stall_is_the_groups_before_the_machines)
{
    write_file("/proc/pressure/memory", "some avg10=12.50 avg60=0.00 avg300=0.00 total=0\nfull avg10=1.00\n");
    ring_usage_read(root, &usage);
    cr_expect(fabs(usage.memory_stall - 0.125) < 1e-9);
    write_file("/proc/self/cgroup", "0::/a\n");
    write_file("/sys/fs/cgroup/a/memory.pressure", "some avg10=50.00 avg60=0.00 avg300=0.00 total=0\n");
    ring_usage_read(root, &usage);
    cr_expect(fabs(usage.memory_stall - 0.5) < 1e-9);
    write_file("/sys/fs/cgroup/a/memory.pressure", "junk\n");
    ring_usage_read(root, &usage);
    cr_expect_lt(usage.memory_stall, 0);
}

Test(usage, of_the_process_is_read_whatever_its_name)
{
    write_file("/proc/self/stat", "7 (a) b (c)) S 1 1 1 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 5 0 3442191 3133440 360\n");
    write_file("/proc/self/statm", "765 438 410 5 0 123 0\n");
    write_file("/proc/self/fd/0", "");
    write_file("/proc/self/fd/17", "");
    write_file("/proc/self/task/42/schedstat", "1234 59770 1\n");
    ring_usage_read(root, &usage);
    cr_expect_eq(usage.threads, 5);
    cr_expect_eq(usage.resident_bytes, 438 * (uint64_t)sysconf(_SC_PAGESIZE));
    cr_expect_eq(usage.descriptors, 2);
    nanos ran;
    nanos waited;
    cr_assert(ring_usage_of_thread(root, 42, &ran, &waited));
    cr_expect_eq(ran, 1234);
    cr_expect_eq(waited, 59770);
    cr_expect(!ring_usage_of_thread(root, 43, &ran, &waited));
}

Test(usage, of_this_process_is_there)
{
    ring_usage_read("", &usage);
    uint64_t descriptors = usage.descriptors;
    cr_assert_gt(usage.resident_bytes, MB / 4);
    cr_assert_geq(usage.threads, 1);
    cr_assert_geq(descriptors, 1);
    cr_assert(usage.memory_max_bytes > 16 * MB && usage.memory_used_bytes <= usage.memory_max_bytes);
    FILE *one = fopen("/dev/null", "re");
    nanos before_ns = usage.cpu_ns;
    ring_usage_read("", &usage);
    fclose(one);
    cr_assert_eq(usage.descriptors, descriptors + 1);
    cr_assert_gt(usage.cpu_ns, before_ns);
}

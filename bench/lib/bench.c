#include "bench.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

void bench_options_parse(int argc, char **argv, const struct bench_option *table)
{
    for (int i = 1; i < argc; i += 2) {
        const struct bench_option *option = table;
        while (option->name != NULL && strcmp(option->name, argv[i]) != 0)
            option++;
        if (option->name == NULL || i + 1 == argc) {
            fprintf(stderr, "usage: %s [--option value]...\n", program_invocation_short_name);
            for (option = table; option->name != NULL; option++)
                fprintf(stderr, "  %-16s %s\n", option->name, option->help);
            exit(strcmp(argv[i], "--help") == 0 ? 0 : 2);
        }
        if (option->text != NULL) {
            *option->text = argv[i + 1];
            continue;
        }
        char *end;
        *option->number = strtol(argv[i + 1], &end, 10);
        if (*end != '\0' || end == argv[i + 1] || *option->number < 0)
            bench_die("%s wants a number, not '%s'", argv[i], argv[i + 1]);
    }
}

void bench_pin(long cpu)
{
    if (cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        bench_die("cannot run on core %ld: %s", cpu, strerror(errno));
}

void bench_descriptors_raise(void)
{
    struct rlimit limit = {BENCH_FD_MAX, BENCH_FD_MAX};
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < BENCH_FD_MAX ? limit.rlim_max : BENCH_FD_MAX;
    setrlimit(RLIMIT_NOFILE, &limit);
}

void bench_ring_init(struct bench_ring *ring)
{
    struct io_uring_params params = {
        .flags =
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = BENCH_CQ_ENTRIES,
    };
    int result = io_uring_queue_init_params(BENCH_SQ_ENTRIES, &ring->uring, &params);
    if (result < 0)
        bench_die("io_uring_setup: %s (Linux 6.1 or later is needed)", strerror(-result));
    io_uring_register_ring_fd(&ring->uring);
    ring->enters = 0;
}

void bench_pool_init(struct bench_pool *pool, struct bench_ring *ring, unsigned count, unsigned size_bytes)
{
    int result;
    pool->count = count;
    pool->size_bytes = size_bytes;
    pool->memory = aligned_alloc(4096, (size_t)count * size_bytes);
    pool->ring = io_uring_setup_buf_ring(&ring->uring, count, 0, 0, &result);
    if (pool->memory == NULL || pool->ring == NULL)
        bench_die("cannot set up %u receive buffers of %u bytes", count, size_bytes);
    for (unsigned id = 0; id < count; id++)
        bench_pool_release(pool, id);
}

int bench_socket_of(int family)
{
    int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || fd >= BENCH_FD_MAX)
        bench_die("cannot open another socket: %s", fd < 0 ? strerror(errno) : "descriptor table full");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int bench_listen(long port)
{
    int one = 1, fd = bench_socket();
    struct sockaddr_in address = bench_loopback(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BENCH_LISTEN_BACKLOG) != 0)
        bench_die("cannot listen on 127.0.0.1:%ld: %s", port, strerror(errno));
    return fd;
}

int bench_signals(struct bench_ring *ring, uint64_t tag)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    struct io_uring_sqe *sqe = bench_sqe(ring);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    io_uring_sqe_set_data64(sqe, tag);
    return fd;
}

bool bench_signals_read(int fd)
{
    struct signalfd_siginfo info;
    bool end = false;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info)
        end |= info.ssi_signo != SIGUSR1;
    return end;
}

void bench_report(struct bench_ring *ring, int signals, const char *name, uint64_t count)
{
    bool end = bench_signals_read(signals);
    printf("{\"enters\":%llu,\"%s\":%llu}\n", (unsigned long long)ring->enters, name, (unsigned long long)count);
    fflush(stdout);
    if (end)
        exit(0);
}

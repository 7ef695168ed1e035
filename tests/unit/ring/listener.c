#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"
#include "peer.h"
#include "ring/stream.h"

static struct ring *ring;
static struct ring_listener listener;
static unsigned accepted;
static bool is_stopped;
static bool is_inside_stop;

static void on_accepted(struct ring_listener *from, int fd)
{
    cr_assert_eq(from, &listener);
    cr_assert_not(is_inside_stop);
    accepted++;
    ring_refuse(fd);
}

static void on_stopped(struct ring_listener *from)
{
    cr_assert_eq(from, &listener);
    cr_assert_not(is_inside_stop, "the end is told from the loop");
    is_stopped = true;
}

static struct ring_address address_of(const char *text)
{
    struct ring_address address;
    cr_assert_eq(ring_address_parse(bytes_from(text), &address), RESULT_OK);
    return address;
}

static int open_at(const struct ring_address *address, bool share)
{
    int fd = -1;
    cr_assert_eq(ring_listen_open(address, share, &fd), RESULT_OK);
    return fd;
}

static int connect_to(const struct ring_address *address)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, &address->any, address->bytes), 0);
    return fd;
}

static void stop(void)
{
    is_inside_stop = true;
    ring_listener_stop(&listener);
    ring_listener_stop(&listener);
    is_inside_stop = false;
}

Test(listener, accepts_until_it_is_stopped_and_then_what_was_queued)
{
    ring = loop_create(NULL);
    struct ring_address any = address_of("127.0.0.1:0");
    int fd = open_at(&any, true);
    struct ring_address address = ring_listen_address(fd);
    cr_assert_neq(ntohs(address.v4.sin_port), 0);
    int clients[20];
    for (int i = 0; i < 5; i++) {
        clients[i] = connect_to(&address); /* before anybody accepts */
    }
    listener.stopped = on_stopped;
    ring_listener_start(ring, &listener, fd, on_accepted);
    for (int i = 5; i < 10; i++) {
        clients[i] = connect_to(&address);
    }
    cr_assert(loop_until_count(ring, &accepted, 10));
    for (int i = 10; i < 20; i++) {
        clients[i] = connect_to(&address);
    }
    stop();
    cr_assert(loop_until_true(ring, &is_stopped));
    cr_assert_eq(accepted, 20, "whoever was connected has been accepted");
    int late = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_neq(connect(late, &address.any, address.bytes), 0);
    cr_assert_eq(errno, ECONNREFUSED);
    close(late);
    for (int i = 0; i < 20; i++) {
        close(clients[i]);
    }
    cr_assert_eq(ring_counters(ring)->streams, 0);
    ring_destroy(ring);
}

Test(listener, a_full_descriptor_table_pauses_it_and_it_goes_on_by_itself)
{
    ring = loop_create(NULL);
    struct ring_address any = address_of("127.0.0.1:0");
    int fd = open_at(&any, false);
    struct ring_address address = ring_listen_address(fd);
    listener.stopped = on_stopped;
    ring_listener_start(ring, &listener, fd, on_accepted);
    int client = connect_to(&address);
    int other = connect_to(&address);
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    int lowest = dup(client); /* every descriptor from here on is one too many */
    close(lowest);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max});
    loop_for_ms(ring, 30);
    cr_assert_eq(accepted, 0);
    cr_assert(listener.paused);
    cr_assert_gt(ring_counters(ring)->accept_failures, 0);
    setrlimit(RLIMIT_NOFILE, &before);
    cr_assert(loop_until_count(ring, &accepted, 2));
    cr_assert_not(listener.paused);

    setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max});
    shutdown(client, SHUT_RDWR);
    int third = -1;
    setrlimit(RLIMIT_NOFILE, &before);
    third = connect_to(&address);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max});
    loop_for_ms(ring, 30);
    stop(); /* most likely while it is paused */
    setrlimit(RLIMIT_NOFILE, &before);
    cr_assert(loop_until_true(ring, &is_stopped));
    close(third);
    close(client);
    close(other);
    ring_destroy(ring);
}

Test(listener, the_probe_refuses_an_address_in_use_even_where_ports_are_shared)
{
    struct ring_address any = address_of("127.0.0.1:0");
    int fd = open_at(&any, true);
    struct ring_address address = ring_listen_address(fd);
    int second = open_at(&address, true);
    cr_assert_eq(ring_listen_probe(&address), RESULT_REFUSED);
    close(second);
    cr_assert_eq(ring_listen_probe(&address), RESULT_REFUSED);
    close(fd);
    cr_assert_eq(ring_listen_probe(&address), RESULT_OK);
    cr_assert_eq(ring_listen_probe(&address), RESULT_OK, "probing leaves nothing behind");
    struct ring_address elsewhere = address_of("192.0.2.1:0");
    cr_assert_eq(ring_listen_probe(&elsewhere), RESULT_UNREACHABLE);
}

Test(listener, a_unix_socket_replaces_a_stale_file_but_no_living_one_and_no_other_file)
{
    char folder[] = "/tmp/listener-test-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    char text[100];
    snprintf(text, sizeof(text), "unix:%s/socket", folder);
    struct ring_address address = address_of(text);
    int fd = open_at(&address, true);
    cr_assert_eq(ring_listen_probe(&address), RESULT_REFUSED, "somebody listens");
    int same;
    cr_assert_eq(ring_listen_share(fd, &same), RESULT_OK, "the other workers get a duplicate");
    cr_assert_neq(same, fd);
    int client = connect_to(&address);
    close(client);
    close(same);
    close(fd); /* the file stays, as after a crash */
    cr_assert_eq(access(address.un.sun_path, F_OK), 0);
    cr_assert_eq(ring_listen_probe(&address), RESULT_OK);
    fd = open_at(&address, true);
    close(fd);
    fd = open_at(&address, true);
    close(fd);
    ring_listen_remove(&address);
    cr_assert_neq(access(address.un.sun_path, F_OK), 0);
    int file = open(address.un.sun_path, O_CREAT | O_WRONLY, 0600);
    cr_assert_geq(file, 0);
    cr_assert_eq(ring_listen_probe(&address), RESULT_REFUSED, "a file that is no socket is not ours to remove");
    cr_assert_eq(access(address.un.sun_path, F_OK), 0);
    close(file);
    unlink(address.un.sun_path);
    rmdir(folder);
}

/* ---- connecting ---- */

Test(connecting, reaches_a_listener_and_sends_both_ways)
{
    ring = loop_create(NULL);
    struct ring_address any = address_of("[::1]:0");
    int fd = -1;
    if (ring_listen_open(&any, false, &fd) != RESULT_OK) {
        any = address_of("127.0.0.1:0");
        fd = open_at(&any, false);
    }
    struct ring_address address = ring_listen_address(fd);
    static struct peer peer;
    cr_assert_eq(ring_stream_connect(ring, &peer.stream, &peer_events, &address), RESULT_OK);
    struct ring_address to_check = address;
    memset(&address, 0, sizeof(address)); /* it is borrowed for the call only */
    cr_assert(loop_until_true(ring, &peer.is_connected));
    cr_assert_eq(peer.connect_result, RESULT_OK);
    struct ring_address other = ring_stream_peer(&peer.stream);
    cr_assert(ring_address_equal(&other, &to_check));
    int raw = accept(fd, NULL, NULL);
    ring_stream_receive(&peer.stream);
    cr_assert_eq(write(raw, "hello", 5), 5);
    cr_assert(loop_until_count(ring, &peer.used, 5));
    peer_close(&peer);
    close(raw);
    close(fd);
    ring_destroy(ring);
}

Test(connecting, says_why_it_failed)
{
    ring = loop_create(NULL);
    unsigned before = loop_open_descriptors();
    struct ring_address any = address_of("127.0.0.1:0");
    int fd = open_at(&any, false);
    struct ring_address nobody = ring_listen_address(fd);
    close(fd);
    struct ring_address no_file = address_of("unix:/no/such/socket");
    static struct peer peers[2];
    cr_assert_eq(ring_stream_connect(ring, &peers[0].stream, &peer_events, &nobody), RESULT_OK);
    cr_assert_eq(ring_stream_connect(ring, &peers[1].stream, &peer_events, &no_file), RESULT_OK);
    cr_assert(loop_until_true(ring, &peers[0].is_connected) && loop_until_true(ring, &peers[1].is_connected));
    cr_assert_eq(peers[0].connect_result, RESULT_REFUSED);
    cr_assert_eq(peers[1].connect_result, RESULT_UNREACHABLE);
    peer_close(&peers[0]);
    peer_close(&peers[1]);
    loop_for_ms(ring, 2);
    cr_assert_eq(loop_open_descriptors(), before);
    ring_destroy(ring);
}

Test(connecting, can_be_given_up_while_nobody_answers)
{
    ring = loop_create(NULL);
    struct ring_address any = address_of("127.0.0.1:0");
    int fd = open_at(&any, false);
    struct ring_address address = ring_listen_address(fd);
    listen(fd, 0); /* the queue is full after one or two: further handshakes hang */
    static struct peer peers[8];
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(ring_stream_connect(ring, &peers[i].stream, &peer_events, &address), RESULT_OK);
    }
    loop_for_ms(ring, 20);
    cr_assert_not(peers[7].is_connected);
    for (int i = 0; i < 8; i++) {
        bool was_connected = peers[i].is_connected;
        peer_close(&peers[i]);
        cr_assert_eq(peers[i].is_connected, was_connected, "no event after close");
    }
    close(fd);
    ring_destroy(ring);
}

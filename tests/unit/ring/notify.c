#include "ring/notify.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A manager's socket; an abstract name begins with '@'. */
static int listen_as(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, strlen(name));
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    cr_assert_eq(bind(fd, (const struct sockaddr *)&address, bytes), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static void expect_told(int fd, const char *expected)
{
    char text[200];
    ssize_t bytes = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    cr_assert_geq(bytes, 0);
    text[bytes] = '\0';
    cr_expect_str_eq(text, expected);
}

Test(notify, each_message_is_one_datagram_to_a_path_or_an_abstract_name)
{
    char folder[] = "/tmp/notify-test-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    char names[2][64];
    snprintf(names[0], sizeof(names[0]), "%s/socket", folder);
    snprintf(names[1], sizeof(names[1]), "@notify-test-%d", (int)getpid());
    for (int i = 0; i < 2; i++) {
        int fd = listen_as(names[i]);
        struct ring_notify notify;
        ring_notify_open(&notify);
        cr_assert(ring_notify_send(&notify, "READY=1\nSTATUS=serving"));
        cr_assert(ring_notify_send(&notify, "WATCHDOG=1"));
        expect_told(fd, "READY=1\nSTATUS=serving");
        expect_told(fd, "WATCHDOG=1");
        close(fd);
        cr_assert_not(ring_notify_send(&notify, "STOPPING=1"), "nobody is there any more");
        ring_notify_close(&notify);
        cr_assert_not(ring_notify_send(&notify, "STOPPING=1"), "it is closed");
    }
    unlink(names[0]);
    rmdir(folder);
}

Test(notify, without_a_manager_nothing_is_sent)
{
    static const char *const none[] = {NULL, "", "@", "/", "relative/path", "vsock:2:1"};
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        if (none[i] == NULL) {
            unsetenv("NOTIFY_SOCKET");
        } else {
            setenv("NOTIFY_SOCKET", none[i], 1);
        }
        struct ring_notify notify;
        ring_notify_open(&notify);
        cr_expect_eq(notify.fd, -1);
        cr_expect_not(ring_notify_send(&notify, "READY=1"));
        ring_notify_close(&notify);
    }
}

Test(notify, the_watchdog_is_for_the_process_it_names)
{
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
    cr_expect_eq(ring_notify_watchdog_ns(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    cr_expect_eq(ring_notify_watchdog_ns(), 30 * NANOS_PER_S);
    setenv("WATCHDOG_PID", "1", 1);
    cr_expect_eq(ring_notify_watchdog_ns(), 0);
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    cr_expect_eq(ring_notify_watchdog_ns(), 30 * NANOS_PER_S);
    setenv("WATCHDOG_USEC", "18446744073709551615", 1);
    cr_expect_eq(ring_notify_watchdog_ns(), 0, "longer than there are nanoseconds: for ever");
    setenv("WATCHDOG_USEC", "soon", 1);
    cr_expect_eq(ring_notify_watchdog_ns(), 0);
}

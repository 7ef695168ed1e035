#include "ring/passed.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ring/stream.h"

enum { FIRST = 300 }; /* where the tests put what is passed: the lower descriptors are the test program's own */

static void say(const char *pid, const char *count, const char *names)
{
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", count, 1);
    if (names != NULL) {
        setenv("LISTEN_FDNAMES", names, 1);
    } else {
        unsetenv("LISTEN_FDNAMES");
    }
}

static void say_own(const char *count, const char *names)
{
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    say(pid, count, names);
}

static struct ring_address address_of(const char *text)
{
    struct ring_address address;
    cr_assert_eq(ring_address_parse(bytes_from(text), &address), RESULT_OK);
    return address;
}

/* Listens at `text`, as a manager does, and puts the socket where it is to be. */
static void pass(const char *text, int place)
{
    struct ring_address address = address_of(text);
    int fd;
    cr_assert_eq(ring_listen_open(&address, false, &fd), RESULT_OK);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    cr_assert_eq(dup2(fd, FIRST + place), FIRST + place);
    close(fd);
}

Test(passed, nothing_is_taken_without_the_variables_or_with_those_of_another_process)
{
    struct ring_passed passed;
    char why[RING_PASSED_WHY_BYTES];
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_OK);
    cr_assert_eq(passed.count, 0);
    say("1", "3", NULL); /* not even looked at: none of them is open */
    cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_OK);
    cr_assert_eq(passed.count, 0);
    ring_passed_fini(&passed);
}

Test(passed, sockets_come_with_their_names_and_addresses_blocking_and_closed_on_exec)
{
    pass("127.0.0.1:0", 0);
    pass("[::1]:0", 1);
    pass("127.0.0.1:0", 2);
    say_own("3", "web:admin"); /* one name too few */
    struct ring_passed passed;
    char why[RING_PASSED_WHY_BYTES];
    cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_OK);
    cr_assert_eq(passed.count, 3);
    cr_assert_str_eq(passed.sockets[0].name, "web");
    cr_assert_str_eq(passed.sockets[1].name, "admin");
    cr_assert_str_eq(passed.sockets[2].name, "");
    for (int i = 0; i < 3; i++) {
        int fd = passed.sockets[i].fd;
        cr_assert_eq(fd, FIRST + i);
        cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0, "the ring's accept is to wait");
        cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        struct ring_address address = ring_listen_address(fd);
        cr_assert(ring_passed_is_at(&passed.sockets[i], &address));
        cr_assert_not(ring_passed_is_at(&passed.sockets[i], &passed.sockets[(i + 1) % 3].address));
    }
    ring_passed_fini(&passed);
    cr_assert_null(passed.sockets);
}

Test(passed, a_name_that_is_too_long_counts_as_none_and_the_next_is_read)
{
    pass("127.0.0.1:0", 0);
    pass("127.0.0.1:0", 1);
    char names[RING_PASSED_NAME_BYTES + 10];
    memset(names, 'a', RING_PASSED_NAME_BYTES);
    strcpy(names + RING_PASSED_NAME_BYTES, ":web");
    say_own("2", names);
    struct ring_passed passed;
    char why[RING_PASSED_WHY_BYTES];
    cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_OK);
    cr_assert_str_eq(passed.sockets[0].name, "");
    cr_assert_str_eq(passed.sockets[1].name, "web");
    ring_passed_fini(&passed);
}

Test(passed, one_that_is_missing_or_no_listening_socket_is_named)
{
    struct ring_passed passed;
    char why[RING_PASSED_WHY_BYTES];
    pass("127.0.0.1:0", 0);
    say_own("2", NULL);
    cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_CONFIG);
    cr_assert_str_eq(why, "descriptor 301, passed by the service manager, is not open");
    cr_assert_null(passed.sockets);
    dup2(socket(AF_INET, SOCK_STREAM, 0), FIRST + 1);
    cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_CONFIG);
    cr_assert_not_null(strstr(why, "not a listening socket"));
    dup2(socket(AF_INET, SOCK_DGRAM, 0), FIRST + 1);
    cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_CONFIG);
    cr_assert_not_null(strstr(why, "not a stream socket"));
}

Test(passed, counts_that_cannot_be_are_refused)
{
    static const char *const counts[] = {"0", "", "-1", "129", "1x", "99999999999999999999"};
    struct ring_passed passed;
    char why[RING_PASSED_WHY_BYTES];
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        say_own(counts[i], NULL);
        cr_assert_eq(ring_passed_take(FIRST, &passed, why), RESULT_CONFIG, "%s", counts[i]);
    }
}

Test(passed, addresses_are_told_apart)
{
    struct ring_passed_socket socket = {.address = address_of("127.0.0.1:80")};
    struct ring_address same = address_of("127.0.0.1:80");
    struct ring_address any = address_of(":80");
    cr_assert(ring_passed_is_at(&socket, &same));
    cr_assert_not(ring_passed_is_at(&socket, &any));

    struct ring_address any6 = address_of("[::]:80");
    struct ring_address any_other = address_of(":81");
    struct ring_address one6 = address_of("[::1]:80");
    socket = (struct ring_passed_socket){.address = any6};
    cr_assert(ring_passed_is_at(&socket, &any6));
    cr_assert_not(ring_passed_is_at(&socket, &any), "IPv6 alone");
    cr_assert_not(ring_passed_is_at(&socket, &one6));
    socket.is_dual = true;
    cr_assert(ring_passed_is_at(&socket, &any));
    cr_assert(ring_passed_is_at(&socket, &any6));
    cr_assert_not(ring_passed_is_at(&socket, &same), "one address is not all");
    cr_assert_not(ring_passed_is_at(&socket, &any_other));

    struct ring_address file = address_of("unix:/run/a");
    struct ring_address other = address_of("unix:/run/ab");
    socket = (struct ring_passed_socket){.address = file};
    socket.address.bytes = sizeof(socket.address.un); /* as some say the length of a path */
    cr_assert(ring_passed_is_at(&socket, &file));
    cr_assert_not(ring_passed_is_at(&socket, &other));
    cr_assert_not(ring_passed_is_at(&socket, &any));
    memset(&socket.address.un.sun_path, 0, sizeof(socket.address.un.sun_path));
    struct ring_address nothing = socket.address;
    cr_assert_not(ring_passed_is_at(&socket, &nothing), "an abstract name is no path");
}

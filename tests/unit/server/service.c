#include "server/service.h"

#include "config_test.h"
#include "server/server.h"

Test(service, the_worker_that_is_late_by_more_than_the_patience_is_found)
{
    struct worker *workers = calloc(3, sizeof(*workers));
    struct server server = {.worker_count = 3, .workers = workers};
    for (int i = 0; i < 3; i++) {
        atomic_store(&workers[i].pulse.due_ns, 1000);
    }
    cr_expect_eq(service_find_stuck(&server, 0, 900, 50), -1, "not due yet");
    cr_expect_eq(service_find_stuck(&server, 0, 1050, 50), -1, "late, but within the patience");
    atomic_store(&workers[0].pulse.due_ns, 1100);
    atomic_store(&workers[2].pulse.due_ns, 1100);
    cr_expect_eq(service_find_stuck(&server, 0, 1051, 50), 1);
    atomic_store(&workers[1].pulse.due_ns, 1100);
    cr_expect_eq(service_find_stuck(&server, 0, 1051, 50), -1, "it turns again");
    free(workers);
}

Test(service, a_worker_that_has_not_begun_is_given_the_time_since_the_start)
{
    struct worker *workers = calloc(1, sizeof(*workers));
    struct server server = {.worker_count = 1, .workers = workers};
    atomic_store(&workers[0].pulse.due_ns, NANOS_NEVER);
    cr_expect_eq(service_find_stuck(&server, 1000, 1500, 500), -1);
    cr_expect_eq(service_find_stuck(&server, 1000, 1501, 500), 0);
    free(workers);
}

Test(service, a_passed_socket_is_found_by_its_address_and_then_by_its_name)
{
    struct config *config = parse_right("listeners:\n"
                                        "  - {address: '127.0.0.1:80'}\n"
                                        "  - {address: '127.0.0.1:81', name: web}\n"
                                        "admin: {address: '127.0.0.1:90'}\n" ROUTES);
    struct ring_passed_socket socket = {.address = config->listeners[0].address, .name = "sluice.socket"};
    cr_expect_eq(listeners_find(config, &socket), 0);
    strcpy(socket.name, "web");
    cr_expect_eq(listeners_find(config, &socket), 0, "the address says more");
    socket.address.v4.sin_port = 0;
    cr_expect_eq(listeners_find(config, &socket), 1);
    strcpy(socket.name, "admin");
    cr_expect_eq(listeners_find(config, &socket), 2);
    socket.name[0] = '\0';
    cr_expect_eq(listeners_find(config, &socket), -1, "no name is not the name of a listener without one");
    socket.address = config->admin.address;
    cr_expect_eq(listeners_find(config, &socket), 2);
    config_destroy(config);

    config = parse_right(LISTENERS ROUTES);
    strcpy(socket.name, "admin");
    cr_expect_eq(listeners_find(config, &socket), -1, "there is no admin");
    config_destroy(config);
}

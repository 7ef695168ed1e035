/* Listening sockets that a service manager has opened and passed on (systemd's socket activation, sd_listen_fds(3)).
 *
 * They are told by three environment variables: LISTEN_PID is whom they are for, LISTEN_FDS how many, from descriptor 3
 * on, LISTEN_FDNAMES what they are called, with colons between. The manager keeps each of them open: what connects
 * while nobody runs waits in its queue. Asked once, at the start, by the main thread. */
#ifndef SLUICE_RING_PASSED_H
#define SLUICE_RING_PASSED_H

#include "ring/address.h"

enum {
    RING_PASSED_FIRST = 3, /* SD_LISTEN_FDS_START */
    RING_PASSED_MAX = 128,
    RING_PASSED_NAME_BYTES = 256, /* of one name, its NUL included */
    RING_PASSED_WHY_BYTES = 512,
};

struct ring_passed_socket {
    int fd;
    struct ring_address address;
    bool is_dual; /* [::] that takes IPv4, too */
    char name[RING_PASSED_NAME_BYTES];
};

struct ring_passed {
    unsigned count;
    struct ring_passed_socket *sockets; /* from malloc; NULL: none */
};

/* Takes the sockets meant for this process, from descriptor `first` on (RING_PASSED_FIRST but for tests), and makes
 * them blocking, which the ring wants, and closed on exec. None is RESULT_OK as well. RESULT_CONFIG: one is not a
 * listening stream socket, or the variables contradict each other; `why` says it. RESULT_NO_MEMORY. */
MUST_USE enum result ring_passed_take(int first, struct ring_passed *ret_passed, char why[RING_PASSED_WHY_BYTES]);

/* Whether the socket is what a listener at `address` would have opened. A dual one at [::] is that of any IPv4
 * address, too: it is what `ListenStream=8080` makes. */
bool ring_passed_is_at(const struct ring_passed_socket *socket, const struct ring_address *address);

/* Frees the list. The descriptors belong to who has taken them from it. */
void ring_passed_fini(struct ring_passed *passed);

#endif

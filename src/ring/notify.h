/* What a service manager is told: the protocol of sd_notify(3), written out. It is lines of NAME=VALUE, sent as one
 * datagram to the unix socket that NOTIFY_SOCKET names (a path, or '@' and an abstract name); libsystemd is not needed.
 *
 * Any thread may send. Nobody listening is not a failure, and neither is a manager that has gone. */
#ifndef SLUICE_RING_NOTIFY_H
#define SLUICE_RING_NOTIFY_H

#include <stdbool.h>

#include "base/clock.h"
#include "ring/address.h"

struct ring_notify {
    int fd; /* -1: nobody wants to hear */
    struct ring_address address;
};

/* Looks at NOTIFY_SOCKET. One that cannot be used is one line in the log. */
void ring_notify_open(struct ring_notify *notify);

/* Sends `text`, lines without the last newline; *borrows* it. Waits two seconds at most for a manager that does not
 * read. False: it did not go out, or there is nobody to hear it. */
bool ring_notify_send(const struct ring_notify *notify, const char *text);

/* How long the manager waits for WATCHDOG=1 before it takes this process for dead (WATCHDOG_USEC, if WATCHDOG_PID is
 * this one or is not set); 0: for ever. */
nanos ring_notify_watchdog_ns(void);

void ring_notify_close(struct ring_notify *notify);

#endif

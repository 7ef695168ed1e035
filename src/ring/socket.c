/* What every socket is told when it is made. */
#include <arpa/inet.h>
#include <netinet/tcp.h>

#include "ring/internal.h"

static bool is_loopback(const struct ring_address *address)
{
    if (address->any.sa_family == AF_INET) {
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127;
    }
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

void socket_tune(int fd, const struct ring_address *address)
{
    if (address->any.sa_family == AF_UNIX) {
        return;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (is_loopback(address)) {
        /* There is nothing to be congested. Where the system's default paces (bbr), every send would arm a timer.
         * "reno" is in every kernel; where it is refused nothing is lost. */
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    }
}

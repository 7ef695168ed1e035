#include "ring/passed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ring/internal.h"

static enum result complain(char why[RING_PASSED_WHY_BYTES], int fd, const char *what)
{
    snprintf(why, RING_PASSED_WHY_BYTES, "descriptor %d, passed by the service manager, %s", fd, what);
    return RESULT_CONFIG;
}

/* The number that a variable holds, from 1 to max; 0: it is not set, or holds anything else. */
static uint64_t number_of(const char *variable, uint64_t max)
{
    const char *text = getenv(variable);
    uint64_t number = 0;
    return text != NULL && bytes_to_u64(bytes_from(text), &number) && number <= max ? number : 0;
}

static int option_of(int fd, int level, int name)
{
    int value = 0;
    socklen_t bytes = sizeof(value);
    return getsockopt(fd, level, name, &value, &bytes) == 0 ? value : -1;
}

/* Whether it is what it should be, and what it is called by the kernel. */
static enum result look_at(struct ring_passed_socket *socket, char why[RING_PASSED_WHY_BYTES])
{
    int fd = socket->fd;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        return complain(why, fd, "is not open");
    }
    int type = option_of(fd, SOL_SOCKET, SO_TYPE);
    if (type != SOCK_STREAM) {
        return complain(why, fd, type < 0 ? "is not a socket" : "is not a stream socket (write ListenStream=)");
    }
    if (option_of(fd, SOL_SOCKET, SO_ACCEPTCONN) != 1) {
        return complain(why, fd, "is a connection, not a listening socket (write Accept=no)");
    }
    socket->address = ring_listen_address(fd);
    int family = socket->address.bytes == 0 ? AF_UNSPEC : socket->address.any.sa_family;
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) {
        return complain(why, fd, "has an address that is neither IPv4, IPv6 nor unix");
    }
    socket->is_dual = family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&socket->address.v6.sin6_addr) &&
                      option_of(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
    /* With O_NONBLOCK an accept on the ring ends with EAGAIN instead of waiting. The flag is the manager's, too, and
     * it sets what it wants whenever it passes the socket. */
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    socket_tune(fd, &socket->address);
    return RESULT_OK;
}

/* Takes the next name off the list; a list that is shorter than it should be gives empty ones. */
static void next_name(const char **names, char out[RING_PASSED_NAME_BYTES])
{
    size_t length = strcspn(*names, ":");
    snprintf(out, RING_PASSED_NAME_BYTES, "%.*s", (int)(length < RING_PASSED_NAME_BYTES ? length : 0), *names);
    *names += length;
    *names += **names == ':' ? 1 : 0;
}

enum result ring_passed_take(int first, struct ring_passed *ret_passed, char why[RING_PASSED_WHY_BYTES])
{
    *ret_passed = (struct ring_passed){0};
    /* The variables of another process, whose child this is, are none of ours. */
    if (getenv("LISTEN_FDS") == NULL || number_of("LISTEN_PID", INT32_MAX) != (uint64_t)getpid()) {
        return RESULT_OK;
    }
    unsigned count = (unsigned)number_of("LISTEN_FDS", RING_PASSED_MAX);
    if (count == 0) {
        snprintf(why, RING_PASSED_WHY_BYTES, "LISTEN_FDS is '%.40s', not a number from 1 to %d", getenv("LISTEN_FDS"),
                 RING_PASSED_MAX);
        return RESULT_CONFIG;
    }
    struct ring_passed_socket *sockets = calloc(count, sizeof(*sockets));
    if (sockets == NULL) {
        return RESULT_NO_MEMORY;
    }
    const char *names = getenv("LISTEN_FDNAMES");
    names = names == NULL ? "" : names;
    for (unsigned i = 0; i < count; i++) {
        sockets[i].fd = first + (int)i;
        next_name(&names, sockets[i].name);
        enum result result = look_at(&sockets[i], why);
        if (result != RESULT_OK) {
            free(sockets);
            return result;
        }
    }
    *ret_passed = (struct ring_passed){.count = count, .sockets = sockets};
    return RESULT_OK;
}

bool ring_passed_is_at(const struct ring_passed_socket *socket, const struct ring_address *address)
{
    const struct ring_address *own = &socket->address;
    if (socket->is_dual && address->any.sa_family == AF_INET) {
        return address->v4.sin_addr.s_addr == htonl(INADDR_ANY) && address->v4.sin_port == own->v6.sin6_port;
    }
    if (own->any.sa_family != address->any.sa_family) {
        return false;
    }
    /* What is behind the port or the path differs by who has filled it in: scope, flow, trailing NULs. */
    switch (own->any.sa_family) {
    case AF_INET:
        return own->v4.sin_addr.s_addr == address->v4.sin_addr.s_addr && own->v4.sin_port == address->v4.sin_port;
    case AF_INET6:
        return memcmp(&own->v6.sin6_addr, &address->v6.sin6_addr, sizeof(own->v6.sin6_addr)) == 0 &&
               own->v6.sin6_port == address->v6.sin6_port;
    default:
        return own->un.sun_path[0] != '\0' &&
               strncmp(own->un.sun_path, address->un.sun_path, sizeof(own->un.sun_path)) == 0;
    }
}

void ring_passed_fini(struct ring_passed *passed)
{
    free(passed->sockets);
    *passed = (struct ring_passed){0};
}

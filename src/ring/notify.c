#include "ring/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"

enum { SEND_TIMEOUT_S = 2 };

/* An abstract name is as long as it says; a path has its NUL. */
static bool read_address(const char *text, struct ring_address *ret_address)
{
    struct ring_address address;
    memset(&address, 0, sizeof(address));
    size_t length = strlen(text);
    bool is_abstract = text[0] == '@';
    if ((!is_abstract && text[0] != '/') || length < 2 || length >= sizeof(address.un.sun_path)) {
        return false;
    }
    address.un.sun_family = AF_UNIX;
    memcpy(address.un.sun_path, text, length);
    if (is_abstract) {
        address.un.sun_path[0] = '\0';
    }
    address.bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (is_abstract ? 0 : 1));
    *ret_address = address;
    return true;
}

void ring_notify_open(struct ring_notify *notify)
{
    notify->fd = -1;
    const char *text = getenv("NOTIFY_SOCKET");
    if (text == NULL || text[0] == '\0') {
        return;
    }
    if (!read_address(text, &notify->address)) {
        log_warn("NOTIFY_SOCKET is neither a path nor an abstract name: the service manager is told nothing");
        return;
    }
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify->fd < 0) {
        log_warn("no socket for NOTIFY_SOCKET: %s; the service manager is told nothing", strerror(errno));
        return;
    }
    const struct timeval patience = {.tv_sec = SEND_TIMEOUT_S};
    setsockopt(notify->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

bool ring_notify_send(const struct ring_notify *notify, const char *text)
{
    if (notify->fd < 0) {
        return false;
    }
    size_t length = strlen(text);
    for (;;) {
        ssize_t sent = sendto(notify->fd, text, length, MSG_NOSIGNAL, &notify->address.any, notify->address.bytes);
        if (sent >= 0 || errno != EINTR) {
            return sent == (ssize_t)length;
        }
    }
}

/* A variable's number; 0: it is not set, or is none. */
static uint64_t number_of(const char *variable)
{
    const char *text = getenv(variable);
    uint64_t number = 0;
    return text != NULL && bytes_to_u64(bytes_from(text), &number) ? number : 0;
}

nanos ring_notify_watchdog_ns(void)
{
    const char *pid = getenv("WATCHDOG_PID");
    if (pid != NULL && pid[0] != '\0' && number_of("WATCHDOG_PID") != (uint64_t)getpid()) {
        return 0;
    }
    uint64_t us = number_of("WATCHDOG_USEC");
    return us > NANOS_NEVER / NANOS_PER_US ? 0 : us * NANOS_PER_US;
}

void ring_notify_close(struct ring_notify *notify)
{
    if (notify->fd >= 0) {
        close(notify->fd);
        notify->fd = -1;
    }
}
